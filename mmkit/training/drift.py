"""A detector of drift in a stream of errors."""

import numpy as np


def adwin(errors: np.ndarray, *, delta: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    """How far the newer errors are above the older ones, at the cut where this stands out most.

    ADWIN, adaptive windowing, needs no length of a window: it tries every cut of the errors so far. The published rule
    raises its alarm when the rise is above 1; a limit set on calm streams, where nothing has changed, suits your data
    better. Call it at every look, with all errors since the last alarm. A fall is not reported.

    Args:
        errors: shape `(errors,)` or `(streams, errors)`, in the order of time: 1 for a wrong answer, 0 for a right one.
        delta: the chance of a false alarm that the published rule admits, between 0 and 1.

    Returns:
        The rise in units of ADWIN's bound, and the number of errors before the cut; of each stream, shape `(streams,)`,
        if there are several.

    Raises:
        ValueError: if there are fewer than two errors, `errors` holds something else than 0 and 1, or `delta` is not
            between 0 and 1.

    Source: Bifet and Gavaldà (2007), Learning from time-changing data with adaptive windowing.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import adwin
        >>> rise, before = adwin(np.repeat([0, 1], [60, 30]))  # 60 right answers, then 30 wrong ones
        >>> round(float(rise), 2), int(before)
        (1.13, 60)
    """
    errors = np.asarray(errors, float)
    if errors.ndim not in (1, 2) or errors.shape[-1] < 2:
        raise ValueError(f"adwin wants two errors or more, (errors,) or (streams, errors): got {errors.shape}")
    if not np.isin(errors, (0, 1)).all():
        raise ValueError("adwin wants errors of 0 and 1: pass `predicted != labels`")
    if not 0 < delta < 1:
        raise ValueError(f"adwin: delta is a probability between 0 and 1, got {delta}")
    n = errors.shape[-1]
    older = np.arange(1, n)
    total = errors.cumsum(axis=-1)
    rises = (total[..., -1:] - total[..., :-1]) / (n - older) - total[..., :-1] / older
    share, log = total[..., -1:] / n, np.log(2 * n / delta)
    one_over_m = 1 / older + 1 / (n - older)
    bounds = np.sqrt(2 * one_over_m * share * (1 - share) * log) + 2 / 3 * one_over_m * log
    in_bounds = rises / bounds
    return in_bounds.max(axis=-1), older[in_bounds.argmax(axis=-1)]
