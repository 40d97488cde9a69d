"""Layers saved by earlier versions of the kit: their files load, and compute what they computed then."""

from pathlib import Path

import keras
import numpy as np
import pytest

import mmkit.layers  # noqa: F401, makes the layers known to Keras

FOLDER = Path(__file__).with_name("reference") / "layers"
SAVED = sorted(FOLDER.glob("*.keras"))


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "arrays.npz") as held:
        return {name: held[name] for name in held.files}


def those(arrays: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    return [arrays[f"{kind}{number}"] for number in range(sum(name.startswith(kind) for name in arrays))]


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version_loads_and_computes_the_same(path: Path, arrays):
    model = keras.models.load_model(path, safe_mode=True)
    inputs = those(arrays, f"{path.stem}/input")
    outputs = keras.tree.flatten(model(dict(zip(model.input, inputs)) if isinstance(model.input, dict) else inputs))
    for output, expected in zip(outputs, those(arrays, f"{path.stem}/output"), strict=True):
        np.testing.assert_allclose(keras.ops.cast(output, "float32"), expected, rtol=1e-5, atol=1e-5)


def test_there_is_a_file_of_every_layer():
    kinds = {path.stem.partition("-")[0] for path in SAVED}
    newer = {"LateFusion"}
    assert kinds == {getattr(mmkit.layers, name).__name__ for name in mmkit.layers.__all__} - {"FusionLayer"} - newer
