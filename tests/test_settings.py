"""The switches, and imports without noise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmkit
from mmkit.ground import settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MMKIT_")]:
        monkeypatch.delenv(name)


def test_defaults():
    assert (mmkit.seed(), mmkit.profile(), settings.offline()) == (0, "small", False)
    assert mmkit.by_profile(small=1, long=2, full=3) == 1
    assert mmkit.cache_dir() == Path(mmkit.__file__).resolve().parents[1] / "data" / "cache"


def test_set(monkeypatch):
    monkeypatch.setenv("MMKIT_SEED", "4294967295")
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    assert (mmkit.seed(), mmkit.profile(), settings.offline()) == (2**32 - 1, "full", True)
    assert mmkit.by_profile(small=1, long=2, full=3) == 3


@pytest.mark.parametrize(
    "variable, values, read",
    [
        ("MMKIT_SEED", ["abc", "1.5", "-1", "", "4294967296", "²"], settings.seed),
        ("MMKIT_PROFILE", ["big", "", "Small"], settings.profile),
        ("MMKIT_OFFLINE", ["yes", "2"], settings.offline),
        ("MMKIT_STATIC", ["yes", "2"], settings.static),
    ],
)
def test_set_wrongly(monkeypatch, variable, values, read):
    for value in values:
        monkeypatch.setenv(variable, value)
        with pytest.raises(settings.SettingError, match=f"{variable} is '.*': set it to .*, or unset it") as error:
            read()
        assert isinstance(error.value, ValueError) and "\n" not in str(error.value)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path / "here"))
    assert mmkit.cache_dir() == tmp_path / "here" and not (tmp_path / "here").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMKIT_CACHE", "below")
    assert mmkit.cache_dir() == tmp_path / "below"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MMKIT_CACHE", "~/mine")
    assert mmkit.cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("MMKIT_CACHE", "")  # as good as unset
    monkeypatch.setattr(settings, "checkout", lambda: None)  # installed from a wheel
    assert mmkit.cache_dir() == tmp_path / ".cache" / "mmkit"


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


NOISE = "import os, mmkit\nwith mmkit.quiet_imports():\n    os.write(2, b'noise')\n    os.write(1, b'kept')\n"


def test_quiet_imports_hold_back_what_native_code_writes():
    child = run(NOISE + "os.write(2, b'after')")
    assert (child.returncode, child.stdout, child.stderr) == (0, "kept", "after")


def test_quiet_imports_tell_all_if_an_import_fails():
    child = run(NOISE + "    import no_such_module")
    assert child.returncode == 1
    assert child.stderr.startswith("noise") and "ModuleNotFoundError" in child.stderr


def test_importing_the_kit_is_light():
    child = run("import sys, mmkit; print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])")
    assert child.stdout == "[]\n", child.stderr


def test_long_trains_longer_on_the_same_data(monkeypatch):
    assert mmkit.data_profile() == "small"
    monkeypatch.setenv("MMKIT_PROFILE", "long")
    assert mmkit.by_profile(small=1, long=4, full=9) == 4 and mmkit.data_profile() == "small"
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    assert mmkit.data_profile() == "full"
    with pytest.raises(TypeError, match="long"):
        mmkit.by_profile(small=1, full=2)
