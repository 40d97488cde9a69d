"""The notebooks' tools: run, store, check and list them. `python tools/notebooks.py COMMAND --help` says more."""

import argparse
import os
import sys
from pathlib import Path

from nbtools import author, front, links, overview, records
from nbtools.course import Course
from nbtools.project import Problem, Project, replace


def main(arguments: list[str] | None = None, project: Project | None = None) -> int:
    """Runs one command; returns the exit status."""
    project = project or Project()
    options = _parser().parse_args(arguments)
    try:
        return options.command(project, options) or 0
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what was stored before stays, all else is as it was", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notebooks.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    subs = {}
    for name, command in COMMANDS.items():
        subs[name] = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        subs[name].set_defaults(command=command)
    for name, count in {"run": "+", "store": "*", "student": "*", "lint": "*", "seeds": "*", "long": "*"}.items():
        subs[name].add_argument("notebooks", nargs=count, metavar="NB", help="a number, as in 2.1")
    for name in ("seeds", "long"):
        subs[name].add_argument("--part", nargs="+", default=[], metavar="PART", help="all lessons of these parts")
    subs["store"].add_argument("--stale", action="store_true", help="all that are stale, one after another")
    subs["new"].add_argument("name", metavar="NAME", help="its name, such as 2.04_fusion_transformer")
    subs["links"].add_argument("--repository", metavar="URL", help="move to this address first")
    subs["links"].add_argument("--tag", metavar="NAME", help="lead to this tag of a release, or to a branch")
    return parser


def _chosen(project: Project, names: list[str]) -> list[Path]:
    return [project.find(name) for name in names] if names else project.notebooks()


def run(project: Project, options: argparse.Namespace) -> None:
    """Executes notebooks without changing them, and writes HTML pages."""
    from nbtools.page import page

    course = Course(project)
    for path in _chosen(project, options.notebooks):
        lesson = course.lesson(path)
        course.bring_for([lesson])
        measured = author.run(project, lesson.nb, path)
        target = project.build / "html" / f"{path.stem}.html"
        replace(target, page(lesson.nb, overview.title(lesson.nb), links.address(project, path)))
        print(f"{path.stem}: {measured}: {project.relative(target)}")


def store(project: Project, options: argparse.Namespace) -> int:
    """Executes notebooks, cleans them and stores their outputs."""
    from nbtools.lint import lint

    course, failed = Course(project), 0
    for variable in {"MMKIT_SEED", "MMKIT_PROFILE"} & set(os.environ):
        raise Problem(f"{variable} is set, and what is stored is the default's: unset it")
    if options.stale:
        lessons = [lesson for lesson in course.lessons() if lesson.stale]
    elif not options.notebooks:
        raise Problem("no notebook is named: give its number, or --stale for all that are stale")
    else:
        lessons = [course.lesson(project.find(name)) for name in options.notebooks]
    for lesson in lessons:
        path = lesson.path
        try:
            course.bring_for([lesson])
            measured = author.store(project, path)
            print(f"{path.stem}: {measured}: stored in {project.relative(path)}")
            for finding in lint(project, path):
                print(finding)
            front.write(project)
        except Problem as problem:
            print(problem, file=sys.stderr)
            failed = 1
    return failed


def seeds(project: Project, options: argparse.Namespace) -> int:
    """Runs lessons under seeds 1 to 5, and says how far each claim stays from its bound."""
    return _under(project, options, {run: {"MMKIT_SEED": run.split()[1]} for run in records.SEEDS})


def long(project: Project, options: argparse.Namespace) -> int:
    """Runs lessons under four times the training, and says whether each claim holds there."""
    return _under(project, options, {records.LONG: {"MMKIT_PROFILE": "long"}})


def _under(project: Project, options: argparse.Namespace, runs: dict[str, dict[str, str]]) -> int:
    """Runs lessons in other settings, by the name of the record; what is on record is not run again."""
    course, failed = Course(project), 0
    lessons = [course.lesson(project.find(name)) for name in options.notebooks]
    lessons += [lesson for part in options.part for lesson in course.lessons(part) if not lesson.first_edition]
    if not lessons:
        raise Problem("no lesson is named: give its number, as in NB=2.1, or a part, as in PART=2")
    for lesson in lessons:
        if lesson.stale:
            raise Problem(f"{lesson.path.stem} is stale {lesson.stale}: store it first")
        if lesson.first_edition:
            raise Problem(f"{lesson.path.stem} is of the first edition, which has no records: make it anew first")
    for lesson in lessons:
        course.bring_for([lesson])
        problems = [author.measure(project, lesson, run, setting) for run, setting in runs.items()]
        problems = [problem for problem in problems if problem]
        print(*problems, author.report(project, lesson, list(runs)), sep="\n")
        failed |= bool(problems)
    front.write(project)
    return failed


def stale(project: Project, options: argparse.Namespace) -> None:
    """Lists the stale lessons, with the reason."""
    for lesson in Course(project).lessons():
        if lesson.stale:
            edition = " (first edition: it may be)" if lesson.first_edition else ""
            print(f"{lesson.path.stem}: stale {lesson.stale}{edition}")
        elif lesson.looks_changed:
            print(f"{lesson.path.stem}: not stale, but its plots or checks may look another way")


def new(project: Project, options: argparse.Namespace) -> None:
    """Begins a notebook."""
    print(f"{project.relative(author.new(project, options.name))}: edit it, then store it")


def student(project: Project, options: argparse.Namespace) -> None:
    """Writes copies without solutions."""
    for path in _chosen(project, options.notebooks):
        print(project.relative(author.student(project, path)))


def lint_notebooks(project: Project, options: argparse.Namespace) -> bool:
    """Checks notebooks against the house's rules."""
    from nbtools.lint import lint, lint_plan

    paths = _chosen(project, options.notebooks)
    findings = [finding for path in paths for finding in lint(project, path)]
    findings += [] if options.notebooks else lint_plan(project)
    print(*findings, f"{len(paths)} notebooks, {len(findings)} findings", sep="\n")
    return bool(findings)


def write_map(project: Project, options: argparse.Namespace) -> None:
    """Writes notebooks/README.md, and how other pages name lessons."""
    front.write(project)


def update_links(project: Project, options: argparse.Namespace) -> None:
    """Leads buttons and Setup cells to the repository."""
    for path in links.update(project, options.repository, options.tag):
        print(f"{project.relative(path)}: rewritten")
    print(f"all addresses lead to {project.repository}, {project.version}")


COMMANDS = {
    "run": run,
    "store": store,
    "stale": stale,
    "seeds": seeds,
    "long": long,
    "new": new,
    "student": student,
    "lint": lint_notebooks,
    "map": write_map,
    "links": update_links,
}


if __name__ == "__main__":
    sys.exit(main())
