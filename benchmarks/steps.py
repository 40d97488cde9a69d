"""(b) A step of training: time, memory and examples a second, against the same model in PyTorch."""

from pathlib import Path

from benchmarks import harness
from benchmarks.workloads import rows_and_labels

TITLE = "A training step, against PyTorch"
MODELS = {"late_fusion": "late fusion (260,922 parameters)", "transformer": "fusion transformer"}
WAYS = {
    "Keras, fit on arrays": {"framework": "keras", "tuned": False},
    "Keras, tuned": {"framework": "keras", "tuned": True},
    "PyTorch": {"framework": "torch", "tuned": False},
    "PyTorch, tuned": {"framework": "torch", "tuned": True},
}
EXAMPLES = 640  # an epoch
AGREE = 1e-4


def run(quick: bool, folder: Path) -> dict:
    """Checks that both frameworks compute the same, then times them in turn."""
    apart = {model: check(model, folder) for model in MODELS}
    cases = {
        f"{model}, {batch}, {way}": settings | {"model": model, "batch": batch, "epochs": 1 if quick else 2}
        for model in MODELS
        for batch in ([40] if quick else [40, 128])
        for way, settings in WAYS.items()
    }
    return {"same": apart, "samples": harness.in_turn("steps", cases, 1 if quick else 5)}


def check(model: str, folder: Path) -> dict[str, float]:
    """How far the models in PyTorch are from Keras's, at most.

    Raises:
        RuntimeError: if that is further than `AGREE`.
    """
    case = {"model": model, "reference": str(folder / f"{model}.npz")}
    harness.in_fresh_process("steps", case | {"framework": "keras"})
    twins = [
        harness.in_fresh_process("steps", case | {"framework": "torch", "tuned": tuned}) for tuned in (False, True)
    ]
    apart = {what: max(twin[what] for twin in twins) for what in twins[0]}
    if max(apart.values()) > AGREE:
        raise RuntimeError(f"{model}: Keras and PyTorch differ by {apart}, allowed is {AGREE}")
    return apart


def measure(
    framework: str,
    model: str,
    batch: int = 0,
    epochs: int = 0,
    tuned: bool = False,
    reference: str | None = None,
    device: str = "cpu",
    examples: int = EXAMPLES,
) -> dict:
    """Times epochs of training after one to warm up; or, with `reference`, stores or checks what the model computes.

    `device` is PyTorch's; Keras takes the one that its backend finds. An epoch is `examples` long.
    """
    if framework == "keras":
        return _keras(model, batch, epochs, tuned, reference, examples)
    return _torch(model, batch, epochs, tuned, reference, examples, device)


def _timed(epoch, examples: int, batch: int, epochs: int, start: float) -> dict:
    """Milliseconds and MB of a step. `epoch` trains over the examples; the first time it is compiled as well."""
    with harness.Clock() as first:
        epoch()
    with harness.Clock() as rest:
        for _ in range(epochs):
            epoch()
    steps = epochs * (examples // batch)
    return {
        "ms": 1e3 * rest.wall / steps,
        "cpu_ms": 1e3 * rest.cpu / steps,
        "examples_per_s": steps * batch / rest.wall,
        "first_s": first.wall,
        "memory_mb": harness.peak_memory() - start,
    }


def _keras(name: str, batch: int, epochs: int, tuned: bool, reference: str | None, examples: int) -> dict:
    from benchmarks import models

    if reference:
        models.save_reference(name, Path(reference))
        return {}
    start = harness.peak_memory()
    rows, labels = rows_and_labels(name, examples)
    xla = tuned and name == "transformer"  # convolutions take twice the time with it
    model = models.make(name, steps_per_execution=examples // batch if tuned else 1, xla=xla)
    if tuned:
        data = models.cached(rows, labels, batch)
        return _timed(lambda: model.fit(data, shuffle=False, verbose=0), examples, batch, epochs, start)
    return _timed(lambda: model.fit(rows, labels, batch_size=batch, verbose=0), examples, batch, epochs, start)


def _torch(name: str, batch: int, epochs: int, tuned: bool, reference: str | None, examples: int, device: str) -> dict:
    import torch

    from benchmarks import peers

    torch.set_num_threads(harness.threads())
    if reference:
        return peers.check_reference(name, Path(reference), lean=tuned)
    model, start = peers.make(name, lean=tuned), harness.peak_memory()
    rows, labels = rows_and_labels(name, examples)
    rows, labels = peers.tensors(rows, channels_last=tuned), torch.from_numpy(labels)
    model = model.to(device)
    if tuned:
        model = model.to(memory_format=torch.channels_last)
    if device != "cpu":
        torch.set_float32_matmul_precision("high")  # as JAX multiplies on a GPU unless it is told otherwise
    optimiser = peers.optimizer(model)

    def epoch() -> None:
        order, losses = torch.randperm(examples), []
        for i in range(0, examples - batch + 1, batch):
            some = order[i : i + batch]
            seen = {name: values[some].to(device) for name, values in rows.items()}
            losses.append(peers.step(model, optimiser, seen, labels[some].to(device)))
        float(sum(losses))  # waits for a GPU

    return _timed(epoch, examples, batch, epochs, start)


def report(found: dict) -> str:
    """One table a model; a ratio is of two processes of one round, which ran shortly after one another."""
    samples, tables = found["samples"], []
    for model, title in MODELS.items():
        rows = []
        for batch in sorted({int(name.split(", ")[1]) for name in samples}):
            mine = {way: samples[f"{model}, {batch}, {way}"] for way in WAYS}

            def of(way: str, key: str, mine: dict = mine) -> list[float]:
                return [sample[key] for sample in mine[way]]

            for way in WAYS:
                peers = [harness.ratios(of(way, "ms"), of(peer, "ms")) for peer in ("PyTorch", "PyTorch, tuned")]
                rows.append(
                    [
                        f"{way}, batch {batch}",
                        harness.show(of(way, "ms")),
                        harness.show(of(way, "cpu_ms")),
                        harness.show(of(way, "examples_per_s"), 0),
                        harness.show(of(way, "memory_mb"), 0),
                        *("" if way.startswith("PyTorch") else harness.show(ratio, 2) for ratio in peers),
                        harness.show(of(way, "first_s")),
                    ]
                )
        head = [title, "ms a step", "CPU ms a step", "examples/s", "peak MB over the imports", "× PyTorch's time"]
        tables.append(harness.table([*head, "× tuned PyTorch's", "first epoch, s"], rows))
        apart = ", ".join(f"{what} {value:.0e}" for what, value in found["same"][model].items() if what != "parameters")
        tables.append(f"Same parameters; with equal weights, at most this far apart in double precision: {apart}.")
    return "\n\n".join(tables)
