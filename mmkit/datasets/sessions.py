"""A folder of long recordings as one is handed it: a manifest names moments of sounds and sensor logs, and pictures.

People sit at a table in sessions of ten digits. For each they get a card, say its digit, and slide a fingertip over its
relief. A microphone and a glove of pressure cells record the whole session, and a camera takes a picture of each card.
The sounds have two sampling rates and the gloves three, gloves were put on before the microphone was switched on, some
files are missing, and some are broken.

The words are synthesised by eSpeak NG, each person one of its voices; the pictures are real (MNIST, degraded as in
`av_digits`), the touch is simulated.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import signal
from scipy.io import wavfile

from mmkit.datasets import recordings
from mmkit.datasets.av_digits import senses

PEOPLE, NEW = 40, 12
SECONDS = 1.2  # within which a card is named and felt
CELLS = tuple(f"cell{number}" for number in range(senses.TOUCH_CELLS))
STROKES = 0.96  # seconds that a fingertip takes for a card
RATES = {"recorder": 8_000, "phone": 16_000}  # samples a second
GLOVES = (50, 100, 80)  # rows a second; of the last glove one in six is lost


def record(folder: Path | str, new: bool = False, spoilt: bool = True, seed: int = 0) -> dict[str, set[int]]:
    """Writes two sessions of each of forty people, or one of each of twelve new people.

    The folder gets `recordings.csv` with the columns `picture`, `sound`, `touch`, `start`, `person` and `digit`: a row
    for each of the ten cards of a session. A card is named and felt within 1.2 seconds from `start`.

    - `pictures/`: 28 by 28 grey levels, PNG
    - `sounds/`: WAV, int16, at 8,000 Hz; at 16,000 Hz in two channels for every fourth person and all new ones
    - `touch/`: CSV with the column `t`, seconds since the sound began, which starts below 0, and `cell0` to `cell15`,
      pressures from 0 to 255, about 50, 100 or (unevenly) 70 rows a second, by person

    A cell is empty where there is no file: of touch in one session of seven, of sound in one of twenty, of a picture in
    about one row of twelve, and never all three. No voice and no picture of the people's is a new person's.

    Args:
        folder: where to write; made if need be.
        new: whether the new people are recorded, in place of the others.
        spoilt: whether some files are broken; those of the new people never are.
        seed: draws voices, pictures, noise and faults.

    Returns:
        From each fault to the rows of the manifest that it hits, numbered as a spreadsheet does: the header is row 1.

    Raises:
        mmkit.ground.sources.SourceError: if the speech synthesiser or the pictures cannot be had.

    Example:
        >>> import tempfile
        >>> from mmkit.datasets import sessions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     hit = sessions.record(folder, seed=1)
        >>> sorted(hit), len(hit["sound cut short"])
        (['log without rows', 'no such picture', 'no time', 'picture cut short', 'sound cut short', 'web page',
          'word in a log'], 10)
    """
    folder = Path(folder)
    for kind in ("pictures", "sounds", "touch"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    voices = recordings._voices(np.random.default_rng([seed, 1]), PEOPLE + NEW)[PEOPLE if new else 0 :]
    rng = np.random.default_rng([seed, 2, new])
    plan = [
        (who, int(digit))
        for who in range(NEW if new else PEOPLE)
        for _ in "1" + "2" * (not new)
        for digit in rng.permutation(10)
    ]
    words, looks = recordings._speak(plan, voices, rng), recordings._looks(plan, new, rng)
    beginnings, rows = rng.permutation(range(0, len(plan), 10)), []
    gloveless, silent = beginnings[: len(beginnings) // 7], beginnings[::-1][: len(beginnings) // 20]
    for first in range(0, len(plan), 10):
        who = plan[first][0]
        person = f"{'N' if new else 'P'}{who + 1:02d}"
        name = f"{person}_{1 if new else first // 10 % 2 + 1}"
        starts = 0.4 + 1.5 * np.arange(10) + rng.uniform(0, 0.2, 10)
        has_touch, has_sound = first not in gloveless, first not in silent
        if has_sound:
            device = "phone" if new or who % 4 == 3 else "recorder"
            _write_sound(folder / "sounds" / f"{name}.wav", words[first : first + 10], starts, RATES[device], rng)
        if has_touch:
            felt = [touch for _, touch in looks[first : first + 10]]
            _write_log(folder / "touch" / f"{name}.csv", felt, starts, GLOVES[who % 3], rng)
        for card, start in enumerate(starts):
            picture = f"pictures/{name}_{card}.png" if rng.random() >= 1 / 12 else ""
            if picture:
                Image.fromarray(looks[first + card][0]).save(folder / picture)
            files = picture, f"sounds/{name}.wav" * bool(has_sound), f"touch/{name}.csv" * bool(has_touch)
            rows.append([*files, f"{start:.2f}", person, plan[first + card][1]])
    hit = _spoil(folder, rows, rng) if spoilt and not new else {}
    with open(folder / "recordings.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("picture", "sound", "touch", "start", "person", "digit"), *rows])
    return hit


def _write_sound(path: Path, words: list[np.ndarray], starts: np.ndarray, rate: int, rng: np.random.Generator) -> None:
    """A session's ten words, under noise that is 0 to 15 decibels weaker."""
    track = np.zeros(round(16.5 * rate))
    for word, start in zip(words, starts, strict=True):
        word = signal.resample_poly(word / np.sqrt((word.astype(float) ** 2).mean()), rate // senses.AUDIO_RATE, 1)
        first = round((start + rng.uniform(0.05, 0.3)) * rate)
        track[first : first + len(word)] += word
    noise = rng.normal(size=len(track))
    track += (noise + np.roll(noise, 1)) / np.sqrt(2) * 10 ** (-rng.uniform(0, 15) / 20)
    samples = (track / np.abs(track).max() * 20_000).astype(np.int16)
    wavfile.write(path, rate, np.stack([samples, samples], axis=1) if rate > senses.AUDIO_RATE else samples)


def _write_log(path: Path, felt: list[np.ndarray], starts: np.ndarray, rate: int, rng: np.random.Generator) -> None:
    """A session's ten touches, and the idle glove before, between and after them."""
    times = np.arange(-rng.uniform(1, 4), 16.5, 1 / rate)
    if rate == GLOVES[-1]:
        times = (times + rng.uniform(-0.3, 0.3, len(times)) / rate)[rng.random(len(times)) >= 1 / 6]
    pressures = 30 + rng.normal(0, 5, (len(times), senses.TOUCH_CELLS))
    for touch, start in zip(felt, starts, strict=True):
        moments = start + rng.uniform(0, 0.2) + np.linspace(0, STROKES, len(touch))
        during = (moments[0] <= times) & (times <= moments[-1])
        for cell, pressure in enumerate(touch.T):
            pressures[during, cell] = np.interp(times[during], moments, pressure)
    table = np.column_stack([times, pressures.round().clip(0, 255)])
    np.savetxt(path, table, ["%.3f"] + ["%d"] * senses.TOUCH_CELLS, ",", header=",".join(("t", *CELLS)), comments="")


def _spoil(folder: Path, rows: list[list], rng: np.random.Generator) -> dict[str, set[int]]:
    """Breaks files and cells, none of them twice; the rows that are hit."""
    sounds, logs = (rng.permutation(sorted({row[column] for row in rows if row[column]})) for column in (1, 2))
    cut, page, worded, bare = folder / sounds[0], folder / sounds[1], folder / logs[0], folder / logs[1]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    page.write_text("<html><body>404: the file was moved</body></html>\n", encoding="utf-8")
    lines = worded.read_text(encoding="utf-8").splitlines()
    lines[300] = lines[300].rsplit(",", 1)[0] + ",overload"
    worded.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bare.write_text(lines[0] + "\n", encoding="utf-8")
    named = {"sound cut short": (1, sounds[0]), "web page": (1, sounds[1])}
    named |= {"word in a log": (2, logs[0]), "log without rows": (2, logs[1])}
    hit = {
        fault: {place + 2 for place, row in enumerate(rows) if row[column] == name}
        for fault, (column, name) in named.items()
    }
    seen = rng.permutation([place for place, row in enumerate(rows) if row[0]])[:6].tolist()
    for place in seen[:3]:
        path = folder / rows[place][0]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for place in seen[3:5]:
        rows[place][0] = rows[place][0].replace(".png", ".jpg")
    rows[seen[5]][3] = "?"
    parts = {"picture cut short": seen[:3], "no such picture": seen[3:5], "no time": seen[5:]}
    return hit | {fault: {place + 2 for place in places} for fault, places in parts.items()}
