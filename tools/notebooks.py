"""The notebooks' tools: run, store, check and list them. `python tools/notebooks.py COMMAND --help` says more."""

import argparse
import os
import sys
from pathlib import Path

from nbtools import author, links, overview
from nbtools.course import Course
from nbtools.project import Problem, Project, number, read, replace


def main(arguments: list[str] | None = None, project: Project | None = None) -> int:
    """Runs one command; returns the exit status."""
    project = project or Project()
    options = _parser().parse_args(arguments)
    try:
        return options.command(project, options)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what was stored before stays, all else is as it was", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notebooks.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: object, text: str, notebooks: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if notebooks:
            sub.add_argument("notebooks", nargs=notebooks, metavar="NB", help="a number, as in 04, or a path")
        return sub

    add("run", run, "execute notebooks without changing them, and write HTML pages", "+").add_argument(
        "--twice", action="store_true", help="each cell twice: does a second run have the same effect?"
    )
    stored = add("store", store, "execute notebooks, clean them and store their outputs", "*")
    stored.add_argument("--stale", action="store_true", help="all that are stale, one after another")
    add("stale", stale, "list the stale lessons, with the reason")
    add("new", new, "begin a notebook").add_argument("path", type=Path, help="its name, 03_data_pipelines, or its path")
    add("student", student, "write copies without solutions", "*")
    add("lint", lint_notebooks, "check notebooks against the house's rules", "*")
    add("map", write_map, "write notebooks/README.md").add_argument("--check", action="store_true")
    add("links", update_links, "lead buttons and Setup cells to the repository").add_argument(
        "--repository", metavar="URL", help="move to this address first"
    )
    return parser


def _chosen(project: Project, names: list[str]) -> list[Path]:
    return [project.find(name) for name in names] if names else project.notebooks()


def run(project: Project, options: argparse.Namespace) -> int:
    from nbtools.execute import page

    for path in _chosen(project, options.notebooks):
        course = Course(project)
        course.bring_for([course.lesson(path)])
        nb = read(path)
        measured = author.run(project, nb, path, twice=options.twice)
        if options.twice:
            print(f"{path.stem}: {_took(measured)}: each cell ran twice")
            continue
        target = project.build / "html" / f"{path.stem}.html"
        replace(target, page(nb, overview.title(nb)))
        print(f"{path.stem}: {_took(measured)}: {project.relative(target)}")
    return 0


def store(project: Project, options: argparse.Namespace) -> int:
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
            print(f"{path.stem}: {_took(measured)}: stored in {project.relative(path)}")
            for finding in lint(project, path):
                print(finding)
            replace(overview.map_path(project), overview.overview(project))
        except Problem as problem:
            print(problem, file=sys.stderr)
            failed += 1
    return 1 if failed else 0


def stale(project: Project, options: argparse.Namespace) -> int:
    for lesson in Course(project).lessons():
        if lesson.stale:
            edition = " (first edition: it may be)" if lesson.first_edition else ""
            print(f"{lesson.path.stem}: stale {lesson.stale}{edition}")
        elif lesson.looks_changed:
            print(f"{lesson.path.stem}: not stale, but its plots or checks may look another way")
    return 0


def new(project: Project, options: argparse.Namespace) -> int:
    path = options.path
    if path.parent == Path() and not path.suffix:  # a bare name: the plan knows the folder
        row = project.planned.get(number(path))
        path = project.folder / (row.folder if row else "") / f"{path.name}.ipynb"
    author.new(project, path)
    print(f"{project.relative(path)}: edit it, then store it")
    return 0


def student(project: Project, options: argparse.Namespace) -> int:
    for path in _chosen(project, options.notebooks):
        print(project.relative(author.student(project, path)))
    return 0


def lint_notebooks(project: Project, options: argparse.Namespace) -> int:
    from nbtools.lint import lint, lint_plan

    paths = _chosen(project, options.notebooks)
    findings = [finding for path in paths for finding in lint(project, path)]
    findings += [] if options.notebooks else lint_plan(project)
    print(*findings, f"{len(paths)} notebooks, {len(findings)} findings", sep="\n")
    return 1 if findings else 0


def write_map(project: Project, options: argparse.Namespace) -> int:
    path, fresh = overview.map_path(project), overview.overview(project)
    current = path.is_file() and path.read_text(encoding="utf-8") == fresh
    if options.check:
        if not current:
            raise Problem("notebooks/README.md is not current: run `make map`")
        return 0
    if not current:
        replace(path, fresh)
    print(f"{project.relative(path)}: {'already current' if current else 'written'}")
    return 0


def update_links(project: Project, options: argparse.Namespace) -> int:
    for path in links.update(project, options.repository):
        print(f"{project.relative(path)}: rewritten")
    print(f"all addresses lead to {project.repository}")
    return 0


def _took(measured: author.Measured) -> str:
    return f"{measured.seconds:.0f} s, {measured.peak_memory_mb:,.0f} MB of memory at most"


if __name__ == "__main__":
    sys.exit(main())
