"""(c) Accuracy of every fusion layer on `av_digits`, at equal parameters and epochs."""

from pathlib import Path

import numpy as np

from benchmarks import harness
from mmkit.evaluate import bootstrap, paired_bootstrap

PARAMETERS = 30_000  # of fusion layer and head, as near as a whole number of units comes
SENSE_UNITS = 64
BASELINES = ("best sense alone", "probabilities multiplied", "linear")
REFERENCE = "ConcatFusion"


def run(quick: bool, folder: Path) -> dict:
    """Chooses units, then trains everything once a seed."""
    units = harness.in_fresh_process("accuracy", {"names": ["ConcatFusion", "SumFusion"] if quick else None})
    settings = {"units": units, "branch_epochs": 1 if quick else 8, "epochs": 1 if quick else 15}
    seeds = range(1 if quick else 3)
    found = [harness.in_turn("accuracy", {f"seed {i}": settings | {"seed": i}}, 1)[f"seed {i}"][0] for i in seeds]
    return {"units": units, "samples": found}


def measure(
    names: list[str] | None = None, units: dict | None = None, seed: int = 0, branch_epochs: int = 0, epochs: int = 0
) -> dict:
    """The units of each layer; or, given them, each method's parameters, seconds and which test digits were right."""
    from benchmarks import models

    if units is None:
        return {name: _units(models, name) for name in names or models.fusion_layers()}
    return _train(models, units, seed, branch_epochs, epochs)


def _head(models, layer: str | None, units: int = 0):
    keras = models.keras
    inputs = {name: keras.Input((SENSE_UNITS,), name=name) for name in ("image", "audio", "touch")}
    if layer is None:
        fused = keras.layers.Concatenate()(list(inputs.values()))
    else:
        fused = models.fusion_layers()[layer](units)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(models.CLASSES, name="head")(fused))
    return _compiled(models, model)


def _compiled(models, model):
    loss = models.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(models.keras.optimizers.Adam(1e-3), loss)
    return model


def _units(models, name: str) -> int:
    """The whole number of units that comes nearest to `PARAMETERS`; the count grows with the units."""
    low, high = 1, 2
    count = {}

    def parameters(units: int) -> int:
        count[units] = models.parameters(_head(models, name, units))
        return count[units]

    while parameters(high) < PARAMETERS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle) < PARAMETERS else (low, middle)
    return min(count, key=lambda units: abs(count[units] - PARAMETERS))


def _train(models, units: dict, seed: int, branch_epochs: int, epochs: int) -> dict:
    import tensorflow_datasets as tfds

    import mmkit.datasets  # noqa: F401
    from mmkit import layers
    from mmkit.datasets.av_digits import DigitSenses

    keras = models.keras
    keras.utils.set_random_seed(seed)
    senses, data = DigitSenses(), {}
    for split in ("train", "test"):
        raw = tfds.load("av_digits/small", split=split)
        parts = [senses(chunk) for chunk in raw.batch(250)]
        data[split] = (
            {name: np.concatenate([inputs[name] for inputs, _ in parts]) for name in parts[0][0]},
            np.concatenate([labels for _, labels in parts]),
        )
    (train, truth), (test, labels) = data["train"], data["test"]
    branches = {
        "image": layers.Conv2DBranch(SENSE_UNITS),
        "audio": layers.Conv2DBranch(SENSE_UNITS, pooling="max"),
        "touch": layers.LSTMBranch(SENSE_UNITS),
    }
    features, seen, logits = {}, {}, {}
    for name, branch in branches.items():  # each alone: the features that all methods share
        given = keras.Input(train[name].shape[1:])
        vector = branch(given)
        model = _compiled(models, keras.Model(given, keras.layers.Dense(models.CLASSES)(vector)))
        model.fit(train[name], truth, batch_size=64, epochs=branch_epochs, verbose=0)
        inner = keras.Model(given, vector)
        features[name], seen[name] = (inner.predict(rows[name], batch_size=250, verbose=0) for rows in (train, test))
        logits[name] = model.predict(test[name], batch_size=250, verbose=0)

    found = {}

    def keep(method: str, scores: np.ndarray, parameters: int = 0, seconds: float = 0.0) -> None:
        right = "".join("01"[hit] for hit in (scores.argmax(axis=1) == labels).astype(int))
        found[method] = {"right": right, "parameters": parameters, "seconds": seconds}

    best = max(logits, key=lambda name: (logits[name].argmax(axis=1) == labels).mean())
    keep("best sense alone", logits[best])
    logs = [values - np.logaddexp.reduce(values, axis=1, keepdims=True) for values in logits.values()]
    keep("probabilities multiplied", sum(logs))
    for method in ("linear", *units):
        keras.utils.set_random_seed(seed)
        model = _head(models, None if method == "linear" else method, units.get(method, 0))
        with harness.Clock() as clock:
            model.fit(features, truth, batch_size=64, epochs=epochs, verbose=0)
        scores = model.predict(seen, batch_size=250, verbose=0)
        keep(method, scores, models.parameters(model), clock.wall)
    return found


def hits(result: dict) -> np.ndarray:
    """For each test digit 1 if the method was right, else 0."""
    return np.array([int(digit) for digit in result["right"]])


def report(found: dict) -> str:
    """Accuracy with its interval, and the difference from concatenation, over the same test digits and seeds."""
    samples, rows = found["samples"], []
    right = {name: np.array([hits(sample[name]) for sample in samples]) for name in samples[0]}  # (seeds, digits)
    for name in [*BASELINES, *sorted(found["units"], key=lambda name: -right[name].mean())]:
        each = right[name].mean(axis=1)
        apart = "" if name == REFERENCE else f"{paired_bootstrap(right[name], right[REFERENCE])}"
        rows.append(
            [
                name,
                found["units"].get(name, ""),
                f"{samples[0][name]['parameters']:,}" if samples[0][name]["parameters"] else "",
                str(bootstrap(right[name])),
                f"{min(each):.3f} to {max(each):.3f}",
                apart,
                f"{np.median([sample[name]['seconds'] for sample in samples]):.1f}" if name in found["units"] else "",
            ]
        )
    head = ["method", "units", "parameters", "accuracy [95 %]", "seeds", f"less {REFERENCE} [95 %]", "s to train"]
    return harness.table(head, rows) + f"\n\n{len(samples)} seeds, {right[REFERENCE].shape[1]} test digits."
