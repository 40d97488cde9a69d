"""The self-check of an exercise: one line that says whether the answer is right, and if not, what to look at."""

from collections.abc import Callable
from typing import Any


def grade(check: Callable[..., None], *answer: Any) -> None:
    """Runs `check(*answer)` and prints the verdict: "Right." or "Not yet: ..." with the reason.

    An answer that raises an error is "not yet" as well, so that a notebook with unsolved exercises still runs to its
    end. It returns nothing, so that a cell may end in it and shows the verdict alone.

    Args:
        check: a function with asserts, each with a message that helps.
        answer: what the learner made; a function as a rule.

    Example:
        >>> from mmkit.lesson import grade
        >>> def check_1(loss):
        ...     assert loss(1.0, 3.0) > 0, "the loss cannot be negative: square the difference"
        >>> grade(check_1, lambda y, prediction: y - prediction)
        Not yet: the loss cannot be negative: square the difference
        >>> grade(check_1, lambda y, prediction: (y - prediction) ** 2)
        Right.
    """
    try:
        check(*answer)
    except AssertionError as error:
        print(f"Not yet: {error}" if str(error) else "Not yet.")
    except Exception as error:  # whatever a learner's answer can raise
        print(f"Not yet: the answer raises {type(error).__name__}: {error}")
    else:
        print("Right.")
