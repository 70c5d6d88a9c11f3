"""Techniques are timed in the modes in which their gates look at them: no other one can be told from a gate's call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.api import CaseContext, Workload
from harness.families.control.workloads import Brackets
from harness.families.finetune.contract import FinetuneTask
from harness.families.finetune.workloads.digits_mlp import DigitsMlp as FineTuned
from harness.families.quantize.workloads.weights import Weights
from harness.families.quantize_activations.workloads import OutlierChannels
from harness.families.regularize.checks import Nothing
from harness.families.regularize.contract import RegularizeTask
from harness.families.regularize.workloads.digits import DigitsMlp as Regularized
from harness.families.route.contract import Routing, Tokens
from harness.families.route.workloads.clusters import Clusters
from harness.families.softmax.workloads import Rows
from harness.judge import machine
from tests.families.conftest import Context
from tests.families.control.test_workloads import Exact
from tests.families.control.test_workloads import context as control_context
from tests.families.finetune.techniques import Honest
from tests.families.quantize.quantizers import Right as Quantizer
from tests.families.quantize_activations.test_workloads import Same
from tests.families.route.routers import Linear, Plain
from tests.families.softmax.softmaxes import Right as Softmax
from tests.families.timed import found_in_time

Mode = tuple[bool, bool, bool]
"""Whether gradients are recorded, whether inference is, and whether the module trains."""

seen: set[Mode] = set()


def note(module: nn.Module | None = None, *_: object) -> None:
    """Note the mode of a call of a technique."""
    training = module is not None and module.training
    seen.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), training))


class NotesProducts(Quantizer):
    def linear(self, x: Tensor, packed: Any) -> Tensor:
        note()
        return super().linear(x, packed)


class NotesRows(Softmax):
    def softmax(self, x: Tensor, out: Tensor) -> None:
        note()
        super().softmax(x, out)


class NotesLayers(Same):
    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        linear.register_forward_pre_hook(note)
        return linear


class NotesAdapted(Honest):
    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        model = super().adapt(model, task)
        model.register_forward_pre_hook(note)
        return model


class NotesSlots(Nothing):
    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:
        model.get_submodule(task.hidden[0]).register_forward_pre_hook(note)
        return model


class NotesTokens(Linear):
    def forward(self, tokens: Tokens) -> Routing:
        note(self)
        return super().forward(tokens)


class NotesRouting(Plain):
    def router(self, task: Any, layout: Any) -> NotesTokens:
        return NotesTokens(self.rule, task.width, layout.experts)


class NotesPopulations(Exact):
    def generate(self, task: Any, generator: Any) -> Any:
        note()
        return super().generate(task, generator)


CASES: dict[str, tuple[type[Any], Callable[[], Any], Callable[[Context], CaseContext]]] = {
    "quantize": (Weights, NotesProducts, lambda make: make("weights", rows=64, columns=256, packed_rows=8)),
    "softmax": (
        Rows, NotesRows, lambda make: make("rows", rows=4, columns=64, cached_columns=256, times_cache=1),
    ),
    "quantize-activations": (OutlierChannels, NotesLayers, lambda make: make("outlier-channels")),
    "regularize": (Regularized, NotesSlots, lambda make: make("digits-noisy")),
    "finetune": (FineTuned, NotesAdapted, lambda make: make()),
    "control": (Brackets, NotesPopulations, lambda _: control_context()),
    "route": (Clusters, NotesRouting, lambda make: make("clusters", steps=20, batch_size=64)),
}  # fmt: skip


def require_known_modes(workload: Workload, technique: Callable[[], Any], case: CaseContext) -> None:
    """Require all modes of timed calls to be among those of the gate's."""
    seen.clear()
    workload.check(technique(), case)
    gate = set(seen)
    assert gate
    seen.clear()
    assert found_in_time(workload, technique(), case) == ""
    assert seen
    assert seen <= gate, "seen <= gate"


@pytest.mark.parametrize("family", CASES)
def test_techniques_are_timed_in_the_modes_of_their_gate(
    family: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "MOST_COPIED", 1 << 20)
    workload, technique, make = CASES[family]
    require_known_modes(workload(), technique, make(context))


def test_a_timed_call_in_another_mode_is_noticed(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    case = context("outlier-channels")
    monkeypatch.setattr(OutlierChannels, "check", lambda *_: note())  # a gate that records gradients
    with pytest.raises(AssertionError, match="seen <= gate"):
        require_known_modes(OutlierChannels(), NotesLayers, case)
