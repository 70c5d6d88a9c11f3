"""The contract ``route``: how tokens are assigned to experts.

The judge owns the experts, the dispatch to them, capacity, data, optimiser and metrics. A technique states what the
experts of a layer are (`Layout`) and gives one `Router` a layer, which maps the tokens of a batch to a routing: which
token goes to which expert with what weight (`Sparse`), in what shares tokens are mixed into the slots of experts and
back (`Soft`), or that all tokens go through the only expert (`Everything`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of a batch as a router sees them, sequence by sequence, each sequence in order."""

    features: Tensor
    """Floats ``(tokens, width)``, with a gradient in training."""

    ids: Tensor
    """The tokens' numbers in the vocabulary, int64 ``(tokens,)``."""

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, indices: Tensor) -> Tokens:
        """Return the tokens at ``indices``, int64, in that order."""
        return Tokens(features=self.features[indices], ids=self.ids[indices])


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Assignments of tokens to experts, in order of priority: three tensors of one length ``(assignments,)``.

    No pair of token and expert occurs twice. Where the layout has a ``rank``, each token has exactly one assignment and
    none may be dropped.
    """

    token: Tensor
    """The token of each assignment, int64 from 0 to ``tokens - 1``."""

    expert: Tensor
    """The expert of each assignment, int64 from 0 to ``experts - 1``."""

    weight: Tensor
    """Factors of the experts' outputs before the outputs of a token are summed: finite floats, 0 or more."""

    capacity: int | None = None
    """Assignments that an expert takes, 1 or more: the judge drops those after the first so many. None takes all."""

    loss: Tensor | None = None
    """An auxiliary loss, a finite scalar that is added to the task's loss in training."""


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Slots of experts as mixtures of tokens. Both tensors are ``(tokens, experts, slots)``, finite and 0 or more."""

    dispatch: Tensor
    """Shares of tokens in slots: a slot receives ``sum_t dispatch[t] x[t]``."""

    combine: Tensor
    """Shares of slots in tokens: a token receives ``sum combine[t] y`` over the outputs y of all slots."""

    loss: Tensor | None = None
    """An auxiliary loss, a finite scalar that is added to the task's loss in training."""


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All tokens go through the only expert of the layout with weight 1, without the cost of a routing."""

    loss: Tensor | None = None
    """An auxiliary loss, a finite scalar that is added to the task's loss in training."""


Routing: TypeAlias = Sparse | Soft | Everything


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The experts of a layer: feed-forward networks with ReLU, which the judge builds."""

    experts: int
    """Number of experts of a layer, 1 or more."""

    hidden: int
    """Hidden units of each expert."""

    rank: int = 0
    """0: experts are networks of their own. Above 0: they are changes of this rank to one network (LoRA).

    Every token passes that network of ``hidden`` units once, and goes to exactly one expert, which changes both of its
    matrices.
    """

    shared: bool = False
    """Whether all layers have one router, one set of experts and one attention in common; norms stay separate."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The parameters of a layer's experts, each ``relu(x inner + inner_bias) outer + outer_bias``."""

    inner: Tensor
    """Floats ``(experts, width, hidden)``."""

    inner_bias: Tensor
    """Floats ``(experts, 1, hidden)``."""

    outer: Tensor
    """Floats ``(experts, hidden, width)``."""

    outer_bias: Tensor
    """Floats ``(experts, 1, width)``."""


@dataclass(frozen=True, kw_only=True)
class RouteTask:
    """What a technique may know of the task.

    torch's global generator is the technique's own: the judge seeds it before the routers are made and before every
    prediction, and draws nothing from it.
    """

    width: int
    """Width of the tokens' features."""

    vocabulary: int
    """Number of different token ids."""

    layers: int
    """Number of layers that have experts."""

    experts: int
    """Experts that a layer is meant to have."""

    hidden: int
    """Hidden units of such an expert."""

    active: int
    """Experts that a token passes: with ``hidden``, the arithmetic that every technique may spend on a token."""

    tokens: int
    """Tokens of a batch."""

    generator: torch.Generator
    """A generator on the CPU, seeded from the case, for what is fixed before training."""

    def at_equal_cost(self, k: int) -> Layout:
        """Return experts of which a token passes ``k`` at the arithmetic of ``active`` experts of ``hidden`` units."""
        return Layout(experts=self.experts, hidden=max(1, self.active * self.hidden // k))


class Router(nn.Module, ABC):
    """The router of one layer. Its parameters train along with the model's, at the same rate (Adam, cosine decay)."""

    @abstractmethod
    def forward(self, tokens: Tokens) -> Sparse | Soft | Everything:
        """Return the routing of a batch.

        In evaluation mode (``self.training`` false) the gate requires the same bits for the same tokens, and that no
        parameter and no buffer changes. A technique states which of equal scores it takes: those of harness-moe take
        the expert, or the token, with the lowest index. `torch.topk` leaves that open; a stable descending sort,
        ``max`` and ``argmax`` do not.
        """

    def after_step(self, load: Tensor) -> None:
        """Update buffers after an optimiser step, such as biases that balance the load; called under ``no_grad``.

        ``load`` is float ``(experts,)``: the assignments of the step's batch to each expert before any was dropped
        (`Soft`: the tokens' shares in its slots). The gate requires that nothing outside this router changes.
        """


@runtime_checkable
class RouteTechnique(Protocol):
    """A method of routing. One object serves one training.

    The gate checks routings before and after eight steps, in training and in evaluation mode, and raises
    `harness.api.Incorrect` where one is ill-formed or a declaration below is wrong. In these steps every parameter of a
    router that trains must get a gradient, from the task's loss or an auxiliary one, and change.
    """

    weights: tuple[float, float]
    """The least and the greatest sum of a token's weights (`Soft`: combine shares), before any assignment is dropped.

    0 <= least <= greatest; the gate allows 1e-5 for rounding.
    """

    equivariant: bool
    """Whether permuted tokens have the same outputs, permuted, in evaluation mode; tested where true, within 1e-4.

    Equal tokens then have equal outputs, wherever they stand. A router that takes the best tokens of a batch has to
    decide by position which of equal tokens it takes, and is not equivariant.
    """

    learned: bool
    """Whether the task's loss, without auxiliary losses, has a gradient for the parameters of every router.

    Where false, no router may receive such a gradient.
    """

    causal: bool
    """Whether the routing of a token is independent of the tokens after it in evaluation mode.

    A technique that is not cannot be judged by its loss on a language: the case is refused as not applicable. One that
    is declared causal and lets later tokens change earlier logits by more than 1e-4 is incorrect.
    """

    def layout(self, task: RouteTask) -> Layout:
        """Return the experts of every layer.

        Raises `harness.api.NotApplicable` where the task has nothing to act on.
        """

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return the router of the next layer: called once a layer, or once in all where the layout is shared."""


@runtime_checkable
class ExecutesExperts(Protocol):
    """What a technique may have besides: its own way to compute the experts, instead of the judge's padded buffer.

    The judge uses it where a routing is `Sparse` without a capacity and the layout has no ``rank``. The gate requires
    that outputs and gradients are those of the judge's own way, within 1e-4 of the largest, also for experts without
    a row. Copies of a model that timed calls are compared with compute in the judge's way.
    """

    def execute(self, inputs: Tensor, ends: Tensor, networks: Networks) -> Tensor:
        """Return the outputs ``(rows, width)`` of rows ``(rows, width)`` that are sorted by expert, without weights.

        ``ends`` int64 ``(experts,)``: the rows of expert e are those from ``ends[e - 1]``, 0 for the first, to
        ``ends[e]``. Gradients must reach the rows and the networks.
        """
