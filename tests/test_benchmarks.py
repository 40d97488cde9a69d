"""The benchmarks' sums are right, and all sides do the same work. No test here depends on a time."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as bench  # noqa: E402
from benchmarks import accuracy, features, feeding, growth, harness, imports, parts, steps, workloads  # noqa: E402


def test_contestants_take_turns():
    calls = []

    def work(part, case):
        calls.append((part, case["name"]))
        return {"ms": len(calls)}

    samples = harness.in_turn("b", {"A": {"name": "A"}, "B": {"name": "B"}}, 3, work)
    assert calls == [("b", "A"), ("b", "B")] * 3
    assert samples == {"A": [{"ms": 1}, {"ms": 3}, {"ms": 5}], "B": [{"ms": 2}, {"ms": 4}, {"ms": 6}]}


def test_a_failed_measurement_says_why():
    with pytest.raises(RuntimeError, match="no_such_part"):
        harness.in_fresh_process("no_such_part", {})


def test_spread_is_numpys():
    values = list(np.random.default_rng(0).random(7))
    np.testing.assert_allclose(harness.spread(values), np.percentile(values, [50, 25, 75]))
    assert harness.spread([3.0]) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="at least one round"):
        harness.spread([])


def test_numbers_are_shown_with_their_quartiles():
    assert harness.show([1, 2, 3, 4, 1000], 1) == "3.0 [2.0, 4.0]"
    assert harness.show([1234.5], 0) == "1,234 [1,234, 1,234]"
    assert harness.ratios([2, 9], [1, 3]) == [2, 3]


@pytest.mark.parametrize("power", [-1, 0.5, 1, 2])
def test_slope_of_a_power_law_is_its_exponent(power):
    x = [2, 8, 32]
    assert harness.slope(x, [3 * value**power for value in x]) == pytest.approx(power)


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([1, 2], [0, 1]), ([1, 2], [1])])
def test_no_slope(x, y):
    with pytest.raises(ValueError, match="two or more points"):
        harness.slope(x, y)


def test_a_table():
    assert harness.table(["who", "ms"], [["A", "1"]]) == "| who | ms |\n| --- | ---: |\n| A | 1 |"


def test_tables_go_between_their_markers():
    text = "before\n<!-- part a -->\nold\n<!-- end of part a -->\nafter\n"
    new = harness.put_between(text, "part a", "\nnew\n\n")
    assert new == "before\n<!-- part a -->\nnew\n<!-- end of part a -->\nafter\n"
    assert harness.put_between(new, "part a", "new") == new
    for wrong in ("", text + text, "<!-- end of part a -->\n<!-- part a -->\n"):
        with pytest.raises(ValueError, match="once each"):
            harness.put_between(wrong, "part a", "new")


def test_the_machine_is_described_without_names_or_paths():
    text = " ".join(harness.machine().values())
    assert re.match(r"\d+ cores", text) and "/" not in text and __import__("platform").node() not in text
    assert set(harness.PACKAGES) < set(harness.machine())


def test_clock_and_memory():
    with harness.Clock() as clock:
        sum(range(10_000))
    assert clock.wall > 0 and clock.cpu >= 0 and harness.peak_memory() > 10


def test_every_part_has_its_place_in_the_readme():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for part in bench.PARTS:
        assert harness.put_between(text, f"part {part}", "x").count("\nx\n") == 1


def test_numpys_features_are_the_kits():
    from mmkit.datasets.av_digits import DigitSenses

    random = np.random.default_rng(0)
    digits = {
        "image": random.integers(0, 256, (3, 28, 28, 1), dtype=np.uint8),
        "audio": (3_000 * random.standard_normal((3, 6_400))).astype(np.int16),
        "touch": random.integers(0, 256, (3, 48, 16), dtype=np.uint8),
        "label": np.arange(3),
    }
    expected, _ = DigitSenses()(digits)
    for i in range(3):
        mine = features.with_numpy(digits["image"][i], digits["audio"][i], digits["touch"][i])
        for name, values in mine.items():
            np.testing.assert_allclose(values, np.asarray(expected[name])[i], atol=feeding.AGREE)


def test_augmentation_adds_noise_and_hides_a_stretch():
    import tensorflow as tf

    rows = {"image": tf.zeros((4, 28, 28, 1)), "audio": tf.ones((4, 65, 32, 1)), "touch": tf.zeros((4, 48, 16))}
    noisy, labels = features.augment_with_tensorflow(rows, tf.range(4), tf.constant([1, 2]))
    assert np.std(noisy["image"]) == pytest.approx(features.NOISE, rel=0.1) and labels.shape == (4,)
    hidden = (np.asarray(noisy["audio"]) == 0).all(axis=(2, 3))
    assert hidden.sum(axis=1).tolist() == [features.HIDDEN] * 4
    assert all(np.ptp(np.flatnonzero(row)) == features.HIDDEN - 1 for row in hidden)


def test_the_late_fusion_model_is_the_fields():
    from benchmarks import models

    model = models.late_fusion()
    assert models.parameters(model) == workloads.AVMNIST_PARAMETERS == 260_922
    assert {tensor.name: tensor.shape[1:] for tensor in model.inputs} == {"image": (28, 28, 1), "audio": (112, 112, 1)}
    rows, labels = workloads.rows_and_labels("late_fusion", 4)
    assert model(rows).shape == (4, workloads.CLASSES) and labels.shape == (4,)


def test_every_fusion_layer_is_compared():
    from benchmarks import models
    from mmkit import layers

    left_out = {"FusionLayer", "ConvLSTMFusion", "OGMGE"}
    fusion = {name for name in layers.__all__ if issubclass(getattr(layers, name), layers.FusionLayer)}
    assert set(models.fusion_layers()) == fusion - left_out


def test_units_are_chosen_by_parameters():
    from benchmarks import models

    for name in ("ConcatFusion", "GatedFusion"):
        units = accuracy._units(models, name)
        apart = [
            abs(models.parameters(accuracy._head(models, name, u)) - 30_000) for u in (units - 1, units, units + 1)
        ]
        assert min(apart) == apart[1]


def made_up(part: str) -> dict:
    """Results such as a part gives."""
    if part == "a":
        sample = dict.fromkeys(("first_per_s", "later_per_s", "later_cpu_ms", "training_per_s", "waiting"), 0.5)
        return {"same": {"NumPy": 1e-5}, "samples": {name: [sample] * 3 for name in feeding.PIPELINES}}
    if part == "b":
        sample = dict.fromkeys(("ms", "cpu_ms", "examples_per_s", "first_s", "memory_mb"), 2.0)
        names = [f"{model}, 40, {way}" for model in steps.MODELS for way in steps.WAYS]
        same = {model: {"outputs": 1e-7, "parameters": 0} for model in steps.MODELS}
        return {"same": same, "samples": {name: [sample] * 3 for name in names}}
    if part == "c":
        right = {"right": "0111", "parameters": 30_000, "seconds": 1.0}
        units = {"ConcatFusion": 148, "SumFusion": 146}
        return {"units": units, "samples": [dict.fromkeys((*accuracy.BASELINES, *units), right)] * 2}
    if part == "e":
        sample = dict.fromkeys(("s", "cpu_s", "memory_mb"), 2.0)
        return {"samples": {f"import {module}": [sample] * 3 for module in imports.MODULES}}
    sample = {"ms": [1.0, 4.0, 16.0], "memory_mb": [0.5, 9.0, 20.0]}
    return {"samples": {f"SumFusion, {a}": [sample | {"values": v}] for a, v in growth.AXES.items()}}


@pytest.mark.parametrize("part", bench.PARTS)
def test_a_part_is_written(part, tmp_path):
    shutil.copy(ROOT / "benchmarks" / "README.md", tmp_path)
    for _ in range(2):  # a second time it takes the place of the first
        bench.keep(tmp_path, part, made_up(part) | {"minutes": 1.2})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    body = text.split(f"<!-- part {part} -->")[1].split(f"<!-- end of part {part} -->")[0]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    assert len(lines) > 2 and "Measured in 1 minutes on: " in body
    assert len({line.count("|") for line in lines}) == 1, "a row has too few or too many cells"
    assert json.loads((tmp_path / "results.json").read_text())[part]["machine"]["system"]


def test_the_lock_has_the_kits_versions_and_leaves_pytorch_to_its_version():
    def pins(path: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==[^\s\\]+", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))

    more = {pin.split("==")[0] for pin in pins("benchmarks/requirements.lock") - pins("requirements.lock")}
    assert more == {"mpmath", "networkx", "sympy"}
    asked = (ROOT / "benchmarks" / "requirements.in").read_text(encoding="utf-8")
    assert re.search(r"^torch==[\d.]+$", asked, re.MULTILINE)


def test_a_part_that_is_none_is_refused_before_anything_is_prepared():
    parts.refuse_unknown(parts.PARTS)
    # -S: with no package at hand
    done = subprocess.run(
        [sys.executable, "-S", "-m", "benchmarks.parts", "a", "f"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode and done.stderr.strip().endswith("no part f of the benchmarks: choose from a, b, c, d, e")
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^bench: part ", rules, re.MULTILINE), "`make bench` asks for the part first"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "case"),
    [
        ("steps", {"framework": "keras", "model": "late_fusion", "batch": 40, "epochs": 1, "tuned": True}),
        ("steps", {"framework": "keras", "model": "transformer", "batch": 128, "epochs": 1}),
        ("growth", {"name": "SumFusion", "axis": "tokens", "values": [8, 32]}),
        ("imports", {"module": "mmkit.layers"}),
    ],
)
def test_a_measurement_in_a_fresh_process(part, case):
    measured = harness.in_fresh_process(part, case)
    assert measured and all(np.min(value) >= 0 for value in measured.values())


@pytest.mark.slow
def test_our_pipeline_is_measured(tmp_path):
    raw = str(tmp_path / "raw.npz")
    harness.in_fresh_process("feeding", {"raw": raw, "store": 200})
    measured = harness.in_fresh_process("feeding", {"raw": raw, "pipeline": feeding.OURS, "passes": 1})
    assert 0 <= measured["waiting"] <= 1 and measured["later_per_s"] > 0
