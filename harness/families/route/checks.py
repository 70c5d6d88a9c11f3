"""The invariants of the contract ``route``, each raising `harness.api.Incorrect` with what was found."""

from __future__ import annotations

from math import inf, isfinite
from statistics import median
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.route.contract import (
    Everything,
    ExecutesExperts,
    Layout,
    Router,
    RouteTechnique,
    Routing,
    Soft,
    Sparse,
    Tokens,
)
from harness.families.route.execution import require_execution
from harness.families.route.experts import FeedForwards, RoutedLayer, grouped
from harness.families.route.models import Batch, RoutedModel
from harness.families.route.training import Problem, Trained, fit, losses_of, start, step, testing
from harness.judge.checks import TrainingWatch

STEPS: Final = 8
"""Training steps before a technique is checked."""

ROUNDING: Final = 1e-5
"""Error of a sum of float32 weights that is allowed."""

CLOSE: Final = 1e-4
"""Largest difference of outputs that the order of sums may make, relative to the largest output."""

RESEMBLING: Final = 1e-3
"""Largest distance of two tokens that count as the same, relative to the mean norm of the tokens."""

PARTS: Final = 5
"""Parts of a batch that are permuted each on its own; each lacks a fifth of the tokens, another one every time."""


def check(technique: RouteTechnique, problem: Problem) -> Trained:
    """Check the contract on the first steps of a training and return the trained model.

    Raises Incorrect at the first broken invariant.
    """
    require_bounds(technique)
    trained = start(technique, problem)
    if isinstance(technique, ExecutesExperts):
        for layer in trained.model.routed():
            if isinstance(layer.experts, FeedForwards):
                require_execution(technique, layer.experts, problem.seed)
    batch = problem.data.validation[0]
    routers = torch.nn.ModuleList({layer.router: None for layer in trained.model.routed()})
    trains = TrainingWatch(routers)  # the experts are the judge's, and one that gets no tokens has no gradient
    for steps in (0, STEPS):  # at first as well, since no step can be done with what is ill-formed
        fit(trained, problem, steps=steps)
        for training in (True, False):
            for _, tokens, routing in routings(trained.model, batch, problem.seed, training=training):
                require_weights(routing, len(tokens), technique.weights)
    trains.require(STEPS)
    require_steps_of_its_own(trained, problem.data.train())
    require_gradient(technique, trained, problem.data.train())
    require_stillness(trained.model, batch, problem.seed)
    if technique.equivariant:
        for layer, tokens, _ in routings(trained.model, batch, problem.seed, training=False):
            require_equivariance(layer.eval(), tokens)
    return trained


def require_bounds(technique: RouteTechnique) -> None:
    """Raise Incorrect where the bounds of the weights' sum are out of order."""
    low, high = technique.weights
    if not 0 <= low <= high:
        raise Incorrect(f"weights {technique.weights}: expected the least and the most that they sum to")


def routings(
    model: RoutedModel, batch: Batch, seed: int, *, training: bool
) -> list[tuple[RoutedLayer, Tokens, Routing]]:
    """Return each layer with its tokens and routing for a batch, with routers in training or evaluation mode.

    Raises Incorrect for an ill-formed routing, before it is used.
    """
    found: list[tuple[RoutedLayer, Tokens, Routing]] = []
    layers = {layer.router: layer for layer in model.routed()}

    def note(router: torch.nn.Module, arguments: tuple[Tokens], routing: Routing) -> None:
        layer = layers[router]  # type: ignore[index]  # hooks are typed for any module
        require_routing(routing, arguments[0], layer.layout)
        found.append((layer, arguments[0], routing))

    hooks = [router.register_forward_hook(note) for router in layers]
    try:
        with testing(model, seed):
            for router in layers:
                router.train(training)
            model(batch, [])
            model.eval()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def require_routing(routing: Routing, tokens: Tokens, layout: Layout) -> None:
    """Raise Incorrect where a routing is ill-formed: unknown tokens or experts, repeated pairs, exceeded capacity."""
    match routing:
        case Sparse():
            _require_assignments(routing, len(tokens), layout.experts)
        case Soft():
            expected = (len(tokens), layout.experts)
            for name, shares in (("dispatch", routing.dispatch), ("combine", routing.combine)):
                if tuple(shares.shape[:2]) != expected or shares.shape != routing.dispatch.shape:
                    raise Incorrect(f"{name} has shape {tuple(shares.shape)}; expected {expected} and slots")
                _require_shares(name, shares)
        case Everything():
            if layout.experts != 1:
                raise Incorrect(f"everything goes to the only expert, but the layout has {layout.experts}")
        case _:
            raise Incorrect(f"the router gives a {type(routing).__name__}; expected Sparse, Soft or Everything")
    if routing.loss is not None and (routing.loss.dim() or not bool(routing.loss.isfinite())):
        raise Incorrect(f"the auxiliary loss is {routing.loss.tolist()}; expected a finite scalar")


def _require_assignments(routing: Sparse, tokens: int, experts: int) -> None:
    for name, values, count in (("token", routing.token, tokens), ("expert", routing.expert, experts)):
        if values.dtype != torch.int64 or values.shape != routing.weight.shape or values.dim() != 1:
            raise Incorrect(f"{name} is {values.dtype} {tuple(values.shape)}; expected int64, one an assignment")
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < count):
            raise Incorrect(f"{name} goes from {int(values.min())} to {int(values.max())}; there are {count}")
    _require_shares("weight", routing.weight)
    pairs = routing.token * experts + routing.expert
    if len(torch.unique(pairs)) < len(pairs):
        raise Incorrect("a token is sent to the same expert twice")
    if routing.capacity is not None and routing.capacity < 1:
        raise Incorrect(f"capacity {routing.capacity}: expected 1 or more")
    groups = grouped(routing, experts)
    most = int(torch.bincount(groups.slot // max(groups.rows, 1), minlength=experts).max())
    if routing.capacity is not None and most > routing.capacity:
        raise Incorrect(f"an expert was given {most} tokens; its capacity is {routing.capacity}")


def _require_shares(name: str, shares: Tensor) -> None:
    if not bool((shares.isfinite() & (shares >= 0)).all()):
        raise Incorrect(f"{name} has values that are negative or not finite")


def require_weights(routing: Routing, tokens: int, bounds: tuple[float, float]) -> None:
    """Raise Incorrect where the weights of a token sum to other values than the technique declares."""
    if isinstance(routing, Everything):
        return
    if isinstance(routing, Soft):
        sums = routing.combine.flatten(1).sum(1)
    else:
        sums = routing.weight.new_zeros(tokens).index_add(0, routing.token, routing.weight)
    low, high = float(sums.min()), float(sums.max())
    if not (bounds[0] - ROUNDING <= low and high <= bounds[1] + ROUNDING):
        raise Incorrect(f"the weights of a token sum to {low:.6g} to {high:.6g}; declared are {bounds}")


def require_gradient(technique: RouteTechnique, trained: Trained, batch: Batch) -> None:
    """Raise Incorrect unless the task's loss has a gradient for the routers exactly where ``learned`` is declared."""
    trained.optimizer.zero_grad(set_to_none=True)
    task_loss, _ = losses_of(trained.model, batch, [])
    task_loss.backward()  # type: ignore[no-untyped-call]
    routers = {id(layer.router): layer.router for layer in trained.model.routed()}
    reached = [
        any(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in router.parameters())
        for router in routers.values()
    ]
    trained.optimizer.zero_grad(set_to_none=True)
    if technique.learned and not all(reached):
        raise Incorrect("no gradient of the task's loss reaches the router, which is declared to learn from it")
    if not technique.learned and any(reached):
        raise Incorrect("a gradient of the task's loss reaches the router, which is declared not to learn from it")


def require_steps_of_its_own(trained: Trained, batch: Batch) -> None:
    """Raise Incorrect where the update after a step changes anything but the router."""
    _, trace = step(trained, batch)
    routers = {id(value) for layer in trained.model.routed() for value in _state(layer.router)}
    others = [value for value in _state(trained.model) if id(value) not in routers]
    before = [value.clone() for value in others]
    with torch.no_grad():
        for layer, passage in zip(trained.model.routed(), trace, strict=True):
            layer.router.after_step(passage.load)
    if not all(torch.equal(value, old) for value, old in zip(others, before, strict=True)):
        raise Incorrect("the update after a step changes what is not the router's")


def require_stillness(model: RoutedModel, batch: Batch, seed: int) -> None:
    """Raise Incorrect unless a prediction repeats and changes no parameter and no buffer."""
    before = [value.clone() for value in _state(model)]
    found = []
    for _ in range(2):
        with testing(model, seed):
            found.append(model(batch, []))
    if not all(torch.equal(value, old) for value, old in zip(_state(model), before, strict=True)):
        raise Incorrect("predicting changes the model: test traffic must not count")
    if not torch.equal(*found):
        raise Incorrect("predicting gives another answer when asked again")


def require_equivariance(layer: RoutedLayer, tokens: Tokens) -> None:
    """Raise Incorrect unless permuted tokens have the same outputs, permuted, in evaluation mode.

    Rounding may decide between scores that are nearly equal. So tokens that resemble an earlier one are left out, and
    most of several parts of the batch must have the property: a tie that rounding decides is in few parts, and an
    order that matters shows in nearly all. Copies of one token must have one output.
    """
    distinct = _distinct(tokens.features)
    places = torch.arange(len(distinct), device=distinct.device)
    parts = [tokens.at(distinct[places % PARTS != left_out]) for left_out in range(PARTS)]
    draw = torch.Generator().manual_seed(0)
    gap = median(_permutation_gap(layer, part, draw) for part in parts)
    if not gap <= CLOSE:
        raise Incorrect(f"permuting the tokens changes an output by {gap:.3g} of the largest, against what is declared")
    require_equal_outputs(layer, tokens)


def require_equal_outputs(layer: RoutedLayer, tokens: Tokens) -> None:
    """Raise Incorrect where copies of the first token have different outputs in evaluation mode."""
    with torch.no_grad():
        found = layer(tokens.at(torch.zeros_like(tokens.ids)), [])
    gap = _relative_gap(found, found[:1])
    if not gap <= CLOSE:
        raise Incorrect(
            f"copies of one token have outputs that differ by {gap:.3g} of the largest, by their places: the technique "
            "is declared equivariant"
        )


def _distinct(features: Tensor) -> Tensor:
    """Return the indices of the tokens whose features are not close to those of an earlier token."""
    distances = torch.cdist(features.double(), features.double())
    close = distances <= RESEMBLING * features.double().norm(dim=1).mean()
    earlier = torch.ones_like(close).tril(-1)
    resembling: Tensor = (close & earlier).any(1)
    return (~resembling).nonzero().flatten()


def _permutation_gap(layer: RoutedLayer, tokens: Tokens, draw: torch.Generator) -> float:
    """Return the largest change of an output where the tokens are permuted, relative to the largest output or 1.

    An output that is not finite counts as an infinite change.
    """
    order = torch.randperm(len(tokens), generator=draw).to(tokens.ids.device)
    with torch.no_grad():
        expected = layer(tokens, [])[order]
        found = layer(tokens.at(order), [])
    return _relative_gap(found, expected)


def _relative_gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected output or 1; infinite where it is not finite."""
    gap = (found - expected).abs().max().item() / max(1.0, expected.abs().max().item())
    return gap if isfinite(gap) else inf


def _state(module: torch.nn.Module | Router) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
