"""What an author does with a notebook: begin it, store it, and hand it to students."""

import base64
import copy
import io
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from PIL import Image

from nbtools import links, overview
from nbtools.course import Course, outputs_hash, reference_seconds
from nbtools.execute import CellFailed, Measured, execute
from nbtools.project import NAME, Problem, Project, number, read, replace, tags, write

SKELETON = Path(__file__).with_name("skeleton.py.txt")
NO_SOLUTION = "# This copy comes without the solution."


def new(project: Project, path: Path) -> None:
    """Begins a notebook: the skeleton of every lesson, with a task in each place.

    Raises:
        Problem: if the file exists, or its name or folder is not the plan's.
    """
    path = path.resolve()
    row = project.planned.get(number(path))
    if not NAME.fullmatch(path.stem) or path.suffix != ".ipynb":
        raise Problem(f"{path.name} is no name for a notebook: write it as 03_data_pipelines.ipynb")
    if row is None:
        raise Problem(f"number {number(path):02} is not in the plan: add it to notebooks/themes.toml first")
    if path.parent != (project.folder / row.folder).resolve():
        raise Problem(f"notebook {row.number:02} belongs into notebooks/{row.folder}: begin it there")
    for other in project.notebooks():
        if number(other) == row.number:
            raise Problem(f"{project.relative(other)} exists: edit it, or remove it first")
    themes = [theme.id for theme in project.themes.values() if row.number in theme.notebooks]
    text = SKELETON.read_text(encoding="utf-8")
    for key, value in {
        "@TITLE@": f"{row.number:02} {row.title}",
        "@BUTTONS@": links.buttons(project, path).replace("\n", "\n# "),
        "@THEMES@": ", ".join(themes) or "T01",
        "@SETUP@": links.setup_block(project),
    }.items():
        text = text.replace(key, value)
    write(jupytext.reads(text, fmt="py:percent"), path)


def store(project: Project, path: Path) -> Measured:
    """Executes the notebook, cleans it, writes what it took and depends on into it, and puts it in the old one's place.

    Raises:
        Problem: if a cell fails. The notebook stays as it was; the failed copy is under `build/failed`.
    """
    lesson = Course(project).lesson(path)  # of the sources as they are now, before the run
    nb, reference = lesson.nb, reference_seconds()
    measured = run(project, nb, path)
    shrink_pictures(nb)
    nb.metadata["mmkit"] = {
        "seconds": round(measured.seconds),
        "peak_memory_mb": round(measured.peak_memory_mb, -1),
        "reference": reference,
        "outputs": outputs_hash(nb),
        "look": lesson.now.look,
        "fingerprint": lesson.now.parts,
    }
    found = overview.facts(nb)
    if found:
        first = nb.cells[0]
        first.source = first.source.replace(
            f"*{found['minutes']} to run", f"*{overview.minutes(measured.seconds)} to run", 1
        )
    write(nb, path)
    return measured


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
            encoded = base64.b64encode(smaller.getvalue()).decode("ascii")
            if len(encoded) < len(stored):
                output["data"]["image/png"] = encoded


def run(project: Project, nb: NotebookNode, path: Path, *, twice: bool = False) -> Measured:
    """Executes `nb` in the folder of `path`; with `twice` each cell a second time, directly after the first.

    Raises:
        Problem: if a cell fails, or a cell whose text is compared prints something else the second time; names the
            cell, and the copy with the outputs up to there.
    """
    if twice:
        nb.cells = [copy.deepcopy(cell) for cell in nb.cells for _ in range(2 if cell.cell_type == "code" else 1)]
    failed = project.build / "failed" / path.name
    try:
        measured = execute(nb, path.parent, path.stem)
    except CellFailed as error:
        replace(failed, nbformat.writes(nb))
        raise Problem(f"{path.name}: {error} (as far as it came: {project.relative(failed)})") from error
    failed.unlink(missing_ok=True)
    if twice:
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        for first, second in zip(code[::2], code[1::2], strict=True):
            if "nbval-check-output" in tags(first) and _text(first) != _text(second):
                raise Problem(f"{path.name}: a second run prints something else:\n{first.source}")
    return measured


def _text(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def student_copy(nb: NotebookNode) -> NotebookNode:
    """The notebook without its solutions and outputs; nothing else differs."""
    twin = copy.deepcopy(nb)
    for cell in twin.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "solution" in tags(cell):
            cell.source = NO_SOLUTION
            cell.metadata.pop("jupyter", None)
    return twin


def student(project: Project, path: Path) -> Path:
    """Writes the student copy under `build/student`, in the folder that the notebook has under `notebooks`."""
    target = project.build / "student" / path.resolve().relative_to(project.folder.resolve())
    write(student_copy(read(path)), target)
    return target
