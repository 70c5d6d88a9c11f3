"""EVA: LoRA whose A comes from each layer's inputs, with ranks distributed by explained variance."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import NotApplicable, number
from harness.families.finetune.contract import FinetuneTask
from harness.judge.training import Batch
from harness_lora.adaptation import linears
from harness_lora.injection import exactly, tuner_layers
from harness_lora.library import EvaConfig, LoraConfig, get_eva_state_dict
from harness_lora.lora import Lora, factors

BATCHES = 16
"""Calibration batches, which are repeated until the components have converged; convergence mostly needs fewer."""


class Eva(Lora):
    """EVA (Paischer 2024, arXiv:2410.07170, algorithm 1), in peft's implementation.

    A = the top right singular vectors of the layer's centred inputs, found by incremental SVD over calibration
    batches, so A A^T = I; B = 0. The r x layers ranks go to the components that explain the most variance, at most
    ``rho`` r to a layer; a layer that gets none stays unchanged. The scale alpha / r is that of the nominal rank.
    """

    def __init__(self, *, rank: int, alpha: float, rho: float) -> None:
        super().__init__(rank=rank, alpha=alpha)
        self.rho = number("rho", rho, least=1)

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Compute the directions and each layer's rank, and inject LoRA layers of these ranks.

        Raises NotApplicable where a layer has too few inputs for the components, or a batch too few examples.
        """
        targets = linears(model, task.linears)
        components = round(self.rank * self.rho)
        narrow = min(linear.in_features for linear in targets.values())
        if 2 * components > narrow:
            raise NotApplicable(f"EVA looks at {2 * components} components, a layer has {narrow} inputs")
        directions = self._directions(model, task, exactly(targets), 2 * components)
        ranks = {name: len(rows) for name, rows in directions.items() if len(rows)}
        self.inject(
            model,
            task,
            target_modules=exactly(ranks),
            rank_pattern={f"^{exactly([name])}": rank for name, rank in ranks.items()},
            alpha_pattern={f"^{exactly([name])}": self.alpha * rank / self.rank for name, rank in ranks.items()},
        )
        with torch.no_grad():
            for name, layer in tuner_layers(model):
                a, b = factors(layer)
                a.copy_(directions[name])
                b.zero_()

    def _directions(self, model: nn.Module, task: FinetuneTask, pattern: str, rows: int) -> dict[str, Tensor]:
        """Return the rows of A by layer, as many as the layer's rank (possibly 0).

        Raises NotApplicable where a batch gives a layer fewer than ``rows`` inputs.
        """
        config = LoraConfig(
            r=self.rank,
            target_modules=pattern,
            init_lora_weights="eva",
            eva_config=EvaConfig(rho=self.rho),
        )
        batches: list[Batch] = list(islice(task.calibration(), BATCHES))
        equal = [batch for batch in batches if len(batch["labels"]) == len(batches[0]["labels"])]

        def inputs(layer_input: Any, _: object, name: str) -> Tensor:
            flat: Tensor = layer_input[0].reshape(-1, layer_input[0].shape[-1])
            if len(flat) < rows:
                raise NotApplicable(f"EVA needs {rows} inputs a batch, {name} has {len(flat)}")
            return flat

        directions: dict[str, Tensor] = get_eva_state_dict(
            model,
            equal,
            peft_config=config,
            forward_fn=task.forward,
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=inputs,
            show_progress_bar=False,
        )
        return directions
