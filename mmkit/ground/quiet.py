"""Importing TensorFlow without its start-up log lines."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Holds back what C++ code writes to stderr inside the `with` block; shows it after all if the block raises.

    TensorFlow's libraries log a dozen lines while they load, before any setting of theirs can stop it. They say nothing
    that a lesson needs, and end up in its pages. What is wrong with the accelerator, `python -m mmkit doctor` tells.

    Example:
        >>> from mmkit import quiet_imports
        >>> with quiet_imports():
        ...     import tensorflow as tf
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
                if "tensorflow" in sys.modules:  # the first look for an accelerator logs as well
                    sys.modules["tensorflow"].config.list_physical_devices()
            except BaseException:
                os.dup2(kept, 2)
                held.seek(0)
                os.write(2, held.read())
                raise
            finally:
                os.dup2(kept, 2)
    finally:
        os.close(kept)
