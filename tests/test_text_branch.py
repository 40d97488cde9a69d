"""What is the text branch's alone; the promises that it shares with all layers are in test_layers.py."""

import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
from gradients import gradients
from layer_cases import text_branch

from mmkit import layers, pretrained

IDS = np.array([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]], "int32")
THERE = IDS != 0


def trained(branch: keras.layers.Layer) -> list[str]:
    return [weight.path for weight in branch.trainable_weights if "projection" not in weight.path]


def states_of(branch: layers.BertTextBranch) -> np.ndarray:
    """The backbone's own states, computed by keras-hub's model."""
    inputs = {"token_ids": IDS, "padding_mask": THERE, "segment_ids": np.zeros_like(IDS)}
    return np.asarray(branch.backbone(inputs)["sequence_output"]) * THERE[..., None]


def test_poolings_are_what_they_say():
    lengths = np.maximum(THERE.sum(axis=1, keepdims=True), 1)
    expected = {"cls": lambda states: states[:, 0], "mean": lambda states: states.sum(axis=1) / lengths}
    for pooling, pool in expected.items():
        branch = text_branch(6, pooling=pooling)
        features = np.asarray(branch(IDS, mask=THERE))
        kernel, bias = branch.projection.get_weights()
        wanted = (pool(states_of(branch)) @ kernel + bias) * THERE.any(axis=1)[:, None]
        np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-6)

    branch = text_branch(6, pooling="attention")
    features = np.asarray(branch(IDS, mask=THERE))
    states, (kernel, bias) = states_of(branch), branch.projection.get_weights()
    scores = np.where(THERE, np.exp((states @ branch.attend.get_weights()[0])[..., 0]), 0)
    shares = scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-9)
    wanted = ((shares[..., None] * states).sum(axis=1) @ kernel + bias) * THERE.any(axis=1)[:, None]
    np.testing.assert_allclose(features, wanted, rtol=1e-5, atol=1e-6)

    branch = text_branch(6, tokens=True, train="last")
    features = branch(IDS, mask=THERE)
    kernel, bias = branch.projection.get_weights()
    np.testing.assert_allclose(features, (states_of(branch) @ kernel + bias) * THERE[..., None], rtol=1e-5, atol=1e-6)


def test_cls_is_the_first_token_that_is_there():
    branch = text_branch(6, pooling="cls")
    late = THERE & (np.arange(5) > 0)
    tokens = text_branch(6, tokens=True)
    tokens(IDS)
    branch(IDS)
    tokens.set_weights(branch.get_weights())
    np.testing.assert_allclose(branch(IDS, mask=late)[0], tokens(IDS, mask=late)[0, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options, layers_trained, embeddings",
    [
        ({"train": "none"}, set(), False),
        ({"train": "last"}, {1, 2}, False),
        ({"train": "last", "last": 1}, {2}, False),
        ({"train": "lora"}, {0, 1, 2}, False),
        ({"train": "lora", "last": 1}, {2}, False),
        ({"train": "all"}, {0, 1, 2}, True),
    ],
)
def test_what_is_trained(options, layers_trained, embeddings):
    branch = text_branch(6, **options)
    branch(IDS)
    paths = trained(branch)
    assert {int(path.split("transformer_layer_")[1][0]) for path in paths if "transformer" in path} == layers_trained
    assert any("embedding" in path for path in paths) == embeddings
    assert not any("pooled_dense" in path for path in paths)
    if options["train"] == "lora":
        assert {path.rsplit("/", 1)[1] for path in paths} == {"lora_kernel_a", "lora_kernel_b", "bias"}
        assert {path.rsplit("/", 2)[1] for path in paths} == {"query", "value"}


@pytest.mark.parametrize("options", [{"train": "none"}, {"train": "last", "last": 1}, {"train": "lora", "last": 2}])
def test_the_frozen_states_stand_in_for_the_ids(options):
    branch = text_branch(6, **options)
    features = branch(IDS, mask=THERE)
    states = branch.frozen_states(IDS, THERE, batch_size=3)
    assert states.shape == (4, 5, branch.width) and np.all(states[~THERE] == 0)
    np.testing.assert_allclose(branch(states, mask=THERE), features, rtol=1e-5, atol=1e-6)

    # Trained on the states, the branch has learnt for the ids as well.
    inputs, mask = keras.Input((None, branch.width)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], branch(inputs, mask=mask))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit([states, THERE], np.ones((4, 6)), epochs=3, verbose=0)
    np.testing.assert_allclose(branch(IDS, mask=THERE), model.predict([states, THERE], verbose=0), rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(branch(IDS, mask=THERE)) - features).max() > 1e-4
    np.testing.assert_array_equal(branch.frozen_states(IDS, THERE, batch_size=3), states)


def test_frozen_layers_drop_nothing_in_training():
    bert = keras_hub.models.BertBackbone(11, 3, 2, 8, 16, dropout=0.5, max_sequence_length=16)
    branch = layers.BertTextBranch(6, backbone=bert)
    np.testing.assert_array_equal(branch(IDS, mask=THERE, training=True), branch(IDS, mask=THERE))
    bert = keras_hub.models.BertBackbone(11, 3, 2, 8, 16, dropout=0.5, max_sequence_length=16)
    branch = layers.BertTextBranch(6, backbone=bert, train="last", last=1)
    assert np.abs(np.asarray(branch(IDS, training=True)) - np.asarray(branch(IDS))).max() > 1e-3


def test_set_train_changes_what_is_trained(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    branch = text_branch(6)
    model = keras.Model(ids, branch(ids))
    for train, last in (("last", 1), ("all", None), ("last", None), ("none", None), ("last", 2)):
        branch.set_train(train, last)
        other = text_branch(6, train=train, last=last)
        other.build((None, None))
        assert len(model.trainable_weights) == len(other.trainable_weights)
        assert trained(branch) == [path.replace(other.name, branch.name, 1) for path in trained(other)]

    branch.set_train("none")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    states = branch.frozen_states(IDS)
    model.fit(IDS, np.ones((4, 6)), epochs=1, verbose=0)
    np.testing.assert_array_equal(branch.frozen_states(IDS), states)
    branch.set_train("last", 1)
    below = branch.frozen_states(IDS)
    before = [weight.numpy() for weight in branch.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(IDS, np.ones((4, 6)), epochs=1, verbose=0)
    np.testing.assert_array_equal(branch.frozen_states(IDS), below)
    moved = [np.abs(weight - old).max() > 0 for weight, old in zip(branch.trainable_weights, before)]
    assert sum(moved) >= len(moved) - 1  # the bias of attention's keys has no effect
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    np.testing.assert_allclose(loaded(IDS), model(IDS), rtol=1e-5, atol=1e-6)


def test_set_train_says_what_it_cannot_do():
    branch = text_branch(6)
    with pytest.raises(ValueError, match="not 'lora'"):
        branch.set_train("lora")
    with pytest.raises(ValueError, match="last is 9"):
        branch.set_train("last", 9)
    with pytest.raises(ValueError, match="with LoRA it stays"):
        text_branch(6, train="lora").set_train("last")
    of_states = text_branch(6, train="last", last=1)
    of_states(of_states.frozen_states(IDS))
    with pytest.raises(ValueError, match="reads states"):
        of_states.set_train("last", 2)


def test_lora_goes_on_learning_after_it_was_loaded(tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, text_branch(6, train="lora", rank=2)(inputs))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(IDS, np.ones((4, 6)), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(IDS), model(IDS), rtol=1e-5, atol=1e-6)
    branch = loaded.layers[-1]
    found = gradients(lambda: keras.ops.sum(keras.ops.square(branch(IDS))), branch.trainable_weights)
    moving = {weight.path for weight, one in zip(branch.trainable_weights, found) if np.abs(one).max() > 0}
    assert all(weight.path in moving for weight in branch.trainable_weights if weight.name == "lora_kernel_b")


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention"])
def test_texts_of_no_tokens_give_zeros(pooling):
    branch = text_branch(6, pooling=pooling)
    branch(IDS)
    assert np.all(np.asarray(branch(IDS, mask=np.zeros_like(THERE))) == 0)
    inputs, mask = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], branch(inputs, mask=mask))
    for empty in (branch(IDS[:, :0], mask=THERE[:, :0]), model([IDS[:, :0], THERE[:, :0]])):
        assert empty.shape == (4, 6) and np.all(np.asarray(empty) == 0)
    assert branch(IDS[:, :0]).shape == (4, 6)
    assert branch.frozen_states(IDS[2:3], THERE[2:3]).shape == (1, 5, 8)


def test_wrong_arguments_and_shapes_are_named():
    for wrong, told in (
        ({"pooling": "max"}, "unknown pooling 'max': use one of cls, mean, attention"),
        ({"train": "some"}, "unknown train 'some'"),
        ({"rank": 0}, "must be positive"),
        ({"last": 0}, "must be positive"),
        ({"last": 4}, "the backbone has 3 layers"),
    ):
        with pytest.raises(ValueError, match=told):
            text_branch(6, **wrong)
    branch = text_branch(6, train="all")
    with pytest.raises(ValueError, match=r"shape \(4, 17\), but its BERT reads 16 tokens at most"):
        branch(np.ones((4, 17), "int32"))
    with pytest.raises(ValueError, match="whole numbers"):
        branch(IDS.astype("float32"))
    with pytest.raises(ValueError, match="all layers are trained"):
        branch(np.zeros((4, 5, 8), "float32"))
    with pytest.raises(ValueError, match="no layer is frozen"):
        branch.frozen_states(IDS)
    branch = text_branch(6)
    with pytest.raises(ValueError, match="last axis of 8"):
        branch(np.zeros((4, 5, 9), "float32"))
    with pytest.raises(ValueError, match="wants token ids"):
        branch.frozen_states(np.zeros((4, 5, 8), "float32"))


@pytest.mark.parametrize("train", ["none", "last", "lora", "all"])
def test_freezing_all_and_training_again_brings_back_what_is_trained(train):
    """B10: a branch of which nothing but the dense layer is trained came back with all of its BERT trained."""
    branch = text_branch(6, train=train, rank=2)
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, branch(inputs))
    before = [weight.path for weight in branch.trainable_weights]
    assert len(before) == 2 or train != "none"
    for outer in (branch, model):
        outer.trainable = False
        assert branch.trainable_weights == []
        outer.trainable = True
        assert [weight.path for weight in branch.trainable_weights] == before
    frozen = text_branch(6, train=train, trainable=False)
    frozen(IDS)
    assert frozen.trainable_weights == []
    frozen.trainable = True
    assert [path.split("/", 1)[1] for path in trained(frozen)] == [path.split("/", 1)[1] for path in trained(branch)]


def test_a_backbone_belongs_to_one_branch():
    bert = keras_hub.models.BertBackbone(11, 3, 2, 8, 16, max_sequence_length=16, name="of_the_title")
    first = layers.BertTextBranch(6, backbone=bert, train="all", name="title")
    count = len(first.trainable_variables)
    with pytest.raises(ValueError, match="backbone 'of_the_title' belongs to the branch 'title': give each") as error:
        layers.BertTextBranch(6, backbone=bert)
    assert "\n" not in str(error.value) and len(first.trainable_variables) == count
    del first, error
    layers.BertTextBranch(6, backbone=bert)  # the first branch is gone


def test_a_kernel_regularizer_is_of_the_branchs_own_kernels():
    branch = text_branch(6, pooling="attention", kernel_regularizer="l2", kernel_initializer="ones")
    branch(IDS)
    assert len(branch.losses) == 2
    np.testing.assert_allclose(sum(map(float, branch.losses)), 0.01 * (8 * 6 + 8), rtol=1e-5)


@pytest.mark.parametrize("options", [{"pooling": "attention"}, {"train": "lora", "tokens": True}])
def test_a_quantized_branch_comes_back_from_its_file(options, tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, text_branch(6, **options)(inputs))
    model.quantize("int8")
    expected = np.asarray(model(IDS))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert any("int8" in str(weight.dtype) for weight in loaded.weights)
    np.testing.assert_allclose(np.asarray(loaded(IDS)), expected, rtol=1e-5, atol=1e-5)


def test_the_default_backbone_is_the_profiles(monkeypatch):
    asked = []
    bert = keras_hub.models.BertBackbone(11, 3, 2, 8, 16)
    monkeypatch.setattr(pretrained, "text_backbone", lambda **options: asked.append(options) or bert)
    assert layers.BertTextBranch(6).backbone is bert
    assert set(asked[0]) == {"dtype"}


def test_importing_the_layers_does_not_import_keras_hub():
    program = "import sys, mmkit.layers; print('keras_hub' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.split()[-1] == "False"
