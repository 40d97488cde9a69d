"""Statistics against their closed forms, and claims: each is shown, and one that does not hold stops the lesson."""

import numpy as np
import pytest
from IPython.utils import capture

from mmkit.evaluate import (
    COMPARISONS,
    ClaimFailed,
    Claims,
    Interval,
    bootstrap,
    labelled_sets,
    paired_bootstrap,
)


def test_interval_is_written_with_three_decimals():
    assert str(Interval(0.5, 0.25, 2 / 3)) == "0.500 [0.250, 0.667]"


@pytest.mark.parametrize("level, z", [(0.95, 1.96), (0.8, 1.2816)])
def test_bootstrap_of_a_mean_is_about_the_normal_interval(level, z):
    values = np.random.default_rng(0).normal(3, 2, 400)
    result = bootstrap(values, level=level, resamples=4_000)
    half = z * values.std() / np.sqrt(len(values))
    assert result.estimate == pytest.approx(values.mean())
    assert result.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert result.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    truth, covered = 0.7, 0
    for repeat in range(200):
        result = bootstrap(random.random(150) < truth, level=0.9, resamples=300, seed=repeat)
        covered += result.low <= truth <= result.high
    assert 0.83 <= covered / 200 <= 0.96  # 0.9, give or take three standard errors


def test_bootstrap_repeats_under_its_seed():
    values = np.arange(50.0)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_bootstrap_draws_repetitions_and_examples_again():
    random = np.random.default_rng(4)
    of_row, of_column = random.normal(0, 1, (12, 1)), random.normal(0, 2, (1, 200))
    result = bootstrap(of_row + of_column, resamples=4_000)
    assert result.estimate == pytest.approx((of_row + of_column).mean())
    error = np.sqrt(of_row.var() / 12 + of_column.var() / 200)  # two sources of luck, which add up
    assert (result.high - result.low) / 2 == pytest.approx(1.96 * error, rel=0.06)


def test_bootstrap_of_one_row_is_that_of_its_examples():
    values = np.random.default_rng(5).normal(size=300)
    one, row = bootstrap(values, resamples=4_000), bootstrap(values[None], resamples=4_000)
    assert row.estimate == pytest.approx(one.estimate)
    assert (row.low, row.high) == pytest.approx((one.low, one.high), abs=0.01)


def test_bootstrap_draws_groups_whole():
    random = np.random.default_rng(6)
    of_group = random.normal(size=40)
    groups = np.repeat(np.arange(40), 25)
    together = bootstrap(of_group[groups], groups=groups, resamples=4_000)
    alone = bootstrap(of_group, resamples=4_000)  # forty numbers, whatever they are repeated
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    apart = bootstrap(of_group[groups])
    assert (apart.high - apart.low) * 4 < together.high - together.low


def test_bootstrap_weighs_groups_by_their_size():
    values, groups = np.array([0, 1, 1, 1]), np.array(["one", "three", "three", "three"])
    assert bootstrap(values, groups=groups) == Interval(0.75, 0.0, 1.0)
    assert paired_bootstrap(np.stack([values, values]), np.zeros((2, 4)), groups=groups) == Interval(0.75, 0.0, 1.0)


@pytest.mark.parametrize("groups", [[1, 2], [1, 1, 1], [[1, 2, 3]]])
def test_bootstrap_wants_a_group_for_each_example(groups):
    with pytest.raises(ValueError, match="bootstrap wants one group per example"):
        bootstrap(np.ones(3), groups=np.array(groups))


def test_bootstrap_takes_booleans_and_equal_values():
    assert bootstrap([True, True, True]) == Interval(1.0, 1.0, 1.0)
    assert bootstrap(np.zeros(5)) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("values", [[], [1.0], 3.0, [[1.0], [2.0]], [[[1.0, 2.0]]], [1.0, np.nan], [np.inf, 1.0]])
def test_bootstrap_wants_one_finite_number_per_example(values):
    with pytest.raises(ValueError, match="bootstrap wants one finite number per example"):
        bootstrap(values)


def test_pairs_make_the_interval_narrower():
    random = np.random.default_rng(2)
    hard = random.normal(size=500)
    first, second = hard + random.normal(0.1, 0.1, 500), hard + random.normal(0, 0.1, 500)
    paired = paired_bootstrap(first, second)
    unpaired = [bootstrap(values) for values in (first, second)]
    assert paired.high - paired.low < 0.2 * max(one.high - one.low for one in unpaired)
    assert paired.low > 0  # seen only because the examples are the same
    assert paired.estimate == pytest.approx(first.mean() - second.mean())


def test_a_model_against_itself():
    values = np.random.default_rng(3).random(30) < 0.5
    assert paired_bootstrap(values, values) == Interval(0.0, 0.0, 0.0)


def test_pairs_need_the_same_examples():
    with pytest.raises(ValueError, match=r"same examples .* \(3,\) and \(4,\)"):
        paired_bootstrap(np.ones(3), np.ones(4))


# --- claims -------------------------------------------------------------------------------------------------------


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


# ---- labelled sets -------------------------------------------------------------------------------------------------


def test_labelled_sets_are_balanced_nested_and_drawn_anew():
    labels = np.array([0] * 20 + [1] * 20 + [7] * 3)
    sets = labelled_sets(labels, (2, 5), draws=3, seed=1)
    for draw in sets:
        assert np.bincount(labels[draw[2]])[[0, 1, 7]].tolist() == [2, 2, 2]
        assert np.bincount(labels[draw[5]])[[0, 1, 7]].tolist() == [5, 5, 3]  # a class with fewer gives all it has
        assert set(draw[2]) < set(draw[5]) and len(set(draw[5])) == 13
    assert len({tuple(sorted(draw[5])) for draw in sets}) == 3
    again = labelled_sets(labels, (5,), draws=1, seed=1)
    assert again[0][5].tolist() == sets[0][5].tolist()
    assert labelled_sets(labels, (5,), draws=1, seed=2)[0][5].tolist() != sets[0][5].tolist()


@pytest.mark.parametrize(
    "labels, per_class, draws",
    [([0, 1], (0,), 1), ([0, 1], (), 1), ([0, 1], (1,), 0), ([[0, 1]], (1,), 1), ([], (1,), 1)],
)
def test_labelled_sets_refuse(labels, per_class, draws):
    with pytest.raises(ValueError, match="labelled_sets wants"):
        labelled_sets(np.array(labels), per_class, draws=draws)
