"""The judge's experts beside those of transformers, called as ``docs/peers.md`` calls them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.families.route.contract import Layout, Sparse, Tokens
from harness.families.route.experts import FeedForwards, RoutedLayer
from harness.families.route.settings import Settings
from harness.testing import require_parity
from tests.families.route.test_experts import Given

pytest.importorskip("transformers.integrations.moe")

WIDTH = 64
SETTINGS = Settings()


@pytest.fixture
def make(plain_calls: Callable[..., Any]) -> Callable[[], tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Return what makes a batch of the default settings and passes it through both, without gradients."""
    tokens, k = SETTINGS.batch_size, SETTINGS.active
    layout = Layout(experts=SETTINGS.experts, hidden=SETTINGS.hidden)

    def made() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        torch.manual_seed(0)
        own = FeedForwards(layout, WIDTH).requires_grad_(False)
        x = torch.randn(tokens, WIDTH)
        weights, index = torch.randn(tokens, layout.experts).softmax(1).topk(k, 1)
        routing = Sparse(
            token=torch.arange(tokens).repeat_interleave(k), expert=index.flatten(), weight=weights.flatten()
        )
        layer = RoutedLayer(own, Given(routing), layout)
        batch = Tokens(features=x, ids=torch.zeros(tokens, dtype=torch.long))
        theirs = SimpleNamespace(
            num_experts=layout.experts, has_gate=False, has_bias=True, is_transposed=True, act_fn=torch.relu,
            has_post_expert_norm=False, _is_expert_parallel=False,
            up_proj=own.inner, up_proj_bias=own.inner_bias[:, 0],
            down_proj=own.outer, down_proj_bias=own.outer_bias[:, 0],
        )  # fmt: skip
        return lambda: layer(batch, []), plain_calls("`grouped_mm`", experts=theirs, x=x, index=index, weights=weights)

    return made


def test_the_judge_s_experts_return_what_those_of_transformers_return(make) -> None:
    ours, theirs = make()
    assert ours().std() > 0.05
    torch.testing.assert_close(ours(), theirs())


@pytest.mark.thorough
def test_the_judge_s_experts_take_no_more_time_than_those_of_transformers(make) -> None:
    print(require_parity(make))  # noqa: T201  shown where it fails
