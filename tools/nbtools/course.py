"""Which lessons are stale and why, what they need, and how long they take here."""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nbtools.fingerprint import Fingerprint, Kit
from nbtools.project import Problem, Project, number, read

FIRST_EDITION = "first_edition.txt"
USUAL_REFERENCE = 1.0  # seconds that the reference job takes on a usual machine: stored times are such a machine's


@dataclass(frozen=True)
class Lesson:
    """A notebook with its fingerprint of today.

    Attributes:
        first_edition: whether it is listed as one that may be stale until it is made anew.
    """

    path: Path
    nb: NotebookNode
    now: Fingerprint
    first_edition: bool

    @property
    def stale(self) -> str:
        """Why its stored outputs may no longer be what it gives, in words; "" if nothing that decides them changed."""
        then = self.nb.metadata.get("mmkit", {}).get("fingerprint")
        return "because it has no fingerprint" if then is None else difference(then, self.now.parts)

    @property
    def looks_changed(self) -> bool:
        """Whether what only shows has changed since it was stored: plots, `grade`."""
        return self.nb.metadata.get("mmkit", {}).get("look", self.now.look) != self.now.look

    @property
    def must_run(self) -> bool:
        """Whether `make test` runs it."""
        return bool(self.stale) and not self.first_edition


@dataclass(frozen=True)
class Course:
    """All lessons of a checkout."""

    project: Project

    @cached_property
    def kit(self) -> Kit:
        return Kit(self.project.root)

    @cached_property
    def first_edition(self) -> list[Path]:
        """The lessons that may be stale until they are made anew.

        Raises:
            Problem: if the list names a lesson that does not exist.
        """
        listed = self.project.folder / FIRST_EDITION
        lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
        try:
            return [self.project.find(line) for line in lines if not line.startswith("#")]
        except Problem as problem:
            raise Problem(f"{FIRST_EDITION}: {problem}: take it off the list") from None

    def lesson(self, path: Path) -> Lesson:
        nb = read(path)
        return Lesson(path, nb, self.kit.fingerprint(nb), path in self.first_edition)

    def lessons(self, part: str = "") -> list[Lesson]:
        """All lessons, or those of the part numbered `part`.

        Raises:
            Problem: if that part has none.
        """
        paths = [path for path in self.project.notebooks() if not part or str((number(path) or " ")[0]) == part]
        if not paths:
            raise Problem(f"no part {part}: choose one that notebooks/themes.toml lists")
        return [self.lesson(path) for path in paths]

    def bring_for(self, lessons: list[Lesson]) -> None:
        """Brings what these lessons need before they run: extras of pyproject.toml, data sets, pretrained weights.

        Raises:
            Problem: if something cannot be brought; what and why has been said.
        """
        parts = {part for lesson in lessons for part in lesson.now.parts}
        held = {key for lesson in lessons for key in lesson.now.definitions}
        installed = {canonicalize_name(one.name) for one in metadata.distributions()}
        for extra, lines in self.project.pyproject.get("optional-dependencies", {}).items():
            names = {Requirement(line).name for line in lines}
            wanted = extra not in ("lab", "test") and parts & {f"package {name}" for name in names}
            if wanted and names - installed:
                self._call("tools/bootstrap.py", "extra", extra)
        sets = sorted(name for name, key in self.kit.builders.items() if key in held)
        sources = sorted(part.removeprefix("source ") for part in parts if part.startswith("source "))
        for command, names in (("fetch", sources), ("prepare", sets)):
            if names:
                self._call("-m", "mmkit", command, *names)

    def _call(self, *words: str) -> None:
        quiet = {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=self.project.root, env=os.environ | quiet, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise Problem(f"`{' '.join(words)}` failed, which the lessons need: see above")


def difference(then: dict[str, str], now: dict[str, str]) -> str:
    """What differs between two fingerprints, in words: at most three of the parts by name."""
    said = {name: "changed" for name in then.keys() & now.keys() if then[name] != now[name]}
    said |= dict.fromkeys(now.keys() - then.keys(), "is new") | dict.fromkeys(then.keys() - now.keys(), "is gone")
    first = sorted(said, key=lambda name: (name != "format", name != "cells", said[name] != "changed", name))
    told = ", ".join(f"`{name}` {said[name]}" for name in first[:3])
    return f"because {told}" + (f", and {len(first) - 3} more" if len(first) > 3 else "") if first else ""


def outputs_hash(nb: NotebookNode) -> str:
    """A hash of what the code cells have stored, whatever an editor notes beside it."""
    shown = [[_shown(output) for output in cell.outputs] for cell in nb.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:10]


def _shown(output: NotebookNode) -> list:
    data = {
        kind: _rounded(shown) if kind.endswith("json") else "".join(shown)
        for kind, shown in output.get("data", {}).items()
    }
    return [output.output_type, output.get("name"), "".join(output.get("text", "")), data]


def _rounded(data: object) -> object:
    """JSON with its numbers to nine digits: who formats a notebook may write the last ones another way."""
    return json.loads(json.dumps(data), parse_float=lambda text: float(f"{float(text):.9g}"))


def reference_seconds() -> float:
    """How long a fixed job takes now, in seconds: three times the median of three turns at matrices and at a loop."""

    def turn() -> float:
        begin = time.perf_counter()
        matrix = mean = np.full((900, 900), 1 / 900, np.float32)
        for _ in range(15):
            matrix = matrix @ mean
        sum(i * i % 7 for i in range(4_000_000))
        return time.perf_counter() - begin

    return round(3 * statistics.median(turn() for _ in range(3)), 2)
