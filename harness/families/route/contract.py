"""The contract ``route``: how tokens are led to experts.

The judge owns the experts, the dispatch to them, capacity, data, optimiser and metrics. A technique says what the
experts of a layer are (`Layout`) and gives one `Router` a layer. That is told the tokens and answers with a routing:
which token goes to which expert with what weight (`Sparse`), or in what shares tokens are mixed into the slots of
experts and back (`Soft`), or that all tokens go through the one expert there is (`Everything`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a router sees of a batch: ``features`` float ``(tokens, width)`` and ``ids`` int64 ``(tokens,)``.

    An id is the token's word in the vocabulary. The tokens of a sequence stand one after the other, sequence by
    sequence.
    """

    features: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, indices: Tensor) -> Tokens:
        """Those at these indices, in this order."""
        return Tokens(features=self.features[indices], ids=self.ids[indices])


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Which token goes to which expert: assignments in order of priority, three tensors of one length.

    ``token`` and ``expert`` are int64, ``weight`` is what the expert's output is multiplied by before the outputs of
    a token are summed; no pair of token and expert occurs twice. Where ``capacity`` is given, the judge drops what
    is past the first ``capacity`` assignments of an expert. ``loss`` is a scalar that is added to the task's.
    """

    token: Tensor
    expert: Tensor
    weight: Tensor
    capacity: int | None = None
    loss: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Slots of experts as mixtures of tokens: ``dispatch`` and ``combine``, both ``(tokens, experts, slots)``.

    A slot receives ``sum_t dispatch[t] x[t]``, and a token ``sum combine[t] y`` over all slots' outputs y.
    """

    dispatch: Tensor
    combine: Tensor
    loss: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All tokens go through the only expert, with weight 1: nothing is routed, and nothing is spent on it."""

    loss: Tensor | None = None


Routing: TypeAlias = Sparse | Soft | Everything


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the experts of a layer are: ``experts`` feed-forward networks of ``hidden`` ReLU units each.

    Where ``rank`` is more than 0 they are changes of that rank to both matrices of one feed-forward network of
    ``hidden`` units (LoRA), which every token passes once; each token then goes to exactly one expert. ``shared``
    says that all layers have one router, one set of experts and one attention in common, and norms of their own.
    """

    experts: int
    hidden: int
    rank: int = 0
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class RouteTask:
    """What a technique may know of the task.

    ``width`` is that of the tokens' features, ``vocabulary`` the number of ids, ``layers`` how many have experts.
    ``experts`` of ``hidden`` units is what a layer is meant to have, ``active`` of which a token passes: the
    arithmetic that all contestants may spend on a token. ``tokens`` is the size of a batch. ``generator`` is on the
    CPU, seeded from the case and the technique's own: for what is fixed before training. torch's global generator
    is the technique's own as well: the judge seeds it before the routers are made and before every prediction, and
    draws nothing from it.
    """

    width: int
    vocabulary: int
    layers: int
    experts: int
    hidden: int
    active: int
    tokens: int
    generator: torch.Generator

    def at_equal_cost(self, k: int) -> Layout:
        """Experts of which a token passes ``k`` for the arithmetic of ``active`` ordinary ones."""
        return Layout(experts=self.experts, hidden=max(1, self.active * self.hidden // k))


class Router(nn.Module, ABC):
    """Leads the tokens of one layer; its parameters train along with the model's, at the same rate."""

    @abstractmethod
    def forward(self, tokens: Tokens) -> Routing:
        """The routing of a batch. ``training`` is off at test time, when nothing may change."""

    def after_step(self, load: Tensor) -> None:
        """Called under ``no_grad`` after each optimiser step with this layer's ``load``, float ``(experts,)``.

        Those are the assignments of the step's batch to each expert, before any is dropped.
        """


@runtime_checkable
class RouteTechnique(Protocol):
    """What a technique of this contract builds. One object serves one training.

    ``weights`` are the bounds of what the weights of a token sum to, where no expert was full (for `Soft`, of its
    combine weights). ``equivariant``: whether at test permuted tokens get the same outputs, permuted.
    ``learned``: whether the task's loss has a gradient for the router's parameters. ``causal``: whether at test the
    routing of a token is free of what follows it; what is not cannot be judged by its loss on a language.
    """

    weights: tuple[float, float]
    equivariant: bool
    learned: bool
    causal: bool

    def layout(self, task: RouteTask) -> Layout:
        """The experts of every layer. Raises `harness.api.NotApplicable` where there is nothing to act on."""

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """The router of the next layer; called once a layer, once in all where the layout is shared."""
