"""What an author does with a notebook: begin it, store it, and hand it to students."""

import base64
import copy
import io
import re
from pathlib import Path

import jupytext
import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from PIL import Image

from nbtools import links, overview
from nbtools.course import USUAL_REFERENCE, Course, outputs_hash, reference_seconds
from nbtools.execute import Measured, execute
from nbtools.project import NAME, Problem, Project, number, read, replace, tags, write

SKELETON = Path(__file__).with_name("skeleton.py.txt")
NO_SOLUTION = "# @title This copy comes without the solution"


def new(project: Project, name: str) -> Path:
    """Begins the notebook `name` in its part's folder: the skeleton of every lesson, with a task in each place.

    Raises:
        Problem: if the plan has no notebook of its number, there is one, or it is no name for a notebook.
    """
    if not NAME.fullmatch(name):
        raise Problem(f"{name} is no name for a notebook: write it as 03_data_pipelines")
    row = project.planned.get(number(Path(name)))
    if row is None:
        raise Problem(f"number {name[:2]} is not in the plan: add it to notebooks/themes.toml first")
    for other in project.notebooks():
        if number(other) == row.number:
            raise Problem(f"{project.relative(other)} exists: edit it, or remove it first")
    path = project.folder / row.folder / f"{name}.ipynb"
    themes = [theme for theme, plan in project.themes.items() if row.number in plan["notebooks"]]
    text = SKELETON.read_text(encoding="utf-8")
    for key, value in {
        "@TITLE@": f"{row.number:02} {row.title}",
        "@BUTTONS@": links.buttons(project, path).replace("\n", "\n# "),
        "@THEMES@": ", ".join(themes) or "T01",
        "@SETUP@": links.setup_block(project),
    }.items():
        text = text.replace(key, value)
    write(jupytext.reads(text, fmt="py:percent"), path)
    return path


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
    said = f"*{overview.minutes(seconds)} to run,"
    nb.cells[0].source = re.sub(r"^\*[\w ]+ to run,", said, nb.cells[0].source, flags=re.MULTILINE)
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
            output["data"]["image/png"] = base64.b64encode(smaller.getvalue()).decode("ascii")


def run(project: Project, nb: NotebookNode, path: Path) -> Measured:
    """Executes `nb` in the folder of `path`.

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
    return measured


def student_copy(nb: NotebookNode) -> NotebookNode:
    """The notebook without its solutions and outputs; nothing else differs."""
    twin, _ = ClearOutputPreprocessor().preprocess(copy.deepcopy(nb), {})
    for cell in twin.cells:
        if "solution" in tags(cell):
            cell.source = NO_SOLUTION
    return twin


def student(project: Project, path: Path) -> Path:
    """Writes the student copy under `build/student`, in the folder that the notebook has under `notebooks`."""
    target = project.build / "student" / path.resolve().relative_to(project.folder.resolve())
    write(student_copy(read(path)), target)
    return target
