"""What every layer of the kit promises, tested for all of them from the one list in layer_cases.py."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_cases import CASES, Case

from mmkit import layers

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
weighted = pytest.mark.parametrize(
    "case", [case for case in CASES if case.make().name[:8] != "modality"], ids=lambda case: case.name
)


def numbers(tensors: list) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in tensors]


def assert_same(first: list, second: list, tolerance: float = 1e-5) -> None:
    for one, other in zip(numbers(first), numbers(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_every_layer_is_in_the_list():
    public = {name for name in layers.__all__ if name != "FusionLayer"}
    assert public == {case.kind for case in CASES}
    exported = {
        name for name, thing in vars(layers).items() if inspect.isclass(thing) and issubclass(thing, keras.layers.Layer)
    }
    assert exported == set(layers.__all__)


@each
def test_every_weight_is_registered_gets_a_gradient_and_moves(case: Case, monkeypatch):
    made = []
    original = keras.Variable.__init__

    def counted(self, *args, **kwargs):
        made.append(self)
        original(self, *args, **kwargs)

    monkeypatch.setattr(keras.Variable, "__init__", counted)
    layer = case.make()
    case.call(layer, case.features(8), case.presence(8))
    assert {id(variable) for variable in made} == {id(variable) for variable in layer.variables}

    random = np.random.default_rng(5)
    for weight in layer.trainable_variables:  # biases begin at zero, where a saturated or dead unit would hide a fault
        weight.assign(random.normal(0.1, 0.3, weight.shape))
    with tf.GradientTape() as tape:
        loss = sum(
            keras.ops.mean(keras.ops.square(keras.ops.cast(one, "float32") - 0.3))
            for one in case.call(layer, case.features(8), case.presence(8))
        )
    if not layer.trainable_variables:
        assert case.kind == "ModalityDropout"
        return
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_variables])
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in layer.trainable_variables]
    keras.optimizers.SGD(0.1).apply(gradients, layer.trainable_variables)
    for weight, gradient, old in zip(layer.trainable_variables, gradients, before):
        assert gradient is not None and np.abs(gradient).max() > 0, weight.path
        assert np.abs(keras.ops.convert_to_numpy(weight) - old).max() > 0, weight.path


@each
def test_what_an_absent_modality_holds_changes_nothing(case: Case):
    layer, features, mask = case.make(), case.features(8), case.presence(8)
    clean = case.call(layer, features, mask)
    for junk in (np.nan, np.inf, 1e6):
        spoiled = {}
        for name, feature in features.items():
            there = mask[name].reshape(mask[name].shape + (1,) * (feature.ndim - mask[name].ndim))
            spoiled[name] = np.where(there, feature, np.float32(junk))
        with tf.GradientTape() as tape:
            results = case.call(layer, spoiled, mask)
            loss = sum(keras.ops.sum(keras.ops.cast(one, "float32")) for one in results)
        assert_same(results, clean)
        for gradient in tape.gradient(loss, [weight.value for weight in layer.trainable_variables]):
            assert np.isfinite(gradient).all()


@each
def test_all_absent_is_finite(case: Case):
    mask = {name: np.zeros_like(one) for name, one in case.presence(4).items()}
    nothing = {name: np.full_like(feature, np.nan) for name, feature in case.features(4).items()}
    for training in (False, True):
        assert all(np.isfinite(one).all() for one in numbers(case.call(case.make(), nothing, mask, training=training)))


@pytest.mark.parametrize("case", [case for case in CASES if case.sequences], ids=lambda case: case.name)
def test_more_padding_changes_nothing(case: Case):
    layer, features, mask = case.make(), case.features(6), case.presence(6)
    clean = case.call(layer, features, mask)
    longer = dict(features), dict(mask)
    for name in case.sequences:
        longer[0][name] = np.concatenate([features[name], np.full_like(features[name], np.nan)], axis=1)
        longer[1][name] = np.concatenate([mask[name], np.zeros_like(mask[name])], axis=1)
    padded = case.call(layer, *longer)
    for short, long in zip(numbers(clean), numbers(padded), strict=True):
        if long.shape != short.shape:  # tokens: as many as steps
            assert np.all(long[:, short.shape[1] :] == 0)
            long = long[:, : short.shape[1]]
        np.testing.assert_allclose(long, short, rtol=1e-5, atol=1e-5)


@each
def test_an_example_depends_on_itself_alone_down_to_a_batch_of_one(case: Case):
    layer, features, mask = case.make(), case.features(5), case.presence(5)
    together = numbers(case.call(layer, features, mask))
    for row in range(5):
        one = {name: feature[row : row + 1] for name, feature in features.items()}
        alone = numbers(case.call(layer, one, {name: given[row : row + 1] for name, given in mask.items()}))
        for whole, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(single[0], whole[row], rtol=1e-5, atol=1e-5)


@each
def test_no_mask_means_that_all_is_there(case: Case):
    layer, features = case.make(), case.features(4)
    everything = {name: np.ones_like(one) for name, one in case.presence(4).items()}
    without = numbers(case.call(layer, features))
    with_mask = numbers(case.call(layer, features, everything))
    count = len(case.shapes) if case.kind == "ModalityDropout" else len(without)  # presence keeps the mask's shape
    assert_same(without[:count], with_mask[:count])


@each
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision(case: Case, policy: str):
    layer = case.make(dtype=policy)
    features = {name: feature * 10 for name, feature in case.features(4).items()}
    with tf.GradientTape() as tape:
        results = case.call(layer, features, case.presence(4))
        loss = sum(keras.ops.mean(keras.ops.cast(one, "float32")) for one in results)
    for result in results:
        assert keras.backend.standardize_dtype(result.dtype) in (policy.removeprefix("mixed_"), "bool")
        assert np.isfinite(numbers([result])[0]).all()
    for gradient in tape.gradient(loss, [weight.value for weight in layer.trainable_variables]):
        assert np.isfinite(np.asarray(gradient, dtype="float32")).all()


@weighted
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_with_and_without_compilation_at_any_batch_size(case: Case, jit_compile: bool):
    model = case.model()
    features, mask = case.features(7), case.presence(7)
    data = [*features.values(), *mask.values()]
    eager = case.call(model.layers[-1], features, mask)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    assert_same([model.predict(data, batch_size=4, verbose=0)], eager, tolerance=1e-4)  # batches of 4 and of 3
    target = np.zeros(eager[0].shape, "float32")
    before = model.evaluate(data, target, batch_size=7, verbose=0)
    model.fit(data, target, batch_size=4, epochs=2, verbose=0)
    assert model.evaluate(data, target, batch_size=7, verbose=0) < before


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory) -> Path:
    """Every case saved as a .keras file, then loaded by one fresh process, with safe mode on."""
    folder = tmp_path_factory.mktemp("saved")
    for case in CASES:
        model = case.model()
        features, mask = case.features(3, seed=2), case.presence(3, seed=2)
        model.save(folder / f"{case.name}.keras")
        np.savez(folder / f"{case.name}.inputs.npz", *features.values(), *mask.values())
        np.savez(folder / f"{case.name}.expected.npz", *numbers(case.call(model.layers[-1], features, mask)))
    program = """
import sys
from pathlib import Path
import keras, numpy as np
import mmkit.layers
for saved in Path(sys.argv[1]).glob("*.keras"):
    model = keras.models.load_model(saved, safe_mode=True)
    with np.load(saved.with_suffix(".inputs.npz")) as held:
        inputs = [held[name] for name in held.files]
    outputs = keras.tree.flatten(model(inputs))
    np.savez(saved.with_suffix(".outputs.npz"), *[np.asarray(keras.ops.cast(one, "float32")) for one in outputs])
"""
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", "")},
        capture_output=True,
    )
    return folder


@each
def test_a_keras_file_brings_the_same_outputs_back_in_a_fresh_process(case: Case, reloaded: Path):
    with (
        np.load(reloaded / f"{case.name}.expected.npz") as expected,
        np.load(reloaded / f"{case.name}.outputs.npz") as outputs,
    ):
        assert_same([outputs[name] for name in outputs.files], [expected[name] for name in expected.files])


@each
def test_a_wrong_rank_is_named(case: Case):
    layer, features = case.make(), case.features(4)
    case.call(layer, features)
    name = list(case.shapes)[-1]
    if case.kind == "ModalityDropout":
        return  # it takes features of any rank
    wrong = {**features, name: features[name].reshape(4, -1, 1, 1, 1)}
    with pytest.raises(ValueError) as error:
        case.call(layer, wrong)
    assert str(wrong[name].shape) in str(error.value)
    assert name == "x" or repr(name) in str(error.value)


fused = pytest.mark.parametrize("case", [case for case in CASES if "x" not in case.shapes], ids=lambda case: case.name)


@fused
def test_missing_and_unknown_modalities_are_named(case: Case):
    layer, features = case.make(), case.features(4)
    case.call(layer, features)
    name = list(case.shapes)[-1]
    if len(case.shapes) > 1:
        with pytest.raises(ValueError, match=f"missing: {name}"):
            case.call(layer, {key: value for key, value in features.items() if key != name})
    with pytest.raises(ValueError, match=r"unknown: smell") as error:
        case.call(layer, {**features, "smell": features[name]})
    assert str(features[name].shape) in str(error.value)
    with pytest.raises(ValueError, match="the mask names smell"):
        case.call(layer, features, {"smell": np.ones(4, bool)})
    with pytest.raises(ValueError, match="wants a dict"):
        layer([features[name]])


@each
def test_a_mask_of_the_wrong_shape_is_named(case: Case):
    layer, features, mask = case.make(), case.features(4), case.presence(4)
    case.call(layer, features, mask)
    name = list(case.shapes)[-1]
    for shape in [(5,), (4, 2), (4, 1, 1)]:
        with pytest.raises(ValueError) as error:
            case.call(layer, features, {**mask, name: np.ones(shape, bool)})
        assert str(shape) in str(error.value)


def test_units_must_be_positive():
    for make in (
        layers.Conv2DBranch,
        layers.LSTMBranch,
        layers.ConcatFusion,
        layers.GatedFusion,
        layers.ConvLSTMFusion,
    ):
        with pytest.raises(ValueError, match="positive"):
            make(0)
    with pytest.raises(ValueError, match="rate"):
        layers.ModalityDropout(1.0)
    with pytest.raises(ValueError, match="pooling"):
        layers.Conv2DBranch(4, pooling="mean")


# Closed forms.


def test_concatenation_is_a_dense_layer_on_vectors_laid_end_to_end():
    case = next(case for case in CASES if case.name == "ConcatFusion-vectors")
    layer, features = case.make(), case.features(4)
    fused = layer(features)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(
        fused, np.tanh(np.concatenate([features[n] for n in "abc"], axis=1) @ kernel + bias), rtol=1e-5, atol=1e-6
    )


def test_gated_fusion_is_the_formula_of_its_docstring():
    features = {
        name: np.random.default_rng(3).normal(size=(4, size)).astype("float32") for name, size in (("a", 5), ("b", 3))
    }
    present = {"b": np.array([True, True, False, True])}
    layer = layers.GatedFusion(6)
    fused = layer(features, mask=present)
    seen = {"a": features["a"], "b": features["b"] * present["b"][:, None]}
    kernel, bias = layer.gate.get_weights()
    gates = 1 / (1 + np.exp(-(np.concatenate([seen["a"], seen["b"]], axis=1) @ kernel + bias)))
    hidden = {
        name: np.tanh(seen[name] @ layer.hidden[name].get_weights()[0] + layer.hidden[name].get_weights()[1])
        for name in "ab"
    }
    expected = gates[:, :6] * hidden["a"] + present["b"][:, None] * gates[:, 6:] * hidden["b"]
    np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=1e-6)
    shown = layer.gates(features, mask=present)
    np.testing.assert_allclose(shown["a"], gates[:, :6], rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(shown["b"])[2] == 0)


def test_branches_are_keras_layers_in_a_row():
    picture = np.random.default_rng(0).normal(size=(3, 12, 10, 2)).astype("float32")
    branch = layers.Conv2DBranch(6, filters=(4, 5))
    result = branch(picture)
    same = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(5, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu"),
        ]
    )
    same.build(picture.shape)
    same.set_weights(branch.get_weights())
    np.testing.assert_allclose(result, same(picture), rtol=1e-5, atol=1e-6)

    sequence = np.random.default_rng(1).normal(size=(3, 7, 3)).astype("float32")
    there = np.arange(7) < np.array([[7], [4], [1]])
    branch = layers.LSTMBranch(6)
    result = branch(sequence, mask=there)
    same = keras.layers.LSTM(6)
    same.build(sequence.shape)
    same.set_weights(branch.get_weights())
    np.testing.assert_allclose(result, same(sequence, mask=there), rtol=1e-5, atol=1e-6)


def test_conv_lstm_fusion_is_its_branches_and_a_concatenation():
    case = next(case for case in CASES if case.name == "ConvLSTMFusion-max")
    layer, features = case.make(), case.features(4)
    fused = layer(features)
    seen = {name: layer.branches[name](features[name]) for name in features}
    np.testing.assert_allclose(fused, layer.fusion(seen), rtol=1e-6)
    assert layer.branches["sound"].pooling == "max" and layer.branches["picture"].pooling == "flatten"


def test_tokens_carry_their_mask_to_the_fusion():
    sequence = np.random.default_rng(1).normal(size=(3, 7, 3)).astype("float32")
    there = np.arange(7) < np.array([[7], [4], [0]])
    tokens = layers.LSTMBranch(6, tokens=True)(sequence, mask=there)
    fusion = layers.ConcatFusion(5)
    np.testing.assert_allclose(fusion({"touch": tokens}), fusion({"touch": tokens}, mask={"touch": there}), rtol=1e-6)


def test_modality_dropout_drops_whole_modalities_at_its_rate_and_never_all():
    rate, count = 0.4, 20_000
    features = {name: np.ones((count, size), "float32") for name, size in (("a", 2), ("b", 3), ("c", 1))}
    there = {"c": np.random.default_rng(0).random(count) < 0.5}
    kept, presence = layers.ModalityDropout(rate, seed=3)(features, mask=there, training=True)
    kept, presence = ({name: np.asarray(one) for name, one in thing.items()} for thing in (kept, presence))
    for name, feature in kept.items():
        assert np.all(feature == presence[name][:, None])
    assert np.stack(list(presence.values())).any(axis=0).all()
    assert not presence["c"][~there["c"]].any()
    # Kept: with probability 1 - rate, or as the luckiest of n when all n were to be dropped (rate**n, each as often).
    whole = there["c"]
    for name in "abc":
        assert presence[name][whole].mean() == pytest.approx(1 - rate + rate**3 / 3, abs=0.02)
    assert presence["a"][~whole].mean() == pytest.approx(1 - rate + rate**2 / 2, abs=0.02)
    again, _ = layers.ModalityDropout(rate, seed=3)(features, mask=there, training=True)
    assert all(np.array_equal(kept[name], again[name]) for name in kept)
    still, presence = layers.ModalityDropout(rate)(features, training=False)
    assert all(np.array_equal(still[name], features[name]) for name in features) and np.asarray(presence["a"]).all()
