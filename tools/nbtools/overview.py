"""The map of the course, notebooks/README.md, made from the plan and from what the notebooks hold."""

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from nbtools.project import Problem, Project, number, read, tags

FACTS = re.compile(
    r"^\*(?P<minutes>Under 1 minute|About \d+ minutes) to run, about (?P<reading>\d+) minutes to read and try"
    r" · data: (?P<data>[^·*]+?) · themes: (?P<themes>[TPE]\d\d(?:, [TPE]\d\d)*)\*$",
    re.MULTILINE,
)
FACTS_FORM = "*Under 1 minute to run, about 40 minutes to read and try · data: real · themes: T01, T02*"


@dataclass(frozen=True)
class ClaimRow:
    """A row of a stored claims table."""

    text: str
    measured: str
    bound: str
    verdict: str


def minutes(seconds: float) -> str:
    """How the facts line says it: "Under 1 minute", "About 2 minutes"."""
    return "Under 1 minute" if seconds < 60 else f"About {math.ceil(seconds / 60)} minutes"


def title(nb: NotebookNode) -> str:
    """The H1, without the number in front."""
    match = re.search(r"^# (?:\d\d )?(.+)$", nb.cells[0].source if nb.cells else "", re.MULTILINE)
    return match[1].strip() if match else "untitled"


def facts(nb: NotebookNode) -> re.Match | None:
    return FACTS.search(nb.cells[0].source) if nb.cells else None


def claims(nb: NotebookNode) -> list[ClaimRow]:
    """The rows of the table that the cell tagged `claims` has stored."""
    rows = []
    for cell in nb.cells:
        if "claims" not in tags(cell):
            continue
        for output in cell.get("outputs", []):
            table = "".join(output.get("data", {}).get("text/html", ""))
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
                fields = re.findall(r"<td[^>]*>(.*?)</td>", row)
                if len(fields) == 4:
                    rows.append(ClaimRow(*(html.unescape(re.sub(r"<[^>]+>", "", field)) for field in fields)))
    return rows


def overview(project: Project) -> str:
    """The text of notebooks/README.md."""
    pages = [(path, read(path)) for path in project.notebooks()]
    lines = [
        "# The map",
        "",
        "*Made by `make map` from the notebooks themselves: change them, not this page.*",
        "",
        "## The notebooks",
        "",
        "Minutes and memory were measured on two processor cores without a GPU when the notebook was stored. Each",
        "notebook ends with a table of its claims; the tests fail when one no longer holds.",
        "",
        "| | notebook | to run | to read and try | memory | data | themes | claims |",
        "|---|---|---|---|---|---|---|---|",
    ]
    taught: dict[str, list[str]] = {}
    for path, nb in pages:
        found = facts(nb)
        if not found:
            raise Problem(f"{path.name}:cell 1: no facts line: write it as {FACTS_FORM}")
        link = path.relative_to(project.folder).as_posix()
        memory = nb.metadata.get("mmkit", {}).get("peak_memory_mb")
        for theme in found["themes"].split(", "):
            taught.setdefault(theme, []).append(f"[{number(path):02}]({link})")
        lines.append(
            f"| {number(path):02} | [{title(nb)}]({link}) | {found['minutes'].lower()} | {found['reading']} minutes "
            f"| {f'{memory / 1000:.1f} GB' if memory else 'not measured'} | {found['data']} "
            f"| {found['themes']} | {len(claims(nb))} |"
        )
    lines += ["", "## What they claim", ""]
    for path, nb in pages:
        rows = claims(nb)
        lines += [f"<details><summary>{number(path):02} {title(nb)}: {_count(len(rows))}</summary>", ""]
        lines += [f"- {_escape(row.text)} ({row.bound})" for row in rows]
        lines += ["", "</details>", ""]
    lines += ["## What is planned", ""]
    existing = {number(path) for path, _ in pages}
    for part in dict.fromkeys(row.part for row in project.planned.values()):
        missing = [row for row in project.planned.values() if row.part == part and row.number not in existing]
        if missing:
            lines.append(f"- {part}: " + ", ".join(f"{row.number:02} {row.title}" for row in missing))
    lines += [
        "",
        "## The documents' themes, and where they are taught",
        "",
        "T: a theme or technique. P: an application. E: a mistake in a document, put right where the notebook says so.",
        "",
        "| id | theme | in document | notebook |",
        "|---|---|---|---|",
    ]
    for theme in project.themes.values():
        planned = [f"{n:02}" for n in theme.notebooks if n not in existing]
        where = taught.get(theme.id, []) + ([f"planned ({', '.join(planned)})"] if planned else [])
        lines.append(f"| {theme.id} | {_escape(theme.theme)} | {theme.documents} | {', '.join(where) or 'missing'} |")
    return "\n".join(lines) + "\n"


def _count(claims: int) -> str:
    return f"{claims} claim" + "s" * (claims != 1)


def map_path(project: Project) -> Path:
    return project.folder / "README.md"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
