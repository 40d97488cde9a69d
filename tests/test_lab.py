"""`make lab`: the first lesson's data, JupyterLab, and all other data in the background."""

import os
import signal
import subprocess
import time
from types import SimpleNamespace

import lab
import pytest

from mmkit.commands import background
from mmkit.ground import sources


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Calls `make lab` with nothing that it starts started: what it brought first, and each command."""
    told = SimpleNamespace(brought=[], commands=[], log=tmp_path / "data.log")

    def start(command, **_):
        told.commands.append([str(word) for word in command])
        return SimpleNamespace(wait=lambda: 7, poll=lambda: 0)

    alone = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(lab, "subprocess", alone)  # in that module alone: others start processes too
    monkeypatch.setattr(lab, "signal", SimpleNamespace(**vars(signal) | {"signal": lambda *_: None}))
    monkeypatch.setattr(lab.Course, "bring_for", lambda self, lessons: told.brought.extend(lessons))
    monkeypatch.setattr(lab, "LOG", told.log)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv("MMKIT_OFFLINE", raising=False)
    return told


def test_the_first_lesson_is_opened_with_its_data(started, capsys):
    assert lab.main(["--no-browser"]) == 7, "JupyterLab's exit status"
    assert [lesson.path.name for lesson in started.brought] == ["0_start_here.ipynb"]
    data, jupyter = started.commands
    assert data[1:] == ["-m", "mmkit.commands.background"] and "in the background" in capsys.readouterr().out
    assert jupyter[1:4] == ["-m", "jupyter", "lab"] and jupyter[-1] == "--no-browser"
    assert f"--ServerApp.root_dir={lab.Project().root}" in jupyter
    assert "--LabApp.default_url=/lab/tree/notebooks/0_start_here.ipynb" in jupyter


def test_drawings_are_shown_before_they_are_run(course, lesson, monkeypatch, tmp_path):
    """JupyterLab shows SVG in a notebook only if this user has signed it, by running it or here."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    assert not lab.notary().check_signature(lab.read(lesson))
    lab.trust(course)
    assert lab.notary().check_signature(lab.read(lesson))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(lesson / "no" / "folder"))
    lab.trust(course)  # which says nothing, and JupyterLab starts


def test_offline_nothing_comes_in_the_background(started, monkeypatch, capsys):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    lab.main([])
    assert len(started.commands) == 1 and "background" not in capsys.readouterr().out


def test_without_its_data_the_lesson_is_opened_all_the_same(started, monkeypatch, capsys):
    def fail(self, lessons):
        raise lab.Problem("`mmkit fetch espeak` failed")

    monkeypatch.setattr(lab.Course, "bring_for", fail)
    assert lab.main([]) == 7 and "starts all the same" in capsys.readouterr().err


def test_one_background_at_a_time_which_may_be_killed(monkeypatch, tmp_path):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\necho begun\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(lab.sys, "executable", str(slow))
    log = tmp_path / lab.LOG
    first = lab.bring_all(tmp_path)
    try:
        assert background.at_work(log) and lab.bring_all(tmp_path) is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    until = time.monotonic() + 60
    while background.at_work(log) and time.monotonic() < until:  # its child holds the log until it, too, has ended
        time.sleep(0.01)
    assert not background.at_work(log)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "build").write_text("a file")
    assert lab.bring_all(tmp_path) is None
    assert "cannot be written" in capsys.readouterr().err


@pytest.fixture
def brought(monkeypatch):
    """Calls the background with sources and packages that only note that they were asked for."""
    did = []

    def call(fails: str = "") -> tuple[int, list[str]]:
        def fetch(name, progress):
            did.append(name)
            if name == fails:
                raise sources.SourceError(f"{name}: no network")

        monkeypatch.setattr(sources, "names", lambda: ["one", "two"])
        monkeypatch.setattr(sources, "fetch", fetch)
        monkeypatch.setattr(background, "prepare", lambda names: did.append("data sets"))
        status = 1 if fails == "extras" else 0
        done = subprocess.CompletedProcess([], status)
        monkeypatch.setattr(background.subprocess, "run", lambda command, **_: did.append("extras") or done)
        monkeypatch.setattr(background.os, "nice", lambda by: None)
        return background.main(), did

    return call


def test_the_background_brings_everything_and_counts(brought, capsys):
    assert brought() == (0, ["one", "two", "data sets", "extras"])
    lines = ["fetched 1 of 2: one", "fetched 2 of 2: two", "everything is here"]
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("fails, did", [("one", ["one"]), ("extras", ["one", "two", "data sets", "extras"])])
def test_what_stops_the_background_is_its_last_line(brought, capsys, fails: str, did: list[str]):
    assert brought(fails) == (1, did)
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped: ")


def test_the_log_is_where_git_does_not_look():
    ignored = (lab.Project().root / ".gitignore").read_text(encoding="utf-8").split()
    assert f"/{background.LOG.parts[0]}/" in ignored
