"""The grouped experts against a loop in float64, on a GPU or in Triton's interpreter: ``make triton``.

Triton decides at its import whether it interprets, so this module runs only where TRITON_INTERPRET=1 was set before.
"""

from __future__ import annotations

import copy
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Incorrect
from harness.families.route.contract import Layout, Networks
from harness.families.route.execution import require_execution
from harness.families.route.experts import FeedForwards

pytest.importorskip("triton", reason="triton is not installed: pip install 'harness-moe[triton]'")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("there is no CUDA device; TRITON_INTERPRET=1 interprets (make triton)", allow_module_level=True)

from harness_moe import grouped  # noqa: E402
from harness_moe.grouped_technique import Grouped  # noqa: E402

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
DEVICE = "cpu" if INTERPRETED else "cuda"
LOADS = st.lists(st.integers(0, 70), min_size=1, max_size=6)
WIDTHS = st.integers(1, 70) | st.sampled_from([31, 32, 33, 63, 64, 65, 96])


def drawn(experts, width, hidden, seed=0) -> Networks:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw).to(DEVICE).requires_grad_()

    return Networks(
        inner=normal(experts, width, hidden),
        inner_bias=normal(experts, 1, hidden),
        outer=normal(experts, hidden, width),
        outer_bias=normal(experts, 1, width),
    )


# fmt: off
def by_definition(rows, loads, networks, last):
    """Outputs, and gradients of rows and parameters, in the rows' dtype; ``last`` is the outputs' gradient."""
    leaves = [rows, *vars(networks).values()]
    inner, inner_bias, outer, outer_bias = leaves[1:]
    parts = [
        (part @ inner[at] + inner_bias[at]).relu() @ outer[at] + outer_bias[at]
        for at, part in enumerate(rows.split(loads))
    ]
    out = torch.cat(parts)
    return [out, *torch.autograd.grad((out * last).sum(), leaves)]


@settings(max_examples=12 if INTERPRETED else 200, deadline=None)
@given(LOADS, WIDTHS, WIDTHS, st.integers(0, 9))
def test_outputs_and_gradients_are_those_of_a_loop_in_float64(loads, width, hidden, seed) -> None:
    networks = drawn(len(loads), width, hidden, seed)
    draw = torch.Generator().manual_seed(seed + 100)
    rows, last = (torch.randn(sum(loads), width, generator=draw).to(DEVICE) for _ in range(2))
    ends = torch.tensor(loads, device=DEVICE).cumsum(0)
    rows.requires_grad_()
    out = grouped.compute(rows, ends, networks)
    found = [out, *torch.autograd.grad((out * last).sum(), [rows, *vars(networks).values()])]

    exact = {name: value.detach().double().requires_grad_() for name, value in vars(networks).items()}
    expected = by_definition(rows.detach().double().requires_grad_(), loads, Networks(**exact), last.double())
    # four chained sums of at most so many terms, whose sizes grow by those of the definition with absolute values;
    # a hidden unit within rounding of 0 may be on the other side of it, so the rows' own draw keeps them apart
    terms = max(width, hidden, *loads, 1) + 4
    size = {name: value.detach().abs().requires_grad_() for name, value in exact.items()}
    bounds = by_definition(rows.detach().double().abs().requires_grad_(), loads, Networks(**size), last.double().abs())
    for value, reference, bound in zip(found, expected, bounds, strict=True):
        assert ((value.double() - reference).abs() <= 4 * terms * 2.0**-24 * bound.abs() + 1e-30).all()


@pytest.mark.parametrize("experts", [1, 3, 8])
def test_the_gate_finds_them_correct(experts) -> None:
    own = FeedForwards(Layout(experts=experts, hidden=33), 20).to(DEVICE)
    require_execution(Grouped(), own, seed=0)


def test_the_gate_finds_an_expert_that_is_left_out() -> None:
    class Lazy(Grouped):
        def execute(self, inputs, ends, networks):
            out = super().execute(inputs, ends, networks)
            return torch.cat([out[: int(ends[-2])], out[int(ends[-2]) :] * 0])

    own = FeedForwards(Layout(experts=3, hidden=5), 4).to(DEVICE)
    with pytest.raises(Incorrect, match="outputs of execute differ"):
        require_execution(Lazy(), own, seed=0)


def test_the_same_rows_give_the_same_bits() -> None:
    networks = drawn(4, 32, 48)
    rows = torch.randn(100, 32, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    ends = torch.tensor([10, 10, 77, 100], device=DEVICE)
    assert torch.equal(grouped.compute(rows, ends, networks), grouped.compute(rows, ends, networks))


def test_networks_that_do_not_fit_together_are_refused() -> None:
    networks = drawn(2, 8, 4)
    wrong = copy.copy(networks)
    object.__setattr__(wrong, "outer", networks.inner)
    with pytest.raises(ValueError, match=r"outer has shape \(2, 8, 4\): expected \(2, 4, 8\), contiguous"):
        grouped.compute(torch.ones(3, 8, device=DEVICE), torch.tensor([1, 3], device=DEVICE), wrong)
