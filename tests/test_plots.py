"""The plots: what is asked for is drawn, and a wrong shape is named."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from mmkit import plots  # noqa: E402
from mmkit.evaluate import Interval  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


@pytest.mark.parametrize("shape", [(7, 28, 28), (7, 28, 28, 1)])
def test_image_grid(shape):
    axes = plots.image_grid(np.zeros(shape), [str(i) for i in range(7)], columns=4)
    assert axes.shape == (2, 4)
    assert [len(ax.images) for ax in axes.flat] == 7 * [1] + [0]
    assert axes[0, 3].get_title() == "3"
    axes[0, 0].figure.canvas.draw()


def test_image_grid_refuses():
    with pytest.raises(ValueError, match=r"image_grid wants shape .* got \(7, 28\)"):
        plots.image_grid(np.zeros((7, 28)))
    with pytest.raises(ValueError, match=r"got \(7, 28, 28, 3\)"):
        plots.image_grid(np.zeros((7, 28, 28, 3)))
    with pytest.raises(ValueError, match="one title per picture: got 1 for 7"):
        plots.image_grid(np.zeros((7, 28, 28)), ["one"])


def test_intervals():
    results = {"touch": Interval(0.5, 0.4, 0.6), "image": Interval(0.8, 0.7, 0.9)}
    ax = plots.intervals(results, xlabel="test accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["touch", "image"]
    assert ax.get_xlabel() == "test accuracy" and ax.yaxis_inverted()
    assert list(ax.lines[0].get_xdata()) == [0.4, 0.6]
    assert plots.intervals(results, xlabel="again", ax=ax) is ax


def test_confusion():
    ax = plots.confusion(np.array([[8, 2], [0, 0]]), ["a", "b"], title="a test")
    shown = np.asarray(ax.images[0].get_array())
    assert shown.tolist() == [[0.0, 0.2], [0.0, 0.0]]  # shares of the true class, no row of nothing divided by zero
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("predicted", "true", "a test")
    assert plots.confusion(np.eye(3), "abc", title="again", ax=ax) is ax


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (2,)])
def test_confusion_refuses(shape):
    with pytest.raises(ValueError, match="confusion wants a square matrix"):
        plots.confusion(np.zeros(shape), ["a", "b"], title="x")
