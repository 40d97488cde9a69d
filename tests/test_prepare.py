"""`python -m mmkit prepare`: all is brought once, and then known to be there without loading TensorFlow."""

import json
import shutil
from types import SimpleNamespace

import faults
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow  # noqa: F401

    from mmkit import __main__, datasets
    from mmkit.commands import prepare as preparation
    from mmkit.ground import settings, sources

ALONE = """
import sys
from mmkit import __main__
status = __main__.main(sys.argv[1:])
print([name for name in ("tensorflow", "keras", "tensorflow_datasets") if name in sys.modules])
sys.exit(status)
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of two data sets and two sources that are quickly made; `did` holds what was done for them."""
    did, fetched = [], set()

    def build(name):
        did.append(f"build {name}")
        folder = tmp_path / "tfds" / name / settings.data_profile() / "1.0.0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_text(name)
        return folder

    def fetch(name, progress):
        did.append(f"fetch {name}")
        fetched.add(name)

    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    for variable in ("TFDS_DATA_DIR", "MMKIT_PROFILE", "MMKIT_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(datasets, "names", lambda: ["one", "two"])
    monkeypatch.setattr(datasets, "build", build)
    monkeypatch.setattr(preparation, "_digest", lambda: "today's")
    monkeypatch.setattr(sources, "names", lambda: ["wheel", "weights"])
    monkeypatch.setattr(sources, "fetch", fetch)
    monkeypatch.setattr(sources, "is_fetched", lambda name: name in fetched)

    def prepare(*names):
        did.clear()
        preparation.prepare(list(names))
        return list(did)

    return SimpleNamespace(prepare=prepare, fetched=fetched, folder=tmp_path / "tfds")


ALL = ["fetch wheel", "fetch weights", "build one", "build two"]


def test_everything_once(course, capsys):
    assert course.prepare() == ALL
    assert "one/small: " in capsys.readouterr().out
    assert course.prepare() == []
    assert capsys.readouterr().out == f"everything: ready in {settings.cache_dir()}\n"
    assert course.prepare("two") == course.prepare("two", "one") == []


def test_a_part_is_not_everything(course):
    assert course.prepare("two") == ["build two"]
    assert course.prepare("two") == []
    assert course.prepare("one", "two") == ["build one", "build two"]
    assert course.prepare("one", "two") == []
    assert course.prepare() == ALL


@pytest.mark.parametrize("damage", ["shorter", "gone", "folder gone"])
def test_damaged_data_is_not_ready(course, damage):
    course.prepare()
    file = course.folder / "one" / "small" / "1.0.0" / "data"
    if damage == "shorter":
        file.write_text("o")
    elif damage == "gone":
        file.unlink()
    else:
        shutil.rmtree(file.parent)
    assert course.prepare("two") == []
    assert course.prepare() == ALL
    assert course.prepare() == []


def test_everything_wants_the_sources_too(course):
    course.prepare()
    course.fetched.remove("weights")
    assert course.prepare("one") == []
    assert course.prepare() == ALL


def test_another_kit_looks_again(course, monkeypatch):
    course.prepare()
    monkeypatch.setattr(preparation, "_digest", lambda: "tomorrow's")
    assert course.prepare("one") == ["build one"]
    assert course.prepare("two") == ["build two"]  # the old note says nothing any more


def test_the_digest_is_of_the_builders_and_the_sources(monkeypatch):
    now = preparation._digest()
    assert now == preparation._digest()
    listed = dict(list(sources._listed().items())[1:])
    monkeypatch.setattr(sources, "_listed", lambda: listed)
    assert preparation._digest() != now


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '"x"', '{"digest": "today\'s", "everything": 1, "files": {}}'])
def test_a_note_that_is_none(course, note):
    course.prepare()
    (course.folder / ".prepared-small.json").write_text(note)
    assert course.prepare() == ALL
    assert course.prepare() == []


def test_a_note_that_somebody_edited(course):
    course.prepare()
    (course.folder / ".prepared-small.json").write_text(
        json.dumps({"digest": "today's", "everything": True, "files": {"one": 7}})
    )
    assert course.prepare() == ALL


def test_profiles_have_notes_of_their_own(course, monkeypatch):
    course.prepare()
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    brought = []
    monkeypatch.setattr(preparation, "_download_weights", lambda: brought.append(True))
    assert course.prepare() == ["build one", "build two"]  # from public data sets, without the sources
    assert course.prepare() == [] and brought == [True]


def test_weights_of_the_full_profile_that_do_not_come(course, monkeypatch):
    def fail():
        raise ConnectionError("no route to host")

    from mmkit import pretrained

    monkeypatch.setenv("MMKIT_PROFILE", "full")
    monkeypatch.setattr(pretrained, "text_backbone", fail)
    with pytest.raises(sources.SourceError, match="weights did not come .ConnectionError.: connect this machine"):
        course.prepare()
    assert not (course.folder / ".prepared-full.json").exists()


def test_offline_with_something_missing_is_one_line(course, monkeypatch, capsys):
    def offline(name, progress):
        raise sources.SourceError(f"{name} is not in the cache and MMKIT_OFFLINE is set: unset it")

    monkeypatch.setattr(sources, "fetch", offline)
    assert __main__.main(["prepare"]) == 1
    assert capsys.readouterr().err == "mmkit: wheel is not in the cache and MMKIT_OFFLINE is set: unset it\n"


def test_a_folder_that_cannot_be_written_to(course, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(preparation.os, "replace", refuse)
    assert course.prepare() == course.prepare() == ALL  # no note, no harm
    assert [path.name for path in course.folder.glob(".prepared*")] == []


def test_what_is_ready_needs_no_tensorflow(tmp_path):
    digits = sources.fetch("mnist-5k")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / digits.name).symlink_to(digits)
    loaded = []
    for _ in range(2):
        child = faults.run("-c", ALONE, "prepare", "digits", env=faults.environment(tmp_path, MMKIT_OFFLINE="1"))
        assert child.returncode == 0, child.stderr
        loaded.append(child.stdout.splitlines()[-1])
    assert "tensorflow" in loaded[0] and loaded[1] == "[]" and child.stderr == ""
    assert child.stdout.startswith(f"digits: ready in {tmp_path}")
