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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNIVERSAL = ("--universal", "--python-version=3.11")
BESIDE = (*UNIVERSAL, "--constraint=requirements.lock")
LOCKS = {
    "requirements.lock": (*UNIVERSAL, "--all-extras"),
    "tests/colab/requirements.lock": ("--python-version=3.13", "--extra=test", "tests/colab/pins.txt"),
    "tests/on_jax/requirements.lock": (*BESIDE, "--extra=test", "tests/on_jax/pins.txt"),
    "benchmarks/requirements.lock": (*BESIDE, "benchmarks/requirements.in"),
}
BY_VERSION_ALONE = r"^(?:torch|triton|nvidia-|cuda-)[^\n]*\n(?: .*\n)*"  # builds for CPU and GPU differ in their hashes
CONDA_PYTHON = "3.12"
ENVIRONMENT = f"""\
# The kit for conda users: `conda env create -f environment.yml`, then `conda activate mmkit`. Written by `make lock`.
# The packages that pyproject.toml names come through pip, at the versions that `make lab` brings and the lessons are
# tested with. What those packages need in turn is pip's choice of the day: requirements.lock alone pins that too.
name: mmkit
channels:
  - conda-forge
dependencies:
  - python={CONDA_PYTHON}
  - pip
  - pip:
%s      - -e .
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # uv is needed here alone, so it is in no lock
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"--target={folder}", "uv"], check=True)
        uv = [f"{folder}/bin/uv", "pip", "compile", "--quiet", "--no-emit-index-url", "pyproject.toml"]
        for lock, options in LOCKS.items():
            command = [*uv, "--upgrade", "--generate-hashes", "--custom-compile-command=make lock", "--group=build"]
            subprocess.run([*command, f"--output-file={lock}", *options], check=True, cwd=ROOT)
        direct = ["--no-deps", "--all-extras", "--constraint=requirements.lock", "--no-header", "--no-annotate"]
        direct += [f"--python-version={CONDA_PYTHON}", "--python-platform=linux"]
        pins = subprocess.run([*uv, *direct], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    peer = ROOT / "benchmarks" / "requirements.lock"
    hashed = re.sub(BY_VERSION_ALONE, "", peer.read_text(encoding="utf-8"), flags=re.MULTILINE)
    peer.write_text(hashed, encoding="utf-8")
    pins = re.sub(r"^", "      - ", pins.rstrip(), flags=re.MULTILINE) + "\n"
    (ROOT / "environment.yml").write_text(ENVIRONMENT % pins, encoding="utf-8")


if __name__ == "__main__":
    main()
