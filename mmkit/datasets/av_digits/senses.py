"""How `av_digits` degrades a picture, a recording and an embossed digit, so that no sense suffices alone.

All of it is integer arithmetic on streams of `numpy.random.RandomState`, which NumPy keeps the same for good: the
same seed gives the same bytes on every machine. Each function takes a `severity` from 0 (mild) to 255 (strong), drawn
anew for each sense of each example: where one sense is poor, another may be good.
"""

from math import isqrt

import numpy as np

AUDIO_RATE = 8_000  # Hz
AUDIO_SAMPLES = 6_400  # 0.8 s
TOUCH_STEPS, TOUCH_CELLS = 48, 16
_ONE = 256  # fixed-point one


def _bell(random: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """Integers that are close to normal, mean 0 and standard deviation 256: sums of four uniform ones."""
    return random.randint(-222, 222, size=(4, *shape), dtype=np.int32).sum(axis=0) * _ONE // 256


def _between(low: int, high: int, severity: int) -> int:
    """The whole number `severity / 255` of the way from `low` to `high`."""
    return low + (high - low) * severity // 255


def degrade_image(picture: np.ndarray, severity: int, random: np.random.RandomState) -> np.ndarray:
    """A camera in poor light: lower contrast, a bar in front of the digit, grain.

    Args:
        picture: shape `(28, 28)`, uint8, 0 is paper and 255 is ink.
        severity: 0 to 255.
        random: where the chance comes from.

    Returns:
        Shape `(28, 28)`, uint8.
    """
    seen = np.pad(picture.astype(np.int32), 2)
    down, right = random.randint(0, 5, size=2)
    seen = seen[down : down + 28, right : right + 28]
    bar = _between(3, 8, severity)
    start = random.randint(2, 27 - bar)
    if random.randint(2):
        seen[start : start + bar, :] = 0
    else:
        seen[:, start : start + bar] = 0
    seen = seen * _between(230, 120, severity) // _ONE
    seen = seen + _bell(random, seen.shape) * _between(18, 46, severity) // _ONE + 40
    return np.clip(seen, 0, 255).astype(np.uint8)


def resample(sound: np.ndarray, rate: int) -> np.ndarray:
    """Brings a recording to 8,000 Hz: each new sample is the mean of the old ones over its span of time.

    Args:
        sound: shape `(samples,)`, int16.
        rate: its sampling rate in Hz, at least 8,000.
    """
    values = np.append(sound.astype(np.int64), 0)
    area = np.concatenate([[0], np.cumsum(values)])
    edges = np.arange(len(sound) * AUDIO_RATE // rate + 1, dtype=np.int64) * rate
    whole, part = edges // AUDIO_RATE, edges % AUDIO_RATE
    upto = area[whole] * AUDIO_RATE + values[np.minimum(whole, len(sound))] * part
    return ((upto[1:] - upto[:-1]) // rate).astype(np.int16)


def degrade_audio(speech: np.ndarray, severity: int, random: np.random.RandomState) -> np.ndarray:
    """A microphone in a loud room: the word begins at a random moment, under noise that fades in and out.

    Args:
        speech: shape `(samples,)`, int16 at 8,000 Hz; what exceeds 6,400 samples is cut.
        severity: 0 to 255, a signal-to-noise ratio from 16 to -5 decibels.
        random: where the chance comes from.

    Returns:
        Shape `(6400,)`, int16, of equal power for all examples.
    """
    speech = speech[:AUDIO_SAMPLES].astype(np.int64)
    clip = np.zeros(AUDIO_SAMPLES, np.int64)
    start = random.randint(0, AUDIO_SAMPLES - len(speech) + 1)
    clip[start : start + len(speech)] = speech
    hiss = _bell(random, (AUDIO_SAMPLES + 3,)).astype(np.int64)
    noise = hiss[3:] + hiss[2:-1] + hiss[1:-2] // 2  # more of the low tones, as in a room
    swell = np.repeat(random.randint(64, 257, size=16, dtype=np.int64), AUDIO_SAMPLES // 16)
    noise = noise * swell // _ONE
    decibels = _between(16, -5, severity)
    ratio = round(10 ** (-decibels / 10) * _ONE)  # of the noise's power to the speech's
    power = int((clip * clip).sum()) // max(len(speech), 1)
    gain = isqrt(power * ratio * _ONE // max(1, int((noise * noise).sum()) // AUDIO_SAMPLES))
    mixed = clip * _ONE + noise * gain
    loudness = max(1, isqrt(int((mixed // _ONE * (mixed // _ONE)).sum()) // AUDIO_SAMPLES))
    return np.clip(mixed * 3_000 // (loudness * _ONE), -32_768, 32_767).astype(np.int16)


def feel(digit: np.ndarray, severity: int, random: np.random.RandomState) -> np.ndarray:
    """A fingertip of 4 by 4 pressure cells slides over an embossed digit in three strokes, there and back and there.

    The skin blurs, the finger strays from its line and speeds up and slows down, the pressure changes, cells are
    noisy and some are numb.

    Args:
        digit: shape `(28, 28)`, uint8, the height of the relief.
        severity: 0 to 255.
        random: where the chance comes from.

    Returns:
        Shape `(48, 16)`, uint8: pressure by moment and cell.
    """
    relief = np.pad(digit.astype(np.int32), 8)
    for axis in (0, 1, 0, 1):
        relief = (np.roll(relief, 1, axis) + 2 * relief + np.roll(relief, -1, axis)) // 4
    steps = TOUCH_STEPS // 3
    strides = random.randint(128, 385, size=(3, steps), dtype=np.int32)
    reached = np.cumsum(strides, axis=1)
    x = 2 * _ONE + 24 * _ONE * reached // reached[:, -1:]
    x[1] = 28 * _ONE - x[1]
    stray = _between(64, 300, severity)
    centre = np.array([[7], [14], [21]], dtype=np.int32) * _ONE
    centre = centre + random.randint(-stray, stray + 1, size=(3, 1), dtype=np.int32)
    slope = random.randint(-stray, stray + 1, size=(3, 1), dtype=np.int32)
    y = centre + slope * (x - 14 * _ONE) // (14 * _ONE)
    cell = np.array([-3, -1, 1, 3], dtype=np.int32) * 5 * _ONE // 4  # cells lie two and a half pixels apart
    rows = (y.reshape(-1, 1, 1) + cell[:, None] + 8 * _ONE).clip(0, 42 * _ONE)
    columns = (x.reshape(-1, 1, 1) + cell[None, :] + 8 * _ONE).clip(0, 42 * _ONE)
    row, row_part = rows // _ONE, rows % _ONE
    column, column_part = columns // _ONE, columns % _ONE
    upper = relief[row, column] * (_ONE - column_part) + relief[row, column + 1] * column_part
    lower = relief[row + 1, column] * (_ONE - column_part) + relief[row + 1, column + 1] * column_part
    felt = (upper * (_ONE - row_part) + lower * row_part) // (_ONE * _ONE)
    pressure = np.repeat(random.randint(_between(220, 90, severity), 257, size=(12, 1), dtype=np.int32), 4, axis=0)
    felt = felt.reshape(TOUCH_STEPS, TOUCH_CELLS) * pressure // _ONE
    felt = felt + _bell(random, felt.shape) * _between(4, 18, severity) // _ONE + 30
    felt[:, random.permutation(TOUCH_CELLS)[: _between(0, 4, severity)]] = 0
    return np.clip(felt, 0, 255).astype(np.uint8)
