"""The repository's address, in the buttons and Setup cells of all notebooks and in the pages beside them."""

import re
from pathlib import Path

from nbtools.project import REPOSITORY_LINE, Problem, Project, read, replace, tags, write

BRANCH = "main"
PAGES = ("README.md", "CONTRIBUTING.md")
# The addresses that are the kit's own, wherever they stand: what is installed, cloned, or opened from its notebooks.
OURS = (
    r"(?<=git\+)https://github\.com/[\w.-]+/[\w-]+(?=@|\.git@|\b)",
    r"(?<=git clone )https://github\.com/[\w.-]+/[\w-]+",
    r"https://github\.com/[\w.-]+/[\w-]+(?=/blob/main/notebooks/)",
)
COLAB = re.compile(r"(?<=https://colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(?=/blob/)")


def buttons(project: Project, path: Path) -> str:
    """The two lines under a notebook's title."""
    where = f"blob/{BRANCH}/{project.relative(path)}"
    colab = project.repository.replace("https://github.com/", "https://colab.research.google.com/github/")
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}/{where})\n"
        "[![View on GitHub](https://img.shields.io/badge/view%20on-GitHub-black?logo=github)]"
        f"({project.repository}/{where})"
    )


def setup_block(project: Project) -> str:
    """How every Setup cell begins."""
    reason = "on Colab: bring the kit alone, and leave NumPy, TensorFlow and Keras as they are"
    return f"""import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ:  # {reason}
    kit = os.environ.get("MMKIT_SOURCE", "git+{project.repository}@{BRANCH}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", kit], check=True)

import mmkit

with mmkit.quiet_imports():
"""


def rewrite(text: str, repository: str) -> str:
    """`text` with the kit's own addresses led to `repository`."""
    for pattern in OURS:
        text = re.sub(pattern, repository, text)
    return COLAB.sub(repository.removeprefix("https://github.com/"), text)


def update(project: Project, repository: str | None = None) -> list[Path]:
    """Leads all buttons, Setup cells and pages to the address in `pyproject.toml`.

    Args:
        repository: a new address, which is first written to `pyproject.toml`.

    Returns:
        The files that changed.

    Raises:
        Problem: if `repository` is no address of a GitHub repository.
    """
    changed = []
    if repository is not None:
        changed += _move(project, repository.rstrip("/").removesuffix(".git"))
    address = project.repository
    for name in PAGES:
        page = project.root / name
        if page.is_file():
            old = page.read_text(encoding="utf-8")
            new = rewrite(old, address)
            if new != old:
                replace(page, new)
                changed.append(page)
    for path in project.notebooks():
        nb = read(path)
        before = [cell.source for cell in nb.cells]
        for index, cell in enumerate(nb.cells):
            if cell.cell_type == "markdown" or "setup" in tags(cell):
                cell.source = rewrite(cell.source, address)
            if index == 0:
                lines = buttons(project, path).split("\n")
                for label, line in zip(("Open in Colab", "View on GitHub"), lines, strict=True):
                    cell.source = re.sub(rf"(?m)^\[!\[{label}\].*$", lambda _, line=line: line, cell.source)
        if [cell.source for cell in nb.cells] != before:
            write(nb, path)
            changed.append(path)
    return changed


def _move(project: Project, repository: str) -> list[Path]:
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w-]+", repository):
        raise Problem(f"{repository} is no repository: write it as https://github.com/OWNER/NAME")
    old = project.repository
    if repository == old:
        return []
    changed = []
    for name in ("pyproject.toml", *PAGES):  # badges and links of the old address, whatever they point to
        file = project.root / name
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            if name == "pyproject.toml":
                new = REPOSITORY_LINE.sub(lambda match: match[0].replace(match[1], repository), text)
            else:
                new = re.sub(re.escape(old) + r"(?![\w-])", repository, text)
            if new != text:
                replace(file, new)
                changed.append(file)
    return changed
