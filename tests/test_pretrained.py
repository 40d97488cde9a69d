"""Pretrained weights: equal to outputs computed elsewhere (tests/reference/make.py), whole, clear when they fail."""

import collections
import json
import pickle
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import faults
import keras
import numpy as np
import pytest

from mmkit import pretrained
from mmkit.ground import settings, sources

REFERENCE = Path(__file__).with_name("reference")
sys.path.insert(0, str(REFERENCE))


def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as held:
        return {key: held[key] for key in held.files}


@pytest.fixture(scope="module")
def minilm():
    return pretrained.minilm()


def test_word_pieces_are_the_original_tokenizers():
    reference = stored("minilm")
    length = reference["ids"].shape[1]
    given = pretrained.minilm_preprocessor(length)(reference["texts"].tolist())
    assert np.array_equal(given["token_ids"], reference["ids"])
    assert np.array_equal(given["padding_mask"], reference["there"])
    assert not np.any(given["segment_ids"])


def test_words_beyond_ascii_are_cut_as_the_original_tokenizer_cuts_them():
    """f06: other spaces, soft hyphens, halves, Korean and long words came out as the unknown word or as other words."""
    import tensorflow as tf

    reference = stored("word_pieces")
    texts, ids = reference["texts"].tolist(), reference["ids"]
    preprocessor = pretrained.minilm_preprocessor(ids.shape[1])
    for text, given, wanted in zip(texts, np.asarray(preprocessor(texts)["token_ids"]), ids):
        names = [[preprocessor.tokenizer.id_to_token(int(one)) for one in row if one] for row in (given, wanted)]
        assert names[0] == names[1], ascii(text)
    mapped = next(iter(tf.data.Dataset.from_tensor_slices(texts).batch(len(texts)).map(preprocessor)))
    assert np.array_equal(mapped["token_ids"], ids)
    one = next(iter(tf.data.Dataset.from_tensor_slices(texts).map(preprocessor)))
    assert np.array_equal(one["token_ids"], ids[0])


def test_the_tokenizer_gives_pieces_alone_and_takes_marks_for_text():
    tokenizer = pretrained.minilm_preprocessor(8).tokenizer
    assert [list(map(int, one)) for one in tokenizer(["Good bad", "", "a"])] == [[2204, 2919], [], [1037]]
    assert np.asarray(tokenizer("Good bad")).tolist() == [2204, 2919]
    assert tokenizer.detokenize(tokenizer("Good bad")) == "good bad"
    assert [tokenizer.id_to_token(int(one)) for one in tokenizer("[MASK]")] == ["[", "mask", "]"]


def test_minilm_computes_what_plain_numpy_computes(minilm):
    reference = stored("minilm")
    inputs = {
        "token_ids": reference["ids"],
        "padding_mask": reference["there"],
        "segment_ids": np.zeros_like(reference["ids"]),
    }
    outputs = {name: np.asarray(one) for name, one in minilm(inputs).items()}
    states = outputs["sequence_output"][..., ::16]
    there = reference["there"]
    np.testing.assert_allclose(states[there], reference["states"][there], atol=2e-5)
    np.testing.assert_allclose(outputs["pooled_output"][:, ::16], reference["pooled"], atol=2e-5)
    assert 1e-5 < np.abs(states[there] - reference["exact"][there]).max() < 0.02  # keras-hub's GELU is an approximation
    assert minilm.count_params() == 22_713_216


@pytest.mark.slow
def test_minilm_takes_a_dtype_and_a_dropout():
    small = pretrained.minilm(dtype="bfloat16", dropout=0.0)
    assert small.compute_dtype == "bfloat16" and small.dropout == 0.0


def test_efficientnet_computes_what_pytorch_computes():
    from pictures import pictures_from

    reference = stored("efficientnet_lite0")
    pictures = pictures_from(2, 224)
    whole = pretrained.efficientnet_lite0()
    shares = np.asarray(whole(pictures))
    np.testing.assert_allclose(shares[:, ::8], reference["shares"], atol=1e-5)
    assert np.array_equal(shares.argmax(axis=1), reference["best"])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert whole.count_params() == 4_694_024

    features = pretrained.efficientnet_lite0(include_top=False, input_shape=(None, None, 3))
    maps = np.asarray(features(pictures))
    assert maps.shape == (2, 7, 7, 1280)
    np.testing.assert_allclose(maps[:, ::3, ::3, ::32], reference["maps"], atol=1e-3)
    odd = np.asarray(features(pictures_from(1, 75)))  # a size that no stride divides
    np.testing.assert_allclose(odd[..., ::32], reference["odd"], atol=1e-3)


def test_efficientnet_without_weights_needs_no_file(monkeypatch):
    monkeypatch.setattr(sources, "fetch", None)
    assert pretrained.efficientnet_lite0(weights=None, include_top=False).output_shape == (None, 7, 7, 1280)
    with pytest.raises(ValueError, match="unknown weights 'mnist'"):
        pretrained.efficientnet_lite0(weights="mnist")


# Faults: one line each.


@pytest.mark.parametrize("load", ["minilm()", "minilm_preprocessor()", "efficientnet_lite0()"])
def test_a_missing_cache_while_offline(load, tmp_path, monkeypatch):
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    with pytest.raises(sources.SourceError, match="is not in .* and MMKIT_OFFLINE is set: unset it, or copy the cache"):
        eval(f"pretrained.{load}")  # noqa: S307


def test_the_fetch_command_names_the_weights(tmp_path):
    child = faults.run("-m", "mmkit", "fetch", "minilm", env=faults.environment(tmp_path, MMKIT_OFFLINE="1"))
    assert "minilm is not in" in faults.one_line(child)


@pytest.fixture
def other_files(tmp_path, monkeypatch):
    """A cache of our own, whose files a test may damage."""
    place = tmp_path / "copy"

    def fetch(name):
        if not (place / name).exists():
            shutil.copytree(real(name), place / name)
        return place / name

    real = sources.fetch
    monkeypatch.setattr(sources, "fetch", fetch)
    return lambda name, ending: next(fetch(name).glob(f"*/{ending}"))


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        kind = {"float32": "F32", "int64": "I64", "float64": "F64"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, told",
    [
        (lambda tensors: tensors.pop("pooler.dense.bias"), "1 weights unset, 0 tensors left over: pooler.dense.bias"),
        (lambda tensors: tensors.update({"cls.bias": np.zeros(2, "float32")}), "1 tensors left over: cls.bias"),
        (
            lambda tensors: tensors.update({"pooler.dense.bias": np.zeros(2, "float32")}),
            r"pooler.dense.bias has shape \(2,\), wanted \(384,\)",
        ),
        (
            lambda tensors: tensors.update({"pooler.dense.bias": np.full(384, np.nan, "float32")}),
            "pooler.dense.bias holds NaN",
        ),
        (lambda tensors: tensors.update({"pooler.dense.bias": np.zeros(384)}), "not a whole safetensors file: 'F64'"),
    ],
)
def test_another_bert(change, told, other_files):
    path = other_files("minilm", "model/model.safetensors")
    tensors = pretrained.read_safetensors(path)
    change(tensors)
    write_safetensors(path, tensors)
    with pytest.raises(pretrained.WeightsError, match=told) as error:
        pretrained.minilm()
    assert "\n" not in str(error.value) and "mmkit fetch" in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"short", b"<html>not found</html>" * 20, struct.pack("<Q", 2) + b"[]"])
def test_no_file_of_weights(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(pretrained.WeightsError, match="not a whole safetensors file"):
        pretrained.read_safetensors(path)
    with pytest.raises(pretrained.WeightsError, match="not a whole checkpoint"):
        pretrained.read_pth(path)


def test_cut_off_files(other_files):
    for name, ending, load in (
        ("minilm", "model/model.safetensors", pretrained.minilm),
        ("minilm", "model/vocab.txt", pretrained.minilm_preprocessor),
        ("efficientnet-lite0", "models/*.pth", pretrained.efficientnet_lite0),
    ):
        path = other_files(name, ending)
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(pretrained.WeightsError, match="not the ones expected"):
            load()


def test_a_source_without_the_file(other_files):
    other_files("minilm", "model/vocab.txt").unlink()
    with pytest.raises(pretrained.WeightsError, match="it is not there"):
        pretrained.minilm_preprocessor()


class _Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("evil", [_Evil(), collections.Counter("ab"), Path("x")])
def test_a_checkpoint_that_names_anything_else_is_refused(evil, tmp_path, capsys):
    with open(tmp_path / "evil.pth", "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, {"weight": evil}, []):
            pickle.dump(part, file, protocol=2)
    with pytest.raises(pretrained.WeightsError, match="which is no tensor"):
        pretrained.read_pth(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_profiles(monkeypatch):
    """`full` downloads from Keras's servers, which no test may ask for: what is asked for is checked with doubles."""
    import keras_hub

    asked = []

    def preset(kind):
        return staticmethod(lambda name, **options: asked.append((kind, name, options)) or kind)

    monkeypatch.setattr(keras_hub.models.BertBackbone, "from_preset", preset("bert"))
    monkeypatch.setattr(keras_hub.models.BertTextClassifierPreprocessor, "from_preset", preset("texts"))
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    monkeypatch.setattr(sources, "fetch", None)
    assert pretrained.text_backbone(dropout=0.2) == "bert" and pretrained.text_preprocessor(20) == "texts"
    assert asked == [
        ("bert", pretrained.PRESET, {"dropout": 0.2}),
        ("texts", pretrained.PRESET, {"sequence_length": 20}),
    ]
    assert pretrained.PRESET in keras_hub.models.BertBackbone.presets

    def network(**options):
        assert options == {"include_top": False, "weights": "imagenet", "input_shape": (64, 64, 3)}
        return keras.Sequential([keras.Input((64, 64, 3)), keras.layers.AveragePooling2D(32)])

    monkeypatch.setattr(keras.applications, "ResNet50V2", network)
    scaled = np.asarray(pretrained.image_backbone((64, 64, 3))(np.full((1, 64, 64, 3), 255.0)))
    np.testing.assert_allclose(scaled, 1.0)

    monkeypatch.undo()
    assert settings.data_profile() == "small"
    monkeypatch.setattr(pretrained, "minilm", lambda **options: SimpleNamespace(**options))
    assert pretrained.text_backbone(dtype="bfloat16").dtype == "bfloat16"
    assert pretrained.text_preprocessor(20).sequence_length == 20
    assert pretrained.image_backbone((96, 96, 3)).output_shape == (None, 3, 3, 1280)
