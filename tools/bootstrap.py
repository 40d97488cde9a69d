"""Set-up: the virtual environment of the kit, made from a hash-pinned lock. The Makefile calls it; so can you.

    python3 tools/bootstrap.py               the environment .venv, with the kit in it
    python3 tools/bootstrap.py colab         the environment .venv-colab, with Colab's versions and without the kit
    python3 tools/bootstrap.py jax           the environment .venv-jax, with JAX beside the packages, without the kit
    python3 tools/bootstrap.py bench         the environment .venv-bench, with PyTorch beside the kit's packages
    python3 tools/bootstrap.py notebook 04   whether there is a notebook 04

Nothing but Python with its venv module is needed. What is missing is said in one line, with its remedy. A ready
environment is left as it is, with no look at the network. One that is not ready is made afresh, so a killed set-up
does no harm; of two started at once, the second waits for the first.

This file keeps to what old Pythons understand, even 2.7, so that they can run it and be refused in words.
"""

from __future__ import print_function

import glob
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROJECT = os.path.join(ROOT, "pyproject.toml")
OLDEST, NEWEST = (3, 11), (3, 13)
DISK_GB = 6  # an environment takes 3 GB, and pip holds up to 2 GB more while it makes one
STAMP = "mmkit-stamp"  # a file in the environment: says that it is ours, and once it is ready, what it was made from

# What pip says when it fails, and what to do about it; the first that fits.
REMEDIES = (
    ("No space left", "the disk is full: free 6 GB, then try again"),
    (
        "DO NOT MATCH THE HASHES",
        "a download is not the file that the lock names: try again; if it fails again, ask who "
        "runs your package index or proxy",
    ),
    (
        "Retrying (Retry",
        "pip cannot reach its package index: go online, or set your network's proxy or index with "
        "`pip config`, then try again",
    ),
    (
        "from versions:",
        "pip finds no such package for this machine: on Windows use WSL, else try another Python from "
        "3.11 to 3.13 with PYTHON=python3.12",
    ),
)


class SetupError(Exception):
    """What is missing and its remedy, in one line."""


def main(arguments):
    if arguments[:1] == ["notebook"]:
        check_notebook("".join(arguments[1:]))
    elif arguments == ["colab"]:
        set_up(".venv-colab", os.path.join("tests", "colab", "requirements.lock"), kit=False)
    elif arguments == ["jax"]:
        set_up(".venv-jax", os.path.join("tests", "on_jax", "requirements.lock"), kit=False)
    elif arguments == ["bench"]:
        loose = os.path.join("benchmarks", "requirements.in")
        set_up(".venv-bench", os.path.join("benchmarks", "requirements.lock"), kit=False, loose=loose)
    elif not arguments:
        set_up(".venv", "requirements.lock", kit=True)
    else:
        raise SetupError("bootstrap.py knows `colab`, `jax`, `bench` and `notebook NN`, not `%s`" % " ".join(arguments))


def check_notebook(number):
    paths = glob.glob(os.path.join(ROOT, "notebooks", "[0-9][0-9]_*.ipynb"))
    paths += glob.glob(os.path.join(ROOT, "notebooks", "*", "[0-9][0-9]_*.ipynb"))
    numbers = sorted(os.path.basename(path)[:2] for path in paths)
    if number not in numbers:
        raise SetupError(
            "there is no notebook NB=%s: choose one of %s, as in `make run NB=%s`"
            % (number, ", ".join(numbers), numbers[-1] if numbers else "04")
        )


def set_up(venv, lock, kit, loose=None):
    """Makes the environment `venv` hold what the file `lock` names, and the kit if `kit`; at once if it does.

    What the file `loose` names and the lock does not comes too, by its version, with no hash to check it.
    """
    venv, lock = os.path.join(ROOT, venv), [os.path.join(ROOT, name) for name in (lock, loose) if name]
    lacks = missing(venv, lock, kit)
    if not lacks:
        return
    if lacks == "packages":
        check_python()
    try:
        with open(venv + ".lock", "w") as turn:
            wait_for(turn)
            lacks = missing(venv, lock, kit)  # perhaps nothing any more: another set-up had its turn
            if lacks == "packages":
                make(venv, lock, turn)
            if lacks and kit:
                install_kit(venv, turn)
    except (IOError, OSError) as error:
        raise SetupError(
            "cannot write %s (%s): make the folder writable or free space, then try again"
            % (error.filename or venv, error.strerror)
        )


def missing(venv, lock, kit):
    """What the environment lacks: "packages" (then it is made afresh), "kit", or nothing: ""."""
    made_from = read_stamp(venv)
    if made_from[:2] != packages(venv, lock) or not runs(python_in(venv)):
        return "packages"
    if "PYTHON" in os.environ and made_from[2] != python_version():  # which Python matters to those who name one
        return "packages"
    return "kit" if kit and made_from[3:] != [digest(PROJECT)] else ""


def read_stamp(venv):
    try:
        with open(os.path.join(venv, STAMP)) as file:
            return file.read().split("\n")
    except (IOError, OSError):
        return []


def write_stamp(venv, lines):
    path = os.path.join(venv, STAMP)
    with open(path + ".new", "w") as file:
        file.write("\n".join(lines))
    os.rename(path + ".new", path)


def packages(venv, lock):
    return [venv, "".join(map(digest, lock))]  # its place, for an environment that is moved no longer works


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def python_version():
    return "%d.%d" % sys.version_info[:2]


def python_in(venv):
    return os.path.join(venv, "bin", "python")


def check_python():
    if os.name == "nt":
        raise SetupError("set-up needs Linux or macOS: on Windows, work inside WSL (README.md tells how)")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fault = "old" if sys.version_info[:2] < OLDEST else "new"
        found = [name for name in ("python3.13", "python3.12", "python3.11") if runs(name)]
        remedy = "add PYTHON=%s to the command" % found[0] if found else "install Python 3.11, 3.12 or 3.13"
        raise SetupError("Python %s is too %s, the kit needs 3.11 to 3.13: %s" % (python_version(), fault, remedy))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            "Python %s has no venv module: install it (Debian and Ubuntu: `sudo apt install "
            "python%s-venv`), then try again" % (python_version(), python_version())
        )


def runs(python):
    try:
        with open(os.devnull, "w") as nowhere:
            return subprocess.call([python, "-c", ""], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def wait_for(turn):
    import fcntl  # Windows has none, and is turned away before it comes here

    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (IOError, OSError):
        print("Another set-up is at work: waiting for it.")
        sys.stdout.flush()
        fcntl.flock(turn, fcntl.LOCK_EX)


def make(venv, lock, turn):
    if os.path.isdir(venv) and os.listdir(venv) and not read_stamp(venv):
        raise SetupError("%s is not this kit's own: move it away, then try again" % venv)
    shutil.rmtree(venv + ".old", ignore_errors=True)
    if os.path.isdir(venv):
        print("The environment is unfinished or out of date: making it again.")
        os.rename(venv, venv + ".old")  # first, so that being killed while removing it leaves no part of it here
        shutil.rmtree(venv + ".old", ignore_errors=True)
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < DISK_GB:
        raise SetupError("this disk has %.1f GB free, the kit's packages need %d: free some" % (free, DISK_GB))

    print("Making %s with Python %s: one to three minutes, longer on a slow network." % (venv, python_version()))
    sys.stdout.flush()
    os.mkdir(venv)
    write_stamp(venv, ["unfinished"])
    command([sys.executable, "-m", "venv", venv], turn)
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    install = pip_install(venv) + quiet + ["--retries", "2"]
    command(install + ["--require-hashes", "-r", lock[0]], turn)
    for loose in lock[1:]:
        command(install + ["-r", loose], turn)
    write_stamp(venv, packages(venv, lock) + [python_version()])


def install_kit(venv, turn):
    # What builds the kit is among the packages, so this needs no network.
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    command(pip_install(venv) + offline + ["--editable", ROOT], turn)
    write_stamp(venv, read_stamp(venv)[:3] + [digest(PROJECT)])


def pip_install(venv):
    # -I: whatever PYTHONPATH says, it is this environment's pip, and it sees this environment alone.
    return [python_in(venv), "-I", "-m", "pip", "install", "--disable-pip-version-check"]


def command(words, turn):
    # The child holds our turn too: if we are killed and it is not, the next set-up waits until it has ended.
    environment = dict(os.environ, PIP_USER="0")
    child = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[turn.fileno()],
        universal_newlines=True,
    )
    said = child.communicate()[1]
    if child.returncode:
        remedy = [text for sign, text in REMEDIES if sign in said]
        lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines() or ["nothing"]
        raise SetupError(remedy[0] if remedy else "`%s` failed: %s" % (" ".join(words), lines[-1]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit("Set-up stopped: %s." % error)
    except KeyboardInterrupt:
        sys.exit("Set-up stopped half-way: type the same again, and it starts afresh.")
