"""The self-check of an exercise: one line that says whether the answer is right, and if not, what to look at."""

from collections.abc import Callable
from typing import Any


def grade(check: Callable[..., None], *answer: Any) -> None:
    """Runs `check(*answer)` and prints the verdict: "Right." or "Not yet: ..." with the reason.

    A check is a function with asserts, each with a message that helps: `assert x > 0, "the loss cannot be negative"`.
    An answer that raises an error is "not yet" as well, so that a notebook with unsolved exercises still runs to its
    end. It returns nothing, so that a cell may end in it and shows the verdict alone.
    """
    try:
        check(*answer)
    except AssertionError as error:
        print(f"Not yet: {error}" if str(error) else "Not yet.")
    except Exception as error:  # whatever a learner's answer can raise
        print(f"Not yet: the answer raises {type(error).__name__}: {error}")
    else:
        print("Right.")
