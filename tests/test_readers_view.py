"""What a reader of the lessons meets: a notebook that opening does not change, folded solutions, pages for a room."""

import base64
import json
import re
import sys
from pathlib import Path

import bootstrap
import pytest
from bs4 import BeautifulSoup
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbtools import author, links
from nbtools.lint import broken_lines
from nbtools.page import page
from nbtools.project import METADATA, Problem, Project, clean, read, write

LESSONS = Project().notebooks()
ADDRESS = "https://github.com/someone/kit/blob/main/notebooks/1_foundations/1.03_data.ipynb"


# ---- JupyterLab ---------------------------------------------------------------------------------------------------


def test_the_kernel_tells_what_lessons_hold(tmp_path: Path) -> None:
    """JupyterLab takes both from the kernel, and shows a notebook as changed where they differ from what it holds."""
    folder = tmp_path / "share" / "jupyter" / "kernels"
    file = folder / "python3" / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"language": "python", "display_name": "ipykernel's own"}))
    bootstrap.write_jupyter(tmp_path)
    spec = json.loads(file.read_text())
    assert METADATA["kernelspec"] == {"name": "python3"} | {key: spec[key] for key in ("display_name", "language")}
    assert spec["argv"][0] == str(tmp_path / "bin" / "python")
    file.write_text(json.dumps(spec | {"argv": [sys.executable, *spec["argv"][1:]]}))
    specs = KernelSpecManager(kernel_dirs=[str(folder)], ensure_native_kernel=False)
    manager = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        told = client.kernel_info(reply=True, timeout=60)["content"]["language_info"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert told == METADATA["language_info"]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_holds_what_the_kernel_tells(path: Path) -> None:
    held = read(path).metadata
    assert held.pop("mmkit") and held == METADATA


def test_what_is_to_be_folded_is_folded_everywhere() -> None:
    nb = new_notebook(cells=[new_code_cell("1", metadata={"tags": [tag]}) for tag in ("solution", "check")])
    nb.cells[1].metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    clean(nb)
    assert nb.cells[0].metadata == {"tags": ["solution"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert nb.cells[1].metadata == {"tags": ["check"]}


# ---- markdown -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, broken",
    [
        ("between `audio\n+ touch` and `audio`", ["+ touch` and `audio`"]),
        ("- between `audio\n  + touch` and `audio`", ["+ touch` and `audio`"]),
        ("more than\n> 0.5", ["> 0.5"]),
        ("number\n# 1", ["# 1"]),
        ("step\n1. begins", ["1. begins"]),
        ("(Lee,\n2019) says", []),
        ("You will:\n- build\n- test", []),
        ("- one\n  goes on\n- two\n  - nested", []),
        ("Text.\n\n- one\n- two", []),
        ("a\n**bold**", []),
        ("> quoted\n> on", []),
        ("$$a\n- b$$", []),
        ("```\na\n- b\n```", []),
    ],
)
def test_a_line_that_breaks_its_paragraph_is_found(source: str, broken: list[str]) -> None:
    assert broken_lines(source) == broken


# ---- pages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small():
    cells = [
        new_markdown_cell(f"# 1.3 Data\n\n{links.buttons(Project(), LESSONS[0])}\n\nSee [the map](../README.md)."),
        new_markdown_cell("## A sum\n\nIt is $a < b$ and\n\n$$\\sum_i x_i$$\n\n## Another"),
        new_markdown_cell("### Exercise 1: more"),
        new_code_cell("# @title Solution of exercise 1\nanswer = 42", metadata={"tags": ["solution"]}),
        new_code_cell("draw()"),
    ]
    pictures = {"image/png": base64.b64encode(b"png").decode(), "image/svg+xml": "<svg/>"}
    for kind, data in pictures.items():
        cells[-1].outputs.append(new_output("display_data", {kind: data}, metadata={kind: {"alt": 'a "rising" curve'}}))
    return new_notebook(cells=cells, metadata=METADATA)


def test_a_page_loads_nothing_from_elsewhere(small) -> None:
    made = page(small, "Data", ADDRESS)
    soup = BeautifulSoup(made, "html.parser")
    assert all(place["src"].startswith("data:") for place in soup.select("[src]")) and not soup.select("link")
    assert "@import" not in made and "url(" not in made and "cdn" not in made
    assert set(re.findall(r"https?://([\w.]+)", made)) <= {"github.com", "colab.research.google.com", "www.w3.org"}


def test_a_page_holds_formulas_contents_alternatives_and_links(small) -> None:
    made = page(small, "Data & more", ADDRESS)
    assert "<title>Data &amp; more</title>" in made
    assert '<span class="math">a &lt; b</span>' in made and '<span class="math display">\\sum_i x_i</span>' in made
    assert "KaTeX parse error" in made and "Permission is hereby granted" in made
    contents = made[made.index("<nav>") : made.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', contents) == ["A-sum", "Another", "Exercise-1:-more"]
    assert len(re.findall(r'alt=(?:"a &quot;rising&quot; curve"|\'a "rising" curve\')', made)) == 2
    assert 'href="https://github.com/someone/kit/blob/main/notebooks/README.md"' in made


def test_a_picture_that_is_drawn_gets_its_caption(course, monkeypatch) -> None:
    nb = new_notebook(cells=[new_code_cell("draw()"), new_markdown_cell("*The curve rises.*")])

    def execute(nb, folder, name):
        nb.cells[0].outputs = [new_output("display_data", {"image/png": "cG5n"})]

    monkeypatch.setattr(author, "execute", execute)
    author.run(course, nb, course.folder / "1.01_x.ipynb")
    assert 'alt="The curve rises."' in page(nb, "Data", ADDRESS)


def test_a_page_folds_what_is_folded(small) -> None:
    made = page(small, "Data", ADDRESS)
    assert made.count("<summary>Solution of exercise 1</summary>") == 1


def test_a_page_without_jupyterlab_is_refused(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("nbtools.page.LAB", tmp_path)
    monkeypatch.setattr("nbtools.page._katex", page.__globals__["_katex"].__wrapped__)
    with pytest.raises(Problem, match="has no KaTeX"):
        page(small, "Data", ADDRESS)


# ---- student copies -----------------------------------------------------------------------------------------------


def test_links_of_a_student_copy_lead_somewhere(course) -> None:
    source = (
        "[map](../README.md), [next](1.02_x.ipynb), [card](../../data/digits.md), [web](http://keras.io), [up](#a)"
    )
    path = course.folder / "1_foundations" / "1.01_x.ipynb"
    write(new_notebook(cells=[new_markdown_cell(source)]), path)
    text = read(author.student(course, path)).cells[0].source
    there = f"{course.repository}/blob/main"
    assert text == (
        f"[map]({there}/notebooks/README.md), [next](1.02_x.ipynb), [card]({there}/data/digits.md), "
        "[web](http://keras.io), [up](#a)"
    )
