"""From a TFDS data set to batches on the device that trains: one call, the same on CPU and GPU."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mmkit.datasets.senses import AUDIO_RATE

MEL_BINS = 32
_CHUNK = 250  # examples that are prepared at a time: enough to be quick, few enough for a small memory


def batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    *,
    prepare: Callable[[Any], Any] | None = None,
    cache: bool = True,
    shuffle: bool = False,
    seed: int = 0,
    augment: Callable[[Any], Any] | None = None,
    device: str | None = None,
) -> tf.data.Dataset:
    """Batches for `model.fit`: prepare once, cache, shuffle, batch, augment anew each epoch, prefetch.

    Args:
        dataset: single examples, as `tfds.load` gives them.
        batch_size: examples a batch; the last batch may be smaller.
        prepare: from a batch of examples to a batch of what the model wants, deterministic. It runs once, before the
            cache, on chunks of examples.
        cache: whether to keep the prepared examples in memory.
        shuffle: whether to draw a new order each epoch.
        seed: of the orders: the same seed gives the same sequence of them, under the same TensorFlow seed
            (`keras.utils.set_random_seed`).
        augment: from a batch to a batch, random, run each time a batch is drawn.
        device: where batches wait for the model, such as "/GPU:0". None: the first GPU if there is one, else the host.
            Leave it "/CPU:0" under a `tf.distribute` strategy, which places batches itself.

    Returns:
        The batches.

    Raises:
        ValueError: if `batch_size` is not positive or the data set is empty.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive: got {batch_size}")
    count = int(dataset.cardinality())
    if count == 0:
        raise ValueError("the data set is empty: check the name of the split")
    if prepare is not None:
        chunks = dataset.batch(_CHUNK).map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        dataset = chunks.unbatch()
        if count > 0:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if cache:
        dataset = dataset.cache()
    if shuffle:
        dataset = dataset.shuffle(count if count > 0 else 10_000, seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(batch_size, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if augment is not None:
        dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if device is None and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"
    if device is not None and "GPU" in device.upper():
        return dataset.apply(tf.data.experimental.prefetch_to_device(device))
    return dataset.prefetch(tf.data.AUTOTUNE)


def mel_spectrogram() -> keras.layers.Layer:
    """Keras's layer for the spectrograms of `av_digits`: a frame of 256 samples (32 ms) every 100 samples (12.5 ms).

    It turns `(batch, samples)` into `(batch, 32, frames)`, in decibels.
    """
    return keras.layers.MelSpectrogram(
        fft_length=256,
        sequence_length=256,
        sequence_stride=100,
        sampling_rate=AUDIO_RATE,
        num_mel_bins=MEL_BINS,
        min_freq=60,
        max_freq=AUDIO_RATE / 2,
    )


class DigitSenses:
    """Prepares `av_digits` for a model: a picture, a spectrogram and a touch, each in numbers of about one.

    Call it with a batch of examples; it returns `(inputs, label)` with `inputs` a dict of float32 tensors:

    - `image` `(batch, 28, 28, 1)`, from 0 to 1
    - `audio` `(batch, 65, 32, 1)`, time by mel band, in decibels, each clip shifted and scaled to mean 0 and spread 1
    - `touch` `(batch, 48, 16)`, time by cell, from 0 to 1
    """

    def __init__(self) -> None:
        self.spectrogram = mel_spectrogram()

    def __call__(self, examples: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        decibels = self.spectrogram(ops.cast(examples["audio"], "float32") / 32_768)
        decibels = ops.transpose(decibels, (0, 2, 1))
        mean = ops.mean(decibels, axis=(1, 2), keepdims=True)
        spread = ops.std(decibels, axis=(1, 2), keepdims=True)
        inputs = {
            "image": ops.cast(examples["image"], "float32") / 255,
            "audio": ops.expand_dims((decibels - mean) / (spread + 1e-6), -1),
            "touch": ops.cast(examples["touch"], "float32") / 255,
        }
        return inputs, examples["label"]
