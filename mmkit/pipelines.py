"""From a TFDS data set to batches on the device that trains: one call, the same on CPU and GPU."""

import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from mmkit.ground import tables

Batch: TypeAlias = Any
"""A batch of examples: a tensor, a dict of them, or a tuple `(inputs, labels)` of such."""

Spec: TypeAlias = Any
"""The types and shapes of a batch, in the same structure."""

Buckets: TypeAlias = Mapping[str, Sequence[int]]
"""From the name of an input to the lengths at which a bucket ends and the next begins."""

_CHUNK = 250  # examples that are prepared at a time: enough to be quick, few enough for a small memory ...
_CHUNK_BYTES = 2**22  # ... of this size at most
_TENSOR_BYTES = 200  # what TensorFlow takes for a tensor, beside its numbers
_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
_plain = tf.autograph.experimental.do_not_convert  # AutoGraph takes longer over our own functions than they run


def batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    where: Callable[[Any], Any] | None = None,
    transform: Callable[[Batch], Batch] | None = None,
    cache: bool | str | os.PathLike = True,
    shuffle: bool = False,
    shuffle_bytes: int = 2**28,
    seed: int = 0,
    buckets: Buckets | None = None,
    drop_remainder: bool = False,
    augment: Callable[..., Batch] | None = None,
    device: str | None = None,
    start_step: int | None = None,
) -> tf.data.Dataset:
    """Batches for `model.fit`: clean, transform once, cache, shuffle, batch, augment anew each epoch, prefetch.

    Each pass over the result is an epoch in an order of its own, which `seed` and the number of the pass decide (a
    peek with `next(iter(...))` is a pass, too). With `start_step` the result is instead one endless pass that begins
    at that step of training, the same batches bit for bit as without an interruption; tell `fit` how many steps an
    epoch has:

        start = int(model.optimizer.iterations)  # a saved model knows how many steps it has trained
        train = batches(dataset, 64, shuffle=True, start_step=start)
        model.fit(train, steps_per_epoch=55, initial_epoch=start // 55, epochs=20)

    A `tf.train.Checkpoint` of the result's iterator holds the place in its own pass: enough to resume the endless pass
    of `start_step`, and the rest of one epoch otherwise. TensorFlow refuses it where `augment` keeps its own chance.

    A feature of unequal length is padded with zeros to the longest of its batch. The dict that names it then holds a
    mask beside it, `"<name>_mask"`, shape `(batch, time)`, True where there is data. `transform` meets such a feature
    as a `tf.RaggedTensor`, and may return one. `augment` meets it padded, and may turn the mask of a label for each
    step into the weights that `fit` takes: `augment=lambda x, y: (x, y["tag"], y["tag_mask"])`.

    Args:
        dataset: single examples, as `tfds.load` gives them.
        batch_size: examples a batch; the last batch may be smaller.
        where: from an example to whether it stays. None: all do.
        transform: from a batch of examples to a batch of what the model wants, deterministic. It runs once, before the
            cache, on chunks of examples, on the host. None: examples stay as they are.
        cache: True keeps the transformed examples in memory, at once. A path keeps them in a folder there, written at
            once or found from an earlier run, for data larger than memory; texts are held in memory all the same. False
            transforms anew each pass.
        shuffle: whether to draw a new order of all examples each epoch.
        shuffle_bytes: with `cache=False`, how much memory the shuffle may take. The data set is read once an epoch for
            each time that its examples, before `transform`, fill it: better cache what fills it often.
        seed: of the orders and of `augment`.
        buckets: from the name of one input to lengths in growing order, such as `{"audio": (20, 40)}`. A batch then
            holds examples between two of them, so that little is padded; each bucket's last batch may be smaller.
        drop_remainder: whether to leave out batches smaller than `batch_size`, so that all have one static size, as
            TPUs and `jit_compile=True` like it.
        augment: from a batch to a batch, random, run each time a batch is drawn, on the host. If it has an argument
            `seed` it gets one, shape `(2,)`, for TensorFlow's stateless functions: only then is its chance the same
            after an interruption, and only then are batches augmented in parallel. Otherwise it draws batch after
            batch, as the layers in it were seeded. To augment on the accelerator, see `mmkit.training.augmented`.
        device: where batches wait for the model, such as "/GPU:0". None: the first GPU if there is one, else the host.
            Leave it "/CPU:0" under a `tf.distribute` strategy, which places batches itself.
        start_step: how many batches have been trained on. None: finite passes.

    Returns:
        The batches.

    Raises:
        ValueError: if `batch_size` or `shuffle_bytes` is not positive, `start_step` is negative, the data set is empty
            or endless or `where` or `drop_remainder` leaves nothing of it, `where` or `transform` asks for a feature
            that is not there, a feature of unequal length has no name or the name of its mask is taken, `buckets` names
            no input of unequal length, the files at `cache` hold something else, or (cached) a sequence has length 0.
        tf.errors.InvalidArgumentError: if a sequence has length 0, and there is no cache: when it is drawn.

    Example:
        >>> import tensorflow as tf
        >>> from mmkit.pipelines import batches
        >>> sounds = tf.ragged.constant([[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]])
        >>> dataset = tf.data.Dataset.from_tensor_slices(({"sound": sounds}, [0, 1, 0]))
        >>> for inputs, labels in batches(dataset, 2):
        ...     print(inputs["sound"].numpy().tolist(), inputs["sound_mask"].numpy().tolist(), labels.numpy().tolist())
        [[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]] [[True, True, True], [True, False, False]] [0, 1]
        [[5.0, 6.0]] [[True, True]] [0]
    """
    if batch_size < 1 or shuffle_bytes < 1:
        raise ValueError(f"batch_size and shuffle_bytes must be positive: got {batch_size} and {shuffle_bytes}")
    if start_step is not None and start_step < 0:
        raise ValueError(f"start_step must not be negative: got {start_step}")
    examples = _cleaned(dataset, where)
    chunk = _chunk(examples)
    chunks = _transformed(examples, transform, chunk)
    if cache is False:
        unchanged = transform is None
        if not unchanged:
            _check_shapes(chunks.element_spec)
        prepare = (lambda drawn: drawn) if unchanged else lambda drawn: _transformed(drawn, transform, chunk).unbatch()
        source = _Stream(examples, prepare, buckets, shuffle_bytes if shuffle else None)
    elif cache is True:
        source = _Table(_in_memory(chunks), buckets)
    else:
        source = _Table(_in_files(chunks, Path(cache), int(examples.cardinality())), buckets)
    per_epoch = source.steps(batch_size, drop_remainder)
    if per_epoch is None and start_step is not None:
        per_epoch = _length(source.batched(source.examples(None), batch_size, drop_remainder))
    if per_epoch == 0:
        raise ValueError(f"no batch has {batch_size} examples: take a smaller batch_size, or not drop_remainder")

    @_plain
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        """One epoch's batches in order, each with a number that no other batch has."""
        drawn = source.examples(_fold(seed, 0, number) if shuffle else None)
        return source.batched(drawn, batch_size, drop_remainder).enumerate(start=number * 2**32)

    if start_step is None:
        stream = _numbers_of_passes().flat_map(epoch)
    else:
        stream = tf.data.Dataset.range(start_step // per_epoch, 2**31 - 1).flat_map(epoch).skip(start_step % per_epoch)
        per_epoch = tf.data.INFINITE_CARDINALITY
    stream = _finished(stream, source.fetch, batch_size if drop_remainder else None, augment, seed)
    if per_epoch is not None:
        stream = stream.apply(tf.data.experimental.assert_cardinality(per_epoch))
    if device is None and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"
    if device is not None and "GPU" in device.upper():
        return stream.apply(tf.data.experimental.prefetch_to_device(device))
    return stream.prefetch(tf.data.AUTOTUNE)


def arrays(dataset: tf.data.Dataset, *, transform: Callable[[Batch], Batch] | None = None) -> Any:
    """A whole data set as arrays, for what is small enough to hold in memory.

    A feature of unequal length is padded with zeros to the longest of the data set, with a mask beside it, as `batches`
    has it.

    Args:
        dataset: single examples, as `tfds.load` gives them.
        transform: from a batch of examples to a batch of what is wanted; it meets chunks of examples. None: examples
            stay as they are.

    Returns:
        What `transform` returns (or an example holds), with an array over all examples in the place of each tensor.

    Raises:
        ValueError: if the data set is empty or endless, `transform` asks for a feature that is not there, a feature of
            unequal length has no name or the name of its mask is taken, or a sequence has length 0.

    Example:
        >>> import tensorflow as tf
        >>> from mmkit.pipelines import arrays
        >>> dataset = tf.data.Dataset.from_tensor_slices({"height": [1.0, 2.0, 4.0], "label": [0, 1, 1]})
        >>> inputs, labels = arrays(dataset, transform=lambda rows: ({"half": rows["height"] / 2}, rows["label"]))
        >>> inputs["half"].tolist(), labels.tolist()
        ([0.5, 1.0, 2.0], [0, 1, 1])
    """
    examples = _cleaned(dataset, None)
    table = _in_memory(_transformed(examples, transform, _chunk(examples)))
    return tf.nest.map_structure(lambda feature: feature.numpy(), _padded(table))


# --- from examples to a table, or to a stream -------------------------------------------------------------------------


class _Table:
    """Rows in memory or mapped from files. An epoch is an order of their places, so no step is replayed to resume."""

    def __init__(self, table: Batch, buckets: Buckets | None) -> None:
        self.table, self.count, self.bucket = table, int(_count(table)), None
        inputs = _inputs(table)
        lengths = {
            name: feature.row_lengths() for name, feature in inputs.items() if isinstance(feature, tf.RaggedTensor)
        }
        if buckets:
            name, limits = _bucketing(buckets, inputs, list(lengths))
            self.bucket = _bucket(lengths[name], limits)

    def examples(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        order = tf.range(self.count, dtype=tf.int64)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        return tf.data.Dataset.from_tensor_slices(order)

    def batched(self, places: tf.data.Dataset, size: int, drop_remainder: bool) -> tf.data.Dataset:
        if self.bucket is None:
            return places.batch(size, drop_remainder)
        alike = _plain(lambda _, alike: alike.batch(size, drop_remainder))
        return places.group_by_window(_plain(lambda place: self.bucket[place]), alike, window_size=size)

    def fetch(self, places: tf.Tensor) -> Batch:
        return tf.nest.map_structure(lambda feature: tf.gather(feature, places), self.table)

    def steps(self, size: int, drop_remainder: bool) -> int:
        counts = [self.count] if self.bucket is None else np.bincount(self.bucket)
        return int(sum(count // size if drop_remainder else -(-count // size) for count in counts))


class _Stream:
    """Examples one after another, transformed anew each epoch.

    An order of all examples wants them all at hand. In bounded memory it takes several readings of the data set: each
    keeps a random part, which fits, and shuffles it. What a buffer of examples that moves over a stream mixes are
    neighbours alone, so that one sorted by class stays so.
    """

    def __init__(
        self,
        raw: tf.data.Dataset,
        prepare: Callable[[tf.data.Dataset], tf.data.Dataset],
        buckets: Buckets | None,
        shuffle_bytes: int | None,
    ) -> None:
        self.raw, self.prepare = raw, prepare
        self.count = int(raw.cardinality())
        if shuffle_bytes is not None:
            self.count = _length(raw) if self.count < 0 else self.count
            self.buffer = max(1, int(shuffle_bytes / _bytes(raw)))
            self.parts = -(-self.count // max(1, int(0.9 * self.buffer)))  # parts differ in size by chance
            if self.parts > 10:
                warnings.warn(
                    f"to shuffle the data set in {shuffle_bytes / 2**20:.0f} MB it is read {self.parts} times a pass: "
                    "better give `cache` a path, or raise `shuffle_bytes`",
                    stacklevel=3,
                )
        self.buckets = None
        if buckets:
            inputs = _inputs(self.examples(None).element_spec)
            self.buckets = _bucketing(buckets, inputs, [name for name in inputs if _uneven(inputs[name])])

    def examples(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        drawn = self.raw
        if seed is not None:
            drawn = tf.data.Dataset.range(self.parts).flat_map(_plain(lambda part: self._part(part, seed)))
        drawn = self.prepare(drawn)
        return drawn if self.count < 0 else drawn.apply(tf.data.experimental.assert_cardinality(self.count))

    def _part(self, part: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
        """The examples that the seed puts into one of the parts, in a random order."""
        tf.random.set_seed(1)  # of the graph that is traced here: the order owes nothing to the program's own seed
        examples = self.raw

        def belongs(place: tf.Tensor, _: Any) -> tf.Tensor:
            chance = tf.random.experimental.stateless_fold_in(seed, place)
            return tf.random.stateless_uniform((), chance, 0, self.parts, tf.int64) == part

        if self.parts > 1:
            examples = examples.enumerate().filter(_plain(belongs)).map(_plain(lambda _, example: example))
        own = tf.random.experimental.stateless_fold_in(seed, part)[0]
        return examples.shuffle(self.buffer, seed=own, reshuffle_each_iteration=False)

    def batched(self, examples: tf.data.Dataset, size: int, drop_remainder: bool) -> tf.data.Dataset:
        if self.buckets is None:
            return _batch(examples, size, drop_remainder)
        name, limits = self.buckets
        return examples.group_by_window(
            _plain(lambda *example: _bucket(tf.shape(_inputs(example)[name])[0], limits)),
            _plain(lambda _, alike: _batch(alike, size, drop_remainder)),
            window_size=size,
        )

    def fetch(self, batch: Batch) -> Batch:
        return batch

    def steps(self, size: int, drop_remainder: bool) -> int | None:
        if self.buckets or self.count < 0:
            return None
        return self.count // size if drop_remainder else -(-self.count // size)


def _cleaned(dataset: tf.data.Dataset, where: Callable[[Any], Any] | None) -> tf.data.Dataset:
    """The examples that stay, at least one and not endlessly many."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the data set never ends: take(n) some of it")
    if _is_empty(dataset):
        raise ValueError("the data set is empty: check the name of the split")
    if where is not None:
        dataset = _applied("where", where, dataset.filter, dataset)
        if _is_empty(dataset):
            raise ValueError("where leaves no example of the data set")
    return dataset


def _is_empty(dataset: tf.data.Dataset) -> bool:
    return dataset.cardinality() < 1 and next(iter(dataset.take(1)), None) is None


def _chunk(examples: tf.data.Dataset) -> int:
    """How many examples to transform at a time."""
    return max(1, min(_CHUNK, int(_CHUNK_BYTES / _bytes(examples))))


def _transformed(examples: tf.data.Dataset, transform: Callable[[Batch], Batch] | None, chunk: int) -> tf.data.Dataset:
    """Chunks of examples, transformed."""
    chunks = raw = _batch(examples, chunk)
    if transform is not None:
        chunks = _applied("transform", transform, lambda call: raw.map(call, **_PARALLEL), examples)
    _check_names(chunks.element_spec)
    return chunks


def _applied(what: str, function: Callable, method: Callable, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`method(function)`; a feature that `function` asks for in vain is named in the error.

    AutoGraph, which makes graphs of Python's `if` and `for` over tensors, takes up to half a second to read a function.
    One that gets by without it, as nearly all do, is spared it.
    """
    try:
        try:
            return method(_plain(function))
        except TypeError:  # among them: a tensor where Python wants a truth or a number
            return method(tf.function(function))
    except KeyError as error:
        there = dataset.element_spec
        name = str(error.args[0]).rsplit("KeyError: ", 1)[-1].strip(" '\n")  # AutoGraph may quote the code around it
        if not isinstance(there, dict) or name in there:
            raise
        raise ValueError(f"{what} asks for {name!r}: the data set has {', '.join(there)}") from error


def _in_memory(chunks: tf.data.Dataset) -> Batch:
    """All chunks as one table."""
    with tf.device("/CPU:0"):
        return _checked(tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *_alike(chunks)))


def _in_files(chunks: tf.data.Dataset, place: Path, count: int) -> Batch:
    """All chunks as one table, mapped from files in folder `place`. `count` rows, or negative: unknown."""
    table = _checked(tables.table(place, chunks.element_spec, lambda: _alike(chunks)))
    if 0 <= count != _count(table):
        raise ValueError(f"{place} holds {_count(table)} examples and the data set {count}: delete it, or name another")
    return table


def _alike(chunks: tf.data.Dataset) -> Iterator[Batch]:
    """The chunks, if their features agree in shape."""
    first = None
    for chunk in chunks:
        shapes = [() if isinstance(part, tf.RaggedTensor) else tuple(part.shape[1:]) for part in tf.nest.flatten(chunk)]
        first = first or shapes
        if shapes != first:
            differ = next(pair for pair in zip(first, shapes) if pair[0] != pair[1])
            raise ValueError(
                f"what `transform` returns has another shape in each chunk of examples, {differ[0]} and {differ[1]}: "
                "leave features of unequal length ragged"
            )
        yield chunk


# --- what both share --------------------------------------------------------------------------------------------------


def _numbers_of_passes() -> tf.data.Dataset:
    """One number: of how many times it was asked for one before."""
    passes = itertools.count()

    @_plain
    def number(zero: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(lambda _: next(passes), [zero], tf.int64), ())

    return tf.data.Dataset.from_tensors(0).map(number)


def _finished(
    stream: tf.data.Dataset,
    fetch: Callable[[Any], Batch],
    rows: int | None,
    augment: Callable[..., Batch] | None,
    seed: int,
) -> tf.data.Dataset:
    """The batches of numbered ones, padded and augmented. `rows`: examples in each, if all have as many."""
    takes_seed = augment is not None and "seed" in inspect.signature(augment).parameters

    def finished(augmenting: Callable[..., Batch] | None) -> tf.data.Dataset:
        def finish(number: tf.Tensor, batch: Any) -> Batch:
            batch = _padded(fetch(batch), rows)
            if augmenting is None:
                return batch
            chance = {"seed": _fold(seed, 1, number)} if takes_seed else {}
            return augmenting(*batch, **chance) if isinstance(batch, tuple) else augmenting(batch, **chance)

        # What keeps its own chance must draw in order: in parallel, batches would race for the next number.
        return stream.map(_plain(finish), **(_PARALLEL if augment is None or takes_seed else {}))

    stream = finished(None) if augment is None else _applied("augment", augment, finished, stream)
    if augment is None or takes_seed:  # an iterator can be saved: its place says all
        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        stream = stream.with_options(options)
    return stream


def _inputs(batch: Batch) -> dict[str, Any]:
    """The named inputs of a batch `(inputs, label)` or `inputs`; none if it has no names."""
    first = batch[0] if isinstance(batch, tuple) else batch
    return first if isinstance(first, dict) else {}


def _uneven(spec: Spec) -> bool:
    return not spec.shape.is_fully_defined()


def _batch(dataset: tf.data.Dataset, size: int, drop_remainder: bool = False) -> tf.data.Dataset:
    """Batches; features of unequal length become ragged tensors."""
    if any(map(_uneven, tf.nest.flatten(dataset.element_spec))):
        return dataset.ragged_batch(size, drop_remainder)
    return dataset.batch(size, drop_remainder, **_PARALLEL)


def _count(batch: Batch) -> int:
    """How many examples a batch holds."""
    first = tf.nest.flatten(batch)[0]
    return int(first.nrows() if isinstance(first, tf.RaggedTensor) else len(first))


def _length(dataset: tf.data.Dataset) -> int:
    """How many elements there are, counted."""
    return int(dataset.reduce(np.int64(0), _plain(lambda count, _: count + 1)))


def _bytes(examples: tf.data.Dataset) -> float:
    """How much memory an example takes: by its shapes, or, where they do not say it, by the first fifty examples."""
    specs = tf.nest.flatten(examples.element_spec)
    if any(map(_uneven, specs)) or any(spec.dtype == tf.string for spec in specs):
        first = [tf.nest.flatten(example, expand_composites=True) for example in examples.take(50)]
        size = np.mean([sum(column.nbytes for column in tables.columns(example)) for example in first])
    else:
        size = sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)
    return float(size) + _TENSOR_BYTES * len(specs)


def _fold(seed: int, purpose: int, number: tf.Tensor) -> tf.Tensor:
    """A seed, shape `(2,)`, for one purpose and one epoch or batch."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, purpose], tf.int64), number)


def _bucketing(buckets: Buckets, inputs: dict[str, Any], uneven: list[str]) -> tuple[str, list[int]]:
    (name, limits), *more = buckets.items()
    if more or name not in uneven:
        raise ValueError(
            f"buckets must name one input of unequal length, of {', '.join(uneven) or 'which there is none'}: "
            f"got {', '.join(buckets)}; the inputs are {', '.join(inputs) or 'without names'}"
        )
    if not limits or sorted(set(limits)) != list(limits):
        raise ValueError(f"buckets wants lengths in growing order: got {list(limits)}")
    return name, list(limits)


def _bucket(length: tf.Tensor, limits: Sequence[int]) -> tf.Tensor:
    """Which bucket a length, or each of several, falls into: the number of limits that it reaches."""
    return tf.reduce_sum(tf.cast(tf.cast(length, tf.int64)[..., None] >= tf.constant(limits, tf.int64), tf.int64), -1)


def _check_names(spec: Spec, place: str = "each example") -> None:
    """Raises a ValueError if a feature of unequal length has no name for its mask, or the name is taken."""
    if isinstance(spec, tuple):
        for number, part in enumerate(spec):
            _check_names(part, f"part {number + 1} of {place}")
    elif isinstance(spec, dict):
        for name, feature in spec.items():
            if not isinstance(feature, tf.RaggedTensorSpec):
                _check_names(feature, f"{name!r} of {place}")
            elif f"{name}_mask" in spec:
                raise ValueError(f"'{name}_mask' is taken, and {name!r} needs it for its mask: give it another name")
    elif isinstance(spec, tf.RaggedTensorSpec):
        raise ValueError(
            f"{place} is of unequal length and has no name, which its mask would need: "
            "let `transform` put it into a dict, such as {'name': feature}"
        )


def _check_shapes(spec: Spec) -> None:
    """Raises a ValueError if a feature of equal length does not say its shape: a stream would take it for unequal."""
    for feature in tf.nest.flatten(spec):
        if not isinstance(feature, tf.RaggedTensorSpec) and not feature.shape[1:].is_fully_defined():
            raise ValueError(
                f"with cache=False, `transform` must tell the shapes that it returns: one is {feature.shape}: leave "
                "features of unequal length ragged, and call tf.ensure_shape on others"
            )


_EMPTY = "{!r} holds a sequence of length 0: leave such examples out with `where`"


def _checked(table: Batch) -> Batch:
    """The table, if no sequence in it has length 0."""
    parts = [table]
    while parts:
        part = parts.pop()
        for name, feature in part.items() if isinstance(part, dict) else ():
            if isinstance(feature, tf.RaggedTensor) and 0 in feature.row_lengths().numpy():
                raise ValueError(_EMPTY.format(name))
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else ()
    return table


def _padded(batch: Batch, rows: int | None = None) -> Batch:
    """Features of unequal length padded with zeros, each with its mask beside it. `rows`: how many, if known."""
    if isinstance(batch, tuple):
        parts = [_padded(part, rows) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if not isinstance(batch, dict):
        return batch
    full = {}
    for name, feature in batch.items():
        full[name] = _padded(feature, rows)
        if isinstance(feature, tf.RaggedTensor):
            lengths = feature.row_lengths()
            with tf.control_dependencies([tf.debugging.assert_positive(lengths, _EMPTY.format(name))]):
                steps = feature.to_tensor(shape=(rows, *(None,) * (len(feature.shape) - 1)))
            full[name], full[f"{name}_mask"] = steps, tf.sequence_mask(tf.ensure_shape(lengths, (rows,)))
    return full
