"""`make lab`: JupyterLab on the first lesson, once that lesson's own data is there. All other data comes meanwhile.

The data comes in a process of its own, at the lowest priority, which writes what it does to build/data.log. It ends
with JupyterLab, may be killed at any time, and the next `make lab` goes on where it was. With MMKIT_OFFLINE=1 it is not
started.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from nbtools.course import Course
from nbtools.project import Problem, Project

from mmkit.commands.background import LOG
from mmkit.ground import settings

SETTINGS = {  # of JupyterLab, for this start alone
    "ServerApp.root_dir": "{root}",  # so that links from a lesson to a data card or to CONTRIBUTING.md open
    "LabApp.default_url": "/lab/tree/{first}",
    "LabApp.news_url": "None",  # else a beginner's first task is to say whether to get Jupyter's news
    "LabApp.check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
}


def main(options: list[str]) -> int:
    """Starts JupyterLab with `options`; returns its exit status."""
    course = Course(Project())
    root, first = course.project.root, course.project.find("0")
    try:
        print("The first lesson's data: at once, or within a minute if it has to be fetched.", flush=True)
        course.bring_for([course.lesson(first)])
    except Problem as problem:
        print(f"{problem}\nJupyterLab starts all the same.", file=sys.stderr)
    data = None if settings.offline() else bring_all(root)
    words = {"root": root, "first": course.project.relative(first)}
    given = [f"--{name}={value.format(**words)}" for name, value in SETTINGS.items()]
    lab = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *given, *options], cwd=root)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # JupyterLab has it too, and asks whether to stop
    signal.signal(signal.SIGTERM, lambda *_: lab.terminate())
    try:
        return lab.wait()
    finally:
        if data:
            data.terminate()


def bring_all(root: Path) -> subprocess.Popen:
    """Begins to bring all data, and says so."""
    log = root / LOG
    log.parent.mkdir(exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        data = subprocess.Popen(
            [sys.executable, "-m", "mmkit.commands.background"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TQDM_DISABLE": "1"},
            start_new_session=True,  # Control-C in the terminal is JupyterLab's
        )
    print(f"The other lessons' data comes in the background: {LOG} and `python -m mmkit doctor` tell how far it is.")
    return data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
