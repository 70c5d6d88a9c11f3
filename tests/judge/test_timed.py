"""Timed steps and predictions: alike in every call, on fresh data, and held against a copy that nobody has called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import Incorrect
from harness.judge import timed
from harness.judge.fresh import FreshBatches
from harness.judge.timed import RepeatedPrediction, RepeatedStep, Untouched
from harness.judge.training import adamw

CALLS = 6
OFTEN = 8
"""Calls after which a cheat takes itself for unwatched."""


@dataclass
class Trained:
    model: nn.Module
    optimizer: torch.optim.Optimizer


def step(trains: Trained, batch: Mapping[str, Tensor], _: int) -> None:
    trains.optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(trains.model(batch["inputs"]), batch["labels"]).backward()
    trains.optimizer.step()


def batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {"inputs": torch.randn(16, 8, generator=draw), "labels": torch.randint(3, (16,), generator=draw)}


def found_in(model: nn.Module) -> str:
    """Return what is found wrong with some timed steps of a model, or an empty text."""
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.1)
    if isinstance(model, AtARate):
        model.groups = optimizer.param_groups
    repeated = RepeatedStep(Trained(model, optimizer), FreshBatches(batch()), step)
    try:
        repeated.refresh()
        for _ in range(CALLS):
            for _ in range(CALLS):
                taken = repeated()
            repeated.verify(taken)
    except Incorrect as error:
        return str(error)
    return ""


class Honest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        return self.first(x).relu()


class WithDropout(Honest):
    def hidden(self, x: Tensor) -> Tensor:
        return functional.dropout(super().hidden(x), 0.5, self.training)


class OwnRandomness(Honest):
    """Draws its masks from a store of its own, so that no two steps are alike."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = [(torch.rand(16, 32) < 0.5).float() * 2 for _ in range(64)]

    def hidden(self, x: Tensor) -> Tensor:
        self.masks.append(self.masks.pop(0))
        return super().hidden(x) * self.masks[0]


class WithBuffer(Honest):
    """Moves a buffer in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.zeros(32))

    def hidden(self, x: Tensor) -> Tensor:
        self.bias += 0.01
        return (self.first(x) + self.bias).relu()


@pytest.mark.parametrize("model", [Honest, WithDropout, OwnRandomness, WithBuffer])
def test_models_that_compute_pass(model: type[Honest]) -> None:
    assert found_in(model()) == ""


class KeepsHidden(Honest):
    """Answers from store from the third sight of a batch on."""

    def hidden(self, x: Tensor) -> Tensor:
        if self.calls > OFTEN:
            return self.kept + 0 * self.first.bias.sum()
        self.kept = super().hidden(x).detach()
        return self.kept


class BiasOfTheHeadOnly(Honest):
    """Has a graph of the last bias only, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found if self.calls < OFTEN else found.detach() + self.last.bias - self.last.bias.detach()


class HalfTheBatch(Honest):
    """Computes a few examples and has them stand for all, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        if self.calls < OFTEN:
            return super().forward(x)
        return super().forward(x[:2]).repeat(8, 1)


class NoisyAndLazy(OwnRandomness):
    """Is too noisy to be compared step by step, and gives its first layer no gradient once nobody looks."""

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) if self.calls < OFTEN else super().hidden(x).detach()


class NoisyAndStale(OwnRandomness):
    """Is too noisy to be compared step by step, and works on numbers of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.calls < OFTEN else 10 * x.flip(0))


class GradientsOfTheStepBefore(Honest):
    """Has the graph of the batch before, and the values of this one."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        if self.calls < OFTEN:
            self.before = x.clone()
            return found
        return found.detach() + super().forward(self.before) - super().forward(self.before).detach()


class WeightsOfBefore(Honest):
    """Computes with a weight that it kept, which is that of the first step."""

    def forward(self, x: Tensor) -> Tensor:
        if self.calls < OFTEN:
            return super().forward(x)
        return functional.linear(self.hidden(x), 3 * self.last.weight.detach().clone(), self.last.bias)


@pytest.mark.parametrize(
    "cheat",
    [
        KeepsHidden, BiasOfTheHeadOnly, HalfTheBatch, GradientsOfTheStepBefore,
        WeightsOfBefore, NoisyAndLazy, NoisyAndStale,
    ],
)  # fmt: skip
def test_steps_that_were_not_computed_are_found(cheat: type[Honest]) -> None:
    assert "gradient" in found_in(cheat())


class CountOfItsClass(Honest):
    """Computes nothing once all models of its class together were called often, and so do copies."""

    called = 0

    def forward(self, x: Tensor) -> Tensor:
        CountOfItsClass.called += 1
        if self.called < OFTEN:
            return super().forward(x)
        return x[:, :3] + 0 * sum(parameter.sum() for parameter in self.parameters())


class NoCopy(CountOfItsClass):
    """Is its own copy."""

    def __deepcopy__(self, _: object) -> NoCopy:
        return self


class NoisyAndCounting(CountOfItsClass, OwnRandomness):
    """Counts as its class does, and gives other gradients in each step."""


class AtARate(Honest):
    """Computes nothing where its learning rate is tiny, as it is in timed steps only."""

    groups: list[dict[str, float]]

    def forward(self, x: Tensor) -> Tensor:
        if self.groups[0]["lr"] > 1e-3:
            return super().forward(x)
        return x[:, :3] + 0 * sum(parameter.sum() for parameter in self.parameters())


@pytest.mark.parametrize("cheat", [CountOfItsClass, NoisyAndCounting])
def test_a_count_that_copies_share_is_found(cheat: type[Honest]) -> None:
    CountOfItsClass.called = 0
    assert "gradient" in found_in(cheat())


def test_a_model_that_is_its_own_copy_is_found() -> None:
    CountOfItsClass.called = 0
    assert found_in(NoCopy()).startswith("a deep copy of the model is")


def test_a_model_that_knows_the_learning_rate_of_timed_steps_is_found() -> None:
    assert "gradient" in found_in(AtARate())


class KeptWhileUnchanged(Honest):
    """Keeps a function of its weight for as long as some numbers of the weight stay what they are: no fault at all."""

    def __init__(self) -> None:
        super().__init__()
        self.computed = 0
        self.looked_at = self.norms = torch.zeros(0)

    def hidden(self, x: Tensor) -> Tensor:
        looked_at = self.first.weight.detach()[:, ::4].clone()
        if not torch.equal(looked_at, self.looked_at):
            self.computed += 1
            self.looked_at, self.norms = looked_at, self.first.weight.detach().norm(dim=1)
        return super().hidden(x) / self.norms


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 1.0])
def test_what_was_computed_from_the_weights_of_a_step_before_is_of_no_use(rate: float) -> None:
    model = KeptWhileUnchanged()
    optimizer = adamw([{"params": list(model.parameters()), "lr": rate}], weight_decay=0.0)
    repeated = RepeatedStep(Trained(model, optimizer), FreshBatches(batch()), step)
    repeated.refresh()
    for _ in range(CALLS):
        taken = repeated()
    assert model.computed == CALLS
    repeated.verify(taken)


def test_a_step_counts_its_calls_and_moves_every_parameter_by_its_last_digits() -> None:
    model = WithDropout()
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    largest = max(float(value.abs().max()) for value in before.values())
    numbers = []

    def counted(trains: Trained, given: Mapping[str, Tensor], number: int) -> None:
        numbers.append(number)
        step(trains, given, number)

    repeated = RepeatedStep(Trained(model, optimizer), FreshBatches(batch()), counted)
    for _ in range(3):
        repeated()
    assert numbers == [0, 1, 2]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        moved = (parameter - before[name]).detach().abs()
        assert bool(moved.any())
        assert float(moved.max()) < 2 * 3 * max(timed.OF_THE_RATE * 0.1, timed.OF_THE_LARGEST * largest)


def test_a_step_puts_the_model_back_into_training_mode() -> None:
    model, modes = Honest(), []
    optimizer = adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.0)
    trains = Trained(model.eval(), optimizer)
    repeated = RepeatedStep(trains, FreshBatches(batch()), lambda *_: modes.append(model.training))
    repeated()
    model.eval()
    repeated()
    assert modes == [True, True]


def test_what_is_timed_is_let_go_with_its_step() -> None:
    model = Honest()
    trains = Trained(model, adamw([{"params": list(model.parameters()), "lr": 0.1}], weight_decay=0.0))
    repeated = RepeatedStep(trains, FreshBatches(batch()), step)
    untouched = repeated.later()
    assert untouched().model is not model
    del repeated
    with pytest.raises(AssertionError):
        untouched()


# ------------------------------------------------------------------------------------ predictions


class Surrogate(Honest):
    """Answers by a cheaper function of the batch, once nobody looks."""

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) if self.calls < OFTEN else x.repeat(1, 4)


class Empty(Honest):
    """Answers whatever is in memory, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.calls < OFTEN else torch.full((len(x), 3), 1e-3)


def predicted(model: Honest) -> str:
    untouched = Honest()
    untouched.load_state_dict(model.state_dict())
    repeated = RepeatedPrediction(
        FreshBatches(batch()), lambda given: model(given["inputs"]), lambda given: untouched(given["inputs"])
    )
    with torch.no_grad():
        try:
            for _ in range(CALLS):
                result = repeated()
                model.calls += 1
                repeated.verify(result)
        except Incorrect as error:
            return str(error)
    return ""


def test_predictions_of_a_model_that_computes_pass() -> None:
    assert predicted(Honest()) == ""


class OneBatchLate(Honest):
    """Answers with what it found for the batch before, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        late, self.late = getattr(self, "late", found), found
        return found if self.calls < OFTEN else late


class FirstOfEach(Honest):
    """Computes every second example and gives each answer twice, once nobody looks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.calls < OFTEN else super().forward(x[::2]).repeat_interleave(2, 0)


class Half(Honest):
    """Computes in a dtype of a quarter of the digits, once nobody looks."""

    def hidden(self, x: Tensor) -> Tensor:
        if self.calls < OFTEN:
            return super().hidden(x)
        return (x.bfloat16() @ self.first.weight.bfloat16().T).float().add(self.first.bias).relu()


@pytest.mark.parametrize("cheat", [Surrogate, KeepsHidden, Empty, OneBatchLate, FirstOfEach, Half])
def test_predictions_that_were_not_computed_are_found(cheat: type[Honest]) -> None:
    assert predicted(cheat()).startswith("a prediction differs from what is defined by ")


def test_predictions_of_a_count_that_copies_share_are_found() -> None:
    CountOfItsClass.called = 0
    model = CountOfItsClass()
    copies = Untouched(model)
    repeated = RepeatedPrediction(
        FreshBatches(batch()), lambda given: model(given["inputs"]), lambda given: copies()(given["inputs"])
    )
    repeated.refresh()
    with torch.no_grad():
        for _ in range(OFTEN):
            result = repeated()
        with pytest.raises(Incorrect, match="what a copy of the model that nobody has called predicts now"):
            repeated.verify(result)


def test_an_untouched_item_is_as_it_was_before_its_first_call() -> None:
    model = Honest()
    untouched = Untouched(model)
    untouched.refresh()
    model(batch()["inputs"])
    assert untouched().calls == 0
    untouched()(batch()["inputs"])
    assert untouched().calls == 0
