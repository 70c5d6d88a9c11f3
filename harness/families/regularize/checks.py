"""The invariants of the contract ``regularize``, each raising `harness.api.Incorrect` with what was found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.regularize import contract as regularize
from harness.families.regularize.contract import Forward, RegularizeTask, RegularizeTechnique
from harness.families.regularize.training import Problem, Trained, fit, predict, start

STEPS: Final = 8
"""Training steps before a technique is checked."""

EXAMPLES: Final = 32
PASSES: Final = 300
"""Examples, and training outputs of a module whose mean is compared with its evaluation output."""

DEVIATIONS: Final = 4
"""Standard errors by which that mean may differ."""

ROUNDING: Final = 1e-5
"""Relative error of float32 sums that is allowed."""

Entered = tuple[str, nn.Module, tuple[Any, ...]]
"""The name of a place, the module that a technique has put there, and the arguments of a call of the module."""


class Nothing:
    """The technique that does nothing: what the neutral setting of any other must equal."""

    mean_preserving = True
    validates = False
    acted = False
    curves: Mapping[str, Sequence[float]] = {}

    def neutral(self) -> Nothing:
        """Return another technique that does nothing."""
        return Nothing()

    def attach(self, model: nn.Module, task: RegularizeTask) -> nn.Module:  # noqa: ARG002
        """Return the model as it is."""
        return model

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return all parameters in one group."""
        return regularize.all_parameters(model, lr)

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch as it is."""
        return inputs, targets

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor, forward: Forward) -> Tensor:
        """Return the cross-entropy."""
        return regularize.cross_entropy(model, inputs, targets, forward)

    def before_update(self, model: nn.Module, step: int) -> None:
        """Leave the gradients unchanged."""

    def after_update(self, model: nn.Module, step: int) -> None:
        """Leave the weights unchanged."""

    def observe(self, model: nn.Module, epoch: int, validation_loss: float) -> bool:  # noqa: ARG002
        """Return false: training goes on."""
        return False

    def finish(self, model: nn.Module) -> None:
        """Leave the model unchanged."""

    def predict(self, model: nn.Module, inputs: Tensor, forward: Forward) -> Tensor:
        """Return the prediction of one forward pass."""
        return regularize.predict_once(model, inputs, forward)


def require_neutral(neutral: RegularizeTechnique, problem: Problem, same: Problem) -> None:
    """Raise Incorrect unless the neutral setting trains bit for bit as no technique; ``same`` is a second problem.

    Predictions may differ by the rounding of a mean over passes.
    """
    reference: RegularizeTechnique = Nothing()
    results = []
    for technique, case in ((reference, problem), (neutral, same)):
        trained = start(technique, case)
        fit(technique, trained, case, steps=STEPS)
        results.append((trained.losses, predict(technique, trained.model, case.parts.test, case.seed)))
    (losses, prediction), (neutral_losses, neutral_prediction) = results
    if losses != neutral_losses:
        difference = max(abs(a - b) for a, b in zip(losses, neutral_losses, strict=True))
        raise Incorrect(f"its neutral setting is not the identity: the training loss differs by {difference:.3g}")
    gap = (prediction - neutral_prediction).abs().max().item()
    if not gap <= ROUNDING:
        raise Incorrect(f"its neutral setting is not the identity: log-probabilities differ by up to {gap:.3g}")


def require_prediction(technique: RegularizeTechnique, trained: Trained, problem: Problem) -> None:
    """Raise Incorrect unless ``predict`` gives log-probabilities, the same twice, and leaves the model unchanged."""
    test = problem.parts.test
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    found = predict(technique, trained.model, test, problem.seed)
    expected = (len(test), problem.task.classes)
    if tuple(found.shape) != expected:
        raise Incorrect(f"predict gives shape {tuple(found.shape)}; expected {expected}")
    error = found.exp().sum(1).sub(1).abs().max().item()
    if not error <= ROUNDING * problem.task.classes:
        raise Incorrect(f"predict gives no log-probabilities: they sum to 1 but for {error:.3g}")
    changed = [name for name, value in trained.model.state_dict().items() if not torch.equal(value, before[name])]
    if changed:
        raise Incorrect(f"predict changes {changed[0]} of the model")
    if not torch.equal(found, predict(technique, trained.model, test, problem.seed)):
        raise Incorrect("predict gives another answer when asked again")


def modules_at(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules at these places and, because slots may lie inside, all modules below, by name."""
    return {
        f"{name}.{below}".rstrip("."): module
        for name in names
        for below, module in model.get_submodule(name).named_modules()
    }


def entered(model: nn.Module, before: Mapping[str, nn.Module], inputs: Tensor) -> Iterator[Entered]:
    """Return the modules that replaced those of ``before``, with the arguments of a training forward's first call."""
    present = dict(model.named_modules(remove_duplicate=False))
    replaced = {name: present[name] for name in before if name in present and present[name] is not before[name]}
    calls: dict[str, tuple[Any, ...]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            calls.setdefault(name, tuple(_detached(argument) for argument in arguments))

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in replaced.items()]
    model.train()
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return ((name, module, calls[name]) for name, module in replaced.items() if name in calls)


def require_mean(name: str, module: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Raise Incorrect where the mean training output is not the evaluation output, by two projections of it."""
    with torch.no_grad():
        expected = module.eval()(*arguments).double()
        module.train()
        outputs = torch.stack([module(*arguments).double() for _ in range(PASSES)])
    draw = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, expected.shape, generator=draw).to(expected) * 2 - 1
    for projection in (torch.ones_like(expected), signs):
        values = (outputs * projection).flatten(1).sum(1)
        error = DEVIATIONS * values.std().item() / PASSES**0.5
        gap = abs(values.mean().item() - (expected * projection).sum().item())
        if not gap <= error + ROUNDING * expected.abs().sum().item():
            raise Incorrect(
                f"at {name} the mean of {PASSES} training outputs is off the evaluation output by {gap:.3g}; "
                f"{DEVIATIONS} standard errors are {error:.3g}"
            )


def require_dead_where_dropped(name: str, module: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Raise Incorrect where a gradient reaches an input that a slot has replaced by zero."""
    entering = arguments[0]
    if isinstance(module, nn.Linear | nn.Conv2d) or not entering.is_floating_point():
        return
    entering = entering.clone().requires_grad_()
    leaving = module.train()(entering, *arguments[1:])
    if leaving.shape != entering.shape or not leaving.requires_grad:
        return
    dropped = (leaving == 0) & (entering != 0)
    (gradient,) = torch.autograd.grad(leaving.sum(), entering, allow_unused=True)
    if gradient is not None and bool((gradient[dropped] != 0).any()):
        raise Incorrect(f"at {name} units that were dropped get a gradient")


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
