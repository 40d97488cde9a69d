"""From the recordings of `av_digits` to what a model is fed."""

from typing import Any

import keras
import numpy as np
from keras import ops

from mmkit.datasets.av_digits.senses import AUDIO_RATE

MEL_BINS = 32
_FRAME, _STRIDE = 256, 100  # samples
_LOWEST = 60  # Hz
_FLOOR = 1e-10  # of the power


def mel_spectrogram() -> keras.layers.Layer:
    """Keras's layer for the spectrograms of `av_digits`: a frame of 256 samples (32 ms) every 100 samples (12.5 ms).

    It turns `(batch, samples)` into `(batch, 32, frames)`, in decibels. Keras's floor of 80 dB below the loudest of the
    *batch* is off, so that a clip does not depend on its neighbours.
    """
    return keras.layers.MelSpectrogram(
        fft_length=_FRAME,
        sequence_length=_FRAME,
        sequence_stride=_STRIDE,
        sampling_rate=AUDIO_RATE,
        num_mel_bins=MEL_BINS,
        min_freq=_LOWEST,
        max_freq=AUDIO_RATE / 2,
        min_power=_FLOOR,
        top_db=1_000,
    )


def _mel_filters() -> np.ndarray:
    """The triangles of the mel scale, `(frequencies, bands)`: 2,595 log10(1 + f / 700), after the HTK book."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 2_595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(_LOWEST), mel(AUDIO_RATE / 2), MEL_BINS + 2)
    at = mel(np.linspace(0, AUDIO_RATE / 2, _FRAME // 2 + 1))[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles[0] = 0  # the constant part of the sound
    return triangles.astype(np.float32)


class DigitSenses:
    """Prepares `av_digits` for a model: a picture, a spectrogram and a touch, each in numbers of about one.

    Call it with a batch of examples; it returns `(inputs, label)` with `inputs` a dict of float32 tensors:

    - `image` `(batch, 28, 28, 1)`, from 0 to 1
    - `audio` `(batch, 65, 32, 1)`, time by mel band, in decibels, each clip shifted and scaled to mean 0 and spread 1
    - `touch` `(batch, 48, 16)`, time by cell, from 0 to 1

    The decibels are those of `mel_spectrogram`, with the filters at hand: the layer would make them anew in each graph,
    by hundreds of operations.
    """

    def __init__(self) -> None:
        self.filters = _mel_filters()

    def __call__(self, examples: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        sound = ops.cast(examples["audio"], "float32") / 32_768
        real, imaginary = ops.stft(sound, _FRAME, _STRIDE, _FRAME)
        power = ops.matmul(ops.square(real) + ops.square(imaginary), self.filters)
        decibels = 10 * ops.log10(ops.maximum(power, _FLOOR))
        mean = ops.mean(decibels, axis=(1, 2), keepdims=True)
        spread = ops.std(decibels, axis=(1, 2), keepdims=True)
        inputs = {
            "image": ops.cast(examples["image"], "float32") / 255,
            "audio": ops.expand_dims((decibels - mean) / (spread + 1e-6), -1),
            "touch": ops.cast(examples["touch"], "float32") / 255,
        }
        return inputs, examples["label"]
