"""The package's rooms: what a learner reads stays short, and what knows no data set imports none."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mmkit"
AFTERNOON = ("layers", "pipelines.py", "evaluate.py")
# A room may import the rooms named behind it, and nothing of the kit besides: no import runs upwards or in a circle.
MAY_IMPORT = {
    "ground": set(),
    "evaluate": set(),
    "pipelines": {"ground"},
    "files": {"pipelines"},
    "training": {"evaluate"},
    "pretrained": {"ground"},
    "layers": {"pretrained"},
    "lesson": {"evaluate", "ground"},
    "datasets": {"ground", "pipelines"},
    "commands": {"datasets", "ground", "pretrained"},
    "__init__": {"ground"},
    "__main__": {"commands", "ground"},
}


def code_lines(source: str) -> int:
    """How many lines hold code: neither blank, nor a comment, nor part of a docstring."""
    lines = set()
    quiet = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def files(room: str) -> list[Path]:
    path = PACKAGE / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [PACKAGE / f"{room.removesuffix('.py')}.py"]


def imported(path: Path) -> set[str]:
    """The rooms of the kit that a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("mmkit.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "mmkit":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmkit."):
            found.add(node.module.split(".")[1])
    return found


def test_what_counts_as_a_line_of_code():
    source = '"""Of a module.\n\nLong.\n"""\n\nx = (\n    1,\n)  # three\n\n\n'
    source += 'def f():\n    """Says."""\n    # nothing\n    return x\n'
    assert code_lines(source) == 5


def test_an_afternoon_is_enough_to_read_it():
    lines = {room: sum(code_lines(path.read_text(encoding="utf-8")) for path in files(room)) for room in AFTERNOON}
    assert sum(lines.values()) <= 2_000, lines


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room: str):
    for path in files(room):
        assert imported(path) - {room} <= MAY_IMPORT[room], path


def test_every_room_has_its_place():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms == set(MAY_IMPORT)
