"""What several tests share: a small course to try the notebook tools on."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """First weights and dropout are drawn alike in every run: no test passes, or fails, by luck."""
    if keras := sys.modules.get("keras"):  # the tests of the tools need none
        keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Builds a data set of the kit in the user's cache, unless it is there: for tests that then read it offline."""

    def build(name: str) -> Path:
        from mmkit import datasets

        return datasets.build(name)

    return build


@pytest.fixture
def course(tmp_path: Path):
    """An empty course, laid out as the repository is."""
    from nbtools.project import Project

    for name in ("pyproject.toml", "requirements.lock", "data/sources.toml", "notebooks/themes.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return Project(tmp_path)


@pytest.fixture
def lesson(course) -> Path:
    """A lesson of that course that keeps all rules: the skeleton, with the outputs that a run would store."""
    from nbformat.v4 import new_output
    from nbtools import author, overview
    from nbtools.course import outputs_hash
    from nbtools.project import read, tags, write

    path = author.new(course, "1.03_clean_data")
    nb = read(path)
    for count, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        text = {"check": "Not yet: say why\n", "solution": "Right.\n"}
        cell.outputs = [new_output("stream", name="stdout", text=text[tag]) for tag in tags(cell) if tag in text]
        if "claims" in tags(cell):
            row = {"value": 0.2, "comparison": ">", "bound": 0.0, "holds": True}
            rows = [row | {"text": f"It beats the {rival}."} for rival in ("baseline", "coin", "guess")]
            cell.outputs = [new_output("display_data", {overview.CLAIMS: rows})]
    nb.metadata["mmkit"] = {"seconds": 9, "peak_memory_mb": 700.0, "fingerprint": {"cells": "of an earlier day"}}
    nb.metadata["mmkit"]["outputs"] = outputs_hash(nb)
    write(nb, path)
    return path
