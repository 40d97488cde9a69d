"""What is right and what is wrong on this machine: `python -m mmkit doctor`.

Each check returns findings, one line each; what is not right carries its remedy. It loads neither TensorFlow nor NumPy
itself, but tries them in a process of their own, so that it has its say when they are missing, broken or crash.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mmkit.ground import settings

KIT = "mmkit-course"
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
DISK_GB = 1.0  # the small data sets, with room to prepare them
MEMORY_GB = 3.0  # what one lesson may take

RIGHT, NOTE, WRONG = "right", "note", "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "right", "note" (not right, but every lesson runs) or "wrong" (would stop a lesson).
        about: what was looked at.
        text: what was found.
        remedy: what to do about it; "" if it is right.
    """

    state: str
    about: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<5}  {self.about}: {self.text}" + (f" -> {self.remedy}" if self.remedy else "")


def main() -> int:
    """Prints the report; returns 1 if something would stop a lesson, else 0."""
    wrong = 0
    for check in CHECKS:
        try:
            findings = check()
        except Exception as error:  # a doctor that falls ill is no help: say it, and go on
            name = check.__name__.strip("_")
            findings = [Finding(WRONG, name, f"the check failed ({error!r})", "report this as a fault of the kit")]
        for finding in findings:
            print(finding, flush=True)
            wrong += finding.state == WRONG
    print(f"{wrong} of these would stop a lesson." if wrong else "Nothing here would stop a lesson.")
    return 1 if wrong else 0


def _python() -> list[Finding]:
    version, place = sys.version.split()[0], sys.prefix
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return [Finding(RIGHT, "Python", f"{version}, in {place}")]
    remedy = "set the kit up again with Python 3.11, 3.12 or 3.13, as in `make setup PYTHON=python3.12`"
    return [Finding(WRONG, "Python", f"{version}, and the kit needs 3.11 to 3.13", remedy)]


def _settings() -> list[Finding]:
    findings = []
    for name, read in (("seed", settings.seed), ("profile", settings.profile), ("offline", settings.offline)):
        try:
            findings.append(f"{name} {read()}")
        except ValueError as error:
            text, remedy = str(error).split(": ", 1)
            return [Finding(WRONG, "settings", text, remedy)]
    return [Finding(RIGHT, "settings", ", ".join(findings))]


def _kit() -> list[Finding]:
    import mmkit

    findings = [Finding(RIGHT, "kit", f"mmkit {mmkit.__version__}, in {Path(mmkit.__file__).parent}")]
    if _version("mmkit"):
        text = f"an unrelated package called `mmkit` ({_version('mmkit')}) is installed, and writes over the kit"
        again = f"`{_python_command()} -m pip uninstall mmkit`, then install the kit again (README.md tells how)"
        findings.append(Finding(WRONG, "kit", text, again))
    return findings


def _pip() -> list[Finding]:
    asked = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True)
    if asked.returncode == 0:
        return [Finding(RIGHT, "pip", asked.stdout.split(" from ")[0].removeprefix("pip "))]
    text = "missing from this Python: the kit brings its data with it"
    remedy = f"`{_python_command()} -m ensurepip` (Debian and Ubuntu: install python3-venv first)"
    return [Finding(WRONG, "pip", text, remedy)]


def _packages() -> list[Finding]:
    requirements = _requirements()
    if not requirements:
        again = "install the kit again (README.md tells how)"
        return [Finding(WRONG, "packages", "the kit is not installed, so its packages are not known", again)]
    findings, right = [], []
    for requirement in requirements:
        name, wanted = re.match(r"([\w.-]+)(.*)", requirement.replace(" ", "")).groups()
        version = _version(name)
        remedy = f'`{_python_command()} -m pip install "{name}{wanted}"`, or set the kit up again'
        if not version:
            findings.append(Finding(WRONG, name, "not installed", remedy))
        elif not _fits(version, wanted):
            findings.append(Finding(WRONG, name, f"{version}, and the kit needs {wanted}", remedy))
        else:
            right.append(f"{name} {version}")
    return findings + ([Finding(RIGHT, "packages", ", ".join(right))] if right else [])


def _requirements() -> list[str]:
    """What the kit needs, as in "keras<3.16,>=3.13": from its installation, or from the checkout it runs from."""
    try:
        lines = metadata.requires(KIT) or []
    except metadata.PackageNotFoundError:
        folder = settings.checkout()
        if not folder:
            return []
        lines = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return sorted(line for line in lines if ";" not in line)  # the rest is for developers


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, wanted: str) -> bool:
    """Whether `version` is in a range such as ">=3.13,<3.16"."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)[:3]]

    parts = [part for part in wanted.split(",") if part]
    return all(numbers(version) >= numbers(p) if p.startswith(">=") else numbers(version) < numbers(p) for p in parts)


def _keras_settings() -> list[Finding]:
    """Whether Keras is set as the lessons need it, by `KERAS_BACKEND` or the user's keras.json."""
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Keras goes on without it, too
        found = {}
    variable = os.environ.get("KERAS_BACKEND")
    found |= {"backend": variable} if variable else {}
    findings = []
    for name, value in {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}.items():
        if found.get(name, value) != value:
            remedy = "unset KERAS_BACKEND" if name == "backend" and variable else f'write "{name}": "{value}" in {file}'
            text = f"its {name} is {found[name]}, and the lessons need {value}"
            findings.append(Finding(WRONG, "Keras", text, remedy))
    return findings or [Finding(RIGHT, "Keras", "set as the lessons need it")]


# Run in a process of its own: each line says what is tried next, the last what was found.
_TRIAL = """
import importlib, json
for name in ("numpy", "tensorflow", "keras", "keras_hub"):
    print(json.dumps({"trying": name}), flush=True)
    importlib.import_module(name)
import tensorflow
print(json.dumps({"gpus": len(tensorflow.config.list_physical_devices("GPU"))}))
"""


def _libraries() -> list[Finding]:
    """Whether NumPy, TensorFlow, Keras and KerasHub load, and which accelerator they find."""
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}  # another backend is said above
    command = [sys.executable, "-c", _TRIAL]
    try:
        tried = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        text = "TensorFlow and Keras do not load within five minutes"
        return [Finding(WRONG, "libraries", text, "close other programs or restart the machine, then try again")]
    said = [json.loads(line) for line in tried.stdout.splitlines() if line.startswith('{"')]
    if tried.returncode:
        return [_broken(said[-1]["trying"] if said else "Python", tried.returncode, tried.stderr)]
    text = "NumPy, TensorFlow, Keras and KerasHub can be imported"
    return [Finding(RIGHT, "libraries", text), _accelerator(said[-1]["gpus"])]


def _broken(name: str, status: int, stderr: str) -> Finding:
    if status < 0:
        remedy = "this processor may lack instructions that it is built with: use another machine, or Colab"
        return Finding(WRONG, name, f"crashes when it is imported (signal {-status})", remedy)
    lines = stderr.strip().splitlines()
    errors = [line for line in lines if re.match(r"\w*Error\b", line)] or lines or ["no word"]
    return Finding(WRONG, name, f"cannot be imported ({errors[-1]})", "set the kit up again (README.md tells how)")


def _accelerator(gpus: int) -> Finding:
    if gpus:
        return Finding(RIGHT, "accelerator", f"TensorFlow sees {gpus} GPU{'s' if gpus > 1 else ''}")
    if shutil.which("nvidia-smi"):
        remedy = f'`{_python_command()} -m pip install "tensorflow[and-cuda]=={_version("tensorflow")}"`'
        return Finding(NOTE, "accelerator", "there is an NVIDIA driver, but TensorFlow sees no GPU", remedy)
    return Finding(RIGHT, "accelerator", "no GPU; every lesson runs without one")


def _memory() -> list[Finding]:
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):  # not every system tells
        return []
    if gigabytes < MEMORY_GB:
        text = f"{gigabytes:.1f} GB, and a lesson may take {MEMORY_GB:g} GB"
        return [Finding(WRONG, "memory", text, "use a larger machine, or Colab")]
    return [Finding(RIGHT, "memory", f"{gigabytes:.1f} GB")]


def _cache() -> list[Finding]:
    """Where the data lies, whether there is room to write it, and what of it is there."""
    cache = settings.cache_dir()
    complete = _missing_sources() == [] and bool(_data_sets())  # then neither room nor the right to write is needed
    findings = []
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
        findings.append(Finding(RIGHT, "cache", f"{cache} can be written"))
    except OSError as error:
        if complete:
            findings.append(Finding(RIGHT, "cache", f"{cache} can only be read, and has all the data"))
        else:
            elsewhere = "set MMKIT_CACHE to a folder that you may write to"
            findings.append(Finding(WRONG, "cache", f"{cache} cannot be written ({error.strerror})", elsewhere))
    free = shutil.disk_usage(place).free / 1e9
    if free < DISK_GB and not complete:
        remedy = "free some space, or set MMKIT_CACHE to a folder on another disk"
        findings.append(Finding(WRONG, "disk", f"{free:.1f} GB free for data, and it needs {DISK_GB:g} GB", remedy))
    else:
        findings.append(Finding(RIGHT, "disk", f"{free:.1f} GB free for data"))
    return findings


def _data() -> list[Finding]:
    """Which sources and data sets are there. What is missing, a lesson brings itself, if it may use the network."""
    missing, data_sets = _missing_sources(), _data_sets()
    if missing is None or _settings()[0].state == WRONG:
        return []  # another check has said what is wrong
    profile = settings.data_profile()
    here = [name for name in data_sets if name.endswith(f"/{profile}")]
    findings = []
    if missing:
        remedy = f"`{_python_command()} -m mmkit fetch {' '.join(missing)}`"
        state, text = NOTE, f"not fetched yet: {', '.join(missing)}"
        if settings.offline():
            remedy = "unset MMKIT_OFFLINE, or copy the cache of a machine that has them"
            state = NOTE if here else WRONG  # a prepared data set needs its sources no more
            text += ", and MMKIT_OFFLINE forbids to fetch them"
        findings.append(Finding(state, "sources", text, remedy))
    else:
        findings.append(Finding(RIGHT, "sources", "all fetched"))
    if here:
        findings.append(Finding(RIGHT, "data sets", f"prepared: {', '.join(data_sets)}"))
    else:
        prepare = f"`{_python_command()} -m mmkit prepare`"
        findings.append(Finding(NOTE, "data sets", f"none is prepared in profile {profile}", prepare))
    return findings


def _background() -> list[Finding]:
    """How far the data is that `make lab` brings in the background."""
    folder = settings.checkout()
    if not folder or (missing := _missing_sources()) is None:
        return []
    from mmkit.commands import background
    from mmkit.ground import sources

    log = folder / background.LOG
    count = len(sources.names())
    if background.at_work(log):
        text = f"on its way: {count - len(missing)} of {count} sources are fetched, then the data sets are made ({log})"
        return [Finding(RIGHT, "background", text)]
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    if lines and lines[-1].startswith("stopped: "):
        text = f"bringing the data {lines[-1]}"
        return [Finding(NOTE, "background", text, "`make data` when that is put right")]
    return []


def _missing_sources() -> list[str] | None:
    """The sources that are not fetched; None if packages are missing that are needed to know."""
    try:
        from mmkit.ground import sources
    except ImportError:
        return None
    return [name for name in sources.names() if not sources.is_fetched(name)]


def _data_sets() -> list[str]:
    """The prepared data sets, as in "digits/small"."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or settings.cache_dir() / "tfds")
    return sorted({"/".join(path.parts[-4:-2]) for path in folder.glob("*/*/[0-9]*/dataset_info.json")})


def _python_command() -> str:
    """How the reader starts this Python, for the remedies."""
    folder = settings.checkout()
    python = Path(sys.executable)
    return str(python.relative_to(folder)) if folder and folder in python.parents else str(python)


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _python, _settings, _kit, _pip, _packages, _keras_settings, _libraries, _memory, _cache, _data, _background,
)  # fmt: skip
