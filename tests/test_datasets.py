"""The data sets: what they hold, that it is the same everywhere, and that no split knows another.

The data sets themselves come from the user's cache; what is not there is built when a test asks for it.
"""

import hashlib
import os
import platform
import re
import struct
import sys
import termios
from contextlib import contextmanager
from fcntl import ioctl
from itertools import combinations
from pathlib import Path

import faults
import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from mmkit import __main__, datasets
    from mmkit.datasets.av_digits import builder as av_digits
    from mmkit.datasets.digits import builder as digits
    from mmkit.ground import settings, sources

SIZES = {"train": 3_500, "validation": 500, "test": 1_000}
LINUX = sys.platform == "linux" and platform.machine() == "x86_64"

# Of each field of all 5,000 examples, in order of image_id. Other content needs another version of the data set.
CONTENT = {
    "av_digits/small:1.0.0": {
        "audio": "21abe4b94b90750e",
        "image": "d922d1fba43e11bc",
        "image_id": "0bd2462cf373e94a",
        "label": "c3556f4a243d7dc7",
        "severity": "0d59916e5bc3d51a",
        "touch": "e79f525328f83dd4",
        "touch_id": "50184f4a9031638b",
        "voice": "59f9de706a034499",
    },
    "digits/small:1.0.0": {"image": "2913c6b6527114b7", "image_id": "0bd2462cf373e94a", "label": "c3556f4a243d7dc7"},
}


def load(name: str) -> dict[str, list[dict]]:
    """All examples of data set `name` by split, in order of `image_id`."""
    return {
        split: sorted(tfds.as_numpy(tfds.load(name, split=split)), key=lambda example: example["image_id"])
        for split in SIZES
    }


@pytest.fixture(scope="module")
def examples():
    return {name.split(":")[0]: load(name.split(":")[0]) for name in CONTENT}


@pytest.fixture(scope="module")
def felt(examples):
    return examples["av_digits/small"]


def fingerprints(splits: dict[str, list[dict]]) -> dict[str, str]:
    """The beginning of the SHA-256 of each field."""
    rows = sorted((row for split in splits.values() for row in split), key=lambda row: row["image_id"])
    bytes_of = {field: b"".join(np.asarray(row[field]).tobytes() for row in rows) for field in rows[0]}
    bytes_of["voice"] = b" ".join(row.get("voice", b"") for row in rows)
    found = {field: hashlib.sha256(bytes_of[field]).hexdigest()[:16] for field in rows[0]}
    if "audio" in found and not LINUX:  # eSpeak's own arithmetic may round otherwise on another system, and the
        for field in ("audio", "touch"):  # length of the sound decides which random numbers the touch gets
            found[field] = CONTENT["av_digits/small:1.0.0"][field]
    return found


@pytest.mark.parametrize("name", CONTENT)
def test_same_version_same_content(examples, name):
    data_set, version = name.split(":")
    assert str(tfds.builder(data_set).version) == version
    assert fingerprints(examples[data_set]) == CONTENT[name]


@pytest.mark.parametrize("name", CONTENT)
def test_sizes_and_balance(examples, name):
    for split, size in SIZES.items():
        rows = examples[name.split(":")[0]][split]
        assert len(rows) == size
        assert np.bincount([row["label"] for row in rows]).tolist() == [size // 10] * 10


def test_shapes_and_types(felt):
    shapes = {
        "image": ((28, 28, 1), np.uint8),
        "audio": ((6_400,), np.int16),
        "touch": ((48, 16), np.uint8),
        "label": ((), np.int64),
        "severity": ((3,), np.uint8),
        "image_id": ((), np.int32),
        "touch_id": ((), np.int32),
    }
    for row in felt["test"]:
        assert {field: (np.shape(row[field]), np.asarray(row[field]).dtype) for field in shapes} == shapes
        assert isinstance(row["voice"], bytes) and set(row) == {*shapes, "voice"}


def test_severity_takes_all_of_its_range(felt):
    severity = np.array([row["severity"] for row in felt["train"]], dtype=int)
    assert severity.min() == 0 and severity.max() == 255
    assert np.abs(severity.mean(axis=0) - 127.5).max() < 6
    assert np.abs(np.corrcoef(severity.T) - np.eye(3)).max() < 0.08  # one sense's has nothing to do with another's


def test_no_picture_in_two_splits_to_see_or_to_feel(felt):
    used = {split: {row[key] for row in rows for key in ("image_id", "touch_id")} for split, rows in felt.items()}
    assert [len(numbers) for numbers in used.values()] == list(SIZES.values())
    for one, other in combinations(SIZES, 2):
        assert not used[one] & used[other]


def test_what_is_felt_is_another_digit_of_the_same_class(felt):
    for rows in felt.values():
        label = {row["image_id"]: row["label"] for row in rows}
        assert all(row["touch_id"] != row["image_id"] for row in rows)
        assert all(label[row["touch_id"]] == row["label"] for row in rows)
        assert sorted(row["touch_id"] for row in rows) == sorted(label)  # each is felt once


def test_no_voice_or_family_of_voices_in_two_splits(felt):
    def family(voice):
        return re.sub(r"\d+$", "", voice.decode().split("+")[1])

    families = {split: {family(row["voice"]) for row in rows} for split, rows in felt.items()}
    assert all(len(names) >= 5 for names in families.values())
    for one, other in combinations(SIZES, 2):
        assert not families[one] & families[other]


def test_every_voice_and_accent_speaks_every_digit_about_equally(felt):
    accents = [row["voice"].decode().split("+")[0] for row in felt["train"]]
    assert set(accents) == set(av_digits.ACCENTS)
    assert min(map(accents.count, av_digits.ACCENTS)) > 3_500 / len(av_digits.ACCENTS) * 0.8


def test_digits_share_the_split_and_are_undegraded(examples):
    pictures, labels = digits.read_mnist_5k()
    for split in SIZES:
        clean, degraded = (examples[name][split] for name in ("digits/small", "av_digits/small"))
        assert [row["image_id"] for row in clean] == [row["image_id"] for row in degraded]
        assert all(np.array_equal(row["image"][..., 0], pictures[row["image_id"]]) for row in clean)
        assert all(row["label"] == labels[row["image_id"]] for row in clean)


def test_made_again_it_is_the_same(felt, monkeypatch):
    """The arithmetic under this NumPy, and the first words that the engine spoke, against what was stored."""
    asked = []
    monkeypatch.setattr(av_digits, "speak", lambda requests: asked.extend(requests) or [None] * len(requests))
    pictures, labels = digits.read_mnist_5k()
    ids = digits.split_ids(labels)
    av_digits.synthesised(ids, labels)
    monkeypatch.undo()
    spoken = {request["place"]: sound for request, sound in zip(asked, av_digits.speak(asked[:200]))}  # noqa: B905
    in_order = sorted((request for request in asked if request["place"][0] == "test"), key=lambda one: one["place"])
    recordings = [(request["voice"], spoken.get(request["place"], np.zeros(1, np.int16))) for request in in_order]
    assert sum(request["place"] in spoken for request in in_order) > 10
    builder = tfds.builder("av_digits/small")
    stored = {row["image_id"]: row for row in felt["test"]}
    examples = builder._generate_examples(pictures, labels, ids["test"], recordings)
    for request, (number, made) in zip(in_order, examples, strict=True):
        same = {field: np.array_equal(made[field], stored[number][field]) for field in made if field != "voice"}
        assert made["voice"] == stored[number]["voice"].decode()
        if request["place"] not in spoken or not LINUX:  # the length of the sound decides on the chance for the touch
            del same["audio"], same["touch"]
        assert all(same.values()), same


def test_voices_are_shared_out_by_family():
    names = [f"{family}{number}" for family in "abcdefghijklmnopqrst" for number in ("", 2, 13)]
    shares = av_digits.split_voices(names)
    assert sorted(sum(shares.values(), [])) == sorted(names)
    assert {split: len(voices) // 3 for split, voices in shares.items()} == {"train": 14, "validation": 2, "test": 4}
    assert shares == av_digits.split_voices(names[::-1])  # the order of a folder's files does not matter


def test_an_engine_that_does_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr(av_digits, "engine_folder", lambda: tmp_path)
    with pytest.raises(sources.SourceError, match="synthesiser does not run .*fetch espeak again"):
        av_digits.speak([{"word": "one", "voice": "en", "rate": 180, "pitch": 50}])


def test_a_voice_that_is_not_there():
    with pytest.raises(sources.SourceError, match="no voice xx"):
        av_digits.speak([{"word": "one", "voice": "xx", "rate": 180, "pitch": 50}])


# --- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "imports",
    [
        "import {tfds}; import mmkit.datasets",
        pytest.param("import mmkit.datasets; import {tfds}", marks=pytest.mark.slow),
    ],
)
def test_loads_from_any_folder_in_either_order_of_imports(imports, tmp_path, built):
    built("av_digits")
    code = imports.format(tfds="tensorflow_datasets as tfds")
    code += "; print(len(tfds.load('av_digits/small', split='test')))"
    cache = settings.cache_dir()
    child = faults.run("-c", code, cwd=tmp_path, env=faults.environment(cache, MMKIT_OFFLINE="1"))
    assert child.stdout == "1000\n", child.stderr
    assert not list(tmp_path.iterdir())


def test_folder_of_data(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert Path(tfds.builder("digits/small").data_dir) == settings.cache_dir() / "tfds" / "digits" / "small" / "1.0.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert Path(tfds.builder("digits/small").data_dir) == tmp_path / "digits" / "small" / "1.0.0"
    assert Path(tfds.builder("digits/small", data_dir=tmp_path / "x").data_dir).is_relative_to(tmp_path / "x")


def test_unknown_data_set(capsys):
    with pytest.raises(sources.SourceError, match="no data set called 'nosuch': choose from .*av_digits"):
        datasets.build("nosuch")
    assert __main__.main(["prepare", "nosuch"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("mmkit: there is no data set called 'nosuch'")


# --- building, and what can go wrong ------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path):
    """An empty cache but for the sources, which are borrowed from the user's."""
    for name in sources.names():
        sources.fetch(name)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sources").symlink_to(settings.cache_dir() / "sources")
    return tmp_path / "cache"


def prepared(cache: Path, name: str) -> bool:
    """Whether the data set is there, nothing half-made beside it."""
    here = {path.name for path in (cache / "tfds" / name / "small").iterdir()}
    return here == {"1.0.0"} and (cache / "tfds" / name / "small" / "1.0.0" / "dataset_info.json").exists()


@pytest.mark.parametrize("name", ["digits", pytest.param("av_digits", marks=pytest.mark.slow)])
def test_killed_while_it_is_built(cache, name, monkeypatch):
    child = faults.start("-m", "mmkit", "prepare", name, env=faults.environment(cache))
    folder = cache / "tfds" / name / "small"
    faults.wait_until(lambda: list(folder.glob("incomplete.*")))
    faults.kill(child)
    assert [path.name for path in folder.iterdir()] != ["1.0.0"]
    monkeypatch.setenv("MMKIT_CACHE", str(cache))
    assert datasets.build(name) == folder / "1.0.0"
    assert prepared(cache, name)
    assert fingerprints(load(f"{name}/small")) == CONTENT[f"{name}/small:1.0.0"]


@pytest.mark.parametrize("name", ["digits", pytest.param("av_digits", marks=pytest.mark.slow)])
def test_built_by_two_at_once(cache, name):
    children = [faults.start("-m", "mmkit", "prepare", name, env=faults.environment(cache)) for _ in range(2)]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    assert prepared(cache, name)


def test_built_by_another_after_this_one_looked(cache, monkeypatch):
    monkeypatch.setenv("MMKIT_CACHE", str(cache))
    early = tfds.builder("digits/small")
    datasets.build("digits")
    early.download_and_prepare()
    assert early.info.splits["test"].num_examples == 1_000


def test_damaged_data_is_built_again(cache, monkeypatch):
    monkeypatch.setenv("MMKIT_CACHE", str(cache))
    (file,) = datasets.build("digits").glob("digits-test.*")
    whole = file.stat().st_size
    os.truncate(file, whole // 2)
    assert len(list(tfds.load("digits/small", split="test"))) == 1_000
    file.unlink()
    assert len(list(tfds.load("digits/small", split="test"))) == 1_000
    assert file.stat().st_size == whole and prepared(cache, "digits")


def test_full_disk(cache):
    full = faults.full_disk(100_000)
    child = faults.run("-m", "mmkit", "prepare", "digits", env=faults.environment(cache), preexec_fn=full)
    assert "does not fit on the disk" in faults.one_line(child)
    assert not list((cache / "tfds" / "digits" / "small").iterdir())


def test_read_only_folder(cache, monkeypatch):
    (cache / "tfds").mkdir(mode=0o555)
    child = faults.run("-m", "mmkit", "prepare", "digits", env=faults.environment(cache), preexec_fn=faults.obey_modes)
    assert "cannot be written" in faults.one_line(child)
    (cache / "tfds").chmod(0o755)
    monkeypatch.setenv("MMKIT_CACHE", str(cache))
    datasets.build("digits")
    folders = [path for path in [cache, *(cache / "tfds").rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    code = "import mmkit.datasets, tensorflow_datasets as tfds; print(len(tfds.load('digits/small', split='test')))"
    child = faults.run("-c", code, env=faults.environment(cache), preexec_fn=faults.obey_modes)
    for folder in folders:
        folder.chmod(0o755)
    assert child.stdout == "1000\n", child.stderr  # what is there is read


def test_a_terminal_shows_that_it_moves(cache):
    ours, theirs = os.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command, env = ("-m", "mmkit", "prepare", "av_digits"), faults.environment(cache)
    child = faults.start(*command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""
    try:
        while len(set(re.findall(r"Speaking: +(\d+)%", shown))) < 3:
            shown += os.read(ours, 10_000).decode(errors="replace")
    finally:
        faults.kill(child, group=True)
        os.close(ours)
    assert shown.startswith("mmkit: loading TensorFlow")  # before the first seconds of silence
    assert "cuda" not in shown.lower()


# --- the full configurations --------------------------------------------------------------------------------------


@contextmanager
def mock_public(train=100, test=20):
    """TFDS's mnist and spoken_digit replaced by a few plausible examples."""

    def as_dataset(self, split=None, **options):
        random = np.random.RandomState(0)
        if self.name == "mnist":
            rows = [
                {"image": random.randint(0, 256, (28, 28, 1)).astype(np.uint8), "label": i % 10}
                for i in range(train if split == "train" else test)
            ]
        else:
            people = sum(av_digits.SPEAKERS.values(), ())
            takes = [(digit, who, take) for digit in range(10) for who in people for take in range(2)]
            rows = [
                {
                    "audio": random.randint(-9_000, 9_000, 2_000 + 3_000 * take),
                    "label": digit,
                    "audio/filename": f"{digit}_{who}_{take}.wav".encode(),
                }
                for digit, who, take in takes
            ]
        kinds = {name: tf.TensorSpec(None, tf.as_dtype(np.asarray(rows[0][name]).dtype)) for name in rows[0]}
        kinds = {name: tf.TensorSpec(None, tf.string) if "file" in name else kind for name, kind in kinds.items()}
        return tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=kinds)

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield


@pytest.mark.parametrize("name", ["digits", "av_digits"])
def test_full_is_built_from_the_public_data_sets(name, tmp_path, monkeypatch):
    with mock_public():
        builder = tfds.builder(f"{name}/full", data_dir=tmp_path)
        public = {
            (source, split): list(builder._public(source, split))
            for source, split in (("mnist", "train"), ("mnist", "test"), ("spoken_digit", "train"))
        }
    monkeypatch.setattr(type(builder), "_public", lambda self, *what: iter(public[what]))
    builder.download_and_prepare()
    rows = {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in SIZES}
    assert {split: len(found) for split, found in rows.items()} == {"train": 80, "validation": 20, "test": 20}
    numbers = {split: sorted(row["image_id"] for row in found) for split, found in rows.items()}
    assert numbers == {"train": [*range(80)], "validation": [*range(80, 100)], "test": [*range(100, 120)]}
    pictures = [row["image"] for row in public["mnist", "train"] + public["mnist", "test"]]
    for split, found in rows.items():
        assert all(row["label"] == row["image_id"] % 10 for row in found)
        if name == "digits":
            assert all(np.array_equal(row["image"], pictures[row["image_id"]]) for row in found)
        else:
            assert {row["voice"].decode() for row in found} <= set(av_digits.SPEAKERS[split])
            assert all(row["touch_id"] != row["image_id"] and row["touch_id"] in numbers[split] for row in found)
            assert all(row["audio"].any() for row in found)


def test_full_has_no_person_in_two_splits():
    people = sum(av_digits.SPEAKERS.values(), ())
    assert sorted(people) == ["george", "jackson", "nicolas", "theo", "yweweler"]


@pytest.mark.parametrize("name", ["digits", "av_digits"])
def test_full_offline(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    with pytest.raises(sources.SourceError, match="mnist is not in .* MMKIT_OFFLINE is set: unset it"):
        datasets.build(name)
    assert not list((tmp_path / "tfds" / name / "full").iterdir())


def test_full_without_network(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds, "load", fail)
    with pytest.raises(sources.SourceError, match="could not bring mnist .*connect this machine"):
        tfds.builder("digits/full", data_dir=tmp_path).download_and_prepare()
