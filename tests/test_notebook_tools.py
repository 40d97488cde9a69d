"""The author's commands, on a small course of their own."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbtools import author, links, overview, records
from nbtools.course import USUAL_REFERENCE
from nbtools.execute import execute
from nbtools.lint import lint
from nbtools.project import ROOT, Number, Problem, Project, read, tags, write
from PIL import Image

import notebooks

NAME = "notebooks/1_foundations/1.03_clean_data.ipynb"
MOVED = "https://github.com/someone/their-kit"


def small(course: Project, *code: str) -> Path:
    """A notebook without TensorFlow, so that a test can run it."""
    nb = new_notebook(cells=[new_markdown_cell(f"# 1.3 Small\n\n{overview.FACTS_FORM}")])
    nb.cells += [new_code_cell(source) for source in code]
    path = course.root / NAME
    write(nb, path)
    return path


# ---- finding ------------------------------------------------------------------------------------------------------


def test_a_notebook_is_found_by_its_number(course, lesson: Path) -> None:
    assert course.find("1.3") == course.find("1.03") == lesson


def test_an_unknown_notebook_is_one_line_that_lists_the_known(course, lesson: Path, capsys) -> None:
    for name in ("4.4", "1.30", "nothing.ipynb", "README.md"):
        assert notebooks.main(["run", name], course) == 1
        assert capsys.readouterr().err == f"no lesson {name}: there are 1.3\n"


def test_the_tools_work_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "notebooks.py"), "run", "9.9"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith("no lesson 9.9: there ")
    assert not any(tmp_path.iterdir())


def test_an_empty_course_has_no_notebook(course, capsys) -> None:
    assert notebooks.main(["run", "0"], course) == 1
    assert capsys.readouterr().err == "no lesson 0: there are none yet\n"


def test_a_broken_file_is_named(course, lesson: Path, capsys) -> None:
    lesson.write_text("{", encoding="utf-8")
    assert notebooks.main(["run", "1.3"], course) == 1
    assert capsys.readouterr().err.startswith(f"{lesson.name} is no notebook that can be read")


# ---- new ----------------------------------------------------------------------------------------------------------


def test_a_new_notebook_lacks_its_run_alone(course) -> None:
    assert notebooks.main(["new", "1.03_clean_data"], course) == 0
    findings = lint(course, course.root / NAME)
    assert findings and all(re.search("store it|there is none|does not print", text) for text in findings), findings


@pytest.mark.parametrize(
    "name, word",
    [
        ("1.03_clean_data", "exists"),
        ("1.03_other_name", "1.03_clean_data.ipynb exists"),
        ("1.03 data", "no name for a notebook"),
        ("1.3_data", "no name for a notebook"),
        ("03_data", "no name for a notebook"),
        ("1.03_data.ipynb", "no name for a notebook"),
        ("notebooks/1.03_data", "no name for a notebook"),
        ("9.09_x", "number 9.9 is not in the plan"),
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
    assert notebooks.main(["run", "1.3"], course) == 0
    assert path.read_bytes() == before
    assert (path.parent / "beside.txt").exists(), "a notebook runs in its own folder"
    assert "42" in (course.build / "html" / "1.03_clean_data.html").read_text(encoding="utf-8")
    assert "build/html/1.03_clean_data.html" in capsys.readouterr().out


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
    assert notebooks.main([command, "1.3"], course) == 1
    assert path.read_bytes() == before
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"1.03_clean_data.ipynb: cell 3 fails: {word}"), message
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
    assert notebooks.main(["store", "1.3"], course) == 0
    nb = read(path)
    assert "*Under 1 minute to run" in nb.cells[0].source
    assert 2 <= nb.metadata.mmkit.seconds <= 60 and 200 <= nb.metadata.mmkit.peak_memory_mb <= 1000
    assert [cell.get("execution_count") for cell in nb.cells] == [None, 1, 2]
    assert nb.cells[2].outputs[0].text == "200000000\n"
    assert set(nb.metadata) == {"kernelspec", "language_info", "mmkit"} and not nb.cells[1].metadata
    assert "1.03_clean_data.ipynb" in overview.map_path(course).read_text(encoding="utf-8")
    ids = [cell.id for cell in nb.cells]
    write(nb, path)
    assert [cell.id for cell in read(path).cells] == ids and len(set(ids)) == 3


@pytest.mark.slow
def test_the_skeleton_stored_keeps_all_rules(course) -> None:
    path = author.new(course, "1.03_clean_data")
    author.store(course, path)
    assert lint(course, path) == []
    twin = author.student_copy(read(path))
    execute(twin, path.parent)
    told = ["".join(output.get("text", "") for output in cell.outputs) for cell in twin.cells if "check" in tags(cell)]
    assert len(told) == 2 and all(text.startswith("Not yet: ") for text in told)


def test_a_figures_caption_is_its_text_alternative() -> None:
    data = {"image/png": "iVBORw0KGgo="}, {"text/html": '<img alt="x > y" src="data:a">', "text/plain": "x > y"}
    cells = [new_code_cell("", outputs=[new_output("display_data", one)]) for one in data]
    below = [new_markdown_cell('*It rises, and\nthe **other** "falls".*\n\nSo.'), new_markdown_cell("*It* is.")]
    nb = new_notebook(cells=[cells[0], below[0], cells[1], below[0], cells[1], below[1], new_code_cell("1")])
    told = 'It rises, and the **other** "falls".'
    assert overview.captions(nb) == {0: told, 2: told, 4: ""}
    for cell in cells:
        author.describe(cell, told)
        author.describe(cell, "")
    assert cells[0].outputs[0].metadata == {"image/png": {"alt": told}}
    assert cells[1].outputs[0].data["text/html"].startswith('<img alt="It rises, and the **other** &quot;falls&quot;."')


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
    link = "1_foundations/1.03_clean_data.ipynb"
    assert re.search(rf"\| 1\.3 \| \[Clean data and honest splits\]\({link}\): Clean .+ \| none \| – \|", page)
    assert "1.3 Clean data and honest splits: 3 claims</summary>" in page and "- It beats the coin. (> 0)" in page
    assert f"| [1.3]({link}), 1.4 (planned), 2.8 (planned) |" in page, "theme T05"
    assert "| missing |" not in page and "| 2.1 | Conv2D + LSTM fusion *(planned)*: " in page
    assert page.count("../data/documents.md)") == 3, "two mistakes are put right on the documents' page"


def test_numbers_are_pairs_that_sort_and_are_found(course, lesson: Path) -> None:
    """3.10 is a lesson of its own, behind 3.9, and is not 3.1."""
    text = lesson.read_text(encoding="utf-8")
    for name in ("3.02_b", "3.10_d", "3.01_a", "3.09_c"):
        path = course.folder / "3_learning_with_less" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = [path.stem[-1] for path in course.notebooks()]
    assert found == ["a", "a", "b", "c", "d"], "the first is lesson 1.3"
    assert [course.find(name).stem[-1] for name in ("3.1", "3.10", "3.2", "3.9", "3.01")] == ["a", "d", "b", "c", "a"]
    assert Number.of("3.10") > Number.of("3.9") > Number.of("3.1") > Number.of("0")
    assert [str(Number.of(text)) for text in ("3.1", "3.10", "3.01", "0")] == ["3.1", "3.10", "3.1", "0"]
    assert [Number.of(text) for text in ("3", "04", "3.", "3.x", "", "3.100")] == [Number(3, 0), *[None] * 5]
    (course.root / "tools").mkdir()
    (course.root / "tools" / "bootstrap.py").touch()
    for name, stem in (("3.1", "3.01_a"), ("3.10", "3.10_d"), ("3.2", "3.02_b")):
        said = make(course, "print", f"NB={name}", "--eval", "print: ; @echo $(FILE)")
        assert said.splitlines()[0] == f"notebooks/3_learning_with_less/{stem}.ipynb"


def make(course, *words: str) -> str:
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), *words]
    return subprocess.run(command, cwd=course.root, capture_output=True, text=True, check=True).stdout


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
    lesson.write_text(text.replace("1.03_clean_data.ipynb)", "1.02_other.ipynb)"), encoding="utf-8")
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


# ---- records: seeds and long runs ---------------------------------------------------------------------------------


def claim(text: str, value: float, comparison: str, bound: float) -> dict:
    holds = value >= bound if comparison == ">=" else value <= bound
    return {"text": text, "value": value, "comparison": comparison, "bound": bound, "holds": holds}


def test_a_margin_is_counted_on_the_side_where_the_claim_holds() -> None:
    def away(comparison: str, bound: float, *values: float) -> float | None:
        rows = [
            [
                {
                    "claim": "x",
                    "cell": "claims",
                    "value": str(v),
                    "comparison": comparison,
                    "bound": str(bound),
                    "holds": "True",
                }
            ]
            for v in values
        ]
        (margin,) = records.margins(rows)
        return margin.away

    assert away(">=", 1.0, 4.0, 5.0, 6.0) == pytest.approx(4.0)
    assert away("<=", 9.0, 4.0, 5.0, 6.0) == pytest.approx(4.0)
    assert away(">=", 9.0, 4.0, 5.0, 6.0) == pytest.approx(-4.0)
    assert away("==", 1.0, 1.0, 1.0, 1.0) is None


def test_margins_warn_below_four_and_for_further_checks_below_six() -> None:
    def rows(cell: str) -> list[list[dict]]:
        one = {"claim": "It wins.", "cell": cell, "comparison": ">=", "bound": "0", "holds": "True"}
        return [[one | {"value": str(value)}] for value in (4.0, 5.0, 6.0)]

    assert "claim less" not in str(records.margins(rows("claims"))[0])
    assert "below 6, claim less" in str(records.margins(rows("more-checks"))[0])
    told = str(records.margins([*rows("claims"), [rows("claims")[0][0] | {"holds": "False", "value": "-1"}]])[0])
    assert "-1 to 6, mean 3.5" in told and "below 4, claim less; FAILS in a run" in told


def test_records_are_kept_by_lesson_run_and_fingerprint(course) -> None:
    kept = records.Records(course)
    made = {"claims": [claim("It wins.", 0.25, ">=", 0.1)], "more-checks": [claim("It, too.", 0.5, "<=", 1.0)]}
    for seed in range(1, 6):
        kept.keep(Number(2, 1), "old", f"seed {seed}", made)
    kept.keep(Number(3, 10), "old", "long", made)
    again = records.Records(course)
    assert len(again.rows) == 12 and len(again.of(Number(2, 1), "old", "seed 3")) == 2
    assert again.of(Number(2, 1), "new", "seed 3") == again.of(Number(2, 1), "old", "seed 6") == []
    again.keep(Number(2, 1), "new", "seed 3", {"claims": [claim("It wins.", 0.0, ">=", 0.1)]})
    rows = records.Records(course).rows
    assert [row["fingerprint"] for row in rows if row["lesson"] == "2.1"] == ["new"], "of the old version nothing stays"
    assert [row["holds"] for row in rows] == ["False", "True", "True"] and rows[0]["value"] == "0"


def test_the_map_shows_records_of_the_stored_version_alone(course, lesson: Path) -> None:
    made = {"claims": [claim("It wins.", 0.25, ">=", 0.1)]}
    fingerprint = records.mark(read(lesson).metadata.mmkit.fingerprint)
    kept = records.Records(course)
    for run in (*records.SEEDS[:4], "long"):
        kept.keep(Number(1, 3), fingerprint, run, made)
    assert "| none | long |" in overview.overview(course), "four seeds are not five"
    kept.keep(Number(1, 3), fingerprint, "seed 5", made)
    assert "| none | seeds, long |" in overview.overview(course)
    kept.keep(Number(1, 3), fingerprint, "long", {"claims": [claim("It wins.", 0.0, ">=", 0.1)]})
    assert "| none | seeds |" in overview.overview(course)
    kept.keep(Number(1, 3), "another", "seed 5", made)
    assert "| none | – |" in overview.overview(course)


MEASURED = """
from mmkit.lesson import Claims
import mmkit
claims = Claims()
claims.check("It wins by a little.", {value}, ">=", 0)
claims.table()
"""


@pytest.mark.slow
def test_seeds_and_long_run_once_and_say_how_near_a_claim_is(course, capsys) -> None:
    path = small(course, MEASURED.format(value="(10 + mmkit.seed() % 2) * mmkit.by_profile(small=1, long=-1, full=0)"))
    nb = read(path)
    nb.cells[1].metadata["tags"] = ["claims"]
    write(nb, path)
    assert notebooks.main(["seeds", "1.3"], course) == 1
    assert capsys.readouterr().err.startswith("1.03_clean_data is stale because it has no fingerprint: store it first")
    shutil.copytree(ROOT / "mmkit", course.root / "mmkit", ignore=shutil.ignore_patterns("__pycache__"))
    assert notebooks.main(["store", "1.3"], course) == 0
    capsys.readouterr()
    assert notebooks.main(["seeds", "1.3"], course) == 0
    said = capsys.readouterr().out
    assert said.count("1.03_clean_data, seed ") == 5 and "10 to 11, mean 10.5, spread 0.55" in said
    assert "bound >= 0: 19.2 standard deviations from it\n1 claims, 0 too near" in said
    assert notebooks.main(["seeds", "1.3"], course) == 0
    assert "1.03_clean_data, seed " not in capsys.readouterr().out, "what is on record is not run again"
    assert notebooks.main(["long", "1.3"], course) == 1
    said = capsys.readouterr().out
    assert "long: fails: It wins by a little." in said and "FAILS in a run" in said
    assert "| real | seeds |" in overview.map_path(course).read_text(encoding="utf-8")
    (course.folder / "first_edition.txt").write_text("1.3\n", encoding="utf-8")
    assert notebooks.main(["long", "1.3"], course) == 1 and "of the first edition" in capsys.readouterr().err
    assert notebooks.main(["long"], course) == 1 and "no lesson is named" in capsys.readouterr().err
