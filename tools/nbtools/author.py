"""What an author does with a notebook: begin it, store it, and hand it to students."""

import base64
import copy
import html
import io
import os
import re
from pathlib import Path
from urllib.parse import urljoin

import jupytext
import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from PIL import Image

from nbtools import links, overview, records
from nbtools.course import USUAL_REFERENCE, Course, Lesson, outputs_hash, reference_seconds
from nbtools.execute import Measured, execute
from nbtools.project import NAME, Problem, Project, number, read, replace, tags, write

SKELETON = Path(__file__).with_name("skeleton.py.txt")
MISTAKE = """
# %% [markdown]
# ## A mistake to recognise
#
# Quote what a document says, run it, say why it fails, and put it right, in at most five cells.
"""
NO_SOLUTION = "# @title This copy comes without the solution"


def new(project: Project, name: str) -> Path:
    """Begins the notebook `name` in its part's folder: the skeleton of every lesson, with a task in each place.

    Raises:
        Problem: if the plan has no notebook of its number, there is one, or it is no name for a notebook.
    """
    if not NAME.fullmatch(name):
        raise Problem(f"{name} is no name for a notebook: write it as 2.04_fusion_transformer")
    wanted = number(Path(f"{name}.ipynb"))
    row = project.planned.get(wanted)
    if row is None:
        raise Problem(f"number {wanted} is not in the plan: add it to notebooks/themes.toml first")
    for other in project.notebooks():
        if number(other) == row.number:
            raise Problem(f"{project.relative(other)} exists: edit it, or remove it first")
    path = project.folder / row.folder / f"{name}.ipynb"
    mistakes = any(theme[0] == "E" and row.number in plan["lessons"] for theme, plan in project.themes.items())
    text = SKELETON.read_text(encoding="utf-8")
    for key, value in {
        "@TITLE@": f"{row.number} {row.title}",
        "@BUTTONS@": links.buttons(project, path).replace("\n", "\n# "),
        "@MISTAKE@": MISTAKE if mistakes else "",
        "@SETUP@": links.setup_block(project),
    }.items():
        text = text.replace(key, value)
    nb = jupytext.reads(text, fmt="py:percent")
    say_reading(nb)
    write(nb, path)
    return path


def say_reading(nb: NotebookNode) -> None:
    """Writes into the facts line how long the lesson takes to read and try."""
    said = f"· about {overview.reading_minutes(nb)} minutes to read and try ·"
    nb.cells[0].source = re.sub(r"· about \d+ minutes to read and try ·", said, nb.cells[0].source)


def store(project: Project, path: Path) -> Measured:
    """Executes the notebook and stores it, cleaned, with its fingerprint and the time of a usual machine.

    Raises:
        Problem: if a cell fails. The notebook stays as it was; the failed copy is under `build/failed`.
    """
    lesson = Course(project).lesson(path)  # of the sources as they are now, before the run
    nb, before = lesson.nb, reference_seconds()
    measured = run(project, nb, path)
    seconds = round(measured.seconds * 2 * USUAL_REFERENCE / (before + reference_seconds()))
    shrink_pictures(nb)
    nb.metadata["mmkit"] = {
        "seconds": seconds,
        "peak_memory_mb": round(measured.peak_memory_mb / 10) * 10,
        "outputs": outputs_hash(nb),
        "look": lesson.now.look,
        "fingerprint": lesson.now.parts,
    }
    said = f"*{overview.minutes(seconds)} to run ·"
    nb.cells[0].source = re.sub(r"^\*[\w ]+ to run ·", said, nb.cells[0].source, flags=re.MULTILINE)
    if not lesson.first_edition:
        say_reading(nb)
    write(nb, path)
    return measured


def describe(cell: NotebookNode, caption: str) -> None:
    """Gives a cell's pictures their text alternative: in the metadata, where web pages find it, or in HTML."""
    told = f'<img alt="{html.escape(caption)}"'
    for output in cell.outputs if caption else ():
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                output.metadata[kind] = {**output.metadata.get(kind, {}), "alt": caption}
            elif kind == "text/html":
                output.data[kind] = re.sub(r'<img alt="[^"]*"', lambda _: told, output.data[kind])


def measure(project: Project, lesson: Lesson, run_name: str, setting: dict[str, str]) -> str:
    """Runs a lesson with these environment variables, unless that is on record, and keeps what its claims measured.

    Returns:
        What went wrong, in a line; "" if all claims held.
    """
    kept, key = records.Records(project), (number(lesson.path), records.mark(lesson.now.parts), run_name)
    if not kept.of(*key):
        nb, before, problem = read(lesson.path), dict(os.environ), None
        os.environ.update(setting)
        try:
            print(f"{lesson.path.stem}, {run_name}: {run(project, nb, lesson.path)}", flush=True)
        except Problem as error:
            problem = error
        finally:
            os.environ.clear()
            os.environ.update(before)
        made = {tag: overview.claims(nb, tag) for tag in overview.MEASURED_CELLS}
        if problem and all(claim["holds"] for claims in made.values() for claim in claims):
            return f"{run_name}: {problem}"  # something else than a claim
        kept.keep(*key, made)
    failed = [row["claim"] for row in records.Records(project).of(*key) if row["holds"] != "True"]
    return f"{run_name}: fails: {'; '.join(failed)}" if failed else ""


def report(project: Project, lesson: Lesson, runs: list[str]) -> str:
    """For each claim of a lesson what the runs measured, beside what is stored, and how far that is from its bound."""
    stored = [
        {
            **{key: str(row.get(key)) for key in ("value", "comparison", "bound", "holds")},
            "claim": row["text"],
            "cell": tag,
        }
        for tag in overview.MEASURED_CELLS
        for row in overview.claims(lesson.nb, tag)
    ]
    kept, mark = records.Records(project), records.mark(lesson.now.parts)
    found = [rows for run_name in runs if (rows := kept.of(number(lesson.path), mark, run_name))]
    margins = records.margins([stored, *found])
    weak = sum(margin.away is not None and margin.away < margin.enough for margin in margins) if len(found) > 1 else 0
    lines = [f"{lesson.path.stem}: as stored, and {', '.join(runs)}", *map(str, margins)]
    return "\n".join([*lines, f"{len(margins)} claims, {weak} too near to their bounds"])


def shrink_pictures(nb: NotebookNode) -> None:
    """Stores each opaque picture with a palette of 256 colours: less than half the size, and the same to the eye."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            stored = output.get("data", {}).get("image/png")
            if stored is None:
                continue
            picture, smaller = Image.open(io.BytesIO(base64.b64decode(stored))), io.BytesIO()
            if picture.convert("RGBA").getextrema()[3][0] < 255:
                continue
            picture.convert("RGB").quantize(256).save(smaller, "PNG", optimize=True)
            output["data"]["image/png"] = base64.b64encode(smaller.getvalue()).decode("ascii")


def run(project: Project, nb: NotebookNode, path: Path) -> Measured:
    """Executes `nb` in the folder of `path`, and gives each picture its caption as text alternative.

    Raises:
        Problem: if a cell fails; names the cell, and the copy with the outputs up to there.
    """
    failed = project.build / "failed" / path.name
    try:
        measured = execute(nb, path.parent, path.stem)
    except Problem as problem:
        replace(failed, nbformat.writes(nb))
        raise Problem(f"{path.name}: {problem} (as far as it came: {project.relative(failed)})") from problem
    failed.unlink(missing_ok=True)
    for i, caption in overview.captions(nb).items():
        describe(nb.cells[i], caption)
    return measured


def tells_a_solution(cell: NotebookNode) -> bool:
    """Whether a cell is a solution, or a folded one that uses what a solution defines: a name ending in `_solution`."""
    return "solution" in tags(cell) or ("folded" in tags(cell) and bool(re.search(r"_solution\b", cell.source)))


def student_copy(nb: NotebookNode) -> NotebookNode:
    """The notebook without its solutions, what they reach, and outputs; nothing else differs."""
    twin, _ = ClearOutputPreprocessor().preprocess(copy.deepcopy(nb), {})
    for cell in twin.cells:
        if tells_a_solution(cell):
            cell.source = NO_SOLUTION
    return twin


def student(project: Project, path: Path) -> Path:
    """Writes the student copy under `build/student`, in the folder that the notebook has under `notebooks`.

    It may be handed out alone: a link to a page that is no lesson leads to the course in the web.
    """

    def outward(link: re.Match) -> str:
        return link[0] if link[1].endswith(".ipynb") else f"]({urljoin(links.address(project, path), link[1])})"

    twin = student_copy(read(path))
    for cell in twin.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\(([^)#\s][^)\s]*)\)", outward, cell.source)
    target = project.build / "student" / path.resolve().relative_to(project.folder.resolve())
    write(twin, target)
    return target
