"""The few plots that more than one lesson needs. Each returns its axes, and reads well when printed in grey."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from mmkit.evaluate import Interval

# Dark to light, so that they stay apart in grey too; chosen from the colour-blind safe set of Okabe and Ito (2008).
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
TINTS = ("#bdbdbd", "#dceaf5", "#f6c7a4", "#cfe8df", "#f7e3b5", "#e6f3fb")  # the same colours, pale, for areas


def use_style() -> None:
    """Sets the course's look for every figure that follows: small pictures, plain axes, colours that survive grey.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from mmkit.lesson import plots
        >>> with plt.rc_context():  # a lesson calls it in its Setup cell, for all figures
        ...     plots.use_style()
        ...     print(plt.rcParams["figure.figsize"])
        [6.4, 3.2]
    """
    plt.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": 120,
            "figure.constrained_layout.use": True,
            "figure.figsize": (6.4, 3.2),
            "axes.prop_cycle": plt.cycler(color=COLOURS) + plt.cycler(marker=MARKERS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.markersize": 4,
            "image.cmap": "gray",
        }
    )


def image_grid(
    images: np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 10, size: float = 1.0
) -> np.ndarray:
    """Small pictures in a grid.

    Args:
        images: shape `(count, height, width)` or `(count, height, width, 1)` for grey ones; `(count, height, width, 3)`
            for colours, from 0 to 1, or from 0 to 255 as whole numbers.
        titles: one per picture, or None.
        columns: pictures a row.
        size: width and height of a picture in inches.

    Returns:
        The axes, shape `(rows, columns)`.

    Raises:
        ValueError: if `images` has another rank, or `titles` another length.

    Example:
        >>> import numpy as np
        >>> from mmkit.lesson import plots
        >>> plots.image_grid(np.random.default_rng(0).random((12, 28, 28)), columns=10).shape
        (2, 10)
    """
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[-1] == 3):
        raise ValueError(f"image_grid wants shape (count, height, width), or with 1 or 3 channels: got {images.shape}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"image_grid wants one title per picture: got {len(titles)} for {len(images)}")
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * (size + (0.25 if titles else 0.0))), squeeze=False
    )
    for place, ax in enumerate(axes.flat):
        ax.axis("off")
        if place < len(images):
            ax.imshow(images[place])
            if titles is not None:
                ax.set_title(titles[place], fontsize=9)
    return axes


def intervals(results: Mapping[str, Interval], *, xlabel: str, ax: Axes | None = None) -> Axes:
    """One row per result: its estimate as a dot, its interval as a line.

    Args:
        results: from a name to what was measured, drawn from top to bottom.
        xlabel: what was measured, with its unit.
        ax: where to draw; a new figure if None.

    Returns:
        The axes.

    Example:
        >>> from mmkit.evaluate import Interval
        >>> from mmkit.lesson import plots
        >>> results = {"audio": Interval(0.81, 0.78, 0.84), "fusion": Interval(0.93, 0.91, 0.95)}
        >>> ax = plots.intervals(results, xlabel="test accuracy (share)")
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['audio', 'fusion']
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 0.8 + 0.3 * len(results)))
    for row, result in enumerate(results.values()):
        ax.plot([result.low, result.high], [row, row], color=COLOURS[1], marker="", linewidth=2)
        ax.plot(result.estimate, row, color=COLOURS[0], marker="o")
    ax.set_yticks(range(len(results)), list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)  # the first on top, none on the edge
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.3)
    return ax


def curves(
    results: Mapping[str, Mapping[float, Interval]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """One line per method, with an interval at each point: accuracy against labels, steps or weights.

    The points of different methods stand a little beside each other, so that their intervals can be told apart.

    Args:
        results: from a method's name to its results: from the number that grows along the x axis to what was measured.
        xlabel: what grows, with its unit.
        ylabel: what was measured, with its unit.
        log: whether the x axis is logarithmic. Its ticks are then at the numbers in `results`.
        ax: where to draw; a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if there is nothing to draw, or `log` is asked for a number that is not positive.

    Example:
        >>> from mmkit.evaluate import Interval
        >>> from mmkit.lesson import plots
        >>> results = {"probe": {10: Interval(0.4, 0.3, 0.5), 100: Interval(0.7, 0.66, 0.74)}}
        >>> plots.curves(results, xlabel="labels", ylabel="test accuracy (share)").get_xscale()
        'log'
    """
    places = sorted({x for line in results.values() for x in line})
    if not places:
        raise ValueError("curves wants one result or more: got none")
    if log and places[0] <= 0:
        raise ValueError(f"a logarithmic axis wants positive numbers: got {places[0]:g}; pass log=False")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 3.6))
    spread = places[-1] - places[0]
    for number, (name, line) in enumerate(results.items()):
        beside = number - (len(results) - 1) / 2
        x = np.array([place * 1.03**beside if log else place + 0.008 * beside * spread for place in sorted(line)])
        found = [line[place] for place in sorted(line)]
        height = np.array([interval.estimate for interval in found])
        ends = np.array([[interval.low, interval.high] for interval in found]).T
        style = ("-", "--", "-.", ":")[number // 2 % 4]
        ax.errorbar(x, height, np.abs(ends - height), linestyle=style, capsize=2, linewidth=1.2, label=name)
    if log:
        ax.set_xscale("log")
        ax.set_xticks(places, [f"{place:,.0f}" if place >= 1000 else f"{place:.4g}" for place in places])
        ax.minorticks_off()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(fontsize=8)
    return ax


def training(
    history: Any, *, metric: str = "accuracy", title: str = "", axes: Sequence[Axes] | None = None
) -> np.ndarray:
    """The learning curve of a `model.fit`: the loss and a metric, on the training and on the validation data.

    A dotted line marks the epoch of the lowest validation loss, whose weights early stopping keeps.

    Args:
        history: what `fit` returned, or its dict from a name to a number for each epoch.
        metric: str, default "accuracy": what is drawn in the second panel. The first alone is drawn if the history has
            no such metric.
        title: over the first panel.
        axes: two axes to draw in, or one; a new figure if None.

    Returns:
        The axes, shape `(2,)`, or `(1,)` without the metric.

    Raises:
        ValueError: if the history holds no loss.

    Example:
        >>> from mmkit.lesson import plots
        >>> history = {"loss": [2.0, 1.0, 0.5], "val_loss": [2.1, 1.4, 1.6]}
        >>> [ax.get_ylabel() for ax in plots.training(history)]
        ['loss']
    """
    numbers = getattr(history, "history", history)
    if not len(numbers.get("loss", [])):
        raise ValueError(f"a learning curve wants a history with a loss: got {', '.join(numbers) or 'an empty one'}")
    names = ["loss", metric] if metric in numbers else ["loss"]
    if axes is None:
        _, axes = plt.subplots(1, len(names), figsize=(3.6 * len(names), 2.7), squeeze=False)
    axes = np.ravel(axes)[: len(names)]
    epochs = np.arange(1, len(numbers["loss"]) + 1)
    for ax, name in zip(axes, names):
        ax.plot(epochs, numbers[name], color=COLOURS[1], marker="", linestyle="--", label="training")
        if f"val_{name}" in numbers:
            ax.plot(epochs, numbers[f"val_{name}"], color=COLOURS[2], marker="", linewidth=2, label="validation")
        if "val_loss" in numbers:
            best = epochs[np.argmin(numbers["val_loss"])]
            ax.axvline(best, color=COLOURS[0], linestyle=":", linewidth=1)
        ax.set_xlabel("epoch")
        ax.set_ylabel(name.replace("_", " "))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_title(title, fontsize=10)
    axes[0].legend(fontsize=8)
    return axes


def regions(
    predict: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    labels: np.ndarray,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """The plane tinted by the class that a classifier gives to each point, with examples on it.

    Args:
        predict: gives a class, a whole number from 0, for each row of an array `(points, 2)`.
        x: the examples to show, shape `(examples, 2)`.
        labels: their true classes, shape `(examples,)`, six classes at most.
        title: over the panel.
        ax: where to draw; a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if the examples are no points of a plane, or have more than six classes.

    Example:
        >>> import numpy as np
        >>> from mmkit.lesson import plots
        >>> x, labels = np.array([[-1.0, 0.0], [1.0, 0.5]]), np.array([0, 1])
        >>> ax = plots.regions(lambda points: (points[:, 0] > 0).astype(int), x, labels, title="a straight line")
        >>> ax.get_title()
        'a straight line'
    """
    x, labels = np.asarray(x), np.asarray(labels)
    if x.ndim != 2 or x.shape[1] != 2 or labels.min() < 0 or labels.max() >= len(TINTS):
        raise ValueError(
            f"regions wants points (examples, 2) of at most {len(TINTS)} classes: got shape {x.shape} and classes "
            f"from {labels.min()} to {labels.max()}"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(3.2, 3.2))
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.1 * (high - low).max()
    across, up = (np.linspace(low[axis] - margin, high[axis] + margin, 160) for axis in (0, 1))
    points = np.stack(np.meshgrid(across, up), axis=-1)
    classes = np.asarray(predict(points.reshape(-1, 2))).reshape(points.shape[:2])
    place = {"origin": "lower", "extent": (across[0], across[-1], up[0], up[-1]), "interpolation": "nearest"}
    ax.imshow(classes, cmap=ListedColormap(TINTS), vmin=0, vmax=len(TINTS) - 1, **place)
    for label in np.unique(labels):
        own = x[labels == label]
        ax.plot(*own.T, linestyle="", marker=MARKERS[label], markersize=3, color=COLOURS[label])
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("$x_1$")
    ax.set_ylabel("$x_2$")
    return ax


def confusion(matrix: np.ndarray, names: Sequence[str], *, title: str, ax: Axes | None = None) -> Axes:
    """A confusion matrix in shares of each true class; what is right (the diagonal) is left out of the shading.

    Args:
        matrix: shape `(classes, classes)`, counts, true class by row, predicted class by column.
        names: one per class.
        title: what was tested.
        ax: where to draw; a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: if `matrix` is not square or `names` does not fit it.

    Example:
        >>> from mmkit.lesson import plots
        >>> plots.confusion([[90, 10], [30, 70]], ["no", "yes"], title="an alarm").get_title()
        'an alarm'
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(names), len(names)):
        raise ValueError(
            f"confusion wants a square matrix, one row per name: got {matrix.shape} for {len(names)} names"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(3.2, 3.2))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0.0)
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=max(0.3, shares.max()))
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title(title, fontsize=10)
    return ax
