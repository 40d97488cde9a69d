"""The map of the course, notebooks/README.md, made from the plan, from what the lessons hold, and from the records."""

import html
import math
import re
from itertools import groupby
from pathlib import Path

from nbformat import NotebookNode

from nbtools import records
from nbtools.project import Number, Planned, Problem, Project, number, read, tags

FACTS = re.compile(
    r"^\*(?P<minutes>Under 1 minute|About \d+ minutes) to run · about (?P<reading>\d+) minutes to read and try"
    r" · data: (?P<data>[^·*]+?) · before this: (?P<before>nothing|\d(?:\.\d+)?(?:, \d(?:\.\d+)?)*)\*$",
    re.MULTILINE,
)
FACTS_FORM = "*Under 1 minute to run · about 40 minutes to read and try · data: real · before this: 1.2, 1.5*"
MEASURED_CELLS = ("claims", "more-checks")  # tags of the cells that make claims
CLAIMS = "application/vnd.mmkit.claims+json"  # what mmkit.lesson.Claims shows, beside the table

PAGE = """\
# The map

*Made by `make map` from the plan and the lessons themselves: change them, not this page.*

Minutes are those of two processor cores without a GPU. Every lesson ends with its claims, which its own cells measure;
the tests fail when one no longer holds. *Seeds* means that they also held under five more seeds, *long* that they held
under four times the training ([how](../CONTRIBUTING.md#seeds-and-long-runs)).

{parts}
## The documents' themes, and where they are taught

T: a theme or technique. P: an application. E: a mistake in a document, put right where the lesson says so.
[The documents](../data/documents.md) are five articles; that page tells what they are.

| id | theme | in document | lesson |
|---|---|---|---|
{themes}
"""


def minutes(seconds: float) -> str:
    """How the facts line says it: "Under 1 minute", "About 2 minutes"."""
    return "Under 1 minute" if seconds <= 60 else f"About {math.ceil(seconds / 60)} minutes"


def title(nb: NotebookNode) -> str:
    """The H1, without the number in front."""
    match = re.search(r"^# (?:\d(?:\.\d+)? )?(.+)$", nb.cells[0].source if nb.cells else "", re.MULTILINE)
    return match[1].strip() if match else "untitled"


def facts(nb: NotebookNode) -> re.Match | None:
    return FACTS.search(nb.cells[0].source) if nb.cells else None


def words(source: str) -> str:
    """Markdown without fenced code, code spans, formulas, link targets and HTML comments, line by line."""
    source = re.sub(r"^(```|~~~).*?^\1.*?$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]*`", "", source, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|<[^>]*>|https?://\S+", "]", source)


def reading_minutes(nb: NotebookNode) -> int:
    """To read and try: 150 words a minute, one and a half a code cell, twelve an exercise; in steps of five."""
    count = sum(len(words(cell.source).split()) for cell in nb.cells if cell.cell_type == "markdown")
    code = [tags(cell) for cell in nb.cells if cell.cell_type == "code"]
    shown = sum(not {"exercise", "check", "solution", "more-checks", "drawing"} & set(tagged) for tagged in code)
    exercises = sum("exercise" in tagged for tagged in code)
    return 5 * round((count / 150 + 1.5 * shown + 12 * exercises) / 5)


def captions(nb: NotebookNode) -> dict[int, str]:
    """The caption of each figure, by its cell: the sentence in italics that begins the markdown below; "" if none."""
    found = {}
    for i, cell in enumerate(nb.cells):
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        if any(kind.startswith("image/") or "<img " in one.get("text/html", "") for one in data for kind in one):
            below = nb.cells[i + 1].source if i + 1 < len(nb.cells) else ""
            match = re.match(r"\*(?!\*)((?:[^*\n]|\n(?!\n)|\*\*)+)\*(?:\n\n|\n?\Z)", below)
            found[i] = " ".join(match[1].split()) if match else ""
    return found


def claims(nb: NotebookNode, tag: str = "claims") -> list[dict]:
    """The claims that the cells with this tag have shown: text, value, comparison, bound, holds."""
    outputs = [output for cell in nb.cells if tag in tags(cell) for output in cell.outputs]
    rows = [row for output in outputs for row in output.get("data", {}).get(CLAIMS, [])]
    return rows or [_of_table(row) for output in outputs for row in _table(output)]


def _table(output: NotebookNode) -> list[list[str]]:
    """The rows of a table of the first edition, which had nothing beside it."""
    table = output.get("data", {}).get("text/html", "")
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)]
    return [[html.unescape(re.sub(r"<[^>]+>", "", field)) for field in row] for row in rows if len(row) == 4]


def _of_table(row: list[str]) -> dict:
    comparison, bound = row[2].split()
    value, bound = float(row[1]), float(bound)
    return {"text": row[0], "value": value, "comparison": comparison, "bound": bound, "holds": row[3] == "holds"}


def overview(project: Project) -> str:
    """The text of notebooks/README.md."""
    existing = {number(path): path for path in project.notebooks()}
    kept, parts, themes = records.Records(project), [], []
    for part, rows in groupby(project.planned.values(), lambda row: row.part):
        rows = list(rows)
        parts += [f"## {rows[0].number.part} {part}", "", "| | lesson | to run | to read and try | data | held under |"]
        parts += ["|---|---|---|---|---|---|"]
        parts += [_line(project, row, existing.get(row.number), kept) for row in rows]
        parts += [""]
        parts += [line for row in rows if row.number in existing for line in _claimed(row, read(existing[row.number]))]
    for theme, row in project.themes.items():
        where = [_where(project, lesson, existing) for lesson in row["lessons"]]
        where += ["[the documents' page](../data/documents.md)"] if row.get("page") else []
        themes.append(f"| {theme} | {_escape(row['theme'])} | {row['documents']} | {', '.join(where) or 'missing'} |")
    return PAGE.format(parts="\n".join(parts), themes="\n".join(themes))


def _line(project: Project, row: Planned, path: Path | None, kept: "records.Records") -> str:
    if path is None:
        return f"| {row.number} | {row.title} *(planned)*: {_escape(row.says)} | | | | |"
    nb = read(path)
    found = facts(nb)
    if not found:
        raise Problem(f"{path.name}:cell 1: no facts line: write it as {FACTS_FORM}")
    link = path.relative_to(project.folder).as_posix()
    return (
        f"| {row.number} | [{title(nb)}]({link}): {_escape(row.says)} | {found['minutes'].lower()} "
        f"| {found['reading']} minutes | {found['data']} | {', '.join(kept.held(row.number, nb)) or '–'} |"
    )


def _claimed(row: Planned, nb: NotebookNode) -> list[str]:
    made = claims(nb)
    count = f"{len(made)} claim" + "s" * (len(made) != 1)
    lines = [f"- {_escape(claim['text'])} ({claim['comparison']} {claim['bound']:g})" for claim in made]
    return [f"<details><summary>{row.number} {title(nb)}: {count}</summary>", "", *lines, "", "</details>", ""]


def _where(project: Project, lesson: Number, existing: dict[Number, Path]) -> str:
    if lesson not in existing:
        return f"{lesson} (planned)"
    return f"[{lesson}]({existing[lesson].relative_to(project.folder).as_posix()})"


def map_path(project: Project) -> Path:
    return project.folder / "README.md"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
