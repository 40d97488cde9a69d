"""A small network under several learning rates, several times each, trained at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class RateGrid:
    """Trains a small classifier with several learning rates, several times with each, and keeps the best rate.

    Rivals in a comparison need the same care: a grid of rates, repetitions, enough steps. One small network after
    another spends most of the time on overhead. Here the copies of a network are one: their weights lie on an axis of
    copies, and each copy has its own rate. They come out as if Keras's Adam had trained each alone.

    All copies see the same batches, in the same order, and lose the same inputs to dropout: repetitions differ in
    their first weights only, which are the same for all rates.

    Args:
        build: makes a network, a `keras.Model` from a dict of arrays to logits `(batch, classes)`, with no weights that
            are not trained (no `Dropout`, no `BatchNormalization`).
        rates: learning rates to try, from low to high.
        repetitions: copies for each rate.
        seed: of the first weights, the batches and the dropout.

    Attributes:
        steps: after `fit`, the steps at which the networks were looked at, shape `(looks,)`.
        losses, accuracies: cross-entropy and accuracy on the validation examples at these steps, shape
            `(looks, rates, repetitions)`.
        best: the place in `rates` of the rate with the lowest loss: the lowest of each repetition, and their mean.

    Raises:
        ValueError: if there is no rate or no repetition, or a network has weights that are not trained.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from mmkit.training import RateGrid
        >>> x, y = {"a": np.random.default_rng(0).normal(size=(60, 4)).astype("float32")}, np.arange(60) % 2
        >>> def build():
        ...     inputs = {"a": keras.Input((4,), name="a")}
        ...     return keras.Model(inputs, keras.layers.Dense(2)(inputs["a"]))
        >>> grid = RateGrid(build, (0.001, 0.01), repetitions=3).fit(x, y, (x, y), steps=40, every=10, batch_size=20)
        >>> grid.losses.shape, grid.predict(x).shape  # predictions: the three networks of the best rate
        ((4, 2, 3), (3, 60, 2))
    """

    def __init__(
        self, build: Callable[[], keras.Model], rates: Sequence[float], repetitions: int = 3, seed: int = 0
    ) -> None:
        if not len(rates) or repetitions < 1:
            raise ValueError(f"RateGrid wants a rate and a repetition or more: got {list(rates)} and {repetitions}")
        self.rates, self.repetitions, self.seed = tuple(rates), repetitions, seed
        first = []
        for repetition in range(repetitions):
            keras.utils.set_random_seed(1000 * seed + repetition)
            self.network = build()
            first.append(np.concatenate([np.ravel(weight) for weight in self.network.trainable_variables]))
        if self.network.non_trainable_variables:
            names = ", ".join(weight.path for weight in self.network.non_trainable_variables)
            raise ValueError(f"RateGrid wants networks whose weights are all trained: got {names}")
        self.first = np.tile(np.stack(first), (len(rates), 1))  # a row for each copy, rate by rate
        self.weights, self.mean, self.square = (tf.Variable(tf.zeros_like(self.first)) for _ in range(3))
        self._run, self._scores = tf.function(self._take_steps), tf.function(self._all_scores)

    def fit(
        self,
        x: Mapping[str, np.ndarray],
        y: np.ndarray,
        validation: tuple[Mapping[str, np.ndarray], np.ndarray],
        *,
        steps: int,
        every: int,
        batch_size: int = 100,
        dropout: float = 0.0,
    ) -> "RateGrid":
        """Trains all copies from their first weights, and keeps of each the weights of its lowest validation loss.

        Args:
            x, y: training examples, a dict of arrays and classes as whole numbers.
            validation: the same of the validation examples.
            steps: batches to train on.
            every: the networks are looked at after so many steps.
            batch_size: examples a batch.
            dropout: the share of the numbers in `x` that become 0 in training (the others are scaled up).

        Returns:
            Itself.

        Raises:
            ValueError: if there are fewer examples than a batch has, or fewer steps than `every`.
        """
        if len(y) < batch_size or steps < every:
            raise ValueError(f"RateGrid: {len(y)} examples, batches of {batch_size}; {steps} steps, {every} at a time")
        self.weights.assign(self.first)
        self.mean.assign(tf.zeros_like(self.first))
        self.square.assign(tf.zeros_like(self.first))
        random, order = np.random.default_rng(self.seed), np.empty(0, "int32")
        while len(order) < steps * batch_size:
            whole = len(y) // batch_size * batch_size
            order = np.concatenate([order, random.permutation(len(y))[:whole].astype("int32")])
        batches = order[: steps * batch_size].reshape(steps, batch_size)
        x, y = {name: tf.constant(array) for name, array in x.items()}, tf.constant(y, "int32")
        rates = tf.constant(np.repeat(self.rates, self.repetitions), "float32")
        best, looks = np.full(len(rates), np.inf), []
        self.kept = self.first.copy()
        for done in range(0, steps - every + 1, every):
            self._run(
                x,
                y,
                tf.constant(batches[done : done + every]),
                tf.constant(done),
                rates,
                tf.constant(dropout, "float32"),
            )
            scores, right = self._scores(dict(validation[0]), self.weights).numpy(), np.asarray(validation[1])
            losses = np.logaddexp.reduce(scores, axis=-1) - scores[:, np.arange(len(right)), right]
            lower = losses.mean(axis=1) < best
            best[lower] = losses.mean(axis=1)[lower]
            self.kept[lower] = self.weights.numpy()[lower]
            looks.append((losses.mean(axis=1), (scores.argmax(axis=-1) == right).mean(axis=1)))
        grid = (len(looks), len(self.rates), self.repetitions)
        self.losses, self.accuracies = (np.array(found).reshape(grid) for found in zip(*looks))
        self.steps = every * np.arange(1, len(looks) + 1)
        self.best = int(self.losses.min(axis=0).mean(axis=-1).argmin())
        return self

    def predict(self, x: Mapping[str, np.ndarray]) -> np.ndarray:
        """The logits of the best rate's networks, each with the weights of its lowest validation loss.

        Args:
            x: a dict of arrays, as in `fit`.

        Returns:
            Shape `(repetitions, examples, classes)`.
        """
        chosen = slice(self.best * self.repetitions, (self.best + 1) * self.repetitions)
        return self._scores(dict(x), tf.constant(self.kept[chosen])).numpy()

    def _all_scores(self, x: Any, weights: Any) -> Any:
        shapes = [weight.shape for weight in self.network.trainable_variables]
        parts = tf.split(weights, [math.prod(shape) for shape in shapes], axis=1)
        copies = [tf.reshape(part, (-1, *shape)) for part, shape in zip(parts, shapes)]
        return tf.vectorized_map(lambda one: self.network.stateless_call(one, [], x)[0], copies)

    def _take_steps(self, x: Any, y: Any, batches: Any, done: Any, rates: Any, dropout: Any) -> None:
        for batch in batches:
            done = done + 1
            given = {}
            for place, (name, array) in enumerate(x.items()):
                rows, seed = tf.gather(array, batch), tf.stack([self.seed * 100 + place, done])
                stays = tf.cast(tf.random.stateless_uniform(tf.shape(rows), seed) >= dropout, rows.dtype)
                given[name] = rows * stays / (1 - tf.cast(dropout, rows.dtype))
            with tf.GradientTape() as tape:
                scores = self._all_scores(given, self.weights)
                right = tf.broadcast_to(tf.gather(y, batch), tf.shape(scores)[:2])
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(right, scores)
                loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
            time, slope = tf.cast(done, "float32"), tape.gradient(loss, self.weights)
            self.mean.assign(0.9 * self.mean + 0.1 * slope)
            self.square.assign(0.999 * self.square + 0.001 * slope**2)
            size = rates * tf.sqrt(1 - 0.999**time) / (1 - 0.9**time)
            self.weights.assign_sub(size[:, None] * self.mean / (tf.sqrt(self.square) + 1e-7))
