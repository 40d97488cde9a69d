"""Which lessons are run, stored and left out, and what a lesson's test proves, on a made-up course."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import run_lessons
import small_course
from nbformat.v4 import new_code_cell
from nbtools import course as course_module
from nbtools.course import USUAL_REFERENCE, Course, Lesson, outputs_hash
from nbtools.project import ROOT, Problem, Project, read, write
from run_lessons import BESIDE, minutes

import notebooks


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    """The lesson of the made-up course, with the fingerprint and the outputs of a run."""
    path = small_course.make(tmp_path)
    nb = read(path)
    now = Course(Project(tmp_path)).kit.fingerprint(nb)
    nb.metadata["mmkit"] = {"seconds": 60, "fingerprint": now.parts, "look": now.look}
    write(nb, path)
    return path


@pytest.fixture
def course(lesson: Path, tmp_path: Path) -> Course:
    return Course(Project(tmp_path))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add_cell(path: Path, source: str, tag: str = "") -> None:
    nb = read(path)
    nb.cells.append(new_code_cell(source, metadata={"tags": [tag] if tag else []}, execution_count=len(nb.cells)))
    write(nb, path)


def list_first_edition(path: Path) -> None:
    path.parents[1].joinpath("first_edition.txt").write_text("# of old\n2.4\n", encoding="utf-8")


# ---- which are stale ----------------------------------------------------------------------------------------------


def test_a_stored_lesson_is_fresh_until_what_it_depends_on_changes(course: Course, lesson: Path, capsys) -> None:
    assert notebooks.main(["stale"], course.project) == 0 and capsys.readouterr().out == ""
    edit(course.project.root / "mmkit/layers/fusion.py", "SCALE = 2", "SCALE = 1 + 1")
    assert notebooks.main(["stale"], course.project) == 0
    assert capsys.readouterr().out == "2.04_fusion: stale because `layers.fusion.SCALE` changed\n"
    assert Course(course.project).lesson(lesson).must_run


def test_a_changed_look_is_reported_and_is_not_stale(course: Course, lesson: Path, capsys) -> None:
    edit(course.project.root / "mmkit/lesson/plots.py", '"*"', '"-"')
    assert notebooks.main(["stale"], course.project) == 0
    assert capsys.readouterr().out == "2.04_fusion: not stale, but its plots or checks may look another way\n"
    assert not Course(course.project).lesson(lesson).must_run


def test_a_lesson_of_the_first_edition_may_be_stale(course: Course, lesson: Path, capsys) -> None:
    edit(lesson, "five letters", "five letters of a name")
    assert not course.lesson(lesson).stale
    add_cell(lesson, "1")
    list_first_edition(lesson)
    listed = Course(course.project).lesson(lesson)
    assert listed.stale and not listed.must_run
    assert notebooks.main(["stale"], course.project) == 0
    assert capsys.readouterr().out == "2.04_fusion: stale because `cells` changed (first edition: it may be)\n"


def test_a_lesson_that_was_never_stored_is_stale(course: Course, lesson: Path) -> None:
    nb = read(lesson)
    del nb.metadata["mmkit"]
    write(nb, lesson)
    assert course.lesson(lesson).stale == "because it has no fingerprint" and course.lesson(lesson).must_run


def test_a_first_edition_lesson_that_does_not_exist(course: Course, lesson: Path) -> None:
    (course.project.folder / "first_edition.txt").write_text("2.7\n", encoding="utf-8")
    with pytest.raises(Problem, match="first_edition.txt: no lesson 2.7: there are 2.4: take it off"):
        course.lessons()


def test_a_part(course: Course) -> None:
    assert [one.path.stem for one in course.lessons("2")] == ["2.04_fusion"]
    for part in ("3", "0"):
        with pytest.raises(Problem, match=f"no part {part}"):
            course.lessons(part)


# ---- time ---------------------------------------------------------------------------------------------------------


def test_minutes_grow_with_the_slowness_of_the_machine(course: Course, lesson: Path) -> None:
    one = course.lesson(lesson)
    assert minutes(one, USUAL_REFERENCE) == pytest.approx(BESIDE)
    assert minutes(one, 3 * USUAL_REFERENCE) == pytest.approx(3 * BESIDE)
    one.nb.metadata.pop("mmkit")
    assert minutes(one, USUAL_REFERENCE) == pytest.approx(2 * BESIDE)


def test_the_reference_job_takes_seconds() -> None:
    assert 0.5 < course_module.reference_seconds() < 60


def test_the_rotation_begins_elsewhere_after_each_commit(course: Course, monkeypatch) -> None:
    lessons = [Lesson(Path(f"{number:02}_x.ipynb"), nbformat.v4.new_notebook(), None, True) for number in range(5)]
    monkeypatch.setattr(Course, "lessons", lambda self: lessons)
    begins = []
    for commit in range(30, 36):
        said = subprocess.CompletedProcess([], 0, f"{commit:x}\n")
        monkeypatch.setattr(course_module.subprocess, "run", lambda *_, said=said, **__: said)
        order = run_lessons.rotation(course)
        assert sorted(one.path for one in order) == [one.path for one in lessons]
        begins.append(order[0].path.stem[:2])
    assert begins == ["00", "01", "02", "03", "04", "00"]


# ---- what the commands start --------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The commands that would be run."""
    calls: list[list[str]] = []

    def run(command: list, **_) -> subprocess.CompletedProcess:
        calls.append([str(word) for word in command])
        return subprocess.CompletedProcess(command, 0, "0")

    monkeypatch.setattr(course_module.subprocess, "run", run)
    return calls


def test_test_runs_what_is_stale_alone(course: Course, lesson: Path, started) -> None:
    assert run_lessons.main(["stale"], course.project) == 0
    assert "tests" in started[-1] and str(lesson) not in started[-1]
    add_cell(lesson, "1")
    assert run_lessons.main(["stale"], course.project) == 0
    assert started[-1][-1] == str(lesson) and "--patterns" in started[-1]
    list_first_edition(lesson)
    assert run_lessons.main(["stale"], course.project) == 0
    assert str(lesson) not in started[-1]


def test_more_stale_lessons_than_fit_are_a_failure(course: Course, lesson: Path, started, monkeypatch, capsys) -> None:
    monkeypatch.setattr(run_lessons, "reference_seconds", lambda: 10.0)
    add_cell(lesson, "1")
    assert run_lessons.main(["stale", "--budget", "8"], course.project) == 1 and not started
    assert "1 stale lessons take about 9 minutes here, and 8 are left: store them with `make store STALE=1`" in (
        capsys.readouterr().err
    )
    assert run_lessons.main(["stale", "--budget", "10"], course.project) == 0 and started


def test_test_course_runs_all_or_what_fits(course: Course, lesson: Path, started, monkeypatch) -> None:
    monkeypatch.setattr(run_lessons, "reference_seconds", lambda: 4.5)
    assert run_lessons.main(["course", "--part", "2"], course.project) == 0
    assert started[-1][-1] == str(lesson) and not any(word.startswith("--until") for word in started[-1])
    assert "--twice" not in started[-1]
    assert run_lessons.main(["course", "--twice"], course.project) == 0 and "--twice" in started[-1]
    assert run_lessons.main(["course", "--budget", "10"], course.project) == 0
    (until,) = [float(word.partition("=")[2]) for word in started[-1] if word.startswith("--until")]
    assert 590 < until - time.time() <= 600 and "--reference=4.5" in started[-1] and str(lesson) in started[-1]
    add_cell(lesson, "1")  # it has been run by `make test`
    assert run_lessons.main(["course", "--budget", "10"], course.project) == 0
    assert str(lesson) not in started[-1]


def test_data_is_brought_for_the_lessons_that_name_it(course: Course, started) -> None:
    assert run_lessons.main(["stale"], course.project) == 0
    assert [words[1:] for words in started if "mmkit" in words] == []
    assert run_lessons.main(["course"], course.project) == 0
    brought = [words[1:] for words in started if "mmkit" in words]
    assert brought == [["-m", "mmkit", "fetch", "mnist"], ["-m", "mmkit", "prepare", "digits"]]


def test_extras_are_installed_for_the_lessons_that_import_them(course: Course, lesson: Path, started) -> None:
    text = '[project.optional-dependencies]\nlab = ["no-such-lab"]\ndrift = ["no-such-river>=1"]\n'
    (course.project.root / "pyproject.toml").write_text(text, encoding="utf-8")
    edit(course.project.root / "requirements.lock", "keras==", "no-such-lab==1 \\\nno-such-river==1.0 \\\nkeras==")
    assert run_lessons.main(["course"], course.project) == 0
    assert not any("bootstrap.py" in " ".join(words) for words in started)
    add_cell(lesson, "import no_such_river, no_such_lab")
    assert run_lessons.main(["course"], course.project) == 0
    assert [words[-2:] for words in started if "bootstrap.py" in words[1]] == [["extra", "drift"]]


# ---- store --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["MMKIT_SEED", "MMKIT_PROFILE"])
def test_store_refuses_a_run_that_is_not_the_defaults(
    variable: str, course: Course, lesson: Path, monkeypatch, capsys
) -> None:
    before = lesson.read_bytes()
    monkeypatch.setenv(variable, "0")
    assert notebooks.main(["store", "2.4"], course.project) == 1
    assert capsys.readouterr().err.startswith(f"{variable} is set") and lesson.read_bytes() == before


def test_store_wants_a_notebook(course: Course, capsys) -> None:
    assert notebooks.main(["store"], course.project) == 1
    assert capsys.readouterr().err.startswith("no notebook is named")


@pytest.mark.slow
def test_store_stale_goes_on_after_a_failure_and_then_where_it_stopped(course: Course, lesson: Path, capsys) -> None:
    facts = "*Under 1 minute to run · about 40 minutes to read and try · data: none · before this: nothing*"
    themes = (ROOT / "notebooks" / "themes.toml").read_text(encoding="utf-8")
    (course.project.folder / "themes.toml").write_text(themes, encoding="utf-8")
    nb = read(lesson)
    del nb.metadata["mmkit"]
    for number, source in (("05", "1 / 0"), ("06", "print('an output')"), ("04", "")):
        nb.cells = [
            nbformat.v4.new_markdown_cell(f"# 2.{int(number)} A lesson\n\n{facts}"),
            new_code_cell(source or "print(4)"),
        ]
        write(nb, lesson.with_name(f"2.{number}_fusion.ipynb"))
    (course.project.root / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/a/b"\n[tool.mmkit]\nversion-of-links = "main"\n'
    )
    assert notebooks.main(["store", "2.4"], course.project) == 0
    capsys.readouterr()
    assert notebooks.main(["store", "--stale"], course.project) == 1
    out, err = capsys.readouterr()
    assert "2.05_fusion.ipynb: cell 2 fails: ZeroDivisionError" in err
    assert "2.06_fusion: " in out and "2.04_fusion: " not in out, "what is fresh is not stored again"
    stored = read(lesson.with_name("2.06_fusion.ipynb"))
    assert stored.metadata.mmkit.outputs == outputs_hash(stored)
    assert isinstance(stored.metadata.mmkit.seconds, int) and len(stored.metadata.mmkit.look) == 10
    assert not Course(course.project).lesson(lesson.with_name("2.06_fusion.ipynb")).stale
    assert Course(course.project).lesson(lesson.with_name("2.05_fusion.ipynb")).stale


# ---- what a lesson's test proves ----------------------------------------------------------------------------------


def report_of(path: Path, *options: str) -> str:
    """What pytest prints of the lesson, run as `make test-course` runs it."""
    root = path.parents[2]
    command = [sys.executable, "-m", "pytest", str(path), "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(root)]
    command += ["-p", "nbval_lessons", "-p", "no:cacheprovider", "-v", "-rfEx", "-n0", f"--course={root}", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (root, ROOT / "tests", ROOT / "tools")))
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


PROOF = "::what ran is in the fingerprint "


@pytest.mark.slow
def test_what_runs_is_in_the_fingerprint_and_a_pattern_runs_alone(lesson: Path) -> None:
    said = report_of(lesson, "--patterns")
    assert f"{PROOF}PASSED" in said and "Cell 3 alone PASSED" in said
    assert " failed" not in said.splitlines()[-1]
    assert "alone" not in report_of(lesson)


@pytest.mark.slow
def test_what_ran_and_is_not_in_the_fingerprint_is_named(lesson: Path) -> None:
    add_cell(lesson, "exec('import mmkit.layers.fusion as f\\nf.Sum()(1)')")
    add_cell(lesson, "print(measured)", "pattern")
    said = report_of(lesson, "--patterns")
    assert f"{PROOF}FAILED" in said and "layers.fusion.Sum ran and is not in the fingerprint" in said
    assert "Cell 7 alone FAILED" in said and "cell 2 fails: NameError" in said


@pytest.mark.slow
def test_a_failing_claim_of_the_first_edition_is_reported(lesson: Path) -> None:
    edit(lesson, "measured == 10", "measured == 11")
    said = report_of(lesson)
    assert "Cell 5 FAILED" in said and "1 failed" in said.splitlines()[-1]
    list_first_edition(lesson)
    said = report_of(lesson)
    assert "Cell 5 XFAIL" in said and "a claim of the first edition: " in said and "ClaimFailed: it is ten" in said
    assert "failed" not in said.splitlines()[-1].replace("xfailed", "")
    nb = read(lesson)
    nb.metadata["mmkit"]["fingerprint"] = json.loads(
        json.dumps(Course(Project(lesson.parents[2])).lesson(lesson).now.parts)
    )
    write(nb, lesson)
    assert "Cell 5 FAILED" in report_of(lesson), "once it is stored anew its claims count"


@pytest.mark.slow
def test_a_lesson_that_does_not_fit_is_not_begun_and_is_listed(lesson: Path) -> None:
    enough, reference = 60 * BESIDE * 2 + 20, f"--reference={2 * USUAL_REFERENCE}"
    said = report_of(lesson, f"--until={time.time() + enough - 60}", reference)
    assert "1 lessons did not fit into the time: 2.04_fusion" in said and " passed" not in said.splitlines()[-1]
    said = report_of(lesson, f"--until={time.time() + enough}", reference)
    assert "did not fit" not in said and " passed" in said.splitlines()[-1]


def test_the_last_digits_of_a_number_do_not_change_the_hash_of_outputs() -> None:
    """Whoever formats a notebook may write them another way; a number that changed is seen."""
    hashes = []
    for value in (15.537183970311037, 15.537183970311036, 15.5371840):
        nb = nbformat.v4.new_notebook(cells=[new_code_cell("x")])
        data = {"application/vnd.mmkit.claims+json": [{"value": value}], "text/plain": "x"}
        nb.cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
        hashes.append(outputs_hash(nb))
    assert hashes[0] == hashes[1]
    nb.cells[0].outputs[0].data["application/vnd.mmkit.claims+json"][0]["value"] = 15.5372
    assert outputs_hash(nb) != hashes[0]
