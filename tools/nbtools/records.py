"""What claims measured under other seeds and under longer training: notebooks/records.csv, a line a claim.

A record counts as long as the lesson's fingerprint is the one that it was made with.
"""

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from filelock import FileLock
from nbformat import NotebookNode

from nbtools.fingerprint import digest
from nbtools.project import Number, Project, replace

SEEDS = tuple(f"seed {seed}" for seed in range(1, 6))
LONG = "long"
FIELDS = ("lesson", "run", "fingerprint", "cell", "claim", "value", "comparison", "bound", "holds")
ENOUGH = {"claims": 4, "more-checks": 6}  # standard deviations between a claim and its bound, by the tag of its cell


def mark(parts: Mapping[str, str]) -> str:
    """A fingerprint as one short hash."""
    return digest(json.dumps(dict(parts), sort_keys=True))


class Records:
    """The records of a checkout."""

    def __init__(self, project: Project) -> None:
        self._project, self._path = project, project.folder / "records.csv"
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        self.rows = list(csv.DictReader(io.StringIO(text)))

    def of(self, lesson: Number, fingerprint: str, run: str) -> list[dict[str, str]]:
        """The rows of one run of a lesson."""
        wanted = {"lesson": str(lesson), "fingerprint": fingerprint, "run": run}
        return [row for row in self.rows if all(row[key] == value for key, value in wanted.items())]

    def held(self, lesson: Number, nb: NotebookNode) -> list[str]:
        """Of "seeds" and "long" those under which all claims held, of the lesson as it is stored."""
        fingerprint = mark(nb.metadata.get("mmkit", {}).get("fingerprint", {}))

        def holds(run: str) -> bool:
            rows = self.of(lesson, fingerprint, run)
            return bool(rows) and all(row["holds"] == "True" for row in rows)

        return [name for name, runs in (("seeds", SEEDS), (LONG, (LONG,))) if all(map(holds, runs))]

    def keep(self, lesson: Number, fingerprint: str, run: str, made: Mapping[str, list[dict]]) -> None:
        """Keeps what a run measured, `made` by the tag of the cell; what the lesson's older versions measured goes.

        Others may keep theirs at the same time.
        """
        self._project.build.mkdir(exist_ok=True)
        with FileLock(self._project.build / "records.lock"):
            self.rows = [
                row
                for row in Records(self._project).rows
                if row["lesson"] != str(lesson) or (row["fingerprint"] == fingerprint and row["run"] != run)
            ]
            for cell, claims in made.items():
                for claim in claims:
                    values = (lesson, run, fingerprint, cell, claim["text"], f"{claim['value']:.6g}")
                    values += (claim["comparison"], f"{claim['bound']:.6g}", claim["holds"])
                    self.rows.append(dict(zip(FIELDS, map(str, values), strict=True)))
            self.rows.sort(key=lambda row: (Number.of(row["lesson"]), row["run"], row["cell"]))
            text = io.StringIO()
            writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            replace(self._path, text.getvalue())


@dataclass(frozen=True)
class Margin:
    """How far a claim stayed from its bound over several runs.

    Attributes:
        away: from the mean to the bound, on the side where the claim holds, in standard deviations of the runs; None
            if all runs gave the same number.
        enough: how far it should be.
    """

    text: str
    values: tuple[float, ...]
    comparison: str
    bound: float
    holds: bool
    enough: int

    @property
    def away(self) -> float | None:
        spread = statistics.stdev(self.values)
        side = 1 if self.comparison.startswith(">") else -1
        return side * (statistics.mean(self.values) - self.bound) / spread if spread else None

    def __str__(self) -> str:
        least, mean, most = min(self.values), statistics.mean(self.values), max(self.values)
        text = f"  {least:.3g} to {most:.3g}, mean {mean:.3g}, spread {statistics.stdev(self.values):.2g}"
        if self.away is None:
            verdict = "the same each time"
        elif self.away < self.enough:
            verdict = f"{self.away:.1f} standard deviations from it: below {self.enough}, claim less"
        else:
            verdict = f"{self.away:.1f} standard deviations from it"
        failed = "" if self.holds else "; FAILS in a run"
        return f"{self.text}\n{text}; bound {self.comparison} {self.bound:g}: {verdict}{failed}"


def margins(runs: list[list[dict]]) -> list[Margin]:
    """For each claim that all runs made, how far it stayed from its bound. `runs` hold rows of records."""
    values, rows = defaultdict(list), {}
    for row in (row for run in runs for row in run):
        values[row["claim"]].append(row)
        rows[row["claim"]] = row
    return [
        Margin(
            text=text,
            values=tuple(float(one["value"]) for one in found),
            comparison=rows[text]["comparison"],
            bound=float(rows[text]["bound"]),
            holds=all(one["holds"] == "True" for one in found),
            enough=ENOUGH[rows[text]["cell"]],
        )
        for text, found in values.items()
        if len(found) == len(runs) > 1
    ]
