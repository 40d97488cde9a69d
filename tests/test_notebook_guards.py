"""The guards guard: each has a bad notebook that it rejects, and the good one that it lets pass."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbtools import overview
from nbtools.lint import lint, lint_plan
from nbtools.project import ROOT, Problem, read, replace, tags

PNG = {"image/png": "iVBORw0KGgo="}


def stdout(text: str) -> NotebookNode:
    return new_output("stream", name="stdout", text=text)


def stderr(text: str) -> NotebookNode:
    return new_output("stream", name="stderr", text=text)


# ---- the linter: one bad notebook for each rule -------------------------------------------------------------------


def cell_with(nb: NotebookNode, text: str) -> NotebookNode:
    return next(cell for cell in nb.cells if text in cell.source)


def tagged(nb: NotebookNode, tag: str) -> NotebookNode:
    return next(cell for cell in nb.cells if tag in tags(cell))


def swap(old: str, new: str) -> Callable[[NotebookNode], None]:
    """The lesson with `old` turned to `new` in the first cell that holds it."""

    def change(nb: NotebookNode) -> None:
        cell = cell_with(nb, old)
        cell.source = cell.source.replace(old, new)

    return change


def code(source: str, *outputs: NotebookNode, tag: str = "") -> Callable[[NotebookNode], None]:
    """The lesson with one more cell of code, behind the baseline's."""

    def change(nb: NotebookNode) -> None:
        place = nb.cells.index(cell_with(nb, "baseline_right = labels")) + 1
        cell = new_code_cell(source, outputs=list(outputs), metadata={"tags": [tag]} if tag else {})
        nb.cells[place:place] = [cell, new_markdown_cell("You see it.")]
        for count, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), 1):
            cell.execution_count = count

    return change


def prose(source: str) -> Callable[[NotebookNode], None]:
    return lambda nb: nb.cells.insert(6, new_markdown_cell(source))


def outputs(tag: str, *new: NotebookNode) -> Callable[[NotebookNode], None]:
    return lambda nb: tagged(nb, tag).update(outputs=list(new))


def no_outputs(nb: NotebookNode) -> None:
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def claimed(**fields: object) -> Callable[[NotebookNode], None]:
    """The lesson with its first claim changed."""

    def change(nb: NotebookNode) -> None:
        tagged(nb, "claims").outputs[0].data[overview.CLAIMS][0].update(fields)

    return change


def figure(below: str, alt: str = "") -> Callable[[NotebookNode], None]:
    """The lesson with a figure, and with this text below it."""

    def change(nb: NotebookNode) -> None:
        code("draw()", new_output("display_data", PNG, metadata={"image/png": {"alt": alt}} if alt else {}))(nb)
        cell_with(nb, "You see it.").source = below

    return change


def longer(count: int) -> Callable[[NotebookNode], None]:
    return prose("word " * count)


def untagged(tag: str) -> Callable[[NotebookNode], None]:
    return lambda nb: tagged(nb, tag).metadata.tags.remove(tag)


BAD = {
    "no title": (swap("# 1.3 Clean", "Clean"), "the title is missing"),
    "two titles": (prose("# Another title"), "the title is missing or not the only one"),
    "another number": (swap("# 1.3 Clean", "# 1.4 Clean"), 'begin cell 1 with "# 1.3'),
    "button to another notebook": (swap("1.03_clean_data.ipynb)\n", "1.01_x.ipynb)\n"), "the two buttons"),
    "button to another repository": (swap("//github.com/mmkit-course", "//github.com/someone"), "the two buttons"),
    "no facts": (swap("minutes to read and try", "long"), "the facts line is missing"),
    "what data?": (swap("data: none", "data: some"), "whether the data is real"),
    "after a lesson that is not there": (swap("before this: nothing", "before this: 1.2"), "wants lesson 1.2 before"),
    "after itself": (swap("before this: nothing", "before this: 1.3"), "wants lesson 1.3 before"),
    "a lesson that is planned": (prose("See lesson 2.4."), 'write "lesson 2.4 (planned)"'),
    "one of several that is planned": (prose("See lessons 1.3 and 2.4."), 'write "lesson 2.4 (planned)"'),
    "planned no longer": (prose("See lesson 1.3 (planned)."), "lesson 1.3 exists"),
    "no such lesson": (prose("See lesson\n4.77."), "there is no lesson 4.77"),
    "a number of old": (prose("See lesson 04."), "in pairs, as in 2.1: correct 04"),
    "a number of old, in code": (code("print()  # as in lesson 12"), "in pairs, as in 2.1: correct 12"),
    "stale minutes": (swap("Under 1 minute", "About 2 minutes"), "the measurement"),
    "not measured": (lambda nb: nb.metadata.pop("mmkit"), "were not measured"),
    "no fingerprint": (lambda nb: nb.metadata.mmkit.pop("fingerprint"), "it has no fingerprint"),
    "outputs changed by hand": (lambda nb: nb.metadata.mmkit.update(outputs="0"), "not those that were stored"),
    "too slow": (lambda nb: nb.metadata.mmkit.update(seconds=200), "it took 200 s"),
    "too large in memory": (lambda nb: nb.metadata.mmkit.update(peak_memory_mb=4000), "it took 4000 MB"),
    "no setup": (untagged("setup"), "Setup cell: tag it"),
    "two setups": (code("extra = 1", tag="setup"), "Setup cell: tag it"),
    "setup without the kit": (swap("import subprocess\n", ""), "does not begin as all do"),
    "no seed": (swap("SEED = lesson.setup()", "SEED = 3"), "does not take the seed"),
    "late import": (code("import json"), "an import outside"),
    "late import in a function": (
        code("def load():\n    from json import loads\n    return loads"),
        "an import outside",
    ),
    "long cell": (code("print()\n" * 26), "26 lines of code"),
    "long line": (code("print('" + "x" * 120 + "')"), "line 1 has 129 characters"),
    "failing shell line": (code("!false"), "a shell line or a magic"),
    "failing pip": (code("%pip install nothing-of-this-name"), "a shell line or a magic"),
    "unknown magic": (code("value = 1\n%nosuchmagic"), "a shell line or a magic"),
    "cell magic": (code("%%bash\nfalse"), "a shell line or a magic"),
    "shell through IPython": (code("get_ipython().system('false')"), "hides failures"),
    "shell through os": (code("os.system('false')"), "hides failures"),
    "no Python": (code("this is no Python"), "is no Python"),
    "nbval comment": (code("# NBVAL_SKIP\nprint()"), "an NBVAL comment"),
    "unknown tag": (code("print()", tag="nbval-skip"), "the tag 'nbval-skip' is unknown"),
    "expected error": (code("print()", tag="raises-exception"), "the tag 'raises-exception' is unknown"),
    "path in source": (code("open('/home/me/data.csv')"), "the source holds a path of a machine"),
    "path in prose": (prose("See `C:\\Users\\me`."), "the source holds a path of a machine"),
    "path in output": (code("print(1)", stdout("/tmp/abc/file.npz\n")), "the output holds a path of a machine"),
    "path in a table": (
        code("1", new_output("display_data", {"text/html": "<td>/Users/me/x</td>"})),
        "a path of a machine",
    ),
    "dead link": (prose("See [that](../99_nothing.ipynb)."), "../99_nothing.ipynb leads nowhere"),
    "stripped outputs": (no_outputs, "not those that were stored"),
    "too large": (code("print()", stdout("x" * 301_000)), "kB of at most 300"),
    "widget": (
        code("1", new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})),
        "is a widget",
    ),
    "stored stderr": (code("print()", stderr("2026 I0000 cpu\n")), "holds stderr"),
    "stored warning": (code("print()", stdout("FutureWarning: soon\n")), "holds a warning"),
    "memory address": (code("print()", stdout("<Axes at 0x7f0012>\n")), "a memory address"),
    "no claims": (untagged("claims"), "the claims have no place"),
    "claims without table": (swap("\nclaims.table()", ""), "does not end in claims.table()"),
    "no stored table": (outputs("claims"), "no table of claims"),
    "failing claim": (claimed(holds=False), "does not hold"),
    "one exercise": (swap("### Exercise 2: the worst coin", "The worst coin"), "are not numbered"),
    "exercise without solution": (untagged("solution"), "exercise 1 is incomplete"),
    "verdict not compared": (untagged("nbval-check-output"), "its verdict is not tested"),
    "another exercise's check": (
        swap("grade(check_1, share_right_s", "grade(check_2, share_right_s"),
        "end in grade(check_1",
    ),
    "unsolved passes": (outputs("check", stdout("Right.\n")), "does not print"),
    "unsolved says nothing": (outputs("check", stdout("Not yet.\n")), "does not print"),
    "wrong solution": (outputs("solution", stdout("Not yet: no\n")), 'does not print "Right." alone'),
    "solution with a picture": (
        outputs("solution", stdout("Right.\n"), new_output("display_data", PNG)),
        'does not print "Right." alone',
    ),
    "solution in sight": (lambda nb: tagged(nb, "solution").metadata.pop("jupyter"), "in plain sight"),
    "solution in sight on Colab": (lambda nb: tagged(nb, "solution").metadata.pop("cellView"), "in plain sight"),
    "solution that shows when folded": (swap("# @title Solution of exercise 1\n", ""), "shows its first line"),
    "checks in sight": (code("# @title Checks\nchecks.count()", tag="more-checks"), "in plain sight"),
    "no project": (swap("## In your own project", "### A pattern"), "see to In your own project"),
    "sections in another order": (swap("## Recap", "## Sources\n\n## Recap"), "see to their order"),
    "mistake without a row": (prose("## A mistake to recognise"), "which the plan gives no row for"),
    "no pattern": (untagged("pattern"), "tag it pattern"),
    "long pattern": (swap('model.save("coin', "print()\n" * 20 + 'model.save("coin'), "in the cell tagged pattern"),
    "long setup": (swap("SEED =", "print()\n" * 10 + "SEED ="), "in the cell tagged setup"),
    "too many words": (longer(2501), "words of 2,500"),
    "too much code": (lambda nb: [code("print()\n" * 25)(nb) for _ in range(11)], "lines of code of 250"),
    "too many cells": (lambda nb: [prose("Word.")(nb) for _ in range(40)], "cells of 60"),
    "more code than words": (lambda nb: [code("print()\n" * 25)(nb) for _ in range(3)], "explain more"),
    "another time to read": (longer(1200), "minutes to read and try, the facts line says another"),
    "two claims": (lambda nb: tagged(nb, "claims").outputs[0].data[overview.CLAIMS].pop(), "2 claims: have three"),
    "claim without a verb": (claimed(text="gain, low end"), "is no sentence"),
    "claims that compute": (swap("claims = Claims()", "claims, more = Claims(), 3"), "the claims' cell computes"),
    "checks without a count": (code("checks = Claims()", tag="more-checks"), "does not end in checks.count()"),
    "no drawing": (untagged("drawing"), "no drawing"),
    "figure without a caption": (figure("See the picture."), "no caption"),
    "figure with a word in italics": (figure("*See* the picture."), "no caption"),
    "figure with another alternative": (figure("*It rises.*", alt="It falls."), "is not its caption"),
    "exercise elsewhere": (code("stub = 1", tag="exercise"), "before the first exercise"),
    "typed accuracy": (prose("The model reaches 0.93 on the test set."), "'0.93' looks measured"),
    "typed percentage": (prose("It wins by 8.5 % here."), "looks measured"),
    "typed time": (prose("It trains in 12.5 s."), "looks measured"),
}


def findings_of(course, path: Path, change: Callable[[NotebookNode], None] | None = None) -> list[str]:
    nb = read(path)
    if change:
        change(nb)
    replace(path, nbformat.writes(nb))  # not `write`, which would clean it
    return lint(course, path)


def test_the_linter_lets_the_good_lesson_pass(course, lesson: Path) -> None:
    assert findings_of(course, lesson) == []


@pytest.mark.parametrize("name", BAD)
def test_the_linter_rejects(name: str, course, lesson: Path) -> None:
    change, message = BAD[name]
    findings = findings_of(course, lesson, change)
    assert any(message in finding for finding in findings), findings
    assert all(finding.startswith("1.03_clean_data.ipynb:cell ") and finding.count(": ") >= 2 for finding in findings)


@pytest.mark.parametrize(
    "harmless",
    [
        "In $[0.25, 0.75]$ and `0.93`, on Python 3.11 and Keras 3.13, section 4.2, $$0.5 x$$",
        "```python\nrate = 0.93\n# Comment\n```",
        "See [the map](../README.md), [there](https://x.org/home/0.93) and doi 10.1109/5.726791.",
        "See lessons 1.3 and 2.4 (planned), and lesson 0 (planned): a lesson 3 times as long.",
        "Between 0 and 1, 28 × 28 pixels, 10 classes, 1,000 images, and/or.",
    ],
)
def test_the_linter_lets_harmless_prose_pass(harmless: str, course, lesson: Path) -> None:
    (course.folder / "README.md").touch()
    assert findings_of(course, lesson, prose(harmless)) == []


def test_the_linter_rejects_a_wrong_place(course, lesson: Path) -> None:
    for name, message in (
        ("2_multimodal/1.03_x.ipynb", "wrong folder"),
        ("1_foundations/1.77_x.ipynb", "not in the plan"),
    ):
        path = course.folder / name
        replace(path, lesson.read_text(encoding="utf-8"))
        assert any(message in finding for finding in lint(course, path))
    assert any("number taken" in finding for finding in lint_plan(course))


def test_the_first_edition_may_lack_fingerprints_and_lists_lessons_that_exist(course, lesson: Path) -> None:
    listed = course.folder / "first_edition.txt"
    listed.write_text("# of old\n1.3\n", encoding="utf-8")
    assert findings_of(course, lesson, lambda nb: nb.metadata.mmkit.pop("fingerprint")) == []
    listed.write_text("1.3\n4.4\n", encoding="utf-8")
    with pytest.raises(Problem, match="^first_edition.txt: no lesson 4.4: there are 1.3: take it off the list$"):
        lint(course, lesson)


def test_the_linter_rejects_a_file_without_code(course, lesson: Path) -> None:
    replace(lesson, nbformat.writes(new_notebook()))
    assert any("no code cell" in finding for finding in lint(course, lesson))


# ---- nbval, as this project runs it -------------------------------------------------------------------------------


def nbval(
    folder: Path,
    *cells: tuple[str, str | None],
    checked: bool = True,
    options: tuple[str, ...] = (),
    plugin: tuple[str, ...] = ("-p", "nbval_lessons"),
) -> str:
    """Runs cells, given as (source, stored stdout), under the project's pytest options; returns what pytest prints."""
    nb = new_notebook(metadata={"kernelspec": {"name": "no-such-kernel", "display_name": ""}})
    for count, (source, stored) in enumerate(cells, 1):
        cell = new_code_cell(source, execution_count=count, outputs=[stdout(stored)] if stored else [])
        cell.metadata["tags"] = ["nbval-check-output"] if checked and stored else []
        nb.cells.append(cell)
    path = folder / "guarded.ipynb"
    nbformat.write(nb, path)
    command = [sys.executable, "-m", "pytest", str(path), "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    command += [*plugin, "-p", "no:cacheprovider", "-q", "-n", "0", "--nbval-cell-timeout=6", "--timeout=60", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "tools")])
    result = subprocess.run(
        command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


GOOD = ("print(1 + 1)", "2\n")


def test_nbval_rejects_a_changed_output_in_a_checked_cell_alone(tmp_path: Path) -> None:
    """In lax mode the tag, in lower case, makes the difference."""
    report = nbval(tmp_path, GOOD, ("print('Right.')", "Not yet: no\n"), ("pass", None))
    assert "1 failed, 4 passed, 1 skipped" in report and "Cell outputs differ" in report


@pytest.mark.slow
def test_nbval_lets_good_cells_pass(tmp_path: Path) -> None:
    assert "6 passed" in nbval(tmp_path, GOOD, ("value = 3", None), ("print(value)", "3\n"))
    assert "2 passed" in nbval(tmp_path, ("print('trained: .93')", "trained: .92\n"), checked=False)


@pytest.mark.slow
def test_nbval_starts_a_fresh_kernel_in_the_notebooks_folder(tmp_path: Path) -> None:
    (tmp_path / "beside.txt").write_text("found", encoding="utf-8")
    for _ in range(2):
        report = nbval(
            tmp_path, ("print(open('beside.txt').read(), 'value' in globals())", "found False\n"), ("value = 1", None)
        )
        assert "4 passed" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, options",
    [
        ("1 / 0", ()),
        ("this is no Python", ()),
        ("while True:\n    pass", ()),
        ("import os\nos._exit(0)", ()),
        ("import os\nos.kill(os.getpid(), 9)", ()),
        ("import os\nos._exit(0)", ("--nbval-cell-timeout=2000", "--timeout=15")),
        ("while True:\n    pass", ("--nbval-cell-timeout=2000", "--timeout=15")),
    ],
    ids=[
        "error",
        "syntax",
        "hang",
        "dead kernel",
        "killed kernel",
        "dead, pytest-timeout alone",
        "hang, pytest-timeout",
    ],
)
def test_nbval_rejects(source: str, options: tuple[str, ...], tmp_path: Path) -> None:
    report = nbval(tmp_path, GOOD, (source, None), GOOD, options=options)
    assert "failed" in report or "Timeout" in report, report


@pytest.mark.slow
def test_nbval_is_blind_to_what_the_linter_rejects(tmp_path: Path) -> None:
    """If this fails, nbval has learned to see, and the linter's rules can go."""
    report = nbval(
        tmp_path, ("!false", None), ("%nosuchmagic", None), ("import sys; print('bad', file=sys.stderr)", None)
    )
    assert "6 passed" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, stored",
    [("del value", None), ("value += 1\nassert value == 1", None), ("value += 1\nprint(value)", "1\n")],
    ids=["fails", "counts on", "prints something else"],
)
def test_nbval_rejects_a_quick_cell_that_cannot_run_twice(source: str, stored: str | None, tmp_path: Path) -> None:
    report = nbval(tmp_path, ("value = 0", None), (source, stored))
    assert "1 failed, 3 passed" in report and "Cell 1 again" in report


@pytest.mark.slow
def test_the_projects_own_run_runs_cells_twice(tmp_path: Path) -> None:
    """By the checkout's conftest.py, and for notebooks that lie elsewhere."""
    any_test = str(ROOT / "tests" / "test_notebooks.py") + "::test_the_plan_is_sound"
    assert "3 passed" in nbval(tmp_path, ("value = 3", None), options=(any_test,), plugin=())


@pytest.mark.slow
def test_nbval_runs_a_slow_cell_once_unless_told_otherwise(tmp_path: Path) -> None:
    """Training twice would double the tests' time."""
    slow = "import time\ntime.sleep(2.5)\nonce = 'again' not in globals()\nagain = True\nassert once"
    assert "1 passed, 1 skipped" in nbval(tmp_path, (slow, None))
    assert "1 failed, 1 passed" in nbval(tmp_path, (slow, None), options=("--twice",))
