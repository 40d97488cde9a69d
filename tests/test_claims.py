"""The table of claims."""

import numpy as np
import pytest
from IPython.utils import capture

from mmkit.lesson.claims import COMPARISONS, ClaimFailed, Claims


@pytest.mark.parametrize("comparison, holding", [(">=", [2, 3]), (">", [3]), ("<=", [1, 2]), ("<", [1]), ("==", [2])])
@pytest.mark.parametrize("value", [1, 2, 3])
def test_each_comparison(comparison, holding, value, capsys):
    claims = Claims()
    claims.check("it compares", value, comparison, 2)
    if value in holding:
        claims.table()
    else:
        with pytest.raises(ClaimFailed, match=f"it compares: {value} is not {comparison} 2"):
            claims.table()
    shown = capsys.readouterr().out
    assert ("holds" in shown) == (value in holding) and ("FAILS" in shown) == (value not in holding)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("value, bound", [(np.nan, 1), (1, np.nan)])
def test_nan_meets_no_bound(comparison, value, bound):
    claims = Claims()
    claims.check("not a number", value, comparison, bound)
    with pytest.raises(ClaimFailed):
        claims.table()


def test_the_whole_table_is_shown_before_it_raises(capsys):
    claims = Claims()
    claims.check("first fails", 1, ">", 2)
    claims.check("second holds", 0.123456, "<", 1)
    with pytest.raises(ClaimFailed) as failed:
        claims.table()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["verdict", "FAILS", "holds"]
    assert "0.1235" in lines[2]
    assert "second" not in str(failed.value)


def test_a_cell_run_twice_replaces_its_claim(capsys):
    claims = Claims()
    claims.check("the cell's claim", 0, ">", 1)
    claims.check("another", 1, "==", 1)
    claims.check("the cell's claim", 2, ">", 1)
    claims.table()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("the cell's claim")


@pytest.mark.parametrize("value", [True, np.float32(1), np.array([1]), np.ones((1, 1)), np.int64(1)])
def test_one_number_of_any_kind(value, capsys):
    claims = Claims()
    claims.check("one", value, "==", 1)
    claims.table()


@pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bound", [0.9, 0.1, 0.7, 1e-3, 123.456])
def test_a_number_meets_its_own_bound_in_its_own_precision(precision, bound, capsys):
    claims = Claims()
    for place, comparison in enumerate((">=", "<=", "==")):
        claims.check(f"value {place}", precision(bound), comparison, bound)
        claims.check(f"bound {place}", bound, comparison, precision(bound))
    claims.table()
    above = np.nextafter(precision(bound), precision(np.inf), dtype=precision)
    claims.check("more", above, "<=", bound)
    with pytest.raises(ClaimFailed, match="more: .* is not <= "):
        claims.table()


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize(
    "value, bound",
    [
        (np.float32(0.9) - np.float32(6e-8), 0.9),
        (0.9 - 1e-9, 0.9),
        (0.1 + 0.2, 0.3),
        (0.9, np.float32(0.9)),
        (0.12345678, 0.1234568),
        (1e-6 + 1e-21, 1e-6),
        (12345.6, 12345.5),
        (-0.00001, 0),
        (1 / 3, np.float64(1) / 3),
    ],
)
def test_the_numbers_shown_give_the_verdict_shown(comparison, value, bound, capsys):
    claims = Claims()
    claims.check("c", value, comparison, bound)
    try:
        claims.table()
    except ClaimFailed:
        pass
    _, shown, sign, limit, verdict = capsys.readouterr().out.splitlines()[1].split()
    assert COMPARISONS[sign](float(shown), float(limit)) == (verdict == "holds")


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("  ", 1, ">", 0), "wants a text"),
        (("x", 1, "=>", 0), "unknown comparison '=>': use one of >=, >"),
        (("x", [1, 2], ">", 0), "the value of claim 'x' must be one number"),
        (("x", "1", ">", 0), "the value of claim 'x' must be one number"),
        (("x", 1, ">", None), "the bound of claim 'x' must be one number"),
    ],
)
def test_claims_made_wrongly(arguments, told):
    with pytest.raises(ValueError, match=told):
        Claims().check(*arguments)


def test_a_table_of_nothing():
    with pytest.raises(ValueError, match="no claim was checked"):
        Claims().table()


def test_a_page_gets_html_with_the_text_escaped():
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.instance()
    try:
        claims = Claims()
        claims.check("a < b & c", 1, ">", 0)
        with capture.capture_output() as captured:
            claims.table()
    finally:
        InteractiveShell.clear_instance()
    (output,) = captured.outputs
    assert "a &lt; b &amp; c" in output.data["text/html"] and "a < b" not in output.data["text/html"]
    assert "holds" in output.data["text/plain"]


def test_count_says_how_many_hold_and_stops_if_one_fails(capsys):
    checks = Claims()
    checks.check("The shares sum to 1.", 1.0, "==", 1.0)
    checks.count()
    assert capsys.readouterr().out == "1 further check holds.\n"
    checks.check("Padding changes nothing.", 0.2, "<=", 0.1)
    with pytest.raises(ClaimFailed, match="^Padding changes nothing.: 0.2 is not <= 0.1$"):
        checks.count()
    assert capsys.readouterr().out == "1 of 2 further checks hold.\n"
    with pytest.raises(ValueError, match="no claim was checked"):
        Claims().count()


@pytest.mark.parametrize("way", ["table", "count"])
def test_the_notebooks_tools_find_what_was_measured(way, monkeypatch):
    """In full, beside the rounded table; what is no table has no HTML."""
    shown = []
    monkeypatch.setattr("mmkit.lesson.claims._display", shown.append)
    made = Claims()
    made.check("It gains.", 0.123456789, ">=", 0.1)
    getattr(made, way)()
    bundle = shown[0]._repr_mimebundle_()
    row = {"text": "It gains.", "value": 0.123456789, "comparison": ">=", "bound": 0.1, "holds": True}
    assert bundle["application/vnd.mmkit.claims+json"] == [row]
    assert ("text/html" in bundle) == (way == "table") and bundle["text/plain"] == repr(shown[0])
