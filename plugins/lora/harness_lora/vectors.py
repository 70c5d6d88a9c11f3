"""Adapters of peft that are not LoRA: scales (IA3), vectors (VeRA) and shared blocks (MiSS, Bone)."""

from __future__ import annotations

import torch
from torch import nn

from harness.api import NotApplicable, number, whole_number
from harness.families.finetune.contract import FinetuneTask, Keeping
from harness_lora.adaptation import linears
from harness_lora.injection import ADAPTER, BASE, Injected, exactly, inject, save_adapter, tuner_layers
from harness_lora.library import IA3Config, MissConfig, VeraConfig
from harness_lora.slices import Scaled


class IA3(Injected):
    """IA3 (Liu 2022, arXiv:2205.05638, section 3.3): l_k * K, l_v * V and W (l_ff * x), the scales start at 1.

    The task names keys, values and the feed-forward linears, and the places of keys and values in a layer that computes
    them in one.
    """

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Scale keys, values and the feed-forward's inner activations.

        Raises NotApplicable where a part of these would be left out: keys and values that are computed in one, in an
        order that is not known, or a feed-forward that is no linear layer.
        """
        if unknown := [name for name in task.fused if name not in task.rows]:
            raise NotApplicable(f"{unknown[0]} computes keys and values in one, in an order that is not known")
        if not task.feedforward:
            raise NotApplicable("the model has no linear feed-forward whose inputs IA3 could scale")
        targets = linears(model, [*task.keys, *task.values, *task.feedforward])
        config = IA3Config(target_modules=exactly(targets), feedforward_modules=exactly(task.feedforward))
        inject(model, config, task.generator)
        for name, linear in (linears(model, task.fused) if task.fused else {}).items():
            rows = task.rows[name]
            model.set_submodule(name, Scaled(linear, torch.cat([rows.keys, rows.values])))

    def merge(self, model: nn.Module) -> nn.Module:
        """Fold the scales into the weights, in place, but beside packed weights, and return the model."""
        for name, module in list(model.named_modules()):
            if isinstance(module, Scaled):
                model.set_submodule(name, module.fold())
        return super().merge(model)

    def save(self, model: nn.Module, keeping: Keeping) -> None:
        """Write the scales in peft's format, which has one for each output: those of queries are 1."""
        config, scales = self.saved_config(model), {}
        for name, module in model.named_modules():
            if isinstance(module, Scaled):
                inner = name.removeprefix(f"{keeping.root}.") if keeping.root else name
                scales[f"{BASE}{inner}.ia3_l"] = module.factors().detach()[:, None]
                config.target_modules += f"|{exactly([name])}"
        save_adapter(model, config, keeping, scales)


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
