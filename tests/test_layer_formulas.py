"""Layers against their closed forms: the formulas of their docstrings, written out in NumPy."""

import keras
import numpy as np
import pytest
from gradients import gradients
from layer_cases import CASES, Case

from mmkit import layers


def vectors_of(features: dict, names: str = "abc") -> list[np.ndarray]:
    return [features[name] if features[name].ndim == 2 else features[name].mean(axis=1) for name in names]


def with_one(vector: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(vector), 1), "float32"), vector], axis=1)


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def close(first, second, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=tolerance, atol=tolerance)


def test_concatenation_is_a_dense_layer_on_vectors_laid_end_to_end():
    case = case_of("ConcatFusion-vectors")
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
    case = case_of("ConvLSTMFusion-max")
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


def test_sum_fusion_is_the_formula_of_its_docstring():
    case = case_of("SumFusion")
    layer, features, mask = case.make(), case.features(4), {"a": np.array([True, False, True, True])}
    fused = layer(features, mask=mask)
    terms = [
        vector @ layer.projections[name].get_weights()[0] + layer.projections[name].get_weights()[1]
        for name, vector in zip("abc", vectors_of(features))
    ]
    close(fused, np.tanh(terms[0] * mask["a"][:, None] + terms[1] + terms[2]))


def test_film_is_the_formula_of_its_docstring():
    case = case_of("FiLMFusion")
    layer, features = case.make(), case.features(4)
    fused, vectors, result = layer(features), vectors_of(features), 0
    for place, name in enumerate("abc"):
        kernel, bias = layer.projections[name].get_weights()
        others = np.concatenate(vectors[:place] + vectors[place + 1 :], axis=1)
        gamma, beta = np.split(others @ layer.modulations[name].get_weights()[0], 2, axis=1)
        result = result + (1 + gamma) * (vectors[place] @ kernel + bias) + beta
    close(fused, np.tanh(result))


def test_tensor_fusion_is_a_dense_layer_on_the_outer_product():
    case = case_of("TensorFusion-full")
    layer, features = case.make(), case.features(4)
    fused = layer(features)
    kernel, bias = layer.projection.get_weights()
    product = np.einsum("bi,bj,bk->bijk", *[with_one(vector) for vector in vectors_of(features)])
    close(fused, np.tanh(product.reshape(4, -1) @ kernel + bias))


def test_low_rank_fusion_equals_tensor_fusion_at_full_rank():
    features = case_of("TensorFusion-full").features(8)
    sizes = [features[name].shape[1] + 1 for name in "abc"]
    full = layers.TensorFusion(6, size=None, activation="tanh")
    low = layers.LowRankFusion(6, rank=sizes[0] * sizes[1], activation="tanh")
    expected = full(features)
    low(features)
    kernel, bias = full.projection.get_weights()
    kernel = kernel.reshape(*sizes, 6)
    # Term r = (i, j): the first factor picks feature i, the second feature j, the third holds W_ij.
    first = np.repeat(np.eye(sizes[0]), sizes[1], axis=1)
    second = np.tile(np.eye(sizes[1]), (1, sizes[0]))
    low.factors["a"].assign(np.repeat(first, 6, axis=1))
    low.factors["b"].assign(np.repeat(second, 6, axis=1))
    low.factors["c"].assign(kernel.transpose(2, 0, 1, 3).reshape(sizes[2], -1))
    low.bias.assign(bias)
    close(low(features), expected)


def test_low_rank_fusion_learns_a_product_because_all_its_factors_train():
    """A label that is the sign of a product: a layer whose factors stay as drawn does not learn it."""
    random = np.random.default_rng(0)
    features = {name: random.normal(size=(600, 4)).astype("float32") for name in "ab"}
    label = (features["a"][:, 0] * features["b"][:, 0] > 0).astype("int32")
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    model = keras.Model(inputs, keras.layers.Dense(2)(layers.LowRankFusion(8, activation="linear")(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"])
    model.fit(features, label, epochs=20, batch_size=50, verbose=0)
    assert model.evaluate(features, label, verbose=0)[1] > 0.9


@pytest.mark.parametrize("size", [8, 64])
def test_what_low_rank_fusion_begins_with_is_as_wide_for_two_modalities_as_for_six(size: int):
    random, spread = np.random.default_rng(0), {}
    for count in (2, 3, 4, 6):
        keras.utils.set_random_seed(count)
        features = {f"m{place}": random.normal(size=(4_000, size)).astype("float32") for place in range(count)}
        spread[count] = np.std(np.asarray(layers.LowRankFusion(64, activation="linear")(features)))
    assert all(0.8 < one < 1.25 for one in spread.values()), spread  # by the formula 1; with Glorot's, 0.12 at six


def test_the_products_of_low_rank_fusion_and_the_experts_of_a_mixture_begin_apart_also_with_one_seed():
    features = {name: np.ones((1, 4), "float32") for name in "ab"}
    for seed in (None, 3, keras.random.SeedGenerator(3)):
        start = keras.initializers.LecunNormal(seed=seed)
        low = layers.LowRankFusion(5, rank=3, kernel_initializer=start)
        low(features)
        products = np.asarray(low.factors["a"]).reshape(5, 3, 5).swapaxes(0, 1)
        moe = layers.MixtureOfExpertsFusion(5, num_experts=3, kernel_initializer=start)
        moe(features)
        for apart in (products, np.asarray(moe.hidden.kernel).swapaxes(0, 1), np.asarray(moe.outcome.kernel)):
            assert len({tuple(one.ravel()) for one in apart}) == 3


def test_each_expert_of_a_mixture_begins_as_a_dense_layer_does():
    layer = layers.MixtureOfExpertsFusion(40, num_experts=4)
    layer({"a": np.ones((1, 60), "float32"), "b": np.ones((1, 60), "float32")})
    assert np.std(np.asarray(layer.hidden.kernel)) == pytest.approx(np.sqrt(2 / (120 + 40)), rel=0.05)
    assert np.std(np.asarray(layer.outcome.kernel)) == pytest.approx(np.sqrt(2 / (40 + 40)), rel=0.05)


def test_layers_inside_a_layer_do_not_begin_with_the_same_numbers():
    layer = layers.SumFusion(5)
    layer({name: np.ones((1, 4), "float32") for name in "ab"})
    first, second = (layer.projections[name].get_weights()[0] for name in "ab")
    assert np.abs(first - second).max() > 0.01


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_late_fusion_is_the_formula_of_its_docstring():
    case = case_of("LateFusion")
    features, mask = case.features(8), {"a": np.arange(8) % 2 == 0, "b": np.arange(8) % 3 == 0, "c": np.arange(8) < 6}
    prior, exponents = np.array([3, 1, 1, 1, 1, 1.0]), {"a": 0.5, "c": 2.0}
    share = prior / prior.sum()
    expected = np.tile(share, (8, 1))
    for name, power in (("a", 0.5), ("b", 1), ("c", 2)):
        likely = np.exp(log_softmax(features[name]))
        expected *= np.where(mask[name][:, None], (likely / share) ** power, 1)
    expected /= expected.sum(axis=1, keepdims=True)
    for learn in (False, True):
        layer = layers.LateFusion(6, prior=prior, exponents=exponents, learn_exponents=learn)
        close(np.exp(np.asarray(layer(features, mask=mask))), expected)
        assert len(layer.trainable_variables) == (3 if learn else 0)
        again = layers.LateFusion.from_config(layer.get_config())
        close(again(features, mask=mask), layer(features, mask=mask))
    nothing = {name: np.zeros(8, bool) for name in "abc"}
    close(np.exp(np.asarray(layer(features, mask=nothing))), np.tile(share, (8, 1)))
    # With exponents of 1: the product of the classifiers over the prior to the power of n - 1.
    product = np.prod([np.exp(log_softmax(features[name])) for name in "abc"], axis=0) / share**2
    close(np.exp(np.asarray(layers.LateFusion(6, prior)(features))), product / product.sum(axis=1, keepdims=True))
    # Without a prior: the plain product, evenly where all are absent; one modality alone stays as it is.
    even = np.asarray(layers.LateFusion(6)(features, mask={**nothing, "a": np.ones(8, bool)}))
    close(even, log_softmax(features["a"]))
    close(np.exp(np.asarray(layers.LateFusion(6)(features, mask=nothing))), np.full((8, 6), 1 / 6))


def test_late_fusion_is_exact_where_modalities_are_independent_given_the_class():
    """Two noisy readings of a class with an uneven prior: the posterior by Bayes' rule."""
    prior, random = np.array([0.7, 0.2, 0.1]), np.random.default_rng(0)
    channels = {name: random.dirichlet(np.ones(4), size=3) for name in "ab"}  # p(reading | class)
    posterior = {name: prior * channels[name].T for name in "ab"}  # reading, class
    features = {name: np.log(posterior[name] / posterior[name].sum(axis=1, keepdims=True)) for name in "ab"}
    joint = prior * channels["a"].T * channels["b"].T  # both readings alike
    fused = np.exp(np.asarray(layers.LateFusion(3, prior=prior)(features)))
    close(fused, joint / joint.sum(axis=1, keepdims=True))


def test_late_fusion_learns_to_trust_the_modality_that_knows():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600)
    data = {"good": np.eye(3)[labels] + 0.3 * random.normal(size=(600, 3)), "bad": 3 * random.normal(size=(600, 3))}
    inputs = {name: keras.Input((3,), name=name) for name in data}
    fusion = layers.LateFusion(3, learn_exponents=True)
    model = keras.Model(inputs, fusion(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, jit_compile=False)
    model.fit({name: one.astype("float32") for name, one in data.items()}, labels, epochs=10, batch_size=60, verbose=0)
    assert float(fusion.powers["good"]) > 1.5 and 0 <= float(fusion.powers["bad"]) < 0.1


def test_deep_fusion_of_depth_one_is_concatenation_of_dense_layers():
    case = case_of("DeepFusion")
    layer, features = layers.DeepFusion(6, depth=1), case.features(4)
    fused = layer(features)
    streams = []
    for name, vector in zip("abc", vectors_of(features)):
        kernel, bias = layer.streams[f"0_{name}"].get_weights()
        streams.append(np.maximum(vector @ kernel + bias, 0))
    kernel, bias = layer.joints[0].get_weights()
    close(fused, np.maximum(np.concatenate(streams, axis=1) @ kernel + bias, 0))


def test_tokens_say_their_modality_and_place():
    features = {"a": np.zeros((2, 5), "float32"), "b": np.zeros((2, 6, 3), "float32")}
    layer = layers.FusionTransformer(6, num_heads=2)
    layer(features)
    tokens, there = layer.tokens({name: keras.ops.convert_to_tensor(one) for name, one in features.items()}, {})
    place = np.array(
        [[np.sin(t / 10_000 ** (2 * (i // 2) / 6) + i % 2 * np.pi / 2) for i in range(6)] for t in range(6)]
    )
    for name, one in layer.embedding.embeddings.items():
        close(tokens[name][0], np.asarray(one) + place[: tokens[name].shape[1]])
    assert not there, "no mask came, so none goes on"


def test_the_attention_of_the_fusion_transformer_is_kerass_and_skips_what_is_absent():
    case = case_of("FusionTransformer")
    layer, features, mask = case.make(), case.features(4), case.presence(4)
    layer(features, mask=mask)
    maps, spans = np.asarray(layer.attention(features, mask)), layer.spans(features)
    assert maps.shape == (4, 2, 2, 17, 17) and spans == {"a": slice(1, 2), "b": slice(2, 8), "c": slice(8, 17)}
    close(maps.sum(axis=-1), np.ones(maps.shape[:-1]))
    for row in range(4):
        assert (maps[row, ..., 1] > 0).all() == mask["a"][row]
        for name in "bc":
            assert np.all((maps[row][..., spans[name]] > 0) == mask[name][row])
    # The first block, written out: softmax(Q K^T / sqrt(d)) V.
    tokens, _ = layer.tokens({name: keras.ops.convert_to_tensor(one) for name, one in features.items()}, {})
    stream = np.concatenate([np.tile(np.asarray(layer.front), (4, 1, 1)), *map(np.asarray, tokens.values())], axis=1)
    block = layer.blocks[0]
    seen = np.asarray(block.norms[0](stream))
    query, key, value, out = block.attend.get_weights()
    query, key, value = (np.einsum("btd,dhe->bhte", seen, kernel) for kernel in (query, key, value))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(3)
    attention = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    close(np.asarray(layer.attention(features))[:, 0], attention)
    found = stream + np.einsum("bhte,hed->btd", attention @ value, out)
    told = np.asarray(block.narrow(block.widen(block.norms[1](found))))
    close(block(stream, np.ones((4, 17), bool))[0], found + told, 1e-4)


def test_what_passes_between_modalities_in_a_bottleneck_passes_through_it():
    case = case_of("BottleneckFusion")
    features = case.features(4)
    other = {**features, "a": features["a"] + 1}
    for num_layers, changes in ((1, False), (2, True)):  # b's tokens hear of a one block after the bottleneck does
        layer = layers.BottleneckFusion(6, num_heads=2, num_layers=num_layers)
        layer(features)
        kernel = layer.projection.get_weights()[0]
        layer.projection.set_weights([np.concatenate([kernel[:6], 0 * kernel[6:]]), np.zeros(6)])  # tokens alone
        only_b = {"a": np.ones(4, bool), "b": np.ones((4, 6), bool), "c": np.zeros((4, 9), bool)}
        tokens_of_a = np.asarray(layer(features, mask={**only_b, "b": np.zeros((4, 6), bool)}))
        changed = np.asarray(layer(other, mask=only_b)) - np.asarray(layer(features, mask=only_b))
        alone = np.asarray(layer(other, mask={**only_b, "b": np.zeros((4, 6), bool)})) - tokens_of_a
        # With one block the change in the result is a's own change, halved by the mean over two modalities.
        assert np.allclose(changed, alone / 2, atol=1e-5) != changes


def test_mixture_of_experts_is_its_chosen_experts_weighed():
    case = case_of("MixtureOfExpertsFusion")
    layer, features = case.make(), case.features(8)
    fused, weights = layer(features), np.asarray(layer.weights_of_experts(features))
    close(weights.sum(axis=1), np.ones(8))
    assert np.all((weights > 0).sum(axis=1) == 2)
    joined = np.concatenate(vectors_of(features), axis=1)
    (kernel, bias), (second, shift) = layer.hidden.get_weights(), layer.outcome.get_weights()
    hidden = np.maximum(np.einsum("bi,ieh->beh", joined, kernel) + bias, 0)
    close(fused, np.einsum("be,beu->bu", weights, np.einsum("beh,ehu->beu", hidden, second) + shift))
    likely = np.exp(joined @ layer.router.get_weights()[0])
    likely /= likely.sum(axis=1, keepdims=True)
    assert np.array_equal(weights > 0, likely >= np.sort(likely, axis=1)[:, -2:-1])


def test_the_balancing_loss_is_least_when_experts_are_chosen_equally_and_counts_in_training_alone():
    random = np.random.default_rng(0)
    features = {"a": random.normal(size=(4_000, 4)).astype("float32")}
    layer = layers.MixtureOfExpertsFusion(3, num_experts=4, top_k=1, balance=0.5)
    layer(features)
    assert not layer.losses

    def loss_with(router: np.ndarray) -> float:
        layer.router.set_weights([router])
        layer(features, training=True)
        return float(layer.losses[0])

    assert loss_with(np.eye(4)) == pytest.approx(0.5, rel=0.01)  # each expert looks at a feature of its own
    features = {"a": np.abs(features["a"])}
    one_sided = np.zeros((4, 4))
    one_sided[:, 0] = 50
    assert loss_with(one_sided) == pytest.approx(0.5 * 4, rel=0.01)  # all choose the first: E times as much


def modulated(layer, features: dict, labels, mask=None) -> dict[str, np.ndarray]:
    """The gradients of the mean cross-entropy, and of the layer's own losses, to features and to heads."""
    variables = {name: keras.Variable(one) for name, one in features.items()}
    layer({name: one.value for name, one in variables.items()})

    def loss():
        logits = layer({name: one.value for name, one in variables.items()}, mask, training=True, labels=labels)
        entropy = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return keras.ops.mean(entropy) + sum(layer.losses)

    names = list(variables)
    found = gradients(loss, [*variables.values(), *(layer.heads[name].kernel for name in names)])
    return dict(zip([*names, *(f"head_{name}" for name in names)], found))


def test_ogm_ge_scales_the_gradient_to_the_leading_modality_and_no_other():
    random = np.random.default_rng(0)
    features = {name: random.normal(size=(40, 5)).astype("float32") for name in "abc"}
    labels = np.argmax(features["a"][:, :3], axis=1)
    layer = layers.OGMGE(3, alpha=0.3, noise=False)
    layer(features)
    layer.heads["a"].set_weights([4 * np.eye(5, 3)])  # a knows the label, b and c nothing
    plain = layers.OGMGE(3, alpha=0.0, noise=False)
    plain(features)
    plain.set_weights(layer.get_weights())
    close(layer(features, training=True, labels=labels), layer(features))
    factors = {name: float(one) for name, one in layer.coefficients(features, labels).items()}
    # The formula, written out.
    truth, scores = np.eye(3)[labels], {}
    for name in "abc":
        likely = np.exp(features[name] @ layer.heads[name].get_weights()[0])
        scores[name] = ((likely / likely.sum(axis=1, keepdims=True)) * truth).sum(axis=1).mean()
    rho = scores["a"] / ((scores["b"] + scores["c"]) / 2)
    assert rho > 1.5 and factors["a"] == pytest.approx(1 - np.tanh(0.3 * rho), rel=1e-4)
    changed, usual = modulated(layer, features, labels), modulated(plain, features, labels)
    for name in "abc":
        close(changed[name], factors[name] * usual[name])
        close(changed[f"head_{name}"], usual[f"head_{name}"])


def test_ogm_ge_leaves_what_the_whole_batch_lacks_out_of_the_mean():
    random = np.random.default_rng(0)
    features = {name: random.normal(size=(40, 5)).astype("float32") for name in "abc"}
    labels, nobody = np.argmax(features["a"][:, :3], axis=1), np.zeros(40, bool)
    layer = layers.OGMGE(3, alpha=0.3, noise=False)
    layer(features)
    layer.heads["a"].set_weights([4 * np.eye(5, 3)])
    two = layers.OGMGE(3, alpha=0.3, noise=False)
    pair = {name: features[name] for name in "ab"}
    two(pair)
    for name in "ab":
        two.heads[name].set_weights(layer.heads[name].get_weights())
    factors = {name: float(one) for name, one in layer.coefficients(features, labels, {"c": nobody}).items()}
    alone = {name: float(one) for name, one in two.coefficients(pair, labels).items()}
    assert factors == pytest.approx({**alone, "c": 1.0}, rel=1e-5) and factors["a"] < 0.9
    # No rival is there: nothing is held back, also in a batch of one.
    for rows in (slice(None), slice(1)):
        lack = {name: nobody[rows] for name in "bc"}
        batch = {name: one[rows] for name, one in features.items()}
        assert {float(one) for one in layer.coefficients(batch, labels[rows], lack).values()} == {1.0}
        plain = layers.OGMGE(3, alpha=0.0, noise=False)
        plain(features)
        plain.set_weights(layer.get_weights())
        changed, usual = (modulated(one, batch, labels[rows], lack)["a"] for one in (layer, plain))
        close(changed, usual)
        assert np.abs(usual).max() > 0.01


def test_ogm_ge_adds_noise_as_wide_as_the_gradient_and_none_to_what_is_absent():
    random = np.random.default_rng(0)
    features = {name: random.normal(size=(2_000, 5)).astype("float32") for name in "ab"}
    labels = np.argmax(features["a"][:, :3], axis=1)
    there = {"a": random.random(2_000) < 0.7}
    layer, quiet = layers.OGMGE(3, alpha=0.3, seed=1), layers.OGMGE(3, alpha=0.3, noise=False)
    layer(features), quiet(features)
    layer.heads["a"].set_weights([4 * np.eye(5, 3)])
    quiet.set_weights([weight for weight in layer.get_weights() if weight.dtype == np.float32])
    noisy, clean = modulated(layer, features, labels, there), modulated(quiet, features, labels, there)
    close(noisy["b"], clean["b"], 1e-7)  # b lags: nothing is done to it
    difference = noisy["a"] - clean["a"]
    assert np.all(noisy["a"][~there["a"]] == 0)
    assert difference[there["a"]].std() == pytest.approx(clean["a"].std(), rel=0.1)
    assert abs(difference[there["a"]].mean()) < 0.1 * clean["a"].std()
    with pytest.raises(ValueError, match=r"labels have shape \(2000, 1\)"):
        layer(features, training=True, labels=labels[:, None])


def test_ogm_ge_trains_in_fit_with_labels_as_an_input_and_predicts_without():
    random = np.random.default_rng(0)
    data = {name: random.normal(size=(64, 5)).astype("float32") for name in "ab"}
    labels = (data["a"][:, 0] > 0).astype("int32")
    inputs = {name: keras.Input((5,), name=name) for name in "ab"}
    branches = {name: keras.layers.Dense(4, activation="tanh")(one) for name, one in inputs.items()}
    head, given = layers.OGMGE(2, seed=0), keras.Input((), dtype="int32", name="labels")
    training = keras.Model({**inputs, "labels": given}, head(branches, labels=given))
    training.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = training.fit({**data, "labels": labels}, labels, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    logits = keras.Model(inputs, head(branches)).predict(data, verbose=0)
    close(logits, training.predict({**data, "labels": 1 - labels}, verbose=0))


def test_a_table_s_missing_values_are_zeros_that_say_so():
    table = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    table[1, 2] = table[3, 0] = np.nan
    branch = layers.TabularBranch(5, hidden=7)
    result = branch(table)
    (kernel, bias), (second, shift) = branch.expansion.get_weights(), branch.projection.get_weights()
    both = np.concatenate([np.nan_to_num(table), np.isnan(table)], axis=1)
    close(result, np.maximum(np.maximum(both @ kernel + bias, 0) @ second + shift, 0))


def test_modality_embedding_adds_one_vector_a_modality():
    case = case_of("ModalityEmbedding")
    layer, features = case.make(), case.features(4)
    for name, told in layer(features).items():
        close(told, features[name] + np.asarray(layer.embeddings[name]))
