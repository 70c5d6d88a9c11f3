"""Our use of peft beside plain calls of peft, which ``docs/peers.md`` lists."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.testing import require_parity


@pytest.mark.thorough
def test_training_takes_the_time_of_plain_calls(build, wide, plain_calls) -> None:
    x = wide.batches[0]["x"]

    def make():
        adapted = wide.adapted(build("lora")).train()
        adapted.head.requires_grad_(False)  # the judge's own, which peft's wrapper freezes
        plain = plain_calls("`lora`", model=copy.deepcopy(wide.base), names=list(wide.linears), x=x)
        return lambda: adapted(x).sum().backward(), plain

    print(require_parity(make))  # noqa: T201  shown where it fails


@pytest.mark.thorough
def test_a_merged_model_takes_the_time_of_plain_calls(build, wide, plain_calls) -> None:
    x = wide.batches[0]["x"]

    def make():
        technique = build("lora")
        merged = technique.merge(wide.adapted(technique)).eval()
        plain = plain_calls("`lora`, merged", model=copy.deepcopy(wide.base), names=list(wide.linears), x=x)
        torch.testing.assert_close(merged(x), plain())  # B is 0 in either
        return lambda: merged(x), plain

    with torch.no_grad():
        print(require_parity(make))  # noqa: T201
