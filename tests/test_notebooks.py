"""Every notebook keeps the rules. That it runs, nbval tests: see tests/nbval_lessons.py."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from nbtools import links, overview
from nbtools.lint import lint, lint_plan
from nbtools.project import Project

PROJECT = Project()
NOTEBOOKS = PROJECT.notebooks()
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_keeps_the_rules(path: Path) -> None:
    assert lint(PROJECT, path) == []


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_ruff_finds_nothing(command: str) -> None:
    """In code and cells: among others what is no Python, and a `subprocess.run` that would hide its failure."""
    ruff = [sys.executable, "-m", "ruff", *command.split(), "--quiet"]
    done = subprocess.run(ruff, cwd=PROJECT.root, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr} (make format)"


@pytest.mark.parametrize(("folder", "width"), [("", 120), ("notebooks", 110)])
def test_how_wide_ruff_lets_code_be(folder: str, width: int) -> None:
    source = "x = 10  #" + " a" * ((width - 8) // 2) + "\n"  # one too many
    ruff = [sys.executable, "-m", "ruff", "check", "--select=E501", f"--stdin-filename={Path(folder, 'x.py')}", "-"]
    done = subprocess.run(ruff, cwd=PROJECT.root, input=source, capture_output=True, text=True)
    assert f"({width + 1} > {width})" in done.stdout


def test_how_pytest_runs_notebooks() -> None:
    table = tomllib.loads((PROJECT.root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    for option in ("--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "--dist loadscope"):
        assert option in table["ini_options"]["addopts"]
    assert table["ini_options"]["timeout"]


def test_the_plan_is_sound() -> None:
    assert lint_plan(PROJECT) == []


def test_the_map_is_current() -> None:
    stored = overview.map_path(PROJECT).read_text(encoding="utf-8")
    assert stored == overview.overview(PROJECT), "run `make map`"


def test_all_addresses_agree(tmp_path: Path) -> None:
    for name in ("pyproject.toml", *links.PAGES):
        if (PROJECT.root / name).exists():
            shutil.copy(PROJECT.root / name, tmp_path)
    for path in NOTEBOOKS:
        twin = tmp_path / PROJECT.relative(path)
        twin.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, twin)
    assert [path.name for path in links.update(Project(tmp_path))] == [], "run `make links`"
