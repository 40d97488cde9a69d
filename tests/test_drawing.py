"""Drawings of architectures, and figures with controls."""

import base64
import re
import sys
import types
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest

from mmkit.lesson import Drawing, controls, explore

LATE = ("image > eye > join", "touch > LSTM > join > Dense > ten scores")


def boxes(drawing: Drawing) -> dict[str, tuple[float, float, float, float, str]]:
    """Of each box, by what is written in it: x, y, width, height and colour."""
    svg = ElementTree.fromstring(drawing.svg())
    space = "{http://www.w3.org/2000/svg}"
    rectangles = svg.findall(f"{space}rect")[1:]  # the first is the paper
    texts = [text for text in svg.findall(f"{space}text") if text.get("font-size") == "13"]
    found = {}
    for rectangle, text in zip(rectangles, texts, strict=True):
        place = (float(rectangle.get(key)) for key in ("x", "y", "width", "height"))
        found[text.text] = (*place, rectangle.get("fill"))
    return found


def test_boxes_stand_behind_those_that_lead_to_them_and_do_not_touch() -> None:
    found = boxes(Drawing(LATE))
    assert found["image"][0] == found["touch"][0] < found["eye"][0] == found["LSTM"][0] < found["join"][0]
    assert found["join"][1] == pytest.approx((found["eye"][1] + found["LSTM"][1]) / 2, abs=1)
    assert found["join"][1] == found["Dense"][1] == found["ten scores"][1]
    placed = list(found.values())
    for number, (x, y, width, height, _) in enumerate(placed):
        for other_x, other_y, other_width, other_height, _ in placed[number + 1 :]:
            apart_x = x + width < other_x or other_x + other_width < x
            assert apart_x or y + height < other_y or other_y + other_height < y


def test_an_arrow_for_each_step_and_none_twice() -> None:
    svg = Drawing([*LATE, "touch > LSTM > own scores"]).svg()
    assert svg.count("marker-end") == 7


def test_light_lights_these_boxes_alone_and_leaves_the_drawing() -> None:
    plain = Drawing(LATE)
    lit = plain.light("LSTM", "join")
    colours = {name: box[-1] for name, box in boxes(lit).items()}
    assert {name for name, colour in colours.items() if colour == colours["LSTM"]} == {"LSTM", "join"}
    assert len({box[-1] for box in boxes(plain).values()}) == 1
    assert repr(lit) == "image > eye > [join]\ntouch > [LSTM] > [join] > Dense > ten scores"


def test_labels_take_a_second_line_and_any_letter() -> None:
    svg = Drawing(["x > y"], labels={"x": "a < b & c\n28 × 28"}).svg()
    assert "a &lt; b &amp; c</text>" in svg and "28 × 28</text>" in svg
    ElementTree.fromstring(svg)


def test_a_page_shows_a_picture_with_a_text_alternative() -> None:
    shown = Drawing(['a "b" > c']).light("c")._repr_html_()
    assert shown.startswith('<img alt="a &quot;b&quot; &gt; [c]" src="data:image/svg+xml;base64,')
    assert base64.b64decode(shown.split("base64,")[1].split('"')[0]).decode().startswith("<svg")


def test_a_drawing_fits_the_page() -> None:
    width = re.compile(r'width="(\d+)" role')
    assert int(width.search(Drawing([" > ".join(f"a long name {n}" for n in range(12))]).svg())[1]) <= 920
    assert int(width.search(Drawing(["x > y"]).svg())[1]) < 200


@pytest.mark.parametrize(
    "chains, options, said",
    [
        ([], {}, "wants chains of boxes"),
        (["a > > b"], {}, "wants chains of boxes"),
        (["a > b", "b > a"], {}, "leads back to itself"),
        (["a > b"], {"labels": {"c": "C"}}, "labels names 'c'.*choose from a, b"),
        (["a > b"], {"lit": ("c",)}, "lit names 'c'"),
    ],
)
def test_what_cannot_be_drawn(chains: list[str], options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Drawing(chains, **options)


# ---- controls -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(monkeypatch) -> list:
    """What is shown, in order; a figure that is drawn anew counts again."""
    shown: list = []

    class Handle:
        update = staticmethod(shown.append)

    def display(thing: object, display_id: bool = False) -> Handle:
        shown.append(thing)
        return Handle()

    class Slider:
        def __init__(self, options: list, description: str, continuous_update: bool) -> None:
            self.options, self.value, self.told = options, options[0], []

        def observe(self, call, name: str) -> None:
            self.told.append(call)

        def choose(self, value: object) -> None:
            self.value = value
            for call in self.told:
                call(None)

    widgets = types.SimpleNamespace(SelectionSlider=Slider, VBox=list)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    monkeypatch.setattr(controls, "display", display)
    monkeypatch.delenv("MMKIT_STATIC", raising=False)
    return shown


def draw(power: int, colour: str = "red"):
    figure, ax = plt.subplots()
    ax.set_title(f"{power} {colour}")
    return figure


def titles(shown: list) -> list[str]:
    return [thing.axes[0].get_title() for thing in shown if hasattr(thing, "axes")]


def test_sliders_draw_anew(page: list) -> None:
    explore(draw, power=[1, 2], colour=["red", "blue"])
    assert titles(page) == ["1 red"] and len(page) == 2
    power, colour = page[1]
    power.choose(2)
    colour.choose("blue")
    assert titles(page) == ["1 red", "2 red", "2 blue"] and not plt.get_fignums()


@pytest.mark.parametrize("why", ["MMKIT_STATIC", "no ipywidgets"])
def test_without_a_kernel_or_sliders_the_figure_stands_alone(why: str, page: list, monkeypatch) -> None:
    if why == "MMKIT_STATIC":
        monkeypatch.setenv("MMKIT_STATIC", "1")
    else:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    explore(draw, power=[3, 2])
    assert titles(page) == ["3 red"] and len(page) == 1


def test_explore_wants_choices(page: list) -> None:
    for choices in ({}, {"power": []}):
        with pytest.raises(ValueError, match="explore wants one choice"):
            explore(draw, **choices)
    assert not page
