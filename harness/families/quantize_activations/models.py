"""Two residual networks for the digits: one trained as usual, one trained to have no outliers.

The second follows Outlier-Safe Pre-Training (arXiv:2506.19697): Muon for the matrices, and normalisation layers with
one gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.datasets import split
from harness.judge.digits import DIGITS_SHA256, read_digits, scaled
from harness.judge.seeds import generator, global_seed
from harness.judge.training import batch_order

WIDTH: Final = 64
HIDDEN: Final = 128
BLOCKS: Final = 2
CLASSES: Final = 10

TRAIN: Final = 1000
VALIDATION: Final = 100
STEPS: Final = 100
BATCH: Final = 64
RATES: Final = {"adam": 4e-3, "muon": 4e-3}
MUON_RATE: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images: inputs float32 ``(n, 64)`` and labels int64 ``(n,)``."""

    inputs: Tensor
    labels: Tensor


class Norm(nn.Module):
    """RMS normalisation, times one gain for every channel or one for all."""

    def __init__(self, gains: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(gains))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tensor, ``(..., width)`` like ``x``."""
        normed: Tensor = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain
        return normed


class Network(nn.Module):
    """An embedding, residual blocks of a norm and two linear layers, a norm, and a head."""

    def __init__(self, gains: int) -> None:
        super().__init__()
        self.embed = nn.Linear(64, WIDTH)
        self.norms = nn.ModuleList(Norm(gains) for _ in range(BLOCKS))
        self.ups = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(BLOCKS))
        self.downs = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(BLOCKS))
        self.norm = Norm(gains)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(n, classes)`` of inputs ``(n, 64)``."""
        x = self.embed(x)
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(up(norm(x)).relu())
        logits: Tensor = self.head(self.norm(x))
        return logits


def trained_residual(seed: int, cache: Path, recipe: str) -> tuple[Network, Images]:
    """Return the network of a seed and a recipe, from the cache or trained now (a second), and held-out images."""
    digits = read_digits()
    inputs, labels = scaled(digits.pixels).flatten(1), digits.labels.long()
    parts = split(len(labels), generator(seed, "split"), train=TRAIN, validation=VALIDATION)
    key = key_of(
        {
            "sources": sources_of(__name__),
            "data": DIGITS_SHA256,
            "torch": torch.__version__,
            "recipe": recipe,
            "seed": seed,
        }
    )

    def make() -> dict[str, Tensor]:
        train = Images(inputs=inputs[parts.train].double(), labels=labels[parts.train])
        with global_seed(seed):
            model = _network(recipe).double()
            _fit(model, train, recipe, seed)
        return {name: value.float() for name, value in model.state_dict().items()}

    model = _network(recipe)
    model.load_state_dict(load_or_make(cache, f"quantize-residual-{recipe}-{key}", make))
    return model.eval().requires_grad_(False), Images(inputs=inputs[parts.test], labels=labels[parts.test])


def _network(recipe: str) -> Network:
    return Network(gains=1 if recipe == "muon" else WIDTH)


def _fit(model: Network, train: Images, recipe: str, seed: int) -> None:
    matrices = [
        layer.get_parameter("weight") for layer in (*model.ups, *model.downs) if recipe == "muon"
    ]  # Muon is for hidden matrices: embedding, head, biases and gains stay with AdamW
    others = [parameter for parameter in model.parameters() if not any(parameter is matrix for matrix in matrices)]
    optimizers: list[Any] = [torch.optim.AdamW(others, lr=RATES[recipe], weight_decay=0.01)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01))
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS) for optimizer in optimizers]
    for batch in batch_order(len(train.labels), generator(seed, "order"), steps=STEPS, batch_size=BATCH):
        for optimizer in optimizers:
            optimizer.zero_grad()
        functional.cross_entropy(model(train.inputs[batch]), train.labels[batch]).backward()  # type: ignore[no-untyped-call]
        for stepped in (*optimizers, *schedules):
            stepped.step()


sources_of(__name__)  # at import, so that no case has to wait for it
