"""A figure with controls under it; on a page without a kernel, the figure alone."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from mmkit.ground import settings


def explore(draw: Callable[..., Figure], **choices: Sequence[Any]) -> None:
    """Shows `draw(...)` with a slider for each of its choices, which draws it anew.

    At first, and where no kernel answers (a stored notebook, a web page, or `MMKIT_STATIC=1`), the figure of the first
    value of each choice is shown. Without the package ipywidgets there are no sliders.

    Args:
        draw: makes and returns a Matplotlib figure; takes the choices by name.
        choices: for each its values, the first of which is shown at the beginning.

    Raises:
        ValueError: if there is no choice, or one has no value.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from mmkit.lesson import explore
        >>> def draw(power):
        ...     figure, ax = plt.subplots()
        ...     ax.plot([x**power for x in range(5)])
        ...     return figure
        >>> explore(draw, power=[1, 2, 3])
        Figure(640x480)
    """
    if not choices or not all(len(values) for values in choices.values()):
        raise ValueError("explore wants one choice or more, each with its values: got " + (str(choices) or "none"))

    def drawn(**chosen: Any) -> Figure:
        figure = draw(**chosen)
        plt.close(figure)  # else the cell would show it a second time
        return figure

    shown = display(drawn(**{name: values[0] for name, values in choices.items()}), display_id=True)
    if settings.static() or shown is None:
        return
    try:
        import ipywidgets
    except ImportError:
        return
    sliders = {
        name: ipywidgets.SelectionSlider(options=list(values), description=name, continuous_update=False)
        for name, values in choices.items()
    }
    for slider in sliders.values():
        slider.observe(lambda _: shown.update(drawn(**{name: one.value for name, one in sliders.items()})), "value")
    display(ipywidgets.VBox(list(sliders.values())))
