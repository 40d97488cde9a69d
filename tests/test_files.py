"""From files to arrays: the same numbers at any rate, masks for what is missing, one line for each broken file."""

import json
import warnings

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from mmkit import files
from mmkit.files import BrokenFiles, Log, Picture, Reader, Sound

PEOPLE = ("Ana", "Bo", "Cem", "Dai", "Eva", "Finn")


def tone(path, rate, dtype="int16", channels=1, seconds=2.0):
    """440 Hz, louder and louder."""
    times = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * 440 * times) * times / 4
    scale = {"int16": 2**15, "int32": 2**31, "uint8": 2**7, "float32": 1}[dtype]
    samples = (wave * scale + 128 * (dtype == "uint8")).astype(dtype)
    wavfile.write(path, rate, np.stack([samples] * channels, axis=1) if channels > 1 else samples)


def log(path, times, values, header="t,force"):
    lines = [",".join(f"{number:.6f}" for number in row) for row in np.column_stack([times, values])]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Six people with four rows each; Bo has no touch, and one picture is missing."""
    rows = ["photo,sound,touch,start,person,digit"]
    for number, person in enumerate(PEOPLE):
        tone(tmp_path / f"{person}.wav", (8_000, 16_000, 44_100)[number % 3])
        times = np.arange(-1, 2.5, 1 / (50, 100)[number % 2])
        log(tmp_path / f"{person}.csv", times, np.sin(3 * times) + number)
        for take in range(4):
            picture = np.random.default_rng([number, take]).integers(0, 256, (28, 28), dtype="uint8")
            Image.fromarray(picture).save(tmp_path / f"{person}{take}.png")
            photo = "" if (person, take) == ("Eva", 2) else f"{person}{take}.png"
            touch = "" if person == "Bo" else f"{person}.csv"
            rows.append(f"{photo},{person}.wav,{touch},{take / 4},{person},{(number + take) % 3}")
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def reader(**options):
    senses = {"photo": Picture(28, 28), "sound": Sound(0.5, 8_000), "touch": Log(0.5, 20, ["force"])}
    return Reader(senses, **{"start": "start", "label": "digit", "group": "person"} | options)


# --- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_sound_gives_the_same_at_any_sampling_rate(tmp_path, rate):
    tone(tmp_path / "one.wav", rate)
    times = 0.7 + np.arange(4_000) / 8_000
    window, there = Sound(0.5, 8_000).read(tmp_path / "one.wav", start=0.7)
    assert window.shape == (4_000,) and window.dtype == "float32" and there
    assert np.abs(window - np.sin(2 * np.pi * 440 * times) * times / 4).max() < 0.002


@pytest.mark.parametrize("dtype,channels", [("int16", 2), ("int32", 1), ("uint8", 1), ("float32", 1)])
def test_a_sound_gives_the_same_in_any_kind_of_wav(tmp_path, dtype, channels):
    tone(tmp_path / "one.wav", 8_000)
    tone(tmp_path / "other.wav", 8_000, dtype, channels)
    one, other = (Sound(0.5, 8_000).read(tmp_path / f"{name}.wav", 0.7)[0] for name in ("one", "other"))
    assert np.abs(one - other).max() < (0.01 if dtype == "uint8" else 1e-4)


def test_behind_the_end_of_a_sound_is_silence(tmp_path):
    tone(tmp_path / "one.wav", 8_000)
    window, _ = Sound(1.0, 8_000).read(tmp_path / "one.wav", 1.5)
    assert window[:4_000].any() and not window[4_000:].any()


@pytest.mark.parametrize("rate", [25, 50, 100, 333])
def test_a_log_gives_the_mean_of_each_step_at_any_rate(tmp_path, rate):
    times = np.arange(-1, 3, 1 / rate)
    log(tmp_path / "one.csv", times, 2 * times)
    window, there = Log(1.0, 10, ["force"]).read(tmp_path / "one.csv", 0.5)
    assert window.shape == (10, 1) and there.shape == (10,) and there.all()
    np.testing.assert_allclose(window[:, 0], 2 * (0.55 + np.arange(10) / 10), atol=1e-5)


def test_an_uneven_log_gives_the_same_and_a_dense_one_is_averaged(tmp_path):
    rng = np.random.default_rng(0)
    times = np.arange(-1, 3, 0.01)
    log(tmp_path / "even.csv", times, np.sin(4 * times))
    uneven = np.sort(rng.uniform(-1, 3, 500))
    log(tmp_path / "uneven.csv", uneven, np.sin(4 * uneven))
    log(tmp_path / "noisy.csv", np.arange(-1, 3, 0.001), rng.normal(size=4_000))
    read = Log(1.0, 20, ["force"]).read
    even, other, noisy = (read(tmp_path / f"{name}.csv", 0.5)[0] for name in ("even", "uneven", "noisy"))
    assert np.abs(even - other).max() < 0.01
    assert 0.05 < noisy.std() < 0.3  # of fifty numbers the mean: 1 / sqrt(50)


def test_a_logs_gaps_and_ends_are_masked(tmp_path):
    times = np.concatenate([np.arange(0, 1, 0.02), np.arange(1.5, 2, 0.02)])
    log(tmp_path / "one.csv", times, np.ones(len(times)))
    window, there = Log(2.2, 10, ["force"], gap=0.2).read(tmp_path / "one.csv", 0)
    assert there.tolist() == [True] * 10 + [False] * 5 + [True] * 5 + [False] * 2
    assert not window[~there].any() and np.allclose(window[there], 1)


def test_a_log_knows_its_columns_by_name_its_unit_and_rows_with_holes(tmp_path):
    text = "b;a;ms\n" + "".join(f"{2 * n};{n if n != 7 else ''};{20 * n}\n" for n in range(60))
    (tmp_path / "one.csv").write_text("\ufeff" + text, encoding="utf-8")
    window, there = Log(0.5, 10, ["a", "b"], time="ms", unit=0.001).read(tmp_path / "one.csv")
    np.testing.assert_allclose(window[:, 0], 50 * (0.05 + np.arange(5) / 10), atol=1e-4)
    np.testing.assert_allclose(window[:, 1], 2 * window[:, 0], atol=1e-4)
    assert there.all()


def test_a_picture_is_resized_and_scaled_in_any_mode(tmp_path):
    grey = np.full((60, 40), 128, "uint8")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "colour.jpg")
    Image.fromarray(grey.astype("uint16") * 257).save(tmp_path / "deep.png")
    for name in ("grey.png", "colour.jpg", "deep.png"):
        picture, there = Picture(30, 20).read(tmp_path / name)
        assert picture.shape == (30, 20, 1) and there and np.abs(picture - 128 / 255).max() < 0.01, name
    assert Picture(30, 20, 3).read(tmp_path / "grey.png")[0].shape == (30, 20, 3)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    Image.fromarray(np.zeros((8, 8), "uint8")).save(tmp_path / "a.png")
    assert not Picture(8, 8).read(tmp_path / "a.png")[0].any()
    Image.fromarray(np.full((8, 9), 255, "uint8")).save(tmp_path / "a.png")
    assert Picture(8, 8).read(tmp_path / "a.png")[0].all()


def test_few_files_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_KEPT_BYTES", 40_000)
    for number in range(5):
        tone(tmp_path / f"{number}.wav", 8_000, seconds=0.5)
        Sound(0.5, 8_000).read(tmp_path / f"{number}.wav")
    assert sum(map(files._nbytes, files._recent.kept.values())) <= 40_000


BROKEN = {
    "photo": {
        "cut short": (lambda path: path.write_bytes(path.read_bytes()[:300]), "truncated"),
        "another thing": (lambda path: path.write_text("<html>"), "it is no picture that Pillow can open"),
        "not there": (lambda path: path.unlink(), "there is no such file"),
        "a folder": (lambda path: (path.unlink(), path.mkdir()), "it is no file"),
    },
    "sound": {
        "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-2_000]), "it is cut short"),
        "another thing": (lambda path: path.write_text("ID3 and so on"), "it is no WAV file: convert it"),
        "empty": (lambda path: wavfile.write(path, 8_000, np.zeros(0, "int16")), "it holds no samples"),
        "nothing": (lambda path: path.write_bytes(b""), ""),
        "not there": (lambda path: path.unlink(), "there is no such file"),
        "too short": (lambda path: tone(path, 8_000, seconds=0.4), "it lasts 0.4 s, and the window begins at 0.5 s"),
        "no numbers": (lambda path: wavfile.write(path, 8_000, np.full(9_000, np.nan, "float32")), "are no numbers"),
    },
    "touch": {
        "not there": (lambda path: path.unlink(), "there is no such file"),
        "nothing": (lambda path: path.write_text(""), "it is empty"),
        "no rows": (lambda path: path.write_text("t,force\n"), "it holds 0 whole rows: two are needed"),
        "a word": (lambda path: path.write_text("t,force\n0,1\n1,high\n2,3\n"), "its row 3 holds 'high', no number"),
        "a short row": (lambda path: path.write_text("t,force\n0,1\n1\n"), "its row 3 has 1 cells, and the header 2"),
        "other columns": (lambda path: path.write_text("t,power\n0,1\n"), "it has no column 'force': it has t, power"),
        "time goes back": (lambda path: path.write_text("t,force\n0,1\n2,1\n1,1\n"), "the times in its column 't'"),
        "infinite": (lambda path: path.write_text("t,force\n0,1\n1,inf\n"), "it holds infinite numbers"),
        "another time": (lambda path: path.write_text("t,force\n8,1\n9,1\n"), "it goes from 8 to 9 s, and the window"),
        "bytes": (lambda path: path.write_bytes(bytes(range(256))), "codec can't decode"),
    },
}


@pytest.mark.parametrize("sense,kind", [(sense, kind) for sense in BROKEN for kind in BROKEN[sense]])
def test_a_broken_file_is_one_line_that_names_row_column_and_file(folder, sense, kind):
    spoil, wanted = BROKEN[sense][kind]
    name = {"photo": "Cem2.png", "sound": "Cem.wav", "touch": "Cem.csv"}[sense]  # of row 12: Cem's third
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BrokenFiles) as caught:
            reader().manifest(folder / "all.csv")
    assert len({fault.row for fault in caught.value.faults} & {12}) == 1
    assert all(fault.column == sense and fault.cell == name for fault in caught.value.faults)
    assert wanted in str(caught.value) and str(folder) not in str(caught.value)
    reasons = {fault.reason for fault in caught.value.faults}
    assert len(str(caught.value).splitlines()) == 1 + len(reasons), "a heading, and a line for rows with the same fault"
    one = {"photo": "Ana0.png", sense: name, "start": 0.5}
    with pytest.raises(BrokenFiles, match=f"^{sense}, {name}: ") as caught:
        reader().arrays([one], folder)
    assert len(str(caught.value).splitlines()) == 1
    absent, skipped = (reader().manifest(folder / "all.csv", broken=way) for way in ("absent", "skip"))
    assert 12 in absent.numbers and 12 not in skipped.numbers
    mask = absent.arrays()[0][f"{sense}_mask"][absent.numbers == 12]
    assert not mask.any() and absent.faults == skipped.faults and absent.faults[0].column == sense


# --- a manifest -------------------------------------------------------------------------------------------------------


def test_missing_senses_are_zeros_with_a_mask(folder):
    data = reader().manifest(folder / "all.csv")
    x, y = data.arrays()
    assert {name: array.shape for name, array in x.items()} == {
        "photo": (24, 28, 28, 1),
        "photo_mask": (24,),
        "sound": (24, 4_000),
        "sound_mask": (24,),
        "touch": (24, 10, 1),
        "touch_mask": (24, 10),
    }
    bo = data.groups == "Bo"
    assert not x["touch_mask"][bo].any() and not x["touch"][bo].any() and x["touch_mask"][~bo].all()
    assert np.flatnonzero(~x["photo_mask"]).tolist() == [18] and not x["photo"][18].any() and x["sound_mask"].all()
    assert data.reader.classes == ("0", "1", "2") and y.tolist() == [int(row["digit"]) for row in data.rows]
    assert data.numbers.tolist() == list(range(2, 26)) and data.faults == ()


def test_one_new_recording_is_the_same_row_of_a_batch_bit_for_bit(folder):
    data = reader().manifest(folder / "all.csv")
    x, _ = data.arrays()
    batch, _ = next(iter(data.batches(24)))
    for place in (0, 5, 18, 23):
        new = dict(data.rows[place], digit="unknown", person="")
        if place == 5:
            del new["touch"]  # Bo's, who has none
        one = data.reader.arrays([new], folder)
        for name in x:
            assert np.array_equal(one[name][0], x[name][place]) and np.array_equal(batch[name][place], x[name][place])


def test_batches_are_in_order_or_shuffled_by_seed_and_hold_each_row_once(folder):
    data = reader().manifest(folder / "all.csv")
    x, y = data.arrays()
    plain = np.concatenate([labels for _, labels in data.batches(5)])
    assert plain.tolist() == y.tolist()

    def sums(**options):
        return [
            float(one.sum())
            for inputs, _ in data.batches(5, shuffle=True, **options)
            for one in inputs["photo"].numpy()
        ]

    one, again, other = sums(seed=1), sums(seed=1), sums(seed=2)
    assert one == again != other and sorted(one) == sorted(other)
    np.testing.assert_allclose(sorted(one), sorted(x["photo"].sum(axis=(1, 2, 3))), rtol=1e-5)
    streamed = data.batches(5, cache=False)
    assert np.concatenate([labels for _, labels in streamed]).tolist() == y.tolist() and len(streamed) == 5


def test_a_split_keeps_groups_together_whatever_the_order_of_the_rows(folder):
    data = reader().manifest(folder / "all.csv")
    parts = data.split(0.5, 0.25, 0.25, seed=3)
    groups = [set(part.groups) for part in parts]
    assert sum(map(len, parts)) == 24 and set().union(*groups) == set(PEOPLE) and sum(map(len, groups)) == 6
    header, *lines = (folder / "all.csv").read_text().splitlines()
    (folder / "turned.csv").write_text("\n".join([header, *lines[::-1]]))
    turned = reader().manifest(folder / "turned.csv").split(0.5, 0.25, 0.25, seed=3)
    assert [set(part.groups) for part in turned] == groups
    different = {str([set(part.groups) for part in data.split(0.5, 0.25, 0.25, seed=seed)]) for seed in range(8)}
    assert len(different) > 3
    assert [len(part) for part in data.split(0.98, 0.01, 0.01)] == [16, 4, 4]  # each part gets a group
    alone = reader(group=None).manifest(folder / "all.csv").split(0.75, 0.25)
    assert [len(part) for part in alone] == [18, 6] and alone[0].groups is None
    with pytest.raises(ValueError, match="6 groups do not make 7 parts"):
        data.split(*[1 / 7] * 7)
    for shares in ((1.0,), (0.5, 0.6), (1.2, -0.2)):
        with pytest.raises(ValueError, match="sum to 1"):
            data.split(*shares)


def test_rows_can_be_selected(folder):
    data = reader().manifest(folder / "all.csv")
    some = data.select(data.groups == "Eva")
    assert some.numbers.tolist() == [18, 19, 20, 21] and data.select([3, 1]).numbers.tolist() == [5, 3]
    np.testing.assert_array_equal(some.arrays()[0]["photo"], data.arrays()[0]["photo"][16:20])
    for places, said in (([], "no row"), (np.zeros(24, bool), "no row"), ([1, 1], "twice")):
        with pytest.raises(ValueError, match=said):
            data.select(np.array(places, dtype=bool if len(places) > 2 else int))


def manifest(folder, *lines, name="some.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def test_wrong_cells_and_rows_are_listed_together(folder):
    head, good = "photo,sound,touch,start,person,digit", "Ana0.png,Ana.wav,Ana.csv,0,Ana,1"
    path = manifest(
        folder,
        head,
        good,
        "Ana0.png,,,x,Ana,1",
        "Ana0.png,,,-1,Ana,1",
        "Ana0.png,,,0,,1",
        "Ana0.png,,,0,Ana,",
        ",,,0,Ana,1",
        "Ana0.png,,,0,Ana",
        "Ana0.png,,,0,Ana,1,2",
        "",
        "no.png,no.wav,,0,Ana,1",
    )
    with pytest.raises(BrokenFiles) as caught:
        reader().manifest(path)
    assert str(caught.value).splitlines() == [
        "some.csv: 8 of 9 rows cannot be read",
        "  row 3, start, x: it is no number of seconds, 0 or more",
        "  row 4, start, -1: it is no number of seconds, 0 or more",
        "  row 5, person: the cell is empty",
        "  row 6, digit: the cell is empty",
        "  row 7, photo, sound, touch: no file is named",
        "  row 8, all cells: it has 5 cells, and the header 6",
        "  row 9, all cells: it has 7 cells, and the header 6",
        "  row 11, photo, no.png: there is no such file",
        "  row 11, sound, no.wav: there is no such file",
    ]
    for way in ("skip", "absent"):
        data = reader().manifest(path, broken=way)
        assert data.numbers.tolist() == [2] and len(data.faults) == 9


def test_a_manifest_that_cannot_be_used_is_one_line(folder):
    for lines, said in (
        (["photo,sound"], "some.csv has a header and no rows"),
        ([""], "some.csv: it is empty"),
        (["photo,sound,start,person,digit", "a,b,0,c,1"], "some.csv has no column 'touch': it has photo, sound, start"),
        (
            ["photo,sound,touch,start,person,digit", "no.png,,,0,a,1"],
            "of 1 rows none can be read: row 2, photo, no.png",
        ),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            reader().manifest(manifest(folder, *lines), broken="skip")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match="there is no manifest"):
        reader().manifest(folder / "none.csv")
    with pytest.raises(ValueError, match="codec can't decode"):
        reader().manifest(manifest(folder, "photo,sound,touch,start,person,digit", "é", encoding="latin-1"))
    with pytest.raises(ValueError, match="unknown broken='ignore': use 'raise', 'skip' or 'absent'"):
        reader().manifest(folder / "all.csv", broken="ignore")


def test_a_manifest_may_come_from_windows(folder):
    (folder / "sub").mkdir()
    Image.fromarray(np.zeros((8, 8), "uint8")).save(folder / "sub" / "a.png")
    path = manifest(folder, "\ufeffphoto;digit\r", "sub\\a.png;1\r", '"sub/a.png";2\r')
    assert len(Reader({"photo": Picture(8, 8)}, label="digit").manifest(path)) == 2


def test_labels_are_classes_in_order_or_numbers(folder):
    path = manifest(folder, "photo,age", "Ana0.png,10", "Ana1.png,9", "Ana2.png,9.5", "Ana3.png,ten")
    senses = {"photo": Picture(8, 8)}
    found = Reader(senses, label="age").manifest(path)
    assert found.reader.classes == ("9", "9.5", "10", "ten") and found.labels.tolist() == [2, 0, 1, 3]
    given = Reader(senses, label="age", classes=["10", "9"]).manifest(path, broken="skip")
    assert given.labels.tolist() == [0, 1] and "row 4, age, 9.5: it is none of the classes" in str(given.faults[0])
    ages = Reader(senses, label="age", classes=[]).manifest(path, broken="skip")
    assert ages.labels.dtype == "float32" and ages.labels.tolist() == [10, 9, 9.5]
    assert str(ages.faults[0]) == "row 5, age, ten: it is no number"
    assert next(iter(ages.batches(3)))[1].numpy().tolist() == [10, 9, 9.5]
    unlabelled = Reader(senses).manifest(path)
    assert unlabelled.labels is None and set(unlabelled.arrays()) == {"photo", "photo_mask"}
    assert next(iter(unlabelled.batches(4)))["photo"].shape == (4, 8, 8, 1)


def test_a_reader_is_saved_and_loaded_and_says_what_it_cannot_load(folder, tmp_path):
    known = reader().manifest(folder / "all.csv").reader
    known.save(tmp_path / "reader.json")
    assert Reader.load(tmp_path / "reader.json") == known and known.classes == ("0", "1", "2")
    saved = json.loads((tmp_path / "reader.json").read_text())
    for wrong in ({**saved, "format": 2}, {**saved, "senses": {"a": {"kind": "Smell"}}}, {}, [], {**saved, "more": 1}):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="holds no reader"):
            Reader.load(tmp_path / "wrong.json")


def test_wrong_arguments_say_what_is_wrong(folder):
    for make, said in (
        (lambda: Picture(0, 8), "height must be positive: got 0"),
        (lambda: Picture(8, 8, 4), "channels must be 1 or 3: got 4"),
        (lambda: Sound(-1), "seconds must be positive"),
        (lambda: Log(1, 10, []), "columns must be a list"),
        (lambda: Log(1, 10, "force"), "columns must be a list of names of columns: got 'force'"),
        (lambda: Reader({}), "name at least one sense"),
        (lambda: Reader({"a": Picture(8, 8), "a_mask": Picture(8, 8)}), "'a_mask' is needed twice"),
        (lambda: Reader({"a": Picture(8, 8)}, label="a"), "'a' is needed twice"),
        (lambda: reader().arrays([], folder), "there is no row to read"),
        (
            lambda: reader().arrays([{"sounds": "Ana.wav", "photo": "Ana0.png", "start": 0}], folder),
            "does not know 'sounds': it knows photo, sound, touch, start, digit, person",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            make()


def test_a_keras_model_takes_what_comes(folder):
    data = reader().manifest(folder / "all.csv")
    train, test = data.split(0.75, 0.25)
    x, _ = train.arrays()
    inputs = {name: keras.Input(one.shape[1:], name=name, dtype=one.dtype) for name, one in x.items()}
    touch = keras.layers.LSTM(4)(inputs["touch"], mask=inputs["touch_mask"])
    joined = [keras.layers.Flatten()(inputs["photo"]), inputs["sound"], touch]
    # Keras 3.13, Colab's, refuses a model with an input that leads nowhere: each of the arrays leads somewhere here.
    masks = [keras.ops.cast(inputs[f"{name}_mask"], "float32") for name in ("photo", "sound")]
    joined += [keras.ops.expand_dims(mask, -1) for mask in masks]
    joined = keras.ops.concatenate(joined, axis=-1)
    model = keras.Model(inputs, keras.layers.Dense(3)(joined))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.batches(8, shuffle=True), validation_data=test.batches(8), epochs=1, verbose=0)
    assert model.predict(data.reader.arrays([{"photo": "Ana0.png", "start": 0}], folder), verbose=0).shape == (1, 3)
