"""`make lab`: JupyterLab on the first lesson, once that lesson's own data is there. All other data comes meanwhile.

The data comes in a process of its own, at the lowest priority, which writes what it does to build/data.log. It ends
with JupyterLab, may be killed at any time, and the next `make lab` goes on where it was. With MMKIT_OFFLINE=1 it is not
started.
"""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from nbformat.sign import NotebookNotary
from nbtools.course import Course
from nbtools.project import Problem, Project, read

from mmkit.commands.background import LOG, at_work
from mmkit.ground import settings

SETTINGS = {  # of JupyterLab, for this start alone
    "ServerApp.root_dir": "{root}",  # so that links from a lesson to a data card or to CONTRIBUTING.md open
    "LabApp.default_url": "/lab/tree/{first}",
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
    trust(course.project)
    data = None if settings.offline() else bring_all(root)
    words = {"root": root, "first": course.project.relative(first)}
    given = [f"--{name}={value.format(**words)}" for name, value in SETTINGS.items()]
    lab = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *given, *options], cwd=root)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # JupyterLab has it too, and asks whether to stop
    signal.signal(signal.SIGTERM, lambda *_: lab.terminate())
    try:
        return lab.wait()
    finally:
        if data and data.poll() is None:
            os.killpg(data.pid, signal.SIGTERM)  # with the pip that it may have started


def trust(project: Project) -> None:
    """Signs the stored outputs as this user's own: else JupyterLab does not show the drawings before they are run."""
    try:
        notary = NotebookNotary()
        Path(notary.data_dir).mkdir(parents=True, exist_ok=True)
        for path in project.notebooks():
            notary.sign(read(path))
    except OSError:  # the user's own folder cannot be written: the drawings appear once they are run
        pass


def bring_all(root: Path) -> subprocess.Popen | None:
    """Begins to bring all data, and says so; None if another `make lab` already does, or it cannot be written."""
    log = root / LOG
    told = f"`tail {LOG}` and `.venv/bin/python -m mmkit doctor` tell how far it is."
    print(f"The other lessons' data comes in the background: {told}", flush=True)
    if at_work(log):
        return None
    try:
        log.parent.mkdir(exist_ok=True)
        with open(log, "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held as long as the process has the file, for `at_work`
            return subprocess.Popen(
                [sys.executable, "-m", "mmkit.commands.background"],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TQDM_DISABLE": "1"},
                start_new_session=True,  # Control-C in the terminal is JupyterLab's
            )
    except OSError as error:
        print(f"It does not: {log} cannot be written ({error.strerror}).", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
