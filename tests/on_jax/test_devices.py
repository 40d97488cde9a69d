"""On the GPU the layers give what they give on the processor, whatever masks they meet (`make test-gpu`)."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("for Keras's JAX backend: `make test-gpu`", allow_module_level=True)

import jax
from layer_cases import CASES

from mmkit import layers

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def on(device: str, layer: keras.layers.Layer, case, features: dict, mask: dict) -> list[np.ndarray]:
    """What the layer computes on the first device of that kind."""
    place = jax.devices(device)[0]
    values = [jax.device_put(np.asarray(variable), place) for variable in layer.variables]

    def call(values: list, features: dict, mask: dict) -> list:
        with keras.StatelessScope(state_mapping=list(zip(layer.variables, values))):
            return case.call(layer, features, mask)

    with jax.default_device(place):
        return [np.asarray(one, "float32") for one in jax.jit(call)(values, features, mask)]


def devices() -> tuple[str, str]:
    return "cpu", jax.devices()[0].platform


@each
def test_a_gpu_computes_what_a_processor_does(case):
    if case.kind in ("ModalityDropout", "OGMGE"):
        pytest.skip("draws")
    layer, features, mask = case.make(), case.features(5), case.presence(5)
    case.call(layer, features, mask)
    first, second = (on(device, layer, case, features, mask) for device in devices())
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [False, True])
def test_an_lstm_meets_any_mask_on_a_gpu(tokens):
    """A sequence that is absent or has a gap is not what cuDNN's kernel computes: it must not get there."""
    case = next(case for case in CASES if case.name == "LSTMBranch")
    layer = layers.LSTMBranch(6, tokens=tokens)
    features = case.features(4)
    mask = {"x": np.array([[1] * 7, [1, 1, 0, 1, 0, 0, 1], [0] * 7, [0, 0, 1, 1, 1, 0, 0]], bool)}
    case.call(layer, features, mask)
    first, second = (on(device, layer, case, features, mask) for device in devices())
    for one, other in zip(first, second, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_an_lstm_without_a_mask_is_one_with_a_mask_that_hides_nothing():
    """Without a mask a GPU takes cuDNN's kernel, with one Keras's loop."""
    case = next(case for case in CASES if case.name == "LSTMBranch")
    layer, features = case.make(), case.features(4)
    (plain,) = case.call(layer, features)
    (masked,) = case.call(layer, features, {"x": np.ones((4, 7), bool)})
    np.testing.assert_allclose(np.asarray(plain), np.asarray(masked), rtol=1e-4, atol=1e-4)
