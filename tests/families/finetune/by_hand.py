"""A classifier of texts fine-tuned as a user would without the harness: transformers, peft's wrapper, and a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModel

from harness.families.finetune.problem import Problem
from harness.families.finetune.settings import Protocol
from harness.judge.training import Batch

TARGETS: Final[Mapping[str, Sequence[str]]] = {
    "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
"""The linear layers of the repeated layers, as peft matches them: by the ends of their names."""

SCALED: Final = {"bert": (["key", "value"], "layer.[0-9]+.output.dense"), "llama": (["k_proj", "v_proj"], "down_proj")}
"""Keys and values, and the end of the feed-forward, whose inputs IA3 scales."""


def _lora(kind: str, **options: Any) -> PeftConfig:
    return LoraConfig(r=4, lora_alpha=4, target_modules=list(TARGETS[kind]), **options)


def _ia3(kind: str) -> PeftConfig:
    (keys, values), inner = SCALED[kind]
    return IA3Config(target_modules=rf".*\.({keys}|{values})|.*{inner}", feedforward_modules=rf".*{inner}")


CONFIGS: Final[Mapping[str, Callable[[str], PeftConfig | None]]] = {
    "full": lambda _: None,
    "lora": _lora,
    "dora": lambda kind: _lora(kind, use_dora=True),
    "pissa": lambda kind: _lora(kind, init_lora_weights="pissa"),
    "ia3": _ia3,
}
"""What peft is told for a technique; None where every parameter trains."""


class ByHand:
    """A model of transformers, adapted by peft, with a head on the mean or the last of the states, and its optimiser.

    ``problem`` gives the start of the head, the settings, and the seed of what peft draws.
    """

    def __init__(self, name: str, folder: Path, kind: str, problem: Problem, **options: Any) -> None:
        self._last = kind == "llama"
        quiet = {} if self._last else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        pooled = {} if self._last else {"add_pooling_layer": False}
        self.backbone = AutoModel.from_pretrained(folder, dtype=torch.float32, **quiet, **pooled)
        head = problem.head
        self.head = nn.Linear(*reversed(head["head.weight"].shape))
        self.head.load_state_dict({"weight": head["head.weight"], "bias": head["head.bias"]})
        if config := CONFIGS[name](kind):
            torch.manual_seed(int(torch.randint(2**62, (), generator=problem.task.generator)))
            self.backbone = get_peft_model(self.backbone, config)
        self.settings: Protocol = problem.settings
        self.parameters = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        groups = [
            {"params": list(self.head.parameters()), "lr": self.settings.head_lr},
            {"params": self.parameters, "lr": self.settings.lr},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay, **options)
        self.backbone.train()

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of a batch in nats."""
        mask = batch["attention_mask"]
        states = self.backbone(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        if self._last:
            pooled = states[torch.arange(len(mask)), mask.sum(1) - 1]
        else:
            weights = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1)
        return nn.functional.cross_entropy(self.head(pooled), batch["labels"])

    def step(self, batch: Batch) -> Tensor:
        """Take a step of training and return the loss before it, detached."""
        self.optimizer.zero_grad()
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*self.head.parameters(), *self.parameters], self.settings.max_grad_norm)
        self.optimizer.step()
        return loss.detach()

    def train(self, problem: Problem) -> list[float]:
        """Train on the batches of a problem, each padded to the longest text of all, and return the losses."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        steps = self.settings.steps
        cycle = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rates, total_steps=steps, cycle_momentum=False)
        losses = []
        for indices in problem.order:
            inputs = {name: value[indices] for name, value in problem.train.inputs.items()}
            losses.append(self.step({**inputs, "labels": problem.train.labels[indices]}).item())
            cycle.step()
        return losses
