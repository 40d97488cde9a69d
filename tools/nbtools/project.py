"""Where things are: the notebooks, the plan of the course, the repository's address; reading and writing a notebook."""

import hashlib
import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
FOLDED = {"drawing", "folded", "more-checks", "solution"}  # the tags of cells that editors show folded
METADATA = {  # what the kernel of .venv tells of itself (tools/kernel.py), so that JupyterLab has nothing to change
    "kernelspec": {"display_name": "Python 3 (mmkit)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
NAME = re.compile(r"(\d)(?:\.(\d\d))?_[a-z0-9_]+")  # a notebook's file name, without the suffix


class Problem(Exception):
    """Something that the author can put right; the message says what and how, in one line."""


class Number(NamedTuple):
    """A lesson's number, its part and its place there: 3.10 follows 3.9. Lesson 0 stands before all parts."""

    part: int
    place: int

    @classmethod
    def of(cls, text: str) -> "Number | None":
        """The number that `text` says, as in "2.4", "2.04" or "0"; None if it says none."""
        match = re.fullmatch(r"(\d)(?:\.(\d{1,2}))?", text.strip())
        return cls(int(match[1]), int(match[2] or 0)) if match else None

    def __str__(self) -> str:
        return f"{self.part}.{self.place}" if self.place else str(self.part)


@dataclass(frozen=True)
class Planned:
    """A lesson of the plan, whether it exists yet or not."""

    number: Number
    title: str
    says: str
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
        return sorted(found, key=lambda path: (number(path) or (10, 0), path.name))

    def find(self, name: str) -> Path:
        """The notebook of the lesson `name`, as in "2.4".

        Raises:
            Problem: if there is none.
        """
        wanted = Number.of(name)
        found = [path for path in self.notebooks() if wanted is not None and number(path) == wanted]
        if not found:
            known = ", ".join(str(number(path)) for path in self.notebooks()) or "none yet"
            raise Problem(f"no lesson {name}: there are {known}")
        return found[0]

    def relative(self, path: Path) -> str:
        """`path` inside the checkout, with forward slashes."""
        path = path.resolve()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @cached_property
    def _plan(self) -> dict:
        return tomllib.loads((self.folder / "themes.toml").read_text(encoding="utf-8"))

    @property
    def themes(self) -> dict[str, dict]:
        """The themes of the documents by id: in words, in which documents, and what lessons are to teach them."""
        return {
            row["id"]: row | {"lessons": [Number.of(text) for text in row["lessons"]]} for row in self._plan["theme"]
        }

    @property
    def planned(self) -> dict[Number, Planned]:
        rows = [
            Planned(Number.of(key), row["title"], row["says"], part["folder"], part["title"])
            for part in self._plan["part"]
            for key, row in part["lessons"].items()
        ]
        return {row.number: row for row in rows}

    @property
    def _tables(self) -> dict:
        return tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def pyproject(self) -> dict:
        """The table `project` of `pyproject.toml`."""
        return self._tables["project"]

    @property
    def repository(self) -> str:
        """The repository's address, from `pyproject.toml`: the one place that holds it."""
        return self.pyproject["urls"]["Repository"]

    @property
    def version(self) -> str:
        """The branch or tag that buttons and Setup cells lead to, from `pyproject.toml`."""
        return self._tables["tool"]["mmkit"]["version-of-links"]


def number(path: Path) -> Number | None:
    """The number in front of a notebook's file name; None if it has none."""
    match = NAME.fullmatch(path.stem)
    return Number(int(match[1]), int(match[2] or 0)) if match else None


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
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8", newline="\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def clean(nb: NotebookNode) -> None:
    """Leaves in the notebook only what a reader needs, so that it is the same whoever stores it.

    Metadata of editors and machines goes; a cell's id becomes a hash of its source. What is to be folded is folded.
    """
    nb.metadata = nbformat.from_dict(METADATA | {key: nb.metadata[key] for key in nb.metadata if key == "mmkit"})
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in nb.cells:
        kept = {"tags": tags(cell)}
        if FOLDED & set(tags(cell)):  # in JupyterLab, and on Colab
            kept |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
        cell.metadata = nbformat.from_dict({key: value for key, value in kept.items() if value})
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[key] += 1
        cell.id = key if seen[key] == 1 else f"{key}-{seen[key]}"
