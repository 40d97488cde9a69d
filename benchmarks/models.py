"""The models that are timed, in Keras."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mmkit

with mmkit.quiet_imports():
    import keras

from benchmarks.workloads import AVMNIST, CHECKED, CLASSES, TOKENS, TRANSFORMER, rows_and_labels
from mmkit import layers


def lenet(x: Any, name: str, blocks: int, channels: int = 6) -> Any:
    """Blocks of convolution, batch normalisation, ReLU and pooling; each has twice the channels of the one before."""
    for place in range(blocks):
        x = keras.layers.Conv2D(
            channels * 2**place, 3 if place else 5, padding="same", use_bias=False, name=f"{name}_conv_{place}"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm_{place}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu_{place}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"{name}_pool_{place}")(x)
    return keras.layers.Flatten(name=f"{name}_flat")(x)


def late_fusion(senses: Mapping[str, tuple[tuple[int, ...], int]] = AVMNIST) -> keras.Model:
    """A LeNet for each modality, their features laid end to end, and a head of two dense layers. It gives logits."""
    inputs = {name: keras.Input(shape, name=name) for name, (shape, _) in senses.items()}
    features = [lenet(inputs[name], name, blocks) for name, (_, blocks) in senses.items()]
    hidden = keras.layers.Dense(100, activation="relu", name="hidden")(keras.layers.Concatenate(name="join")(features))
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(hidden))


def transformer(tokens: Mapping[str, tuple[int, int]] = TOKENS, **settings: int) -> keras.Model:
    """`FusionTransformer` over the tokens, and a linear head. It gives logits."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in tokens.items()}
    fused = layers.FusionTransformer(**(TRANSFORMER | settings), name="fusion")(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="head")(fused))


def fusion_layers() -> dict[str, type[layers.FusionLayer]]:
    """The kit's fusion layers for features, by name.

    Left out: ConvLSTMFusion, which wants raw inputs, and OGMGE, which acts on the branches below it.
    """
    found = {name: getattr(layers, name) for name in layers.__all__}
    kinds = {name: kind for name, kind in found.items() if issubclass(kind, layers.FusionLayer)}
    return {name: kinds[name] for name in sorted(kinds) if name not in ("FusionLayer", "ConvLSTMFusion", "OGMGE")}


def make(name: str, steps_per_execution: int = 1, xla: bool = False) -> keras.Model:
    """The model of that name, compiled as it is timed: plain SGD, the loss from logits, XLA if asked for or on JAX."""
    model = {"late_fusion": late_fusion, "transformer": transformer}[name]()
    model.compile(
        keras.optimizers.SGD(0.1, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=xla or keras.backend.backend() == "jax",
        steps_per_execution=steps_per_execution,
    )
    return model


def parameters(model: keras.Model) -> int:
    """How many numbers training changes."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def cached(rows: dict[str, np.ndarray], labels: np.ndarray, batch: int) -> Any:
    """Batches from memory, in a new order each epoch: a `tf.data.Dataset`."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((rows, labels)).cache().shuffle(len(labels))
    return data.batch(batch, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def save_reference(name: str, path: Path) -> None:
    """Stores a model's weights, outputs, and loss, and its weights after a step: what its twin must give, too.

    In double precision: in single, rounding decides here and there which of two pixels max pooling takes.
    """
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    model = make(name)
    rows, labels = rows_and_labels(name, CHECKED)
    kept = {f"before:{weight.path}": np.array(weight) for weight in model.weights}
    kept |= {"parameters": parameters(model), "outputs": np.array(model(rows, training=False))}
    kept |= {"loss": float(model.train_on_batch(rows, labels))}
    np.savez(path, **kept, **{f"after:{weight.path}": np.array(weight) for weight in model.weights})
