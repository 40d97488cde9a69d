"""`make test-colab`: the kit with Colab's packages, brought there the way Colab brings it.

Makes `.venv-colab` with Colab's versions and without the kit, and runs in it (a) the fast tests, (b) two
notebooks, each copied alone into an empty folder, where the notebook's own Setup cell installs the kit. After that
nothing but the kit may have come or changed: Colab has loaded NumPy before the first cell, so a change to its
packages would force the learner to restart.

    python tests/colab/run.py          all of that
    python tests/colab/run.py --find   only says which Python 3.13 it would use
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mmkit

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tools")]

from elsewhere import ROOT, run_tests, set_up  # noqa: E402
from nbtools.project import Project  # noqa: E402

COLAB = ROOT / ".venv-colab" / "bin" / "python"
NOTEBOOKS = ("1.1", "2.1")
KIT = "mmkit-course"


def main() -> None:
    python = find_python()
    if sys.argv[1:] == ["--find"]:
        print(python)
        return
    set_up("colab", python)
    remove_kit()  # a run that was killed may have left it there
    before = packages()

    print("The fast tests, with Colab's packages:", flush=True)
    run_tests(COLAB, "-m", "not slow")

    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for number in NOTEBOOKS:
            print(f"Lesson {number}, the way Colab opens it: ", end="", flush=True)
            try:
                run_as_colab(Project(ROOT).find(number), wheel)
                check_change(before, packages())
            finally:
                remove_kit()
            print("right.")
    print(f"Colab's packages: {len(NOTEBOOKS)} notebooks ran, and nothing but the kit was installed.")


def find_python() -> str:
    """The Python 3.13 to use: the one that PYTHON313 names, one on the PATH, or one of pyenv's."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob("3.13.*/bin/python"))
    named = os.environ.get("PYTHON313")
    for python in [named] if named else ["python3.13", *map(str, pyenv)]:
        command = [python, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 13))"]
        if shutil.which(python) and subprocess.run(command, capture_output=True).returncode == 0:
            return python
    fault = f"PYTHON313={named} is no Python 3.13" if named else "Colab has Python 3.13, and it is not here"
    sys.exit(f"{fault}: install it, or say where it is: make test-colab PYTHON313=/path/to/python3.13")


def packages() -> set[str]:
    command = [COLAB, "-m", "pip", "freeze", "--all"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def check_change(before: set[str], after: set[str]) -> None:
    """Ends the run with an error unless the kit is all that `after` has more or other than `before`."""
    gone, come = sorted(before - after), sorted(after - before)
    if gone or [line.split("==")[0].split(" @ ")[0] for line in come] != [KIT]:
        (ROOT / ".venv-colab" / "mmkit-stamp").write_text("unfinished")  # it is Colab's no longer: make it again
        sys.exit(f"The notebook changed Colab's packages. Gone: {gone or 'none'}. Come: {come or 'none'}.")


def remove_kit() -> None:
    subprocess.run([COLAB, "-m", "pip", "uninstall", "--quiet", "--yes", KIT], check=True, capture_output=True)


def build_wheel(folder: Path) -> Path:
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True)
    return next(folder.glob("*.whl"))


def run_as_colab(path: Path, wheel: Path) -> None:
    """Executes a copy of the notebook in an empty folder, with the environment as Colab has it."""
    colab = {
        "COLAB_RELEASE_TAG": "release-colab-test",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # this ipykernel's debugger would talk about itself
        "MMKIT_SOURCE": str(wheel),
        "MMKIT_CACHE": str(mmkit.cache_dir()),  # the user's, so that data is not brought a second time
    }
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        execute = [COLAB, "-m", "nbconvert", "--to=notebook", "--execute", "--stdout", "--log-level=ERROR"]
        execute += ["--ExecutePreprocessor.timeout=300", path.name]
        subprocess.run(execute, check=True, cwd=folder, env=rest | colab, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the command has said what was wrong
