"""`make test` and `make test-course`: pytest on the unit tests and on lessons, with the plugin `nbval_lessons`.

    python tests/run_lessons.py stale [--budget 30]         the unit tests, and the lessons that are stale
    python tests/run_lessons.py course [2.1] [--part 0 1]   every lesson, those named, or those of parts
    python tests/run_lessons.py course --budget 20          of the lessons that `stale` leaves out, what fits

With a budget of minutes, what does not fit is not begun: a stale lesson is then a failure, another one is listed.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from nbtools.course import USUAL_REFERENCE, Course, Lesson, reference_seconds  # noqa: E402
from nbtools.project import Problem, Project  # noqa: E402

WORKERS = 2  # lessons that are tested at once
BESIDE = 1.8  # a lesson tested beside another one, its quick cells twice, takes this much longer than stored alone
UNMEASURED = 120  # seconds of a lesson that was never stored: the rule's limit


def main(arguments: list[str] | None = None, project: Project | None = None) -> int:
    """Runs pytest; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("stale", "course"))
    parser.add_argument("notebooks", nargs="*", metavar="NB", help="a number, as in 2.1")
    parser.add_argument("--budget", type=float, metavar="MINUTES")
    parser.add_argument("--twice", action="store_true", help="slow cells a second time too, not only the quick ones")
    parser.add_argument("--part", nargs="+", default=[], help="the lessons of these parts alone, such as 3")
    options = parser.parse_args(arguments)
    course = Course(project or Project())
    try:
        return (stale if options.which == "stale" else every)(course, options)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1


def stale(course: Course, options: argparse.Namespace) -> int:
    due = [lesson for lesson in course.lessons() if lesson.must_run]
    if options.budget is not None and due:
        reference = reference_seconds()
        needed = sum(minutes(lesson, reference) for lesson in due) / WORKERS
        if needed > options.budget:
            names = ", ".join(lesson.path.stem for lesson in due)
            raise Problem(
                f"{len(due)} stale lessons take about {needed:.0f} minutes here, and {options.budget:.0f} are left: "
                f"store them with `make store STALE=1` ({names})"
            )
    return run(course, due, "tests", "--patterns")


def every(course: Course, options: argparse.Namespace) -> int:
    if options.budget is None:
        named = [course.lesson(course.project.find(name)) for name in options.notebooks]
        named += [lesson for part in options.part for lesson in course.lessons(part)]
        return run(course, named or course.lessons(), *(["--twice"] if options.twice else []))
    until = time.time() + 60 * options.budget
    return run(course, rotation(course), f"--until={until}", f"--reference={reference_seconds()}")


def rotation(course: Course) -> list[Lesson]:
    """The lessons that `stale` leaves out, from another one on after each commit."""
    lessons = [lesson for lesson in course.lessons() if not lesson.must_run]
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=course.project.root, capture_output=True, text=True)
    first = int(said.stdout, 16) % max(1, len(lessons)) if said.returncode == 0 else 0
    return lessons[first:] + lessons[:first]


def minutes(lesson: Lesson, reference: float) -> float:
    """How long a lesson's test takes at most, on a machine that needs `reference` seconds for the reference job."""
    seconds = lesson.nb.metadata.get("mmkit", {}).get("seconds", UNMEASURED)
    return BESIDE * seconds * reference / USUAL_REFERENCE / 60


def run(course: Course, lessons: list[Lesson], *options: str) -> int:
    """Runs pytest on lessons, in this order, two at a time."""
    if not lessons and "tests" not in options:
        print("no lesson is to be run: all are stale, and `make test` runs those")
        return 0
    course.bring_for(lessons)
    root = course.project.root
    command = [sys.executable, "-m", "pytest", f"-n{WORKERS}", "-rfEx", "--no-loadscope-reorder", f"--course={root}"]
    return subprocess.run([*command, *options, *(str(lesson.path) for lesson in lessons)], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
