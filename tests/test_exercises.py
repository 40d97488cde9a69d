"""Self-checks: what `grade` says, and that each lesson's exercises are as they should be.

That a solution passes its check and that the unsolved task fails it with a helpful word is in the stored outputs, which
nbval compares with a fresh run in the cells tagged `nbval-check-output`. So nothing is trained here.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbtools.author import NO_SOLUTION, student_copy, tells_a_solution
from nbtools.project import Project, read, tags

from mmkit.lesson import grade

NOTEBOOKS = Project().notebooks()


def check(answer) -> None:
    """As a lesson's check, whose asserts raise this; pytest would add to an assert's message here."""
    if answer is None:
        raise AssertionError("write the answer first")
    if answer != 4:
        raise AssertionError


def test_right_answer(capsys: pytest.CaptureFixture) -> None:
    assert grade(check, 4) is None, "a cell that ends in it would show the value"
    assert capsys.readouterr().out == "Right.\n"


def test_no_answer_yet_says_what_to_do(capsys: pytest.CaptureFixture) -> None:
    grade(check, None)
    assert capsys.readouterr().out == "Not yet: write the answer first\n"


def test_wrong_answer_without_a_word(capsys: pytest.CaptureFixture) -> None:
    grade(check, 5)
    assert capsys.readouterr().out == "Not yet.\n"


def test_an_answer_that_raises_is_not_right_yet(capsys: pytest.CaptureFixture) -> None:
    def divide(answer) -> None:
        answer(0)

    grade(divide, lambda x: 1 / x)
    assert capsys.readouterr().out == "Not yet: the answer raises ZeroDivisionError: division by zero\n"


def test_an_answer_can_be_several_values(capsys: pytest.CaptureFixture) -> None:
    def same(first, second) -> None:
        if first != second:
            raise AssertionError("they differ")

    grade(same, 1, 1)
    grade(same, 1, 2)
    assert capsys.readouterr().out == "Right.\nNot yet: they differ\n"


def test_interrupting_a_check_is_no_verdict() -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade(stopped)


def kinds(nb, kind: str) -> list:
    return [cell for cell in nb.cells if kind in tags(cell)]


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_solution_passes_and_unsolved_task_fails(path: Path) -> None:
    nb = read(path)
    exercises, checks, solutions = (kinds(nb, kind) for kind in ("exercise", "check", "solution"))
    assert len(exercises) == len(checks) == len(solutions) >= 2
    for unsolved, solved in zip(checks, solutions, strict=True):
        assert {"nbval-check-output"} <= set(tags(unsolved)) & set(tags(solved)), "nbval would not compare the verdict"
        assert printed(solved) == "Right.\n"
        assert printed(unsolved).startswith("Not yet: ") and len(printed(unsolved)) > len("Not yet: \n") + 8


def undefined(nb) -> str:
    """The names that no cell defines, as ruff reports them."""
    command = [sys.executable, "-m", "ruff", "check", "--select=F821", "--stdin-filename=copy.ipynb", "-"]
    return subprocess.run(command, input=nbformat.writes(nb), capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_student_copy_needs_no_solution(path: Path) -> None:
    assert "F821" not in undefined(student_copy(read(path)))


def test_a_name_that_only_a_solution_defines_is_found(lesson: Path) -> None:
    nb = read(lesson)
    (cell,) = [cell for cell in nb.cells if cell.source.startswith("worst_p = None")]
    cell.source = "worst_p = share_right_solution(1)"
    assert "F821" not in undefined(nb) and "F821 Undefined name `share_right_solution`" in undefined(student_copy(nb))


def test_a_folded_cell_that_uses_a_solution_goes_with_it(lesson: Path) -> None:
    nb = read(lesson)
    told = nbformat.v4.new_code_cell("# @title What it reaches\nshare_right_solution(1)", metadata={"tags": ["folded"]})
    kept = nbformat.v4.new_code_cell("# @title A riddle\nsecret = 1", metadata={"tags": ["folded"]})
    nb.cells += [told, kept]
    assert [cell.source for cell in student_copy(nb).cells[-2:]] == [NO_SOLUTION, kept.source]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_student_copy_differs_in_the_solutions_alone(path: Path) -> None:
    nb, twin = read(path), student_copy(read(path))
    assert len(nb.cells) == len(twin.cells)
    for cell, other in zip(nb.cells, twin.cells, strict=True):
        assert tags(cell) == tags(other) and cell.cell_type == other.cell_type
        assert not other.get("outputs")
        if tells_a_solution(cell):
            assert other.source == NO_SOLUTION
        else:
            assert other.source == cell.source and other.metadata == cell.metadata


def test_a_student_copy_of_the_skeleton(lesson: Path) -> None:
    twin = student_copy(read(lesson))
    assert [cell.source for cell in kinds(twin, "solution")] == [NO_SOLUTION] * 2
    assert "max(p, 1 - p)" not in "".join(cell.source for cell in twin.cells if cell.cell_type == "code")
