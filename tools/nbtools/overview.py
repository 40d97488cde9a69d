"""The map of the course, notebooks/README.md, made from the plan and from what the notebooks hold."""

import html
import math
import re
from itertools import groupby
from pathlib import Path

from nbformat import NotebookNode

from nbtools.project import Problem, Project, number, read, tags

FACTS = re.compile(
    r"^\*(?P<minutes>Under 1 minute|About \d+ minutes) to run, about (?P<reading>\d+) minutes to read and try"
    r" · data: (?P<data>[^·*]+?) · themes: (?P<themes>[TPE]\d\d(?:, [TPE]\d\d)*)\*$",
    re.MULTILINE,
)
FACTS_FORM = "*Under 1 minute to run, about 40 minutes to read and try · data: real · themes: T01, T02*"

PAGE = """\
# The map

*Made by `make map` from the notebooks themselves: change them, not this page.*

## The notebooks

Minutes and memory were measured on two processor cores without a GPU when the notebook was stored. Each
notebook ends with a table of its claims; the tests fail when one no longer holds.

| | notebook | to run | to read and try | memory | data | themes | claims |
|---|---|---|---|---|---|---|---|
{notebooks}

## What they claim

{claims}
## What is planned

{planned}

## The documents' themes, and where they are taught

T: a theme or technique. P: an application. E: a mistake in a document, put right where the notebook says so.

| id | theme | in document | notebook |
|---|---|---|---|
{themes}
"""


def minutes(seconds: float) -> str:
    """How the facts line says it: "Under 1 minute", "About 2 minutes"."""
    return "Under 1 minute" if seconds < 60 else f"About {math.ceil(seconds / 60)} minutes"


def title(nb: NotebookNode) -> str:
    """The H1, without the number in front."""
    match = re.search(r"^# (?:\d\d )?(.+)$", nb.cells[0].source if nb.cells else "", re.MULTILINE)
    return match[1].strip() if match else "untitled"


def facts(nb: NotebookNode) -> re.Match | None:
    return FACTS.search(nb.cells[0].source) if nb.cells else None


def claims(nb: NotebookNode) -> list[tuple[str, ...]]:
    """The rows of the table that the cell tagged `claims` has stored: text, measured, bound, verdict."""
    cells = [cell for cell in nb.cells if "claims" in tags(cell)]
    tables = "".join(output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", tables, re.DOTALL)]
    return [tuple(html.unescape(re.sub(r"<[^>]+>", "", field)) for field in row) for row in rows if len(row) == 4]


def overview(project: Project) -> str:
    """The text of notebooks/README.md."""
    notebooks, claimed, planned, themes = [], [], [], []
    taught: dict[str, list[str]] = {}
    existing = {number(path) for path in project.notebooks()}
    for path in project.notebooks():
        nb = read(path)
        found, rows = facts(nb), claims(nb)
        if not found:
            raise Problem(f"{path.name}:cell 1: no facts line: write it as {FACTS_FORM}")
        link = path.relative_to(project.folder).as_posix()
        memory = nb.metadata.get("mmkit", {}).get("peak_memory_mb")
        for theme in found["themes"].split(", "):
            taught.setdefault(theme, []).append(f"[{number(path):02}]({link})")
        notebooks.append(
            f"| {number(path):02} | [{title(nb)}]({link}) | {found['minutes'].lower()} | {found['reading']} minutes "
            f"| {f'{memory / 1000:.1f} GB' if memory else 'not measured'} | {found['data']} "
            f"| {found['themes']} | {len(rows)} |"
        )
        count = f"{len(rows)} claim" + "s" * (len(rows) != 1)
        claimed += [f"<details><summary>{number(path):02} {title(nb)}: {count}</summary>", ""]
        claimed += [f"- {_escape(text)} ({bound})" for text, _, bound, _ in rows]
        claimed += ["", "</details>", ""]
    for part, rows in groupby(project.planned.values(), lambda row: row.part):
        missing = [f"{row.number:02} {row.title}" for row in rows if row.number not in existing]
        planned += [f"- {part}: {', '.join(missing)}"] if missing else []
    for theme, row in project.themes.items():
        later = [f"{n:02}" for n in row["notebooks"] if n not in existing]
        where = taught.get(theme, []) + ([f"planned ({', '.join(later)})"] if later else [])
        themes.append(f"| {theme} | {_escape(row['theme'])} | {row['documents']} | {', '.join(where) or 'missing'} |")
    sections = {"notebooks": notebooks, "claims": claimed, "planned": planned, "themes": themes}
    return PAGE.format(**{name: "\n".join(lines) for name, lines in sections.items()})


def map_path(project: Project) -> Path:
    return project.folder / "README.md"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
