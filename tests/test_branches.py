"""What is the branches' alone; the promises that they share with all layers are in test_layers.py."""

import json
import sys

import keras
import numpy as np
import pytest
from gradients import gradients

from mmkit import layers

RANDOM = np.random.default_rng(0)
SOUND = RANDOM.normal(size=(5, 9, 12, 2)).astype("float32")
LENGTHS = np.array([9, 6, 5, 1, 0])  # of both parities, at every depth; one of no rows
SEQUENCE = RANDOM.normal(size=(4, 6, 3)).astype("float32")
GAPS = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]], bool)

BRANCHES = {
    "conv": lambda **k: layers.Conv2DBranch(6, filters=(4, 5), activation="tanh", **k),
    "conv-max": lambda **k: layers.Conv2DBranch(6, filters=(4, 5), activation="tanh", pooling="max", **k),
    "conv-tokens": lambda **k: layers.Conv2DBranch(6, filters=(4, 5), activation="tanh", pooling=None, **k),
    "lstm": lambda **k: layers.LSTMBranch(6, **k),
    "lstm-both": lambda **k: layers.LSTMBranch(6, num_layers=2, bidirectional=True, **k),
    "lstm-tokens": lambda **k: layers.LSTMBranch(6, tokens=True, num_layers=2, bidirectional=True, **k),
    "table": lambda **k: layers.TabularBranch(6, hidden=8, **k),
}
all_branches = pytest.mark.parametrize("name", BRANCHES)


def inputs_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features for the branch, and a mask."""
    if name.startswith("conv"):
        return SOUND, rows_there(9)
    return (SEQUENCE, GAPS) if name.startswith("lstm") else (SEQUENCE[:, 0], GAPS.any(axis=1))


def rows_there(height: int) -> np.ndarray:
    return np.arange(height) < LENGTHS[:, None]


def longer(x: np.ndarray, rows: int) -> np.ndarray:
    """With padding rows at the end that hold no numbers."""
    return np.concatenate([x, np.full((len(x), rows, *x.shape[2:]), np.nan, "float32")], axis=1)


def drawn(layer: keras.layers.Layer, *build: tuple) -> keras.layers.Layer:
    """The layer with weights, biases too, that are drawn: fresh biases are zero, where a fault would hide."""
    layer.build(*build)
    random = np.random.default_rng(1)
    for weight in layer.trainable_variables:
        weight.assign(random.normal(0.1, 0.3, weight.shape))
    return layer


# Rows of spectrograms.


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("pooling", ["max", None])
def test_a_padded_spectrogram_gives_what_it_gives_alone(pooling, kernel_size):
    branch = layers.Conv2DBranch(
        6, filters=(4, 5, 3), kernel_size=kernel_size, pooling=pooling, activation=lambda x: x * keras.ops.sigmoid(x)
    )
    drawn(branch, (None, None, 12, 2))
    for more in range(4):
        features = np.asarray(branch(longer(SOUND, more), mask=rows_there(9 + more), training=True))
        for row, length in enumerate(LENGTHS):
            if length == 0:
                assert np.all(features[row] == 0)
                continue
            alone = np.asarray(branch(SOUND[row : row + 1, :length]))[0]
            found = features[row] if pooling == "max" else features[row, : len(alone)]
            np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
            assert pooling == "max" or np.all(features[row, len(alone) :] == 0)


@pytest.mark.parametrize("pooling", ["flatten", "max", None])
def test_what_absent_rows_hold_changes_nothing(pooling):
    branch = drawn(layers.Conv2DBranch(6, filters=(4, 5), pooling=pooling, activation="tanh"), (None, 9, 12, 2))
    mask = rows_there(9)
    mask[0, 2:6] = False  # a gap
    zeros = np.where(mask[..., None, None], SOUND, 0)
    clean = np.asarray(branch(zeros, mask=mask))
    for junk in (np.nan, np.inf, 1e6):
        spoiled = np.where(mask[..., None, None], SOUND, junk).astype("float32")
        np.testing.assert_allclose(branch(spoiled, mask=mask), clean, rtol=1e-6, atol=1e-6)
        call = lambda spoiled=spoiled: keras.ops.sum(branch(spoiled, mask=mask, training=True))  # noqa: E731
        assert all(np.isfinite(one).all() for one in gradients(call, branch.trainable_variables))
    assert np.abs(clean - np.asarray(branch(SOUND))).max() > 1e-3


@pytest.mark.parametrize("height", [7, 8])
def test_a_mask_of_rows_that_are_all_there_changes_nothing(height):
    for pooling in ("flatten", "max", None):
        branch = drawn(layers.Conv2DBranch(6, filters=(4, 5), pooling=pooling), (None, height, 12, 2))
        x = SOUND[:, :height]
        np.testing.assert_allclose(branch(x, mask=np.ones((5, height), bool)), branch(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("height", [9, None])
@pytest.mark.parametrize("per_row", [True, False])
def test_tokens_of_a_picture_carry_their_mask(height, per_row):
    """B7: with a mask and an unknown height the branch could not be called."""
    x, given = keras.Input((height, 12, 2)), keras.Input((height,) if per_row else (), dtype="bool")
    tokens = layers.Conv2DBranch(6, filters=(4, 5), pooling=None)(x, mask=given)
    assert tokens.shape == (None, None if height is None else 3, 6)
    joined = layers.ConcatFusion(3, activation="linear")({"sound": tokens})
    model = keras.Model([x, given], [tokens, tokens._keras_mask, joined])
    mask = rows_there(9) if per_row else LENGTHS > 0
    found, there, mean = map(np.asarray, model([SOUND, mask]))
    lengths = -(-LENGTHS // 4) if per_row else np.where(LENGTHS > 0, 3, 0)
    assert np.array_equal(there, np.arange(3) < lengths[:, None])
    kernel, bias = model.layers[-1].get_weights()
    expected = (found.sum(axis=1) / np.maximum(lengths, 1)[:, None]) @ kernel + bias
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["flatten", "max", None])
def test_a_batch_of_no_pictures_gives_none(pooling):
    """Such as a replica gets of an uneven last batch; oneDNN's convolution then has a wrong shape."""
    branch = layers.Conv2DBranch(6, filters=(4, 5), pooling=pooling)
    x, given = keras.Input((9, 12, 2)), keras.Input((9,), dtype="bool")
    model = keras.Model([x, given], branch(x, mask=given))
    wanted = branch(SOUND).shape[1:]
    for found in (
        branch(SOUND[:0]),
        branch(SOUND[:0], mask=np.zeros((0, 9), bool)),
        branch(SOUND[:0], mask=np.zeros(0, bool)),
    ):
        assert found.shape == (0, *wanted)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(model, input_signature=[[tf.TensorSpec(one.shape, one.dtype) for one in model.inputs]])
        assert compiled([SOUND[:0], np.zeros((0, 9), bool)]).shape == (0, *wanted)
        np.testing.assert_allclose(
            compiled([SOUND, rows_there(9)]), branch(SOUND, mask=rows_there(9)), rtol=1e-5, atol=1e-6
        )


def test_a_picture_of_another_size_is_named():
    branch = layers.Conv2DBranch(6)
    branch(SOUND)
    with pytest.raises(ValueError, match=r"has shape \(5, 8, 12, 2\), but the layer was built for \(batch, 9, 12, 2\)"):
        branch(SOUND[:, :8])
    branch = layers.Conv2DBranch(6, pooling="max")
    branch(SOUND)
    branch(SOUND[:, :8])
    with pytest.raises(ValueError, match=r"was built for \(batch, height, 12, 2\)"):
        branch(SOUND[:, :, :8])


# LSTMs.


def steps(cell: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """The states of an LSTM after each step of one sequence, in NumPy."""
    kernel, recurrent, bias = (np.asarray(weight, "float64") for weight in cell.get_weights())
    h = c = np.zeros(recurrent.shape[0])
    states = []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        states.append(h)
    return np.array(states).reshape(len(x), recurrent.shape[0])


def expected_states(branch: layers.LSTMBranch, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the branch is to give: each sequence's steps that are there, alone, in NumPy."""
    results = np.zeros((*mask.shape, branch.units) if branch.tokens else (len(x), branch.units))
    for row, there in enumerate(mask):
        states = x[row, there]
        for depth, forward in enumerate([branch.memory, *branch.upper]):
            both = [steps(forward.cell, states)]
            if branch.bidirectional:
                both.append(steps(branch.backward[depth].cell, states[::-1])[::-1])
            states = np.concatenate(both, axis=1)
        if branch.tokens:
            results[row, there] = states
        elif len(states):  # the backward LSTM ends at the first step
            half = branch.units // 2 if branch.bidirectional else branch.units
            results[row] = np.concatenate([states[-1, :half], states[0, half:]])
    return results


LSTMS = [
    {"num_layers": layers_, "bidirectional": both, "tokens": tokens}
    for layers_ in (1, 2)
    for both in (False, True)
    for tokens in (False, True)
]


@pytest.mark.parametrize("options", LSTMS, ids=str)
def test_lstms_compute_what_numpy_computes_of_the_steps_that_are_there(options):
    branch = drawn(layers.LSTMBranch(4, **options), (None, None, 3))
    x = np.where(GAPS[..., None], SEQUENCE, np.nan)
    np.testing.assert_allclose(branch(x, mask=GAPS), expected_states(branch, SEQUENCE, GAPS), rtol=1e-4, atol=1e-5)
    everything = np.ones_like(GAPS)
    wanted = expected_states(branch, SEQUENCE, everything)
    np.testing.assert_allclose(branch(SEQUENCE), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(branch(SEQUENCE, mask=everything), wanted, rtol=1e-4, atol=1e-5)
    some = np.array([True, False, True, False])
    wanted[~some] = 0
    np.testing.assert_allclose(branch(SEQUENCE, mask=some), wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def gpu(monkeypatch):
    """Keras is told that there is a GPU; cuDNN's kernel is replaced by one that computes its contract and checks it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the kernel is TensorFlow's")
    import tensorflow as tf

    calls = []

    def kernel(input, input_h, input_c, params, sequence_lengths, **options):
        size, units = input.shape[-1], input_h.shape[-1]
        parts = tf.split(params, [units * size] * 4 + [units * units] * 4 + [units] * 8)
        inner = [tf.transpose(tf.reshape(part, (units, size))) for part in parts[:4]]
        outer = [tf.transpose(tf.reshape(part, (units, units))) for part in parts[4:8]]
        biases = [first + second for first, second in zip(parts[8:12], parts[12:])]
        tf.debugging.assert_positive(sequence_lengths, "cuDNN refuses a sequence of no steps")
        h, c, outputs = input_h[:, 0], input_c[:, 0], []
        for step in range(input.shape[1]):
            i, f, g, o = (input[:, step] @ a + h @ b + bias for a, b, bias in zip(inner, outer, biases))
            new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            new_h = tf.sigmoid(o) * tf.tanh(new_c)
            there = (step < sequence_lengths)[:, None]
            outputs.append(tf.where(there, new_h, 0))
            h, c = tf.where(there, new_h, h), tf.where(there, new_c, c)
        calls.append(sequence_lengths)
        return tf.stack(outputs, axis=1), h[:, None], c[:, None], None, None

    monkeypatch.setattr(sys.modules["keras.src.backend.tensorflow.rnn"], "_is_gpu_available", lambda: True)
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", kernel)
    return calls


@pytest.mark.parametrize("options", LSTMS, ids=str)
def test_on_a_gpu_cudnn_computes_every_mask(options, gpu):
    branch = drawn(layers.LSTMBranch(4, **options), (None, None, 3))
    found = branch(SEQUENCE, mask=GAPS)
    np.testing.assert_allclose(found, expected_states(branch, SEQUENCE, GAPS), rtol=1e-4, atol=1e-5)
    assert len(gpu) == options["num_layers"] * (2 if options["bidirectional"] else 1)
    some = np.array([True, False, True, False])
    np.testing.assert_allclose(branch(SEQUENCE, mask=some)[1], np.zeros(found.shape[1:]))


def test_on_a_gpu_a_model_predicts_and_trains_whatever_the_mask(gpu):
    """f01: a sequence of no steps, or with a gap, stopped `predict`."""
    x, given = keras.Input((3, 3)), keras.Input((3,), dtype="bool")
    branch = drawn(layers.LSTMBranch(2), (None, None, 3))
    model = keras.Model([x, given], branch(x, mask=given))
    model.compile("sgd", "mse", jit_compile=False)
    short, mask = SEQUENCE[:, :3], GAPS[:, [0, 2, 4]]
    assert mask.tolist() == [[True] * 3, [True, False, False], [False, False, True], [False] * 3]
    found = model.predict([short, mask], verbose=0)
    np.testing.assert_allclose(found, expected_states(branch, short, mask), rtol=1e-4, atol=1e-5)
    model.fit([short, mask], np.ones(found.shape), verbose=0)
    assert gpu and all(np.isfinite(weight).all() for weight in model.get_weights())


def test_on_a_gpu_sequences_join_pictures_whatever_their_mask(gpu):
    head = layers.ConvLSTMFusion(4, pooling="max")
    features = {"sound": SOUND[:4], "touch": SEQUENCE}
    mask = {"sound": rows_there(9)[1:], "touch": GAPS}
    with_nan = {"sound": np.where(mask["sound"][..., None, None], SOUND[:4], np.nan), "touch": SEQUENCE}
    np.testing.assert_allclose(head(with_nan, mask=mask), head(features, mask=mask), rtol=1e-5, atol=1e-6)
    assert gpu


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("per_step", [True, False])
def test_tokens_of_a_sequence_carry_their_mask(known, per_step):
    time = 6 if known else None
    x, given = keras.Input((time, 3)), keras.Input((time,) if per_step else (), dtype="bool")
    tokens = layers.LSTMBranch(4, tokens=True)(x, mask=given)
    model = keras.Model([x, given], tokens._keras_mask)
    mask = GAPS if per_step else GAPS.any(axis=1)
    assert np.array_equal(model([SEQUENCE, mask]), GAPS if per_step else np.repeat(mask[:, None], 6, axis=1))


def test_dropout_drops_in_training_alone_and_the_same_inputs_at_all_steps():
    branch = layers.LSTMBranch(64, dropout=0.5, num_layers=2, bidirectional=True)
    x = np.ones((3, 6, 8), "float32")
    plain = np.asarray(branch(x))
    np.testing.assert_array_equal(branch(x, training=False), plain)
    assert np.abs(np.asarray(branch(x, training=True)) - plain).max() > 1e-3
    padded = np.concatenate([x, np.full_like(x, np.nan)], axis=1)
    assert np.isfinite(branch(padded, mask=np.arange(12) < np.array([[6], [3], [0]]), training=True)).all()


def test_units_are_the_size_of_the_result_and_wrong_arguments_are_named():
    assert layers.LSTMBranch(8, bidirectional=True)(SEQUENCE).shape == (4, 8)
    with pytest.raises(ValueError, match="units must be even if bidirectional, half of them a direction: got 5"):
        layers.LSTMBranch(5, bidirectional=True)
    with pytest.raises(ValueError, match="LSTMBranch: num_layers must be positive: got 0"):
        layers.LSTMBranch(4, num_layers=0)
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
            layers.LSTMBranch(4, dropout=dropout)
    with pytest.raises(ValueError, match="Conv2DBranch: filters must be positive: got 0"):
        layers.Conv2DBranch(4, filters=(3, 0))
    with pytest.raises(ValueError, match="Conv2DBranch: filters must be positive"):
        layers.Conv2DBranch(4, filters=())
    with pytest.raises(ValueError, match="unknown pooling None: use 'flatten' or 'max'"):
        layers.ConvLSTMFusion(4, pooling={"sound": None})


# What all branches promise, for the arguments that are theirs.


@all_branches
def test_a_config_makes_the_same_branch_after_json(name):
    branch = BRANCHES[name](kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(0.5))
    config = json.loads(json.dumps(branch.get_config()))
    assert type(branch).from_config(config).get_config() == branch.get_config()


@all_branches
def test_kernels_take_an_initializer_and_a_regularizer(name):
    features, mask = inputs_of(name)
    branch = BRANCHES[name](kernel_initializer=keras.initializers.Constant(0.5), kernel_regularizer="l2")
    branch(features, mask=mask)
    kernels = [weight for weight in branch.weights if weight.name == "kernel"]
    assert kernels and all(np.all(np.asarray(kernel) == 0.5) for kernel in kernels)
    assert len(branch.losses) == len(kernels)
    expected = 0.01 * sum(0.25 * np.prod(kernel.shape) for kernel in kernels)
    np.testing.assert_allclose(sum(map(float, branch.losses)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="nonsense"):
        BRANCHES[name](kernel_initializer="nonsense")


@all_branches
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_or_not_at_unknown_sizes_and_a_batch_of_one(name, jit_compile):
    features, mask = inputs_of(name)
    inner = (None, *features.shape[2:]) if mask.ndim == 2 and name != "conv" else features.shape[1:]
    x, given = keras.Input(inner), keras.Input((None,) if mask.ndim == 2 else (), dtype="bool")
    branch = BRANCHES[name]()
    model = keras.Model([x, given], branch(x, mask=given))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    expected = np.asarray(branch(features, mask=mask))
    np.testing.assert_allclose(model.predict([features, mask], batch_size=1, verbose=0), expected, rtol=1e-4, atol=1e-5)
    before = model.evaluate([features, mask], np.ones_like(expected), verbose=0)
    model.fit(
        [features, mask], np.ones_like(expected), batch_size=3, epochs=2, verbose=0
    )  # batches of 3 and of the rest
    assert model.evaluate([features, mask], np.ones_like(expected), verbose=0) < before


@all_branches
@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_half_precision(name, policy):
    features, mask = inputs_of(name)
    branch = BRANCHES[name](dtype=policy)
    result = branch(10 * features, mask=mask)
    assert keras.backend.standardize_dtype(result.dtype) == policy.removeprefix("mixed_")
    total = lambda: keras.ops.sum(keras.ops.cast(branch(10 * features, mask=mask), "float32"))  # noqa: E731
    assert np.isfinite(total()) and all(np.isfinite(one).all() for one in gradients(total, branch.trainable_variables))


def quantized(model: keras.Model, path, inputs: list) -> None:
    """Quantises, saves, loads, saves and loads again, and compares."""
    model.quantize("int8")
    expected = np.asarray(model(inputs))
    for turn in range(2):
        model.save(path / f"{turn}.keras")
        model = keras.models.load_model(path / f"{turn}.keras", safe_mode=True)
        assert any("int8" in str(weight.dtype) for weight in model.weights)
        np.testing.assert_allclose(np.asarray(model(inputs)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in BRANCHES if not name.startswith("lstm")])
def test_a_quantized_branch_comes_back_from_its_file(name, tmp_path):
    features, mask = inputs_of(name)
    x, given = keras.Input(features.shape[1:]), keras.Input(mask.shape[1:], dtype="bool")
    quantized(keras.Model([x, given], BRANCHES[name]()(x, mask=given)), tmp_path, [features, mask])


def test_a_quantized_head_over_an_lstm_comes_back_from_its_file(tmp_path):
    """Keras quantizes no LSTM: it stays as it is."""
    x, given = keras.Input((6, 3)), keras.Input((6,), dtype="bool")
    features = keras.layers.Dense(3)(BRANCHES["lstm-both"]()(x, mask=given))
    quantized(keras.Model([x, given], features), tmp_path, [SEQUENCE, GAPS])
