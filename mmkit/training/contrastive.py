"""Contrastive learning: scores of all with all, and losses that ask for the right partner."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class _AtMost(keras.constraints.Constraint):
    """Holds a weight at or below a number."""

    def __init__(self, largest: float) -> None:
        self.largest = largest

    def __call__(self, weight: Any) -> Any:
        return ops.minimum(weight, self.largest)


@keras.saving.register_keras_serializable("mmkit")
class Similarity(keras.layers.Layer):
    """Scores of all pairs of two sets of vectors: the cosine of their angle over a temperature.

    Args:
        temperature: what the cosines are divided by; small makes the softmax over them sharp.
        learned: whether the temperature is trained, from there on. It then stays at 0.01 or more, as in CLIP.

    Call arguments:
        vectors: two tensors `(batch, units)`; twice the same for the views of NT-Xent.

    Returns:
        Scores in float32, shape `(batch, batch)`, row by the first vectors, column by the second.

    Raises:
        ValueError: if `temperature` is not positive.

    Source: Radford et al. (2021), Learning transferable visual models from natural language supervision.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import Similarity
        >>> picture, text = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])
        >>> np.array(Similarity(temperature=0.5)([picture, text])).round(3)
        array([[2., 0.],
               [0., 2.]], dtype=float32)
    """

    def __init__(self, temperature: float = 0.07, learned: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, such as 0.07: got {temperature}")
        self.temperature, self.learned = temperature, learned
        self.log_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(-float(ops.log(temperature))),
            trainable=learned,
            constraint=_AtMost(float(ops.log(100.0))) if learned else None,
            dtype="float32",
            autocast=False,
            name="log_scale",
        )

    def call(self, vectors: Sequence[Any]) -> Any:
        first, second = (ops.normalize(ops.cast(one, "float32"), axis=-1) for one in vectors)
        return ops.matmul(first, ops.transpose(second)) * ops.exp(self.log_scale)

    def compute_output_spec(self, vectors: Sequence[Any]) -> keras.KerasTensor:
        first, second = vectors
        return keras.KerasTensor((first.shape[0], second.shape[0]), "float32")

    def get_config(self) -> dict:
        return {**super().get_config(), "temperature": self.temperature, "learned": self.learned}


@keras.saving.register_keras_serializable("mmkit")
def info_nce(pair: Any, scores: Any) -> Any:
    """The symmetric loss of CLIP: the cross-entropy of each row's partner among the columns, and the other way round.

    It is a loss for `model.compile`: the model ends in `Similarity`, the labels say which pair an example is. Where
    several examples of a batch are of the same pair, each is a right answer, and their mean counts.

    Args:
        pair: shape `(batch,)`, the number of the pair; `np.arange(len(x))` if all are different.
        scores: shape `(batch, batch)`.

    Returns:
        A loss per pair, shape `(batch,)`: the mean of row and column. With equal scores it is log(batch).

    Sources: van den Oord, Li and Vinyals (2018), Representation learning with contrastive predictive coding. Radford
    et al. (2021), Learning transferable visual models from natural language supervision.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import info_nce
        >>> np.array(info_nce(np.arange(3), np.zeros((3, 3)))).round(3)  # no idea: log 3
        array([1.099, 1.099, 1.099], dtype=float32)
    """
    scores, right = ops.cast(scores, "float32"), _alike(pair)
    across = _mean_of(right, ops.log_softmax(scores, axis=1), axis=1)
    down = _mean_of(right, ops.log_softmax(scores, axis=0), axis=0)
    return -(across + down) / 2


@keras.saving.register_keras_serializable("mmkit")
def nt_xent(pair: Any, scores: Any) -> Any:
    """The loss of SimCLR: the cross-entropy of a view's partner among all other views of the batch.

    It is a loss for `model.compile`: the model ends in `Similarity` of the views with themselves, the labels say which
    example a view shows. With more than two views of the same example (or with classes as labels: the supervised
    contrastive loss) each is a right answer, and their mean counts. A view without a partner costs nothing.

    Args:
        pair: shape `(views,)`, the number of the example; `np.tile(np.arange(n), 2)` for two views of n examples.
        scores: shape `(views, views)`.

    Returns:
        A loss per view, shape `(views,)`. With equal scores it is log(views - 1).

    Sources: Chen, Kornblith, Norouzi and Hinton (2020), A simple framework for contrastive learning of visual
    representations. Khosla et al. (2020), Supervised contrastive learning.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import nt_xent
        >>> np.array(nt_xent([0, 1, 0, 1], np.zeros((4, 4)))).round(3)  # no idea: log 3
        array([1.099, 1.099, 1.099, 1.099], dtype=float32)
    """
    itself = ops.eye(ops.shape(scores)[0], dtype="float32")
    others = ops.cast(scores, "float32") - 1e9 * itself
    return -_mean_of(_alike(pair) - itself, ops.log_softmax(others, axis=1), axis=1)


def _alike(pair: Any) -> Any:
    """1 where row and column are of the same pair, else 0."""
    pair = ops.convert_to_tensor(pair)
    return ops.cast(ops.equal(ops.reshape(pair, (-1, 1)), ops.reshape(pair, (1, -1))), "float32")


def _mean_of(right: Any, log_probabilities: Any, axis: int) -> Any:
    """The mean of the right answers' log-probabilities; 0 where none is right."""
    return ops.sum(right * log_probabilities, axis=axis) / ops.maximum(ops.sum(right, axis=axis), 1)
