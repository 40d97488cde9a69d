"""`make bench`: runs the parts, keeps what they measured in results.json, and writes the tables into README.md.

python -m benchmarks               all parts
python -m benchmarks a d           some
python -m benchmarks --quick       each once and small, into build/benchmarks: whether everything works
"""

import argparse
import importlib
import json
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks import harness, parts

HERE = Path(__file__).parent
PARTS = {part: importlib.import_module(f"benchmarks.{name}") for part, name in parts.PARTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="once and small, into build/benchmarks")
    arguments = parser.parse_args()
    parts.refuse_unknown(arguments.parts)
    folder = harness.ROOT / "build" / "benchmarks" if arguments.quick else HERE
    if arguments.quick:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "README.md", folder)
    for part in arguments.parts or PARTS:
        begin = time.monotonic()
        print(f"Part {part}: {PARTS[part].__doc__.split(') ')[1]}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            found = PARTS[part].run(arguments.quick, Path(scratch))
        keep(folder, part, found | {"minutes": (time.monotonic() - begin) / 60})
    print(f"Written: {(folder / 'README.md').relative_to(harness.ROOT)}")


def keep(folder: Path, part: str, found: dict) -> None:
    """Puts one part's results into results.json, and its table into README.md."""
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[part] = found | {"machine": harness.machine()}
    text = (folder / "README.md").read_text(encoding="utf-8")
    text = harness.put_between(text, f"part {part}", written(PARTS[part], results[part]))
    path.write_text(json.dumps(results, indent=1) + "\n")
    (folder / "README.md").write_text(text, encoding="utf-8")


def written(part, found: dict) -> str:
    """A part's table, with the machine it was measured on."""
    about = "; ".join(f"{what} {value}" for what, value in found["machine"].items())
    return f"{part.report(found)}\n\n*Measured in {found['minutes']:.0f} minutes on: {about}.*"


if __name__ == "__main__":
    main()
