"""The author's commands, on a small course of their own."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbtools import author, links, overview
from nbtools.course import USUAL_REFERENCE
from nbtools.execute import execute
from nbtools.lint import lint
from nbtools.project import ROOT, Problem, Project, read, tags, write
from PIL import Image

import notebooks

NAME = "notebooks/1_foundations/03_data_pipelines.ipynb"
MOVED = "https://github.com/someone/their-kit"


def small(course: Project, *code: str) -> Path:
    """A notebook without TensorFlow, so that a test can run it."""
    nb = new_notebook(cells=[new_markdown_cell(f"# 03 Small\n\n{overview.FACTS_FORM}")])
    nb.cells += [new_code_cell(source) for source in code]
    path = course.root / NAME
    write(nb, path)
    return path


# ---- finding ------------------------------------------------------------------------------------------------------


def test_a_notebook_is_found_by_its_number(course, lesson: Path) -> None:
    assert course.find("03") == course.find("3") == lesson


def test_an_unknown_notebook_is_one_line_that_lists_the_known(course, lesson: Path, capsys) -> None:
    for name in ("44", "nothing.ipynb", "README.md"):
        assert notebooks.main(["run", name], course) == 1
        assert capsys.readouterr().err == f"no notebook {name}: there are 03\n"


def test_the_tools_work_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "notebooks.py"), "run", "99"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith("no notebook 99: there ")
    assert not any(tmp_path.iterdir())


def test_an_empty_course_has_no_notebook(course, capsys) -> None:
    assert notebooks.main(["run", "00"], course) == 1
    assert capsys.readouterr().err == "no notebook 00: there are none yet\n"


def test_a_broken_file_is_named(course, lesson: Path, capsys) -> None:
    lesson.write_text("{", encoding="utf-8")
    assert notebooks.main(["run", "3"], course) == 1
    assert capsys.readouterr().err.startswith(f"{lesson.name} is no notebook that can be read")


# ---- new ----------------------------------------------------------------------------------------------------------


def test_a_new_notebook_lacks_its_run_alone(course) -> None:
    assert notebooks.main(["new", "03_data_pipelines"], course) == 0
    findings = lint(course, course.root / NAME)
    assert findings and all(re.search("store it|there is none|does not print", text) for text in findings), findings


@pytest.mark.parametrize(
    "name, word",
    [
        ("03_data_pipelines", "exists"),
        ("03_other_name", "03_data_pipelines.ipynb exists"),
        ("03 data", "no name for a notebook"),
        ("03_data.ipynb", "no name for a notebook"),
        ("notebooks/03_data", "no name for a notebook"),
        ("99_x", "not in the plan"),
    ],
)
def test_a_new_notebook_is_refused(name: str, word: str, course, lesson: Path) -> None:
    before = lesson.read_bytes()
    with pytest.raises(Problem, match=word):
        author.new(course, name)
    assert lesson.read_bytes() == before


# ---- run, store ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_changes_nothing_and_writes_a_page(course, capsys) -> None:
    path = small(course, "open('beside.txt', 'w').write('here');", "print(6 * 7)")
    before = path.read_bytes()
    assert notebooks.main(["run", "03"], course) == 0
    assert path.read_bytes() == before
    assert (path.parent / "beside.txt").exists(), "a notebook runs in its own folder"
    assert "42" in (course.build / "html" / "03_data_pipelines.html").read_text(encoding="utf-8")
    assert "build/html/03_data_pipelines.html" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "store"])
@pytest.mark.parametrize(
    "source, word",
    [
        ("raise ValueError('first line\\nsecond')", "ValueError: first line"),
        ("import os\nos._exit(1)", "the kernel died"),
    ],
)
def test_a_failure_names_the_cell_and_leaves_the_notebook(command: str, source: str, word: str, course, capsys) -> None:
    path = small(course, "print(1)", source)
    before = path.read_bytes()
    assert notebooks.main([command, "03"], course) == 1
    assert path.read_bytes() == before
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"03_data_pipelines.ipynb: cell 3 fails: {word}"), message
    copy = read(course.build / "failed" / path.name)
    assert message.endswith(f"build/failed/{path.name})") and copy.cells[1].outputs[0].text == "1\n"


@pytest.mark.slow
def test_store_keeps_outputs_and_what_the_run_took(course, monkeypatch) -> None:
    monkeypatch.setattr(author, "reference_seconds", lambda: USUAL_REFERENCE)
    path = small(course, "block = bytearray(200_000_000)", "import time\ntime.sleep(1.5)\nprint(len(block))")
    nb = read(path)
    nb.metadata["widgets"], nb.cells[1].metadata["execution"] = {"state": {}}, {"iopub.execute_input": "now"}
    nb.cells[0].source = nb.cells[0].source.replace("Under 1 minute", "About 7 minutes")
    path.write_text(nbformat.writes(nb), encoding="utf-8")
    assert notebooks.main(["store", "03"], course) == 0
    nb = read(path)
    assert "*Under 1 minute to run" in nb.cells[0].source
    assert 2 <= nb.metadata.mmkit.seconds <= 60 and 200 <= nb.metadata.mmkit.peak_memory_mb <= 1000
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2]
    assert nb.cells[2].outputs[0].text == "200000000\n"
    assert set(nb.metadata) == {"kernelspec", "language_info", "mmkit"} and not nb.cells[1].metadata
    assert "03_data_pipelines.ipynb" in overview.map_path(course).read_text(encoding="utf-8")
    ids = [cell.id for cell in nb.cells]
    write(nb, path)
    assert [cell.id for cell in read(path).cells] == ids and len(set(ids)) == 3


@pytest.mark.slow
def test_the_skeleton_stored_keeps_all_rules(course) -> None:
    path = author.new(course, "03_data_pipelines")
    author.store(course, path)
    assert lint(course, path) == []
    twin = author.student_copy(read(path))
    execute(twin, path.parent)
    told = ["".join(output.get("text", "") for output in cell.outputs) for cell in twin.cells if "check" in tags(cell)]
    assert len(told) == 2 and all(text.startswith("Not yet: ") for text in told)


def test_pictures_are_stored_small() -> None:
    """An opaque picture shrinks and stays the same to the eye; a transparent one is left alone."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 1), dtype=np.uint8).repeat(3, axis=2)
    for mode, shrinks in (("RGB", True), ("RGBA", False)):
        alpha = np.full((60, 60, 1), 100, dtype=np.uint8)
        pixels = noise if mode == "RGB" else np.concatenate([noise, alpha], axis=2)
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "PNG")
        before = base64.b64encode(stored.getvalue()).decode()
        nb = new_notebook(cells=[new_code_cell("", outputs=[new_output("display_data", {"image/png": before})])])
        author.shrink_pictures(nb)
        after = nb.cells[0].outputs[0].data["image/png"]
        assert (len(after) < len(before)) == shrinks
        if shrinks:
            seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB"), dtype=int)
            assert np.abs(seen - noise).mean() < 3


# ---- student, map, links ------------------------------------------------------------------------------------------


def test_student_copies_keep_the_folders(course, lesson: Path, capsys) -> None:
    before = lesson.read_bytes()
    assert notebooks.main(["student"], course) == 0
    twin = read(course.build / "student" / "1_foundations" / lesson.name)
    assert lesson.read_bytes() == before and len(twin.cells) == len(read(lesson).cells)
    assert "build/student/1_foundations" in capsys.readouterr().out


def test_the_map_lists_what_a_notebook_holds(course, lesson: Path) -> None:
    assert notebooks.main(["map"], course) == 0
    page = overview.map_path(course).read_text(encoding="utf-8")
    link = "1_foundations/03_data_pipelines.ipynb"
    assert f"| 03 | [Data pipelines]({link}) | under 1 minute | 40 minutes | 0.7 GB | none | T05, T06 | 1 |" in page
    assert "03 Data pipelines: 1 claim</summary>" in page and "- beats it (> 0)" in page
    assert re.search(rf"\| T05 \|.*\| \[03\]\({link}\) \|", page)
    assert re.search(rf"\| T06 \|.*\| \[03\]\({link}\), planned \(04\) \|", page)
    assert "| missing |" not in page and "- Foundations: 01 Networks from scratch, 02 Convolutional networks\n" in page


def test_one_command_moves_all_addresses(course, lesson: Path, capsys) -> None:
    readme = course.root / "README.md"
    old = course.repository
    readme.write_text(
        f"[badge]({old}/actions) git clone {old}.git; https://github.com/numpy/numpy stays; git+{old}@main\n"
        f"https://colab.research.google.com/github/{old.removeprefix('https://github.com/')}/blob/main/notebooks/x.ipynb",
        encoding="utf-8",
    )
    outputs = [cell.get("outputs") for cell in read(lesson).cells]
    assert notebooks.main(["links", "--repository", f"{MOVED}.git"], course) == 0
    assert course.repository == MOVED
    text = readme.read_text(encoding="utf-8")
    assert "mmkit-course/mmkit-course" not in text + lesson.read_text(encoding="utf-8")
    assert text.count("someone/their-kit") == 4 and "https://github.com/numpy/numpy stays" in text
    assert lint(course, lesson) == [], "buttons and the Setup cell follow"
    assert [cell.get("outputs") for cell in read(lesson).cells] == outputs
    assert links.update(course) == [], "a second time nothing is left to do"


def test_links_mends_a_notebook_that_was_copied(course, lesson: Path) -> None:
    text = lesson.read_text(encoding="utf-8")
    lesson.write_text(text.replace("03_data_pipelines.ipynb)", "02_other.ipynb)"), encoding="utf-8")
    assert lint(course, lesson) != []
    assert links.update(course) == [lesson]
    assert lint(course, lesson) == []


@pytest.mark.parametrize("address", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a", "x"])
def test_links_refuses_what_is_no_repository(address: str, course) -> None:
    before = (course.root / "pyproject.toml").read_bytes()
    assert notebooks.main(["links", "--repository", address], course) == 1
    assert (course.root / "pyproject.toml").read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file(course, lesson: Path, monkeypatch) -> None:
    before = lesson.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(read(lesson), lesson)
    assert lesson.read_bytes() == before and [path.name for path in lesson.parent.iterdir()] == [lesson.name]
