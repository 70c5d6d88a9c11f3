"""What padding and parts of a batch would do to the auxiliary loss: the figures on the page of the family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from harness_moe.base import balance_loss, capacity, shares

PAGE = Path(__file__).parents[3] / "docs/families/route.md"
EXPERTS = 4
EVEN = torch.arange(64) % EXPERTS


@pytest.fixture(scope="module")
def text() -> str:
    page = PAGE.read_text(encoding="utf-8")
    return " ".join(page.partition("## What the contract leaves out")[2].partition("\n## ")[0].split())


def loss(expert: torch.Tensor) -> float:
    """Return the loss of tokens that prefer these experts, each with the probability 0.7."""
    probabilities = torch.full((len(expert), EXPERTS), 0.1, dtype=torch.float64).scatter(1, expert[:, None], 0.7)
    return float(balance_loss(probabilities, shares(expert, EXPERTS).double()))


def test_padding_counts_as_tokens(text: str) -> None:
    padded = torch.cat([EVEN, torch.zeros(16, dtype=torch.long)])
    assert f"is {loss(EVEN):.3f}. With 16 equal padding tokens" in text
    assert f"it is {loss(padded):.3f}. At a capacity" in text
    room, wanted = capacity(1.25, 80, EXPERTS), int((padded == 0).sum())
    assert f"has room for {room} of its {wanted} tokens, so {wanted - room} are dropped" in text


def test_the_mean_over_parts_of_a_batch_is_another_number(text: str) -> None:
    expert = torch.cat([torch.zeros(32, dtype=torch.long), EVEN[:32]])
    parts = [loss(part) for part in expert.split(16)]
    figures = re.search(r"the loss is ([\d.]+) for the whole, and ([\d.]+) as the mean over four parts", text)
    assert figures
    assert figures.groups() == (f"{loss(expert):.3f}", f"{sum(parts) / 4:.3f}")
