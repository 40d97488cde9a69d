"""`python -m mmkit prepare`: all that the lessons need, brought and built ahead, so that none needs the network.

What is built is noted in a file beside the data. While the note holds, neither TensorFlow nor Keras is loaded, and
preparing again takes a fraction of a second.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import mmkit
from mmkit.ground import settings, sources


def prepare(names: list[str]) -> None:
    """Builds the data sets `names`; if that is empty, all of them, and fetches the pretrained weights.

    Raises:
        mmkit.ground.sources.SourceError: if there is no such data set, or something cannot be fetched or built.
        mmkit.ground.settings.SettingError: if a variable of the kit holds what it must not.
    """
    settings.data_profile()  # a wrong one is an error here, before the note is looked at
    everything = not names
    if is_ready(names):
        print(f"{'everything' if everything else ', '.join(names)}: ready in {settings.cache_dir()}")
        return
    if everything and settings.data_profile() == "small":
        for name in sources.names():  # each is of a data set or of pretrained weights
            sources.fetch(name, progress=sys.stderr.isatty())
    print("mmkit: loading TensorFlow", file=sys.stderr)
    with mmkit.quiet_imports():
        import tensorflow  # noqa: F401, TFDS would load it later, with all its log lines

        from mmkit import datasets

    built = {}
    for name in names or datasets.names():
        folder = datasets.build(name)
        files = folder.resolve().iterdir()
        built[name] = {path.relative_to(_root()).as_posix(): path.stat().st_size for path in files}
        print(f"{name}/{settings.data_profile()}: {folder}", flush=True)
    if everything and settings.data_profile() == "full":
        _download_weights()
    _write_note(built, everything)


def is_ready(names: list[str]) -> bool:
    """Whether the data sets `names` (if empty: all, and the weights) are there, by the note and the files' sizes."""
    note = _read_note()
    if names and not set(names) <= set(note["files"]):
        return False
    if not names and not (note["everything"] and all(_fetched())):
        return False
    try:
        files = {path: size for name in names or note["files"] for path, size in note["files"][name].items()}
        return all((_root() / path).stat().st_size == size for path, size in files.items())
    except (OSError, AttributeError, TypeError):  # the note may hold anything, if somebody edited it
        return False


def _fetched() -> list[bool]:
    """Of each source whether it is in the cache. The full profile's data sets and weights come from elsewhere."""
    return [sources.is_fetched(name) for name in sources.names()] if settings.data_profile() == "small" else []


def _root() -> Path:
    """Where TFDS keeps the data sets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or settings.cache_dir() / "tfds").expanduser().resolve()


def _note() -> Path:
    return _root() / f".prepared-{settings.data_profile()}.json"


def _digest() -> str:
    """Of all that decides what the data sets hold: another one, and a note is void."""
    digest = hashlib.sha256(json.dumps([repr(sources.source(name)) for name in sources.names()]).encode())
    for path in sorted((Path(__file__).parents[1] / "datasets").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_note() -> dict:
    try:
        note = json.loads(_note().read_text(encoding="utf-8"))
        if note["digest"] == _digest() and isinstance(note["everything"], bool) and isinstance(note["files"], dict):
            return note
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"digest": _digest(), "everything": False, "files": {}}


def _write_note(built: dict[str, dict[str, int]], everything: bool) -> None:
    note = _read_note()
    note["files"] |= built
    note["everything"] |= everything
    partial = _note().with_suffix(f".{os.getpid()}")
    try:
        partial.write_text(json.dumps(note, indent=1), encoding="utf-8")
        os.replace(partial, _note())
    except OSError:
        partial.unlink(missing_ok=True)  # a folder that cannot be written to: the next time will take seconds too


def _download_weights() -> None:
    """The full profile's weights, which Keras and keras-hub keep in caches of their own."""
    from mmkit import pretrained

    for bring in (pretrained.text_backbone, pretrained.text_preprocessor, pretrained.image_backbone):
        try:
            bring()
        except Exception as error:  # whatever their downloaders met
            raise sources.SourceError(
                f"the full profile's pretrained weights did not come ({type(error).__name__}): "
                "connect this machine to the network and try again, or unset MMKIT_PROFILE to use the small ones"
            ) from error
