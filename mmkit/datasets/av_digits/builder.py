"""`av_digits`: a digit that is seen, heard and felt, each of the three too poorly to be sure of it."""

import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from mmkit.datasets.av_digits import espeak, senses
from mmkit.datasets.base import KitBuilder
from mmkit.datasets.digits import builder as digits
from mmkit.ground import sources

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en", "en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
# These voices take their breath from the C library's random numbers, which differ from one system to another.
UNSTEADY_VOICES = ("Alicia", "Demonic", "f2", "f3", "f5", "sandro", "victor", "whisper", "whisperf")
SPEAKERS = {"train": ("jackson", "nicolas", "theo"), "validation": ("yweweler",), "test": ("george",)}  # spoken_digit
Recordings = dict[str, list[tuple[str, np.ndarray]]]  # from a split to one (voice, sound) per picture


def engine_folder() -> Path:
    """Where the eSpeak NG engine lies, fetched if need be."""
    return sources.fetch("espeak") / "espeakng_loader"


def split_voices(names: list[str]) -> dict[str, list[str]]:
    """Shares voices out to the splits, about 70, 10 and 20 of a hundred.

    Voices of one family (klatt, klatt2, klatt3, ...) differ little, so a family stays together.

    Args:
        names: eSpeak's voice names.
    """
    families = sorted({re.sub(r"\d+$", "", name) for name in names})
    np.random.RandomState(20_260_102).shuffle(families)
    low, high = len(families) * 7 // 10, len(families) * 8 // 10
    shares = {"train": families[:low], "validation": families[low:high], "test": families[high:]}
    return {
        split: [name for name in sorted(names) if re.sub(r"\d+$", "", name) in share] for split, share in shares.items()
    }


def speak(requests: list[dict]) -> list[np.ndarray]:
    """Speaks words with eSpeak NG, in a process of its own.

    Args:
        requests: one dict per word: `word`, `voice`, `rate` (words a minute), `pitch` (0 to 99).

    Returns:
        One recording per request, shape `(samples,)`, int16 at 8,000 Hz.

    Raises:
        mmkit.ground.sources.SourceError: if the engine does not run on this machine.
    """
    command = [sys.executable, espeak.__file__, str(engine_folder())]
    sounds = []
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as complaints:
        asked.write("".join(json.dumps(request) + "\n" for request in requests).encode())
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE, stderr=complaints) as engine:
            for _ in tqdm(requests, desc="Speaking", unit=" words", leave=False):
                head = engine.stdout.read(4)
                if len(head) < 4:
                    break
                samples = engine.stdout.read(2 * struct.unpack("<I", head)[0])
                sounds.append(senses.resample(np.frombuffer(samples, "<i2"), espeak.SAMPLE_RATE))
        complaints.seek(0)
        last = (complaints.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    if engine.returncode != 0 or len(sounds) != len(requests):
        raise sources.SourceError(
            f"the speech synthesiser does not run on this machine ({last}): "
            f"delete {sources.folder('espeak')} and fetch espeak again"
        )
    return sounds


def pair_up(ids: np.ndarray, labels: np.ndarray, random: np.random.RandomState) -> dict[int, int]:
    """For each picture another one of its class, to be felt; each is felt once."""
    partner = {}
    for digit in range(10):
        ring = random.permutation(ids[labels[ids] == digit])
        partner.update(zip(ring.tolist(), np.roll(ring, 1).tolist(), strict=True))
    return partner


class AvDigits(KitBuilder):
    """Digits seen (MNIST), heard (synthesised or recorded speech) and felt (simulated), each sense degraded.

    Example:
        >>> from mmkit.datasets import AvDigits
        >>> sorted(AvDigits(config="small").info.features)
        ['audio', 'image', 'image_id', 'label', 'severity', 'touch', 'touch_id', 'voice']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="5,000 digits, built offline; synthesised speech"),
        tfds.core.BuilderConfig(name="full", description="70,000 digits of TFDS's mnist, speech of its spoken_digit"),
    ]
    SOURCES = {"small": ("mnist-5k", "espeak")}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="A digit seen, heard and felt. See data/av_digits.md.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), doc="grey levels, 255 is ink"),
                    "audio": tfds.features.Tensor(
                        shape=(senses.AUDIO_SAMPLES,), dtype=np.int16, encoding="zlib", doc="sound pressure at 8,000 Hz"
                    ),
                    "touch": tfds.features.Tensor(
                        shape=(senses.TOUCH_STEPS, senses.TOUCH_CELLS),
                        dtype=np.uint8,
                        encoding="zlib",
                        doc="pressure by step and cell",
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "severity": tfds.features.Tensor(
                        shape=(3,), dtype=np.uint8, doc="how badly image, audio and touch are degraded, 0 to 255"
                    ),
                    "voice": tfds.features.Text(doc="who speaks"),
                    "image_id": tfds.features.Scalar(np.int32, doc="which digit is seen"),
                    "touch_id": tfds.features.Scalar(np.int32, doc="which digit is felt"),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "small":
            pictures, labels = digits.read_mnist_5k()
            ids = digits.split_ids(labels)
            recordings = synthesised(ids, labels)
        else:
            pictures, labels, ids = digits.read_full_mnist(self)
            recordings = recorded(self, ids, labels)
        return {split: self._generate_examples(pictures, labels, ids[split], recordings[split]) for split in ids}

    def _generate_examples(self, pictures, labels, ids, recordings):
        partner = pair_up(ids, labels, np.random.RandomState(20_260_103))
        for number, (voice, sound) in zip(ids.tolist(), recordings, strict=True):
            random = np.random.RandomState([20_260_104, number])
            severity = random.randint(0, 256, size=3, dtype=np.int32)
            yield (
                number,
                {
                    "image": senses.degrade_image(pictures[number], int(severity[0]), random)[..., None],
                    "audio": senses.degrade_audio(sound, int(severity[1]), random),
                    "touch": senses.feel(pictures[partner[number]], int(severity[2]), random),
                    "label": int(labels[number]),
                    "severity": severity.astype(np.uint8),
                    "voice": voice,
                    "image_id": number,
                    "touch_id": partner[number],
                },
            )


def synthesised(ids: dict[str, np.ndarray], labels: np.ndarray) -> Recordings:
    """For each split one `(voice, recording)` per picture, spoken by a voice of that split alone."""
    folder = engine_folder() / "espeak-ng-data" / "voices" / "!v"
    voices = split_voices([path.name for path in folder.iterdir() if path.name not in UNSTEADY_VOICES])
    random = np.random.RandomState(20_260_105)
    requests = []
    for split in ids:
        for number in ids[split]:
            voice = voices[split][random.randint(len(voices[split]))]
            requests.append(
                {
                    "word": WORDS[labels[number]],
                    "voice": f"{ACCENTS[random.randint(len(ACCENTS))]}+{voice}",
                    "rate": int(random.randint(150, 221)),
                    "pitch": int(random.randint(30, 71)),
                    "place": (split, len(requests)),
                }
            )
    requests.sort(key=lambda request: (request["voice"], request["place"]))  # the engine changes its voice slowly
    spoken = sorted(zip(requests, speak(requests), strict=True), key=lambda pair: pair[0]["place"][1])
    return {
        split: [(request["voice"], sound) for request, sound in spoken if request["place"][0] == split] for split in ids
    }


def recorded(builder: KitBuilder, ids: dict[str, np.ndarray], labels: np.ndarray) -> Recordings:
    """The same from the people of TFDS's spoken_digit: a recording serves many pictures, each under other noise."""
    said: dict[tuple[str, int], list[np.ndarray]] = {}
    for example in builder._public("spoken_digit", "train"):
        speaker = example["audio/filename"].decode().split("_")[1]
        said.setdefault((speaker, int(example["label"])), []).append(example["audio"].astype(np.int16))
    random = np.random.RandomState(20_260_106)
    recordings = {}
    for split in ids:
        recordings[split] = []
        for number in ids[split]:
            speaker = SPEAKERS[split][random.randint(len(SPEAKERS[split]))]
            takes = said[speaker, int(labels[number])]
            recordings[split].append((speaker, takes[random.randint(len(takes))]))
    return recordings
