"""A folder of recordings as one is handed it: twelve people say digits, some files are broken, some are there twice.

The folder is made, so that a lesson knows what is wrong with it. The words are synthesised by eSpeak NG: each person
is one of its voices, with a speed and a pitch that stay nearly the same from take to take. The pictures are real
(MNIST, degraded as in `av_digits`), the touch is simulated. Pictures and embossed digits are dealt at random, whoever
speaks, so that only the voice marks the person.
"""

import contextlib
import csv
import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmkit.datasets.av_digits import builder as av_digits
from mmkit.datasets.av_digits import mel_spectrogram, senses
from mmkit.datasets.digits import builder as digits

PEOPLE = ("Ana", "Bo", "Cem", "Dai", "Eva", "Finn", "Gul", "Hana", "Ivo", "Jun", "Kofi", "Lea")
STRANGERS = 40
TAKES = (12,) * 5 + (3,) * 5  # of each digit from 0 to 9, by one person
FAULTS = {"cut short": 20, "no sound": 12, "copied": 30, "exported again": 30, "name misspelt": 60}  # recordings hit
BAD_GLOVES = ("Dai", "Hana")  # who often has no touch


def record(folder: Path | str, strangers: bool = False, spoilt: bool = True, seed: int = 0) -> dict[str, set[str]]:
    """Writes recordings of twelve people, with faults, or of forty strangers, without.

    The folder gets `recordings.csv` with the columns `file`, `speaker` and `digit`, and for each file `name.wav` (8,000
    Hz, int16), `name.png` (28 by 28 grey levels) and, unless it is missing, `name.csv` (48 moments by 16 pressures).
    People say each digit from 0 to 4 twelve times and each from 5 to 9 three times; strangers say each once. No voice
    and no picture of the people's is the strangers'.

    Args:
        folder: where to write; made if need be.
        strangers: whether the strangers are recorded, in place of the people.
        spoilt: whether there are faults; the strangers' recordings never have any.
        seed: draws voices, pictures, noise and faults.

    Returns:
        From each fault to the names that it hit: those of the second of two copies where it is a copy.

    Raises:
        mmkit.ground.sources.SourceError: if the speech synthesiser or the pictures cannot be had.

    Example:
        >>> import tempfile
        >>> from mmkit.datasets import recordings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     hit = recordings.record(folder, seed=1)
        >>> len(hit["cut short"]), len(hit["copied"])
        (20, 30)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count, takes = (STRANGERS, (1,) * 10) if strangers else (len(PEOPLE), TAKES)
    voices = _voices(np.random.default_rng([seed, 1]), len(PEOPLE) + STRANGERS)
    rng = np.random.default_rng([seed, 2, strangers])
    plan = [(who, digit) for who in range(count) for digit in range(10) for _ in range(takes[digit])]
    sounds = _speak(plan, voices[len(PEOPLE) :] if strangers else voices, rng)
    order = rng.permutation(len(plan))
    hit = _victims(plan, order, rng) if spoilt and not strangers else {}
    rows = []
    for number, sound, look, (who, digit) in zip(order, sounds, _looks(plan, strangers, rng), plan, strict=True):
        name = f"rec_{number:04d}"
        speaker = f"stranger {who + 1}" if strangers else PEOPLE[who]
        sound = _microphone(sound, rng)
        copies = {name: sound[: 0 if name in hit.get("no sound", ()) else None]}
        if f"{name}_b" in hit.get("copied", ()):
            copies[f"{name}_b"] = sound
        if f"{name}_b" in hit.get("exported again", ()):
            copies[f"{name}_b"] = (sound * rng.uniform(0.4, 0.8)).astype(np.int16)
        for copy, samples in copies.items():
            _write(folder / copy, samples, *look, touch=copy not in hit.get("no touch", ()))
            written = speaker.upper() + " " if name in hit.get("name misspelt", ()) else speaker
            rows.append((copy, written, digit))
        if name in hit.get("cut short", ()):
            path = folder / f"{name}.wav"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open(folder / "recordings.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "speaker", "digit"), *sorted(rows)])
    return hit


def sound_features(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """96 numbers of each recording: of each of 32 frequency bands its mean, maximum and spread over time.

    They are in decibels less the recording's mean, so they do not change with the volume.

    Args:
        sounds: recordings at 8,000 Hz, each of shape `(samples,)`, int16, at least one sample long.

    Returns:
        Shape `(recordings, 96)`, float32.

    Example:
        >>> import numpy as np
        >>> from mmkit.datasets import recordings
        >>> sound = np.random.default_rng(0).integers(-9000, 9000, 4000).astype("int16")
        >>> loud, quiet = recordings.sound_features([sound, sound // 2])
        >>> loud.shape, bool(np.abs(loud - quiet).max() < 0.5)
        ((96,), True)
    """
    mel, found = mel_spectrogram(), []
    for start in range(0, len(sounds), 200):
        some = sounds[start : start + 200]
        # every recording ends in a frame of silence, so a longer neighbour changes nothing
        padded = np.zeros((len(some), max(map(len, some)) + 256), "float32")
        for row, sound in zip(padded, some, strict=True):
            row[: len(sound)] = sound / 32_768
        for bands, sound in zip(np.asarray(mel(padded)), some, strict=True):
            bands = bands[:, : len(sound) // 100 + 1]  # a step every 100 samples; what follows is padding
            bands = bands - bands.mean()
            found.append(np.concatenate([bands.mean(axis=1), bands.max(axis=1), bands.std(axis=1)]))
    return np.stack(found)


def picture_features(folder: Path | str, names: Sequence[str]) -> np.ndarray:
    """The pictures at half their resolution.

    Args:
        folder: what `record` wrote.
        names: the names of the files, as `recordings.csv` has them.

    Returns:
        Shape `(recordings, 196)`, from 0 to 1.

    Raises:
        FileNotFoundError: if a picture is missing.

    Example:
        >>> import tempfile
        >>> from mmkit.datasets import recordings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = recordings.record(folder, strangers=True)
        ...     recordings.picture_features(folder, ["rec_0000", "rec_0001"]).shape
        (2, 196)
    """
    pictures = np.stack([np.asarray(Image.open(Path(folder, f"{name}.png"))) for name in names])
    return pictures.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(names), -1) / 255


def touch_features(folder: Path | str, names: Sequence[str]) -> np.ndarray:
    """Each cell's mean pressure in six stretches of time.

    Args:
        folder: what `record` wrote.
        names: the names of the files, as `recordings.csv` has them.

    Returns:
        Shape `(recordings, 96)`, from 0 to 1; zeros where the touch is missing.

    Example:
        >>> import tempfile
        >>> from mmkit.datasets import recordings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = recordings.record(folder, strangers=True)
        ...     recordings.touch_features(folder, ["rec_0000", "no such recording"]).max(axis=1) > 0
        array([ True, False])
    """
    found = np.zeros((len(names), 6, senses.TOUCH_CELLS))
    for row, name in zip(found, names, strict=True):
        path = Path(folder, f"{name}.csv")
        if path.exists():
            row[:] = np.loadtxt(path, delimiter=",").reshape(6, -1, senses.TOUCH_CELLS).mean(axis=1) / 255
    return found.reshape(len(names), -1)


def _voices(rng: np.random.Generator, count: int) -> list[dict]:
    """Voices of different families, each with a manner of its own."""
    names = {path.name for path in (av_digits.engine_folder() / "espeak-ng-data" / "voices" / "!v").iterdir()}
    families = {name.rstrip("0123456789"): name for name in sorted(names - set(av_digits.UNSTEADY_VOICES))}
    chosen = rng.permutation(sorted(families.values()))[:count]
    manner = {"rate": (150, 221), "pitch": (30, 71)}  # words a minute, and eSpeak's scale from 0 to 99
    drawn = [{what: int(rng.integers(*span)) for what, span in manner.items()} for _ in chosen]
    return [{"voice": f"{rng.choice(av_digits.ACCENTS)}+{name}", **own} for name, own in zip(chosen, drawn)]


def _speak(plan: list[tuple[int, int]], voices: list[dict], rng: np.random.Generator) -> list[np.ndarray]:
    words = [dict(voices[who], word=av_digits.WORDS[digit]) for who, digit in plan]
    for word in words:  # no two takes are the same
        word["rate"] += int(rng.integers(-8, 9))
        word["pitch"] += int(rng.integers(-4, 5))
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        return av_digits.speak(words)


def _microphone(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise, 0 to 15 decibels weaker than the voice, and a moment of it before and after the word."""
    sound = np.pad(speech / np.sqrt((speech.astype(float) ** 2).mean()), rng.integers(400, 2400, size=2))
    noise = rng.normal(size=len(sound))
    noise = (noise + np.roll(noise, 1)) / np.sqrt(2)  # more of the low tones
    mixed = sound + noise * 10 ** (-rng.uniform(0, 15) / 20)
    return (mixed / np.abs(mixed).max() * 20_000).astype(np.int16)


def _looks(plan: list[tuple[int, int]], strangers: bool, rng: np.random.Generator) -> list[tuple]:
    """A picture and a touch for each planned recording; no digit is seen twice, and none is felt twice."""
    pictures, labels = digits.read_mnist_5k()
    ids = digits.split_ids(labels)["test" if strangers else "train"]
    unseen, unfelt = ({digit: iter(rng.permutation(ids[labels[ids] == digit])) for digit in range(10)} for _ in "12")
    chance = np.random.RandomState(rng.integers(2**32))
    looks = []
    for _, digit in plan:
        seen, felt = pictures[next(unseen[digit])], pictures[next(unfelt[digit])]
        seen = senses.degrade_image(seen, chance.randint(256), chance)
        looks.append((seen, senses.feel(felt, chance.randint(256), chance)))
    return looks


def _victims(plan: list[tuple[int, int]], order: np.ndarray, rng: np.random.Generator) -> dict[str, set[str]]:
    """Which recordings are hit by which fault; none by two of FAULTS."""
    ends = np.cumsum(list(FAULTS.values()))
    parts = np.split(rng.permutation(len(plan)), ends)[:-1]
    hit = {
        fault: {f"rec_{number:04d}" + "_b" * (fault in ("copied", "exported again")) for number in part}
        for fault, part in zip(FAULTS, parts, strict=True)
    }
    without = [f"rec_{number:04d}" for number, (who, _) in zip(order, plan) if PEOPLE[who] in BAD_GLOVES]
    kept = set(sorted(without)[::5]) | set(sorted(without)[1::5])  # two in five have their touch
    hit["no touch"] = {name + copy for name in set(without) - kept for copy in ("", "_b")}
    return hit


def _write(stem: Path, samples: np.ndarray, seen: np.ndarray, felt: np.ndarray, touch: bool) -> None:
    with wave.open(str(stem.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(senses.AUDIO_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    Image.fromarray(seen).save(stem.with_suffix(".png"))
    if touch:
        np.savetxt(stem.with_suffix(".csv"), felt, fmt="%d", delimiter=",")
