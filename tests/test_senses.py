"""How av_digits degrades a picture, a recording and a relief: closed forms, and milder at severity 0 than at 255."""

import numpy as np
import pytest

from mmkit.datasets.av_digits import senses
from mmkit.datasets.av_digits.senses import AUDIO_SAMPLES, TOUCH_CELLS, TOUCH_STEPS

BLANK, INK = np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)
TONE = (8_000 * np.sin(np.arange(AUDIO_SAMPLES) / 3)).astype(np.int16)


def chance(seed=0):
    return np.random.RandomState(seed)


@pytest.mark.parametrize(
    "degrade, thing, shape, dtype",
    [
        (senses.degrade_image, INK, (28, 28), np.uint8),
        (senses.degrade_audio, TONE, (AUDIO_SAMPLES,), np.int16),
        (senses.feel, INK, (TOUCH_STEPS, TOUCH_CELLS), np.uint8),
    ],
)
@pytest.mark.parametrize("severity", [0, 128, 255])
def test_same_seed_same_bytes(degrade, thing, shape, dtype, severity):
    before = thing.copy()
    first, again, other = (degrade(thing, severity, chance(seed)) for seed in (1, 1, 2))
    assert first.shape == shape and first.dtype == dtype
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert np.array_equal(thing, before)  # what is given is left as it is


def test_image_has_less_contrast_and_more_grain_the_more_severe():
    def look(severity):
        paper = [senses.degrade_image(BLANK, severity, chance(seed)) for seed in range(20)]
        ink = [senses.degrade_image(INK, severity, chance(seed)) for seed in range(20)]
        return np.mean(ink) - np.mean(paper), np.std(paper)

    (mild_contrast, mild_grain), (strong_contrast, strong_grain) = look(0), look(255)
    assert mild_contrast > 1.5 * strong_contrast
    assert strong_grain > 1.5 * mild_grain


@pytest.mark.parametrize("severity, decibels", [(0, 16), (128, 5), (255, -5)])
def test_audio_has_the_ratio_of_speech_to_noise_that_it_says(severity, decibels):
    # noise of 1/r of the speech's power leaves a correlation of sqrt(r / (1 + r)) with the speech
    ratio = 10 ** (decibels / 10)
    heard = [senses.degrade_audio(TONE, severity, chance(seed)).astype(float) for seed in range(5)]
    correlation = np.mean([np.corrcoef(sound, TONE)[0, 1] for sound in heard])
    assert correlation == pytest.approx(np.sqrt(ratio / (1 + ratio)), abs=0.03)


@pytest.mark.parametrize("severity", [0, 128, 255])
@pytest.mark.parametrize("samples", [1, 2_000, AUDIO_SAMPLES, 9_000])
def test_audio_is_equally_loud_for_all(severity, samples):
    word = chance(3).randint(-9_000, 9_000, samples).astype(np.int16)
    heard = senses.degrade_audio(word, severity, chance(4)).astype(float)
    # one sample as loud as all of the rest is cut where int16 ends
    assert np.sqrt((heard**2).mean()) == pytest.approx(3_000, rel=0.02) or samples == 1


def test_silence_stays_within_bounds():
    assert np.abs(senses.degrade_audio(np.zeros(100, np.int16), 255, chance())).max() == 0
    assert len(senses.degrade_audio(np.zeros(0, np.int16), 255, chance())) == AUDIO_SAMPLES


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100])
def test_resampling_a_constant_and_a_ramp(rate):
    constant = senses.resample(np.full(2_205, -700, np.int16), rate)
    assert len(constant) == 2_205 * 8_000 // rate and (constant == -700).all()
    ramp = senses.resample(np.arange(2_205, dtype=np.int16), rate)
    middle = (np.arange(len(ramp)) + 0.5) * rate / 8_000  # of each new sample's span, in old samples
    assert np.abs(ramp - (middle - 0.5)).max() <= 1.2  # rounded down, and a part of an old sample counts as its whole


def test_resampling_by_two_is_the_mean_of_pairs():
    sound = chance().randint(-30_000, 30_000, 1_000).astype(np.int16)
    pairs = sound.reshape(-1, 2).astype(int).sum(axis=1) // 2
    assert np.array_equal(senses.resample(sound, 16_000), pairs)
    assert np.array_equal(senses.resample(sound, 8_000), sound)


def test_touch_grows_numb_and_noisy_with_severity():
    mild, strong = (senses.feel(BLANK, severity, chance(1)) for severity in (0, 255))
    assert (mild == 0).all(axis=0).sum() == 0 and (strong == 0).all(axis=0).sum() == 4
    alive = strong[:, ~(strong == 0).all(axis=0)]
    assert alive.std() > 2 * mild.std() and np.median(alive) == pytest.approx(30, abs=2)


def test_the_finger_feels_a_bar_in_the_middle_of_each_stroke():
    bar = BLANK.copy()
    bar[:, 13:15] = 255
    felt = np.mean([senses.feel(bar, 0, chance(seed)).sum(axis=1) for seed in range(20)], axis=0)
    for stroke in felt.reshape(3, -1):
        assert 5 <= stroke.argmax() <= 10 and stroke.max() > 1.5 * max(stroke[0], stroke[-1])
