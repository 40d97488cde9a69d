"""The plots: what is asked for is drawn, and a wrong shape is named."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from mmkit.evaluate import Interval  # noqa: E402
from mmkit.lesson import plots  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


@pytest.mark.parametrize("shape", [(7, 28, 28), (7, 28, 28, 1), (7, 28, 28, 3)])
def test_image_grid(shape):
    axes = plots.image_grid(np.zeros(shape), [str(i) for i in range(7)], columns=4)
    assert axes.shape == (2, 4)
    assert [len(ax.images) for ax in axes.flat] == 7 * [1] + [0]
    assert axes[0, 3].get_title() == "3"
    axes[0, 0].figure.canvas.draw()


def test_image_grid_refuses():
    with pytest.raises(ValueError, match=r"image_grid wants shape .* got \(7, 28\)"):
        plots.image_grid(np.zeros((7, 28)))
    with pytest.raises(ValueError, match=r"got \(7, 28, 28, 2\)"):
        plots.image_grid(np.zeros((7, 28, 28, 2)))
    with pytest.raises(ValueError, match="one title per picture: got 1 for 7"):
        plots.image_grid(np.zeros((7, 28, 28)), ["one"])


def test_intervals():
    results = {"touch": Interval(0.5, 0.4, 0.6), "image": Interval(0.8, 0.7, 0.9)}
    ax = plots.intervals(results, xlabel="test accuracy")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["touch", "image"]
    assert ax.get_xlabel() == "test accuracy" and ax.yaxis_inverted()
    assert list(ax.lines[0].get_xdata()) == [0.4, 0.6]
    assert plots.intervals(results, xlabel="again", ax=ax) is ax


@pytest.mark.parametrize("log", [True, False])
def test_curves(log):
    results = {
        "from scratch": {100: Interval(0.5, 0.4, 0.7), 10: Interval(0.2, 0.1, 0.3)},
        "frozen": {10: Interval(0.6, 0.5, 0.65)},
    }
    ax = plots.curves(results, xlabel="labels", ylabel="accuracy", log=log)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("labels", "accuracy", "log" if log else "linear")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(results)
    first, second = (container.lines for container in ax.containers)
    assert list(first[0].get_ydata()) == [0.2, 0.5]  # by growing x, whatever the order of the results
    assert list(first[0].get_xdata()) == pytest.approx([10, 100], rel=0.1)
    assert list(second[0].get_xdata()) > list(first[0].get_xdata())[:1]
    assert first[2][0].get_segments()[1][:, 1] == pytest.approx([0.4, 0.7])  # its interval
    if log:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    assert plots.curves(results, xlabel="again", ylabel="", ax=ax) is ax


def test_curves_write_numbers_out():
    ax = plots.curves({"one": {x: Interval(0, 0, 0) for x in (0.05, 770, 5_324_162)}}, xlabel="weights", ylabel="")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.05", "770", "5,324,162"]


def test_curves_refuse():
    with pytest.raises(ValueError, match="one result or more"):
        plots.curves({"nothing": {}}, xlabel="", ylabel="")
    with pytest.raises(ValueError, match="got 0; pass log=False"):
        plots.curves({"one": {0: Interval(0, 0, 0)}}, xlabel="", ylabel="")


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


HISTORY = {"loss": [3.0, 1.0, 0.5], "val_loss": [3.1, 1.5, 1.9], "accuracy": [0.1, 0.6, 0.9]}


def test_training_draws_both_curves_and_marks_the_best_epoch():
    loss, accuracy = plots.training(HISTORY, title="late fusion")
    training, validation, best = loss.get_lines()
    assert list(training.get_ydata()) == HISTORY["loss"] and list(validation.get_ydata()) == HISTORY["val_loss"]
    assert list(training.get_xdata()) == [1, 2, 3] and list(best.get_xdata()) == [2, 2]
    assert loss.get_title() == "late fusion" and loss.get_xlabel() == "epoch"
    assert training.get_linestyle() != validation.get_linestyle(), "to be told apart in grey"
    assert [len(ax.get_lines()) for ax in (loss, accuracy)] == [3, 2] and accuracy.get_ylabel() == "accuracy"


def test_training_takes_what_fit_returns_and_axes_of_its_own():
    class Fitted:
        history = HISTORY

    _, mine = plt.subplots(1, 2)
    assert list(plots.training(Fitted(), axes=mine)) == list(mine)
    assert len(plots.training(HISTORY, metric="auc")) == 1
    for empty in ({}, {"loss": []}, {"val_loss": [1.0]}):
        with pytest.raises(ValueError, match="wants a history with a loss"):
            plots.training(empty)


def test_regions_tint_the_plane_by_the_predicted_class():
    x, labels = np.array([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]), np.array([0, 1, 1])
    ax = plots.regions(lambda points: (points[:, 0] > 0).astype(int), x, labels, title="half and half")
    tint = ax.get_images()[0]
    classes = np.asarray(tint.get_array())
    assert classes[:, 0].max() == 0 and classes[:, -1].min() == 1, "class 0 on the left, 1 on the right"
    left, right, bottom, top = tint.get_extent()
    assert left < -1 and right > 1 and bottom < -1 and top > 1, "all examples lie inside"
    assert [len(line.get_xdata()) for line in ax.get_lines()] == [1, 2], "a line of markers a class"
    assert len({line.get_marker() for line in ax.get_lines()}) == 2, "to be told apart in grey"


@pytest.mark.parametrize("shape, label", [((3, 3), 0), ((3, 2), 6), ((3,), 0)])
def test_regions_refuse(shape, label):
    with pytest.raises(ValueError, match="regions wants points"):
        plots.regions(lambda points: np.zeros(len(points)), np.zeros(shape), np.full(3, label))
