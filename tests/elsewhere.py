"""What `make test-colab` and `make test-jax` share: running the kit's tests in an environment other than `.venv`."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def set_up(name: str, maker: str) -> Path:
    """Has the Python `maker` make the environment `.venv-NAME` unless it is ready; returns the Python in it."""
    subprocess.run([maker, ROOT / "tools" / "bootstrap.py", name], check=True)
    return ROOT / f".venv-{name}" / "bin" / "python"


def run_tests(python: Path, *options: str, **variables: str) -> None:
    """Runs pytest with these options in the environment of `python`, on the kit of this checkout, two at a time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    subprocess.run([python, "-m", "pytest", "-n", "2", *options], check=True, cwd=ROOT, env=environment)
