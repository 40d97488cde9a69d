"""Every public class and function has an example in its docstring, and the example runs."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

ROOMS = (
    "mmkit",
    "mmkit.datasets",
    "mmkit.datasets.sessions",
    "mmkit.evaluate",
    "mmkit.files",
    "mmkit.layers",
    "mmkit.lesson",
    "mmkit.pipelines",
    "mmkit.pretrained",
    "mmkit.training",
)

WITHOUT: tuple[str, ...] = ()  # names that still lack an example


def public(room: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions that a room offers: those that `__all__` names, else those that it defines."""
    for name in getattr(room, "__all__", [name for name in vars(room) if not name.startswith("_")]):
        thing = getattr(room, name)
        ours = (getattr(thing, "__module__", None) or "").startswith("mmkit")
        if ours and (inspect.isclass(thing) or inspect.isfunction(thing)):
            if hasattr(room, "__all__") or thing.__module__ == room.__name__:
                yield name, thing


def objects() -> Iterator[Any]:
    for name in ROOMS:
        for short, thing in public(importlib.import_module(name)):
            full = f"{name}.{short}"
            lacks = pytest.mark.xfail(strict=True, reason="has no example yet", raises=AssertionError)
            yield pytest.param(thing, id=full, marks=lacks if full in WITHOUT else ())


@pytest.mark.parametrize("thing", objects())
def test_the_example_of_a_docstring_is_there_and_runs(thing: Any, capsys):
    text = inspect.getdoc(thing) or ""
    assert "\nExample:\n" in text, "no section `Example:`"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    test = doctest.DocTestParser().get_doctest(
        text.partition("\nExample:\n")[2], {"__name__": "__main__"}, thing.__qualname__, None, 0
    )
    assert test.examples, "the example has no line that begins with >>>"
    failed, _ = runner.run(test)
    assert not failed, capsys.readouterr().out
