"""(d) How the cost of a fusion layer grows with modalities, tokens and batch."""

import statistics
import time
from pathlib import Path

from benchmarks import harness

UNITS = 64
USUAL = {"modalities": 3, "tokens": 16, "batch": 32}
AXES = {"modalities": [2, 4, 6], "tokens": [8, 32, 128], "batch": [8, 32, 128]}
LEAST_MB = 8  # a rise in memory below this is lost in the noise, and gets no slope


def run(quick: bool, folder: Path) -> dict:
    """Measures every layer along each axis."""
    names = ["ConcatFusion"] if quick else harness.in_fresh_process("growth", {})["names"]
    axes = {axis: values[:2] if quick else values for axis, values in AXES.items()}
    cases = {f"{name}, {axis}": {"name": name, "axis": axis, "values": axes[axis]} for name in names for axis in AXES}
    return {"samples": harness.in_turn("growth", cases, 1)}


def measure(name: str = "", axis: str = "", values: list[int] | None = None) -> dict:
    """Milliseconds of a training step, and MB that the process has grown by, at each value; or the layers' names."""
    from benchmarks import models

    if not name:
        return {"names": list(models.fusion_layers())}
    _step_ms(models, name, 2, 2, 2)  # what is loaded once, before memory is counted
    start, found = harness.peak_memory(), {"ms": [], "memory_mb": []}
    for value in values:  # growing, so that the peak so far is this value's own
        found["ms"].append(_step_ms(models, name, **(USUAL | {axis: value})))
        found["memory_mb"].append(harness.peak_memory() - start)
    return found | {"values": values}


def _step_ms(models, name: str, modalities: int, tokens: int, batch: int) -> float:
    """The median time of a step, forwards and backwards, to the weights and to the inputs."""
    import tensorflow as tf

    layer = models.fusion_layers()[name](UNITS)
    features = {f"sense_{i}": tf.random.normal((batch, tokens, UNITS)) for i in range(modalities)}
    layer.build({sense: tuple(values.shape) for sense, values in features.items()})

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_mean(tf.square(layer(features, training=True)))
        gradients = tape.gradient(loss, [layer.trainable_variables, features])
        return tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in tf.nest.flatten(gradients)])

    float(step()), float(step())
    times, end = [], time.perf_counter() + 0.5
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 100):
        start = time.perf_counter()
        float(step())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def report(found: dict) -> str:
    """For each layer and axis the slope of time and of memory, and both at the largest value."""
    rows = {}
    for case, samples in found["samples"].items():
        (sample,), (name, axis) = samples, case.split(", ")
        memory = sample["memory_mb"]
        steep = f"{harness.slope(sample['values'], memory):.1f}" if min(memory) >= LEAST_MB else "–"
        cells = [f"{harness.slope(sample['values'], sample['ms']):.1f}", f"{sample['ms'][-1]:.1f}"]
        rows.setdefault(name, [name]).extend([*cells, steep, f"{memory[-1]:.0f}"])
    head = ["layer"]
    for axis, values in AXES.items():
        head += [f"{axis}: time ^", f"ms at {values[-1]}", "memory ^", f"MB at {values[-1]}"]
    return harness.table(head, list(rows.values()))
