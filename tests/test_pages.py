"""What the pages say that are not lessons: README.md, CONTRIBUTING.md, CHANGELOG.md, data/documents.md."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from nbtools import front
from nbtools.project import Number, Project, number

import mmkit

PROJECT = Project()
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/documents.md", "data/README.md")


def text(page: str) -> str:
    return (PROJECT.root / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The names under which GitHub links the headings of a page."""
    heads = re.findall(r"^#+ (.+?) *$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, "notebooks/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    here, prose = PROJECT.root / page, re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if not re.match(r"[a-z]+:", target):
            place = (here.parent / path) if path else here
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text(page), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_lessons_are_called_by_numbers_of_the_plan(page: str) -> None:
    for lesson in re.findall(r"\bNB=(\d[\d.]*\d|\d)", text(page)):
        assert Number.of(lesson) in PROJECT.planned, lesson


def test_the_file_of_the_package_that_the_readme_names_is_todays() -> None:
    assert set(re.findall(r"mmkit_course-([\d.]+)-py3", text("README.md"))) == {mmkit.__version__}


@pytest.mark.slow
def test_the_fifteen_lines_of_the_readme_run(built) -> None:
    built("av_digits")
    (code,) = re.findall(r"^```python\n(.+?)^```$", text("README.md"), re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 15
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, "README.md", "exec"), {})
    accuracy = float(re.search(r"new voices: (0\.\d+)", shown.getvalue())[1])
    assert accuracy > 0.85  # a linear classifier on all senses stays below
    assert re.search(r"predicted: \d true: \d$", shown.getvalue().strip())


def test_the_table_of_the_course_names_every_lesson_once(tmp_path: Path) -> None:
    table = front.course(PROJECT)
    existing = {number(path) for path in PROJECT.notebooks()}
    linked, planned = re.findall(r"\[(\d[\d.]*) ", table), re.findall(r"(?:\*planned:\*|·) (\d[\d.]*) ", table)
    assert {Number.of(one) for one in linked} == existing and len(linked) == len(existing)
    assert {Number.of(one) for one in planned} == set(PROJECT.planned) - existing
    hours = int(re.search(r"about (\d+) hours", table)[1])
    assert 0 < hours < 3 * len(existing)


def test_a_lesson_that_comes_is_linked_and_one_that_goes_is_planned_again(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks" / "2_multimodal"
    folder.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    page = tmp_path / "data" / "documents.md"
    page.write_text("See 2.1 (planned) and [2.3](../notebooks/2_multimodal/2.03_old_name.ipynb), not 2.1.\n")
    (folder / "2.01_fusion.ipynb").touch()
    assert front.pages(Project(tmp_path)) == {
        page: "See [2.1](../notebooks/2_multimodal/2.01_fusion.ipynb) and 2.3 (planned), not 2.1.\n"
    }


def test_the_documents_page_answers_every_theme_and_mistake() -> None:
    page = text("data/documents.md")
    parts = dict(re.findall(r"^### ([A-E]): .*?\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert list(parts) == list("ABCDE")
    for theme, row in PROJECT.themes.items():
        if theme.startswith("E"):
            assert re.search(rf"\b{theme}\b", page), theme
            continue
        for document in row["documents"].split():
            named = set(re.findall(r"\[(\d[\d.]*)\]|(\d\.\d+) \(planned\)", parts[document]))
            lessons = {Number.of(one or other) for one, other in named}
            assert lessons & set(row["lessons"]), f"{document} has no lesson for {theme}"
    for theme, row in PROJECT.themes.items():
        if theme.startswith("E") and not row.get("page"):
            (line,) = re.findall(rf"^\| {theme} \|.*$", page, re.MULTILINE)
            for lesson in row["lessons"]:
                assert re.search(rf"\[{re.escape(str(lesson))}\]|\b{re.escape(str(lesson))} \(planned\)", line), theme


def test_the_changelog_has_its_form() -> None:
    page = text("CHANGELOG.md")
    versions = re.findall(r"^## \[?(Unreleased|\d+\.\d+\.\d+)\]?(?: - (\d{4}-\d\d-\d\d))?$", page, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert mmkit.__version__ in [version for version, date in versions if date]
    kinds = set(re.findall(r"^### (.+)$", page, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
