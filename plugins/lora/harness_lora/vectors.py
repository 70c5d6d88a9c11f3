"""Adapters of peft that are not LoRA: scales (IA3), vectors (VeRA) and shared blocks (MiSS, Bone)."""

from __future__ import annotations

import torch
from torch import nn

from harness.api import NotApplicable, number, whole_number
from harness.families.finetune.contract import FinetuneTask, Keeping
from harness_lora.adaptation import linears
from harness_lora.injection import ADAPTER, Injected, exactly, inject, save_adapter, tuner_layers
from harness_lora.library import IA3Config, MissConfig, VeraConfig


class IA3(Injected):
    """IA3 (Liu 2022, arXiv:2205.05638, section 3.3): l_k * K, l_v * V and W (l_ff * x), the scales start at 1.

    The task names keys, values and the feed-forward linears.
    """

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Scale keys, values and the feed-forward's inner activations.

        Raises NotApplicable where a part of these would be left out: keys and values that are computed in one, or a
        feed-forward that is no linear layer.
        """
        if task.fused:
            raise NotApplicable(f"{task.fused[0]} computes keys and values in one, and IA3 scales each apart")
        if not task.feedforward:
            raise NotApplicable("the model has no linear feed-forward whose inputs IA3 could scale")
        targets = linears(model, [*task.keys, *task.values, *task.feedforward])
        config = IA3Config(target_modules=exactly(targets), feedforward_modules=exactly(task.feedforward))
        inject(model, config, task.generator)


class Vera(Injected):
    """VeRA (Kopiczko 2024, arXiv:2310.11454, equation 2): h = W x + diag(b) B diag(d) A x.

    A and B are random, frozen and shared by all layers (each takes the slice of its size); b starts at 0 and d at
    ``d_initial``, so a layer trains o + r numbers.
    """

    def __init__(self, *, rank: int, d_initial: float) -> None:
        super().__init__()
        self.rank = whole_number("rank", rank)
        self.d_initial = number("d_initial", d_initial, above=0)

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Inject the vectors beside every linear layer of the backbone."""
        config = VeraConfig(
            r=self.rank,
            d_initial=self.d_initial,
            target_modules=exactly(linears(model, task.linears)),
            projection_prng_key=int(torch.randint(2**31, (), generator=task.generator)),
        )
        inject(model, config, task.generator)

    def save(self, model: nn.Module, keeping: Keeping) -> None:
        """Write the vectors, and the projections that all layers share."""
        _, layer = next(tuner_layers(model))
        shared = {f"base_model.{name}": getattr(layer, name)[ADAPTER] for name in ("vera_A", "vera_B")}
        save_adapter(model, self.saved_config(model), keeping, shared)


class Miss(Injected):
    """MiSS (Kang 2024, arXiv:2409.15371): every o x r block of dW is the same matrix D^T, D = 0.

    h = W x + D^T sum_k x_k over the blocks x_k of r inputs (the last padded with zeros): o x r parameters a layer.
    """

    def __init__(self, *, rank: int) -> None:
        super().__init__()
        self.rank = whole_number("rank", rank)

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Inject the shared block beside every linear layer of the backbone."""
        targets = linears(model, task.linears)
        for name, linear in targets.items():
            self.check(name, linear)
        config = MissConfig(r=self.rank, target_modules=exactly(targets), init_weights=self.kind)
        inject(model, config, task.generator)

    kind: bool | str = True
    """How `peft.MissConfig` names this form."""

    def check(self, name: str, linear: nn.Linear) -> None:
        """Raise NotApplicable where the block does not fit the layer."""
        if self.rank > linear.in_features:
            raise NotApplicable(f"rank {self.rank} exceeds the {linear.in_features} inputs of {name}")


class Bone(Miss):
    """Block affine Bone (Kang 2024, first versions of arXiv:2409.15371): dW_jk = W_jk D_j + D_j, D = 0.

    W_jk are the r x r blocks of W; D_j belongs to the j-th block of rows: o x r parameters a layer.
    """

    kind = "bat"

    def check(self, name: str, linear: nn.Linear) -> None:
        """Raise NotApplicable where the weight does not divide into r x r blocks."""
        if linear.in_features % self.rank or linear.out_features % self.rank:
            raise NotApplicable(f"{name} {tuple(linear.weight.shape)} does not divide into blocks of {self.rank}")
