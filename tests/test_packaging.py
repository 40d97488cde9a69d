"""What pyproject.toml, the locks and environment.yml say of the packages agrees, and the wheel holds the kit alone."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import bootstrap
import lock
import pytest
import yaml
from nbtools.fingerprint import Kit
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mmkit.commands import doctor

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "tests/colab/requirements.lock", "benchmarks/requirements.lock")
PYTHONS = ("3.11", "3.12", "3.13")


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def project() -> dict:
    return tomllib.loads(text("pyproject.toml"))


def requirements(*extras: str) -> list[Requirement]:
    table = project()["project"]
    lists = [table["dependencies"], *(table["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


def entries(path: str) -> list[str]:
    """The entries of a lock: each a package with its hashes, as one text."""
    return re.split(r"\n(?=\w)", "\n".join(line for line in text(path).splitlines() if not re.match(r"\s*#", line)))


def locked(python: str) -> dict[str, str]:
    """The version of each package in requirements.lock for `python`, as in "3.12", on Linux."""
    pins = [Requirement(entry.split("\\")[0]) for entry in entries("requirements.lock")]
    there = {"sys_platform": "linux", "python_version": python, "python_full_version": f"{python}.99"}
    return {pin.name: str(pin.specifier)[2:] for pin in pins if not pin.marker or pin.marker.evaluate(there)}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_the_project_asks_for(python):
    versions = locked(python)
    build = [Requirement(line) for line in project()["dependency-groups"]["build"]]
    for requirement in requirements("lab", "test") + build:
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_extras_are_left_out_until_a_lesson_needs_them():
    def names(lock_text: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+)==", lock_text, re.MULTILINE))

    everything, base = names(text("requirements.lock")), names(bootstrap.chosen())
    extras = set(project()["project"]["optional-dependencies"]) - set(bootstrap.ALWAYS)
    added = {extra: names(bootstrap.chosen(extra)) for extra in extras}
    assert "river" in added["drift"] and "river" not in base
    assert names(bootstrap.chosen("")) == set().union(*added.values())
    assert base.union(*added.values()) == everything and not any(base & one for one in added.values())
    build = [Requirement(line) for line in project()["dependency-groups"]["build"]]
    assert {canonicalize_name(one.name) for one in requirements("lab", "test") + build} <= base
    with pytest.raises(bootstrap.SetupError, match="no extra nosuch: choose one of drift"):
        bootstrap.chosen("nosuch")


def test_the_kit_imports_no_extra():
    """So that it can be imported where no lesson has asked for one."""
    kit = Kit(ROOT)
    imported = kit.distributions(name for module in kit.modules.values() for name in module.imports.loaded)
    extras = set(project()["project"]["optional-dependencies"]) - set(bootstrap.ALWAYS)
    assert "keras" in imported and not imported & {one.name for one in requirements(*extras)} - {
        one.name for one in requirements("lab", "test")
    }


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_pins_and_hashes_everything(path):
    names = []
    for entry in entries(path):
        assert re.match(r"[\w.-]+==[\w.]+ ", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]
        names.append(entry.split("==")[0])
    assert len(names) > 100 and "mmkit-course" not in names and "mmkit" not in names


@pytest.mark.parametrize("path", [*LOCKS, "environment.yml", "tests/colab/pins.txt"])
def test_no_address_of_an_index(path):
    assert not re.search(r"://|--(extra-)?index-url|--find-links|\bfile:", text(path))


def test_conda_gets_what_the_lock_has():
    environment = yaml.safe_load(text("environment.yml"))
    python, pip, section = environment["dependencies"]
    assert pip == "pip" and python == f"python={lock.CONDA_PYTHON}"
    assert section["pip"][-1] == "-e ."
    pins = dict(line.split("==") for line in section["pip"][:-1])
    asked = {requirement.name for requirement in requirements(*project()["project"]["optional-dependencies"])}
    assert pins == {name: locked(lock.CONDA_PYTHON)[name] for name in asked}


def test_colabs_lock_has_colabs_versions_and_the_kit_accepts_them():
    versions = dict(entry.split(" ")[0].split("==") for entry in entries("tests/colab/requirements.lock"))
    pins = [Requirement(line) for line in text("tests/colab/pins.txt").splitlines() if not line.startswith("#")]
    for requirement in pins + requirements("test"):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_one_range_of_pythons():
    python = SpecifierSet(project()["project"]["requires-python"])
    supported = tuple(f"3.{minor}" for minor in range(30) if f"3.{minor}" in python)
    assert supported == PYTHONS
    for oldest, newest in ((bootstrap.OLDEST, bootstrap.NEWEST), (doctor.OLDEST_PYTHON, doctor.NEWEST_PYTHON)):
        assert (f"{oldest[0]}.{oldest[1]}", f"{newest[0]}.{newest[1]}") == (PYTHONS[0], PYTHONS[-1])


@pytest.mark.slow
def test_the_wheel_holds_the_kit_alone(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("mmkit_course-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read("mmkit/ground/sources.toml") == (ROOT / "data" / "sources.toml").read_bytes()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"mmkit"}
    assert {"mmkit/__main__.py", "mmkit/commands/doctor.py", "mmkit/datasets/__init__.py"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
