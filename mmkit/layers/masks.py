"""Checks of features and masks, and arithmetic that what is absent cannot disturb."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops


def check_names(layer: str, features: Any, expected: Sequence[str] | None = None) -> list[str]:
    """The names of the modalities in `features`, sorted.

    Args:
        layer: who asks, for the message.
        features: what should be a dict from name to tensor (or to shape).
        expected: the names that there should be, or None if there are no expectations yet.

    Raises:
        ValueError: if `features` is no such dict, or its names differ from `expected`.
    """
    if not isinstance(features, Mapping) or not features or not all(isinstance(name, str) for name in features):
        raise ValueError(
            f"{layer} wants a dict from modality name to tensor, such as {{'image': x, 'audio': y}}: "
            f"got {type(features).__name__}"
        )
    names = sorted(features)
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


def check_mask(layer: str, name: str, mask: Any, feature: Any, per_step: bool) -> Any:
    """`mask` as booleans, its shape checked against `feature`.

    Args:
        mask: `(batch,)`, or `(batch, time)` if `per_step`.

    Raises:
        ValueError: if its shape does not fit, naming the modality and both shapes.
    """
    mask = ops.convert_to_tensor(mask)
    shape, of = _shape(mask), _shape(feature)
    fits = len(shape) == 1 or (per_step and len(shape) == 2 and _agree(shape[1], of[1]))
    if not fits or not _agree(shape[0], of[0]):
        wanted = "(batch,) or (batch, time)" if per_step else "(batch,)"
        raise ValueError(
            f"{layer}: the mask of modality {name!r} has shape {shape}, wanted {wanted} for features of shape {of}"
        )
    return ops.cast(mask, "bool")


def check_masks(layer: str, features: Mapping[str, Any], mask: Any) -> dict[str, Any]:
    """The masks that were given, checked; modalities without one, or with None, are left out.

    Raises:
        ValueError: if `mask` is no dict, names an unknown modality, or a shape does not fit.
    """
    if mask is None:
        return {}
    if not isinstance(mask, Mapping):
        raise ValueError(f"{layer} wants a dict from modality name to presence as its mask: got {type(mask).__name__}")
    unknown = sorted(set(mask) - set(features))
    if unknown:
        raise ValueError(f"{layer}: the mask names {', '.join(unknown)}, but the modalities are {sorted(features)}")
    return {
        name: check_mask(layer, name, given, features[name], per_step=len(features[name].shape) in (3, 4))
        for name, given in mask.items()
        if given is not None
    }


def keep(feature: Any, mask: Any) -> Any:
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


def over_time(mask: Any, feature: Any) -> Any:
    """`mask` with one boolean per step, `(batch, time)`, whichever of its two shapes it has; time may be unknown.

    Args:
        mask: `(batch,)` or `(batch, time)` booleans.
        feature: `(batch, time, ...)`, or `(batch, time)`.
    """
    if len(mask.shape) == 2:
        return mask
    while len(feature.shape) > 2:
        feature = feature[..., 0]
    return ops.logical_and(ops.expand_dims(mask, 1), ops.ones_like(feature, dtype="bool"))


def is_present(mask: Any) -> Any:
    """Whether there is anything of a modality: `(batch,)` from a mask of either shape."""
    return ops.any(mask, axis=1) if len(mask.shape) == 2 else mask


def presence(mask: Mapping[str, Any], name: str) -> Any:
    """Whether each example has modality `name`: `(batch,)` booleans, or None if no mask was given for it."""
    return is_present(mask[name]) if name in mask else None


def mean_over_time(tokens: Any, mask: Any) -> Any:
    """The mean of the tokens that are there, zeros where none is.

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


def _shape(tensor: Any) -> tuple:
    return tuple(getattr(tensor, "shape", tensor))


def _agree(first: int | None, second: int | None) -> bool:
    return first is None or second is None or first == second
