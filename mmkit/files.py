"""From files to arrays: pictures, sounds and sensor logs that a table names, read alike for training and prediction.

Such a table is a manifest: a CSV file with a row for each example, whose cells name files.
"""

import collections
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import signal
from scipy.io import wavfile

from mmkit import pipelines

__all__ = ["BrokenFiles", "Fault", "Log", "Picture", "Reader", "Recordings", "Sound"]

_KEPT_BYTES = 2**28  # of files that are decoded already, because the next row may want another part of them


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with one cell of a manifest, or with the file that it names.

    Attributes:
        row: the number of the row as a spreadsheet shows it: the header is row 1. None if there is no manifest.
        column: the name of the column.
        cell: what is in the cell.
        reason: what is wrong, in one line.

    Example:
        >>> from mmkit.files import Fault
        >>> print(Fault(7, "sound", "sounds/ana.wav", "there is no such file"))
        row 7, sound, sounds/ana.wav: there is no such file
    """

    row: int | None
    column: str
    cell: str
    reason: str

    def __str__(self) -> str:
        place = [f"row {self.row}"] * (self.row is not None) + [self.column] + [self.cell] * bool(self.cell)
        return f"{', '.join(place)}: {self.reason}"


class BrokenFiles(ValueError):
    """Files or cells that cannot be read: one line for each, all of them at once. Rows that share one share its line.

    Attributes:
        faults: of each what is wrong, a `Fault`.

    Example:
        >>> from mmkit import files
        >>> reader = files.Reader({"photo": files.Picture(28, 28)})
        >>> try:
        ...     reader.arrays([{"photo": "no_such.png"}])
        ... except files.BrokenFiles as error:
        ...     print(error)
        photo, no_such.png: there is no such file
    """

    def __init__(self, faults: Sequence[Fault], heading: str = "") -> None:
        self.faults = tuple(faults)
        alike: dict[Fault, list[int]] = {}
        for fault in self.faults:
            alike.setdefault(dataclasses.replace(fault, row=None), []).append(fault.row)
        lines = [
            str(dataclasses.replace(fault, row=rows[0])) if len(rows) == 1 else f"rows {_listed(rows)}, {fault}"
            for fault, rows in alike.items()
        ]
        super().__init__("\n".join([heading, *(f"  {line}" for line in lines)] if heading else lines))


def _listed(rows: Sequence[int | None]) -> str:
    """Numbers of rows in words: "2 to 9", "2, 4, 6" or "2, 4, 6 and 17 more"."""
    if None not in rows and list(rows) == list(range(rows[0], rows[-1] + 1)):
        return f"{rows[0]} to {rows[-1]}"
    return ", ".join(map(str, rows[:3])) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


class _Unreadable(ValueError):
    """The reason, in one line, why a file or a cell cannot be read."""


# --- one file of each kind --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Picture:
    """How to read a picture: whatever Pillow opens, at one size, in grey or colour, from 0 to 1.

    It is stretched to the size wanted, averaging where it shrinks, after it was turned as the camera noted.

    Args:
        height: int, rows of pixels.
        width: int, pixels of a row.
        channels: int, 1 (default) for grey or 3 for red, green and blue.

    Raises:
        ValueError: if a size is not positive, or `channels` neither 1 nor 3.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from mmkit import files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.full((40, 60), 255, "uint8")).save(f"{folder}/white.png")
        ...     picture, there = files.Picture(20, 30).read(f"{folder}/white.png")
        >>> picture.shape, float(picture.min()), bool(there)
        ((20, 30, 1), 1.0, True)
    """

    height: int
    width: int
    channels: int = 1

    def __post_init__(self) -> None:
        _check_positive(self, "height", "width")
        if self.channels not in (1, 3):
            raise ValueError(f"Picture: channels must be 1 or 3: got {self.channels}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channels)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        return ()

    def read(self, path: Path | str, start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The picture, `(height, width, channels)` float32 from 0 to 1, and its mask, True. `start` means nothing.

        Raises:
            ValueError: in one line, if the file is missing or no whole picture.
        """
        return _decoded(self._decode, path), np.array(True)

    def _decode(self, path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut them off at 255
                picture = Image.fromarray((np.asarray(picture, "float32") / 257).round().clip(0, 255).astype("uint8"))
            picture = picture.convert("L" if self.channels == 1 else "RGB")
            if picture.size != (self.width, self.height):
                picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
            return np.asarray(picture, "float32").reshape(self.shape) / 255


@dataclasses.dataclass(frozen=True)
class Sound:
    """How to read a window of a sound: WAV files of any sampling rate, brought to one rate.

    The whole file is resampled with a filter against aliasing, so that a window does not depend on where it was cut.
    Several channels are averaged. What lies behind the end of the file is silence.

    Args:
        seconds: float, length of the window.
        rate: int, samples a second that come out. Default 16,000.

    Raises:
        ValueError: if one of them is not positive.

    Source: the resampling is `scipy.signal.resample_poly`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from scipy.io import wavfile
        >>> from mmkit import files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for rate in (8_000, 44_100):  # the same tone, recorded by two devices
        ...         tone = np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        ...         wavfile.write(f"{folder}/{rate}.wav", rate, (9_000 * tone).astype("int16"))
        ...     read = files.Sound(0.5, rate=8_000).read
        ...     (low, _), (high, _) = (read(f"{folder}/{rate}.wav", start=1.0) for rate in (8_000, 44_100))
        >>> low.shape, high.shape, bool(np.abs(low - high).max() < 0.001)
        ((4000,), (4000,), True)
    """

    seconds: float
    rate: int = 16_000

    def __post_init__(self) -> None:
        _check_positive(self, "seconds", "rate")

    @property
    def shape(self) -> tuple[int, ...]:
        return (max(1, round(self.seconds * self.rate)),)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        return ()

    def read(self, path: Path | str, start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The window that begins at second `start`, `(samples,)` float32 from -1 to 1, and its mask, True.

        Raises:
            ValueError: in one line, if the file is missing, no WAV file, cut short, empty, or ends before `start`.
        """
        sound = _decoded(self._decode, path)
        first = round(start * self.rate)
        if not 0 <= first < len(sound):
            raise _Unreadable(f"it lasts {len(sound) / self.rate:.3g} s, and the window begins at {start:.3g} s")
        window = np.zeros(self.shape, "float32")
        part = sound[first : first + len(window)]
        window[: len(part)] = part
        return window, np.array(True)

    def _decode(self, path: Path) -> np.ndarray:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                rate, sound = wavfile.read(path)
            except ValueError as error:
                if "not understood" not in str(error):
                    raise
                convert = "it is no WAV file: convert it, such as with ffmpeg -i sound.mp3 sound.wav"
                raise _Unreadable(convert) from error
        if any("EOF" in str(warning.message) for warning in said):
            raise _Unreadable("it is cut short: it holds fewer samples than it says")
        if len(sound) == 0:
            raise _Unreadable("it holds no samples")
        if sound.dtype.kind == "u":  # 8 bits a sample: silence is 128
            sound = (sound.astype("float32") - 128) / 128
        elif sound.dtype.kind == "i":
            sound = sound.astype("float32") / -float(np.iinfo(sound.dtype).min)
        sound = sound.reshape(len(sound), -1).mean(axis=1)
        if not np.isfinite(sound).all():
            raise _Unreadable("it holds samples that are no numbers")
        shared = math.gcd(rate, self.rate)
        return signal.resample_poly(sound, self.rate // shared, rate // shared).astype("float32")


@dataclasses.dataclass(frozen=True)
class Log:
    """How to read a window of a sensor's log: a CSV file with a column of times, of any rate, even an uneven one.

    Between two rows the log is a straight line, and each step of the result is the mean of that line over its span of
    time. So nothing is lost where the log is denser than the steps, and nothing jumps where it is sparser.

    Args:
        seconds: float, length of the window.
        rate: float, steps a second that come out.
        columns: names of the columns that are wanted, in this order.
        time: name of the column of times, default "t". They must rise.
        unit: float, how many seconds a unit of that column is: 1 (default), or 0.001 for milliseconds.
        gap: float, seconds. Where rows are farther apart, nothing is known between them. Default 0.25.

    Raises:
        ValueError: if a number is not positive, or no column is named.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from mmkit import files
        >>> log = files.Log(0.5, rate=8, columns=["force"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, rate in (("slow", 20), ("fast", 100)):  # a force that grows by 1 a second
        ...         times = np.arange(2 * rate) / rate
        ...         np.savetxt(f"{folder}/{name}.csv", np.stack([times, times], 1), "%.3f", ",", header="t,force",
        ...             comments="")
        ...     slow, _ = log.read(f"{folder}/slow.csv", start=1.0)
        ...     fast, there = log.read(f"{folder}/fast.csv", start=1.0)
        >>> slow.shape, there.tolist(), bool(np.allclose(slow[:, 0], [1.0625, 1.1875, 1.3125, 1.4375], atol=1e-4))
        ((4, 1), [True, True, True, True], True)
        >>> bool(np.abs(slow - fast).max() < 1e-4)
        True
    """

    seconds: float
    rate: float
    columns: Sequence[str]
    time: str = "t"
    unit: float = 1.0
    gap: float = 0.25

    def __post_init__(self) -> None:
        _check_positive(self, "seconds", "rate", "unit", "gap")
        if isinstance(self.columns, str) or not self.columns:
            raise ValueError(f"Log: columns must be a list of names of columns: got {self.columns!r}")
        object.__setattr__(self, "columns", tuple(self.columns))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.mask_shape, len(self.columns))

    @property
    def mask_shape(self) -> tuple[int, ...]:
        return (max(1, round(self.seconds * self.rate)),)

    def read(self, path: Path | str, start: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The window that begins at second `start`, `(steps, columns)` float32, and its mask, `(steps,)`.

        Step k stands for the time from `start + k / rate` to `start + (k + 1) / rate`. The mask is False, and the step
        0, where the log has no row within `gap`.

        Raises:
            ValueError: in one line, if the file is missing, lacks a column, holds no rows or something that is no
                number, its times do not rise, or it has nothing of the window.
        """
        times, values = _decoded(self._decode, path)
        steps = self.mask_shape[0]
        edges = start + np.arange(steps + 1) / self.rate
        if edges[-1] <= times[0] or edges[0] >= times[-1]:
            span = f"from {times[0]:.3g} to {times[-1]:.3g} s"
            raise _Unreadable(f"it goes {span}, and the window from {edges[0]:.3g} to {edges[-1]:.3g} s")
        inside = times[(times > edges[0]) & (times < edges[-1])]
        knots = np.union1d(inside, edges)
        line = np.stack([np.interp(knots, times, column) for column in values.T], axis=1)
        pieces = (line[1:] + line[:-1]) / 2 * np.diff(knots)[:, None]
        area = np.concatenate([np.zeros((1, line.shape[1])), np.cumsum(pieces, axis=0)])
        window = np.diff(area[np.searchsorted(knots, edges)], axis=0) * self.rate
        middle = (edges[1:] + edges[:-1]) / 2
        after = np.searchsorted(times, middle)  # the first row behind the middle of a step
        width = times[np.minimum(after, len(times) - 1)] - times[np.maximum(after - 1, 0)]
        there = (times[0] <= middle) & (middle <= times[-1]) & (width <= self.gap)
        return np.where(there[:, None], window, 0).astype("float32"), there

    def _decode(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """The times in seconds, `(rows,)`, and the values, `(rows, columns)`; a row that lacks one is left out."""
        header, rows = _read_csv(path)
        wanted = (self.time, *self.columns)
        lacking = [name for name in wanted if name not in header]
        if lacking:
            raise _Unreadable(f"it has no column {lacking[0]!r}: it has {', '.join(header)}")
        places = [header.index(name) for name in wanted]
        table = np.full((len(rows), len(wanted)), np.nan)
        for place, (number, row) in enumerate(rows):
            try:
                table[place] = [float(row[column].strip() or "nan") for column in places]
            except IndexError:
                raise _Unreadable(f"its row {number} has {len(row)} cells, and the header {len(header)}") from None
            except ValueError as error:
                raise _Unreadable(f"its row {number} holds {str(error).rsplit(': ', 1)[-1]}, no number") from None
        table = table[~np.isnan(table).any(axis=1)]
        if len(table) < 2:
            raise _Unreadable(f"it holds {len(table)} whole rows: two are needed")
        if not np.isfinite(table).all():
            raise _Unreadable("it holds infinite numbers")
        if (np.diff(table[:, 0]) <= 0).any():
            raise _Unreadable(f"the times in its column {self.time!r} do not rise")
        return table[:, 0] * self.unit, table[:, 1:]


_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Picture, Sound, Log)}
Sense = Picture | Sound | Log


# --- from rows to arrays ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reader:
    r"""The way from the row of a manifest to what a model takes: written once, for training and for prediction.

    A row is a dict from the name of a column to its cell. For each sense the model gets an array and a mask, under the
    names `"<sense>"` and `"<sense>_mask"`. An empty cell is an absent sense: zeros, and False in the mask.

    - a `Picture` gives `(batch, height, width, channels)`, and a mask `(batch,)`
    - a `Sound` gives `(batch, samples)`, and a mask `(batch,)`
    - a `Log` gives `(batch, steps, columns)`, and a mask `(batch, steps)`

    Save it beside the model that was trained with it: the program that predicts loads both.

    Args:
        senses: from the name of a column, whose cells name files, to how these are read.
        start: name of the column that says at which second of its files an example begins, or None (default): at the
            beginning of the files.
        label: name of the column that is to be predicted, or None.
        group: name of the column that says who or what an example comes from, or None. See `Recordings.split`.
        classes: the labels that there are, in the order of their numbers; None (default): those of the manifest. An
            empty list: the label is a number and not a class.

    Raises:
        ValueError: if there is no sense, or two things have the same name.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from mmkit import files
        >>> reader = files.Reader({"front": files.Picture(8, 8), "side": files.Picture(8, 8)}, label="animal")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.full((8, 8), 255, "uint8")).save(f"{folder}/a.png")
        ...     with open(f"{folder}/animals.csv", "w") as manifest:
        ...         _ = manifest.write("front,side,animal\na.png,a.png,cat\na.png,,dog\n")
        ...     animals = reader.manifest(f"{folder}/animals.csv")
        ...     x, y = animals.arrays()
        ...     new = animals.reader.arrays([{"front": "a.png"}], folder)  # one new example, from its raw files
        >>> animals.reader.classes, y.tolist(), x["side"].shape, x["side_mask"].tolist(), new["front"].shape
        (('cat', 'dog'), [0, 1], (2, 8, 8, 1), [True, False], (1, 8, 8, 1))
    """

    senses: Mapping[str, Sense]
    start: str | None = None
    label: str | None = None
    group: str | None = None
    classes: Sequence[str] | None = None
    FORMAT: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.senses:
            raise ValueError("Reader: name at least one sense, such as {'photo': Picture(28, 28)}")
        object.__setattr__(self, "senses", dict(self.senses))
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        names = [*self.senses, *(f"{name}_mask" for name in self.senses)]
        twice = [name for name, count in collections.Counter(names).items() if count > 1]
        twice += [name for name in (self.start, self.label) if name in self.senses]
        if twice:
            raise ValueError(f"Reader: the name {twice[0]!r} is needed twice: give a column another name")

    def manifest(self, path: Path | str, broken: str = "raise") -> "Recordings":
        """All rows of a manifest, each of its files read once to see whether it can be.

        The cells are names of files, relative to the manifest's folder. It may be separated by commas, semicolons or
        tabs, and may come from Windows.

        Args:
            path: a CSV file with a header.
            broken: what happens if a file or a cell cannot be read: "raise" (default) an error that lists all of them,
                "skip" those rows, or take the senses that cannot be read as "absent".

        Returns:
            The rows that are left. Their `faults` say what was wrong with the others, and their `reader` knows the
            classes.

        Raises:
            BrokenFiles: a line for each file or cell that cannot be read, with the number of its row.
            ValueError: if there is no such manifest, it lacks a column, or no row is left.
        """
        if broken not in ("raise", "skip", "absent"):
            raise ValueError(f"unknown broken={broken!r}: use 'raise', 'skip' or 'absent'")
        path = Path(path)
        header, rows = _manifest_rows(path)
        for name in (*self.senses, self.start, self.label, self.group):
            if name is not None and name not in header:
                raise ValueError(f"{path.name} has no column {name!r}: it has {', '.join(header)}")
        kept, faults = {}, []
        for number, row in rows:
            found, wrong = {}, self._wrong_cells(number, row, header)
            if not wrong:
                found, wrong = self._read(row, path.parent, number)
            faults += wrong
            if not wrong:
                kept[number] = row
            elif broken == "absent" and any(mask.any() for _, mask in found.values()):
                kept[number] = row | {fault.column: "" for fault in wrong}
        if faults and broken == "raise":
            count = len({fault.row for fault in faults})
            raise BrokenFiles(faults, f"{path.name}: {count} of {len(rows)} rows cannot be read")
        if not kept:
            raise ValueError(f"{path.name}: of {len(rows)} rows none can be read" + f": {faults[0]}" * bool(faults))
        reader = self
        if self.label is not None and self.classes is None:
            classes = sorted({row[self.label] for row in kept.values()}, key=_in_order)
            reader = dataclasses.replace(self, classes=classes)
        return Recordings(reader, path.parent, kept, faults)

    def arrays(self, rows: Sequence[Mapping[str, Any]], folder: Path | str = ".") -> dict[str, np.ndarray]:
        """A batch of rows as arrays, as `model.predict` takes it. One new recording is a list of one row.

        Args:
            rows: each from the name of a sense to the name of a file, and from that of `start` to seconds. Label and
                group may be there and are not looked at. A sense that is left out, empty or None is absent.
            folder: what the names are relative to.

        Returns:
            For each sense an array and a mask, the first axis of both the rows.

        Raises:
            BrokenFiles: a line for each file that cannot be read.
            ValueError: if there is no row, or one has a name that the reader does not know: a misspelt sense would
                pass for an absent one.
        """
        names = [name for name in (*self.senses, self.start, self.label, self.group) if name is not None]
        unknown = sorted({str(name) for row in rows for name in row if name not in names})
        if unknown:
            raise ValueError(f"the reader does not know {unknown[0]!r}: it knows {', '.join(names)}")
        return self._stacked([self._read(row, Path(folder)) for row in rows])

    def _stacked(self, read: Sequence[tuple[dict, list[Fault]]]) -> dict[str, np.ndarray]:
        """A batch of what `_read` gave."""
        if not read:
            raise ValueError("there is no row to read")
        faults = [fault for _, wrong in read for fault in wrong]
        if faults:
            raise BrokenFiles(faults)
        batch = {}
        for name in self.senses:
            batch[name] = np.stack([found[name][0] for found, _ in read])
            batch[f"{name}_mask"] = np.stack([found[name][1] for found, _ in read])
        return batch

    def save(self, path: Path | str) -> None:
        """Writes the reader to a JSON file, for `load` in another program."""
        senses = {name: {"kind": type(one).__name__, **dataclasses.asdict(one)} for name, one in self.senses.items()}
        rest = {name: getattr(self, name) for name in ("start", "label", "group", "classes")}
        Path(path).write_text(json.dumps({"format": self.FORMAT, "senses": senses, **rest}, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Reader":
        """The reader that `save` wrote.

        Raises:
            ValueError: if the file holds no reader, or one of a later version of the kit.
        """
        try:
            known = json.loads(Path(path).read_text(encoding="utf-8"))
            if known.pop("format") != cls.FORMAT:
                raise ValueError("it is of another version of the kit")
            senses = {name: dict(one) for name, one in known.pop("senses").items()}
            return cls({name: _KINDS[one.pop("kind")](**one) for name, one in senses.items()}, **known)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} holds no reader: {' '.join(str(error).split())}") from error

    def _wrong_cells(self, number: int, row: Mapping[str, str], header: Sequence[str]) -> list[Fault]:
        """What is wrong with cells that name no file."""
        if len(row) != len(header) or None in row:
            cells = len(row) - 1 + len(row[None]) if None in row else len(row)
            return [Fault(number, "all cells", "", f"it has {cells} cells, and the header {len(header)}")]
        faults = [
            Fault(number, name, "", "the cell is empty")
            for name in (self.label, self.group)
            if name is not None and not row[name]
        ]
        if self.label is not None and row[self.label] and self.classes is not None:
            if self.classes and row[self.label] not in self.classes:
                reason = f"it is none of the classes {', '.join(self.classes)}"
                faults.append(Fault(number, self.label, row[self.label], reason))
            elif not self.classes and _number(row[self.label]) is None:
                faults.append(Fault(number, self.label, row[self.label], "it is no number"))
        return faults

    def _read(
        self, row: Mapping[str, Any], folder: Path, number: int | None = None
    ) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[Fault]]:
        """From each sense to its array and its mask, and what could not be read: zeros and False."""
        found, faults = {}, []
        start = 0.0 if self.start is None else _number(row.get(self.start))
        if start is None or start < 0:
            cell = str(row.get(self.start) or "")
            return {}, [Fault(number, self.start, cell, "it is no number of seconds, 0 or more")]
        for name, sense in self.senses.items():
            cell = str(row.get(name) or "").strip()
            found[name] = np.zeros(sense.shape, "float32"), np.zeros(sense.mask_shape, bool)
            if cell:
                try:
                    found[name] = sense.read(_found(folder, cell), start)
                except _Unreadable as error:
                    faults.append(Fault(number, name, cell, str(error)))
        if not any(str(row.get(name) or "").strip() for name in self.senses):
            faults.append(Fault(number, ", ".join(self.senses), "", "no file is named"))
        return found, faults


class Recordings:
    r"""The rows of a manifest that can be read. `Reader.manifest` makes them.

    Attributes:
        reader: how they are read; it knows the classes.
        rows: tuple of dicts, from the name of a column to its cell.
        numbers: `(rows,)`, the number of each row as a spreadsheet shows it: the header is row 1.
        labels: `(rows,)`, the number of each row's class, or its number; None without a label.
        groups: `(rows,)`, the group of each row as text; None without groups.
        faults: what could not be read, a tuple of `Fault`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from mmkit import files
        >>> reader = files.Reader({"photo": files.Picture(8, 8)}, label="animal", group="garden")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.zeros((8, 8), "uint8")).save(f"{folder}/a.png")
        ...     with open(f"{folder}/animals.csv", "w") as manifest:
        ...         _ = manifest.write("photo,animal,garden\n")
        ...         for number in range(12):
        ...             _ = manifest.write(f"a.png,{('cat', 'dog')[number % 2]},garden {number // 3}\n")
        ...     train, test = reader.manifest(f"{folder}/animals.csv").split(0.75, 0.25)
        ...     for x, y in train.batches(5, shuffle=True):
        ...         print({name: tuple(array.shape) for name, array in x.items()}, tuple(y.shape))
        {'photo': (5, 8, 8, 1), 'photo_mask': (5,)} (5,)
        {'photo': (4, 8, 8, 1), 'photo_mask': (4,)} (4,)
        >>> len(train), len(test), set(train.groups) & set(test.groups)
        (9, 3, set())
    """

    def __init__(
        self, reader: Reader, folder: Path, rows: Mapping[int, Mapping[str, str]], faults: Sequence[Fault] = ()
    ) -> None:
        self.reader, self.folder, self.faults = reader, folder, tuple(faults)
        self.numbers, self.rows = np.array(list(rows)), tuple(rows.values())
        self.groups = None if reader.group is None else np.array([row[reader.group] for row in self.rows])
        self.labels = None
        if reader.label is not None:
            cells = [row[reader.label] for row in self.rows]
            places = {name: place for place, name in enumerate(reader.classes)}
            self.labels = np.array(
                [places[cell] for cell in cells] if places else cells, "int64" if places else "float32"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, places: Sequence[int] | np.ndarray) -> "Recordings":
        """The rows at `places`, in that order, or those where an array of booleans is True."""
        chosen = np.arange(len(self))[np.asarray(places)]
        if len(chosen) == 0:
            raise ValueError("no row is chosen")
        if len(set(chosen.tolist())) < len(chosen):
            raise ValueError("a row is chosen twice")
        rows = {int(self.numbers[place]): self.rows[place] for place in chosen}
        return Recordings(self.reader, self.folder, rows, self.faults)

    def split(self, *shares: float, seed: int = 0) -> list["Recordings"]:
        """Parts of about these shares of the rows, no group in two of them.

        Which group goes where follows from `seed` and the groups' names alone, not from the order of the rows.

        Args:
            *shares: of each part, such as 0.6, 0.2, 0.2. They sum to 1.
            seed: of the draw.

        Returns:
            The parts, each with its rows in the manifest's order. Without groups each row is a group of its own.

        Raises:
            ValueError: if the shares do not sum to 1, or there are too few groups to give each part one.
        """
        if len(shares) < 2 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"shares must be two or more, positive, and sum to 1: got {shares}")
        groups = self.numbers.astype(str) if self.groups is None else self.groups
        names, sizes = np.unique(groups, return_counts=True)
        if len(names) < len(shares):
            raise ValueError(f"{len(names)} groups do not make {len(shares)} parts")
        drawn = sorted(range(len(names)), key=lambda place: hashlib.sha256(f"{seed}/{names[place]}".encode()).digest())
        bounds, part, upto, member_of = np.cumsum(shares) * len(self), 0, 0, {}
        for left, place in zip(range(len(names), 0, -1), drawn):
            full = upto + sizes[place] / 2 > bounds[part] or left < len(shares) - part
            if full and part in member_of.values() and part + 1 < len(shares):
                part += 1
            member_of[names[place]] = part
            upto += sizes[place]
        member = np.array([member_of[name] for name in groups])
        return [self.select(member == number) for number in range(len(shares))]

    def arrays(self) -> Any:
        """All rows as `(inputs, labels)`, or as `inputs` if there is no label, in the order of the rows."""
        inputs = self._inputs(range(len(self)))
        return inputs if self.labels is None else (inputs, self.labels)

    def batches(self, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Batches `(inputs, labels)`, or `inputs` if there is no label, for `model.fit`.

        Args:
            batch_size: examples a batch; the last batch may be smaller.
            **options: those of `mmkit.pipelines.batches`: `shuffle`, `seed`, `cache`, `augment` and others. Without
                any, the rows are read once, kept in memory and given in their order.
        """

        def examples() -> Any:
            for place in range(len(self)):
                inputs = {name: array[0] for name, array in self._inputs([place]).items()}
                yield inputs if self.labels is None else (inputs, self.labels[place])

        spec: Any = {name: tf.TensorSpec(sense.shape, tf.float32) for name, sense in self.reader.senses.items()}
        for name, sense in self.reader.senses.items():
            spec[f"{name}_mask"] = tf.TensorSpec(sense.mask_shape, tf.bool)
        if self.labels is not None:
            spec = spec, tf.TensorSpec((), self.labels.dtype)
        dataset = tf.data.Dataset.from_generator(examples, output_signature=spec)
        return pipelines.batches(
            dataset.apply(tf.data.experimental.assert_cardinality(len(self))), batch_size, **options
        )

    def _inputs(self, places: Sequence[int]) -> dict[str, np.ndarray]:
        read = (self.reader._read(self.rows[place], self.folder, int(self.numbers[place])) for place in places)
        return self.reader._stacked(list(read))


# --- what all share ---------------------------------------------------------------------------------------------------


def _check_positive(sense: Any, *names: str) -> None:
    for name in names:
        if not getattr(sense, name) > 0:
            raise ValueError(f"{type(sense).__name__}: {name} must be positive: got {getattr(sense, name)}")


class _Recent:
    """Files that were decoded lately, the last ones of them that fit."""

    def __init__(self) -> None:
        self.kept: collections.OrderedDict[Any, Any] = collections.OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        made = self.kept[key] = make()
        while len(self.kept) > 1 and sum(map(_nbytes, self.kept.values())) > _KEPT_BYTES:
            self.kept.popitem(last=False)
        return made


def _nbytes(decoded: Any) -> int:
    return sum(array.nbytes for array in (decoded if isinstance(decoded, tuple) else (decoded,)))


_recent = _Recent()


def _decoded(decode: Callable[[Path], Any], path: Path | str) -> Any:
    """What `decode`, a sense's method, makes of a file; kept for the next call, unless the file is another by then.

    Decoders raise nearly anything over broken files: all of it becomes one line.
    """
    path = Path(path)
    try:
        state = path.stat()
        if not path.is_file():
            raise _Unreadable("it is no file")
        key = decode.__self__, os.fspath(path.absolute()), state.st_mtime_ns, state.st_size
        return _recent.get(key, lambda: decode(path))
    except FileNotFoundError:
        raise _Unreadable("there is no such file") from None
    except _Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise _Unreadable("it is no picture that Pillow can open") from error
    except Exception as error:
        raise _Unreadable(" ".join(str(error).split()) or type(error).__name__) from error


def _found(folder: Path, cell: str) -> Path:
    """The file that a cell names; a backslash is taken for a slash where that is the file there is."""
    path = folder / cell
    return path if path.exists() or "\\" not in cell else folder / cell.replace("\\", "/")


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the rows that are not blank, each with its number: the header's is 1."""
    text = path.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    table = [(number, row) for number, row in enumerate(lines, start=1) if any(cell.strip() for cell in row)]
    if not table:
        raise _Unreadable("it is empty")
    return [name.strip() for name in table[0][1]], table[1:]


def _manifest_rows(path: Path) -> tuple[list[str], list[tuple[int, dict]]]:
    """The manifest's header, and its rows as dicts, stripped. Cells too many are under None."""
    try:
        header, rows = _read_csv(path)
    except FileNotFoundError:
        raise ValueError(f"there is no manifest {path}") from None
    except (_Unreadable, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {' '.join(str(error).split())}") from error
    if not rows:
        raise ValueError(f"{path.name} has a header and no rows")
    dicts = []
    for number, row in rows:
        cells = dict(zip(header, map(str.strip, row)))
        dicts.append((number, cells | ({None: row[len(header) :]} if len(row) > len(header) else {})))
    return header, dicts


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _in_order(label: str) -> tuple[int, float, str]:
    """To sort labels: numbers by their size, before words."""
    number = _number(label)
    return (1, 0.0, label) if number is None else (0, number, label)
