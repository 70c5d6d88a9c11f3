"""Experts, and the dispatch of tokens to them in one buffer, grouped by expert and without a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.families.route.contract import Everything, Layout, Networks, Router, Routing, Soft, Sparse, Tokens

Weighted = Callable[[Tensor, Tensor], Tensor]
"""Outputs ``(experts, rows, width)`` times weights, from inputs of that shape and weights ``(experts, rows, 1)``."""

Execute = Callable[[Tensor, Tensor, Networks], Tensor]
"""The method of `harness.families.route.contract.ExecutesExperts`."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """The record of one batch in one layer, for training and for the metrics.

    ``load`` float ``(experts,)``: assignments to each expert (for soft routing the tokens' shares in its slots).
    ``rows`` counts what the experts computed on, empty rows of the buffer left out; ``lost`` the assignments dropped,
    ``assigned`` all of them; ``untouched`` the tokens that reached no expert, ``tokens`` all of them.
    """

    loss: Tensor | None
    load: Tensor
    rows: int
    assigned: int
    lost: int
    tokens: int
    untouched: Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Assignments within capacity: row ``slot`` of the buffer ``(experts * rows, width)`` holds ``token``.

    All int64 of one length; ``weight`` belongs to them. ``load`` counts assignments by expert, dropped ones too.
    """

    token: Tensor
    slot: Tensor
    weight: Tensor
    load: Tensor
    rows: int


def grouped(routing: Sparse, experts: int) -> Groups:
    """Group assignments by expert in their order, and drop those past an expert's capacity."""
    order = torch.argsort(routing.expert, stable=True)
    expert = routing.expert[order]
    load = torch.bincount(routing.expert, minlength=experts)
    place = torch.arange(len(expert), device=expert.device) - (load.cumsum(0) - load)[expert]
    fullest = int(load.max())
    rows = fullest if routing.capacity is None else min(routing.capacity, fullest)
    if rows < fullest:
        kept = place < rows
        order, expert, place = order[kept], expert[kept], place[kept]
    return Groups(
        token=routing.token.index_select(0, order),
        slot=expert * rows + place,
        weight=routing.weight.index_select(0, order),
        load=load,
        rows=rows,
    )


class FeedForwards(nn.Module):
    """Networks ``relu(x W1 + b1) W2 + b2``, one an expert, initialised like ``nn.Linear``."""

    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__()
        count, hidden = layout.experts, layout.hidden
        self.inner = nn.Parameter(_uniform(count, width, hidden, fan_in=width))
        self.inner_bias = nn.Parameter(_uniform(count, 1, hidden, fan_in=width))
        self.outer = nn.Parameter(_uniform(count, hidden, width, fan_in=hidden))
        self.outer_bias = nn.Parameter(_uniform(count, 1, width, fan_in=hidden))

    def forward(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted outputs ``(experts, rows, width)`` of inputs of that shape."""
        return self.plain(inputs) * weights

    def plain(self, inputs: Tensor) -> Tensor:
        """Return the outputs ``(experts, rows, width)`` without weights."""
        hidden = torch.baddbmm(self.inner_bias, inputs, self.inner).relu_()
        return torch.baddbmm(self.outer_bias, hidden, self.outer)

    def networks(self) -> Networks:
        """Return the parameters by name."""
        return Networks(
            inner=self.inner, inner_bias=self.inner_bias, outer=self.outer, outer_bias=self.outer_bias
        )  # fmt: skip

    def active_parameters(self, passed: float) -> float:
        """Return the parameters of ``passed`` experts."""
        return passed * sum(parameter.numel() for parameter in self.parameters()) / len(self.inner)


class LowRankChanges(nn.Module):
    """One feed-forward network, and experts that change both of its matrices by ``A B`` of low rank, B zero at first.

    The weight of an assignment scales the expert's change, so a row with weight 0 comes out as the network alone
    would give it.
    """

    def __init__(self, layout: Layout, width: int) -> None:
        super().__init__()
        self.base = FeedForwards(Layout(experts=1, hidden=layout.hidden), width)
        count, hidden, rank = layout.experts, layout.hidden, layout.rank
        self.inner_a = nn.Parameter(_uniform(count, width, rank, fan_in=width))
        self.inner_b = nn.Parameter(torch.zeros(count, rank, hidden))
        self.outer_a = nn.Parameter(_uniform(count, hidden, rank, fan_in=hidden))
        self.outer_b = nn.Parameter(torch.zeros(count, rank, width))

    def forward(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the outputs ``(experts, rows, width)`` of inputs of that shape, with weighted changes."""
        base = self.base
        hidden = inputs @ base.inner + base.inner_bias + weights * (inputs @ self.inner_a @ self.inner_b)
        hidden = hidden.relu()
        return hidden @ base.outer + base.outer_bias + weights * (hidden @ self.outer_a @ self.outer_b)

    def active_parameters(self, passed: float) -> float:
        """Return the parameters of the network and of the changes of ``passed`` experts."""
        own = sum(parameter.numel() for parameter in self.base.parameters())
        total = sum(parameter.numel() for parameter in self.parameters())
        return own + passed * (total - own) / len(self.inner_a)


def make_experts(layout: Layout, width: int) -> FeedForwards | LowRankChanges:
    """Return the experts of a layout, drawn from torch's global generator."""
    return LowRankChanges(layout, width) if layout.rank else FeedForwards(layout, width)


class RoutedLayer(nn.Module):
    """A feed-forward layer with a router and experts; the output of a dropped token is 0.

    A technique may ``execute`` the experts where no assignment is dropped. A copy of the layer computes them itself.
    """

    def __init__(
        self,
        experts: FeedForwards | LowRankChanges,
        router: Router,
        layout: Layout,
        execute: Execute | None = None,
    ) -> None:
        super().__init__()
        self.experts = experts
        self.router = router
        self.layout = layout
        self._execute = execute

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_execute": None}

    def forward(self, tokens: Tokens, trace: list[Passage], compute: Weighted | None = None) -> Tensor:
        """Return outputs ``(tokens, width)`` and append the passage to ``trace``.

        ``compute`` replaces the experts where the cost of routing alone is measured.
        """
        routing: Routing = self.router(tokens)
        execute = self._execute if compute is None else None
        compute = compute or self.experts
        match routing:
            case Sparse(capacity=None) if execute and isinstance(self.experts, FeedForwards):
                output, passage = _in_order(routing, tokens, execute, self.experts)
            case Sparse():
                output, passage = _sparse(routing, tokens, compute, self.layout)
            case Soft():
                output, passage = _soft(routing, tokens, compute)
            case Everything():
                output, passage = _everything(routing, tokens, compute)
        trace.append(passage)
        return output


def _sparse(routing: Sparse, tokens: Tokens, compute: Weighted, layout: Layout) -> tuple[Tensor, Passage]:
    features, experts = tokens.features, layout.experts
    groups = grouped(routing, experts)
    if layout.rank and len(groups.token) != len(tokens):
        raise ValueError(
            f"{len(groups.token)} assignments of {len(tokens)} tokens: experts that change one network need one each"
        )
    places = experts * groups.rows
    inputs = features.new_zeros(places, features.shape[1]).index_copy(
        0, groups.slot, features.index_select(0, groups.token)
    )
    weights = features.new_zeros(places, 1).index_copy(0, groups.slot, groups.weight.unsqueeze(1))
    outputs = compute(inputs.view(experts, groups.rows, -1), weights.view(experts, groups.rows, 1))
    summed = torch.zeros_like(features).index_add(0, groups.token, outputs.flatten(0, 1).index_select(0, groups.slot))
    return summed, Passage(
        loss=routing.loss,
        load=groups.load.detach().to(features.dtype),
        rows=len(groups.token),
        assigned=len(routing.token),
        lost=len(routing.token) - len(groups.token),
        tokens=len(tokens),
        untouched=lambda: len(tokens) - len(torch.unique(groups.token)),
    )


def _in_order(routing: Sparse, tokens: Tokens, execute: Execute, experts: FeedForwards) -> tuple[Tensor, Passage]:
    """Pass assignments, sorted by expert, to the technique's own experts; no number is read back from the device."""
    features = tokens.features
    order = torch.argsort(routing.expert, stable=True)
    token = routing.token.index_select(0, order)
    load = routing.expert.new_zeros(len(experts.inner)).index_add(0, routing.expert, torch.ones_like(routing.expert))
    outputs = execute(features.index_select(0, token), load.cumsum(0), experts.networks())
    weighted = outputs * routing.weight.index_select(0, order).unsqueeze(1)
    summed = torch.zeros_like(features).index_add(0, token, weighted)
    return summed, Passage(
        loss=routing.loss,
        load=load.to(features.dtype),
        rows=len(token),
        assigned=len(token),
        lost=0,
        tokens=len(tokens),
        untouched=lambda: len(tokens) - len(torch.unique(token)),
    )


def _soft(routing: Soft, tokens: Tokens, compute: Weighted) -> tuple[Tensor, Passage]:
    _, experts, slots = routing.dispatch.shape
    inputs = routing.dispatch.flatten(1).T @ tokens.features
    weights = inputs.new_ones(experts, slots, 1)
    outputs = compute(inputs.view(experts, slots, -1), weights).flatten(0, 1)
    return routing.combine.flatten(1) @ outputs, Passage(
        loss=routing.loss,
        load=routing.dispatch.detach().sum((0, 2)),
        rows=experts * slots,
        assigned=experts * slots,
        lost=0,
        tokens=len(tokens),
        untouched=lambda: 0,
    )


def _everything(routing: Everything, tokens: Tokens, compute: Weighted) -> tuple[Tensor, Passage]:
    features = tokens.features
    outputs = compute(features.unsqueeze(0), features.new_ones(1, 1, 1)).squeeze(0)
    return outputs, Passage(
        loss=routing.loss,
        load=features.new_tensor([float(len(tokens))]),
        rows=len(tokens),
        assigned=len(tokens),
        lost=0,
        tokens=len(tokens),
        untouched=lambda: 0,
    )


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """Return values as ``nn.Linear`` initialises its weights: uniform within 1 / sqrt(fan_in)."""
    bound: float = fan_in**-0.5
    return torch.empty(shape).uniform_(-bound, bound)
