"""Checks of features and masks, and arithmetic that what is absent cannot disturb."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops
from keras.src.backend import get_keras_mask  # an attribute on TensorFlow, kept apart on JAX: Keras alone knows where

from mmkit.layers.types import Features, Mask, Shape, Tensor


def check_names(layer: str, features: Any, expected: Sequence[str] | None = None) -> list[str]:
    """The names of the modalities in `features`, sorted.

    Args:
        layer: who asks, for the message.
        features: what should be a dict from name to tensor (or to shape).
        expected: the names that there should be, or None if there are no expectations yet.

    Raises:
        ValueError: if `features` is no such dict, a name empty, a tensor ragged, or the names differ from `expected`.
    """
    if not isinstance(features, Mapping) or not features or not all(isinstance(name, str) for name in features):
        raise ValueError(
            f"{layer} wants a dict from modality name to tensor, such as {{'image': x, 'audio': y}}: "
            f"got {type(features).__name__}"
        )
    names = sorted(features)
    if "" in names:
        raise ValueError(f"{layer}: a modality's name must not be empty: got {names}")
    ragged = [name for name in names if hasattr(features[name], "row_splits")]
    if ragged:
        raise ValueError(
            f"{layer}: {', '.join(ragged)}: ragged; pad it and give a mask, as mmkit.pipelines.batches does"
        )
    if expected is not None and names != sorted(expected):
        missing, unknown = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
        shapes = {name: _shape(features[name]) for name in names}
        raise ValueError(
            f"{layer} was built for the modalities {sorted(expected)}: got {shapes}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    return names


def check_shape(
    layer: str, name: str, shape: Sequence[int | None], ranks: Sequence[int], size: int | None = None
) -> None:
    """Checks one modality's rank, and the size of its last axis.

    Raises:
        ValueError: naming the modality, the shape that came and what was wanted.
    """
    shape = tuple(shape)
    if len(shape) not in ranks:
        wanted = " or ".join(
            {2: "(batch, units)", 3: "(batch, time, units)", 4: "(batch, height, width, channels)"}[r] for r in ranks
        )
        raise ValueError(f"{layer}: modality {name!r} has shape {shape}, wanted {wanted}")
    if shape[-1] is None:
        raise ValueError(f"{layer}: modality {name!r} has shape {shape}: its last axis must have a known size")
    if size is not None and shape[-1] != size:
        raise ValueError(
            f"{layer}: modality {name!r} has shape {shape}, but the layer was built for a last axis of {size}"
        )


def check_mask(layer: str, name: str, mask: Any, feature: Tensor, per_step: bool) -> Tensor:
    """`mask` as booleans, its dtype checked, and its shape against `feature`.

    Args:
        mask: `(batch,)`, or `(batch, time)` if `per_step`; booleans or whole numbers.

    Raises:
        ValueError: if its dtype or its shape does not fit, naming the modality.
    """
    mask = ops.convert_to_tensor(mask)
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if "float" in dtype:
        raise ValueError(
            f"{layer}: the mask of modality {name!r} has dtype {dtype}, wanted booleans: compare it, as in mask > 0.5"
        )
    shape, of = _shape(mask), _shape(feature)
    fits = len(shape) == 1 or (per_step and len(shape) == 2 and _agree(shape[1], of[1]))
    if not fits or not _agree(shape[0], of[0]):
        wanted = "(batch,) or (batch, time)" if per_step else "(batch,)"
        raise ValueError(
            f"{layer}: the mask of modality {name!r} has shape {shape}, wanted {wanted} for features of shape {of}"
        )
    return ops.cast(mask, "bool")


def with_carried(layer: str, features: Features, mask: Any) -> dict[str, Tensor]:
    """Each modality's mask: the one in `mask`, else the one that its features carry; without either, it is left out.

    Keras hands carried masks to a call only if nothing else comes with it: no mask of another modality, no labels.

    Raises:
        ValueError: if `mask` is no dict or names an unknown modality.
    """
    if mask is None:
        mask = {}
    if not isinstance(mask, Mapping):
        raise ValueError(f"{layer} wants a dict from modality name to booleans as its mask: got {type(mask).__name__}")
    unknown = sorted(set(mask) - set(features))
    if unknown:
        raise ValueError(f"{layer}: the mask names {', '.join(unknown)}, but the modalities are {sorted(features)}")
    both = {name: get_keras_mask(feature) for name, feature in features.items()}
    both |= {name: one for name, one in mask.items() if one is not None}
    return {name: one for name, one in both.items() if one is not None}


def check_masks(layer: str, features: Features, mask: Mask | None) -> dict[str, Tensor]:
    """The masks of a call, those that features carry among them, checked; modalities without one are left out.

    Raises:
        ValueError: if `mask` is no dict, names an unknown modality, or a dtype or a shape does not fit.
    """
    return {
        name: check_mask(layer, name, one, features[name], per_step=len(features[name].shape) >= 3)
        for name, one in with_carried(layer, features, mask).items()
    }


def keep(feature: Tensor, mask: Tensor | None) -> Tensor:
    """`feature` with zeros where `mask` is False. A NaN there is gone, and so is its gradient.

    Args:
        feature: `(batch, ...)`.
        mask: booleans over the first one or two axes of `feature`, or None.
    """
    if mask is None:
        return feature
    for _ in range(len(feature.shape) - len(mask.shape)):
        mask = ops.expand_dims(mask, -1)
    return ops.where(mask, feature, ops.zeros((), dtype=feature.dtype))


def is_present(mask: Tensor | None) -> Tensor | None:
    """Whether there is anything of a modality: `(batch,)` from a mask of either shape; None from None."""
    return mask if mask is None or len(mask.shape) == 1 else ops.any(mask, axis=1)


def per_step(mask: Tensor, tokens: Tensor) -> Tensor:
    """A mask of either shape as `(batch, time)` booleans, for `tokens` `(batch, time, ...)`; time may be unknown."""
    mask = ops.cast(mask, "bool")
    if len(mask.shape) == 2:
        return mask
    while len(tokens.shape) > 2:
        tokens = tokens[..., 0]
    return ops.logical_and(ops.expand_dims(mask, 1), ops.ones_like(tokens, dtype="bool"))


def mean_over_time(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the tokens that the mask leaves, zeros where it leaves none.

    Args:
        tokens: `(batch, time, units)`.
        mask: `(batch, time)` or `(batch,)` booleans, or None.

    Returns:
        `(batch, units)`, in the dtype of `tokens`; summed in float32.
    """
    wide = ops.cast(keep(tokens, mask), "float32")
    if mask is None or len(mask.shape) == 1:
        return ops.cast(ops.sum(wide, axis=1) / ops.cast(ops.maximum(ops.shape(tokens)[1], 1), "float32"), tokens.dtype)
    count = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
    return ops.cast(ops.sum(wide, axis=1) / ops.maximum(count, 1.0), tokens.dtype)


def mean_over_batch(values: Tensor) -> Tensor:
    """The mean over the first axis; zeros for a batch of none, as one of several replicas may get it."""
    return ops.sum(values, axis=0) / ops.cast(ops.maximum(ops.shape(values)[0], 1), values.dtype)


def _shape(tensor: Tensor | Shape) -> Shape:
    return tuple(getattr(tensor, "shape", tensor))


def _agree(first: int | None, second: int | None) -> bool:
    return first is None or second is None or first == second
