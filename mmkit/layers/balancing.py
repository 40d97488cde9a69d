"""Training several modalities or tasks in balance: gradients between modalities, losses between tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, dense_for_each


@keras.saving.register_keras_serializable("mmkit")
class OGMGE(FusionLayer):
    """A linear head that holds back the modality that learns fastest: on-the-fly gradient modulation.

    The result are logits: z = sum over the present modalities of x_i W_i, + b. In training, if the labels come too,
    modality i's score s_i is the mean over its examples of the probability that x_i W_i + b / n alone gives the label,
    and rho_i is s_i over the mean of the other modalities' scores. Where rho_i > 1, the gradient that goes back into
    x_i, to its branch, is multiplied by 1 - tanh(alpha * rho_i); the head's own gradient and the logits stay as they
    are. With `noise`, normal noise as widely spread as that gradient is added to it (generalisation enhancement).

    Train it with SGD: Adam divides each weight's gradient by its size, and so undoes most of a constant factor.

    Labels come as an input of the model: `head(features, labels=labels)`; a model for use afterwards leaves them out.

    Args:
        units: classes.
        alpha: how strongly to hold back.
        noise: whether to add noise to the gradients that are held back.
        seed: of the noise, or None.

    Call arguments:
        features, mask: as `FusionLayer`.
        labels: whole numbers `(batch,)`, or None. Used in training only; the loss is taken to be the mean
            cross-entropy of the logits.

    Returns:
        Logits `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if `labels` has another shape.

    Source: Peng, Wei, Deng, Wang and Hu (2022), Balanced multimodal learning via on-the-fly gradient modulation, which
    has two modalities; its code adds noise to the gradients of all branches' convolutions, here it goes to the features
    of a modality that is held back.
    """

    def __init__(
        self, units: int, alpha: float = 0.5, noise: bool = True, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(units, **kwargs)
        if alpha < 0:
            raise ValueError(f"OGMGE: alpha must not be negative: got {alpha}")
        self.alpha, self.noise, self.seed = alpha, noise, seed
        self.generator = keras.random.SeedGenerator(seed)

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.heads = dense_for_each(self, self.units, shapes, use_bias=False, prefix="head_")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(
        self,
        features: Mapping[str, Any],
        mask: Mapping[str, Any] | None = None,
        training: bool | None = None,
        labels: Any = None,
    ) -> Any:
        cast, given = self.check(features, mask)
        vectors = self.vectors(cast, given)
        if training and labels is not None:
            if len(labels.shape) != 1:
                raise ValueError(f"OGMGE: labels have shape {tuple(labels.shape)}, wanted whole numbers (batch,)")
            vectors = self._modulate(vectors, given, ops.cast(labels, "int32"))
        return self._logits(vectors)

    def _logits(self, vectors: list[Any]) -> Any:
        terms = [self.heads[name](vector) for name, vector in zip(self.names, vectors)]
        return ops.sum(ops.stack(terms), axis=0) + ops.cast(self.bias, self.compute_dtype)

    def coefficients(
        self, features: Mapping[str, Any], labels: Any, mask: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What each modality's gradient is multiplied by on this batch: dict from name to a number."""
        cast, given = self.check(features, mask)
        found = self._coefficients(self.vectors(cast, given), given, ops.cast(labels, "int32"))
        return dict(zip(self.names, found))

    def _coefficients(self, vectors: list[Any], mask: dict[str, Any], labels: Any) -> list[Any]:
        truth, scores = ops.one_hot(labels, self.units, dtype="float32"), []
        for name, vector in zip(self.names, vectors):
            logits = ops.cast(self.heads[name](vector), "float32") + ops.cast(self.bias, "float32") / len(self.names)
            right = ops.sum(ops.softmax(logits) * truth, axis=-1)
            there = ops.ones_like(right)
            if name in mask:
                there = ops.cast(masks.is_present(mask[name]), "float32")
            scores.append(ops.sum(right * there) / ops.maximum(ops.sum(there), 1))
        found = []
        for place, score in enumerate(scores):
            others = scores[:place] + scores[place + 1 :] or [score]
            rho = score / ops.maximum(sum(others) / len(others), 1e-6)
            found.append(ops.where(rho > 1, 1 - ops.tanh(self.alpha * rho), ops.ones_like(rho)))
        return [ops.stop_gradient(one) for one in found]

    def _modulate(self, vectors: list[Any], mask: dict[str, Any], labels: Any) -> list[Any]:
        """The vectors as they are, but with other gradients."""
        error = ops.softmax(ops.cast(self._logits(vectors), "float32")) - ops.one_hot(labels, self.units)
        error = error / ops.cast(ops.shape(error)[0], "float32")  # the mean cross-entropy's gradient to the logits
        modulated = []
        for name, vector, factor in zip(self.names, vectors, self._coefficients(vectors, mask, labels)):
            if self.noise:
                kernel = ops.cast(self.heads[name].kernel, "float32")
                gradient = factor * ops.matmul(error, ops.transpose(kernel))
                gradient = masks.keep(gradient, masks.presence(mask, name))
                spread = ops.where(factor < 1, ops.std(gradient), 0.0)
                draw = spread * keras.random.normal(ops.shape(vector), seed=self.generator, dtype="float32")
                wide = ops.cast(vector, "float32")
                # Worth nothing, with the noise as its gradient. What is absent is a constant, and stays so.
                self.add_loss(ops.sum(ops.stop_gradient(draw) * (wide - ops.stop_gradient(wide))))
            factor = ops.cast(factor, vector.dtype)
            modulated.append(factor * vector + (1 - factor) * ops.stop_gradient(vector))
        return modulated

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha, "noise": self.noise, "seed": self.seed}


@keras.saving.register_keras_serializable("mmkit")
class UncertaintyWeighting(keras.layers.Layer):
    """The sum of several tasks' losses, each weighed by how uncertain its task is, which is learned.

    With s_i = log sigma_i^2, learned from 0 on: the sum of exp(-s_i) L_i + s_i / 2 over the tasks, and of
    exp(-s_i) L_i / 2 + s_i / 2 over those in `regression`. Call it where a model computes its loss:

    ```python
    class TwoTasks(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.weighting = UncertaintyWeighting(["digit", "voice"])

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = keras.losses.sparse_categorical_crossentropy
            return self.weighting({task: loss(y[task], y_pred[task]) for task in y})
    ```

    Args:
        tasks: their names.
        regression: those whose loss is a squared error; the others' are cross-entropies.

    Call arguments:
        losses: dict from task to its loss, a number or one for each example `(batch,)`, of which the mean counts.

    Returns:
        A number.

    Raises:
        ValueError: if a name is missing, unknown or there twice.

    Source: Kendall, Gal and Cipolla (2018), Multi-task learning using uncertainty to weigh losses.
    """

    def __init__(self, tasks: Sequence[str], regression: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks, self.regression = list(tasks), list(regression)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"UncertaintyWeighting wants names of tasks, each once: got {self.tasks}")
        unknown = sorted(set(self.regression) - set(self.tasks))
        if unknown:
            raise ValueError(f"UncertaintyWeighting: {', '.join(unknown)} in regression, but not in {self.tasks}")
        self.log_variances = self.add_weight(
            shape=(len(self.tasks),), initializer="zeros", dtype="float32", name="log_variances"
        )

    def call(self, losses: Mapping[str, Any]) -> Any:
        masks.check_names("UncertaintyWeighting", losses, self.tasks)
        total = 0.0
        for place, task in enumerate(self.tasks):
            uncertainty = self.log_variances[place]
            share = 0.5 if task in self.regression else 1.0
            total = total + share * ops.exp(-uncertainty) * ops.mean(ops.cast(losses[task], "float32"))
            total = total + uncertainty / 2
        return total

    def compute_output_shape(self, losses_shape: Mapping[str, Any]) -> tuple:
        return ()

    def get_config(self) -> dict:
        return {**super().get_config(), "tasks": self.tasks, "regression": self.regression}
