"""What every layer of the kit promises, tested for all of them from the one list in layer_cases.py."""

import functools
import inspect
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from gradients import gradients
from layer_cases import CASES, Case

from mmkit import layers

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
weighted = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.kind.startswith("Modality")], ids=lambda case: case.name
)


def numbers(tensors: list) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in tensors]


def total(tensors: list):
    """The sum of all numbers in the results, in single precision."""
    return sum(keras.ops.sum(keras.ops.cast(one, "float32")) for one in tensors)


def assert_same(first: list, second: list, tolerance: float = 1e-5) -> None:
    for one, other in zip(numbers(first), numbers(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_every_layer_is_in_the_list():
    public = {name for name in layers.__all__ if name not in ("FusionLayer", "UncertaintyWeighting")}
    assert {getattr(layers, name).__name__ for name in public} == {case.kind for case in CASES}
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
    if not layer.trainable_variables:
        assert case.kind == "ModalityDropout"
        return

    def loss():
        results = case.call(layer, case.features(8), case.presence(8))
        return sum(keras.ops.mean(keras.ops.square(keras.ops.cast(one, "float32") - 0.3)) for one in results)

    found = gradients(loss, layer.trainable_variables)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in layer.trainable_variables]
    keras.optimizers.SGD(0.1).apply([keras.ops.convert_to_tensor(one) for one in found], layer.trainable_variables)
    for weight, gradient, old in zip(layer.trainable_variables, found, before):
        if weight.path.endswith("self_attention_layer/key/bias"):
            continue  # BERT has it, but it adds the same to all scores of a query, and softmax takes no notice
        assert gradient is not None and np.abs(gradient).max() > 0, weight.path
        assert np.abs(keras.ops.convert_to_numpy(weight) - old).max() > 0, weight.path


@each
def test_what_an_absent_modality_holds_changes_nothing(case: Case):
    layer, features, mask = case.make(), case.features(8), case.presence(8)
    clean = case.call(layer, features, mask)
    for junk in case.junk:
        spoiled = {}
        for name, feature in features.items():
            there = mask[name].reshape(mask[name].shape + (1,) * (feature.ndim - mask[name].ndim))
            spoiled[name] = np.where(there, feature, np.full_like(feature, junk))
        call = functools.partial(case.call, layer, spoiled, mask)
        assert_same(call(), clean)
        for gradient in gradients(lambda call=call: total(call()), layer.trainable_variables):
            assert np.isfinite(gradient).all()


@each
def test_all_absent_is_finite(case: Case):
    mask = {name: np.zeros_like(one) for name, one in case.presence(4).items()}
    nothing = {name: np.full_like(feature, case.junk[0]) for name, feature in case.features(4).items()}
    for training in (False, True):
        layer = case.make()
        assert all(np.isfinite(one).all() for one in numbers(case.call(layer, nothing, mask, training=training)))
        assert np.isfinite(numbers(layer.losses)).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", [case for case in CASES if case.sequences], ids=lambda case: case.name)
def test_more_padding_changes_nothing(case: Case, training: bool):
    layer, features, mask = case.make(), case.features(6), case.presence(6)
    if training and case.kind == "BertTextBranch":
        return  # its dropout draws a number for each token, so with more tokens other ones
    longer = dict(features), dict(mask)
    for name in case.sequences:
        longer[0][name] = np.concatenate([features[name], np.full_like(features[name], case.junk[0])], axis=1)
        longer[1][name] = np.concatenate([mask[name], np.zeros_like(mask[name])], axis=1)
    case.call(layer, features, mask)
    start = [keras.ops.convert_to_numpy(variable) for variable in layer.variables]  # state of random draws, too
    found = []
    for call in ((features, mask), longer):
        for variable, value in zip(layer.variables, start):
            variable.assign(value)
        results = numbers(case.call(layer, *call, training=training))
        found.append(results + numbers(layer.losses))
    for short, long in zip(*found, strict=True):
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
@pytest.mark.parametrize(
    "policy",
    [
        "mixed_float16",
        "bfloat16",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("mixed_bfloat16", "float16")),
    ],
)
def test_half_precision(case: Case, policy: str):
    layer = case.make(dtype=policy)
    features = case.features(4, scale=10)
    for result in case.call(layer, features, case.presence(4)):
        assert keras.backend.standardize_dtype(result.dtype) in (policy.removeprefix("mixed_"), "bool")
        assert np.isfinite(numbers([result])[0]).all()
    for gradient in gradients(
        lambda: total(case.call(layer, features, case.presence(4))) / 100, layer.trainable_variables
    ):
        assert np.isfinite(gradient).all()


@weighted
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trains_with_and_without_compilation_at_any_batch_size(case: Case, jit_compile: bool):
    model = case.model()
    features, mask = case.features(7), case.presence(7)
    data = case.data(features, mask)
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
        np.savez(folder / f"{case.name}.inputs.npz", *case.data(features, mask))
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
def test_a_frozen_layer_stays_frozen(case: Case, tmp_path: Path):
    """Made so, set so, and after both in a file: the layers inside are frozen, too, and can be set free again."""
    features = case.features(2)
    made = case.make(trainable=False)
    case.call(made, features)
    assert keras.Sequential([made]).trainable_variables == []
    free = case.make()
    case.call(free, features)
    made.trainable = True
    assert len(made.trainable_variables) == len(free.trainable_variables)
    model = case.model()
    for layer in model.layers:
        layer.trainable = False
    assert model.trainable_variables == []
    model.save(tmp_path / "frozen.keras")
    again = keras.models.load_model(tmp_path / "frozen.keras")
    assert again.trainable_variables == []


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
def test_a_mask_of_the_wrong_shape_or_dtype_is_named(case: Case):
    layer, features, mask = case.make(), case.features(4), case.presence(4)
    case.call(layer, features, mask)
    name = list(case.shapes)[-1]
    for shape in [(5,), (4, 2), (4, 1, 1)]:
        with pytest.raises(ValueError) as error:
            case.call(layer, features, {**mask, name: np.ones(shape, bool)})
        assert str(shape) in str(error.value)
    with pytest.raises(ValueError, match=r"has dtype float\d\d, wanted booleans"):
        case.call(layer, features, {**mask, name: mask[name].astype("float32")})
    assert_same(
        case.call(layer, features, mask),
        case.call(layer, features, {name: one.astype("int32") for name, one in mask.items()}),
    )


@each
def test_the_config_survives_json_and_makes_the_same_layer(case: Case):
    layer = case.make()
    case.call(layer, case.features(2))
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)
    assert len(layer.variables) == len(again.variables) or not again.built


WITHOUT_KERNELS = ("ModalityDropout", "ModalityEmbedding", "LateFusion")


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.kind not in WITHOUT_KERNELS and "x" not in case.shapes],
    ids=lambda c: c.name,
)
def test_kernels_begin_as_told_and_their_penalty_counts(case: Case):
    layer = case.make(kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(0.5))
    case.call(layer, case.features(2))
    kernels = [one for one in layer.trainable_variables if one.name == "kernel" or one.name.startswith("factors")]
    assert kernels and all(np.all(keras.ops.convert_to_numpy(one) == 0) for one in kernels)
    for kernel in kernels:
        kernel.assign(keras.ops.ones(kernel.shape))
    assert float(sum(layer.losses)) == pytest.approx(sum(0.5 * np.prod(one.shape) for one in kernels), rel=1e-5)
    config = json.loads(json.dumps(layer.get_config()))
    assert config["kernel_initializer"]["class_name"] == "Zeros" and config["kernel_regularizer"]["class_name"] == "L2"
    assert type(layer).from_config(config).kernel_regularizer.l2 == 0.5


ATTENTION = ("CrossModalAttention", "BottleneckFusion", "PerceiverFusion", "FusionTransformer")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras quantizes alike on all backends")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if case.kind in (*ATTENTION, "DeepFusion") else ())
        for case in {case.kind: case for case in CASES if "x" not in case.shapes}.values()
    ],
    ids=lambda case: case.name,
)
def test_a_model_quantized_to_int8_comes_back_from_a_file(case: Case, tmp_path: Path):
    model, data = case.model(), case.data(case.features(3), case.presence(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says of each part that has nothing to quantize that it has not
        model.quantize("int8")
    model.save(tmp_path / "quantized.keras")
    again = keras.models.load_model(tmp_path / "quantized.keras")
    whole = [weight for weight in again.weights if weight.dtype == "int8"]
    assert whole or case.kind in ("LowRankFusion", *WITHOUT_KERNELS)
    assert_same(keras.tree.flatten(model(data)), keras.tree.flatten(again(data)))
    assert again.layers[-1].get_config() == model.layers[-1].get_config()  # also what is saved a second time


WEIGHTS = {  # with three modalities, but for those that say otherwise
    "ConcatFusion": 2,
    "GatedFusion": 8,
    "GatedFusion-one": 4,
    "SumFusion": 6,
    "FiLMFusion": 9,
    "FiLMFusion-one": 2,
    "TensorFusion": 8,
    "TensorFusion-full": 2,
    "LowRankFusion": 4,
    "DeepFusion": 24,
    "MixtureOfExpertsFusion": 5,
    "OGMGE": 4,
    "LateFusion": 3,
    "ModalityEmbedding": 3,
    "ModalityDropout": 0,
}


def test_layers_have_as_many_weights_as_their_formulas():
    for case in CASES:
        if case.name in WEIGHTS:
            layer = case.make()
            case.call(layer, case.features(2))
            assert len(layer.trainable_variables) == WEIGHTS[case.name], case.name


def test_sizes_must_be_positive():
    for name in layers.__all__:
        kind = getattr(layers, name)
        if "units" in inspect.signature(kind).parameters and name not in ("FusionLayer", "BertTextBranch"):
            with pytest.raises(ValueError, match=f"{kind.__name__}: .*positive"):
                kind(0)
    for kind, option in [
        (layers.LowRankFusion, "rank"),
        (layers.TensorFusion, "size"),
        (layers.DeepFusion, "depth"),
        (layers.FusionTransformer, "num_heads"),
        (layers.CrossModalAttention, "num_layers"),
        (layers.BottleneckFusion, "num_bottlenecks"),
        (layers.PerceiverFusion, "num_latents"),
        (layers.MixtureOfExpertsFusion, "num_experts"),
    ]:
        with pytest.raises(ValueError, match=f"{kind.__name__}: {option} must be positive: got 0"):
            kind(4, **{option: 0})


def test_other_arguments_out_of_range_are_named():
    with pytest.raises(ValueError, match="rate"):
        layers.ModalityDropout(1.0)
    with pytest.raises(ValueError, match="pooling"):
        layers.Conv2DBranch(4, pooling="mean")
    with pytest.raises(ValueError, match="top_k is 5, more than the 4 experts"):
        layers.MixtureOfExpertsFusion(4, top_k=5)
    with pytest.raises(ValueError, match="balance must not be negative"):
        layers.MixtureOfExpertsFusion(4, balance=-1)
    with pytest.raises(ValueError, match="alpha must not be negative"):
        layers.OGMGE(4, alpha=-1)
    for wrong, said in [
        ({"prior": [0.5, 0.5]}, "prior must be 4 positive numbers"),
        ({"prior": [1, 1, 0, 1]}, "prior must be 4 positive numbers"),
        ({"exponents": {"a": -1}}, "exponents must not be negative"),
        ({"kernel_regularizer": "l2"}, "no kernels"),
    ]:
        with pytest.raises(ValueError, match=said):
            layers.LateFusion(4, **wrong)
    with pytest.raises(ValueError, match=r"modality 'b' has shape \(2, 5\), .* last axis of 4"):
        layers.LateFusion(4)({"a": np.zeros((2, 4)), "b": np.zeros((2, 5))})
    with pytest.raises(ValueError, match="exponents name smell"):
        layers.LateFusion(4, exponents={"smell": 1})({"a": np.zeros((2, 4))})
    with pytest.raises(ValueError, match="must not be empty"):
        layers.ConcatFusion(4)({"": np.zeros((2, 4))})
    with pytest.raises(ValueError, match="LowRankFusion"):
        layers.TensorFusion(4, size=None)({name: np.zeros((2, 200), "float32") for name in "abc"})
