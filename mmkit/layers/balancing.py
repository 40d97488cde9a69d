"""Training several modalities or tasks in balance: gradients between modalities, losses between tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, dense_for_each
from mmkit.layers.types import Features, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class OGMGE(FusionLayer):
    """A linear head that holds back the modality that learns fastest: on-the-fly gradient modulation (OGM-GE).

    The result are logits: z = sum over the present modalities of x_i W_i, + b. In training, if the labels come too,
    modality i's score s_i is the mean over its examples of the probability that x_i W_i + b / n alone gives the label,
    and rho_i is s_i over the mean of the other modalities' scores; a modality that the whole batch lacks has no score
    and is no rival. Where rho_i > 1, the gradient that goes back into x_i, to its branch, is multiplied by
    1 - tanh(alpha * rho_i); the head's own gradient and the logits stay as they are. With `noise`, normal noise as
    widely spread as that gradient is added to it (generalisation enhancement).

    Train it with SGD: Adam divides each weight's gradient by its size, and so undoes most of a constant factor.

    Labels come as an input of the model: `head(features, labels=labels)`; a model for use afterwards leaves them out.

    Args:
        units: int, classes.
        alpha: float, how strongly to hold back. Default 0.5.
        noise: bool, whether to add noise to the gradients that are held back. Default True.
        seed: int, of the noise, or None. Default None.
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments:
        features, mask: as `FusionLayer`.
        labels: whole numbers `(batch,)`, or None. Used in training only; the loss is taken to be the mean
            cross-entropy of the logits.

    Returns:
        Logits `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if `labels` has another shape or `alpha` is negative.

    Source: Peng, Wei, Deng, Wang and Hu (2022), Balanced multimodal learning via on-the-fly gradient modulation, which
    has two modalities; its code adds noise to the gradients of all branches' convolutions, here it goes to the features
    of a modality that is held back. `GradientModulationHead` is this class's other name.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import GradientModulationHead
        >>> head, labels = GradientModulationHead(3), np.array([0, 1, 2, 0])
        >>> features = {"image": np.eye(4), "audio": np.zeros((4, 7, 8))}
        >>> tuple(head(features, labels=labels, training=True).shape)
        (4, 3)
        >>> float(head.coefficients(features, labels)["audio"]) <= 1
        True
    """

    def __init__(
        self, units: int, alpha: float = 0.5, noise: bool = True, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(units, **kwargs)
        if alpha < 0:
            raise ValueError(f"OGMGE: alpha must not be negative: got {alpha}")
        self.alpha, self.noise, self.seed = alpha, noise, seed
        self.generator = keras.random.SeedGenerator(seed)

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        self.heads = dense_for_each(self, self.units, shapes, use_bias=False, prefix="head_")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(
        self, features: Features, mask: Mask | None = None, training: bool | None = None, labels: Tensor | None = None
    ) -> Tensor:
        cast, checked = self.check(features, mask)
        vectors = self.vectors(cast, checked)
        if labels is not None:
            labels = self._whole_numbers(labels)
            if training:
                vectors = self._modulate(vectors, checked, labels)
        return self._logits(vectors)

    def _whole_numbers(self, labels: Tensor) -> Tensor:
        labels = ops.convert_to_tensor(labels)
        if len(labels.shape) != 1:
            raise ValueError(f"OGMGE: labels have shape {tuple(labels.shape)}, wanted whole numbers (batch,)")
        return ops.cast(labels, "int32")

    def _logits(self, vectors: list[Tensor]) -> Tensor:
        terms = [self.heads[name](vector) for name, vector in zip(self.names, vectors)]
        return ops.sum(ops.stack(terms), axis=0) + ops.cast(self.bias, self.compute_dtype)

    def coefficients(self, features: Features, labels: Tensor, mask: Mask | None = None) -> dict[str, Tensor]:
        """What each modality's gradient is multiplied by on this batch: dict from name to a number.

        Args:
            features, labels, mask: as in a call, after which alone there are scores.

        Raises:
            ValueError: as a call, and before the first one.
        """
        cast, checked = self.check(features, mask)
        found = self._coefficients(self.vectors(cast, checked), checked, self._whole_numbers(labels))
        return dict(zip(self.names, found))

    def _coefficients(self, vectors: list[Tensor], mask: dict[str, Tensor], labels: Tensor) -> list[Tensor]:
        truth, scores, competes = ops.one_hot(labels, self.units, dtype="float32"), [], []
        for name, vector in zip(self.names, vectors):
            logits = ops.cast(self.heads[name](vector), "float32") + ops.cast(self.bias, "float32") / len(self.names)
            right = ops.sum(ops.softmax(logits) * truth, axis=-1)
            counts = ops.ones_like(right) if name not in mask else ops.cast(masks.is_present(mask[name]), "float32")
            scores.append(ops.sum(right * counts) / ops.maximum(ops.sum(counts), 1))
            competes.append(ops.minimum(ops.sum(counts), 1))  # 0 if the whole batch lacks it, and then its score is 0
        found = []
        for place, score in enumerate(scores):
            rivals = sum(competes) - competes[place]
            others = (sum(scores) - score) / ops.maximum(rivals, 1)
            rho = ops.where(rivals > 0, score / ops.maximum(others, 1e-6), 1.0)
            found.append(ops.where(rho > 1, 1 - ops.tanh(self.alpha * rho), ops.ones_like(rho)))
        return [ops.stop_gradient(one) for one in found]

    def _modulate(self, vectors: list[Tensor], mask: dict[str, Tensor], labels: Tensor) -> list[Tensor]:
        """The vectors as they are, but with other gradients."""
        error = ops.softmax(ops.cast(self._logits(vectors), "float32")) - ops.one_hot(labels, self.units)
        # The mean cross-entropy's gradient to the logits.
        error = error / ops.cast(ops.maximum(ops.shape(error)[0], 1), "float32")
        modulated = []
        for name, vector, factor in zip(self.names, vectors, self._coefficients(vectors, mask, labels)):
            if self.noise:
                kernel = ops.cast(self.heads[name].kernel, "float32")
                gradient = factor * ops.matmul(error, ops.transpose(kernel))
                gradient = masks.keep(gradient, masks.is_present(mask.get(name)))
                spread = ops.where(factor < 1, ops.std(gradient), 0.0)
                draw = spread * keras.random.normal(ops.shape(vector), seed=self.generator, dtype="float32")
                wide = ops.cast(vector, "float32")
                # Worth nothing, with the noise as its gradient. What is absent is a constant, and stays so.
                self.add_loss(ops.sum(ops.stop_gradient(draw) * (wide - ops.stop_gradient(wide))))
            still = ops.stop_gradient(vector)
            modulated.append(still + ops.cast(factor, vector.dtype) * (vector - still))
        return modulated

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "noise": self.noise, "seed": self.seed}


GradientModulationHead = OGMGE  # the class keeps its first name, under which saved files hold it


@keras.saving.register_keras_serializable("mmkit")
class UncertaintyWeighting(keras.layers.Layer):
    """The sum of several tasks' losses, each weighed by how uncertain its task is, which is learned.

    With s_i = log sigma_i^2, learned from 0 on: the sum of exp(-s_i) L_i + s_i / 2 over the tasks, and of
    exp(-s_i) L_i / 2 + s_i / 2 over those in `regression`. It computes in float32 under every dtype policy.

    Args:
        tasks: list of str, their names.
        regression: list of str, those whose loss is a squared error; the others' are cross-entropies. Default none.
        **kwargs: those of every Keras layer: `name`, `trainable`.

    Call arguments:
        losses: dict from task to its loss, a number or one for each example `(batch,)`, of which the mean counts.

    Returns:
        A number.

    Raises:
        ValueError: if a name is missing, unknown or repeated.

    Source: Kendall, Gal and Cipolla (2018), Multi-task learning using uncertainty to weigh losses.

    Example:
        Call it where a model computes its loss, and add the losses of the model's layers:

        >>> import keras
        >>> import numpy as np
        >>> from mmkit.layers import UncertaintyWeighting
        >>> class TwoTasks(keras.Model):
        ...     def __init__(self, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.digit = keras.layers.Dense(10, kernel_regularizer="l2")
        ...         self.angle = keras.layers.Dense(1)
        ...         self.weighting = UncertaintyWeighting(["digit", "angle"], regression=["angle"])
        ...         self.entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ...         self.error = keras.losses.MeanSquaredError()
        ...     def call(self, inputs):
        ...         return {"digit": self.digit(inputs), "angle": self.angle(inputs)}
        ...     def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        ...         weight = sample_weight or {}
        ...         losses = {
        ...             "digit": self.entropy(y["digit"], y_pred["digit"], weight.get("digit")),
        ...             "angle": self.error(y["angle"], y_pred["angle"], weight.get("angle")),
        ...         }
        ...         return self.weighting(losses) + sum(self.losses)
        >>> model, x = TwoTasks(), np.ones((8, 4), "float32")
        >>> model.compile("sgd")
        >>> y = {"digit": np.arange(8), "angle": np.zeros((8, 1), "float32")}
        >>> history = model.fit(x, y, sample_weight={"digit": np.ones(8), "angle": np.ones(8)}, verbose=0)
        >>> tuple(model.weighting.log_variances.shape)
        (2,)
    """

    def __init__(self, tasks: Sequence[str], regression: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # a loss of 90,000 is none in half precision
        self.tasks, self.regression = list(tasks), list(regression)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"UncertaintyWeighting wants names of tasks, each once: got {self.tasks}")
        unknown = sorted(set(self.regression) - set(self.tasks))
        if unknown:
            raise ValueError(f"UncertaintyWeighting: {', '.join(unknown)} in regression, but not in {self.tasks}")
        self.log_variances = self.add_weight(
            shape=(len(self.tasks),), initializer="zeros", dtype="float32", autocast=False, name="log_variances"
        )

    def call(self, losses: Mapping[str, Tensor]) -> Tensor:
        masks.check_names("UncertaintyWeighting", losses, self.tasks)
        total = 0.0
        for place, task in enumerate(self.tasks):
            uncertainty = self.log_variances[place]
            share = 0.5 if task in self.regression else 1.0
            loss = masks.mean_over_batch(ops.reshape(ops.cast(losses[task], "float32"), (-1,)))
            total = total + share * ops.exp(-uncertainty) * loss + uncertainty / 2
        return total

    def compute_output_shape(self, losses_shape: Mapping[str, Any]) -> Shape:
        return ()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tasks": self.tasks, "regression": self.regression}
