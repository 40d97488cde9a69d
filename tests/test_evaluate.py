"""Statistics against their closed forms, and intervals against simulated experiments."""

import tracemalloc
import warnings

import keras
import numpy as np
import pytest
from scipy import special, stats

from mmkit.evaluate import (
    Interval,
    bootstrap,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    paired_bootstrap,
    reliability,
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


def share_covered(experiment, truth, *, level=0.95, times=400):
    """The share of simulated experiments whose interval holds the truth. An experiment gives values and groups."""
    covered = 0
    for number in range(times):
        values, groups = experiment(np.random.default_rng(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of fewer than five groups
            if isinstance(values, tuple):
                result = paired_bootstrap(*values, groups=groups, level=level, resamples=300, seed=number)
            else:
                result = bootstrap(values, groups=groups, level=level, resamples=300, seed=number)
        covered += result.low <= truth <= result.high
    return covered / times


def grouped(sizes, of_group, of_example=1.0):
    """Experiments with groups of these sizes, whose means are spread by `of_group` about 0."""
    groups = np.repeat(np.arange(len(sizes)), sizes)

    def experiment(random):
        noise = random.normal(0, of_example, len(groups)) if of_example else 0
        return random.normal(0, of_group, len(sizes))[groups] + noise, groups

    return experiment


def repeated(repetitions, of_row, of_column, of_both, groups=None):
    """Experiments with repetitions of 100 examples: three sources of chance."""

    def experiment(random):
        values = random.normal(0, of_row, (repetitions, 1)) + random.normal(0, of_both, (repetitions, 100))
        if groups is None:
            return values + random.normal(0, of_column, 100), None
        of = np.repeat(np.arange(groups), -(-100 // groups))[:100]
        return values + random.normal(0, of_column, groups)[of], of

    return experiment


def right_or_wrong(examples, share):
    return lambda random: (random.random(examples) < share, None)


def right_by_group(groups, repetitions=1):
    """Experiments with groups of twenty examples, each group with its own share of right answers, .90 on average."""

    def experiment(random):
        shares = random.choice([0.8, 0.88, 0.95, 0.97], groups)
        of = np.repeat(np.arange(groups), 20)
        return random.random((repetitions, 20 * groups)) < shares[of], of

    return experiment


def two_models(examples, only_first, only_second):
    """Experiments with two models: the shares of examples that only one of them gets right; both get half of all."""

    def experiment(random):
        luck = random.random(examples)
        both = luck > 0.5
        return (both | (luck < only_first), both | ((luck >= 0.4 - only_second) & (luck < 0.4))), None

    return experiment


FEW = {
    "2 groups": (grouped([20] * 2, 1), 0),
    "3 groups": (grouped([20] * 3, 1), 0),
    "5 groups": (grouped([20] * 5, 1), 0),
    "10 groups": (grouped([20] * 10, 1), 0),
    "3 groups, alike": (grouped([20] * 3, 0), 0),
    "3 groups of unequal size": (grouped([100, 10, 10], 1, 0), 0),
    "5 groups of unequal size": (grouped([100, 10, 10, 5, 60], 1), 0),
    "10 groups of unequal size": (grouped([100, 10, 10, 5, 60, 20, 5, 40, 10, 30], 1, 0), 0),
    "2 repetitions": (repeated(2, 1, 1, 1), 0),
    "3 repetitions": (repeated(3, 1, 1, 1), 0),
    "5 repetitions": (repeated(5, 0.1, 1, 0.5), 0),
    "2 repetitions, pure noise": (repeated(2, 0, 0, 1), 0),
    "2 repetitions of 3 groups": (repeated(2, 0.1, 1, 0.5, groups=3), 0),
    "3 repetitions of 5 groups": (repeated(3, 1, 1, 1, groups=5), 0),
    "30 examples, half of them right": (right_or_wrong(30, 0.5), 0.5),
    "30 examples, .90 right": (right_or_wrong(30, 0.9), 0.9),
    "30 examples, .95 right": (right_or_wrong(30, 0.95), 0.95),
    "30 examples, .99 right": (right_or_wrong(30, 0.99), 0.99),
    "3 groups, .90 right": (right_by_group(3), 0.9),
    "5 groups, .90 right": (right_by_group(5), 0.9),
    "10 groups, .90 right": (right_by_group(10), 0.9),
    "2 repetitions of 5 groups, .90 right": (right_by_group(5, 2), 0.9),
    "60 examples, .02 right": (right_or_wrong(60, 0.02), 0.02),
    "100 examples, .99 right": (right_or_wrong(100, 0.99), 0.99),
    "two models, 30 examples": (two_models(30, 0.1, 0.02), 0.08),
    "two models, 100 examples": (two_models(100, 0.0, 0.02), -0.02),
}


@pytest.mark.parametrize("name", FEW)
def test_95_percent_is_90_or_more_where_there_is_little_to_draw(name):
    experiment, truth = FEW[name]
    assert share_covered(experiment, truth) >= 0.9


@pytest.mark.parametrize(
    "experiment, truth",
    [
        (grouped([20] * 3, 1), 0),
        (grouped([20] * 10, 1), 0),
        (repeated(3, 1, 0.1, 0.1), 0),
        (right_or_wrong(200, 0.7), 0.7),
        (grouped([1] * 60, 1, 0), 0),
    ],
)
def test_an_interval_is_not_wider_than_it_must_be(experiment, truth):
    covered = share_covered(experiment, truth, level=0.8)
    assert covered == pytest.approx(0.8, abs=0.08)  # four standard errors of 400 experiments


def test_few_groups_of_equal_size_give_students_interval_of_their_means():
    random = np.random.default_rng(7)
    means = random.normal(size=6)
    groups = np.tile(np.arange(6), 10)
    values = means[groups] + np.repeat(np.linspace(-1, 1, 10), 6)  # noise that every group's mean is without
    expected = stats.t.interval(0.9, 5, means.mean(), means.std(ddof=1) / np.sqrt(6))
    found = bootstrap(values, groups=groups, level=0.9)
    assert (found.low, found.high) == pytest.approx(expected)
    alone = bootstrap(means, level=0.9)  # one number a group is the same
    assert (alone.low, alone.high) == pytest.approx(expected)
    rows = np.tile(means[:, None], 40)  # and so are repetitions that differ as a whole
    assert bootstrap(rows, level=0.9).high == pytest.approx(expected[1])


def test_thirty_of_thirty_is_no_certainty():
    found = bootstrap(np.ones(30, bool))
    assert found.estimate == found.high == 1 and 0.88 < found.low < 0.94
    none = bootstrap(np.zeros(30, bool))
    assert none.estimate == none.low == 0 and none.high == pytest.approx(1 - found.low)
    agree = paired_bootstrap(np.ones(30, bool), np.ones(30, bool))
    assert agree.estimate == 0 and -agree.low == pytest.approx(agree.high) and 0.04 < agree.high < 0.12
    whole = bootstrap(np.ones((3, 20)), groups=np.repeat(np.arange(5), 4))
    assert whole.estimate == whole.high == 1 and whole.low < 0.95


def test_many_right_answers_give_about_the_normal_interval():
    right = np.arange(1000) % 10 > 0
    found = bootstrap(right)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 1000)
    assert (found.low, found.high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.1 * half)


@pytest.mark.parametrize("level", [95, 0, 1, -0.5, np.nan])
@pytest.mark.parametrize("shape", [(10,), (4, 10), (60,)])
def test_level_is_a_share(level, shape):
    with pytest.raises(ValueError, match="level must lie between 0 and 1.*: got"):
        bootstrap(np.arange(float(np.prod(shape))).reshape(shape), level=level)
    with pytest.raises(ValueError, match="level must lie between 0 and 1.*: got"):
        paired_bootstrap(np.ones(shape), np.zeros(shape), level=level)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 2])
def test_resamples_are_positive(groups):
    with pytest.raises(ValueError, match="resamples must be positive.*: got 0"):
        bootstrap(np.arange(60.0), groups=groups, resamples=0)


@pytest.mark.parametrize(
    "groups", [[1.0, 2.0, np.nan], np.array(["a", None, "b"]), np.array(["a", np.nan, "b"], dtype=object)]
)
def test_a_group_that_is_missing(groups):
    with pytest.raises(ValueError, match="groups holds NaN or None"):
        bootstrap(np.arange(3.0), groups=groups)


def test_few_groups_are_warned_of():
    values, groups = np.arange(12.0), np.arange(12) // 3
    with pytest.warns(UserWarning, match="from 4 groups .* report each group's mean") as told:
        bootstrap(values, groups=groups)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="from 4 groups") as told:
        paired_bootstrap(values, values * 2, groups=groups)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap(values[:10], groups=np.arange(10) // 2)


@pytest.mark.parametrize("shape", [(70_000,), (5, 70_000), (50, 20_000)])
def test_memory_is_bounded(shape):
    values = np.random.default_rng(8).normal(size=shape)
    tracemalloc.start()
    bootstrap(values, resamples=200)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6


def test_bootstrap_repeats_under_its_seed():
    values = np.arange(50.0)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_bootstrap_draws_repetitions_and_examples_again():
    random = np.random.default_rng(4)
    for repetitions in (12, 60):  # Student's t, and the bootstrap
        of_row, of_column = random.normal(0, 1, (repetitions, 1)), random.normal(0, 2, (1, 200))
        result = bootstrap(of_row + of_column, resamples=4_000)
        assert result.estimate == pytest.approx((of_row + of_column).mean())
        # Two sources of luck, which add up.
        reach = stats.t.ppf(0.975, [repetitions - 1, 199])
        error = np.hypot(*(reach * [stats.sem(of_row.ravel()), stats.sem(of_column.ravel())]))
        assert (result.high - result.low) / 2 == pytest.approx(error, rel=0.07)


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


def test_groups_weigh_by_their_size():
    values, groups = np.array([0, 1, 2, 3.5] * 15), np.array(["one", "three", "three", "three"] * 15)
    groups = np.char.add(groups, np.repeat(np.arange(15), 4).astype(str))
    for chosen in (slice(None), slice(24)):  # 30 groups, and 12
        found = bootstrap(values[chosen], groups=groups[chosen])
        assert found.estimate == values.mean()
        assert (found.low + found.high) / 2 == pytest.approx(found.estimate, abs=0.05)
    many = np.concatenate([groups, np.char.add(groups, "more")])
    found = bootstrap(np.tile(values, 2), groups=many)
    assert (found.low + found.high) / 2 == pytest.approx(values.mean(), abs=0.05)
    assert paired_bootstrap(np.tile(values, (2, 2)), np.zeros((2, 120)), groups=many).estimate == values.mean()


@pytest.mark.parametrize("groups", [[1, 2], [1, 1, 1], [[1, 2, 3]]])
def test_bootstrap_wants_a_group_for_each_example(groups):
    with pytest.raises(ValueError, match="groups must hold one group per example, of two or more"):
        bootstrap(np.ones(3), groups=np.array(groups))


def test_bootstrap_takes_booleans_and_equal_values():
    right = np.arange(30) % 5 > 0
    assert bootstrap(right) == bootstrap(right.astype("float32")) == bootstrap(right.tolist())
    assert bootstrap(np.full(5, 0.25)) == Interval(0.25, 0.25, 0.25)


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
    values = np.random.default_rng(3).random(30)
    assert paired_bootstrap(values, values) == Interval(0.0, 0.0, 0.0)
    for count in (30, 300, 3000):  # other examples may still tell them apart
        right = np.arange(count) % 2 == 0
        found = paired_bootstrap(right, right)
        assert found.estimate == 0 and -found.low == pytest.approx(found.high, rel=0.01) and 1 < found.high * count < 4


def test_pairs_need_the_same_examples():
    with pytest.raises(ValueError, match=r"same examples .* \(3,\) and \(4,\)"):
        paired_bootstrap(np.ones(3), np.ones(4))


# --- calibration ----------------------------------------------------------------------------------------------------


def test_reliability_by_hand():
    table = reliability([0.1, 0.2, 0.2, 0.55, 0.9, 1.0], [0, 0, 1, 1, 1, 1], bins=5)
    assert table.count.tolist() == [3, 1, 2]  # an edge belongs to the bin below, and empty bins are left out
    assert table.predicted == pytest.approx([0.5 / 3, 0.55, 0.95])
    assert table.observed == pytest.approx([1 / 3, 1, 1])
    error = (3 * abs(0.5 - 1) / 3 + 0.45 + 2 * 0.05) / 6
    assert expected_calibration_error([0.1, 0.2, 0.2, 0.55, 0.9, 1.0], [0, 0, 1, 1, 1, 1], bins=5) == pytest.approx(
        error
    )


def test_reliability_of_several_classes_is_that_of_the_largest():
    random = np.random.default_rng(9)
    probabilities, labels = special.softmax(random.normal(size=(200, 4)), axis=1), random.integers(4, size=200)
    right = (probabilities.argmax(axis=1) == labels).astype(int)
    for equal_mass in (False, True):
        many = reliability(probabilities, labels, bins=7, equal_mass=equal_mass)
        two = reliability(probabilities.max(axis=1), right, bins=7, equal_mass=equal_mass)
        assert many.count.sum() == 200 and many.count.tolist() == two.count.tolist()
        assert many.predicted == pytest.approx(two.predicted) and many.observed == pytest.approx(two.observed)
        assert (np.diff(many.predicted) > 0).all()
        assert many.count @ many.observed == right.sum()


def test_bins_of_equal_mass_hold_as_many_each_and_keep_equal_numbers_together():
    random = np.random.default_rng(10)
    probabilities = 0.9 + 0.1 * random.random(150)
    assert reliability(probabilities, np.ones(150, int), bins=15, equal_mass=True).count.tolist() == [10] * 15
    assert len(reliability(probabilities, np.ones(150, int), bins=10).count) == 1
    ties = reliability([0.3] * 5 + [0.8] * 3, [0] * 5 + [1] * 3, bins=4, equal_mass=True)
    assert ties.count.tolist() == [5, 3] and ties.observed.tolist() == [0, 1]


@pytest.mark.parametrize("equal_mass", [False, True])
def test_calibration_error_of_a_calibrated_model_goes_to_zero_and_of_a_sure_one_does_not(equal_mass):
    random = np.random.default_rng(11)
    probabilities = random.random(100_000)
    labels = (random.random(100_000) < probabilities).astype(int)
    few, many = (
        expected_calibration_error(probabilities[:n], labels[:n], equal_mass=equal_mass) for n in (500, 100_000)
    )
    assert many < 0.008 < few  # what is left is chance, and smaller with more examples
    sure = np.where(probabilities > 0.5, 0.999, 0.001)  # as sure as can be, and right in 3 of 4
    assert expected_calibration_error(sure, labels, equal_mass=equal_mass) == pytest.approx(0.249, abs=0.005)


def test_likelihood_and_brier_score_by_hand_and_against_keras():
    probabilities, labels = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]]), np.array([0, 2])
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(-np.log([0.7, 0.5]))
    expected = keras.losses.sparse_categorical_crossentropy(labels, probabilities.astype("float32"))
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(np.array(expected), rel=1e-5)
    assert brier_score(probabilities, labels) == pytest.approx([0.09 + 0.04 + 0.01, 0.5])
    assert negative_log_likelihood(probabilities, [0, 0]).tolist()[1] == np.inf
    for one, two in (([0.3], [[0.7, 0.3]]), ([1.0], [[0.0, 1.0]])):
        for label in (0, 1):
            assert negative_log_likelihood(one, [label]) == pytest.approx(negative_log_likelihood(two, [label]))
            assert 2 * brier_score(one, [label]) == pytest.approx(brier_score(two, [label]))


def test_the_temperature_that_made_the_labels_is_found_again():
    random = np.random.default_rng(12)
    logits = random.normal(0, 2, (50_000, 5))
    drawn = special.softmax(logits, axis=1).cumsum(axis=1) > random.random((50_000, 1))
    labels = drawn.argmax(axis=1)
    for factor in (0.2, 1.0, 5.0):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)
    assert fit_temperature(logits + random.normal(size=(50_000, 1)), labels) == pytest.approx(1, rel=0.03)


def test_the_best_temperature_is_no_worse_than_any_other():
    random = np.random.default_rng(13)
    labels = random.integers(3, size=40)
    logits = random.normal(size=(40, 3)) + 2 * np.eye(3)[labels]
    best = fit_temperature(logits, labels)

    def loss(temperature):
        return negative_log_likelihood(special.softmax(logits / temperature, axis=1), labels).mean()

    assert loss(best) <= min(loss(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


def test_temperatures_that_there_are_not():
    with pytest.raises(ValueError, match="right for every example"):
        fit_temperature(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match="tell nothing of the labels"):
        fit_temperature(np.eye(3), [1, 2, 0])
    with pytest.raises(ValueError, match="finite logits"):
        fit_temperature([[np.inf, 0.0]], [0])


@pytest.mark.parametrize("score", [reliability, expected_calibration_error, negative_log_likelihood, brier_score])
@pytest.mark.parametrize(
    "probabilities, labels, told",
    [
        ([[2.0, -1.0]], [0], "apply softmax"),
        ([[0.9, 0.9]], [0], "apply softmax"),
        ([[np.nan, 0.5]], [0], "apply softmax"),
        ([1.5], [1], "apply softmax"),
        ([[0.5, 0.5]], [0, 1], "one label per example"),
        ([[0.5, 0.5]], [[1, 0]], "one label per example"),
        ([], [], "one label per example"),
        ([[0.5, 0.5]], [2], "whole numbers from 0 to 1"),
        ([0.5], [-1], "whole numbers from 0 to 1"),
        ([[0.5, 0.5]], [0.0], "whole numbers from 0 to 1"),
    ],
)
def test_calibration_refuses(score, probabilities, labels, told):
    with pytest.raises(ValueError, match=told):
        score(probabilities, labels)


def test_calibration_wants_a_bin():
    with pytest.raises(ValueError, match="bins must be positive"):
        reliability([0.5], [1], bins=0)
