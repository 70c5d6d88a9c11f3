"""Training of the base models that techniques adapt: on the digits 0-4 only, with one seed for all cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import Json
from harness.judge import training
from harness.judge.architectures import Architecture
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.digits import DIGITS_SHA256, Digits, read_digits, scaled
from harness.judge.seeds import generator, global_seed
from harness.judge.training import Batch, batch_order

CLASSES: Final = 5
"""Classes of the base model, and of the task that it is adapted to."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The training protocol of the base models, on the digits from ``lowest`` to ``highest``."""

    lowest: int = 0
    highest: int = 4
    steps: int = 400
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0


PRETRAINING: Final = Pretraining()


@dataclass(frozen=True, kw_only=True)
class Base:
    """A trained base model: its parameters by name, and all images, those not trained on included.

    ``key`` identifies everything that determines the model.
    """

    key: str
    state: Mapping[str, Tensor]
    digits: Digits


def base(architecture: Architecture, cache: Path) -> Base:
    """Return the base model of an architecture, from the cache or trained now (seconds).

    Raises OSError where the cache cannot be written, HarnessError where the digits are not the expected ones.
    """

    def make() -> dict[str, Tensor]:
        digits = read_digits()
        state = pretrain(architecture, digits)
        return {"pixels": digits.pixels, "labels": digits.labels, **{f"model.{name}": state[name] for name in state}}

    key = key_of(facts(architecture))
    tensors = load_or_make(cache, f"{architecture.name}-{key}", make)
    return Base(
        key=key,
        state={name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")},
        digits=Digits(pixels=tensors["pixels"], labels=tensors["labels"]),
    )


def facts(architecture: Architecture) -> dict[str, Json]:
    """Return everything that a base model's parameters depend on."""
    return {
        "architecture": {**architecture.config, "classes": CLASSES},
        "pretraining": asdict(PRETRAINING),
        "data": DIGITS_SHA256,
        "libraries": {"torch": torch.__version__, **architecture.libraries},
        "sources": [sources_of(__name__), sources_of(type(architecture).__module__)],
    }


def pretrain(architecture: Architecture, digits: Digits) -> dict[str, Tensor]:
    """Train a model from scratch on the lower digits and return its parameters by name, float32 on the CPU.

    Training amplifies the differences in rounding between processors. It therefore runs in float64, where they stay
    below the resolution of float32.
    """
    seen = digits.select(PRETRAINING.lowest, PRETRAINING.highest)
    inputs = architecture.inputs(scaled(seen.pixels).double())
    labels = seen.labels.long() - PRETRAINING.lowest
    order = batch_order(
        len(labels),
        generator(PRETRAINING.seed, "pretraining order"),
        steps=PRETRAINING.steps,
        batch_size=PRETRAINING.batch_size,
    )

    def batches() -> Iterator[Batch]:
        for indices in order:
            yield {**{name: value[indices] for name, value in inputs.items()}, "labels": labels[indices]}

    with global_seed(PRETRAINING.seed), _one_thread(), _double_precision():
        model = architecture.build(CLASSES)
        optimizer = training.adamw(
            [{"params": list(model.parameters()), "lr": PRETRAINING.lr}], PRETRAINING.weight_decay
        )
        loss = training.cross_entropy(architecture.forward)
        training.fit(model, optimizer, batches(), steps=PRETRAINING.steps, loss=loss)
    return {name: parameter.float() for name, parameter in model.state_dict().items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, so that sums are computed in the same order on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _double_precision() -> Iterator[None]:
    """Make float64 the default dtype, so that initial values are drawn in it too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


sources_of(__name__)  # at import, so that no case has to wait for it
