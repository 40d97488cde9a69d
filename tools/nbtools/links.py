"""The repository's address, in the buttons and Setup cells of all notebooks and in the pages beside them."""

import re
from pathlib import Path

from nbtools.project import Problem, Project, replace

BRANCH = "main"
PAGES = ("pyproject.toml", "README.md", "CONTRIBUTING.md")
BUTTON = re.compile(rf"(\[!\[(?:Open in Colab|View on GitHub)\]\S+/blob/{BRANCH}/)[^)]*")


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


def update(project: Project, repository: str | None = None) -> list[Path]:
    """Leads what led to the address in `pyproject.toml` to `repository`, and each notebook's buttons to the notebook.

    Returns:
        The files that changed.

    Raises:
        Problem: if `repository` is no address of a GitHub repository.
    """
    old = project.repository
    new = repository.rstrip("/").removesuffix(".git") if repository else old
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w-]+", new):
        raise Problem(f"{repository} is no repository: write it as https://github.com/OWNER/NAME")
    name = re.compile(re.escape(old.removeprefix("https://github.com/")) + r"(?![\w-])")
    changed = []
    for path in filter(Path.is_file, (*(project.root / page for page in PAGES), *project.notebooks())):
        text = path.read_text(encoding="utf-8")
        moved = name.sub(new.removeprefix("https://github.com/"), text)
        if path.suffix == ".ipynb":
            moved = BUTTON.sub(rf"\1{project.relative(path)}", moved)
        if moved != text:
            replace(path, moved)
            changed.append(path)
    return changed
