"""Where things are: the notebooks, the plan of the course, the repository's address; reading and writing a notebook."""

import hashlib
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"(\d\d)_[a-z0-9_]+")
REPOSITORY_LINE = re.compile(r'^Repository\s*=\s*"([^"]+)"', re.MULTILINE)


class Problem(Exception):
    """Something that the author can put right; the message says what and how, in one line."""


@dataclass(frozen=True)
class Theme:
    """A row of the plan: a theme of the documents and the numbers of the notebooks that are to teach it."""

    id: str
    theme: str
    documents: str
    notebooks: tuple[int, ...]


@dataclass(frozen=True)
class Planned:
    """A notebook of the plan, whether it exists yet or not."""

    number: int
    title: str
    folder: str
    part: str


@dataclass(frozen=True)
class Project:
    """A checkout of the course, or a folder laid out like one."""

    root: Path = ROOT

    @property
    def folder(self) -> Path:
        return self.root / "notebooks"

    @property
    def build(self) -> Path:
        return self.root / "build"

    def notebooks(self) -> list[Path]:
        """The notebooks that exist, by number."""
        found = [path for path in self.folder.rglob("*.ipynb") if not path.parent.name.startswith(".")]
        return sorted(found, key=lambda path: path.name)

    def find(self, name: str) -> Path:
        """The notebook called `name`: its number ("04", "4") or its path.

        Raises:
            Problem: if there is none, or more than one.
        """
        if name.isdecimal():
            found = [path for path in self.notebooks() if number(path) == int(name)]
            if len(found) > 1:
                raise Problem(f"number {name} is taken twice: {', '.join(path.name for path in found)}: rename one")
        else:
            paths = (Path(name).resolve(), (self.root / name).resolve())
            found = [path for path in paths if path.suffix == ".ipynb" and path.is_file()]
        if not found:
            known = ", ".join(f"{number(path):02}" for path in self.notebooks())
            raise Problem(f"no notebook {name}: " + (f"there are {known}" if known else "there is none yet"))
        return found[0]

    def relative(self, path: Path) -> str:
        """`path` inside the checkout, with forward slashes."""
        path = path.resolve()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @cached_property
    def _plan(self) -> dict:
        return tomllib.loads((self.folder / "themes.toml").read_text(encoding="utf-8"))

    @property
    def themes(self) -> dict[str, Theme]:
        rows = self._plan["theme"]
        return {row["id"]: Theme(row["id"], row["theme"], row["documents"], tuple(row["notebooks"])) for row in rows}

    @property
    def planned(self) -> dict[int, Planned]:
        return {
            int(key): Planned(int(key), title, part["folder"], part["title"])
            for part in self._plan["part"]
            for key, title in part["notebooks"].items()
        }

    @property
    def repository(self) -> str:
        """The repository's address, from `pyproject.toml`: the one place that holds it."""
        match = REPOSITORY_LINE.search((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        if not match:
            raise Problem('pyproject.toml names no repository: add Repository = "https://…" under [project.urls]')
        return match[1].rstrip("/")


def number(path: Path) -> int:
    """The number in front of a notebook's file name; -1 if it has none."""
    match = NAME.fullmatch(path.stem)
    return int(match[1]) if match else -1


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def read(path: Path) -> NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError) as error:
        raise Problem(f"{path.name} is no notebook that can be read: {str(error).splitlines()[0]}") from None


def write(nb: NotebookNode, path: Path) -> None:
    """Writes the notebook, its metadata cleaned. A run that is cut off leaves the old file whole."""
    clean(nb)
    nbformat.validate(nb)
    replace(path, nbformat.writes(nb, indent=1).rstrip("\n") + "\n")


def replace(path: Path, text: str) -> None:
    """Puts `text` in the file at once, or leaves it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(scratch, path.stat().st_mode if path.exists() else 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def clean(nb: NotebookNode) -> None:
    """Leaves in the notebook only what a reader needs, so that it is the same whoever stores it.

    Metadata of editors and machines goes; a cell's id becomes a hash of its source.
    """
    kept = {key: nb.metadata[key] for key in ("mmkit",) if key in nb.metadata}
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
            **kept,
        }
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in nb.cells:
        metadata = {}
        if cell.metadata.get("tags"):
            metadata["tags"] = list(cell.metadata.tags)
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            metadata["jupyter"] = {"source_hidden": True}
        cell.metadata = nbformat.from_dict(metadata)
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        cell.id = key if seen[key] == 1 else f"{key}-{seen[key]}"
