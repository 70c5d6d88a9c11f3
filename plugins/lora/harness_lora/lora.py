"""LoRA, W + s B A with s = alpha / r, and initialisations, which differ only in A, B and the frozen residual."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import UsageError, number, whole_number
from harness.families.finetune.contract import FinetuneTask, Keeping
from harness.judge.bases import PackedLinear
from harness.judge.factors import Factorisation
from harness_lora.adaptation import linears, require_full_rank
from harness_lora.factorings import largest_triples, orthogonal_triangular, smallest_triples
from harness_lora.injection import ADAPTER, BASE, Injected, exactly, inject, save_adapter, tuner_layers
from harness_lora.library import DoraLinearLayer, LoraConfig, LoraLinear
from harness_lora.residual import Less

Start = Callable[[LoraLinear, torch.Generator], None]
"""Sets A (r x i) and B (o x r) of a layer and, where the adapter takes over a part of it, the base weight."""


class Lora(Injected):
    """LoRA (Hu 2022, arXiv:2106.09685, equation 3): h = W x + (alpha / r) B A x, W frozen, on every linear.

    ``options`` go into `peft.LoraConfig`; ``start`` replaces peft's initialisation; ``by_svd`` says that the
    initialisation needs ``rank`` singular vectors of every weight.
    """

    def __init__(
        self,
        *,
        rank: int,
        alpha: float,
        options: Mapping[str, Any] | None = None,
        start: Start | None = None,
        by_svd: bool = False,
    ) -> None:
        super().__init__()
        self.rank = whole_number("rank", rank)
        self.alpha = number("alpha", alpha, above=0)
        self._options = dict(options or {})
        self._start = start
        self._by_svd = by_svd
        if start is not None:
            self._options["init_lora_weights"] = False

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Put an adapter of this rank beside every linear of the backbone."""
        targets = linears(model, task.linears)
        if self._by_svd:
            require_full_rank(targets, self.rank)
        self.inject(model, task, target_modules=exactly(targets))

    def inject(self, model: nn.Module, task: FinetuneTask, **options: Any) -> None:
        """Inject peft's layers and initialise them."""
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, **self._options, **options)
        inject(model, config, task.generator)
        if self._start is not None:
            for _, layer in tuner_layers(model):
                with torch.no_grad():
                    self._start(layer, task.generator)


def lora(*, rank: int, alpha: float) -> Lora:
    """Return LoRA (Hu 2022, arXiv:2106.09685) as peft initialises it: A uniform in +-1/sqrt(i), B = 0."""
    return Lora(rank=rank, alpha=alpha)


def init_a(*, rank: int, alpha: float) -> Lora:
    """Return Init[A] (Hayou 2024, arXiv:2406.08447): A ~ N(0, 1/i), B = 0."""

    def start(layer: LoraLinear, generator: torch.Generator) -> None:
        a, b = factors(layer)
        a.copy_(gaussian(a, 1 / a.shape[1], generator))
        b.zero_()

    return Lora(rank=rank, alpha=alpha, start=start)


def init_b(*, rank: int, alpha: float) -> Lora:
    """Return Init[B] (Hayou 2024, arXiv:2406.08447): A = 0, B ~ N(0, 1/r)."""

    def start(layer: LoraLinear, generator: torch.Generator) -> None:
        a, b = factors(layer)
        a.zero_()
        b.copy_(gaussian(b, 1 / b.shape[1], generator))

    return Lora(rank=rank, alpha=alpha, start=start)


def rslora(*, rank: int, alpha: float) -> Lora:
    """Return rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732): W + alpha / sqrt(r) B A."""
    return Lora(rank=rank, alpha=alpha, options={"use_rslora": True})


class _Magnitude(DoraLinearLayer):  # type: ignore[misc]  # peft has no types
    """The magnitudes m of peft's DoRA, with norms of at least ``least``, so that a row of zeros can be divided."""

    least: float

    def get_weight_norm(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return the norm of each row, at least ``least``."""
        norm: torch.Tensor = super().get_weight_norm(*arguments, **named)
        return norm.clamp_min(self.least)


class Dora(Lora):
    """DoRA (Liu 2024, arXiv:2402.09353, equation 5): m (W + s B A) / ||W + s B A||, row by row, m trained.

    The equation says nothing of a row of zeros. A norm below float32's rounding of the layer's largest norm, or of 1
    where all are 0, counts as that large, in m too, so that the layer starts as it was.
    """

    def __init__(self, *, rank: int, alpha: float) -> None:
        super().__init__(rank=rank, alpha=alpha, options={"use_dora": True})

    def inject(self, model: nn.Module, task: FinetuneTask, **options: Any) -> None:
        """Inject peft's layers and bound their norms."""
        super().inject(model, task, **options)
        for _, layer in tuner_layers(model):
            magnitude = layer.lora_magnitude_vector[ADAPTER]
            magnitude.__class__ = _Magnitude
            with torch.no_grad():
                magnitude.least = torch.finfo(torch.float32).eps * (float(magnitude.weight.max()) or 1.0)
                magnitude.weight.clamp_min_(magnitude.least)


def dora(*, rank: int, alpha: float) -> Lora:
    """Return DoRA (Liu 2024, arXiv:2402.09353)."""
    return Dora(rank=rank, alpha=alpha)


def orthogonal(*, rank: int, alpha: float) -> Lora:
    """Return LoRA with B A = 0 and neither factor zero (datta0.github.io/posts/rethink-lora-init).

    A lies in the span of the odd rows of a random orthogonal r x r matrix, B in that of the even ones.
    Raises UsageError where the rank is odd.
    """
    if whole_number("rank", rank) % 2:
        raise UsageError(f"rank {rank}: orthogonal initialisation needs an even rank, like {rank + 1}")
    return Lora(rank=rank, alpha=alpha, options={"init_lora_weights": "orthogonal"})


class Factored(Lora):
    """LoRA that starts from factors of the weight, which lose their product: W <- W - s B A.

    ``compute`` gives B and A of a weight, or left and right vectors and the values between them, whose roots over the
    scale both are multiplied with.
    """

    def __init__(self, *, rank: int, alpha: float, compute: Factorisation) -> None:
        super().__init__(rank=rank, alpha=alpha, start=lambda _, __: None, by_svd=True)
        self._compute = compute

    def inject(self, model: nn.Module, task: FinetuneTask, **options: Any) -> None:
        """Inject peft's layers, set their factors and subtract these from the weights."""
        super().inject(model, task, **options)
        layers = dict(tuner_layers(model))
        weights = {name: layer.get_base_layer().weight for name, layer in layers.items()}
        found = task.factors(self._compute, weights, rank=self.rank)
        for name, layer in layers.items():
            with torch.no_grad():
                self._set(layer, *found[name])

    def save(self, model: nn.Module, keeping: Keeping) -> None:
        """Write a LoRA of twice the rank on the unchanged weight: s (B A - B_0 A_0), the start taken off again."""
        layers, base = dict(tuner_layers(model)), keeping.base()
        weights = {name: linear.weight for name, linear in linears(base, list(layers)).items()}
        found = keeping.task.factors(self._compute, weights, rank=self.rank)
        config, changed = self.saved_config(model), {}
        config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
        for name, layer in layers.items():
            a, b = factors(layer)
            left, right = started(*found[name], scale=layer.scaling[ADAPTER])
            label = BASE + (name.removeprefix(f"{keeping.root}.") if keeping.root else name)
            changed[f"{label}.lora_A.weight"] = torch.cat([a.detach(), right])
            changed[f"{label}.lora_B.weight"] = torch.cat([b.detach(), -left], dim=1)
        save_adapter(model, config, keeping, changed)

    def _set(self, layer: LoraLinear, left: Tensor, right: Tensor, values: Tensor | None = None) -> None:
        a, b = factors(layer)
        base, scale = layer.get_base_layer(), layer.scaling[ADAPTER]
        left, right = started(left, right, values, scale=scale)
        a.copy_(right)
        b.copy_(left)
        if isinstance(base, PackedLinear):
            base.inner = Less(base.inner, scale * left, right)
            return
        weight = base.weight
        residual = (weight.float() - scale * left @ right).to(weight.dtype)
        if values is None:
            weight.copy_(residual)
        else:
            weight.data = residual  # as peft does: the weight leaves the memory that the model's file is mapped to


def started(left: Tensor, right: Tensor, values: Tensor | None = None, *, scale: float) -> tuple[Tensor, Tensor]:
    """Return the start of B and of A from what a factorisation gives."""
    if values is None:
        return left, right
    root = (values / scale).sqrt()
    return left * root, root[:, None] * right


def olora(*, rank: int, alpha: float) -> Lora:
    """Return OLoRA (Büyükakyüz 2024, arXiv:2406.01775): W = QR, B = Q_r, A = R_r, W <- W - s B A."""
    return Factored(rank=rank, alpha=alpha, compute=orthogonal_triangular)


def pissa(*, rank: int, alpha: float) -> Lora:
    """Return PiSSA (Meng 2024, arXiv:2404.02948, equations 2-4): the top r singular triples start the adapter.

    B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r^T, W <- W - s B A.
    """
    return Factored(rank=rank, alpha=alpha, compute=largest_triples)


def milora(*, rank: int, alpha: float) -> Lora:
    """Return MiLoRA (Wang 2024, arXiv:2406.09044): as PiSSA, with the r smallest singular triples."""
    return Factored(rank=rank, alpha=alpha, compute=smallest_triples)


def eva_control(*, rank: int, alpha: float) -> Lora:
    """Return the control of EVA: A has random orthonormal rows, B = 0, and every layer keeps the nominal rank."""

    def start(layer: LoraLinear, generator: torch.Generator) -> None:
        a, b = factors(layer)
        orthonormal, _ = torch.linalg.qr(gaussian(a, 1.0, generator).T)
        a.copy_(orthonormal.T)
        b.zero_()

    return Lora(rank=rank, alpha=alpha, start=start, by_svd=True)


class LoraPlus(Lora):
    """LoRA+ (Hayou 2024, arXiv:2402.12354): B learns ``ratio`` times as fast as A."""

    def __init__(self, *, rank: int, alpha: float, ratio: float) -> None:
        super().__init__(rank=rank, alpha=alpha)
        self.ratio = number("ratio", ratio, above=0)

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return two groups: A at ``lr``, B at ``ratio * lr``."""
        a = [parameter for name, parameter in self.trained(model) if ".lora_A." in name]
        b = [parameter for name, parameter in self.trained(model) if ".lora_B." in name]
        return [{"params": a, "lr": lr}, {"params": b, "lr": self.ratio * lr}]


def factors(layer: LoraLinear) -> tuple[nn.Parameter, nn.Parameter]:
    """Return A (r x i) and B (o x r) of a layer."""
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def gaussian(like: torch.Tensor, variance: float, generator: torch.Generator) -> torch.Tensor:
    """Return normal numbers of mean 0 and this variance in the shape of ``like``, float32, on the CPU."""
    return torch.randn(like.shape, generator=generator) * math.sqrt(variance)
