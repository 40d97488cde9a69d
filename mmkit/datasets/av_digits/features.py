"""From the recordings of `av_digits` to what a model is fed."""

from typing import Any

import keras
from keras import ops

from mmkit.datasets.av_digits.senses import AUDIO_RATE

MEL_BINS = 32


def mel_spectrogram() -> keras.layers.Layer:
    """Keras's layer for the spectrograms of `av_digits`: a frame of 256 samples (32 ms) every 100 samples (12.5 ms).

    It turns `(batch, samples)` into `(batch, 32, frames)`, in decibels. Keras's floor of 80 dB below the loudest of the
    *batch* is off, so that a clip does not depend on its neighbours.
    """
    return keras.layers.MelSpectrogram(
        fft_length=256,
        sequence_length=256,
        sequence_stride=100,
        sampling_rate=AUDIO_RATE,
        num_mel_bins=MEL_BINS,
        min_freq=60,
        max_freq=AUDIO_RATE / 2,
        top_db=1_000,
    )


class DigitSenses:
    """Prepares `av_digits` for a model: a picture, a spectrogram and a touch, each in numbers of about one.

    Call it with a batch of examples; it returns `(inputs, label)` with `inputs` a dict of float32 tensors:

    - `image` `(batch, 28, 28, 1)`, from 0 to 1
    - `audio` `(batch, 65, 32, 1)`, time by mel band, in decibels, each clip shifted and scaled to mean 0 and spread 1
    - `touch` `(batch, 48, 16)`, time by cell, from 0 to 1

    What `mel_spectrogram` computes is computed here with its filters at hand: the layer makes them anew in each graph,
    which takes longer than to apply them.
    """

    def __init__(self) -> None:
        mel = mel_spectrogram()
        self.window, self.stride, self.floor = mel.fft_length, mel.sequence_stride, mel.min_power
        self.filters = ops.convert_to_numpy(
            mel.linear_to_mel_weight_matrix(
                mel.num_mel_bins, mel.fft_length // 2 + 1, mel.sampling_rate, mel.min_freq, mel.max_freq
            )
        )

    def __call__(self, examples: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        sound = ops.cast(examples["audio"], "float32") / 32_768
        real, imaginary = ops.stft(sound, self.window, self.stride, self.window)
        power = ops.matmul(ops.square(real) + ops.square(imaginary), self.filters)
        decibels = 10 * ops.log10(ops.maximum(power, self.floor))
        mean = ops.mean(decibels, axis=(1, 2), keepdims=True)
        spread = ops.std(decibels, axis=(1, 2), keepdims=True)
        inputs = {
            "image": ops.cast(examples["image"], "float32") / 255,
            "audio": ops.expand_dims((decibels - mean) / (spread + 1e-6), -1),
            "touch": ops.cast(examples["touch"], "float32") / 255,
        }
        return inputs, examples["label"]
