"""Losses with weights of their own, and what else keeps tasks in balance."""

import doctest

import keras
import numpy as np
import pytest
from gradients import gradients

from mmkit.layers import UncertaintyWeighting


def test_uncertainty_weighting_is_the_formula_of_its_docstring():
    weighting = UncertaintyWeighting(["digit", "angle"], regression=["angle"])
    weighting.log_variances.assign([0.5, -0.3])
    losses = {"angle": np.array([1.0, 3.0], "float32"), "digit": np.float32(0.7)}
    expected = np.exp(-0.5) * 0.7 + 0.25 + np.exp(0.3) * 2.0 / 2 - 0.15
    assert float(weighting(losses)) == pytest.approx(expected, rel=1e-5)


def test_the_best_uncertainty_is_the_loss_itself():
    """Where exp(-s) L + s / 2 is least, exp(s) = 2 L; with a squared error's half, exp(s) = L."""
    weighting = UncertaintyWeighting(["digit", "angle"], regression=["angle"])
    losses = {"digit": np.float32(0.4), "angle": np.float32(0.4)}
    weighting.log_variances.assign(np.log([0.8, 0.4]))
    (gradient,) = gradients(lambda: weighting(losses), weighting.trainable_variables)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class TwoTasks(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.heads = {"sign": keras.layers.Dense(2), "size": keras.layers.Dense(1)}
        self.weighting = UncertaintyWeighting(["sign", "size"], regression=["size"])

    def call(self, inputs):
        return {name: head(inputs) for name, head in self.heads.items()}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        entropy = keras.losses.sparse_categorical_crossentropy(y["sign"], y_pred["sign"], from_logits=True)
        error = keras.losses.mean_squared_error(y["size"], y_pred["size"])
        return self.weighting({"sign": entropy, "size": error})


def test_it_learns_its_weights_in_fit_and_comes_back_from_a_file(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3)).astype("float32")
    y = {"sign": (x[:, 0] > 0).astype("int32"), "size": 10 * random.normal(size=(200, 1)).astype("float32")}
    keras.utils.set_random_seed(0)
    model = TwoTasks()
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(x, y, epochs=40, batch_size=50, verbose=0)
    certain, noisy = np.asarray(model.weighting.log_variances)
    assert certain < 0 < 1 < noisy  # the task that is pure noise of variance 100 counts for less
    model.save(tmp_path / "two.keras")
    again = keras.models.load_model(tmp_path / "two.keras")
    np.testing.assert_allclose(again.weighting.log_variances, [certain, noisy], rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16", "float16"])
@pytest.mark.parametrize("given", ["globally", "to the layer"])
def test_losses_are_never_cast_to_half_precision(policy: str, given: str):
    if given == "globally":
        keras.config.set_dtype_policy(policy)
    try:
        weighting = UncertaintyWeighting(["price"], regression=["price"], dtype=policy if given != "globally" else None)
        loss = keras.ops.convert_to_tensor(90_000.0, dtype="float32")  # infinity in float16
        assert float(weighting({"price": loss})) == 45_000
        (gradient,) = gradients(lambda: weighting({"price": loss}), weighting.trainable_variables)
        np.testing.assert_allclose(gradient, [0.5 - 45_000])
        assert float(weighting({"price": np.full((4,), 90_000.0)})) == 45_000
        assert float(weighting({"price": np.zeros((0,), "float32")})) == 0  # a replica without examples
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def documented() -> type[keras.Model]:
    """The model of the docstring's example."""
    names = {}
    for example in doctest.DocTestParser().get_examples(UncertaintyWeighting.__doc__):
        if example.source.startswith(("import", "from", "class")):
            exec(example.source, names)
    return names["TwoTasks"]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_model_of_the_docstring_counts_its_layers_losses_and_the_weights_of_examples(documented, policy: str):
    keras.config.set_dtype_policy(policy)
    try:
        model = documented()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("sgd")
    x, y = np.ones((8, 4), "float32"), {"digit": np.arange(8), "angle": np.full((8, 1), 3.0, "float32")}
    model.predict(x, verbose=0)
    model.digit.kernel.assign(keras.ops.ones((4, 10)))
    model.angle.kernel.assign(keras.ops.zeros((4, 1)))
    penalty = 0.01 * 40  # "l2": 0.01 times the sum of squares
    total = model.evaluate(x, y, verbose=0)
    assert total == pytest.approx(np.log(10) + 9 / 2 + penalty, rel=1e-3)
    none, first = np.zeros(8), np.eye(8)[0]
    weights = {"digit": none, "angle": none}
    assert model.evaluate(x, y, sample_weight=weights, verbose=0) == pytest.approx(penalty, rel=1e-3)
    weighed = model.evaluate(x, y, sample_weight={**weights, "digit": first}, verbose=0)
    assert weighed == pytest.approx(np.log(10) / 8 + penalty, rel=1e-3)  # the mean over eight examples


def test_wrong_names_are_named():
    with pytest.raises(ValueError, match="each once"):
        UncertaintyWeighting([])
    with pytest.raises(ValueError, match="each once"):
        UncertaintyWeighting(["digit", "digit"])
    with pytest.raises(ValueError, match="angle in regression"):
        UncertaintyWeighting(["digit"], regression=["angle"])
    with pytest.raises(ValueError, match="missing: voice"):
        UncertaintyWeighting(["digit", "voice"])({"digit": np.float32(1)})
