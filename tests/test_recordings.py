"""The folder of recordings: what is planted in it is what was said, and a volume does not change the features."""

import csv
import wave
from collections import Counter

import numpy as np
import pytest

from mmkit.datasets import recordings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def hit(folder):
    return recordings.record(folder, seed=3)


@pytest.fixture(scope="module")
def table(folder, hit):
    with open(folder / "recordings.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def samples(path):
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_each_fault_hits_as_many_as_said_and_none_twice(folder, hit, table):
    assert {fault: len(hit[fault]) for fault in recordings.FAULTS} == recordings.FAULTS
    firsts = [name.removesuffix("_b") for fault in recordings.FAULTS for name in hit[fault]]
    assert len(set(firsts)) == len(firsts)
    assert len(table) == 12 * sum(recordings.TAKES) + 60  # two kinds of copies
    assert Counter(int(row["digit"]) for row in table if not row["file"].endswith("_b")) == {
        digit: 12 * takes for digit, takes in enumerate(recordings.TAKES)
    }
    wrong = {row["file"] for row in table if row["speaker"] not in recordings.PEOPLE}
    assert wrong == hit["name misspelt"]
    assert {row["speaker"].strip().capitalize() for row in table} == set(recordings.PEOPLE)


def test_what_was_hit_is_so_in_the_files(folder, hit, table):
    assert all(len(samples(folder / f"{name}.wav")) == 0 for name in hit["no sound"])
    for name in hit["copied"]:
        first = name.removesuffix("_b")
        assert (folder / f"{name}.wav").read_bytes() == (folder / f"{first}.wav").read_bytes()
    pairs = [(name, name.removesuffix("_b")) for name in sorted(hit["exported again"])]
    pairs = [[samples(folder / f"{name}.wav") for name in pair] for pair in pairs]
    quiet, loud = (recordings.sound_features(list(sounds)) for sounds in zip(*pairs, strict=True))
    assert np.abs(quiet - loud).mean() < 0.1  # decibels
    assert all(np.abs(first).max() < 0.9 * np.abs(second).max() for first, second in pairs)
    for name in hit["cut short"]:
        with wave.open(str(folder / f"{name}.wav")) as file:  # it opens, and holds less than it says
            assert len(file.readframes(file.getnframes())) < 2 * file.getnframes()
    without = {row["file"] for row in table if not (folder / f"{row['file']}.csv").exists()}
    assert without == hit["no touch"] & {row["file"] for row in table}
    of = {row["file"]: row["speaker"].strip().capitalize() for row in table}
    assert {of[name] for name in without} == set(recordings.BAD_GLOVES)


def test_strangers_are_others_and_nothing_is_wrong_with_them(tmp_path, folder, table):
    assert recordings.record(tmp_path / "world", strangers=True, seed=3) == {}
    with open(tmp_path / "world" / "recordings.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["speaker"] for row in rows).most_common()[-1][1] == 10 and len(rows) == 400
    names = [row["file"] for row in rows]
    pictures = recordings.picture_features(tmp_path / "world", names)
    touches = recordings.touch_features(tmp_path / "world", names)
    assert pictures.shape == (400, 196) and touches.shape == (400, 96)
    assert pictures.min() >= 0 and pictures.max() <= 1 and touches.max() <= 1 and (touches.max(axis=1) > 0).all()
    inside = recordings.picture_features(folder, [row["file"] for row in table])
    assert len({row.tobytes() for row in pictures} & {row.tobytes() for row in inside}) == 0


def test_a_seed_makes_the_same_folder_again(tmp_path, folder, hit, table):
    assert recordings.record(tmp_path, seed=3) == hit
    for row in table[::50]:
        for kind in ("wav", "png"):
            name = f"{row['file']}.{kind}"
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_without_faults_there_are_none(tmp_path):
    assert recordings.record(tmp_path, spoilt=False, seed=3) == {}
    assert len(list(tmp_path.glob("*.csv"))) - 1 == len(list(tmp_path.glob("*.wav"))) == 12 * sum(recordings.TAKES)


def test_a_missing_touch_is_all_zeros(folder, hit):
    name = sorted(name for name in hit["no touch"] if not name.endswith("_b"))[0]
    assert not recordings.touch_features(folder, [name]).any()


def test_padding_by_longer_neighbours_changes_no_feature():
    rng = np.random.default_rng(0)
    short, long = (rng.integers(-9_000, 9_000, length).astype(np.int16) for length in (2_000, 6_000))
    together = recordings.sound_features([short, long])[0]
    np.testing.assert_allclose(together, recordings.sound_features([short])[0], atol=1e-4)
