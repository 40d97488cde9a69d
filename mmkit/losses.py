"""Losses with weights of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


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
