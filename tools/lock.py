"""`make lock`: works out the locks and environment.yml anew from pyproject.toml and Colab's pins. Needs the network.

    requirements.lock               the newest of everything that fits, for Python 3.11 to 3.13 on any system
    tests/colab/requirements.lock   Colab's versions of what the lessons use, for Python 3.13
    tests/on_jax/requirements.lock  the newest JAX that fits, beside the packages of requirements.lock that tests use
    benchmarks/requirements.lock    the same versions, and what PyTorch needs beside them, but not PyTorch itself
    environment.yml                 for conda: the packages that pyproject.toml names, at requirements.lock's versions

No index is named in any of them: pip brings the files from where it is told to, and the hashes say whether they are
the right ones.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONDA_PYTHON = "3.12"
UNIVERSAL = ("--universal", "--python-version=3.11")
BESIDE = (*UNIVERSAL, "--constraint=requirements.lock")
LOCKS = {
    "requirements.lock": (*UNIVERSAL, "--all-extras"),
    "tests/colab/requirements.lock": ("--python-version=3.13", "--extra=test", "tests/colab/pins.txt"),
    "tests/on_jax/requirements.lock": (*BESIDE, "--extra=test", "tests/on_jax/pins.txt"),
    "benchmarks/requirements.lock": (*BESIDE, "benchmarks/requirements.in"),
}
BY_VERSION_ALONE = r"^(?:torch|triton|nvidia-|cuda-)[^\n]*\n(?: .*\n)*"  # builds for CPU and GPU differ in their hashes


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # uv is needed here alone, so it is in no lock
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        for lock, options in LOCKS.items():
            command = [
                f"{folder}/bin/uv",
                "pip",
                "compile",
                "--quiet",
                "--upgrade",
                "--custom-compile-command=make lock",
            ]
            command += ["--generate-hashes", "--no-emit-index-url", f"--output-file={lock}", "--group=build"]
            subprocess.run([*command, "pyproject.toml", *options], check=True, cwd=ROOT)
    peer = ROOT / "benchmarks" / "requirements.lock"
    peer.write_text(
        re.sub(BY_VERSION_ALONE, "", peer.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8"
    )
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")


def direct_dependencies() -> list[str]:
    """The names of the packages that the kit, JupyterLab and the tests ask for, in alphabetical order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted({re.match(r"[\w.-]+", line)[0] for lines in lists for line in lines})


def locked(python: str) -> dict[str, str]:
    """The version of each package in requirements.lock for `python`, as in "3.12", on Linux."""
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"\w", line)]
    there = {"sys_platform": "linux", "python_version": python, "python_full_version": f"{python}.99"}
    return {pin.name: str(pin.specifier)[2:] for pin in pins if not pin.marker or pin.marker.evaluate(there)}


def environment() -> str:
    """The text of environment.yml."""
    versions = locked(CONDA_PYTHON)
    pins = "".join(f"      - {name}=={versions[name]}\n" for name in direct_dependencies())
    return f"""\
# The kit for conda users: `conda env create -f environment.yml`, then `conda activate mmkit`. Written by `make lock`.
# The packages come through pip, at the versions that `make lab` brings: the ones the lessons are tested with.
name: mmkit
channels:
  - conda-forge
dependencies:
  - python={CONDA_PYTHON}
  - pip
  - pip:
{pins}      - -e .
"""


if __name__ == "__main__":
    main()
