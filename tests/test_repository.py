"""The repository's own files that no other test reads: workflows, forms, hooks and how the course is cited."""

import re
from pathlib import Path

import pytest
import yaml
from nbtools.project import Project
from packaging.specifiers import SpecifierSet

import mmkit

PROJECT = Project()
WORKFLOWS = sorted((PROJECT.root / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((PROJECT.root / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT.root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def load(path: Path) -> dict:
    """A YAML file. YAML 1.1 takes the key `on` for True."""
    return {
        "on" if key is True else key: value for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    }


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def pythons() -> list[str]:
    """Every Python that a workflow asks for."""
    found = []
    for path in WORKFLOWS:
        for job in load(path)["jobs"].values():
            found += job.get("strategy", {}).get("matrix", {}).get("python", [])
            asked = [step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
            found += [python for python in asked if "{{" not in python]
    return found


def test_the_workflows_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["checks", "lessons"]
    assert {"push", "pull_request"} <= load(WORKFLOWS[0])["on"].keys()
    assert {"schedule", "release"} <= load(WORKFLOWS[1])["on"].keys()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_only_calls_make(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
    for step in steps(workflow):
        if "run" in step:
            called = re.findall(r"\bmake (?:--silent )?([a-z-]+)", step["run"])
            assert len(called) == 1 and called[0] in TARGETS, step["run"]
            assert re.match(r'make |echo "\w+=\$\(make ', step["run"])
        else:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), f"{step['uses']}: by its major version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_is_cached_is_cached_by_what_it_is_made_from(path: Path) -> None:
    for step in steps(load(path)):
        options = step.get("with", {})
        if "cache" in options:
            assert "requirements.lock" in options["cache-dependency-path"]
        if "actions/cache" in step.get("uses", ""):
            assert options["path"] == "data/cache"
            files = re.findall(r"'([^']+)'", options["key"])
            assert "data/sources.toml" in files and all((PROJECT.root / file).exists() for file in files)


def test_the_lessons_that_run_on_colabs_versions_exist() -> None:
    script = (PROJECT.root / "tests" / "colab" / "run.py").read_text(encoding="utf-8")
    numbers = re.findall(r'"([\d.]+)"', re.search(r"^NOTEBOOKS = .*$", script, re.MULTILINE)[0])
    assert len([PROJECT.find(number) for number in numbers]) == 2


def test_workflows_ask_for_pythons_that_the_kit_supports_its_oldest_and_its_newest_too() -> None:
    allowed = SpecifierSet(PROJECT.pyproject["requires-python"])
    supported = [f"3.{minor}" for minor in range(40) if f"3.{minor}" in allowed]
    assert {supported[0], supported[-1]} <= set(pythons()) <= set(supported)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_an_issue_is_complete(path: Path) -> None:
    form = load(path)
    assert {"name", "description", "body"} <= form.keys()
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names)
    for field in form["body"]:
        assert field["type"] in ("input", "textarea") and field["attributes"]["label"]


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert [load(path)["name"] for path in FORMS] == ["A claim that failed", "A sentence that lost me", "A bug"]
    assert (PROJECT.root / ".github" / "PULL_REQUEST_TEMPLATE.md").is_file()


def test_hooks_are_local_and_run_the_kits_own_tools() -> None:
    (repository,) = load(PROJECT.root / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/python ")
    entries = " ".join(hook["entry"] for hook in repository["hooks"])
    for tool in ("ruff format", "ruff check", "tools/notebooks.py lint"):
        assert tool in entries


def test_how_the_course_is_cited() -> None:
    citation = load(PROJECT.root / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    assert str(citation["version"]) == mmkit.__version__
    assert citation["repository-code"] == PROJECT.repository
    assert citation["license"] == PROJECT.pyproject["license"]
    assert citation["authors"] == [{"name": "mmkit course contributors"}]
