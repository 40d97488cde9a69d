"""The data set of emoji: the same everywhere, its variants together in one split, its names in fourteen languages."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow_datasets as tfds

    from mmkit import datasets
    from mmkit.datasets.emoji import builder as emoji

SIZES = {"train": 1_181, "validation": 172, "test": 339}

# Of each field of all 1,692 examples, in order of emoji_id. Other content needs another version of the data set.
CONTENT = {
    "emoji": "2af4e753a1fdcc20",
    "emoji_id": "890f39b1303eedce",
    "family": "890f39b1303eedce",
    "group": "b1cb6169a19f8766",
    "image": "395203d49527dca4",
    "names": "e7ab28a67d8a6dd7",
    "subgroup": "f6116cdb06557b2f",
}


@pytest.fixture(scope="module")
def examples():
    return {split: list(tfds.as_numpy(tfds.load("emoji/small", split=split))) for split in SIZES}


@pytest.fixture(scope="module")
def rows(examples):
    return sorted((row for split in examples.values() for row in split), key=lambda row: row["emoji_id"])


@pytest.fixture(scope="module")
def listed():
    return emoji.read_emoji()


def test_same_version_same_content(rows):
    assert str(tfds.builder("emoji/small").version) == "1.0.0"
    flat = [{**row, "names": b"\n".join(row["names"][language] for language in emoji.LANGUAGES)} for row in rows]
    texts = ("emoji", "names", "subgroup")
    found = {
        name: hashlib.sha256(
            b"\n".join(row[name] if name in texts else np.asarray(row[name]).tobytes() for row in flat)
        ).hexdigest()[:16]
        for name in flat[0]
    }
    assert found == CONTENT


def test_sizes_and_every_group_in_every_split(examples):
    assert {split: len(found) for split, found in examples.items()} == SIZES
    for split, found in examples.items():
        counts = np.bincount([row["group"] for row in found], minlength=len(emoji.GROUPS))
        whole = np.bincount([row["group"] for other in examples.values() for row in other])
        assert np.abs(counts / whole - emoji.SHARES[split]).max() < 0.02


def test_shapes_and_types(rows):
    for row in rows:
        assert row["image"].shape == (128, 128, 3) and row["image"].dtype == np.uint8
        assert set(row["names"]) == set(emoji.LANGUAGES) and all(row["names"].values())
        assert row["emoji_id"] == row["family"]


def test_each_name_is_that_of_one_emoji_and_tidy(rows):
    for language in emoji.LANGUAGES:
        names = [row["names"][language].decode() for row in rows]
        assert len(set(names)) == len(names)
        assert not any("_" in name or name.startswith(":") or name != name.strip() for name in names)


def test_names_as_a_reader_knows_them(rows):
    names = {row["emoji"].decode(): {key: name.decode() for key, name in row["names"].items()} for row in rows}
    assert [names["🦊"][language] for language in ("en", "zh", "fr", "de")] == ["fox", "狐狸", "renard", "fuchs"]
    assert names["🇫🇷"]["en"] == "flag: France"


def test_no_skin_tone_and_no_second_gender(rows):
    there = {row["emoji"].decode() for row in rows}
    assert not any(sign in text for text in there for sign in "🏻🏼🏽🏾🏿")
    assert {"🧑", "🧑‍🚀", "🏃", "💏", "👍"} <= there
    assert not {"👨", "👩", "👩‍🚀", "🏃‍♀️", "🏃‍➡️", "👩‍❤️‍💋‍👨"} & there


@pytest.mark.parametrize(
    "variant, of",
    [
        ("👍🏿", "👍"),
        ("👩🏽‍🚀", "🧑‍🚀"),
        ("🏃🏻‍♀️‍➡️", "🏃"),
        ("👨‍👩‍👦", "🧑‍🧑‍🧒"),
        ("👭🏼", "🧑‍🤝‍🧑"),
        ("👩🏻‍❤️‍💋‍👩🏿", "💏"),
        ("🫱🏻‍🫲🏿", "🤝"),
        ("👨🏻‍🐰‍👨🏿", "👯"),
        ("👩🏻‍🫯‍👩🏿", "🤼"),
        ("👸", "🫅"),
        ("🤶", "🧑‍🎄"),
        ("👨‍🦰", "🧑‍🦰"),
        ("🇳🇴", "🇳🇴"),
        ("🇸🇯", "🇳🇴"),
    ],
)
def test_a_variant_belongs_to_its_family(listed, variant, of):
    number = {entry.text: entry for entry in listed}
    assert number[variant].family == number[of].number == number[of].family


def test_things_that_only_look_like_variants_are_none(listed):
    number = {entry.text: entry.family for entry in listed}
    assert len({number[text] for text in ("👍", "👎", "❤️", "🧡", "🏳️", "🏳️‍🌈", "🐻", "🐻‍❄️", "🧑‍🚀", "🧑‍🚒")}) == 10


def test_no_picture_in_two_splits(examples):
    """Not even one that is almost the same: a hundredth of the scale apart, over blocks of four by four pixels."""
    small = {
        split: np.stack([row["image"] for row in found]).reshape(-1, 32, 4, 32, 4, 3).mean(axis=(2, 4)) / 255
        for split, found in examples.items()
    }
    flat = {split: pictures.reshape(len(pictures), -1) for split, pictures in small.items()}
    for one, other in combinations(SIZES, 2):
        squares = (flat[one] ** 2).sum(axis=1)[:, None] + (flat[other] ** 2).sum(axis=1)
        apart = np.sqrt(np.maximum(squares - 2 * flat[one] @ flat[other].T, 0) / flat[one].shape[1])
        assert apart.min() > 0.01


def test_families_are_split_whole_and_twins_together(listed):
    splits = emoji.split_families(listed)
    assert set(splits) == {entry.family for entry in listed}
    family = {entry.text.replace("\ufe0f", ""): entry.family for entry in listed}
    assert all(splits[family[one]] == splits[family[other]] for one, other in emoji._TWINS)
    assert splits == emoji.split_families(listed)


def test_a_picture_fills_its_square_and_shows_the_whole_sequence():
    painter = emoji.Painter(64)
    sign, rainbow, flag = (painter.draw(text) for text in ("🏳️", "🏳️‍🌈", "🌈"))
    assert sign.shape == (64, 64, 3) and sign[0, 0].tolist() == [255, 255, 255]
    assert (sign != rainbow).any() and (rainbow != flag).any()
    ink = (painter.draw("🟥") < 128).any(axis=2)
    rows_of_ink, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    assert abs(rows_of_ink.mean() - 31.5) < 1.5 and abs(columns.mean() - 31.5) < 1.5  # centred
    assert len(columns) > 40


def test_every_emoji_of_the_list_has_a_picture_of_its_own(listed):
    painter = emoji.Painter(16)
    glyphs = [painter.glyph(entry.text) for entry in listed]
    assert None not in glyphs and len(set(glyphs)) == len(listed)
    assert painter.glyph("x") is None and painter.glyph("🧑‍🧑") is None


@pytest.mark.slow
def test_full_holds_all_variants_in_the_split_of_their_family(tmp_path, monkeypatch, examples):
    monkeypatch.setattr(emoji.Painter, "draw", lambda self, text: np.zeros((self.size, self.size, 3), np.uint8))
    builder = datasets.Emoji(config="full", data_dir=tmp_path)
    builder.download_and_prepare()
    found = {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in SIZES}
    assert sum(map(len, found.values())) == 3_944
    for split, kept in found.items():
        assert kept[0]["image"].shape == (224, 224, 3)
        assert {row["family"] for row in kept} == {row["emoji_id"] for row in examples[split]}
