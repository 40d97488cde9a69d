"""Set-up: the virtual environment of the kit, made from a hash-pinned lock. The Makefile calls it; so can you.

    python3 tools/bootstrap.py               the environment .venv, with the kit in it
    python3 tools/bootstrap.py colab         the environment .venv-colab, with Colab's versions and without the kit
    python3 tools/bootstrap.py jax           the environment .venv-jax, with JAX beside the packages, without the kit
    python3 tools/bootstrap.py bench         the environment .venv-bench, with PyTorch beside the kit's packages
    python3 tools/bootstrap.py extra drift   the packages of an extra of pyproject.toml as well, or of all extras
    python3 tools/bootstrap.py notebook 04   whether there is a notebook 04

Nothing but Python with its venv module is needed. What is missing is said in one line, with its remedy. A ready
environment is left as it is, with no look at the network. One that is not ready is made afresh, so a killed set-up
does no harm; of two started at once, the second waits for the first. (Python 3.6 can read this file, to be refused.)
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
DISK_GB = 6  # an environment takes 3 GB, and pip holds up to 2 GB more while it makes one
STAMP = "mmkit-stamp"  # a file in the environment: says that it is ours, and once it is ready, what it was made from
ALWAYS = ("lab", "test")  # the extras that every .venv has
LOCKS = {  # of the other environments; what the last file of `bench` names comes by its version, with no hash
    "colab": ["tests/colab/requirements.lock"],
    "jax": ["tests/on_jax/requirements.lock"],
    "bench": ["benchmarks/requirements.lock", "benchmarks/requirements.in"],
}

# What pip says when it fails, and what to do about it; the first that fits.
REMEDIES = {
    "No space left": "the disk is full: free 6 GB, then try again",
    "DO NOT MATCH THE HASHES": "a download is not the file that the lock names: try again; if it fails again, ask who "
    "runs your package index or proxy",
    "Retrying (Retry": "pip cannot reach its package index: go online, or set your network's proxy or index with "
    "`pip config`, then try again",
    "from versions:": "pip finds no such package for this machine: on Windows use WSL, else try another Python from "
    "3.11 to 3.13 with PYTHON=python3.12",
}


class SetupError(Exception):
    """What is missing and its remedy, in one line."""


def main(arguments):
    name = " ".join(arguments)
    if arguments[:1] == ["notebook"]:
        check_notebook(name[len("notebook ") :])
    elif arguments[:1] == ["extra"]:
        set_up(".venv", ["requirements.lock"], kit=True, extras=arguments[1:] or [""])
    elif name in LOCKS:
        set_up(f".venv-{name}", LOCKS[name], kit=False)
    elif not name:
        set_up(".venv", ["requirements.lock"], kit=True)
    else:
        raise SetupError(f"bootstrap.py knows {', '.join(LOCKS)}, `extra NAME` and `notebook NN`, not `{name}`")


def check_notebook(number):
    numbers = sorted(path.name.partition("_")[0] for path in (ROOT / "notebooks").rglob("[0-9]*_*.ipynb"))
    if number not in numbers:
        last = numbers[-1] if numbers else "04"
        sys.exit(f"There is no notebook NB={number}: choose one of {', '.join(numbers)}, as in `make run NB={last}`.")


def set_up(venv, locks, kit, extras=()):
    """Makes the environment `venv` hold what the files `locks` name, the kit if `kit`, and `extras` ("": all)."""
    venv, locks = ROOT / venv, [ROOT / name for name in locks]
    lacks = missing(venv, locks, kit)
    if not lacks and not extras:
        return
    check_python()
    try:
        with open(f"{venv}.lock", "w") as turn:
            wait_for(turn)
            lacks = missing(venv, locks, kit)  # perhaps nothing any more: another set-up had its turn
            if lacks == "packages":
                make(venv, locks, kit, turn)
            if lacks == "kit":
                install_locked(venv, turn, chosen(), "--no-deps")  # pyproject.toml may share them out otherwise
            if lacks and kit:
                # What builds the kit is among the packages, so this needs no network.
                install(venv, turn, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
                write_stamp(venv, [*read_stamp(venv)[:3], digest(PROJECT)])
            for extra in extras:
                install_locked(venv, turn, chosen(extra), "--no-deps", "--quiet")
    except OSError as error:
        file = error.filename or venv
        raise SetupError(
            f"cannot write {file} ({error.strerror}): make the folder writable or free space, then try again"
        )


def missing(venv, locks, kit):
    """What the environment lacks: "packages" (then it is made afresh), "kit", or nothing: ""."""
    made_from = read_stamp(venv)
    if made_from[:2] != packages(venv, locks) or not runs(venv / "bin" / "python"):
        return "packages"
    if "PYTHON" in os.environ and made_from[2] != python_version():  # which Python matters to those who name one
        return "packages"
    return "kit" if kit and made_from[3:] != [digest(PROJECT)] else ""


def read_stamp(venv):
    try:
        return (venv / STAMP).read_text().split("\n")
    except OSError:
        return []


def write_stamp(venv, lines):
    (venv / f"{STAMP}.new").write_text("\n".join(lines))
    (venv / f"{STAMP}.new").replace(venv / STAMP)


def packages(venv, locks):
    return [str(venv), "".join(map(digest, locks))]  # its place, for an environment that is moved no longer works


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def python_version():
    return "%d.%d" % sys.version_info[:2]


def check_python():
    if os.name == "nt":
        raise SetupError("set-up needs Linux or macOS: on Windows, work inside WSL (README.md tells how)")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fault = "old" if sys.version_info[:2] < OLDEST else "new"
        found = [name for name in ("python3.13", "python3.12", "python3.11") if runs(name)]
        remedy = f"add PYTHON={found[0]} to the command" if found else "install Python 3.11, 3.12 or 3.13"
        raise SetupError(f"Python {python_version()} is too {fault}, the kit needs 3.11 to 3.13: {remedy}")


def runs(python):
    try:
        return (
            subprocess.run([str(python), "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
            == 0
        )
    except OSError:
        return False


def wait_for(turn):
    import fcntl  # Windows has none, and is turned away before it comes here

    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another set-up is at work: waiting for it.", flush=True)
        fcntl.flock(turn, fcntl.LOCK_EX)


def make(venv, locks, kit, turn):
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError:
        version = python_version()
        raise SetupError(
            f"Python {version} has no venv module: install it (Debian and Ubuntu: `sudo apt install "
            f"python{version}-venv`), then try again"
        )
    if venv.is_dir() and any(venv.iterdir()) and not read_stamp(venv):
        raise SetupError(f"{venv} is not this kit's own: move it away, then try again")
    old = Path(f"{venv}.old")
    shutil.rmtree(old, ignore_errors=True)
    if venv.is_dir():
        print("The environment is unfinished or out of date: making it again.")
        venv.rename(old)  # first, so that being killed while removing it leaves no part of it here
        shutil.rmtree(old, ignore_errors=True)
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < DISK_GB:
        raise SetupError(f"this disk has {free:.1f} GB free, the kit's packages need {DISK_GB}: free some")

    print(f"Making {venv} with Python {python_version()}: one to three minutes, longer on a slow network.", flush=True)
    venv.mkdir()
    write_stamp(venv, ["unfinished"])
    command([sys.executable, "-m", "venv", str(venv)], turn)
    install_locked(venv, turn, chosen() if kit else locks[0].read_text())
    for loose in locks[1:]:
        install(venv, turn, "-r", str(loose))
    write_stamp(venv, [*packages(venv, locks), python_version()])


def chosen(extra=None):
    """The entries of requirements.lock that .venv begins with; those that `extra` adds to them, or all extras if ""."""
    import tomllib  # new in Python 3.11

    table = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    groups = table["project"]["optional-dependencies"]
    extras = {name: lines for name, lines in groups.items() if name not in ALWAYS}
    if extra and extra not in extras:
        raise SetupError(f"pyproject.toml has no extra {extra}: choose one of {', '.join(sorted(extras))}")
    entries = re.split(r"^(?=\w)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    name = {entry: entry.partition("==")[0] for entry in entries}
    needs = {}  # of each package those that it asks for, by what the lock says under `via`
    for entry in entries:
        for above in re.findall(r"^ +#(?: via)? +([\w.-]+)", entry, re.MULTILINE):
            needs.setdefault(above, set()).add(name[entry])

    def closed(lines):
        found, new = set(), {re.match(r"[\w.-]+", line)[0] for line in lines}
        while new:
            found |= new
            new = set().union(*(needs.get(one, ()) for one in new)) - found
        return found

    wanted = closed(
        sum((groups[one] for one in ALWAYS), table["project"]["dependencies"] + table["dependency-groups"]["build"])
    )
    if extra is not None:
        wanted = closed(extras[extra] if extra else sum(extras.values(), [])) - wanted
    return "".join(entry for entry in entries if name[entry] in wanted)


def install_locked(venv, turn, text, *options):
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "requirements.txt"
        lock.write_text(text, encoding="utf-8")
        install(venv, turn, "--require-hashes", "-r", str(lock), *options)


def install(venv, turn, *words):
    # -I: whatever PYTHONPATH says, it is this environment's pip, and it sees this environment alone.
    pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--retries=2"]
    command([*pip, *([] if sys.stdout.isatty() else ["--quiet"]), *words], turn)


def command(words, turn):
    # The child holds our turn too: if we are killed and it is not, the next set-up waits until it has ended.
    environment = dict(os.environ, PIP_USER="0")
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "universal_newlines": True}
    done = subprocess.run(words, cwd=str(ROOT), env=environment, pass_fds=[turn.fileno()], **pipes)
    if done.returncode:
        said = done.stderr
        remedy = [text for sign, text in REMEDIES.items() if sign in said]
        lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines() or ["nothing"]
        raise SetupError(remedy[0] if remedy else f"`{' '.join(words)}` failed: {lines[-1]}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"Set-up stopped: {error}.")
    except KeyboardInterrupt:
        sys.exit("Set-up stopped half-way: type the same again, and it starts afresh.")
