"""Tables in files: written whole or not at all, by one process at a time, and mapped into memory."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkit.ground.sources import one_at_a_time

_MANIFEST = "manifest.json"


def table(place: Path, spec: Any, chunks: Callable[[], Iterable[Any]]) -> Any:
    """The table in folder `place`, which is made first if it is not there, or not whole.

    A process that is killed while it writes leaves only a folder of another name, which the next one removes; a second
    process waits for the first.

    Args:
        place: the folder.
        spec: the types of a chunk of rows, as a `tf.data.Dataset` has them.
        chunks: gives the rows, some at a time: tensors in the structure of `spec`, which agree in all axes but the
            first, or ragged tensors.

    Returns:
        The tensors of all rows, in the same structure. Numbers stay in the files until they are read; texts do not.

    Raises:
        ValueError: if something else lies at `place`, or rows that do not begin as those that `chunks` would give.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "squares"
        >>> chunks = tf.data.Dataset.range(5).map(lambda n: {"square": n * n}).batch(2)
        >>> table(place, chunks.element_spec, lambda: chunks)["square"].numpy().tolist()
        [0, 1, 4, 9, 16]
    """
    files = iter(_written(place, lambda: map(columns, chunks())))

    def mapped() -> tf.Tensor:
        file, kind, shape = next(files)
        if 0 in shape:
            return tf.zeros(shape, kind)
        return tf.raw_ops.ImmutableConst(dtype=tf.as_dtype(kind), shape=shape, memory_region_name=str(file))

    def column(spec: Any) -> tf.Tensor:
        if spec.dtype != tf.string:
            return mapped()
        lengths, data = mapped(), mapped().numpy().tobytes()
        ends = np.cumsum(lengths)
        texts = [data[end - length : end] for end, length in zip(ends, np.ravel(lengths))]
        return tf.reshape(tf.constant(texts, tf.string), lengths.shape)

    def feature(spec: Any) -> tf.Tensor | tf.RaggedTensor:
        values = column(spec)
        if not isinstance(spec, tf.RaggedTensorSpec):
            return values
        lengths = [mapped() for _ in range(spec.ragged_rank)]
        return tf.RaggedTensor.from_nested_row_lengths(values, lengths, validate=False)

    with tf.device("/CPU:0"):
        return tf.nest.map_structure(feature, spec)


def columns(chunk: Any) -> list[np.ndarray]:
    """A chunk as arrays of numbers: of a ragged tensor values and lengths, of texts lengths and bytes."""
    found = []
    for feature in tf.nest.flatten(chunk):
        ragged = isinstance(feature, tf.RaggedTensor)
        values = feature.flat_values if ragged else feature
        if values.dtype == tf.string:
            text = b"".join(np.ravel(values.numpy()).tolist())
            found += [tf.strings.length(values).numpy(), np.frombuffer(text, np.uint8)]
        else:
            found.append(values.numpy())
        found += [lengths.numpy() for lengths in feature.nested_row_lengths()] if ragged else []
    return found


def _written(place: Path, chunks: Callable[[], Iterable[Sequence[np.ndarray]]]) -> list[tuple[Path, str, list[int]]]:
    """Of each column in folder `place`, made if need be, the file, the name of its type and its shape.

    A file holds nothing but the numbers of its column, for all rows.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(place.with_name(f"{place.name}.lock"), str(place)):
        if place.exists() and not (place / _MANIFEST).is_file():
            raise ValueError(f"{place} is no cache of the kit: name another place")
        if place.exists() and _is_whole(place):
            _check_same(place, next(iter(chunks())))
        else:
            for leftover in place.parent.glob(f".{place.name}-partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{place.name}-partial-", dir=place.parent))
            try:
                _write(partial, chunks())
                partial.rename(place)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return _columns(place)


def _write(folder: Path, chunks: Iterable[Sequence[np.ndarray]]) -> None:
    columns: list[dict] = []
    for chunk in chunks:
        columns = columns or [{"type": part.dtype.name, "shape": [0, *part.shape[1:]]} for part in chunk]
        for number, (column, part) in enumerate(zip(columns, chunk, strict=True)):
            with open(folder / f"{number}.bin", "ab") as file:
                file.write(np.ascontiguousarray(part).tobytes())
            column["shape"][0] += len(part)
    (folder / _MANIFEST).write_text(json.dumps(columns), encoding="utf-8")


def _columns(place: Path) -> list[tuple[Path, str, list[int]]]:
    columns = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
    return [(place / f"{number}.bin", column["type"], column["shape"]) for number, column in enumerate(columns)]


def _is_whole(place: Path) -> bool:
    """Whether each file has the size that its column should have: a crash of the whole machine may cut files short."""
    try:
        return all(
            file.stat().st_size == np.dtype(kind).itemsize * int(np.prod(shape))
            for file, kind, shape in _columns(place)
        )
    except (OSError, ValueError):
        return False


def _check_same(place: Path, chunk: Sequence[np.ndarray]) -> None:
    """Raises a ValueError unless the files begin with `chunk`, but for what another processor computes differently."""

    def same(column: tuple[Path, str, list[int]], part: np.ndarray) -> bool:
        file, kind, shape = column
        if kind != part.dtype.name or shape[1:] != list(part.shape[1:]) or shape[0] < len(part):
            return False
        found = np.fromfile(file, part.dtype, part.size).reshape(part.shape)
        if part.dtype.kind in "biu":
            return np.array_equal(found, part)
        return np.allclose(found.astype(float), part.astype(float), rtol=1e-2, atol=1e-3, equal_nan=True)

    columns = _columns(place)
    if len(columns) != len(chunk) or not all(map(same, columns, chunk)):
        raise ValueError(
            f"{place} was made by another `transform`, or from other data: delete it, or name another place"
        )
