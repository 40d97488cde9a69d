"""The parts of `make bench`, by letter; `python -m benchmarks.parts PART …` refuses others, with no package at hand."""

import sys
from collections.abc import Sequence

PARTS = {"a": "feeding", "b": "steps", "c": "accuracy", "d": "growth", "e": "imports"}


def refuse_unknown(parts: Sequence[str]) -> None:
    """Ends the program if one of `parts` is none, and says which there are."""
    if unknown := [part for part in parts if part not in PARTS]:
        sys.exit(f"There is no part {', '.join(unknown)} of the benchmarks: choose from {', '.join(PARTS)}")


if __name__ == "__main__":
    refuse_unknown(sys.argv[1:])
