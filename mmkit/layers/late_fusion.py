"""Late fusion: every modality has a classifier of its own, and their answers are multiplied."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer
from mmkit.layers.kernels import keras_name
from mmkit.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class LateFusion(FusionLayer):
    """A product of experts (log-linear pooling): multiplies the modalities' class probabilities, in logarithms.

    With logits x_i, p_i = softmax(x_i) and a prior p_0 over the classes, the result is the logarithm of

        p_0 * product over the present modalities of (p_i / p_0)^w_i,

    divided by its sum over the classes. With all w_i = 1 and n modalities present that is the product of the p_i over
    p_0^(n - 1): Bayes' rule for modalities that are independent given the class. With an even prior it is the plain
    product. If all modalities are absent the prior is left.

    Args:
        units: int, classes.
        prior: the classes' shares (or counts), `units` positive numbers; None: all alike. Default None.
        exponents: dict from modality name to w_i; a name left out, or None, has 1. Default None.
        learn_exponents: bool, whether the w_i, from these values on and never negative, are weights of the layer.
            Default False.
        **kwargs: those of every Keras layer: `name`, `dtype`, `trainable`.

    Call arguments:
        features: dict from modality name to logits (or log-probabilities) `(batch, units)`.
        mask: dict from name to booleans `(batch,)`, as `FusionLayer`.

    Returns:
        Log-probabilities `(batch, units)`: also logits, for `from_logits=True`.

    Raises:
        ValueError: as `FusionLayer`, and if `prior` or `exponents` do not fit.

    Source: Hinton (2002), Training products of experts by minimizing contrastive divergence; Kittler, Hatef, Duin and
    Matas (1998), On combining classifiers (the product rule).

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import LateFusion
        >>> logits = {"image": np.log([[0.8, 0.2]]), "audio": np.log([[0.5, 0.5]])}
        >>> np.exp(LateFusion(2)(logits)).round(3).tolist() == np.float32([[0.8, 0.2]]).tolist()
        True
    """

    RANKS = (2,)

    def __init__(
        self,
        units: int,
        prior: Sequence[float] | None = None,
        exponents: Mapping[str, float] | None = None,
        learn_exponents: bool = False,
        **kwargs: Any,
    ) -> None:
        for option in ("kernel_initializer", "kernel_regularizer"):
            if option in kwargs:
                raise ValueError(f"LateFusion has no kernels: it takes no {option}")
        super().__init__(units, **kwargs)
        self.prior = None if prior is None else [float(share) for share in prior]
        if self.prior is not None and (len(self.prior) != units or not all(0 < share < np.inf for share in self.prior)):
            raise ValueError(f"LateFusion: prior must be {units} positive numbers: got {self.prior}")
        self.exponents = None if exponents is None else {name: float(one) for name, one in exponents.items()}
        if self.exponents is not None and not all(0 <= one < np.inf for one in self.exponents.values()):
            raise ValueError(f"LateFusion: exponents must not be negative: got {self.exponents}")
        self.learn_exponents = learn_exponents

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        for name, shape in shapes.items():
            masks.check_shape("LateFusion", name, shape, self.RANKS, self.units)
        unknown = sorted(set(self.exponents or {}) - set(shapes))
        if unknown:
            raise ValueError(f"LateFusion: exponents name {', '.join(unknown)}, but the modalities are {list(shapes)}")
        self.powers = {name: (self.exponents or {}).get(name, 1.0) for name in shapes}
        if self.learn_exponents:
            for name, power in self.powers.items():
                start, label = keras.initializers.Constant(power), keras_name(name, "exponent_")
                self.powers[name] = self.add_weight((), start, constraint="non_neg", name=label)

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        shares = np.ones(self.units) if self.prior is None else np.asarray(self.prior)
        prior = ops.convert_to_tensor(np.log(shares / shares.sum()), dtype="float32")
        total = ops.expand_dims(prior, 0)
        for name, logits in zip(self.names, self.vectors(features, mask)):
            ratio = ops.log_softmax(ops.cast(logits, "float32")) - prior
            total = total + masks.keep(ops.cast(self.powers[name], "float32") * ratio, mask.get(name))
        return ops.cast(ops.log_softmax(total), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["kernel_initializer"], config["kernel_regularizer"]
        own = {"prior": self.prior, "exponents": self.exponents, "learn_exponents": self.learn_exponents}
        return {**config, **own}
