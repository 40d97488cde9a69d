"""Set-up: the virtual environment of the kit, made from a hash-pinned lock. The Makefile calls it; so can you.

    python3 tools/bootstrap.py               the environment .venv, with the kit in it
    python3 tools/bootstrap.py colab         the environment .venv-colab, with Colab's versions and without the kit
    python3 tools/bootstrap.py jax           the environment .venv-jax, with JAX beside the packages, without the kit
    python3 tools/bootstrap.py bench         the environment .venv-bench, with PyTorch beside the kit's packages
    python3 tools/bootstrap.py extra drift   the packages of an extra of pyproject.toml as well, or of all extras

Nothing but Python with its venv module is needed. What is missing is said in one line, with its remedy. A ready
environment is left as it is, with no look at the network. One that is not ready is made afresh, so a killed set-up
does no harm; of two started at once, the second waits for the first. (Python 3.6 can read this file, to be refused.)
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
PYTHON = "{}.{}".format(*sys.version_info)
ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
DISK_GB = 6  # an environment takes 3 GB, and pip holds up to 2 GB more while it makes one
STAMP = "mmkit-stamp"  # a file in the environment: says that it is ours, and once it is ready, what it was made from
ALWAYS = ("lab", "test")  # the extras that every .venv has
LOCKS = {  # of each environment; what the last file of `bench` names comes by its version, with no hash
    "": ["requirements.lock"],
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


def main(name="", *extras):
    if name == "extra":
        set_up("", extras or ("",))
    elif name in LOCKS and not extras:
        set_up(name)
    else:
        raise SetupError(f"bootstrap.py knows {', '.join(filter(None, LOCKS))} and `extra NAME`, not `{name}`")


def set_up(name, extras=()):
    """Makes the environment `name` hold what its locks name, the kit where the name is "", and `extras` ("": all)."""
    venv, locks = ROOT / (f".venv-{name}" if name else ".venv"), [ROOT / lock for lock in LOCKS[name]]
    lacks = missing(venv, locks)
    if not lacks and not extras:
        return
    check_python()
    try:
        with open(f"{venv}.lock", "w") as turn:
            wait_for(turn)
            lacks = missing(venv, locks)  # perhaps nothing any more: another set-up had its turn
            if lacks == "packages":
                make(venv, locks)
            if lacks == "kit":
                install_locked(venv, chosen())  # pyproject.toml may share them out otherwise
            if lacks and not name:
                # What builds the kit is among the packages, so this needs no network.
                run([pip(venv, "--no-index", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))])
                write_jupyter(venv)
                write_stamp(venv, *read_stamp(venv)[:3], kit(venv))
            for extra in extras:
                install_locked(venv, chosen(extra))
    except OSError as error:
        what = f"{error.filename or venv} ({error.strerror})"
        raise SetupError(f"cannot write {what}: make the folder writable or free space, then try again") from None


def missing(venv, locks):
    """What the environment lacks: "packages" (then it is made afresh), "kit", or nothing: ""."""
    made_from = read_stamp(venv)
    if made_from[:2] != packages(venv, locks) or not runs(venv / "bin" / "python"):
        return "packages"
    if "PYTHON" in os.environ and made_from[2] != PYTHON:  # which Python matters to those who name one
        return "packages"
    return "kit" if venv.name == ".venv" and made_from[3:] != [kit(venv)] else ""


def read_stamp(venv):
    return (venv / STAMP).read_text().split("\n") if (venv / STAMP).exists() else []


def write_stamp(venv, *lines):
    (venv / STAMP).write_text("\n".join(lines))


def packages(venv, locks):
    return [str(venv), "".join(map(digest, locks))]  # its place, for an environment that is moved no longer works


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kit(venv):
    """A digest of what the kit's part of .venv is made from: the kit itself is in the checkout, and not copied."""
    return hashlib.sha256(PROJECT.read_bytes() + json.dumps(jupyter(venv)).encode()).hexdigest()


def jupyter(venv):
    """What differs from Jupyter's own files: the lessons' kernel, whose name says in a list of kernels which one has
    the kit; and a JupyterLab that does not first of all ask whether it may fetch news."""
    start = [str(venv / "bin" / "python"), str(ROOT / "tools" / "kernel.py"), "-f", "{connection_file}"]
    return {
        "kernels/python3/kernel.json": {"argv": start, "display_name": "Python 3 (mmkit)"},
        "lab/settings/overrides.json": {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}},
    }


def write_jupyter(venv):
    for name, changes in jupyter(venv).items():
        path = venv / "share" / "jupyter" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(dict(old, **changes), indent=1))


def check_python():
    if os.name == "nt":
        raise SetupError("set-up needs Linux or macOS: on Windows, work inside WSL (README.md tells how)")
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        fault = "old" if sys.version_info[:2] < OLDEST else "new"
        found = [name for name in ("python3.13", "python3.12", "python3.11") if runs(name)]
        remedy = f"add PYTHON={found[0]} to the command" if found else "install Python 3.11, 3.12 or 3.13"
        raise SetupError(f"Python {PYTHON} is too {fault}, the kit needs 3.11 to 3.13: {remedy}")
    if not find_spec("venv") or not find_spec("ensurepip"):
        remedy = f"install it (Debian and Ubuntu: `sudo apt install python{PYTHON}-venv`), then try again"
        raise SetupError(f"Python {PYTHON} has no venv module: {remedy}")


def runs(python):
    try:
        return not subprocess.call([str(python), "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False


def wait_for(turn):
    import fcntl  # Windows has none, and is turned away before it comes here

    os.set_inheritable(turn.fileno(), True)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another set-up is at work: waiting for it.", flush=True)
        fcntl.flock(turn, fcntl.LOCK_EX)


def make(venv, locks):
    if venv.is_dir() and any(venv.iterdir()) and not read_stamp(venv):
        raise SetupError(f"{venv} is not this kit's own: move it away, then try again")
    if venv.is_dir():
        print("The environment is unfinished or out of date: making it again.")
        old = Path(f"{venv}.old")
        shutil.rmtree(old, ignore_errors=True)  # of a set-up that was killed
        venv.rename(old)  # first, so that being killed while removing it leaves no part of it here
        shutil.rmtree(old, ignore_errors=True)
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < DISK_GB:
        raise SetupError(f"this disk has {free:.1f} GB free, the kit's packages need {DISK_GB}: free some")

    print(f"Making {venv} with Python {PYTHON}: one to three minutes, longer on a slow network.", flush=True)
    venv.mkdir()
    write_stamp(venv, "unfinished")
    run([[sys.executable, "-m", "venv", str(venv)]])
    install_locked(venv, chosen() if venv.name == ".venv" else locks[0].read_text())
    for loose in locks[1:]:
        run([pip(venv, "-r", str(loose))], Progress(venv, 0))
    write_stamp(venv, *packages(venv, locks), PYTHON)


def chosen(extra=None):
    """The entries of requirements.lock that .venv begins with; those that `extra` adds to them, or all extras if ""."""
    import tomllib  # new in Python 3.11

    table = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    extras = table["project"]["optional-dependencies"]
    asked = table["project"]["dependencies"] + table["dependency-groups"]["build"]
    asked += sum(map(extras.pop, ALWAYS), [])
    if extra and extra not in extras:
        raise SetupError(f"pyproject.toml has no extra {extra}: choose one of {', '.join(sorted(extras))}")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = []  # each with the name of its package and, by what the lock says under `via`, those that ask for it
    for entry in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]:
        above = set(re.findall(r"^ +#(?: via)? +([\w.-]+)", entry, re.MULTILINE))
        entries.append((entry.partition("==")[0], above, entry))

    def closed(lines):
        found, new = set(), {re.match(r"[\w.-]+", line)[0] for line in lines}
        while new:
            found |= new
            new = {name for name, above, _ in entries if above & new} - found
        return found

    wanted = closed(asked)
    if extra is not None:
        wanted = closed(extras[extra] if extra else sum(extras.values(), [])) - wanted
    return "".join(entry for name, _, entry in entries if name in wanted)


def install_locked(venv, text):
    """Installs what the lock entries in `text` name. A lock is complete, so nothing is worked out any more, and two
    pips share the work: one takes what is slow, TensorFlow and the one package that has to be built, as all else is."""
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    first = [entry for entry in entries if entry.startswith("pip==")]  # no pip may replace another that is at work
    slow = [entry for entry in entries if entry.startswith(("tensorflow==", "promise=="))]
    rest = [entry for entry in entries if entry not in first + slow]
    for turn in ([first], [slow, rest]):
        commands = []
        for number, share in enumerate(filter(None, turn)):
            listed = venv / f"requirements-{number}.txt"
            listed.write_text("".join(share), encoding="utf-8")
            commands.append(pip(venv, "--require-hashes", "--no-deps", "-r", str(listed)))
        run(commands, Progress(venv, len(entries)))


def pip(venv, *words):
    # -I: whatever PYTHONPATH says, it is this environment's pip, and it sees this environment alone. What it installs
    # is compiled when it is first imported: most of it never is.
    start = [str(venv / "bin" / "python"), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--retries=2"]
    return start + ["--no-compile", "--progress-bar=off"] + list(words)


class Progress:
    """Says how many of `total` packages are in an environment: in one line on a terminal, else every ten seconds."""

    def __init__(self, venv, total):
        self.venv, self.total = venv, total
        self.terminal = sys.stdout.isatty()
        self.start, self.told, self.before, self.length = time.time(), time.time(), self.count(), 0
        self.fetched, self.now = 0, ""

    def count(self):
        return len(list(self.venv.glob("lib/*/site-packages/*.dist-info")))

    def hear(self, line):
        """Takes note of a line that a pip says."""
        found = re.match(r"\s*(Downloading|Using cached) (\S+?)-\d\S* (\(.*\))", line)
        if line.startswith(("Collecting ", "Processing ")):
            self.fetched += 1
        elif line.startswith("Ignoring "):  # of another system or Python
            self.total -= 1
        elif found:
            self.now = f": {found.group(2)} {found.group(3)}"
        elif line.startswith("Installing collected"):
            self.now = ""

    def tell(self):
        if time.time() - self.told < (0.5 if self.terminal else 10):
            return
        self.told = time.time()
        there = max(0, self.count() - self.before)
        of = f"{self.fetched} of {self.total}" if self.total else str(self.fetched)
        line = f"  {self.told - self.start:3.0f} s: {of} packages fetched, {there} installed{self.now}"
        print("\r" + line.ljust(self.length) if self.terminal else line, end="" if self.terminal else "\n", flush=True)
        self.length = len(line)

    def end(self):
        if self.terminal and self.length:
            print("\r" + " " * self.length, end="\r", flush=True)


def run(commands, progress=None):
    """Runs the commands at once, and ends all when one fails."""
    # The children hold our turn too (close_fds): if we are killed and they are not, the next set-up waits for them.
    how = {"cwd": str(ROOT), "env": dict(os.environ, PIP_USER="0"), "close_fds": False, "stdin": subprocess.DEVNULL}
    how.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    running = [subprocess.Popen(words, **how) for words in commands]
    complaints = ["" for _ in running]

    def listen(number, process):
        for line in process.stdout:
            if progress:
                progress.hear(line)

    def collect(number, process):
        complaints[number] = process.stderr.read()

    ears = [
        threading.Thread(target=ear, args=(number, process), daemon=True)
        for number, process in enumerate(running)
        for ear in (listen, collect)
    ]
    try:
        for ear in ears:
            ear.start()
        while any(process.poll() is None for process in running) and not any(process.poll() for process in running):
            time.sleep(0.1)
            if progress:
                progress.tell()
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
        for process in running:
            process.wait()
        for ear in ears:
            ear.join()
        if progress:
            progress.end()
    for words, process, said in zip(commands, running, complaints):
        if process.returncode > 0:
            remedy = [text for sign, text in REMEDIES.items() if sign in said]
            lines = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines() or ["nothing"]
            raise SetupError(remedy[0] if remedy else f"`{' '.join(words)}` failed: {lines[-1]}")
    if any(process.returncode for process in running):
        raise SetupError("pip was ended from outside: try again")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SetupError as error:
        sys.exit(f"Set-up stopped: {error}.")
    except KeyboardInterrupt:
        sys.exit("Set-up stopped half-way: type the same again, and it starts afresh.")
