"""Where things are: the notebooks, the plan of the course, the repository's address; reading and writing a notebook."""

import hashlib
import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"(\d\d)_[a-z0-9_]+")


class Problem(Exception):
    """Something that the author can put right; the message says what and how, in one line."""


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
        """The notebook with the number `name`, as in "04" or "4".

        Raises:
            Problem: if there is none.
        """
        found = [path for path in self.notebooks() if name.isdecimal() and number(path) == int(name)]
        if not found:
            known = ", ".join(f"{number(path):02}" for path in self.notebooks()) or "none yet"
            raise Problem(f"no notebook {name}: there are {known}")
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
        """The themes of the documents by id: in words, in which documents, and what notebooks are to teach them."""
        return {row["id"]: row for row in self._plan["theme"]}

    @property
    def planned(self) -> dict[int, Planned]:
        return {
            int(key): Planned(int(key), title, part["folder"], part["title"])
            for part in self._plan["part"]
            for key, title in part["notebooks"].items()
        }

    @property
    def pyproject(self) -> dict:
        """The table `project` of `pyproject.toml`."""
        return tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    @property
    def repository(self) -> str:
        """The repository's address, from `pyproject.toml`: the one place that holds it."""
        return self.pyproject["urls"]["Repository"]


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
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8", newline="\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def clean(nb: NotebookNode) -> None:
    """Leaves in the notebook only what a reader needs, so that it is the same whoever stores it.

    Metadata of editors and machines goes; a cell's id becomes a hash of its source.
    """
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
            **{key: nb.metadata[key] for key in nb.metadata if key == "mmkit"},
        }
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in nb.cells:
        hidden = {key: value for key, value in cell.metadata.get("jupyter", {}).items() if key == "source_hidden"}
        kept = {"tags": tags(cell), "jupyter": hidden}
        cell.metadata = nbformat.from_dict({key: value for key, value in kept.items() if value})
        key = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[key] += 1
        cell.id = key if seen[key] == 1 else f"{key}-{seen[key]}"
