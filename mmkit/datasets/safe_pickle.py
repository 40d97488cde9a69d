"""Reads pickled tables and arrays without running what a pickle may ask for, and without pandas."""

import io
import pickle

import numpy as np


class _Husk:
    """Stands for a class of pandas: keeps what it is made of and does nothing."""

    parts: tuple = ()
    state: object = None

    def __new__(cls, *parts, **_):
        husk = super().__new__(cls)
        husk.parts = parts
        return husk

    def __init__(self, *_, **__) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state


def _array_from_buffer(buffer, dtype, shape, order) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _empty_array(_, shape, dtype) -> np.ndarray:
    return np.ndarray(shape, dtype)


def _latin1(text: str, _) -> bytes:
    return text.encode("latin1")


_PANDAS = {
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
}
_ALLOWED = {
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
} | {place: type(place[1], (_Husk,), {}) for place in _PANDAS}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """The few names that data needs. A pickle that asks for another one, to run it, is refused."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no data") from None


def read(content: bytes) -> object:
    """The object in a pickle that holds plain Python values and NumPy arrays.

    Raises:
        pickle.UnpicklingError: if it asks for anything else, whatever that is: nothing of it is run.
    """
    return _Unpickler(io.BytesIO(content)).load()


def read_table(content: bytes) -> dict[str, np.ndarray]:
    """The columns of a pickled pandas table.

    Raises:
        pickle.UnpicklingError: if it is no such table, or asks for anything but data.
    """
    table = read(content)
    try:
        blocks, (columns, _) = table.state["_mgr"].parts
        names, rows = columns.parts[1]["data"], {}
        for values, places, *_ in (block.parts for block in blocks):
            rows |= zip(names[places].tolist(), values, strict=True)
        return {name: rows[name] for name in names}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise pickle.UnpicklingError(f"it is no table as pandas writes it ({error})") from None
