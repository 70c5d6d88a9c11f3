"""Training of a model with a technique's routers, and the measurements of the trained model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from harness.families.route import balance as route_balance
from harness.families.route.contract import ExecutesExperts, Router, RouteTask, RouteTechnique, Sparse, Tokens
from harness.families.route.experts import Passage, RoutedLayer, make_experts
from harness.families.route.models import Batch, RoutedModel
from harness.families.route.settings import Settings
from harness.judge import training
from harness.judge.seeds import global_seed, seed_of

UPDATES: Final = 100
"""Updates of a router with frozen scores, to measure how much of an overload they remove."""

DIGITS: Final = 4
"""Significant digits of a point of a curve."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Disjoint data: ``train()`` draws the next batch; ``validation`` and ``test`` are batches of the same size."""

    train: Callable[[], Batch]
    validation: Sequence[Batch]
    test: Sequence[Batch]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A model without its routed layers, the data of a seed, and the task that the technique is given."""

    model: RoutedModel
    task: RouteTask
    data: Data
    settings: Settings
    seed: int
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Trained:
    """A model in training, with each step's loss and the load of every layer."""

    model: RoutedModel
    optimizer: torch.optim.Optimizer
    losses: list[Tensor] = field(default_factory=list)
    loads: list[list[Tensor]] = field(default_factory=list)


def start(technique: RouteTechnique, problem: Problem) -> Trained:
    """Return the initialised model with routed layers, and its optimiser (Adam).

    Experts and routers are drawn from separate seeds, so that equal parts of techniques start equal. From
    here on torch's global generator is the technique's.
    """
    task = problem.task
    layout = technique.layout(task)
    count = 1 if layout.shared else task.layers
    torch.manual_seed(seed_of(problem.seed, "experts"))
    experts = [make_experts(layout, task.width) for _ in range(count)]
    torch.manual_seed(seed_of(problem.seed, "technique"))
    device = next(problem.model.parameters()).device
    execute = technique.execute if isinstance(technique, ExecutesExperts) else None
    layers = [RoutedLayer(own, technique.router(task, layout), layout, execute).to(device) for own in experts]
    problem.model.fill(layers)
    model = problem.model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": parameters, "lr": problem.settings.lr}]
    return Trained(model=model, optimizer=training.adamw(groups, weight_decay=0.0))


def losses_of(model: RoutedModel, batch: Batch, trace: list[Passage]) -> tuple[Tensor, Tensor]:
    """Return the task's mean cross-entropy in nats, and its sum with the auxiliary losses of all layers: scalars."""
    task_loss = functional.cross_entropy(model(batch, trace), batch.targets)
    total = task_loss
    for passage in trace:
        if passage.loss is not None:
            total = total + passage.loss
    return task_loss, total


def step(trained: Trained, batch: Batch) -> tuple[Tensor, list[Passage]]:
    """Take an optimiser step, then update the routers; return the task's loss before it and the passages."""
    trained.optimizer.zero_grad(set_to_none=True)
    trace: list[Passage] = []
    task_loss, total = losses_of(trained.model, batch, trace)
    total.backward()  # type: ignore[no-untyped-call]
    trained.optimizer.step()
    with torch.no_grad():
        for layer, passage in zip(trained.model.routed(), trace, strict=True):
            layer.router.after_step(passage.load)
    return task_loss.detach(), trace


def fit(trained: Trained, problem: Problem, *, steps: int | None = None) -> None:
    """Train for all steps of the protocol, or for the first ``steps``, with cosine decay of the rate.

    Raises FloatingPointError where the loss was not finite at some step.
    """
    settings = problem.settings
    trained.model.train()
    for number in range(settings.steps if steps is None else steps):
        rate = settings.lr * (1 + math.cos(math.pi * number / settings.steps)) / 2
        for group in trained.optimizer.param_groups:
            group["lr"] = rate
        loss, trace = step(trained, problem.data.train())
        trained.losses.append(loss)
        trained.loads.append([passage.load for passage in trace])
    if not trained.losses:
        return
    found = torch.stack(trained.losses)
    if not bool(found.isfinite().all()):
        first = int(found.isfinite().logical_not().nonzero()[0])
        raise FloatingPointError(f"training loss is {found[first].item()} at step {first + 1}")


@contextmanager
def testing(model: RoutedModel, seed: int) -> Iterator[None]:
    """Enter evaluation mode without gradients, with fixed random draws; restore mode and generators afterwards."""
    before = model.training
    device = str(next(model.parameters()).device)
    model.eval()
    try:
        with global_seed(seed_of(seed, "prediction"), device), torch.no_grad():
            yield
    finally:
        model.train(before)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Results of predicting several batches: mean loss in nats, accuracy in per cent, passages by layer."""

    loss: float
    accuracy: float
    passages: Sequence[Sequence[Passage]]


def quality(model: RoutedModel, batches: Sequence[Batch], seed: int) -> Quality:
    """Predict the batches one by one, because a router may depend on all tokens of a batch."""
    loss, right, count = 0.0, 0, 0
    passages: list[list[Passage]] = []
    with testing(model, seed):
        for batch in batches:
            trace: list[Passage] = []
            logits = model(batch, trace)
            loss += functional.cross_entropy(logits, batch.targets, reduction="sum").item()
            right += int((logits.argmax(1) == batch.targets).sum())
            count += len(batch)
            passages.append(trace)
    return Quality(loss=loss / count, accuracy=100 * right / count, passages=list(zip(*passages, strict=True)))


def balance(found: Quality) -> dict[str, float]:
    """Return the measures of balance and the dropped shares in per cent, each of the layer where it is worst."""
    layers = []
    for passages in found.passages:
        loads = torch.stack([passage.load for passage in passages])
        tokens = sum(passage.tokens for passage in passages)
        layers.append(
            {
                "max_violation": route_balance.max_violation(loads).mean().item(),
                "global_max_violation": route_balance.max_violation(loads.sum(0)).item(),
                "load_variation": route_balance.variation(loads).mean().item(),
                "load_entropy": -route_balance.entropy(loads).mean().item(),
                "dropped_tokens": 100 * sum(passage.untouched() for passage in passages) / tokens,
                "dropped_assignments": 100
                * sum(passage.lost for passage in passages)
                / sum(passage.assigned for passage in passages),
            }
        )
    worst = {name: max(layer[name] for layer in layers) for name in layers[0]}
    return {**worst, "load_entropy": -worst["load_entropy"]}


def parameters(model: RoutedModel, found: Quality) -> dict[str, float]:
    """Return all parameters, and those active for an average token, where a layer passed twice counts twice."""
    total = sum(parameter.numel() for parameter in model.parameters())
    layers = {id(layer): layer for layer in model.routed()}
    elsewhere = total - sum(_of_experts(layer) for layer in layers.values())
    active = float(elsewhere)
    for layer, passages in zip(model.routed(), found.passages, strict=True):
        passed = sum(passage.rows for passage in passages) / sum(passage.tokens for passage in passages)
        active += layer.experts.active_parameters(passed)
    return {"total_parameters": float(total), "active_parameters": active}


def _of_experts(layer: RoutedLayer) -> int:
    return sum(parameter.numel() for parameter in layer.experts.parameters())


def features_of(model: RoutedModel, batch: Batch) -> list[Tokens]:
    """Return the tokens that each routed layer receives for a batch, detached, in the model's current mode."""
    seen: list[Tokens] = []

    def note(_: torch.nn.Module, arguments: tuple[Tokens]) -> None:
        seen.append(Tokens(features=arguments[0].features.detach(), ids=arguments[0].ids))

    layers = {id(layer): layer for layer in model.routed()}
    hooks = [layer.router.register_forward_pre_hook(note) for layer in layers.values()]
    try:
        with torch.no_grad():
            model(batch, [])
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def relief(model: RoutedModel, batch: Batch, seed: int) -> float:
    """Return the part of the overload, in per cent, that `UPDATES` of the routers remove while scores are frozen.

    The least over layers; 0 for a router that updates no buffer. Copies of the routers are updated.
    """
    device = str(batch.targets.device)
    with torch.no_grad(), global_seed(seed_of(seed, "relief"), device):
        found = zip(model.routed(), features_of(model, batch), strict=True)
        return min(_relief(copy.deepcopy(layer.router), tokens, seed, layer.layout.experts) for layer, tokens in found)


def _relief(router: Router, tokens: Tokens, seed: int, experts: int) -> float:
    first = last = _load(router, tokens, seed, experts)
    before = [value.clone() for value in router.buffers()]
    router.after_step(last)
    if all(torch.equal(value, old) for value, old in zip(router.buffers(), before, strict=True)):
        return 0.0
    for _ in range(UPDATES - 1):
        last = _load(router, tokens, seed, experts)
        router.after_step(last)
    last = _load(router, tokens, seed, experts)
    overload, left = (float(route_balance.excess(load)) for load in (first, last))
    return 100 * (overload - left) / overload if overload > 0 else 0.0


def _load(router: Router, tokens: Tokens, seed: int, experts: int) -> Tensor:
    """Return the assignments to each expert, with the same random draws in every call."""
    torch.manual_seed(seed_of(seed, "relief"))
    routing = router(tokens)
    if not isinstance(routing, Sparse):
        return tokens.features.new_ones(experts)
    return torch.bincount(routing.expert, minlength=experts).to(tokens.features.dtype)


def curves(trained: Trained) -> dict[str, list[float]]:
    """Return the training loss, and by layer the balance of every step's batch."""
    found = {"train_loss": torch.stack(trained.losses)}
    for layer, loads in enumerate(zip(*trained.loads, strict=True), start=1):
        stacked = torch.stack(loads)
        found |= {
            f"layer{layer}_max_violation": route_balance.max_violation(stacked),
            f"layer{layer}_load_variation": route_balance.variation(stacked),
            f"layer{layer}_load_entropy": route_balance.entropy(stacked),
        }
    return {name: [float(f"{value:.{DIGITS}g}") for value in curve.tolist()] for name, curve in found.items()}
