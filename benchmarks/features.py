"""What `DigitSenses` of `av_digits` computes, again in NumPy and in PyTorch, and the noise that all pipelines add."""

from functools import cache
from typing import Any

import numpy as np

FRAME, STRIDE, RATE, BANDS, LOWEST = 256, 100, 8_000, 32, 60
NOISE = 0.1  # standard deviation of what is added to every number
HIDDEN = 8  # frames of each clip that are hidden, one after the other


@cache
def filters() -> np.ndarray:
    """The triangles of the mel scale, `(frequencies, bands)`: 2,595 log10(1 + f / 700), after the HTK book."""

    def mel(hertz: Any) -> Any:
        return 2_595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(LOWEST), mel(RATE / 2), BANDS + 2)
    at = mel(np.linspace(0, RATE / 2, FRAME // 2 + 1))[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles[0] = 0  # the constant part of the sound
    return triangles.astype(np.float32)


@cache
def window() -> np.ndarray:
    """Hann's window, of one period."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)


def with_numpy(image: np.ndarray, audio: np.ndarray, touch: np.ndarray) -> dict[str, np.ndarray]:
    """The features of one example."""
    sound = np.pad(audio.astype(np.float32) / 32_768, FRAME // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::STRIDE]
    power = np.abs(np.fft.rfft(frames * window())) ** 2
    decibels = 10 * np.log10(np.maximum(power.astype(np.float32) @ filters(), 1e-10))
    return {
        "image": image.astype(np.float32) / 255,
        "audio": ((decibels - decibels.mean()) / (decibels.std() + 1e-6))[..., None],
        "touch": touch.astype(np.float32) / 255,
    }


def with_torch(image: Any, audio: Any, touch: Any) -> dict[str, Any]:
    """The features of a batch of tensors."""
    import torch

    power = torch.stft(
        audio.float() / 32_768, FRAME, STRIDE, window=torch.from_numpy(window()), return_complex=True
    ).abs()
    decibels = 10 * torch.log10((power.square().mT @ torch.from_numpy(filters())).clamp(min=1e-10))
    spread, mean = torch.std_mean(decibels, dim=(1, 2), keepdim=True, correction=0)
    return {
        "image": image.float() / 255,
        "audio": ((decibels - mean) / (spread + 1e-6))[..., None],
        "touch": touch.float() / 255,
    }


def augment_with_torch(features: dict[str, Any]) -> dict[str, Any]:
    """Noise everywhere, and a stretch of each clip hidden."""
    import torch

    noisy = {name: values + NOISE * torch.randn_like(values) for name, values in features.items()}
    count, frames = noisy["audio"].shape[:2]
    behind = torch.arange(frames) - torch.randint(0, frames - HIDDEN + 1, (count, 1))
    noisy["audio"] = noisy["audio"] * ((behind < 0) | (behind >= HIDDEN))[:, :, None, None]
    return noisy


def augment_with_tensorflow(features: dict[str, Any], labels: Any, seed: Any) -> tuple[dict[str, Any], Any]:
    """Noise everywhere, and a stretch of each clip hidden. `seed` of shape (2,)."""
    import tensorflow as tf

    noisy = {
        name: values + NOISE * tf.random.stateless_normal(tf.shape(values), seed + [0, place])
        for place, (name, values) in enumerate(features.items())
    }
    count, frames = tf.shape(noisy["audio"])[0], noisy["audio"].shape[1]
    starts = tf.random.stateless_uniform((count, 1), seed + [0, 9], 0, frames - HIDDEN + 1, tf.int32)
    behind = tf.range(frames) - starts
    seen = tf.cast((behind < 0) | (behind >= HIDDEN), tf.float32)
    noisy["audio"] = noisy["audio"] * seen[:, :, None, None]
    return noisy, labels
