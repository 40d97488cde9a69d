"""All data and the packages of single lessons, brought while a reader reads. `make lab` starts it; it may be killed.

What it does, it writes to a log in the checkout, which it holds locked while it is at work. It waits for whoever else
makes the same data, and goes on where an earlier one ended.
"""

import os
import subprocess
import sys
from pathlib import Path

from mmkit.commands.prepare import prepare
from mmkit.ground import settings, sources

LOG = Path("build", "data.log")  # in the checkout


def main() -> int:
    """Brings everything; returns 1 if something could not be had, else 0. What it prints is the log."""
    os.nice(19)  # a lesson that runs meanwhile comes first
    names = sources.names()
    try:
        for count, name in enumerate(names, 1):
            sources.fetch(name, progress=False)
            print(f"fetched {count} of {len(names)}: {name}", flush=True)
        prepare([])
    except (sources.SourceError, settings.SettingError) as error:
        print(f"stopped: {error}", flush=True)
        return 1
    extras = [sys.executable, "tools/bootstrap.py", "extra"]
    if subprocess.run(extras, check=False).returncode:
        print("stopped: packages of single lessons are missing (above)", flush=True)
        return 1
    print("everything is here", flush=True)
    return 0


def at_work(log: Path) -> bool:
    """Whether the process that writes `log` is still at work."""
    try:
        import fcntl

        with open(log, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows, which has no `make lab`; no log
        pass
    return False


if __name__ == "__main__":
    sys.exit(main())
