"""What the tests of faults share: child processes that are killed, kept from writing, or have a full disk."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(cache: Path, **more: str) -> dict[str, str]:
    """The environment of a child: the kit of this checkout, `cache` as its cache, no settings of the user's."""
    ours = ("MMKIT_", "PIP_", "TFDS_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    nothing = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    return kept | nothing | {"MMKIT_CACHE": str(cache), "PYTHONPATH": str(ROOT)} | more


def run(*arguments: object, **options) -> subprocess.CompletedProcess:
    """Runs Python with these arguments to its end; what it says is text."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def start(*arguments: object, **options) -> subprocess.Popen:
    """Starts Python with these arguments, as the leader of a process group of its own; its output goes nowhere."""
    command = [sys.executable, *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet | options)


def wait_until(happened: Callable[[], object], seconds: float = 60) -> None:
    """Returns as soon as `happened()` is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"still not after {seconds} seconds"
        time.sleep(0.02)


def kill(child: subprocess.Popen, *, group: bool = False) -> None:
    """Kills the child, or all of its group, with no chance to clean up."""
    (os.killpg if group else os.kill)(child.pid, signal.SIGKILL)
    child.wait()


def obey_modes() -> None:
    """For `preexec_fn`: root, too, may only write where a folder's mode allows it."""
    drop_from_bounding_set, dac_override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


def full_disk(limit: int) -> Callable[[], None]:
    """For `preexec_fn`: no file may grow beyond `limit` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def one_line(child: subprocess.CompletedProcess) -> str:
    """The error that a command ended with: exit status 1, one line that begins with "mmkit:", no traceback."""
    assert child.returncode == 1, child.stderr
    assert "Traceback" not in child.stderr
    lines = child.stderr.replace("\r", "\n").splitlines()
    (line,) = [line for line in lines if line.startswith("mmkit:") and "loading" not in line and "waiting" not in line]
    return line
