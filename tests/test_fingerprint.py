"""What makes a lesson stale and what does not, on a made-up course; and the fingerprints of the real one."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import small_course
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbtools import fingerprint
from nbtools.course import Course, difference, outputs_hash
from nbtools.fingerprint import Kit, normal
from nbtools.project import ROOT, Project, read, write

PYTHONS = sorted(path for minor in (11, 12, 13) for path in (Path.home() / ".pyenv/versions").glob(f"3.{minor}.*"))
Change = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_course.make(tmp_path)
    return tmp_path


def prints(root: Path) -> fingerprint.Fingerprint:
    (path,) = root.rglob("*.ipynb")
    return Kit(root).fingerprint(json.loads(path.read_text(encoding="utf-8")))


def swap(name: str, old: str, new: str) -> Change:
    """In the file `name`, `old` turned to `new`; at its end if `old` is ""."""

    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")

    return change


def cells(edit: Callable[[nbformat.NotebookNode], None]) -> Change:
    def change(root: Path) -> None:
        (path,) = root.rglob("*.ipynb")
        nb = nbformat.read(path, as_version=4)
        edit(nb)
        nbformat.write(nb, path)

    return change


def source(number: int, old: str, new: str) -> Change:
    def edit(nb: nbformat.NotebookNode) -> None:
        assert old in nb.cells[number].source
        nb.cells[number].source = nb.cells[number].source.replace(old, new)

    return cells(edit)


STALE = {
    "a builder's code": (swap("mmkit/datasets/digits.py", "len(source)", "1"), "datasets.digits.Digits"),
    "a set's version": (swap("mmkit/datasets/digits.py", "1.0.0", "1.0.1"), "datasets.digits.Digits"),
    "what a builder reaches": (swap("mmkit/ground/sources.py", "upper", "lower"), "ground.sources.fetch"),
    "a base class": (swap("mmkit/layers/base.py", "self.call(x)", "-self.call(x)"), "layers.base.Layer"),
    "a module constant": (swap("mmkit/layers/fusion.py", "SCALE = 2", "SCALE = 3"), "layers.fusion.SCALE"),
    "a registry": (
        swap("mmkit/layers/fusion.py", '["scaled"] = scaled', '["scaled"] = abs'),
        "layers.fusion, when imported",
    ),
    "what a registry holds": (swap("mmkit/layers/fusion.py", "SCALE * x", "x * SCALE"), "layers.fusion.scaled"),
    "a decorator": (swap("mmkit/layers/base.py", "class Layer", "@print\nclass Layer"), "layers.base.Layer"),
    "what an imported module does": (
        swap("mmkit/datasets/watch.py", "", "\nprint(1)\n"),
        "datasets.watch, when imported",
    ),
    "a pin": (swap("requirements.lock", "keras==3.15.1", "keras==3.15.2"), "package keras"),
    "a pin of what it imports": (swap("requirements.lock", "1.9.1", "1.9.2"), "package scikit-learn"),
    "a code cell": (source(3, "data[0]", "data[-1]"), "cells"),
    "a cell that is no Python": (cells(lambda nb: nb.cells.append(new_code_cell("%time"))), "cells"),
    "a source row": (swap("data/sources.toml", "0.25.0", "0.26.0"), "source mnist"),
    "the format": (lambda root: None, "format"),
}
FRESH = {
    "a docstring": swap("mmkit/layers/base.py", '"""A layer."""', '"""Another."""'),
    "a docstring that goes": swap("mmkit/layers/fusion.py", '        """Scales."""\n', ""),
    "a comment": swap("mmkit/layers/fusion.py", "# here", "# there"),
    "a comment in a cell": source(3, "  # five letters, twice", ""),
    "formatting": swap(
        "mmkit/layers/fusion.py", 'KINDS["scaled"](x)', "(\n            KINDS['scaled']( x )\n        )"
    ),
    "formatting of a cell": source(2, "{mmkit.profile()}", "{ mmkit.profile() }"),
    "a plot function": swap("mmkit/lesson/plots.py", '"*"', '"-"'),
    "what a plot reaches": swap("mmkit/lesson/colours.py", "blue", "red"),
    "an added function": swap("mmkit/layers/fusion.py", "", "\n\ndef more(x):\n    return x\n"),
    "an added class": swap("mmkit/layers/base.py", "", "\n\nclass Other(Layer):\n    pass\n"),
    "an added constant": swap("mmkit/layers/fusion.py", "", "\nOFFSET = 1\n"),
    "an added export": swap("mmkit/layers/__init__.py", "Gated, Sum\n", "Gated, Sum, scaled\n"),
    "a layer that it does not use": swap("mmkit/layers/fusion.py", "x + x", "2 * x"),
    "a data set that it does not name": swap("mmkit/datasets/watch.py", "1.0.0", "2.0.0"),
    "a source that it does not name": swap("data/sources.toml", "1.2.5", "1.2.6"),
    "what a source's row says in words": swap("data/sources.toml", 'holds = "digits"', 'holds = "figures"'),
    "a pin of what it does not import": swap("requirements.lock", "pandas==2.0", "pandas==2.1"),
    "a pin of what only shows": swap("requirements.lock", "3.11.2", "3.11.3"),
    "the file's name": lambda root: next(root.rglob("*.ipynb")).rename(
        root / "notebooks/2_multimodal/2.09_fusion.ipynb"
    ),
    "a drawing": cells(lambda nb: nb.cells.append(new_code_cell("plots.draw(3)", metadata={"tags": ["drawing"]}))),
    "markdown": cells(lambda nb: nb.cells.insert(0, new_markdown_cell("# Words"))),
    "the Setup's fixed block": source(1, "the kit", "git+https://example.org/kit"),
    "quiet imports": swap("mmkit/ground/quiet.py", "    yield", "    print(1)\n    yield"),
    "outputs": cells(lambda nb: nb.cells[2].outputs.append(nbformat.v4.new_output("stream", text="1"))),
}


@pytest.mark.parametrize("name", STALE)
def test_stale(name: str, root: Path, monkeypatch) -> None:
    change, part = STALE[name]
    before = prints(root)
    change(root)
    if name == "the format":
        monkeypatch.setattr(fingerprint, "FORMAT", "another")
    reason = difference(before.parts, prints(root).parts)
    assert reason.startswith("because ") and f"`{part}` " in reason


@pytest.mark.parametrize("name", FRESH)
def test_not_stale(name: str, root: Path) -> None:
    before = prints(root)
    FRESH[name](root)
    assert difference(before.parts, prints(root).parts) == ""


@pytest.mark.parametrize(
    "name", ["a plot function", "what a plot reaches", "quiet imports", "a pin of what only shows"]
)
def test_what_only_shows_is_hashed_apart(name: str, root: Path) -> None:
    swap(
        "mmkit/lesson/plots.py",
        "from mmkit.lesson import colours",
        "import matplotlib\nfrom mmkit.lesson import colours",
    )(root)
    source(1, "import json", "import json\n    import matplotlib")(root)
    before = prints(root)
    FRESH[name](root)
    assert prints(root).look != before.look and prints(root).parts == before.parts


@pytest.mark.parametrize(
    "use, reaches",
    [
        ("layers.Sum", True),
        ("getattr(layers, 'Sum')", True),
        ("getattr(layers, 'Gated')", False),
        ("getattr(layers, name)", True),
        ("print(layers)", True),
        ("from mmkit.layers import *", True),
        ("from mmkit.layers.fusion import Sum as S\nS()", True),
        ("import mmkit.layers.fusion as f\nf.Sum()", True),
        ("import mmkit.layers\nmmkit.layers.fusion.Sum()", True),
        ("mmkit.layers.no_such_name", True),
        ("def f(layers):\n    return layers.Sum", False),
        ("[layers.Sum for layers in []]", False),
        ("[layers for layers in []] + [layers.Sum]", True),
        ("def f():\n    from mmkit.layers import Sum\n    return Sum", True),
        ("lambda: layers.Sum", True),
        ("f'{layers.Sum}'", True),
    ],
)
def test_how_a_name_is_reached(use: str, reaches: bool, root: Path) -> None:
    cells(lambda nb: nb.cells.append(new_code_cell(use)))(root)
    assert ("layers.fusion.Sum" in prints(root).parts) == reaches


def test_a_name_that_is_brought_when_asked_for(root: Path) -> None:
    lazy = "import importlib\n\ndef __getattr__(name):\n    module = importlib.import_module('mmkit.layers.fusion')\n"
    lazy += "    return getattr(module, name)\n"
    (root / "mmkit" / "layers" / "__init__.py").write_text(lazy, encoding="utf-8")
    assert {"layers.fusion.Gated", "layers.__getattr__"} <= set(prints(root).parts)
    assert "layers.fusion.Sum" not in prints(root).parts


def test_a_registering_decorator_reaches_what_it_registers(root: Path) -> None:
    swap("mmkit/layers/base.py", "class Layer", "def register(cls):\n    return cls\n\n\nclass Layer")(root)
    swap("mmkit/layers/fusion.py", "import Layer", "import Layer, register")(root)
    swap("mmkit/layers/fusion.py", "class Sum", "@register\nclass Sum")(root)
    assert {"layers.fusion.Sum", "layers.base.register"} <= set(prints(root).parts)


def test_what_an_import_calls_is_reached(root: Path) -> None:
    """In classes too that the lesson does not use: their bodies run when the module is imported."""
    swap("mmkit/ground/settings.py", "", "\n\ndef made():\n    return 1\n\n\ndef checked(f):\n    return f\n")(root)
    swap("mmkit/datasets/watch.py", "import KitBuilder", "import KitBuilder\nfrom mmkit.ground import settings")(root)
    swap(
        "mmkit/datasets/watch.py",
        "    def example",
        "    MADE = [settings.made()]\n\n    @settings.checked\n    def example",
    )(root)
    parts = prints(root).parts
    assert {"ground.settings.made", "ground.settings.checked"} <= set(parts)
    assert "datasets.watch.Watch" not in parts


def test_the_reason_names_three_parts_and_counts_the_rest() -> None:
    then = {"cells": "1", "a": "1", "b": "1", "old": "1"}
    now = {"cells": "2", "a": "2", "b": "1", "new": "1"}
    assert difference(then, now) == "because `cells` changed, `a` changed, `new` is new, and 1 more"
    assert difference(now, now) == ""


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.name)
def test_alike_on_every_python(python: Path, root: Path) -> None:
    """On hard cases: texts in pieces, format specifications, new syntax that old Pythons lack left out."""
    hard = """
a = f"x{1!r:>{3}}" "y" f"{a}{{}}" 'z'
b = f"{a:%H:%M}" + f'{a=}' + f"" + "\\N{BULLET}é\\U0001fadf"
def f(x: int = 1, /, *y, z=..., **k) -> "int":
    "doc"
    match x:
        case {"a": [1, *_], **rest} if (n := 1):
            return 1_000, 1e3, 1j, b"x", -1, None
async def g(): return [i async for i in f() if i]
class C(D, metaclass=M): pass
x[1:2, ...] = y @ z
"""
    cells(lambda nb: nb.cells.append(new_code_cell(hard)))(root)
    code = f"import sys, json; sys.path.insert(0, {str(ROOT / 'tools')!r})\nfrom pathlib import Path\n"
    code += "from nbtools.fingerprint import Kit\n"
    code += f"for root in ({str(root)!r}, {str(ROOT)!r}):\n"
    code += "    for path in sorted((Path(root) / 'notebooks').rglob('0*.ipynb')):\n"
    code += "        print(Kit(Path(root)).fingerprint(json.loads(path.read_text(encoding='utf-8'))).parts)"
    said = subprocess.run([python / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout
    here = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == here and len(said) > 1000


def test_normal_form_tells_apart_what_differs() -> None:
    import ast

    texts = [
        "1",
        "1.0",
        "True",
        "'1'",
        "b'1'",
        "f'{1}'",
        "f'{1!r}'",
        "f'{1:2}'",
        "x",
        "x.y",
        "x['y']",
        "(1,)",
        "[1]",
        "{1}",
    ]
    assert len({normal(ast.parse(text)) for text in texts}) == len(texts)
    for one, same in (
        ("f'a' 'b'", "f'ab'"),
        ("def f():\n 'doc'\n return 1", "def f(): return 1"),
        ("'a' 'b'+c", "'ab'+c"),
    ):
        assert normal(ast.parse(one)) == normal(ast.parse(same))


# ---- the course itself --------------------------------------------------------------------------------------------


def test_the_whole_course_takes_seconds() -> None:
    begin = time.process_time()
    kit = Kit(ROOT)
    prints = [kit.fingerprint(json.loads(path.read_text(encoding="utf-8"))) for path in Project().notebooks()]
    assert time.process_time() - begin < 6  # about 1.5 on a quiet machine
    assert all(len(one.parts) > 10 for one in prints)


def test_the_kit_holds_what_the_tools_look_for() -> None:
    kit = Kit(ROOT)
    assert {fingerprint.KIT, fingerprint.DATASETS, *fingerprint.LOOK} <= set(kit.modules)
    listed = (ROOT / "mmkit" / "datasets" / "__init__.py").read_text(encoding="utf-8")
    assert sorted(re.findall(r'^    "(\w+)": \w+,$', listed, re.MULTILINE)) == sorted(kit.builders)
    assert fingerprint.ALWAYS <= set(kit.pins)


def test_what_a_lesson_of_the_course_depends_on() -> None:
    digits, text = (Course(Project()).lesson(Project().find(name)).now.parts for name in ("2.1", "2.2"))
    for name in (
        "layers.base.FusionLayer",
        "source espeak",
        "package tensorflow-datasets",
    ):
        assert name in digits, name
    assert not [name for name in digits if re.search("watch.builder|plots|quiet|minilm|exercises", name)]
    assert {"pretrained.minilm", "source minilm", "package keras-hub", "source food-reviews"} <= set(text)
    assert "source espeak" not in text
    held = Course(Project()).lesson(Project().find("2.1")).now.definitions
    assert {("mmkit.lesson.plots", "use_style"), ("mmkit.lesson.exercises", "grade")} <= held, "those are of the look"
    assert ("mmkit.lesson.drawing", "_width") in held, "what a drawing reaches, too"


# ---- what is stored -----------------------------------------------------------------------------------------------


def test_the_hash_of_outputs_is_of_what_they_show(root: Path) -> None:
    (path,) = root.rglob("*.ipynb")
    nb = read(path)
    nb.cells[2].outputs = [nbformat.v4.new_output("display_data", {"text/plain": "a\nb", "image/png": "iVBOR"})]
    before = outputs_hash(nb)
    nb.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    nb.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "name": "python3"}
    nb.cells[2].metadata["execution"] = {"iopub.status.busy": "now"}
    nb.cells[2].outputs[0].metadata["needs_background"] = "light"
    nb.cells[2].execution_count = 7
    write(nb, path)
    assert outputs_hash(read(path)) == before
    nb.cells[2].outputs[0].data["text/plain"] = "a\nc"
    assert outputs_hash(nb) != before


def test_a_body_on_the_line_of_its_def_has_not_run_when_its_class_was_made(tmp_path: Path) -> None:
    for name in ("data/sources.toml", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    module = tmp_path / "mmkit" / "husk.py"
    module.parent.mkdir()
    module.write_text(
        "class Husk:\n    def __init__(self): ...\n\n    def told(self):\n        return 1\n", encoding="utf-8"
    )
    kit = Kit(tmp_path)
    assert kit.ran({str(module): [1, 2, 4]}) == set()
    assert kit.ran({str(module): [1, 2, 4, 5]}) == {("mmkit.husk", "Husk")}
