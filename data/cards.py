"""Draws the pictures on the data cards: `make cards`. Examples of the prepared data sets, into data/*.png."""

import io
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import mmkit

with mmkit.quiet_imports():
    import tensorflow  # noqa: F401
    import tensorflow_datasets as tfds

    import mmkit.datasets
    from mmkit.datasets.av_digits import mel_spectrogram
    from mmkit.datasets.watch.builder import EXERCISES, RATE, read_recordings
    from mmkit.lesson import plots

DATA = Path(__file__).resolve().parent
SHOWN = (0, 2, 4, 7, 9)


def examples(name: str) -> list[dict]:
    """The training examples of a data set, in order of `image_id`."""
    rows = tfds.as_numpy(tfds.load(name, split="train"))
    return sorted(rows, key=lambda row: row["image_id"])


def save(figure: plt.Figure, name: str) -> None:
    """Writes the figure with 32 greys, to keep it small."""
    page = io.BytesIO()
    figure.savefig(page, dpi=100)
    Image.open(page).convert("L").quantize(32).save(DATA / name, optimize=True)
    print(f"data/{name}: {(DATA / name).stat().st_size // 1000} kB")


def draw_digits(rows: list[dict]) -> None:
    """Two examples of each class."""
    chosen = [[row for row in rows if row["label"] == digit][:2] for digit in range(10)]
    images = np.array([pair[i]["image"] for i in range(2) for pair in chosen])
    axes = plots.image_grid(images, [str(digit) for digit in range(10)] * 2, columns=10, size=0.7)
    save(axes[0, 0].figure, "digits.png")


def draw_av_digits(rows: list[dict], clean: dict[int, np.ndarray]) -> None:
    """An example of each shown class: seen, heard and felt, under what the first and the last were made from."""
    chosen = [next(row for row in rows if row["label"] == digit) for digit in SHOWN]
    spectrogram = mel_spectrogram()
    figure, axes = plt.subplots(5, len(SHOWN), figsize=(7, 7.4), height_ratios=(1, 1, 1, 1, 1.5))
    names = ("picture\n(MNIST)", "image", "audio\n(spectrogram)", "embossed digit\n(MNIST)", "touch")
    for row_axes, name in zip(axes, names, strict=True):
        row_axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for column, row in zip(axes.T, chosen, strict=True):
        column[0].imshow(clean[row["image_id"]])
        column[1].imshow(row["image"], vmin=0, vmax=255)
        sound = np.asarray(spectrogram(row["audio"][None] / np.float32(32_768)))[0]
        column[2].imshow(sound, origin="lower", aspect="auto", extent=(0, 0.8, 0, 32))
        column[3].imshow(clean[row["touch_id"]])
        column[4].imshow(row["touch"], aspect="auto", vmin=0, vmax=255)
        column[0].set_title(f"digit {row['label']}", fontsize=9)
        for ax, severity in zip((column[1], column[2], column[4]), row["severity"], strict=True):
            ax.set_title(f"severity {severity}", fontsize=7, pad=2)
        for ax in (column[0], column[1], column[3]):
            ax.set_xticks([]), ax.set_yticks([])
        column[2].set_yticks([]), column[2].set_xticks([0, 0.8], ["0", "0.8 s"], fontsize=7)
        column[4].set_xticks([0, 15], ["cell 1", "16"], fontsize=7), column[4].set_yticks([])
    axes[2, 0].set_yticks([0, 32], ["60 Hz", "4 kHz"], fontsize=7)
    axes[4, 0].set_yticks([0, 47], ["step 1", "48"], fontsize=7)
    save(figure, "av_digits.png")


def draw_emoji() -> None:
    """Three emoji of each group, in colour."""
    rows = sorted(tfds.as_numpy(tfds.load("emoji/small", split="train")), key=lambda row: row["emoji_id"])
    names = tfds.builder("emoji/small").info.features["group"].names
    figure, axes = plt.subplots(3, len(names), figsize=(9, 3.9))
    for group, name in enumerate(names):
        members = [row for row in rows if row["group"] == group]
        for ax, row in zip(axes[:, group], members[:: len(members) // 3], strict=False):
            ax.imshow(row["image"])
            ax.axis("off")
            ax.set_title("\n".join(textwrap.wrap(row["names"]["en"].decode(), 15)), fontsize=6, pad=2)
        axes[0, group].text(
            0.5,
            1.55,
            name.replace(" & ", "\n& "),
            fontsize=8,
            ha="center",
            va="center",
            weight="bold",
            transform=axes[0, group].transAxes,
        )
    page = io.BytesIO()
    figure.savefig(page, dpi=100)
    Image.open(page).convert("RGB").quantize(64).save(DATA / "emoji.png", optimize=True)
    print(f"data/emoji.png: {(DATA / 'emoji.png').stat().st_size // 1000} kB")


def draw_watch() -> None:
    """Five seconds of each exercise, one person's right arm."""
    recordings = [one for one in read_recordings() if one["person"] == 1 and one["arm"] == 1]
    figure, axes = plt.subplots(2, len(EXERCISES), figsize=(10, 3.4), sharex=True, sharey="row", layout="constrained")
    for column, (label, name) in zip(axes.T, enumerate(EXERCISES.values()), strict=True):
        (signal,) = [one["signal"][250:500] for one in recordings if one["label"] == label]
        for ax, channels in zip(column, (signal[:, :3], signal[:, 3:]), strict=True):
            for values, style, axis in zip(channels.T, ("-", "--", ":"), "xyz", strict=True):
                ax.plot(np.arange(250) / RATE, values, style, label=axis, color="black", linewidth=1)
        column[0].set_title(name, fontsize=8)
        column[1].set_xlabel("time in s", fontsize=8)
    for ax, name in zip(axes[:, 0], ("acceleration in g", "rotation in rad/s"), strict=True):
        ax.set_ylabel(name, fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside right upper", title="axis")
    for ax in axes.flat:
        ax.tick_params(labelsize=7)
    save(figure, "watch.png")


def main() -> None:
    """Draws all of them."""
    plots.use_style()
    digits = examples("digits/small")
    draw_digits(digits)
    draw_emoji()
    draw_av_digits(examples("av_digits/small"), {row["image_id"]: row["image"] for row in digits})
    draw_watch()


if __name__ == "__main__":
    main()
