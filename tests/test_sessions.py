"""The folder of sessions: the reader finds each planted fault and no other, and all devices tell the same story."""

from collections import Counter

import numpy as np
import pytest
from scipy.io import wavfile

from mmkit import files
from mmkit.datasets import sessions

READER = files.Reader(
    {
        "picture": files.Picture(28, 28),
        "sound": files.Sound(sessions.SECONDS, 8_000),
        "touch": files.Log(sessions.SECONDS, 40, sessions.CELLS),
    },
    start="start",
    label="digit",
    group="person",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def hit(folder):
    return sessions.record(folder, seed=3)


@pytest.fixture(scope="module")
def data(folder, hit):
    return READER.manifest(folder / "recordings.csv", broken="absent")


def test_the_reader_finds_each_planted_fault_and_no_other(hit, data):
    planted = [row for rows in hit.values() for row in rows]
    assert {fault.row for fault in data.faults} == set(planted)
    columns = Counter(fault.column for fault in data.faults)
    assert columns == {"sound": 20, "touch": 20, "picture": 5, "start": 1}
    assert len(data) == 799 and Counter(data.labels.tolist()).most_common()[-1][1] >= 79


def test_senses_are_missing_as_said_and_never_all(folder, data):
    cells = {name: [row[name] for row in data.rows] for name in ("picture", "sound", "touch")}
    sound, touch = ({row[name] for row in data.rows if row[name]} for name in ("sound", "touch"))
    assert (len(sound), len(touch)) == (80 - 4 - 2, 80 - 11 - 2)
    assert 0.04 < np.mean([not cell for cell in cells["picture"]]) < 0.14
    x, _ = data.arrays()
    there = [x["picture_mask"], x["sound_mask"], x["touch_mask"].any(axis=1)]
    assert np.any(there, axis=0).all()
    for name, mask in zip(cells, there, strict=True):
        assert [bool(cell) for cell in cells[name]] == mask.tolist()


def test_devices_have_other_rates_and_the_arrays_do_not_show_it(folder, data):
    rates = {row["person"]: wavfile.read(folder / row["sound"])[0] for row in data.rows if row["sound"]}
    people = Counter(rates.values())
    assert set(people) == {8_000, 16_000} and people[8_000] >= 28 and people[16_000] >= 8
    lines = [len((folder / row["touch"]).read_text().splitlines()) for row in data.rows if row["touch"]]
    assert max(lines) > 1.7 * min(lines)
    x, _ = data.arrays()
    assert x["touch_mask"][x["touch_mask"].any(axis=1)].all()  # no gap, and the whole window
    fast = np.array([rates.get(row["person"]) == 16_000 for row in data.rows]) & x["sound_mask"]
    slow = ~fast & x["sound_mask"]
    loud = np.abs(x["sound"]).max(axis=1)
    assert 0.5 < loud[fast].mean() / loud[slow].mean() < 2


def test_new_people_are_others_and_nothing_of_theirs_is_broken(tmp_path, data):
    assert sessions.record(tmp_path / "new", new=True, seed=3) == {}
    new = READER.manifest(tmp_path / "new" / "recordings.csv")
    assert len(new) == 120 and len(set(new.groups)) == 12 and not set(new.groups) & set(data.groups)
    pictures = [{one.tobytes() for one in part.arrays()[0]["picture"] if one.any()} for part in (data, new)]
    assert not pictures[0] & pictures[1]


def test_a_seed_makes_the_same_folder_again(tmp_path, folder, hit):
    assert sessions.record(tmp_path, seed=3) == hit
    for path in sorted(folder.rglob("*.*"))[::20]:
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path
