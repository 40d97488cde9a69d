"""(a) Pipelines: examples a second, and how long a training step waits for them."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import features, harness

BATCH, EXAMPLES, AGREE = 64, 2_000, 2e-3
MODEL = {"image": ((28, 28, 1), 4), "audio": ((65, 32, 1), 5)}  # what trains while we time the waiting
Raw = dict[str, np.ndarray]
Passes = Callable[[], Iterable]  # gives one epoch's batches, each `(features, labels)`


def run(quick: bool, folder: Path) -> dict:
    """Prepares raw examples, checks that all compute the same features from them, then times the pipelines in turn."""
    raw = str(folder / "av_digits.npz")
    harness.in_fresh_process("feeding", {"raw": raw, "store": 200 if quick else EXAMPLES})
    apart = harness.in_fresh_process("feeding", {"raw": raw, "check": True})
    if max(apart.values()) > AGREE:
        raise RuntimeError(f"the features differ by {apart}, allowed is {AGREE}")
    cases = {name: {"raw": raw, "pipeline": name, "passes": 1 if quick else 2} for name in PIPELINES}
    return {"same": apart, "samples": harness.in_turn("feeding", cases, 1 if quick else 5)}


def measure(raw: str, pipeline: str = "", passes: int = 0, store: int = 0, check: bool = False) -> dict:
    """Times a pipeline from nothing; or stores raw examples and their features; or checks the peers' features."""
    if store:
        return _store(raw, store)
    with np.load(raw) as file:
        examples = {name: file[name] for name in ("image", "audio", "touch", "label")}
        if check:
            return _check(examples, {name: file[f"{name}_features"] for name in ("image", "audio", "touch")})
    make, train = PIPELINES[pipeline]
    step = train()  # first, so that what it needs is loaded
    count = len(examples["label"])
    with harness.Clock() as first:
        feed = make(examples)
        for _ in feed():
            pass
    with harness.Clock() as later:
        for _ in range(passes):
            for _ in feed():
                pass
    waited, begin = 0.0, time.perf_counter()
    batches = iter(feed())
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        step(*batch)
    return {
        "first_per_s": count / first.wall,
        "later_per_s": passes * count / later.wall,
        "later_cpu_ms": 1e3 * later.cpu / passes / count,
        "training_per_s": count / (time.perf_counter() - begin),
        "waiting": waited / (time.perf_counter() - begin),
    }


def _store(path: str, count: int) -> dict:
    import tensorflow_datasets as tfds

    import mmkit.datasets  # noqa: F401
    from mmkit.datasets.av_digits import DigitSenses

    rows = next(iter(tfds.load("av_digits/small", split=f"train[:{count}]").batch(count).as_numpy_iterator()))
    rows = {name: rows[name] for name in ("image", "audio", "touch", "label")}
    found, _ = DigitSenses()({name: values[:100] for name, values in rows.items()})
    np.savez(path, **rows, **{f"{name}_features": np.array(values) for name, values in found.items()})
    return {}


def _check(examples: Raw, expected: Raw) -> dict[str, float]:
    import torch

    senses = {name: examples[name][: len(values)] for name, values in expected.items()}
    alone = [features.with_numpy(**dict(zip(senses, one))) for one in zip(*senses.values())]
    found = {
        "NumPy": {name: np.stack([one[name] for one in alone]) for name in senses},
        "PyTorch": features.with_torch(**{name: torch.from_numpy(values) for name, values in senses.items()}),
    }
    return {
        who: max(float(np.abs(np.asarray(mine[name]) - expected[name]).max()) for name in senses)
        for who, mine in found.items()
    }


def _mmkit(raw: Raw) -> Passes:
    from mmkit import pipelines
    from mmkit.datasets.av_digits import DigitSenses

    data = _slices(raw)
    ready = pipelines.batches(
        data, BATCH, transform=DigitSenses(), shuffle=True, augment=features.augment_with_tensorflow
    )
    return lambda: ready


def _naive(raw: Raw) -> Passes:
    """As in a first draft: one example at a time, nothing kept, nothing at the same time."""
    import tensorflow as tf

    from mmkit.datasets.av_digits import DigitSenses

    senses = DigitSenses()

    def prepare(example: dict) -> tuple:
        inputs, label = senses(tf.nest.map_structure(lambda values: values[None], example))
        return tf.nest.map_structure(lambda values: values[0], (inputs, label))

    ready = _batched(_slices(raw).shuffle(len(raw["label"])).map(prepare))
    return lambda: ready


def _generator(raw: Raw, keep: bool = False) -> Passes:
    """A Python generator of features. With `keep` it computes them in the first epoch alone."""
    import tensorflow as tf

    random, kept = np.random.default_rng(0), {}

    def generate() -> Iterable:
        for i in random.permutation(len(raw["label"])):
            example = kept.get(i) or features.with_numpy(raw["image"][i], raw["audio"][i], raw["touch"][i])
            if keep:
                kept[i] = example
            yield example, raw["label"][i]

    shapes = {"image": (28, 28, 1), "audio": (65, 32, 1), "touch": (48, 16)}
    signature = {name: tf.TensorSpec(shape, tf.float32) for name, shape in shapes.items()}
    data = tf.data.Dataset.from_generator(generate, output_signature=(signature, tf.TensorSpec((), tf.int64)))
    ready = _batched(data).prefetch(tf.data.AUTOTUNE)
    return lambda: ready


def _slices(raw: Raw) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(raw)


def _batched(data: Any) -> Any:
    import tensorflow as tf

    def augment(inputs: dict, labels: Any) -> tuple:
        return features.augment_with_tensorflow(inputs, labels, tf.random.uniform((2,), 0, 2**30, tf.int32))

    return data.batch(BATCH).map(augment)


def _loader(raw: Raw, workers: int = 2) -> Passes:
    """As PyTorch's tutorials have it: features of one example at a time, in worker processes."""
    import torch
    from torch.utils.data import DataLoader, Dataset, default_collate

    class Digits(Dataset):
        def __len__(self) -> int:
            return len(raw["label"])

        def __getitem__(self, i: int) -> tuple:
            senses = {name: torch.from_numpy(raw[name][i : i + 1]) for name in ("image", "audio", "touch")}
            return {name: values[0] for name, values in features.with_torch(**senses).items()}, raw["label"][i]

    def collate(rows: list) -> tuple:
        inputs, labels = default_collate(rows)
        return features.augment_with_torch(inputs), labels

    loader = DataLoader(Digits(), BATCH, shuffle=True, num_workers=workers, collate_fn=collate, persistent_workers=True)
    return lambda: loader


def _whole_batches(raw: Raw) -> Passes:
    """The quickest that we know: features computed once, in chunks, and kept; a DataLoader that takes whole batches."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

    senses = [torch.from_numpy(raw[name]).split(250) for name in ("image", "audio", "touch")]
    chunks = [features.with_torch(*chunk) for chunk in zip(*senses)]
    table = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    labels = torch.from_numpy(raw["label"])

    class Digits(Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, places: list[int]) -> tuple:
            return features.augment_with_torch({name: values[places] for name, values in table.items()}), labels[places]

    sampler = BatchSampler(RandomSampler(Digits()), BATCH, drop_last=False)
    loader = DataLoader(Digits(), sampler=sampler, batch_size=None)
    return lambda: loader


def _train_keras() -> Callable[..., None]:
    import mmkit

    with mmkit.quiet_imports():
        import tensorflow as tf

        import mmkit.datasets.av_digits
        import mmkit.pipelines  # noqa: F401 (here, so that no pipeline's first epoch holds the imports)

    from benchmarks import models

    model = models.late_fusion(MODEL)
    model.compile("sgd", models.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    graph = tf.function(model.train_step, reduce_retracing=True)

    def step(inputs: dict, labels: Any) -> None:
        float(graph(({name: inputs[name] for name in MODEL}, labels))["loss"])

    for size in (BATCH, BATCH - 1):  # traced now, for any size of batch
        step({name: tf.zeros((size, *shape)) for name, (shape, _) in MODEL.items()}, tf.zeros(size, tf.int64))
    return step


def _train_torch() -> Callable[..., None]:
    import torch

    from benchmarks import peers

    model = peers.LateFusion(MODEL).to(memory_format=torch.channels_last)
    optimiser = peers.optimizer(model)

    def step(inputs: dict, labels: Any) -> None:
        float(peers.step(model, optimiser, {name: inputs[name].permute(0, 3, 1, 2) for name in MODEL}, labels))

    step({name: torch.zeros(BATCH, *shape) for name, (shape, _) in MODEL.items()}, torch.zeros(BATCH, dtype=torch.long))
    return step


PIPELINES: dict[str, tuple[Callable[[Raw], Passes], Callable]] = {
    "mmkit.pipelines.batches": (_mmkit, _train_keras),
    "naive tf.data": (_naive, _train_keras),
    "Python generator": (_generator, _train_keras),
    "Python generator that keeps features": (lambda raw: _generator(raw, keep=True), _train_keras),
    "PyTorch DataLoader, 2 workers": (_loader, _train_torch),
    "PyTorch DataLoader of whole batches, kept": (_whole_batches, _train_torch),
}
OURS = next(iter(PIPELINES))


def report(found: dict) -> str:
    """The table, with how many times as fast as each other pipeline ours is."""
    samples, rows = found["samples"], []

    def of(name: str, key: str) -> list[float]:
        return [sample[key] for sample in samples[name]]

    for name in samples:
        times = [
            harness.show(harness.ratios(of(OURS, key), of(name, key))) if name != OURS else "1"
            for key in ("first_per_s", "later_per_s")
        ]
        rows.append(
            [
                name,
                harness.show(of(name, "first_per_s"), 0),
                times[0],
                harness.show(of(name, "later_per_s"), 0),
                times[1],
                harness.show(of(name, "later_cpu_ms"), 2),
                harness.show([100 * share for share in of(name, "waiting")]) + " %",
                harness.show(of(name, "training_per_s"), 0),
            ]
        )
    head = ["pipeline", "first epoch, examples/s", "ours is × as fast", "later epochs, examples/s", "ours is × as fast"]
    head += ["CPU ms an example, later", "of a training step spent waiting", "examples/s in training"]
    apart = ", ".join(f"{who} {value:.0e}" for who, value in found["same"].items())
    return harness.table(head, rows) + f"\n\nLargest difference of the features from ours: {apart}."
