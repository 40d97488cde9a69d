"""The pages that name lessons, brought up to date from the plan and the lessons: what `make map` writes beside the map.

In README.md that is the table of the course. In every page it is how a lesson is referred to: `[2.1](…)` once it
exists, `2.4 (planned)` until then.
"""

import re
from itertools import groupby
from pathlib import Path

from nbtools import overview
from nbtools.project import Number, Project, number, read, replace

PAGES = ("README.md", "CONTRIBUTING.md", "data/documents.md")
COURSE = re.compile(r"(?<=<!-- the course, written by `make map` -->\n).*?(?=<!-- end of the course -->)", re.DOTALL)
REFERENCE = re.compile(r"\[(\d(?:\.\d+)?)\]\([^)\s]*\.ipynb\)|\b(\d\.\d+) \(planned\)")


def write(project: Project) -> None:
    """Writes the map, and the other pages where lessons stand in them as they do not any more."""
    replace(overview.map_path(project), overview.overview(project))
    for path, text in pages(project).items():
        if text != path.read_text(encoding="utf-8"):
            replace(path, text)


def pages(project: Project) -> dict[Path, str]:
    """The pages that exist, each with the text that it should have today."""
    existing = {number(path): project.relative(path) for path in project.notebooks()}
    found = {}
    for page in PAGES:
        path = project.root / page
        if path.is_file():
            above = "../" * page.count("/")
            links = {lesson: f"[{lesson}]({above}{place})" for lesson, place in existing.items()}
            text = _referring(path.read_text(encoding="utf-8"), links)
            found[path] = COURSE.sub(lambda match: course(project), text)
    return found


def _referring(text: str, links: dict[Number, str]) -> str:
    def today(match: re.Match) -> str:
        lesson = Number.of(match[1] or match[2])
        return links.get(lesson, f"{lesson} (planned)")

    return REFERENCE.sub(today, text)


def course(project: Project) -> str:
    """The table of contents, as README.md has it: how long all lessons take, and the lessons of each part."""
    existing = {number(path): path for path in project.notebooks()}
    planned = project.planned.values()
    minutes, rows = 0, []
    for part, lessons in groupby(planned, lambda lesson: lesson.part):
        here, later = [], []
        for lesson in lessons:
            if lesson.number in existing:
                path = existing[lesson.number]
                nb = read(path)
                facts = overview.facts(nb)
                minutes += int(facts["reading"]) if facts else 0
                here.append(f"[{lesson.number} {overview.title(nb)}]({project.relative(path)})")
            else:
                later.append(f"{lesson.number} {lesson.title}")
        row = here + (["*planned:* " + " · ".join(later)] if later else [])
        rows.append(f"| {lesson.number.part} | {part} | {' · '.join(row)} |")
    count = sum(lesson.number in existing for lesson in planned)
    said = f"{count} lessons are here: about {round(minutes / 60)} hours to read and try."
    if count < len(planned):
        said += f" {len(planned) - count} more are planned."
    return "\n".join([said, "", "| | part | lessons |", "|---|---|---|", *rows, ""])
