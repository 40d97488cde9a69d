"""What the result of a lesson depends on, read from the sources: nothing is run and mmkit is not imported.

A fingerprint is a dict from the name of a part to a short hash (for a package: its version). The parts are

- `cells`: the syntax trees of the lesson's code cells, without the fixed block that begins the Setup cell and without
  cells tagged `drawing`;
- each definition of mmkit that the cells reach, followed through mmkit: functions, constants, classes whole with their
  bases; and, of each module that is imported on the way, the statements that do more than name a value;
- the builder of each data set that a literal names, and the pins of each source (data/sources.toml) that one names;
- the versions in requirements.lock of TensorFlow, Keras, NumPy and what the lesson and the reached modules import.

A module is taken whole where a name in it cannot be resolved: `getattr` with a variable, `import *`, a module handed on
as a value, a script that is run by its path. Comments, docstrings, formatting and `__all__` do not count. What only
shows (`LOOK`) is hashed apart. The hashes are the same on every Python that the kit supports.
"""

import ast
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FORMAT = "1"  # another one makes every lesson stale
KIT, DATASETS = "mmkit", "mmkit.datasets"
LOOK = tuple(f"mmkit.lesson.{name}" for name in ("plots", "drawing", "controls", "exercises"))  # modules that only show
LOOK_PACKAGES = {"matplotlib", "ipython", "tqdm"}
ALWAYS = {"tensorflow", "keras", "numpy"}
DISTRIBUTIONS = {  # of imports whose package has another name
    "sklearn": ("scikit-learn",),
    "skimage": ("scikit-image",),
    "PIL": ("pillow",),
    "keras_hub": ("keras-hub", "keras-nlp"),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "yaml": ("pyyaml",),
}
MODULE = ""  # stands for what a module does when it is imported, beside the names of what it defines
Key = tuple[str, str]  # a module of mmkit and a name in it
Target = tuple[str, str | None]  # what an import binds: a name in a module, or (None) the module
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Fingerprint:
    """The parts that decide a lesson's result, the hash of what only shows, and the definitions behind the two."""

    parts: dict[str, str]
    look: str
    definitions: frozenset[Key]


def normal(node: object) -> str:
    """A syntax tree as text: without places, docstrings, `pass` and empty fields, alike on all Pythons."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!a}"
    if isinstance(node, ast.JoinedStr):
        pieces: list[str] = []  # neighbouring texts are one: Pythons cut them differently
        for value in node.values:
            text = f"str {value.value!a}" if isinstance(value, ast.Constant) else normal(value)
            if isinstance(value, ast.Constant) and pieces and pieces[-1].startswith("str "):
                text = f"str {ast.literal_eval(pieces.pop()[4:]) + value.value!a}"
            pieces += [text] if text != "str ''" else []
        return f"JoinedStr[{' '.join(pieces)}]" if pieces else ""
    if isinstance(node, ast.AST):
        skipped = {"ctx", "kind", "type_comment"}
        fields = ((name, normal(getattr(node, name, None))) for name in node._fields if name not in skipped)
        return f"{type(node).__name__}({' '.join(f'{name}={text}' for name, text in fields if text)})"
    if isinstance(node, list):
        return f"[{' '.join(normal(one) for one in node if not _says_nothing(one))}]" if node else ""
    return "" if node is None else repr(node)


def _says_nothing(node: object) -> bool:
    """`pass`, and a text that stands alone, as docstrings do."""
    alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return alone or isinstance(node, ast.Pass)


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:10]


def title(key: Key) -> str:
    """How a definition is called in a fingerprint."""
    module = key[0].removeprefix(f"{KIT}.")
    return f"{module}.{key[1]}" if key[1] else f"{module}, when imported"


class _References(ast.NodeVisitor):
    """What a tree refers to: names with their attributes, as ("layers", "GatedFusion"), and the texts in it."""

    def __init__(self, trees: Iterable[ast.AST]) -> None:
        self.chains: set[tuple[str, ...]] = set()
        self.texts: set[str] = set()
        self._local: list[set[str]] = []
        for tree in trees:
            self.visit(tree)

    def _add(self, node: ast.expr, *more: str) -> bool:
        names = list(more)
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return False
        if not any(node.id in names for names in self._local):
            self.chains.add((node.id, *names))
        return True

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not _says_nothing(node):
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._add(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not self._add(node):
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=str(name)), *rest]):
                for one in rest if self._add(owner, name) else node.args:
                    self.visit(one)
            case _:
                self.generic_visit(node)

    def _function(self, node: Function) -> None:
        outside = [node.args, *getattr(node, "decorator_list", []), getattr(node, "returns", None)]
        for one in filter(None, outside):
            self.visit(one)
        body = node.body if isinstance(node.body, list) else [node.body]
        free = {name for one in _scope(body) if isinstance(one, ast.Global | ast.Nonlocal) for name in one.names}
        bound = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)} | bound_names(_scope(body))
        self._inside(bound - free, body)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)  # it is worked out outside
        targets = {name for one in node.generators for name in bound_names(ast.walk(one.target))}
        self._inside(targets, ast.iter_child_nodes(node))

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension

    def _inside(self, local: set[str], nodes: Iterable[ast.AST]) -> None:
        self._local.append(local)
        for node in nodes:
            self.visit(node)
        self._local.pop()


def _scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes and all within, without what functions, classes and comprehensions in them hold."""
    for node in nodes:
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            yield from _scope(ast.iter_child_nodes(node))


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that these nodes, each by itself, assign, define or delete."""
    bound = set()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def _run_by_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that its module's import works out: all but the insides of functions."""
    yield node
    if isinstance(node, Function):
        inner = [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]
    else:
        inner = ast.iter_child_nodes(node)
    for one in inner:
        yield from _run_by_import(one)


@dataclass(frozen=True)
class _Imports:
    """What imports bind, and the modules that they load."""

    bound: dict[str, list[Target]]
    loaded: set[str]

    @classmethod
    def of(cls, nodes: Iterable[ast.AST], package: str = "") -> "_Imports":
        found = cls({}, set())
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    target = (alias.name if alias.asname else first, None)
                    found.bound.setdefault(alias.asname or first, []).append(target)
                    found.loaded.add(alias.name)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                module = ".".join([*above, *filter(None, [node.module])])
                for alias in node.names:
                    found.bound.setdefault(alias.asname or alias.name, []).append((module, alias.name))
                    found.loaded.add(f"{module}.{alias.name}")  # perhaps a module; if not, its front is one
        return found


class _Module:
    """A module of mmkit.

    Attributes:
        defined: its statements, by the names that they define; under `MODULE` those that do more than name something.
        imports: of the imports that are run when it is imported.
        calls: what is called then, each with the name of the definition that it decorates, if it does.
    """

    def __init__(self, name: str, package: str, path: Path) -> None:
        self.name, self.package, self.path = name, package, path
        self.body = body = ast.parse(path.read_text(encoding="utf-8")).body
        self.defined: dict[str, list[ast.stmt]] = {}
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.imports = _Imports.of((one for node in body for one in _run_by_import(node)), package)
        for node in body:
            for defined in self._names(node):
                self.defined.setdefault(defined, []).append(node)
            for decorator in getattr(node, "decorator_list", []):
                self.calls += [(node.name, chain) for chain in _References([decorator]).chains]
            run = list(_run_by_import(node))
            called = [one.func for one in run if isinstance(one, ast.Call)]
            called += [decorator for one in run for decorator in getattr(one, "decorator_list", [])]
            self.calls += [("", chain) for chain in _References(called).chains]

    @staticmethod
    def _names(node: ast.stmt) -> set[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return {node.name}
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [one for target in targets for one in ast.walk(target)]
            if all(isinstance(one, ast.Name | ast.Tuple | ast.expr_context) for one in parts):
                return bound_names(parts) - {"__all__"}
        alone = node.body if isinstance(node, ast.If) and not node.orelse else [node]  # `if TYPE_CHECKING:`
        if _says_nothing(node) or all(isinstance(one, ast.Import | ast.ImportFrom) for one in alone):
            return set()
        return bound_names(_scope([node])) | {MODULE}


@dataclass(frozen=True)
class _Read:
    """A definition, read: what it refers to, its own imports, its hash."""

    references: _References
    imports: _Imports
    hash: str


class Kit:
    """What fingerprints are made from: mmkit's modules, the pinned sources and the lock of the checkout `root`."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, _Module] = {}
        for path in sorted((root / KIT).rglob("*.py")):
            *above, last = path.relative_to(root).with_suffix("").parts
            name = ".".join(above if last == "__init__" else [*above, last])
            self.modules[name] = _Module(name, ".".join(above), path)
        self.sources = tomllib.loads((root / "data" / "sources.toml").read_text(encoding="utf-8"))
        lock = (root / "requirements.lock").read_text(encoding="utf-8")
        self.pins: dict[str, str] = {}
        for name, pin in re.findall(r"^([\w.-]+)==([^\\\n]+)", lock, re.MULTILINE):
            self.pins[name] = ", ".join(filter(None, [self.pins.get(name), pin.strip()]))
        self._read: dict[Key, _Read] = {}

    @cached_property
    def builders(self) -> dict[str, Key]:
        """The builder of each data set, by the name that TFDS gives it."""
        return {
            re.sub(r"(?<!^)(?=[A-Z])", "_", node.name).lower(): (module.name, node.name)
            for module in self.modules.values()
            for node in module.body
            if module.name.startswith(DATASETS) and isinstance(node, ast.ClassDef)
            if any(ast.unparse(base).endswith("Builder") for base in node.bases)
            if "VERSION" in bound_names(_scope(node.body))
        }

    def distributions(self, imported: Iterable[str]) -> set[str]:
        """The locked packages that hold these modules."""
        first = {name.partition(".")[0] for name in imported}
        found = {name for one in first for name in DISTRIBUTIONS.get(one, (one.lower().replace("_", "-"),))}
        return found & set(self.pins)

    def read(self, key: Key) -> _Read:
        if key not in self._read:
            module = self.modules[key[0]]
            nodes = module.defined[key[1]]
            imports = _Imports.of((one for node in nodes for one in ast.walk(node)), module.package)
            self._read[key] = _Read(_References(nodes), imports, digest(*map(normal, nodes)))
        return self._read[key]

    def fingerprint(self, nb: Mapping) -> Fingerprint:
        """The fingerprint of a notebook, given as nbformat or `json` reads it."""
        fixed, drawn, cells, unread = _code(nb)
        imports = _Imports.of(one for node in [*fixed, *cells] for one in ast.walk(node))
        reach, look = _Reach(self), _Reach(self)
        reach.follow(_References(cells), imports)
        look.keys |= reach.keys
        look.add(reach.shown)
        look.follow(_References([*fixed, *drawn]), imports)
        while look.shown - look.keys:  # what only shows may reach more of its kind
            look.add(look.shown)
        look.keys -= reach.keys
        parts = {"format": FORMAT, "cells": digest(*map(normal, cells), *unread)}
        parts |= self._hashes(reach.keys)
        for name in sorted(reach.texts & set(self.sources)):
            row = self.sources[name]
            parts[f"source {name}"] = digest(
                json.dumps([row[pin] for pin in ("package", "version", "sha256", "members")])
            )
        parts |= {f"package {name}": self.pins[name] for name in sorted(reach.packages - LOOK_PACKAGES)}
        shown = (
            {"drawings": digest(*map(normal, drawn))}
            | self._hashes(look.keys)
            | {name: self.pins[name] for name in sorted(reach.packages & LOOK_PACKAGES)}
        )
        return Fingerprint(parts, digest(json.dumps(shown)), frozenset(reach.keys | look.keys))

    def _hashes(self, keys: Iterable[Key]) -> dict[str, str]:
        return {title(key): self.read(key).hash for key in sorted(keys)}

    def ran(self, lines: Mapping[str, Iterable[int]]) -> set[Key]:
        """The functions, and the classes with a method, of which lines were run: `lines` by the path of a file."""
        from coverage.regions import code_regions

        found = set()
        for module in self.modules.values():
            run = set(lines.get(str(module.path), ()))
            regions = code_regions(module.path.read_text(encoding="utf-8")) if run else []
            for one in regions:  # a body on the line of its `def` cannot be told from that
                if one.kind == "function" and (one.lines - {one.start}) & run:
                    found.add((module.name, one.name.partition(".")[0]))
        return found


class _Reach:
    """What is reached in mmkit from somewhere, followed through it.

    Attributes:
        keys: the definitions.
        shown: those in modules that only show. They are followed where they are added by name, with `add`.
        texts: the literals met on the way, and what stands in them before the first "/" or ":".
        packages: the locked packages imported there.
    """

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.keys: set[Key] = set()
        self.shown: set[Key] = set()
        self.texts: set[str] = set()
        self.packages = ALWAYS & set(kit.pins)
        self._loaded: set[str] = set()

    def follow(self, references: _References, imports: _Imports, module: _Module | None = None) -> None:
        """Adds what trees of `module` (None: of a lesson) refer to and import."""
        for name in imports.loaded:
            self._load(name)
        self.packages |= self.kit.distributions(imports.loaded)
        found = {key for chain in {*references.chains, ("*",)} for key in self._resolve(chain, imports, module)}
        if module and module.name == DATASETS:  # it lists them all: one of them is reached by its name elsewhere
            found -= set(self.kit.builders.values())
        else:
            self.texts |= references.texts | {re.split("[/:]", text, maxsplit=1)[0] for text in references.texts}
        self._enter(found)
        if DATASETS in self._loaded:
            self._enter({self.kit.builders[name] for name in self.texts & set(self.kit.builders)})

    def add(self, keys: Iterable[Key]) -> None:
        """Adds definitions and what they refer to."""
        for key in set(keys) - self.keys:
            self.keys.add(key)
            module, read = self.kit.modules[key[0]], self.kit.read(key)
            self._load(module.name)
            self.packages |= self.kit.distributions(module.imports.loaded)
            self.follow(read.references, read.imports, module)

    def _enter(self, keys: set[Key]) -> None:
        shown = {key for key in keys if any(f"{key[0]}.".startswith(f"{one}.") for one in LOOK)}
        self.shown |= shown
        self.add(keys - shown)

    def _load(self, name: str) -> None:
        """Adds what is done when the module `name` is imported, and those around it and those that it imports."""
        above = name.rpartition(".")[0]
        if above:
            self._load(above)
        module = self.kit.modules.get(name)
        if module is None or name in self._loaded:
            return
        self._loaded.add(name)
        for imported in module.imports.loaded:
            self._load(imported)
        self._enter({(name, MODULE)} if MODULE in module.defined else set())
        for decorated, chain in module.calls:
            called = self._resolve(chain, _Imports({}, set()), module)
            self._enter(called | ({(name, decorated)} if called and decorated else set()))

    def _resolve(self, chain: tuple[str, ...], imports: _Imports, module: _Module | None) -> set[Key]:
        name, *rest = chain
        found = {(module.name, name)} if module and name in module.defined else set()
        for target in imports.bound.get(name) or (module.imports.bound.get(name, []) if module else []):
            found |= self._attribute(target, rest)
        return found

    def _attribute(self, target: Target, rest: list[str]) -> set[Key]:
        """What an imported name, with the attributes `rest`, leads to."""
        module, path = self.kit.modules.get(target[0]), [*filter(None, [target[1]]), *rest]
        if module is None:
            return set()
        name = path[0] if path else "*"
        bound = [one for one in module.imports.bound.get(name, []) if one != (module.name, name) and name != "*"]
        if name in module.defined or bound:
            found = {(module.name, name)} if name in module.defined else set()
            return found.union(*(self._attribute(one, path[1:]) for one in bound))
        if f"{module.name}.{name}" in self.kit.modules:
            return self._attribute((f"{module.name}.{name}", None), path[1:])
        if "__getattr__" in module.defined:  # it brings names from modules below, when they are asked for
            below = [one for one in self.kit.modules.values() if one.name.startswith(f"{module.name}.")]
            found = {(one.name, name) for one in below if name in one.defined}
            if found:
                return found | {(module.name, "__getattr__")}
        found = {(module.name, one) for one in module.defined}
        for one in (one for bound in module.imports.bound.values() for one in bound if one[1]):
            if one[1] != "*" and f"{one[0]}.{one[1]}" not in self.kit.modules:
                found |= self._attribute(one, [])
        return found


def _code(nb: Mapping) -> tuple[list[ast.stmt], list[ast.stmt], list[ast.stmt], list[str]]:
    """The statements of the Setup cell's fixed block, of drawings, of all other code; and cells that are no Python."""
    fixed, drawn, code, unread = [], [], [], []
    for cell in nb["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        try:
            body = ast.parse(source).body
        except SyntaxError:
            unread.append(source)
            continue
        ends = [i for i, node in enumerate(body) if isinstance(node, ast.With)]
        if "setup" in cell["metadata"].get("tags", []) and ends:  # the block ends in `with mmkit.quiet_imports():`
            end = body[ends[0]]
            fixed += [*body[: ends[0]], *[ast.Expr(item.context_expr) for item in end.items]]
            body = [*end.body, *body[ends[0] + 1 :]]
        if "drawing" in cell["metadata"].get("tags", []):
            drawn += body
        else:
            code += body
    return fixed, drawn, code, unread
