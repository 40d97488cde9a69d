"""Linear probes: what a linear classifier can read from frozen features."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

# From strong to weak; with standardised features both ends are too much as a rule.
_PENALTIES = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1)


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    validation: tuple[np.ndarray, np.ndarray],
    penalties: Sequence[float] = _PENALTIES,
) -> Pipeline:
    """Logistic regression on standardised features, with the L2 penalty that does best on validation examples.

    The features come from a network that stays as it is, so the probe's accuracy tells how much of the answer they
    hold in a form that is easy to read. Should the chosen penalty, `1 / probe[-1].C`, be at an end of `penalties`, try
    more of them there.

    Args:
        features: shape `(examples, units)`, to fit on.
        labels: shape `(examples,)`, the classes, two or more.
        validation: features and labels of the examples to choose with.
        penalties: weights of the squared coefficients against the sum of the examples' losses (scikit-learn's 1 / C).
            Of those that do equally well, the first is taken.

    Returns:
        The fitted probe, with scikit-learn's methods: `predict`, `predict_log_proba`, `score`.

    Raises:
        ValueError: if `features` and `labels`, or those of `validation`, do not fit, or there is no positive penalty.

    Source: Alain and Bengio (2016), Understanding intermediate layers using linear classifier probes.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import linear_probe
        >>> random = np.random.default_rng(0)
        >>> labels = np.arange(300) % 3
        >>> features = random.normal(size=(300, 8)) + 2 * np.eye(8)[labels]
        >>> probe = linear_probe(features[:100], labels[:100], validation=(features[100:200], labels[100:200]))
        >>> bool(probe.score(features[200:], labels[200:]) > 0.8)
        True
    """
    if not len(penalties) or not min(penalties) > 0:
        raise ValueError(f"linear_probe wants positive penalties: got {list(penalties)}")
    for x, y in ((features, labels), validation):
        if np.ndim(x) != 2 or np.shape(y) != np.shape(x)[:1]:
            raise ValueError(
                "linear_probe wants features (examples, units) and one label per example: "
                f"got shapes {np.shape(x)} and {np.shape(y)}"
            )
    probes = (
        make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000)).fit(features, labels)
        for penalty in penalties
    )
    return max(probes, key=lambda probe: probe.score(*validation))  # the first of the best
