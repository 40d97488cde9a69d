"""From a TFDS data set to batches on the device that trains: one call, the same on CPU and GPU."""

import inspect
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_CHUNK = 250  # examples that are prepared at a time: enough to be quick, few enough for a small memory
_WINDOW = 2_000  # examples among which a data set that is not in memory is shuffled
_PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


def batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    where: Callable[[Any], Any] | None = None,
    transform: Callable[[Any], Any] | None = None,
    cache: bool | str | os.PathLike = True,
    shuffle: bool = False,
    seed: int = 0,
    buckets: Mapping[str, Sequence[int]] | None = None,
    augment: Callable[..., Any] | None = None,
    device: str | None = None,
    start_step: int | None = None,
) -> tf.data.Dataset:
    """Batches for `model.fit`: clean, prepare once, cache, shuffle, batch, augment anew each epoch, prefetch.

    Each pass over the result is an epoch in an order of its own, which `seed` and the number of the pass decide (a
    peek with `next(iter(...))` is a pass, too). With `start_step` the result is instead one endless pass that begins
    at that step of training, the same batches bit for bit as without an interruption; tell `fit` how many steps an
    epoch has:

        start = int(model.optimizer.iterations)  # a saved model knows how many steps it has trained
        train = batches(dataset, 64, shuffle=True, start_step=start)
        model.fit(train, steps_per_epoch=55, initial_epoch=start // 55, epochs=20)

    A feature of unequal length is padded with zeros to the longest of its batch. The inputs, a dict, then hold a mask
    beside it, `"<name>_mask"`, shape `(batch, time)`, True where there is data. `transform` meets such a feature as a
    `tf.RaggedTensor`, and may return one.

    Args:
        dataset: single examples, as `tfds.load` gives them.
        batch_size: examples a batch; the last batch may be smaller.
        where: from an example to whether it stays.
        transform: from a batch of examples to a batch of what the model wants, deterministic. It runs once, before the
            cache, on chunks of examples, on the host.
        cache: True keeps the prepared examples in memory, at once; a path in files that begin so, written in the first
            pass and read by all later ones (delete them when `transform` changes); False prepares anew each pass. In
            memory all examples are shuffled together, else 2,000 at a time.
        shuffle: whether to draw a new order each epoch.
        seed: of the orders and of `augment`.
        buckets: from the name of one input to lengths in growing order, such as `{"audio": (20, 40)}`. A batch then
            holds examples between two of them, so that little is padded; each bucket's last batch may be smaller.
        augment: from a batch to a batch, random, run each time a batch is drawn, on the host. If it has an argument
            `seed` it gets one, shape `(2,)`, for Keras's and TensorFlow's stateless functions: only then is its chance
            the same after an interruption, and only then are batches augmented in parallel. Otherwise it draws batch
            after batch, as the layers in it were seeded. To augment on the accelerator, see `augmented`.
        device: where batches wait for the model, such as "/GPU:0". None: the first GPU if there is one, else the host.
            Leave it "/CPU:0" under a `tf.distribute` strategy, which places batches itself.
        start_step: how many batches have been trained on. None: finite passes.

    Returns:
        The batches.

    Raises:
        ValueError: if `batch_size` is not positive, `start_step` is negative, the data set is empty or endless or
            `where` leaves nothing of it, `where` or `transform` asks for a feature that is not there, `buckets` names
            no input of unequal length, or (in memory) a sequence has length 0.
        tf.errors.InvalidArgumentError: if a sequence has length 0, and the cache is not in memory: when it is drawn.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive: got {batch_size}")
    if start_step is not None and start_step < 0:
        raise ValueError(f"start_step must not be negative: got {start_step}")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("the data set never ends: take(n) some of it")
    if next(iter(dataset.take(1)), None) is None:
        raise ValueError("the data set is empty: check the name of the split")
    if where is not None:
        dataset = _applied("where", where, dataset.filter, dataset)
        if next(iter(dataset.take(1)), None) is None:
            raise ValueError("where leaves no example of the data set")
    chunks = raw = _batch(dataset, _CHUNK)
    if transform is not None:
        chunks = _applied("transform", transform, lambda call: raw.map(call, **_PARALLEL), dataset)
    if cache is True:
        source = _InMemory(chunks, buckets)
    else:
        examples = dataset if transform is None else chunks.unbatch()
        if (count := int(dataset.cardinality())) > 0:
            examples = examples.apply(tf.data.experimental.assert_cardinality(count))
        source = _Streamed(examples, cache, buckets)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        """One epoch's batches in order, each with a number that no other batch has."""
        examples = source.examples(_fold(seed, 0, number) if shuffle else None)
        return source.batched(examples, batch_size).enumerate(start=number * 2**32)

    takes_seed = augment is not None and "seed" in inspect.signature(augment).parameters

    def finish(number: tf.Tensor, batch: Any) -> Any:
        batch = _padded(source.fetch(batch))
        if augment is None:
            return batch
        chance = {"seed": _fold(seed, 1, number)} if takes_seed else {}
        return augment(*batch, **chance) if isinstance(batch, tuple) else augment(batch, **chance)

    if start_step is None:
        passes = itertools.count()
        number = tf.data.Dataset.from_tensors(0).map(lambda _: tf.numpy_function(lambda: next(passes), [], tf.int64))
        stream = number.flat_map(lambda number: epoch(tf.ensure_shape(number, ())))
        steps = source.steps(batch_size)
    else:
        per_epoch = source.steps(batch_size) or _length(source.batched(source.examples(None), batch_size))
        stream = tf.data.Dataset.range(start_step // per_epoch, 2**31 - 1).flat_map(epoch).skip(start_step % per_epoch)
        steps = tf.data.INFINITE_CARDINALITY
    # What keeps its own chance must draw in order: in parallel, batches would race for the next number.
    stream = stream.map(finish, **(_PARALLEL if augment is None or takes_seed else {}))
    if steps:
        stream = stream.apply(tf.data.experimental.assert_cardinality(steps))
    if device is None and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"
    if device is not None and "GPU" in device.upper():
        return stream.apply(tf.data.experimental.prefetch_to_device(device))
    return stream.prefetch(tf.data.AUTOTUNE)


class _InMemory:
    """The prepared examples as one table. An epoch is an order of its rows, so no step need be replayed to resume."""

    def __init__(self, chunks: tf.data.Dataset, buckets: Mapping[str, Sequence[int]] | None) -> None:
        with tf.device("/CPU:0"):
            self.table = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *chunks)
            self.count = int(_count(self.table))
            lengths = {
                name: feature.row_lengths()
                for name, feature in _inputs(self.table).items()
                if isinstance(feature, tf.RaggedTensor)
            }
            for name in lengths:
                if 0 in lengths[name].numpy():
                    raise ValueError(f"{name!r} holds a sequence of length 0: leave such examples out with `where`")
            self.bucket = None
            if buckets:
                name, limits = _bucketing(buckets, _inputs(self.table), list(lengths))
                self.bucket = _bucket(lengths[name], limits)

    def examples(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        order = tf.range(self.count, dtype=tf.int64)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        return tf.data.Dataset.from_tensor_slices(order)

    def batched(self, places: tf.data.Dataset, size: int) -> tf.data.Dataset:
        if self.bucket is None:
            return places.batch(size)
        return places.group_by_window(lambda i: self.bucket[i], lambda _, alike: alike.batch(size), window_size=size)

    def fetch(self, places: tf.Tensor) -> Any:
        return _rows(self.table, places)

    def steps(self, size: int) -> int:
        return _length(self.batched(self.examples(None), size))


class _Streamed:
    """The prepared examples one after another, from files or made anew each epoch: for data larger than memory."""

    def __init__(self, examples: tf.data.Dataset, cache: Any, buckets: Mapping[str, Sequence[int]] | None) -> None:
        if cache is not False:
            Path(cache).parent.mkdir(parents=True, exist_ok=True)
            examples = examples.cache(os.fspath(cache))
        self.all, self.buckets = examples, None
        if buckets:
            inputs = _inputs(examples.element_spec)
            self.buckets = _bucketing(buckets, inputs, [name for name in inputs if _uneven(inputs[name])])

    def examples(self, seed: tf.Tensor | None) -> tf.data.Dataset:
        if seed is None:
            return self.all

        def mixed(number: tf.Tensor, window: Any) -> Any:
            order = tf.range(_count(window), dtype=tf.int64)
            own = tf.random.experimental.stateless_fold_in(seed, number)
            return _rows(window, tf.random.experimental.stateless_shuffle(order, own))

        return _batch(self.all, _WINDOW).enumerate().map(mixed).prefetch(1).unbatch()

    def batched(self, examples: tf.data.Dataset, size: int) -> tf.data.Dataset:
        if self.buckets is None:
            return _batch(examples, size)
        name, limits = self.buckets
        return examples.group_by_window(
            lambda *example: _bucket(tf.shape(_inputs(example)[name])[0], limits),
            lambda _, alike: _batch(alike, size),
            window_size=size,
        )

    def fetch(self, batch: Any) -> Any:
        return batch

    def steps(self, size: int) -> int | None:
        count = int(self.all.cardinality())
        return None if self.buckets or count < 0 else -(-count // size)


def _inputs(batch: Any) -> dict[str, Any]:
    """The named inputs of a batch `(inputs, label)` or `inputs`; none if it has no names."""
    first = batch[0] if isinstance(batch, tuple) else batch
    return first if isinstance(first, dict) else {}


def _uneven(spec: Any) -> bool:
    return not spec.shape.is_fully_defined()


def _batch(dataset: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches; features of unequal length become ragged tensors."""
    if any(map(_uneven, tf.nest.flatten(dataset.element_spec))):
        return dataset.ragged_batch(size)
    return dataset.batch(size, **_PARALLEL)


def _count(batch: Any) -> tf.Tensor:
    """How many examples a batch holds."""
    first = tf.nest.flatten(batch)[0]
    return first.nrows() if isinstance(first, tf.RaggedTensor) else tf.shape(first, tf.int64)[0]


def _rows(batch: Any, places: tf.Tensor) -> Any:
    """The examples of a batch that are at `places`."""
    return tf.nest.map_structure(lambda feature: tf.gather(feature, places), batch)


def _length(dataset: tf.data.Dataset) -> int:
    """How many elements there are, counted."""
    return int(dataset.reduce(np.int64(0), lambda count, _: count + 1))


def _fold(seed: int, purpose: int, number: tf.Tensor) -> tf.Tensor:
    """A seed, shape `(2,)`, for one purpose and one epoch or batch."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, purpose], tf.int64), number)


def _bucketing(buckets: Mapping[str, Sequence[int]], inputs: dict, uneven: list[str]) -> tuple[str, list[int]]:
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


def _padded(batch: Any) -> Any:
    """Inputs of unequal length padded with zeros, each with its mask beside it."""
    inputs = dict(_inputs(batch))
    for name, feature in _inputs(batch).items():
        if isinstance(feature, tf.RaggedTensor):
            lengths = feature.row_lengths()
            message = f"{name!r} holds a sequence of length 0: leave such examples out with `where`"
            with tf.control_dependencies([tf.debugging.assert_positive(lengths, message)]):
                inputs[name], inputs[f"{name}_mask"] = feature.to_tensor(), tf.sequence_mask(lengths)
    if not inputs:
        return batch
    return (inputs, *batch[1:]) if isinstance(batch, tuple) else inputs


def _applied(what: str, function: Callable, method: Callable, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`method(function)`; a feature that `function` asks for in vain is named in the error."""
    try:
        return method(function)
    except KeyError as error:
        there = dataset.element_spec
        name = str(error.args[0]).rsplit("KeyError: ", 1)[-1].strip(" '\n")  # AutoGraph may quote the code around it
        if not isinstance(there, dict) or name in there:
            raise
        raise ValueError(f"{what} asks for {name!r}: the data set has {', '.join(there)}") from error


def arrays(dataset: tf.data.Dataset, *, transform: Callable[[Any], Any] | None = None) -> Any:
    """A whole data set as arrays, for what is small enough to hold in memory.

        inputs, labels = arrays(tfds.load("av_digits/small", split="test"), transform=DigitSenses())

    Args:
        dataset: single examples of one shape, as `tfds.load` gives them.
        transform: from a batch of examples to a batch of what is wanted; it meets chunks of examples.

    Returns:
        What `transform` returns (or an example holds), with an array over all examples in the place of each tensor.

    Raises:
        ValueError: if the data set is empty, or asks for a feature that is not there.
    """
    chunks = list(batches(dataset, _CHUNK, transform=transform, cache=False, device="/CPU:0"))
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *chunks)
