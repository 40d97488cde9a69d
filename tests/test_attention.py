"""Of the attention layers: what may be left out changes nothing, and what is asked too early is refused in words."""

import keras
import numpy as np
import pytest
from layer_cases import CASES

from mmkit import layers
from mmkit.layers.attention import AttentionBlock, FlatAttention, joined

KINDS = ("CrossModalAttention", "BottleneckFusion", "PerceiverFusion", "FusionTransformer")


def close(actual, expected, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=atol, rtol=0)


def fed(kind: str, batch: int = 3) -> tuple[keras.layers.Layer, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A built layer of that kind, features and a mask for it."""
    case = next(case for case in CASES if case.name == kind)
    layer, features = case.make(), case.features(batch)
    layer(features)
    return layer, features, case.presence(batch)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_hides_nothing_changes_nothing(kind):
    layer, features, mask = fed(kind)
    whole = {name: np.ones_like(given) for name, given in mask.items()}
    close(layer(features, mask=whole), layer(features))
    close(layer(features, mask={"b": whole["b"]}), layer(features))


@pytest.mark.parametrize("kind", KINDS)
def test_a_modality_without_a_mask_counts_as_present_beside_one_that_has_one(kind):
    layer, features, mask = fed(kind)
    some = {"b": mask["b"]}
    rest = {name: np.ones_like(given) for name, given in mask.items() if name != "b"}
    close(layer(features, mask=some), layer(features, mask=some | rest))


def test_flat_attention_is_kerass():
    theirs = keras.layers.MultiHeadAttention(2, 3, use_bias=False)
    ours = FlatAttention(2, 3, use_bias=False)
    tokens, keys = numbers(4, 5, 6), numbers(4, 7, 6, seed=1)
    for layer in (theirs, ours):
        layer.build(tokens.shape, keys.shape)
    ours.set_weights(theirs.get_weights())
    seen = np.random.default_rng(2).random((4, 7)) < 0.6
    seen[:, 0] = True
    close(ours(tokens)[0], theirs(tokens, tokens))
    found, scores = theirs(tokens, keys, attention_mask=seen[:, None], return_attention_scores=True)
    close(ours(tokens, keys, seen)[0], found)
    close(ours(tokens, keys, seen)[1], scores)


def test_quantised_and_low_rank_projections_are_taken_as_they_are():
    tokens = numbers(2, 5, 8)
    plain = FlatAttention(2, 4, use_bias=False)
    plain.build(tokens.shape, tokens.shape)
    before = np.asarray(plain(tokens)[0])
    plain.query_dense.enable_lora(2)
    plain.query_dense.lora_kernel_b.assign(numbers(*plain.query_dense.lora_kernel_b.shape))
    assert np.abs(np.asarray(plain(tokens)[0]) - before).max() > 1e-3
    close(plain(tokens)[0], keras.layers.MultiHeadAttention.call(plain, tokens, tokens))
    eight = FlatAttention(2, 4, use_bias=False)
    eight.build(tokens.shape, tokens.shape)
    expected = np.asarray(eight(tokens)[0])
    for part in (eight.query_dense, eight.key_dense, eight.value_dense, eight.output_dense):
        part.quantize("int8")
    close(eight(tokens)[0], expected, 0.05)


def test_the_last_block_is_computed_for_the_token_that_is_read():
    layer, features, mask = fed("FusionTransformer")
    stream, seen = layer.stream(*layer.check(features, mask))
    for block in layer.blocks:
        stream, _ = block(stream, seen)
    close(layer(features, mask=mask), layer.norm(stream[:, 0]))


def test_a_token_that_finds_no_key_takes_in_nothing():
    block, tokens = AttentionBlock(6, 2), numbers(2, 3, 6)
    nothing, _ = block(tokens, np.zeros((2, 4), bool), numbers(2, 4, 6, seed=1))
    close(nothing, tokens + np.asarray(block.narrow(block.widen(block.norms[1](tokens)))))


def test_tokens_joined_have_a_mask_only_if_one_came():
    parts = [np.ones((2, 3, 4)), np.ones((2, 1, 4))]
    tokens, seen = joined(parts, [None, None])
    assert tuple(tokens.shape) == (2, 4, 4) and seen is None
    seen = joined(parts, [None, np.array([[True], [False]])])[1]
    assert np.asarray(seen).tolist() == [[True] * 4, [True, True, True, False]]


def test_who_looks_at_whom_is_asked_of_a_layer_that_has_weights():
    layer = layers.FusionTransformer(6, num_heads=2)
    features = {"a": numbers(2, 5), "b": numbers(2, 7, 3)}
    for ask in (layer.attention, layer.spans):
        with pytest.raises(ValueError, match="FusionTransformer .* has no weights yet: call the layer first"):
            ask(features)
    layer(features)
    for ask in (layer.attention, layer.spans):
        with pytest.raises(ValueError, match="missing: b"):
            ask({"a": features["a"]})
    assert layer.spans(features) == {"a": slice(1, 2), "b": slice(2, 9)}


def test_spans_of_an_unknown_time_are_refused():
    layer = layers.FusionTransformer(6, num_heads=2)
    inputs = {"a": keras.Input((5,)), "b": keras.Input((None, 3))}
    layer(inputs)
    with pytest.raises(ValueError, match=r"modality 'b' has shape \(None, None, 3\), but spans need a known time"):
        layer.spans(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_begin_and_are_kept_small_as_asked(kind):
    case = next(case for case in CASES if case.name == kind)
    layer = case.make(kernel_initializer="ones", kernel_regularizer=keras.regularizers.L2(0.5))
    layer(case.features(2))
    kernels = [weight for weight in layer.weights if weight.path.endswith("kernel")]
    assert len(kernels) >= 3 + 6 and all((np.asarray(kernel) == 1).all() for kernel in kernels)
    penalty = sum(float(np.asarray(loss)) for loss in layer.losses)
    assert penalty == pytest.approx(0.5 * sum(np.asarray(kernel).size for kernel in kernels))
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.kernel_initializer, keras.initializers.Ones)
