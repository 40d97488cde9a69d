"""Loading a split as arrays."""

import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow_datasets as tfds

    from mmkit import datasets, pipelines
    from mmkit.datasets.av_digits import DigitSenses
    from mmkit.ground import sources


def test_av_digits_come_as_senses():
    inputs, labels = datasets.load("av_digits", "test[:300]")
    dataset = tfds.load(f"av_digits/{mmkit.data_profile()}", split="test[:300]")
    expected, digits = pipelines.arrays(dataset, transform=DigitSenses())
    assert inputs.keys() == expected.keys() == {"audio", "image", "touch"}
    for sense in inputs:
        assert inputs[sense].dtype == "float32"
        np.testing.assert_array_equal(inputs[sense], expected[sense])
    np.testing.assert_array_equal(labels, digits)


def test_pictures_come_from_0_to_1_and_all_else_as_it_is():
    inputs, labels = datasets.load("digits", "validation")
    examples = pipelines.arrays(tfds.load(f"digits/{mmkit.data_profile()}", split="validation"))
    np.testing.assert_array_equal(inputs["image"], examples["image"].astype("float32") / 255)
    assert inputs["image"].max() == 1
    np.testing.assert_array_equal(inputs["image_id"], examples["image_id"])
    np.testing.assert_array_equal(labels, examples["label"])
    assert "label" not in inputs
    windows, exercise = datasets.load("watch", "test")
    assert len(np.unique(windows["person"])) == 3 and len(exercise) == len(windows["accelerometer"])


def test_texts_come_as_strings():
    inputs, labels = datasets.load("reviews", "test")
    examples = tfds.as_numpy(tfds.load(f"reviews/{mmkit.data_profile()}", split="test"))
    texts = [example["text"].decode() for example in examples]
    assert inputs["text"].tolist() == texts and len(labels) == len(texts)
    languages = datasets.load("emoji", "test", lambda examples: examples["names"])
    assert all(isinstance(name, str) for name in languages["zh"]) and any(
        not name.isascii() for name in languages["zh"]
    )


def test_a_transform_says_what_is_wanted():
    sums = datasets.load("digits", "test[:20]", lambda examples: {"twice": 2 * examples["label"]})
    _, labels = datasets.load("digits", "test[:20]")
    assert list(sums) == ["twice"] and (sums["twice"] == 2 * labels).all()


def test_what_cannot_be_loaded():
    with pytest.raises(sources.SourceError, match="no data set called 'mnist': choose from av_digits, "):
        datasets.load("mnist", "train")
    with pytest.raises(ValueError, match="emoji has no label: pass a transform .* group"):
        datasets.load("emoji", "test")
    with pytest.raises(ValueError, match="Unknown split 'dev'"):
        datasets.load("digits", "dev")
    with pytest.raises(ValueError, match="transform asks for 'sound'"):
        datasets.load("digits", "test", lambda examples: examples["sound"])
