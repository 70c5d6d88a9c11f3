"""Small problems of known anatomy: a vision transformer, a perceptron, a single layer."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from harness_lora import register_techniques
from torch import Tensor, nn

from harness.families.finetune.anatomy import projections
from harness.families.finetune.contract import FinetuneTask
from harness.judge.training import Batch

TECHNIQUES = {technique.id: technique for technique in register_techniques()}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A base model, its batches and what a task says of them."""

    base: nn.Module
    batches: Sequence[Batch]
    head: str
    linears: Sequence[str]
    norms: Sequence[str] = ()
    blocks: Sequence[str] = ()
    feedforward: Sequence[str] = ()

    def fresh(self) -> nn.Module:
        """A copy of the base model as the judge hands it over: frozen but for the head."""
        model = copy.deepcopy(self.base)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(f"{self.head}."))
        return model

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        result = model(**inputs)
        return result if isinstance(result, Tensor) else result.logits

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(self.forward(model, batch), batch["labels"])

    def logits(self, model: nn.Module) -> Tensor:
        with torch.no_grad():
            return self.forward(model.eval(), self.batches[0])

    def task(self, seed: int = 0) -> FinetuneTask:
        def calibration() -> Iterator[Batch]:
            return iter(self.batches)

        return FinetuneTask(
            linears=self.linears,
            norms=self.norms,
            blocks=self.blocks,
            head=[self.head],
            feedforward=self.feedforward,
            **projections(list(self.linears)),
            classes=3,
            calibration=calibration,
            forward=self.forward,
            loss=self.loss,
            generator=torch.Generator().manual_seed(seed),
        )

    def adapted(self, technique: Any, seed: int = 0) -> nn.Module:
        return technique.adapt(self.fresh(), self.task(seed))

    def train(self, technique: Any, model: nn.Module, steps: int = 4, lr: float = 5e-3) -> None:
        """A few steps over what the technique says trains, and the head."""
        head = {"params": list(model.get_submodule(self.head).parameters()), "lr": 1e-3}
        optimizer = torch.optim.AdamW([*technique.parameter_groups(model, lr), head], weight_decay=0.0)
        model.train()
        for step in range(steps):
            optimizer.zero_grad()
            self.loss(model, self.batches[step % len(self.batches)]).backward()
            optimizer.step()


class Perceptron(nn.Module):
    """Linear and ReLU, layer by layer, and a head."""

    def __init__(self, widths: Sequence[int], classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def perceptron(widths: Sequence[int], seed: int = 0, rows: int = 32) -> Problem:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = Perceptron(widths)
        batches = [{"x": torch.randn(rows, widths[0]), "labels": torch.randint(3, (rows,))} for _ in range(4)]
    names = [f"layers.{index}" for index in range(len(widths) - 1)]
    return Problem(base=base, batches=batches, head="head", linears=names, blocks=names, feedforward=names[1:])


def transformer() -> Problem:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = ViTForImageClassification(config)
        batches = [{"pixel_values": torch.randn(8, 1, 8, 8), "labels": torch.randint(3, (8,))} for _ in range(4)]
    names = [name for name, module in base.named_modules() if isinstance(module, nn.Linear) and name != "classifier"]
    return Problem(
        base=base,
        batches=batches,
        head="classifier",
        linears=names,
        norms=[name for name, module in base.named_modules() if isinstance(module, nn.LayerNorm)],
        blocks=[name for name in names if name.endswith(("o_proj", "fc2"))],
        feedforward=[name for name in names if name.endswith("fc2")],
    )


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """The technique as the worker builds it: its target called with the declared params, or these."""

    def call(name: str, **params: Any) -> Any:
        module, _, attribute = TECHNIQUES[name].target.partition(":")
        return getattr(importlib.import_module(module), attribute)(**{**TECHNIQUES[name].params, **params})

    return call


@pytest.fixture(scope="session")
def vit() -> Problem:
    return transformer()


@pytest.fixture(scope="session")
def mlp() -> Problem:
    return perceptron([16, 24, 32, 20])


@pytest.fixture(scope="session")
def wide() -> Problem:
    """A perceptron whose products take most of its time."""
    return perceptron([256, 512, 256], rows=64)


@pytest.fixture(scope="session")
def layer() -> Callable[[int, int, int], Problem]:
    """A perceptron of one hidden layer of so many outputs and inputs."""

    def one(outputs: int, inputs: int, seed: int = 0) -> Problem:
        return perceptron([inputs, outputs], seed)

    return one


@pytest.fixture(scope="session")
def effective() -> Callable[[nn.Module, int], Tensor]:
    """The matrix that a layer multiplies its input with, o x i in float64, read off its forward."""

    def weight(module: nn.Module, inputs: int) -> Tensor:
        with torch.no_grad():
            unit = torch.eye(inputs, dtype=next(module.parameters()).dtype)
            return (module(unit) - module(torch.zeros_like(unit[:1]))).T.double()

    return weight
