"""Statistics against their closed forms."""

import numpy as np
import pytest

from mmkit.evaluate import Interval, bootstrap, paired_bootstrap


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
