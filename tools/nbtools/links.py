"""Where the course lies: its address and version in the buttons and Setup cells of all lessons and in the pages."""

import re
from pathlib import Path

from nbformat import NotebookNode

from nbtools.project import Problem, Project, read, replace, tags, write

PAGES = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CITATION.cff", "CHANGELOG.md", "data/documents.md")
COLAB = "https://colab.research.google.com"
BUTTONS = re.compile(r"^\[!\[Open in Colab\].*\n\[!\[View on GitHub\].*$", re.MULTILINE)
LAST = "with mmkit.quiet_imports():\n"  # of the block that begins every Setup cell


def address(project: Project, path: Path) -> str:
    """Where a lesson can be read in the web."""
    return f"{project.repository}/blob/{project.version}/{project.relative(path)}"


def buttons(project: Project, path: Path) -> str:
    """The two lines under a lesson's title."""
    there = address(project, path)
    colab = there.replace("https://github.com/", f"{COLAB}/github/")
    return (
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab})\n"
        f"[![View on GitHub](https://img.shields.io/badge/view%20on-GitHub-black?logo=github)]({there})"
    )


def setup_block(project: Project) -> str:
    """How every Setup cell begins. It needs nothing but Python, and says what to do where the kit is not."""
    return f"""\
import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ:  # bring the kit alone: NumPy, TensorFlow and Keras stay as they are
    kit = "git+{project.repository}@{project.version}"
    kit = os.environ.get("MMKIT_SOURCE", kit)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", kit]
    subprocess.run(pip, capture_output=True, check=False)
try:
    import mmkit.ground
except ImportError:
    local = "is not in this Python: run `make lab` in its folder (`pip install mmkit` brings another package)"
    hosted = "did not come: check the network and the address above, then run this cell again"
    raise ImportError(f"The course's kit {{hosted if 'kit' in globals() else local}}") from None

{LAST}"""


def update(project: Project, repository: str | None = None, version: str | None = None) -> list[Path]:
    """Leads all that led to the address and version in `pyproject.toml` to these, and each button to its lesson.

    Returns:
        The files that changed.

    Raises:
        Problem: if `repository` is no address of a GitHub repository, or `version` no branch or tag.
    """
    old = project.repository
    new = repository.rstrip("/").removesuffix(".git") if repository else old
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w-]+", new):
        raise Problem(f"{repository} is no repository: write it as https://github.com/OWNER/NAME")
    if version and not re.fullmatch(r"[\w.-]+", version):
        raise Problem(f"{version} is no branch or tag: write it as main or v1.2.0")
    name = re.compile(re.escape(old.removeprefix("https://github.com/")) + r"(?![\w-])")
    changed = []
    for path in filter(Path.is_file, (project.root / page for page in PAGES)):
        text = path.read_text(encoding="utf-8")
        moved = name.sub(new.removeprefix("https://github.com/"), text)
        if path.name == "pyproject.toml" and version:
            moved = re.sub(r'^version-of-links = "[^"]*"', f'version-of-links = "{version}"', moved, flags=re.MULTILINE)
        if moved != text:
            replace(path, moved)
            changed.append(path)
    for path in project.notebooks():
        nb = read(path)
        before = [cell.source for cell in nb.cells]
        nb.cells[0].source = BUTTONS.sub(lambda match, path=path: buttons(project, path), nb.cells[0].source)
        for cell in nb.cells:
            if "setup" in tags(cell):
                _renew(project, cell)
        if [cell.source for cell in nb.cells] != before:
            write(nb, path)
            changed.append(path)
    return changed


def _renew(project: Project, cell: NotebookNode) -> None:
    """Puts today's block in the place of the old one, if there is one."""
    _, last, rest = cell.source.partition(LAST)
    if last:
        cell.source = setup_block(project) + rest
