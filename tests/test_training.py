"""What lessons share when they train."""

import numpy as np
import pytest
from scipy import special

import mmkit

with mmkit.quiet_imports():
    import keras

    from mmkit.training import (
        DenseSideBySide,
        Fade,
        RateGrid,
        Retrain,
        RunningSums,
        SideBySide,
        Similarity,
        Streams,
        adwin,
        info_nce,
        labelled_sets,
        labels_needed,
        linear_probe,
        nt_xent,
    )


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


@pytest.mark.parametrize("goal, labels", [(0.4, 10), (0.5, 10), (0.6, 10**1.5), (0.7, 100), (0.9, 1000)])
def test_labels_needed_on_straight_lines_over_the_logarithm(goal, labels):
    assert labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], goal) == pytest.approx(labels)
    assert labels_needed([10, 100, 500, 1000], [0.5, 0.7, 0.6, 0.9], min(goal, 0.7)) <= 100 + 1e-9  # the first time


def test_labels_needed_where_the_goal_is_out_of_reach():
    assert np.isnan(labels_needed([10, 100], [0.5, 0.7], 0.71))


@pytest.mark.parametrize(
    "counts, scores", [([10, 10], [0, 1]), ([0, 1], [0, 1]), ([1, 2], [0]), ([], []), ([2, 1], [0, 1])]
)
def test_labels_needed_refuses(counts, scores):
    with pytest.raises(ValueError, match="labels_needed wants"):
        labels_needed(counts, scores, 0.5)


# --- side by side ---------------------------------------------------------------------------------------------------


def dense_network():
    layers = [keras.layers.Dense(6, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((5,)), *layers])


def picture_network():
    picture = keras.Input((6, 6, 1), name="picture")
    hidden = keras.layers.Conv2D(3, 3, activation="relu")(picture)
    hidden = keras.layers.Flatten()(keras.layers.BatchNormalization()(hidden))
    return keras.Model({"picture": picture}, keras.layers.Dense(3)(hidden))


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)  # XLA compiles for longer than these trainings take
    return model


@pytest.mark.parametrize(
    "build, optimizer",
    [
        (dense_network, lambda: keras.optimizers.SGD(0.1, 0.9)),  # its steps depend on the size of the gradients
        (picture_network, lambda: keras.optimizers.Adam(0.01)),
    ],
)
def test_copies_side_by_side_are_copies_trained_apart(build, optimizer):
    random, copies = np.random.default_rng(0), 2
    x = random.normal(size=(40, 5) if build is dense_network else (40, 6, 6, 1)).astype("float32")
    y = random.integers(3, size=40)
    places = np.stack([random.permutation(40)[:20] for _ in range(copies)], axis=1)
    model = SideBySide(build, copies)
    apart = []
    for network in model.networks:
        other = keras.models.clone_model(network)
        other.set_weights(network.get_weights())
        apart.append(compiled(other, optimizer()))
    assert not np.allclose(*(network.get_weights()[0] for network in model.networks))

    def inputs(pictures):
        return pictures if build is dense_network else {"picture": pictures, "unused": pictures}

    together = compiled(model, optimizer()).fit(inputs(x[places]), y[places], 8, epochs=3, shuffle=False, verbose=0)
    losses = []
    for place, other in enumerate(apart):
        own = places[:, place]
        given = x[own] if build is dense_network else {"picture": x[own]}
        losses.append(other.fit(given, y[own], 8, epochs=3, shuffle=False, verbose=0).history["loss"])
        for one, two in zip(other.get_weights(), model.networks[place].get_weights()):
            np.testing.assert_allclose(one, two, atol=1e-4)
    np.testing.assert_allclose(together.history["loss"], np.sum(losses, axis=0), rtol=1e-4)
    shared = model.predict(inputs(x), verbose=0)  # all on the same examples
    assert shared.shape == (40, copies, 3)
    for place, network in enumerate(model.networks):
        np.testing.assert_allclose(
            shared[:, place], network(x if build is dense_network else {"picture": x}), atol=1e-5
        )


def test_training_begins_anew_where_it_was():
    model = compiled(SideBySide(dense_network, 2), "adam")
    model.optimizer.build(model.trainable_variables)
    start = model.get_state_tree("numpy_array")
    x, y = np.random.default_rng(1).normal(size=(30, 2, 5)), np.arange(60).reshape(30, 2) % 3
    ends = []
    for _ in range(2):
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
        ends.append(model.get_weights())
        model.set_state_tree(start)
    for first, second in zip(*ends):
        np.testing.assert_array_equal(first, second)
    assert not np.allclose(model.get_weights()[0], ends[0][0])


def test_side_by_side_refuses():
    with pytest.raises(ValueError, match="one copy or more: got copies=0"):
        SideBySide(dense_network, 0)
    with pytest.raises(ValueError, match="known inputs: begin each with keras.Input"):
        SideBySide(lambda: keras.Sequential([keras.layers.Dense(2)]), 2)


# --- streams --------------------------------------------------------------------------------------------------------


def dense_streams(copies=2, examples=12):
    random = np.random.default_rng(4)
    x = random.normal(size=(copies, examples, 5)).astype("float32")
    model = keras.Sequential([keras.Input((copies, 5)), DenseSideBySide(6, "tanh"), DenseSideBySide(3)])
    return Streams(model, x, random.integers(3, size=examples))


def test_streams_side_by_side_are_those_of_train_on_batch():
    streams = dense_streams()
    rows = [np.array([[0, 3], [1, 0], [2, 2], [5, 1]]), np.array([[7, 2], [4, 4]])]  # one stream is longer
    for late in (0, 1):
        answers = streams.run(rows, 0.3, late=late)
        again = streams.run(rows, 0.3, late=late)  # each run begins anew
        np.testing.assert_array_equal(answers, again)
        predicted = streams.predict()
        for copy, own in enumerate(rows):
            layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dense(3)]
            alone = keras.Sequential([keras.Input((5,)), *layers])
            alone.set_weights([weight[copy] for weight in streams.start])
            alone.compile(keras.optimizers.SGD(0.3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            x, y = streams.x.numpy()[copy], streams.y.numpy()
            expected = np.full(12, -1)
            for step, row in enumerate(own):
                expected[row[0]] = alone.predict_on_batch(x[row[:1]]).argmax()
                if step >= late:
                    alone.train_on_batch(x[own[step - late]], y[own[step - late]])
            np.testing.assert_array_equal(answers[copy], expected)
            np.testing.assert_array_equal(predicted[copy], alone.predict_on_batch(x).argmax(axis=-1))
            for weight, other in zip(streams.model.get_weights(), alone.get_weights()):
                np.testing.assert_allclose(weight[copy], other, atol=1e-5)


def test_streams_that_do_not_learn():
    streams = dense_streams()
    before = streams.predict()
    answers = streams.run([np.arange(12)[:, None]] * 2, 0.0)
    np.testing.assert_array_equal(answers, before)


def test_streams_refuse():
    streams = dense_streams()
    with pytest.raises(ValueError, match="wants x .copies, examples, features."):
        Streams(streams.model, streams.x[:, :, :4], streams.y)
    with pytest.raises(ValueError, match=r"wants 2 arrays \(steps, batch\)"):
        streams.run([np.array([[0], [1]])], 0.1)
    with pytest.raises(ValueError, match="cannot come"):
        streams.run([np.array([[0]])] * 2, 0.1, late=-1)


def test_running_sums_are_ridge_regression_in_any_order():
    random = np.random.default_rng(5)
    h, y = random.normal(size=(50, 6)), random.integers(4, size=50)
    kernel, bias = RunningSums(4, penalty=2.0).learn(h, y).weights()
    with_one = np.c_[h, np.ones(50)]
    residual = np.eye(4)[y] - with_one @ np.vstack([kernel, bias])
    np.testing.assert_allclose(with_one.T @ residual, 2.0 * np.vstack([kernel, bias]), atol=1e-10)  # the gradient is 0
    parts = RunningSums(4, penalty=2.0)
    for part in np.array_split(random.permutation(50), 9):
        parts.learn(h[part], y[part])
    np.testing.assert_allclose(parts.weights()[0], kernel, atol=1e-12)
    np.testing.assert_array_equal(parts.answer(h), (h @ kernel + bias).argmax(axis=1))


def test_running_sums_refuse():
    for arguments in ((1,), (3, 0.0)):
        with pytest.raises(ValueError, match="two classes and a positive penalty"):
            RunningSums(*arguments)
    with pytest.raises(ValueError, match="learned nothing yet"):
        RunningSums(3).answer(np.zeros((1, 2)))
    sums = RunningSums(3).learn(np.zeros((2, 5)), [0, 1])
    for features, labels in ((np.zeros((2, 4)), [0, 1]), (np.zeros(5), [0])):
        with pytest.raises(ValueError, match=r"features \(examples, 5\)"):
            sums.learn(features, labels)
    for labels in ([0], [0, 3]):
        with pytest.raises(ValueError, match="a class from 0 to 2 for each of 2 examples"):
            sums.learn(np.zeros((2, 5)), labels)


# --- contrastive losses ---------------------------------------------------------------------------------------------


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_similarity_is_the_cosine_over_the_temperature():
    random = np.random.default_rng(2)
    first, second = random.normal(size=(4, 7)), 100 * random.normal(size=(4, 7))
    scores = np.array(Similarity(0.2)([first, second]))
    np.testing.assert_allclose(scores, unit(first) @ unit(second).T / 0.2, rtol=1e-4, atol=1e-5)


def test_info_nce_is_the_mean_of_two_cross_entropies():
    scores = np.random.default_rng(3).normal(size=(5, 5))
    rows = np.diag(-special.log_softmax(scores, axis=1))
    columns = np.diag(-special.log_softmax(scores, axis=0))
    np.testing.assert_allclose(info_nce(np.arange(5) + 70, scores), (rows + columns) / 2, rtol=1e-5)
    np.testing.assert_allclose(info_nce(np.arange(5), scores), info_nce(np.arange(5), scores.T), rtol=1e-5)
    # The vectors of a pair alike and those of others at right angles: the closed form of a perfect model.
    found = info_nce(np.arange(5), Similarity(0.5)([np.eye(5), np.eye(5)]))
    np.testing.assert_allclose(found, np.full(5, np.log(1 + 4 * np.exp(-2))), rtol=1e-5)


def test_info_nce_with_several_right_answers_takes_their_mean():
    scores = np.random.default_rng(4).normal(size=(4, 4))
    log_rows, log_columns = special.log_softmax(scores, axis=1), special.log_softmax(scores, axis=0)
    found = np.array(info_nce([3, 8, 3, 9], scores))
    expected = -(log_rows[0, [0, 2]].mean() + log_columns[[0, 2], 0].mean()) / 2
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[1] == pytest.approx(-(log_rows[1, 1] + log_columns[1, 1]) / 2, rel=1e-5)
    assert np.array(info_nce([5] * 4, np.zeros((4, 4)))) == pytest.approx(np.log(4))


def test_nt_xent_by_its_definition():
    random, temperature = np.random.default_rng(5), 0.3
    z = unit(random.normal(size=(10, 6)))
    partner = np.roll(np.arange(10), 5)
    expected = []
    for i in range(10):
        terms = {k: np.exp(z[i] @ z[k] / temperature) for k in range(10) if k != i}
        expected.append(-np.log(terms[partner[i]] / sum(terms.values())))
    found = nt_xent(np.tile(np.arange(5), 2), Similarity(temperature)([z, z]))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_nt_xent_of_views_all_alike_and_of_one_without_partner():
    same = np.tile([[1.0, 2.0]], (8, 1))
    np.testing.assert_allclose(
        nt_xent(np.arange(8) // 2, Similarity(0.1)([same, same])), np.full(8, np.log(7)), rtol=1e-4
    )
    found = np.array(nt_xent([0, 0, 1], np.zeros((3, 3))))
    assert found == pytest.approx([np.log(2), np.log(2), 0])
    classes = np.array(nt_xent([0, 0, 0, 1, 1], np.zeros((5, 5))))  # supervised: any of the class
    assert classes == pytest.approx(np.log(4))


@pytest.mark.parametrize("loss", [info_nce, nt_xent])
def test_contrastive_losses_are_the_same_under_half_precision_scores_and_do_not_overflow(loss):
    pair = [0, 1, 0, 1]
    scores = np.array(100 * np.random.default_rng(6).normal(size=(4, 4)), dtype="float16")
    found = np.array(loss(pair, scores))
    assert found.dtype == "float32" and np.isfinite(found).all()
    np.testing.assert_allclose(found, loss(pair, scores.astype("float32")), rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_nt_xent_trains_a_model_on_batches_of_any_size(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        views = keras.Input((5,))
        z = keras.layers.Dense(4)(views)
        model = keras.Model(views, Similarity(0.5)([z, z]))
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.05), nt_xent)
    random = np.random.default_rng(10)
    x = np.repeat(random.normal(size=(15, 5)), 2, axis=0) + 0.1 * random.normal(size=(30, 5))
    pair = np.arange(30) // 2
    losses = model.fit(x, pair, batch_size=20, epochs=20, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.05
    expected = np.mean(nt_xent(pair, model(x)))
    assert model.evaluate(x, pair, batch_size=30, verbose=0) == pytest.approx(expected, rel=1e-2)


def test_a_temperature_is_learned_and_held_and_saved(tmp_path):
    random = np.random.default_rng(7)
    x = random.normal(size=(64, 5)).astype("float32")
    inputs = [keras.Input((5,)), keras.Input((5,))]
    scores = Similarity(0.07, learned=True)(inputs)
    model = keras.Model(inputs, scores)
    model.compile(keras.optimizers.Adam(0.5), info_nce)
    assert len(model.trainable_variables) == 1 and not Similarity(0.07).trainable_variables
    model.fit([x, x], np.arange(64), batch_size=32, epochs=5, verbose=0)  # equal pairs: the sharper, the better
    (log_scale,) = model.trainable_variables
    assert float(log_scale) == pytest.approx(np.log(100), rel=1e-3)
    model.save(tmp_path / "pairs.keras")
    again = keras.saving.load_model(tmp_path / "pairs.keras")
    batch = [x[:32], x[:32]]
    np.testing.assert_allclose(again.predict(batch, verbose=0), model.predict(batch, verbose=0), rtol=1e-6)
    assert again.evaluate(batch, np.arange(32), verbose=0) == pytest.approx(
        model.evaluate(batch, np.arange(32), verbose=0), rel=1e-4
    )


@pytest.mark.parametrize("temperature", [0, -1, np.nan])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        Similarity(temperature)


# --- probes ---------------------------------------------------------------------------------------------------------


def test_a_probe_takes_the_penalty_that_does_best_on_validation():
    random = np.random.default_rng(8)
    labels = np.arange(900) % 3
    features = 5 + random.normal(size=(900, 60)) * np.linspace(0.1, 100, 60)  # of all sizes: they are standardised
    features[:, :3] += 2 * np.eye(3)[labels]
    fit, validation, test = ((features[some], labels[some]) for some in (slice(60), slice(60, 480), slice(480, 900)))
    penalties = (1e4, 1e2, 1, 1e-2, 1e-4)
    alone = {one: linear_probe(*fit, validation=validation, penalties=[one]) for one in penalties}
    scores = {one: probe.score(*validation) for one, probe in alone.items()}
    best = max(scores, key=scores.get)
    assert len(set(scores.values())) > 1
    chosen = linear_probe(*fit, validation=validation, penalties=penalties)
    assert 1 / chosen[-1].C == pytest.approx(best)
    np.testing.assert_array_equal(chosen.predict(test[0]), alone[best].predict(test[0]))
    assert chosen.score(*test) > 0.5


def test_a_probe_of_features_without_the_answer_is_at_chance():
    random = np.random.default_rng(9)
    features, labels = random.normal(size=(3000, 4)), np.arange(3000) % 2
    probe = linear_probe(features[:1000], labels[:1000], validation=(features[1000:2000], labels[1000:2000]))
    assert probe.score(features[2000:], labels[2000:]) == pytest.approx(0.5, abs=0.06)


def test_a_probe_refuses():
    features, labels = np.ones((4, 2)), np.arange(4) % 2
    with pytest.raises(ValueError, match="positive penalties"):
        linear_probe(features, labels, validation=(features, labels), penalties=[1, 0])
    with pytest.raises(ValueError, match=r"one label per example: got shapes \(4, 2\) and \(3,\)"):
        linear_probe(features, labels, validation=(features, labels[:3]))
    with pytest.raises(ValueError, match="features .examples, units."):
        linear_probe(features[None], labels, validation=(features, labels))


def test_dense_copies_train_as_networks_alone_do(tmp_path):
    """The loss is the mean over copies, so each has a third of the gradient: Adam without epsilon ignores that."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 3, 5)).astype("float32"), random.integers(0, 4, (12, 3))
    both = keras.Sequential([keras.Input((3, 5)), DenseSideBySide(6, "tanh"), DenseSideBySide(4)])
    start = both.get_weights()
    assert abs(start[0]).max() <= (6 / 11) ** 0.5 and not np.allclose(start[0][0], start[0][1])
    compiled(both, keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-12))
    both.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for copy in range(3):
        alone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(4)])
        alone.set_weights([weight[copy] for weight in start])
        compiled(alone, keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-12))
        alone.fit(x[:, copy], y[:, copy], batch_size=4, epochs=3, shuffle=False, verbose=0)
        for together, weight in zip(both.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_allclose(together[copy], weight, atol=1e-4)
    both.save(tmp_path / "copies.keras")
    again = keras.models.load_model(tmp_path / "copies.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), both.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (None, 5), (3, 4, 5)])
def test_dense_copies_refuse(shape):
    with pytest.raises(ValueError, match="DenseSideBySide wants inputs"):
        DenseSideBySide(2)(keras.Input(shape))
    with pytest.raises(ValueError, match="one unit or more"):
        DenseSideBySide(0)


def two_inputs():
    inputs = {name: keras.Input((5,), name=name) for name in "ab"}
    hidden = keras.layers.Dense(7, "tanh")(keras.layers.Concatenate()([inputs["a"], inputs["b"]]))
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def grid_examples(count=90):
    random = np.random.default_rng(0)
    x = {name: random.normal(size=(count, 5)).astype("float32") for name in "ab"}
    return x, (x["a"][:, 0] > 0) + 1 * (x["b"][:, 0] > 0)


def test_a_copy_in_a_grid_of_rates_is_a_network_trained_alone():
    x, y = grid_examples()
    grid = RateGrid(two_inputs, (0.01, 0.1), repetitions=2, seed=0).fit(x, y, (x, y), steps=9, every=3, batch_size=30)
    random = np.random.default_rng(0)
    order = np.concatenate([random.permutation(90) for _ in range(3)])  # three epochs of three batches
    for place, rate in enumerate(grid.rates):
        for repetition in range(2):
            keras.utils.set_random_seed(repetition)
            alone = compiled(two_inputs(), keras.optimizers.Adam(rate))
            shuffled = {name: array[order] for name, array in x.items()}
            alone.fit(shuffled, y[order], 30, shuffle=False, verbose=0)
            assert alone.evaluate(x, y, verbose=0) == pytest.approx(grid.losses[-1, place, repetition], rel=1e-4)
    assert grid.steps.tolist() == [3, 6, 9]
    assert grid.best == grid.losses.min(axis=0).mean(axis=-1).argmin()


def test_a_grid_keeps_each_network_as_it_was_at_its_lowest_loss():
    x, y = grid_examples()
    other = grid_examples()[1][::-1].copy()  # labels that do not belong to the examples: the loss rises again
    grid = RateGrid(two_inputs, (0.3,), repetitions=3).fit(x, y, (x, other), steps=60, every=3, batch_size=30)
    scores = grid.predict(x)
    losses = -special.log_softmax(scores, axis=-1)[:, np.arange(90), other].mean(axis=1)
    np.testing.assert_allclose(losses, grid.losses[:, 0].min(axis=0), rtol=1e-4)
    assert (grid.losses[-1] > grid.losses.min(axis=0)).all()


def test_a_grid_trains_the_same_again_and_feels_dropout():
    x, y = grid_examples()
    options = {"steps": 20, "every": 10, "batch_size": 30}
    grid = RateGrid(two_inputs, (0.01, 0.03), repetitions=2, seed=1)
    first, again, dropped = (grid.fit(x, y, (x, y), dropout=share, **options).losses for share in (0, 0, 0.4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, dropped)
    assert len(set(first[-1].ravel().round(5))) == 4  # no two copies are the same


def test_a_grid_of_rates_refuses():
    with pytest.raises(ValueError, match="a rate and a repetition or more"):
        RateGrid(two_inputs, (), repetitions=2)
    with pytest.raises(ValueError, match="whose weights are all trained"):
        RateGrid(lambda: keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()]), (0.1,))
    x, y = grid_examples(20)
    with pytest.raises(ValueError, match="20 examples, batches of 30"):
        RateGrid(two_inputs, (0.1,)).fit(x, y, (x, y), steps=10, every=5, batch_size=30)


def test_fading_mixes_noise_like_the_data_into_a_share_of_the_examples():
    clean = np.full((4000, 5), 2.0, "float32")
    fade = Fade(center=10.0, spread=3.0, rate=0.5, seed=1)
    assert np.array_equal(fade(clean), clean)  # in use nothing changes
    faded = np.array(fade(clean, training=True))
    changed = (faded != clean).any(axis=1)
    assert abs(changed.mean() - 0.5) < 0.04
    assert abs(faded[changed].mean() - 6.0) < 0.3  # levels are even: on average half the way to the centre
    noise = np.array(fade.mix(clean, 1.0))
    assert abs(noise.mean() - 10) < 0.1 and abs(noise.std() - 3) < 0.1
    assert np.array_equal(fade.mix(clean, 0.0), clean)
    assert np.array_equal(Fade(rate=0.0)(clean, training=True), clean)
    again = Fade(center=10.0, spread=3.0, rate=0.5, seed=1)
    assert np.array_equal(again(clean, training=True), faded)


def test_a_model_that_fades_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((6, 4), name="touch")
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(Fade(1.0, 2.0, 0.3)(inputs))))
    model.save(tmp_path / "fades.keras")
    again = keras.models.load_model(tmp_path / "fades.keras")
    data = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    assert np.allclose(again.predict(data, verbose=0), model.predict(data, verbose=0))
    assert again.layers[1].get_config() == model.layers[1].get_config()


@pytest.mark.parametrize("wrong", [{"spread": -1.0}, {"rate": 1.1}, {"rate": -0.1}])
def test_fading_refuses(wrong):
    with pytest.raises(ValueError, match="Fade: "):
        Fade(**wrong)


def test_retrain_is_fit_from_the_same_start_each_time():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 3)).astype("float32"), np.arange(12) % 2
    weight = random.uniform(0.5, 1.5, 12)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer="l2")])
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for one in (model, twin):
        one.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    retrain = Retrain(model, steps=7)
    retrain(x[:5], y[:5])  # forgotten
    retrain(x, y, weight)
    twin.fit(x, y, sample_weight=weight, batch_size=12, epochs=7, verbose=0)
    for ours, theirs in zip(model.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_retrain_refuses():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="built and compiled"):
        Retrain(model, steps=5)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="one step or more"):
        Retrain(model, steps=0)


def test_adwin_is_its_formula_at_the_best_cut():
    random = np.random.default_rng(0)
    errors = np.concatenate([random.random((4, 80)) < 0.1, random.random((4, 40)) < 0.9], axis=1)
    rises, cuts = adwin(errors, delta=0.05)
    for row, rise, cut in zip(errors, rises, cuts, strict=True):
        log, variance, n = np.log(2 * 120 / 0.05), row.var(), len(row)
        found = []
        for older in range(1, n):
            m = 1 / (1 / older + 1 / (n - older))
            bound = np.sqrt(2 / m * variance * log) + 2 / (3 * m) * log
            found.append((row[older:].mean() - row[:older].mean()) / bound)
        assert np.isclose(rise, max(found))
        assert cut == 1 + np.argmax(found)
        assert rise > 1 and 60 < cut < 100
        assert np.isclose(adwin(row, delta=0.05)[0], rise)


def test_adwin_does_not_rise_where_errors_fall():
    assert adwin(np.repeat([1, 0], [60, 30]))[0] < 0.2
    assert adwin(np.zeros(50))[0] == 0


@pytest.mark.parametrize(
    "errors, delta, told",
    [([1], 0.1, "two errors or more"), ([0.5, 1], 0.1, "0 and 1"), ([0, np.nan], 0.1, "0 and 1"), ([0, 1], 1, "delta")],
)
def test_adwin_refuses(errors, delta, told):
    with pytest.raises(ValueError, match=told):
        adwin(errors, delta=delta)
