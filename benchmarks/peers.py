"""The same models in PyTorch: same structure, same number of parameters, equal outputs with equal weights."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.workloads import AVMNIST, CHECKED, CLASSES, TOKENS, TRANSFORMER, rows_and_labels


class LateFusion(nn.Module):
    """`models.late_fusion`. Its parts have the names of the Keras layers, so that weights find their place."""

    def __init__(self, senses: Mapping[str, tuple[tuple[int, ...], int]]) -> None:
        super().__init__()
        self.parts, self.blocks, size = nn.ModuleDict(), {}, 0
        for name, (shape, blocks) in senses.items():
            channels, (height, width, seen) = 6, shape
            for place in range(blocks):
                kernel = 3 if place else 5
                self.parts[f"{name}_conv_{place}"] = nn.Conv2d(
                    seen, channels * 2**place, kernel, padding=kernel // 2, bias=False
                )
                seen = channels * 2**place
                self.parts[f"{name}_norm_{place}"] = nn.BatchNorm2d(seen)
                height, width = height // 2, width // 2
            self.blocks[name] = blocks
            size += height * width * seen
        self.parts["hidden"] = nn.Linear(size, 100)
        self.parts["head"] = nn.Linear(100, CLASSES)

    def forward(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        features = []
        for name, blocks in self.blocks.items():
            x = rows[name]
            for place in range(blocks):
                x = self.parts[f"{name}_norm_{place}"](self.parts[f"{name}_conv_{place}"](x))
                x = functional.max_pool2d(functional.relu(x), 2)
            features.append(x.permute(0, 2, 3, 1).flatten(1))  # laid out as in Keras; free where there is one pixel
        return self.parts["head"](functional.relu(self.parts["hidden"](torch.cat(features, 1))))

    @torch.no_grad()
    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes over the Keras model's weights, from path to array."""
        kinds = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
        kinds |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
        for path, value in weights.items():
            layer, kind = path.split("/")
            if kind == "kernel":
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            getattr(self.parts[layer], kinds[kind]).copy_(torch.from_numpy(value))


class Block(nn.Module):
    """`mmkit.layers.attention.AttentionBlock`, with PyTorch's quickest attention and the three projections as one."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_0, self.norm_1 = nn.LayerNorm(units, eps=1e-6), nn.LayerNorm(units, eps=1e-6)
        self.look = nn.Linear(units, 3 * units, bias=False)
        self.attention_output = nn.Linear(units, units, bias=False)
        self.widen, self.narrow = nn.Linear(units, 2 * units), nn.Linear(2 * units, units)

    def forward(self, x: torch.Tensor, first: bool = False) -> torch.Tensor:
        """`(batch, time, units)`; if only the `first` token will be read, only that one: `(batch, 1, units)`."""
        batch, time, units = x.shape
        normed, size = self.norm_0(x), units // self.heads
        if first:
            x = x[:, :1]
            query = functional.linear(normed[:, :1], self.look.weight[:units]).view(batch, 1, self.heads, size)
            looked = functional.linear(normed, self.look.weight[units:]).view(batch, time, 2, self.heads, size)
            looked = query.transpose(1, 2), *looked.permute(2, 0, 3, 1, 4)
        else:
            looked = self.look(normed).view(batch, time, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(*looked)
        x = x + self.attention_output(found.transpose(1, 2).reshape(batch, -1, units))
        return x + self.narrow(functional.gelu(self.widen(self.norm_1(x))))


class Transformer(nn.Module):
    """`models.transformer`, for inputs without masks.

    `lean`: of the last block only the token that is read is computed, as in the kit's layer; else the whole block, as
    a transformer is written as a rule.
    """

    def __init__(
        self, tokens: Mapping[str, tuple[int, int]], units: int, num_heads: int, num_layers: int, lean: bool
    ) -> None:
        super().__init__()
        self.lean = lean
        self.names = sorted(tokens)
        self.project = nn.ModuleDict({name: nn.Linear(tokens[name][1], units) for name in self.names})
        self.embedding = nn.ParameterDict({name: nn.Parameter(torch.zeros(units)) for name in self.names})
        self.front = nn.Parameter(torch.zeros(1, units))
        self.blocks = nn.ModuleList(Block(units, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(units, eps=1e-6)
        self.head = nn.Linear(units, CLASSES)
        for name in self.names:
            self.register_buffer(f"place_{name}", positions(tokens[name][0], units))

    def forward(self, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        stream = [self.front.expand(len(rows[self.names[0]]), 1, -1)]
        for name in self.names:
            stream.append(self.project[name](rows[name]) + (self.embedding[name] + getattr(self, f"place_{name}")))
        x = torch.cat(stream, 1)
        for block in self.blocks:
            x = block(x, first=self.lean and block is self.blocks[-1])
        return self.head(self.norm(x[:, 0]))

    @torch.no_grad()
    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes over the Keras model's weights, from path to array."""
        given = {path.removeprefix("fusion/"): torch.from_numpy(np.array(value)) for path, value in weights.items()}

        def take(module: nn.Module, path: str) -> None:
            for kind, ours in (("kernel", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias")):
                if f"{path}/{kind}" in given:
                    value = given.pop(f"{path}/{kind}")
                    getattr(module, ours).copy_(value.T if kind == "kernel" else value)

        for name in self.names:
            take(self.project[name], f"projection_{name}")
            self.embedding[name].copy_(given.pop(f"embedding/embedding_{name}"))
        self.front.copy_(given.pop("front"))
        units = self.front.shape[-1]
        for place, block in enumerate(self.blocks):
            path = f"block_{place}"
            look = [given.pop(f"{path}/attend/{part}/kernel").reshape(units, units).T for part in QUERY_KEY_VALUE]
            block.look.weight.copy_(torch.cat(look))
            given["out/kernel"] = given.pop(f"{path}/attend/attention_output/kernel").reshape(units, units)
            take(block.attention_output, "out")
            for part in ("norm_0", "norm_1", "widen", "narrow"):
                take(getattr(block, part), f"{path}/{part}")
        take(self.norm, "norm")
        take(self.head, "head")
        if given:
            raise ValueError(f"no place for {sorted(given)}")


QUERY_KEY_VALUE = ("query", "key", "value")


def positions(time: int, units: int) -> torch.Tensor:
    """`mmkit.layers.attention.positions`."""
    unit = torch.arange(units)
    angle = torch.arange(time).float()[:, None] * 10_000.0 ** (-(unit // 2 * 2).float() / units)
    return torch.where(unit % 2 == 0, angle.sin(), angle.cos())


def make(name: str, lean: bool) -> nn.Module:
    """The twin of `models.make(name)`; `lean` as `Transformer`."""
    return LateFusion(AVMNIST) if name == "late_fusion" else Transformer(TOKENS, **TRANSFORMER, lean=lean)


def parameters(model: nn.Module) -> int:
    """How many numbers training changes."""
    return sum(prod(parameter.shape) for parameter in model.parameters())


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Plain SGD, as in `models.make`."""
    return torch.optim.SGD(model.parameters(), 0.1, weight_decay=1e-4)


def tensors(rows: Mapping[str, np.ndarray], channels_last: bool = False) -> dict[str, torch.Tensor]:
    """Rows as PyTorch wants them: pictures with their channels before height and width, at least by name."""
    made = {}
    for name, values in rows.items():
        tensor = torch.from_numpy(values)
        if tensor.ndim == 4:
            tensor = tensor.permute(0, 3, 1, 2)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            tensor = tensor.contiguous(memory_format=layout)
        made[name] = tensor
    return made


def step(model: nn.Module, optimiser: torch.optim.Optimizer, rows: dict, labels: torch.Tensor) -> torch.Tensor:
    """One step of training; the loss before it."""
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(rows), labels)
    loss.backward()
    optimiser.step()
    return loss.detach()


def check_reference(name: str, path: Path, lean: bool) -> dict[str, float]:
    """How far this model is from what `models.save_reference` stored, at most: outputs, loss, weights after a step.

    The running statistics are left out: for the variance PyTorch divides by n - 1, Keras by n.
    """
    with np.load(path) as reference:
        kept = {key: reference[key] for key in reference.files}

    def twin(when: str) -> nn.Module:
        model = make(name, lean).double()
        model.load({key.removeprefix(when): value for key, value in kept.items() if key.startswith(when)})
        return model

    model, after = twin("before:"), twin("after:")
    rows, labels = rows_and_labels(name, CHECKED)
    seen = tensors({key: values.astype(float) for key, values in rows.items()})
    with torch.no_grad():
        outputs = model.eval()(seen).numpy()
    loss = float(step(model.train(), optimizer(model), seen, torch.from_numpy(labels)))
    pairs = zip(model.parameters(), after.parameters())
    return {
        "outputs": float(np.abs(outputs - kept["outputs"]).max()),
        "loss": abs(loss - float(kept["loss"])),
        "weights after a step": max(float((ours - theirs).detach().abs().max()) for ours, theirs in pairs),
        "parameters": abs(parameters(model) - int(kept["parameters"])),
    }
