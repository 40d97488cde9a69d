"""Many small networks trained at once, as one model."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops


class SideBySide(keras.Model):
    """Copies of a small network side by side, each with weights and examples of its own, trained in one `fit`.

    To know how far a result depends on the labelled set or on the first weights, a lesson trains the same network
    several times. A small network spends most of a step on overhead, so its copies train much faster together than one
    after another, and come out the same: the copies share no weight, and the loss is the sum of the copies' losses.
    (What couples all weights would couple the copies: do not clip gradients by their global norm.)

    Inputs and labels have an axis of copies behind the first: `x[places]` for places of shape `(examples, copies)`,
    as `labelled_sets` draws them. An input without that axis goes to all copies, which is how to predict or to train
    all on the same examples; labels always have it. To save a copy, save one of `networks`.

    To train anew from the same start without compiling again, keep the state and put it back:

    ```python
    model.optimizer.build(model.trainable_variables)
    start = model.get_state_tree("numpy_array")
    ...
    model.set_state_tree(start)
    ```

    Args:
        build: makes a network, a `keras.Model` with known inputs, an array or a dict of arrays, and one output.
        copies: how many to make.

    Call arguments:
        inputs: an array `(batch, copies, ...)`, or `(batch, ...)` for all; or a dict of such arrays.

    Returns:
        The copies' outputs, shape `(batch, copies, ...)`.

    Attributes:
        networks: the copies.

    Raises:
        ValueError: if `copies` is not positive, or a network's inputs are not known.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from mmkit.training import SideBySide, labelled_sets
        >>> x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
        >>> draws = labelled_sets(y, [10], draws=3)  # three draws of ten labels a class
        >>> places = np.stack([draw[10] for draw in draws], axis=1)
        >>> model = SideBySide(lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), copies=3)
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = model.fit(x[places], y[places], epochs=2, verbose=0)
        >>> right = model.predict(x, verbose=0).argmax(axis=-1) == y[:, None]
        >>> right.T.shape  # a row for each repetition, as `bootstrap` wants them
        (3, 60)
    """

    def __init__(self, build: Callable[[], keras.Model], copies: int, **kwargs: Any) -> None:
        if copies < 1:
            raise ValueError(f"SideBySide wants one copy or more: got copies={copies}")
        super().__init__(**kwargs)
        self.networks = [build() for _ in range(copies)]
        if not all(getattr(network, "inputs", None) for network in self.networks):
            raise ValueError("SideBySide wants networks with known inputs: begin each with keras.Input(shape)")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = []
        for place, network in enumerate(self.networks):
            known = network.inputs[0] if isinstance(network, keras.Sequential) else network.input
            given = {name: inputs[name] for name in known} if isinstance(known, Mapping) else inputs
            own = keras.tree.map_structure(
                lambda x, spec: x if len(x.shape) == len(spec.shape) else x[:, place],  # noqa: B023
                given,
                known,
            )
            outputs.append(network(own, training=training))
        return ops.stack(outputs, axis=1)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The sum of the copies' losses. Keras takes the mean over the copies, which would divide their gradients."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        penalties = sum(ops.sum(penalty) for penalty in self.losses)  # these are summed over the copies as they are
        return len(self.networks) * (loss - penalties) + penalties


@keras.saving.register_keras_serializable("mmkit")
class DenseSideBySide(keras.layers.Layer):
    """A dense layer for copies of a network side by side: copy k has its own kernel and bias, and sees its own input.

    A network of such layers is as many independent networks as there are copies, in one matrix product a layer. It
    trains faster than `SideBySide`, whose networks can be of any kind. A loss or a metric of Keras is the mean over
    the copies; Adam's steps do not change with the size of a gradient, so the copies train as they would alone.

    Args:
        units: int, numbers out for each copy.
        activation: default None, as for `keras.layers.Dense`.

    Call arguments:
        inputs: `(batch, copies, features)`.

    Returns:
        `(batch, copies, units)`.

    Raises:
        ValueError: if `units` is not positive, or `inputs` have another rank or an unknown number of copies.

    Example:
        >>> import keras
        >>> from mmkit.training import DenseSideBySide
        >>> five = keras.Sequential([keras.Input((5, 196)), DenseSideBySide(64, "relu"), DenseSideBySide(10)])
        >>> five.output_shape
        (None, 5, 10)
    """

    def __init__(self, units: int, activation: Any = None, **kwargs: Any) -> None:
        if units < 1:
            raise ValueError(f"DenseSideBySide wants one unit or more: got units={units}")
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(f"DenseSideBySide wants inputs (batch, copies, features): got shape {input_shape}")
        copies, features = input_shape[1:]
        limit = (6 / (features + self.units)) ** 0.5  # Glorot's uniform, for each copy
        start = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(shape=(copies, features, self.units), initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(copies, self.units), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        return self.activation(ops.einsum("bci,cio->bco", inputs, self.kernel) + self.bias)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "activation": keras.activations.serialize(self.activation)}
