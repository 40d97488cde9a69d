"""Every way in which a layer can be called: where its masks come from, with labels or without, under which names,
dtype policies and strategies, and with which backend."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from gradients import gradients
from layer_cases import CASES, Case

from mmkit import layers

FUSED = [case for case in CASES if "x" not in case.shapes]
BY_KIND = list({(case.kind, case.labels): case for case in reversed(FUSED)}.values())[::-1]
each_kind = pytest.mark.parametrize("case", BY_KIND, ids=lambda case: case.name)


def numbers(tensors: list) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in tensors]


def assert_same(first: list, second: list, tolerance: float = 1e-5) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


# Where masks come from.

MASKED = [case for case in BY_KIND if case.kind != "LateFusion"]  # that one takes vectors alone
MADE = {"words": (5, 4), "motion": (6, 3), "sound": (7, 4)}  # by Embedding, by Masking and by an LSTMBranch
LENGTHS = {"words": [5, 2, 0], "motion": [3, 6, 1], "sound": [7, 0, 4]}
WHERE = {name: np.arange(shape[0]) < np.array(LENGTHS[name])[:, None] for name, shape in MADE.items()}
OTHER = np.array([[True, False, True, True, False]] * 3)  # another mask for the words
VECTOR = {"flag": np.array([True, False, True])}
WAYS = {  # what is given explicitly; all else is carried
    "nothing": {},
    "none for one": {"words": None},
    "one": {"motion": WHERE["motion"]},
    "all": WHERE,
    "another one": {"words": OTHER},
    "one for the vector": VECTOR,
}


def expected_masks(way: str, names: list[str]) -> dict[str, np.ndarray]:
    explicit = {name: mask for name, mask in WAYS[way].items() if mask is not None}
    return {name: mask for name, mask in {**WHERE, **explicit}.items() if name in names}


@functools.cache
def carried() -> tuple[dict, dict]:
    """For each kind of layer the results of all ways to call it, and the layers with the features that they got.

    They are in one functional model, with batch size and times unknown. TensorFlow runs it step by step: to make a
    graph of all these calls takes longer than all else, and the tests of names and of embeddings run in graphs.
    """
    random = np.random.default_rng(0)
    data = {
        "ids": np.where(WHERE["words"], random.integers(1, 9, (3, 5)), 0).astype("int32"),
        "motion": np.where(WHERE["motion"][..., None], random.normal(size=(3, 6, 3)), 0).astype("float32"),
        "sound": random.normal(size=(3, 7, 2)).astype("float32"),
        "sound_mask": WHERE["sound"],
        "flag": random.normal(size=(3, 5)).astype("float32"),
        "labels": np.array([0, 1, 2], "int32"),
        "one": WHERE["motion"],
        "other": OTHER,
        "all": WHERE["words"],
        "vector": VECTOR["flag"],
    }
    inputs = {
        name: keras.Input(
            (None, *one.shape[2:]) if one.ndim > 1 and name != "flag" else one.shape[1:],
            name=name,
            dtype=str(one.dtype),
        )
        for name, one in data.items()
    }
    made = {
        "words": keras.layers.Embedding(9, 4, mask_zero=True)(inputs["ids"]),
        "motion": keras.layers.Masking()(inputs["motion"]),
        "sound": layers.LSTMBranch(4, tokens=True)(inputs["sound"], mask=inputs["sound_mask"]),
        "flag": inputs["flag"],
    }
    explicit = {
        "nothing": None,
        "none for one": {"words": None},
        "one": {"motion": inputs["one"]},
        "all": {"words": inputs["all"], "motion": inputs["one"], "sound": inputs["sound_mask"]},
        "another one": {"words": inputs["other"]},
        "one for the vector": {"flag": inputs["vector"]},
    }
    outputs, used = {"made": {name: keras.ops.multiply(one, 1.0) for name, one in made.items()}}, {}
    for case in MASKED:
        layer = case.make()
        names = [name for name in made if name != "flag" or case.kind != "ConvLSTMFusion"]
        used[case.name] = layer, names
        options = {"labels": inputs["labels"]} if case.labels else {}
        for way, mask in explicit.items():
            if mask is None or set(mask) <= set(names):
                result = layer({name: made[name] for name in names}, mask=mask, **options)
                outputs[f"{case.name}, {way}"] = keras.tree.flatten(result)
    model = keras.Model(inputs, outputs)
    model.compile(jit_compile=False, run_eagerly=keras.backend.backend() == "tensorflow")
    return model.predict(data, verbose=0), used


@pytest.mark.parametrize("case", MASKED, ids=lambda case: case.name)
@pytest.mark.parametrize("way", list(WAYS))
def test_a_carried_mask_counts_as_an_explicit_one(case: Case, way: str):
    results, used = carried()
    layer, names = used[case.name]
    if way == "one for the vector" and "flag" not in names:
        return
    features = {name: results["made"][name] for name in names}
    expected = numbers(keras.tree.flatten(case.call(layer, features, expected_masks(way, names))))
    found = keras.tree.flatten(results[f"{case.name}, {way}"])
    if case.kind == "ModalityDropout" and "flag" not in WAYS[way]:
        found, expected = found[: len(names)], expected[: len(names)]
    assert_same(found, expected)
    unmasked = numbers(keras.tree.flatten(case.call(layer, features)))
    assert any(np.abs(one - other).max() > 1e-3 for one, other in zip(found, unmasked)) or case.kind in (
        "ModalityDropout",
        "ModalityEmbedding",
    )


def test_modality_embedding_hands_each_mask_to_its_own_modality():
    random = np.random.default_rng(0)
    tokens = {name: random.normal(size=(2, 4, 5)).astype("float32") for name in ("audio", "text")}
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    embed, join = layers.ModalityEmbedding(), layers.ConcatFusion(3, activation="linear")
    inputs = {name: keras.Input((None, 5)) for name in tokens}
    given = keras.Input((None,), dtype="bool")
    told = embed(inputs, mask={"text": given})
    plain = join({name: keras.ops.multiply(one, 1.0) for name, one in told.items()}, mask={"text": given})
    model = keras.Model([inputs["audio"], inputs["text"], given], [join(told), plain])
    assert_same(*model.predict([tokens["audio"], tokens["text"], mask], verbose=0))


def test_vectors_carry_a_mask_by_example_to_late_fusion_and_tokens_one_by_step():
    present = np.array([True, False])
    inputs = {name: keras.Input((3,)) for name in "ab"}
    given = keras.Input((), dtype="bool")
    told = layers.ModalityEmbedding()(inputs, mask={"a": given})
    late = layers.LateFusion(3)
    model = keras.Model([*inputs.values(), given], [late(told), told])
    data = [np.random.default_rng(0).normal(size=(2, 3)).astype("float32") for _ in "ab"]
    fused, features = model.predict([*data, present], verbose=0)
    assert_same([fused], numbers([late(features, mask={"a": present})]))

    tokens, there = keras.Input((None, 3)), keras.Input((), dtype="bool")  # a Keras layer wants a mask by step
    told = layers.ModalityEmbedding()({"a": tokens}, mask={"a": there})["a"]
    state = keras.layers.LSTM(2)(told)
    state = keras.Model([tokens, there], state).predict([np.ones((2, 4, 3), "float32"), present], verbose=0)
    assert np.abs(state[0]).max() > 0 and np.all(state[1] == 0)


STEPPED = [case for case in MASKED if "b" in case.sequences and case.kind != "ModalityDropout"]  # that one draws


@pytest.mark.parametrize("case", STEPPED, ids=lambda case: case.name)
def test_carried_masks_count_in_training_too(case: Case):
    """The gradient into a padded step is zero, with labels and without: more padding changes nothing in `fit`."""
    layer, features = case.make(), case.features(4)
    features["b"][1, 2:] = features["b"][2] = 0  # what Masking takes for padding
    tokens = keras.Variable(features["b"])
    case.call(layer, features)

    def loss():
        told = {**features, "b": keras.layers.Masking()(tokens.value)}
        options = {"labels": case.labels_of(features)} if case.labels else {}
        results = keras.tree.flatten(layer(told, training=True, **options))
        return sum(keras.ops.sum(keras.ops.cast(one, "float32") ** 2) for one in results) + sum(layer.losses)

    (found,) = gradients(loss, [tokens])
    assert np.all(found[1, 2:] == 0) and np.all(found[2] == 0) and np.abs(found[0]).max() > 0


# What is absent.


@each_kind
@pytest.mark.parametrize("batch", [1, 4])
def test_a_modality_that_the_whole_batch_lacks_leaves_the_others_their_gradients(case: Case, batch: int):
    layer, features = case.make(), case.features(batch)
    case.call(layer, features)
    for absent in case.shapes if len(case.shapes) > 1 else ():
        everything = {name: np.ones_like(one) for name, one in case.presence(batch).items()}
        mask = {**everything, absent: np.zeros_like(everything[absent])}
        variables = {
            name: keras.Variable(np.full_like(one, np.nan) if name == absent else one) for name, one in features.items()
        }
        training = case.kind != "ModalityDropout"  # which would take away the others, too

        def loss(variables=variables, mask=mask, training=training):
            told = {name: variable.value for name, variable in variables.items()}
            options = {"labels": case.labels_of(features)} if case.labels else {}
            results = keras.tree.flatten(layer(told, mask=mask, training=training, **options))
            random = np.random.default_rng(1)
            terms = [keras.ops.sum(keras.ops.cast(one, "float32") * random.normal(size=one.shape)) for one in results]
            return sum(terms) + sum(layer.losses)

        for name, gradient in zip(variables, gradients(loss, list(variables.values()))):
            assert np.isfinite(gradient).all()
            assert (np.abs(gradient).max() > 0) == (name != absent), (absent, name)


# Names.

NAMES = ("left arm", "été", "日本語/文", "a:b.gate", "-", "gate")


@each_kind
def test_any_string_names_a_modality_and_comes_back_from_a_file(case: Case, tmp_path: Path):
    shapes = list(case.shapes.values())
    model_inputs, features, data = [], {}, []
    for place, name in enumerate(NAMES[: len(NAMES) if len(shapes) > 1 else 2]):
        shape = shapes[place % len(shapes)]
        model_inputs.append(keras.Input(shape))
        features[name] = model_inputs[-1]
        data.append(np.random.default_rng(place).normal(size=(2, *shape)).astype("float32"))
    model = keras.Model(model_inputs, keras.tree.flatten(case.make()(features)))
    model.compile(jit_compile=False)
    expected = keras.tree.flatten(model.predict(data, verbose=0))  # in a graph, where TensorFlow checks names
    model.save(tmp_path / "named.keras")
    again = keras.models.load_model(tmp_path / "named.keras")
    whole = keras.backend.backend() == "jax"  # which would compile a call op by op, for minutes
    found = again.predict(data, verbose=0) if whole else numbers(keras.tree.flatten(again(data)))
    assert_same(keras.tree.flatten(found), expected)
    paths = [weight.path for weight in again.weights]
    assert len(set(paths)) == len(paths)


# Precision.


@pytest.fixture
def global_policy(request) -> Iterator[str]:
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("global_policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_under_global_mixed_precision_results_and_losses_are_those_of_float32(case: Case, global_policy: str):
    features, mask = case.features(4), case.presence(4)
    half = case.make()
    case.call(half, features, mask)
    keras.config.set_dtype_policy("float32")
    single = case.make()
    case.call(single, features, mask)
    single.set_weights(half.get_weights())
    assert all(weight.dtype == "float32" for weight in half.trainable_weights)
    training = case.kind not in ("ModalityDropout", "BertTextBranch")  # which draw, and not the same in half precision
    found, expected = (numbers(case.call(layer, features, mask, training=training)) for layer in (half, single))
    assert_same(found, expected, tolerance=0.01 if global_policy == "mixed_float16" else 0.1)
    assert all(keras.backend.standardize_dtype(loss.dtype) == "float32" for loss in half.losses)
    assert_same(numbers(half.losses), numbers(single.losses), tolerance=0.02)


# Several replicas, one of them without examples; and no TensorFlow.

ROOT = Path(__file__).resolve().parents[1]


def run_apart(program: str, *arguments: str, **variables: str) -> str:
    """What a program prints in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


TWO_REPLICAS = """
import json
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
from layer_cases import CASES

# TensorFlow itself stops at two convolutions in a row of an empty batch ("input depth must be evenly divisible").
cases = {(case.kind, case.labels): case for case in CASES if "x" not in case.shapes and case.kind != "ConvLSTMFusion"}
cases = list(cases.values())
inputs, data, outputs, models = [], [], {}, {}
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    for case in cases:
        models[case.name] = model = case.model(f"{case.name}_")
        inputs += model.inputs
        for one in case.data(case.features(5), case.presence(5)):  # Keras's `fit` adds up replicas' inputs: no booleans
            data.append(one.astype("uint8") if one.dtype == bool else one)
        outputs[case.name] = model.outputs[0]
    whole = keras.Model(inputs, outputs)  # of all layers: to compile a model for each would take minutes
    whole.compile("sgd", "mse", jit_compile=False)
target = {case.name: np.zeros_like(case.call(case.make(), case.features(5))[0]) for case in cases}
# Batches of 4 and of 1: of the second, one replica gets nothing.
dataset = tf.data.Dataset.from_tensor_slices((tuple(data), target)).batch(4)
history = whole.fit(dataset, verbose=0).history
print(json.dumps({
    "loss": history["loss"],
    "bad": [name for name, model in models.items() if not all(np.isfinite(one).all() for one in model.get_weights())],
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's")
def test_a_replica_without_examples_leaves_all_weights_finite():
    found = json.loads(run_apart(TWO_REPLICAS).splitlines()[-1])
    assert found["bad"] == [] and np.isfinite(found["loss"]).all()


WITHOUT_TENSORFLOW = """
import importlib.util, json, sys
from unittest.mock import MagicMock

class NoTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ImportError("tensorflow is not installed")
        if name.partition(".")[0] == "jax" and sys.argv[1:] == ["numpy"]:  # Keras's NumPy backend imports it, too
            return importlib.util.spec_from_loader(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name, __spec__=spec, __path__=[])
        module.Array = type("Array", (), {})
        return module

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, NoTensorFlow())
import mmkit.layers
import numpy as np
from layer_cases import CASES

bad = {}
for case in CASES:
    if "x" not in case.shapes and (case.kind, *sys.argv[1:]) != ("ConvLSTMFusion", "numpy"):  # there JAX convolves
        try:
            results = case.call(case.make(), case.features(3), case.presence(3), training=True)
            assert all(np.isfinite(np.asarray(one)).all() for one in results)
        except Exception as error:
            bad[case.name] = repr(error)
print(json.dumps({"bad": bad, "loaded": "tensorflow" in sys.modules}))
"""


def test_the_layers_import_and_compute_where_there_is_no_tensorflow():
    backend = "jax" if keras.backend.backend() == "jax" else "numpy"
    found = json.loads(run_apart(WITHOUT_TENSORFLOW, backend, KERAS_BACKEND=backend).splitlines()[-1])
    assert found == {"bad": {}, "loaded": False}


# What layers show of themselves.


@pytest.mark.parametrize(
    ("layer", "ask"),
    [
        (layers.GatedFusion(3), lambda layer, *call: layer.gates(*call)),
        (layers.MixtureOfExpertsFusion(3), lambda layer, *call: layer.weights_of_experts(*call)),
        (layers.OGMGE(3), lambda layer, features, *mask: layer.coefficients(features, np.zeros(4), *mask)),
        (layers.FusionTransformer(3, num_heads=1), lambda layer, *call: layer.attention(*call)),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, keras.layers.Layer) else "",
)
def test_what_a_layer_shows_is_checked_like_a_call(layer, ask):
    features = {name: np.ones((4, 5), "float32") for name in "ab"}
    with pytest.raises(ValueError, match="call the layer first"):
        ask(layer, features)
    layer(features)
    ask(layer, features)
    with pytest.raises(ValueError, match="missing: b"):
        ask(layer, {"a": features["a"]})
    with pytest.raises(ValueError, match="unknown: smell"):
        ask(layer, {**features, "smell": features["a"]})
    with pytest.raises(ValueError, match=r"modality 'b' has shape \(4, 6\)"):
        ask(layer, {**features, "b": np.ones((4, 6), "float32")})
    with pytest.raises(ValueError, match="mask of modality 'a' has shape"):
        ask(layer, features, {"a": np.ones(5, bool)})
    carried = layers.ModalityEmbedding()(features, mask={"b": np.array([True, False, True, True])})
    explicit = ask(layer, carried, {"b": np.array([True, False, True, True])})
    assert_same(numbers(keras.tree.flatten(ask(layer, carried))), numbers(keras.tree.flatten(explicit)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone has ragged tensors")
def test_a_ragged_feature_is_named():
    import tensorflow as tf

    ragged = tf.ragged.constant([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], ragged_rank=1)
    for kind in (layers.ConcatFusion, layers.FusionTransformer):
        with pytest.raises(ValueError, match="sound: ragged; pad it and give a mask"):
            kind(4)({"sound": ragged})


def test_coefficients_check_their_labels():
    layer, features = layers.OGMGE(3), {"a": np.ones((4, 5), "float32")}
    layer(features)
    with pytest.raises(ValueError, match=r"labels have shape \(4, 1\)"):
        layer.coefficients(features, np.zeros((4, 1)))
