"""Networks that learn online from streams, many at once."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


class Streams:
    """Copies of a classifier side by side, each of which is tested and then trained on a stream of its own.

    In test-then-train a network answers an example, hears its label, and takes one step of gradient descent. One small
    network after another spends most of the time on overhead, so the copies take their steps together. They come out
    as if `train_on_batch` with Keras's SGD had trained each alone.

    Args:
        model: the copies, a network of `DenseSideBySide` layers with logits `(batch, copies, classes)`. Its weights at
            this moment are what each run begins from.
        x: shape `(copies, examples, features)`, the examples as each copy sees them (standardised by what it knew).
        y: shape `(examples,)`, their classes as whole numbers.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Dawid (1984), Present position and potential developments: the prequential approach.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from mmkit.training import DenseSideBySide, Streams
        >>> x, y = np.random.default_rng(0).normal(size=(2, 40, 3)).astype("float32"), np.arange(40) % 2
        >>> model = keras.Sequential([keras.Input((2, 3)), DenseSideBySide(4, "relu"), DenseSideBySide(2)])
        >>> streams = Streams(model, x, y)
        >>> answers = streams.run([np.arange(40)[:, None], np.arange(30)[::-1, None]], rate=0.1)
        >>> answers.shape, int((answers[1] == -1).sum()), streams.predict().shape  # ten are not in the second stream
        ((2, 40), 10, (2, 40))
    """

    def __init__(self, model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
        x, y = np.asarray(x, "float32"), np.asarray(y)
        if x.ndim != 3 or y.shape != x.shape[1:2] or model.input_shape[1:] != (len(x), x.shape[2]):
            raise ValueError(
                "Streams wants x (copies, examples, features), a class for each example and a model of the copies: "
                f"got {x.shape}, {y.shape} and a model of {model.input_shape}"
            )
        self.model, self.start = model, model.get_weights()
        self.x, self.y = tf.constant(x), tf.constant(y, "int32")
        self._steps = tf.function(self._take_steps, reduce_retracing=True)

    def run(self, rows: Sequence[np.ndarray], rate: float, *, late: int = 0) -> np.ndarray:
        """Begins from the first weights, and goes through the streams once.

        Args:
            rows: one array for each copy, `(steps, batch)`, of places in `x`: in each step the first is answered, and
                then all are trained on, such as a new example and some old ones. Streams may differ in length.
            rate: the learning rate.
            late: after how many further steps the label arrives, and with it the step of training. What would
                arrive after the stream's end is not learned from.

        Returns:
            Shape `(copies, examples)`: the class that was answered, or -1 where an example was not in the stream.

        Raises:
            ValueError: if there is not one array of the same width for each copy, or `late` is negative.
        """
        rows = [np.asarray(one) for one in rows]
        if len(rows) != len(self.x) or {one.ndim for one in rows} != {2} or len({one.shape[1] for one in rows}) > 1:
            raise ValueError(
                f"Streams.run wants {len(self.x)} arrays (steps, batch): got {[one.shape for one in rows]}"
            )
        if late < 0:
            raise ValueError(f"Streams.run: a label cannot come {-late} steps before its example")
        self.model.set_weights(self.start)
        longest, copies = max(map(len, rows)), len(rows)
        places = np.zeros((longest, copies, rows[0].shape[1]), "int32")  # a stream that is over repeats example 0 ...
        alive = np.zeros((longest, copies), "float32")  # ... with a learning rate of 0
        for copy, one in enumerate(rows):
            places[: len(one), copy], alive[: len(one), copy] = one, 1
        given = self._steps(tf.constant(places), tf.constant(rate * alive, "float32"), tf.constant(late)).numpy()
        answers = np.full(self.x.shape[:2], -1)
        for copy, one in enumerate(rows):
            answers[copy, one[:, 0]] = given[: len(one), copy]
        return answers

    def predict(self) -> np.ndarray:
        """What each copy now says to all examples, shape `(copies, examples)`."""
        logits = self.model.predict(np.swapaxes(self.x, 0, 1), batch_size=1024, verbose=0)
        return logits.argmax(axis=-1).T

    def _seen(self, places: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.gather(self.x, places, batch_dims=1), (1, 0, 2))

    def _take_steps(self, places: tf.Tensor, rates: tf.Tensor, late: tf.Tensor) -> tf.Tensor:
        answers = tf.TensorArray(tf.int32, tf.shape(places)[0])
        for step in tf.range(tf.shape(places)[0]):
            logits = self.model(self._seen(places[step][:, :1]))[0]
            answers = answers.write(step, tf.argmax(logits, axis=-1, output_type=tf.int32))
            if step >= late:
                row, rate = places[step - late], rates[step]
                with tf.GradientTape() as tape:
                    logits = tf.transpose(self.model(self._seen(row), training=True), (1, 0, 2))
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(self.y, row), logits)
                    loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
                weights = self.model.trainable_variables
                for weight, slope in zip(weights, tape.gradient(loss, weights)):
                    weight.assign_sub(tf.reshape(rate, (-1,) + (1,) * (len(weight.shape) - 1)) * slope)
        return answers.stack()


class RunningSums:
    """A linear classifier on features that learns exactly from a stream, because it keeps sums and no examples.

    It is ridge regression from the features, and a constant 1, to one number a class, which is to be 1 for the true
    class and 0 for the others. Its weights solve G W = B, where G is the penalty on the diagonal plus the sum of h hᵀ
    over all examples, and B the sum of h yᵀ. Sums do not depend on the order: what it has learned is what it would have
    learned from all examples at once. The features must not change while it learns.

    Args:
        classes: how many.
        penalty: weight of the squared coefficients against the sum of squared errors, positive. The constant's is
            among them.

    Raises:
        ValueError: if there are fewer than two classes, or `penalty` is not positive.

    Sources: Hoerl and Kennard (1970), Ridge regression. Hayes and Kanan (2020), Lifelong machine learning with deep
    streaming linear discriminant analysis, on the features of a frozen network.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import RunningSums
        >>> h, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
        >>> at_once = RunningSums(3).learn(h, y)
        >>> one_by_one = RunningSums(3)
        >>> for number in np.random.default_rng(1).permutation(60):
        ...     one_by_one = one_by_one.learn(h[[number]], y[[number]])
        >>> all(np.allclose(*pair) for pair in zip(at_once.weights(), one_by_one.weights()))
        True
    """

    def __init__(self, classes: int, penalty: float = 1.0) -> None:
        if classes < 2 or not penalty > 0:
            raise ValueError(f"RunningSums wants two classes and a positive penalty: got {classes} and {penalty}")
        self.classes, self.penalty = classes, penalty
        self.G, self.B = None, None

    def learn(self, features: np.ndarray, labels: np.ndarray) -> "RunningSums":
        """Adds examples to the sums.

        Args:
            features: shape `(examples, units)`.
            labels: shape `(examples,)`, whole numbers from 0.

        Returns:
            Itself.

        Raises:
            ValueError: if there is not one known class for each example, or the units are not as many as before.
        """
        h, labels = self._with_one(features), np.asarray(labels)
        if labels.shape != h.shape[:1] or (len(labels) and not 0 <= labels.min() <= labels.max() < self.classes):
            raise ValueError(
                f"RunningSums.learn wants a class from 0 to {self.classes - 1} for each of {len(h)} examples"
            )
        if self.G is None:
            self.G, self.B = self.penalty * np.eye(h.shape[1]), np.zeros((h.shape[1], self.classes))
        self.G = self.G + h.T @ h
        self.B = self.B + h.T @ np.eye(self.classes)[labels]
        return self

    def weights(self) -> list[np.ndarray]:
        """The kernel, `(units, classes)`, and the bias, `(classes,)`, as `keras.layers.Dense` takes them.

        Raises:
            ValueError: if nothing has been learned.
        """
        if self.G is None:
            raise ValueError("RunningSums has learned nothing yet")
        solution = np.linalg.solve(self.G, self.B)
        return [solution[:-1], solution[-1]]

    def answer(self, features: np.ndarray) -> np.ndarray:
        """The classes of examples, shape `(examples,)`."""
        kernel, bias = self.weights()
        return (np.asarray(features) @ kernel + bias).argmax(axis=-1)

    def _with_one(self, features: np.ndarray) -> np.ndarray:
        h = np.asarray(features, float)
        if h.ndim != 2 or (self.G is not None and h.shape[1] + 1 != len(self.G)):
            wanted = "units" if self.G is None else len(self.G) - 1
            raise ValueError(f"RunningSums wants features (examples, {wanted}): got shape {h.shape}")
        return np.concatenate([h, np.ones((len(h), 1))], axis=1)
