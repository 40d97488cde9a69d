"""Training a small model again and again from the same start, as a loop that buys labels does."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Retrain:
    """Trains a compiled model anew, from the same first weights, on whatever few examples it is given.

    A loop that buys labels trains once a round. With so few examples `fit` spends most of the time on its own set-up,
    so here all steps are one call. Each step takes all examples. What the model learned before is forgotten, the
    optimiser's state too.

    Args:
        model: built and compiled, with an optimiser and a loss. Its weights at this moment are the start.
        steps: of the optimiser, in each training.

    Call arguments:
        x: inputs, `(examples, ...)`.
        y: labels, as the model's loss wants them.
        sample_weight: how much each label counts, of the labels' shape; by default all the same.

    Raises:
        ValueError: if `steps` is not positive, or the model is not built or not compiled.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from mmkit.training import Retrain
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> retrain = Retrain(model, steps=10)
        >>> x, y = np.eye(2), np.array([0, 1])
        >>> retrain(x[:1], y[:1])  # one label
        >>> retrain(x, y)  # two labels, from the start again
    """

    def __init__(self, model: keras.Model, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"Retrain wants one step or more: got steps={steps}")
        if not model.built or not model.compiled:
            raise ValueError("Retrain wants a model that is built and compiled, with an optimiser and a loss")
        self.model, self.steps = model, steps
        model.optimizer.build(model.trainable_variables)
        self.start = model.get_state_tree("numpy_array")
        self._run = tf.function(self._take_steps, reduce_retracing=True)

    def __call__(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> None:
        weight = np.ones(np.shape(y)) if sample_weight is None else sample_weight
        self.model.set_state_tree(self.start)
        self._run(*(tf.constant(array, dtype) for array, dtype in ((x, "float32"), (y, None), (weight, "float32"))))

    def _take_steps(self, x: Any, y: Any, weight: Any) -> None:
        variables = self.model.trainable_variables
        for _ in tf.range(self.steps):
            with tf.GradientTape() as tape:
                loss = self.model.compute_loss(x, y, self.model(x, training=True), weight)
            self.model.optimizer.apply(tape.gradient(loss, variables), variables)
