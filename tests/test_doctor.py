"""The doctor says each fault in one line with its remedy, and its exit status says whether a lesson would stop."""

import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata

import pytest

from mmkit.commands import background, doctor
from mmkit.ground import settings, sources


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Every test has an empty cache, no settings of the user's, and no Keras configuration."""
    for name in ("MMKIT_OFFLINE", "MMKIT_PROFILE", "MMKIT_SEED", "KERAS_BACKEND", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "cache"


def prepare(cache, name="digits/small"):
    (cache / "tfds" / name / "1.0.0").mkdir(parents=True)
    (cache / "tfds" / name / "1.0.0" / "dataset_info.json").touch()


def only(findings, state):
    """The one finding in this state; each that is not right has a remedy, and every one is one line."""
    for finding in findings:
        assert bool(finding.remedy) == (finding.state != doctor.RIGHT)
        assert "\n" not in str(finding)
    (found,) = [finding for finding in findings if finding.state == state]
    return found


def installed(monkeypatch, **versions):
    """Makes the named packages look installed at these versions (None: not at all); all others are as they are."""
    true_version = metadata.version

    def version(name):
        if versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or true_version(name)

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize("version", [(3, 10, 1), (3, 14, 0)])
def test_another_python(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert "needs 3.11 to 3.13" in only(doctor._python(), doctor.WRONG).text


def test_this_python():
    assert only(doctor._python(), doctor.RIGHT)


@pytest.mark.parametrize("name", ["MMKIT_SEED", "MMKIT_PROFILE", "MMKIT_OFFLINE"])
def test_a_setting_that_means_nothing(monkeypatch, name):
    monkeypatch.setenv(name, "perhaps")
    finding = only(doctor._settings(), doctor.WRONG)
    assert name in finding.text and "set it to" in finding.remedy
    if name != "MMKIT_SEED":  # whoever needs the setting leaves it at that, and says no more
        assert doctor._data() == []


def test_the_other_mmkit(monkeypatch):
    installed(monkeypatch, mmkit="0.0.1a0")
    finding = only(doctor._kit(), doctor.WRONG)
    assert "unrelated package" in finding.text and "uninstall mmkit" in finding.remedy


def test_no_other_mmkit(monkeypatch):
    installed(monkeypatch, mmkit=None)
    assert only(doctor._kit(), doctor.RIGHT)


def test_no_pip(monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "No module")
    )
    assert "ensurepip" in only(doctor._pip(), doctor.WRONG).remedy


def test_packages_missing_old_and_new(monkeypatch):
    needs = ["keras<3.16,>=3.13", "numpy>=2.1", "pillow", "tensorflow<2.22,>=2.20"]
    monkeypatch.setattr(doctor, "_requirements", lambda: needs)
    installed(monkeypatch, keras="3.16.0", numpy="1.26.4", pillow=None, tensorflow="2.20.0")
    findings = doctor._packages()
    assert [finding.about for finding in findings if finding.state == doctor.WRONG] == ["keras", "numpy", "pillow"]
    assert all("pip install" in finding.remedy for finding in findings if finding.state == doctor.WRONG)
    assert only(findings, doctor.RIGHT).text == "tensorflow 2.20.0"


def test_the_kit_without_its_packages(monkeypatch):
    monkeypatch.setattr(doctor, "_requirements", lambda: [])
    assert "install the kit" in only(doctor._packages(), doctor.WRONG).remedy


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("3.13.0", ">=3.13,<3.16", True),
        ("3.15.99", "<3.16,>=3.13", True),
        ("3.16.0", "<3.16,>=3.13", False),
        ("3.9", ">=3.13", False),  # as numbers, not as text
        ("2.21.0rc1", ">=2.20", True),
        ("1", "", True),
    ],
)
def test_ranges(version, wanted, fits):
    assert doctor._fits(version, wanted) is fits


def test_the_requirements_are_those_of_the_project(monkeypatch):
    checkout = settings.checkout()
    if not checkout:
        pytest.skip("the kit does not run from a checkout")

    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", not_installed)
    names = [line.split(">")[0] for line in doctor._requirements()]
    assert {"keras", "tensorflow", "tqdm"} <= set(names)


def test_another_keras_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    finding = only(doctor._keras_settings(), doctor.WRONG)
    assert "backend is jax" in finding.text and finding.remedy == "unset KERAS_BACKEND"


@pytest.mark.parametrize(
    "change", [{"backend": "torch"}, {"image_data_format": "channels_first"}, {"floatx": "float16"}]
)
def test_another_keras_configuration(tmp_path, change):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(change))
    finding = only(doctor._keras_settings(), doctor.WRONG)
    assert "keras.json" in finding.remedy and str(*change.values()) in finding.text


def test_keras_as_it_comes():
    assert only(doctor._keras_settings(), doctor.RIGHT)


@pytest.mark.parametrize(
    ("trial", "about", "word"),
    [
        (
            "import os, json; print(json.dumps({'trying': 'tensorflow'}), flush=True); os.abort()",
            "tensorflow",
            "crashes",
        ),
        ("import json; print(json.dumps({'trying': 'numpy'})); import no_such", "numpy", "No module named 'no_such'"),
    ],
)
def test_a_library_that_does_not_load(monkeypatch, trial, about, word):
    monkeypatch.setattr(doctor, "_TRIAL", trial)
    finding = only(doctor._libraries(), doctor.WRONG)
    assert finding.about == about and word in finding.text


def test_libraries_that_hang(monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "do not load" in only(doctor._libraries(), doctor.WRONG).text


def test_accelerators(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor._accelerator(0).state == doctor.RIGHT  # no GPU is no fault
    assert "2 GPUs" in doctor._accelerator(2).text
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "and-cuda" in only([doctor._accelerator(0)], doctor.NOTE).remedy


def test_little_memory(monkeypatch):
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 500_000}[name])
    assert "2.0 GB" in only(doctor._memory(), doctor.WRONG).text


def fail_to_write(dir):
    raise OSError(30, "Read-only file system")


def test_a_cache_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", fail_to_write)
    finding = only(doctor._cache(), doctor.WRONG)
    assert "Read-only" in finding.text and "MMKIT_CACHE" in finding.remedy


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 10**12, 10**8))
    assert "0.1 GB free" in only(doctor._cache(), doctor.WRONG).text


def test_who_has_the_data_needs_no_room_for_it(monkeypatch, empty_cache):
    prepare(empty_cache)
    monkeypatch.setattr(sources, "is_fetched", lambda name: True)
    monkeypatch.setattr(tempfile, "TemporaryFile", fail_to_write)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**12, 10**12, 10**8))
    findings = doctor._cache()
    assert [finding.state for finding in findings] == [doctor.RIGHT] * 2 and "only be read" in findings[0].text


def test_a_cache_in_good_order(empty_cache):
    assert {finding.state for finding in doctor._cache()} == {doctor.RIGHT}
    assert not empty_cache.exists()  # a look changes nothing


def test_no_data_yet():
    findings = doctor._data()
    assert [finding.state for finding in findings] == [doctor.NOTE, doctor.NOTE]  # a lesson fetches them
    assert "-m mmkit fetch" in findings[0].remedy and "-m mmkit prepare" in findings[1].remedy


def test_no_data_and_no_network(monkeypatch):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    assert "MMKIT_OFFLINE" in only(doctor._data(), doctor.WRONG).remedy


def test_prepared_data_and_no_network(monkeypatch, empty_cache):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    prepare(empty_cache)
    findings = doctor._data()
    assert only(findings, doctor.NOTE).about == "sources"
    assert only(findings, doctor.RIGHT).text == "prepared: digits/small"


def test_all_data(monkeypatch, empty_cache):
    monkeypatch.setattr(sources, "is_fetched", lambda name: True)
    prepare(empty_cache)
    prepare(empty_cache, "av_digits/small")
    assert [finding.state for finding in doctor._data()] == [doctor.RIGHT, doctor.RIGHT]


def test_data_that_comes_in_the_background(monkeypatch, tmp_path, empty_cache):
    monkeypatch.setattr(settings, "checkout", lambda: tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(sources, "names", lambda: ["mnist-5k", "espeak", "openmoji"])
    monkeypatch.setattr(sources, "is_fetched", lambda name: name == "espeak")
    log = tmp_path / background.LOG
    assert doctor._background() == []
    with open(log, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "1 of 3 sources" in only(doctor._background(), doctor.RIGHT).text
    assert doctor._background() == []
    log.write_text("fetched 1 of 3: espeak\nstopped: openmoji: pip cannot reach its package index\n")
    finding = only(doctor._background(), doctor.NOTE)
    assert "cannot reach its package index" in finding.text and "make data" in finding.remedy


def right():
    return [doctor.Finding(doctor.RIGHT, "sky", "blue")]


def noted():
    return [doctor.Finding(doctor.NOTE, "sky", "grey", "take a coat")]


def broken():
    raise RuntimeError("no sky")


def test_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (right, noted))
    assert doctor.main() == 0
    assert "note   sky: grey -> take a coat" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", (right, broken, noted))
    assert doctor.main() == 1  # a check that fails is a fault itself, and the others still have their say
    assert "no sky" in (out := capsys.readouterr().out) and "take a coat" in out


def test_without_the_packages(tmp_path):
    """With no package at all, neither NumPy nor those that the kit itself needs, it reports and does not fall."""
    command = [sys.executable, "-S", "-m", "mmkit", "doctor"]  # -S: a Python without its site-packages
    root = settings.__file__.rsplit("/", 3)[0]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env={"MMKIT_CACHE": str(tmp_path)})
    assert done.returncode == 1 and done.stderr == ""
    assert "wrong  tensorflow: not installed" in done.stdout or "wrong  packages:" in done.stdout
    assert "report this" not in done.stdout


@pytest.mark.slow
def test_on_this_machine():
    done = subprocess.run([sys.executable, "-m", "mmkit", "doctor"], capture_output=True, text=True)
    assert "right  libraries:" in done.stdout and "right  packages:" in done.stdout, done.stdout + done.stderr
