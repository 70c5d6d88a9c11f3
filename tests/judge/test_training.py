"""Settings, randomness, batches and the optimiser's loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.api import UsageError
from harness.families.finetune.settings import Settings
from harness.judge import training
from harness.judge.seeds import generator, global_seed
from harness.judge.settings import read_settings
from harness.judge.training import batch_order

GOOD = {
    "steps": 10,
    "batch_size": 4,
    "micro_batch": 0,
    "lr": 0.1,
    "head_lr": 1,
    "weight_decay": 0,
    "max_grad_norm": 1.0,
    "train_images": 30,
    "validation_images": 10,
}


class TestSettings:
    def test_are_read_as_they_are(self) -> None:
        assert read_settings(Settings, GOOD).batch_size == 4

    @pytest.mark.parametrize("name", sorted(GOOD))
    @pytest.mark.parametrize("value", [None, "1", True, -1, math.nan, math.inf])
    def test_refuse_what_makes_no_sense(self, name: str, value: object) -> None:
        with pytest.raises(UsageError, match=f"setting {name} = "):
            read_settings(Settings, {**GOOD, name: value})

    def test_name_all_that_is_wrong_at_once(self) -> None:
        with pytest.raises(UsageError) as caught:
            read_settings(Settings, {**GOOD, "steps": 0.5, "lr": 0})
        assert caught.value.problems == (
            "setting steps = 0.5: expected a whole number, more than 0",
            "setting lr = 0: expected a number, more than 0",
        )


class TestRandomness:
    def test_is_the_same_for_the_same_seed_and_purpose(self) -> None:
        assert torch.rand((), generator=generator(3, "head")) == torch.rand((), generator=generator(3, "head"))

    def test_differs_by_purpose_and_by_seed(self) -> None:
        pairs = [(0, "head"), (0, "split"), (1, "head"), (1, "split")]
        assert len({float(torch.rand((), generator=generator(*pair))) for pair in pairs}) == 4

    def test_of_the_global_generator_is_restored(self) -> None:
        state = torch.get_rng_state()
        with global_seed(5):
            first = torch.rand(3)
        assert torch.equal(torch.get_rng_state(), state)
        with global_seed(5):
            assert torch.equal(torch.rand(3), first)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_every_epoch_shows_every_image_once(count: int, steps: int, batch_size: int, seed: int) -> None:
    order = batch_order(count, generator(seed, "order"), steps=steps, batch_size=batch_size)
    assert order.shape == (steps, batch_size)
    shown = order.flatten()
    for start in range(0, len(shown), count):
        epoch = shown[start : start + count].tolist()
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(count))


def quadratic() -> tuple[nn.Module, list[dict[str, torch.Tensor]]]:
    torch.manual_seed(0)
    return nn.Linear(3, 2), [{"x": torch.randn(4, 3), "labels": torch.tensor([0, 1, 0, 1])} for _ in range(12)]


loss = training.cross_entropy(lambda model, batch: model(batch["x"]))


class TestFit:
    def test_stops_at_the_first_loss_that_is_not_finite(self) -> None:
        model, batches = quadratic()
        batches[6]["x"][0, 0] = math.nan
        optimizer = training.adamw([{"params": list(model.parameters()), "lr": 0.1}], 0.0)
        with pytest.raises(FloatingPointError, match=r"^loss is nan at step 7$"):
            training.fit(model, optimizer, batches, steps=12, loss=loss)

    def test_raises_each_groups_rate_to_its_own_and_lets_it_fall(self) -> None:
        model, batches = quadratic()
        optimizer = training.adamw([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.02}], 0.0)
        rates: list[list[float]] = []

        def watched(module: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            rates.append([group["lr"] for group in optimizer.param_groups])
            return loss(module, batch)

        training.fit(model, optimizer, batches, steps=12, loss=watched)
        weight, bias = (list(column) for column in zip(*rates, strict=True))
        assert max(weight) == pytest.approx(0.1, rel=0.05)
        assert bias == pytest.approx([rate / 5 for rate in weight])
        peak = weight.index(max(weight))
        assert weight[: peak + 1] == sorted(weight[: peak + 1])
        assert weight[peak:] == sorted(weight[peak:], reverse=True)
        assert weight[-1] < 1e-3 * weight[0]

    def test_leaves_a_groups_own_betas_alone(self) -> None:
        model, batches = quadratic()
        optimizer = training.adamw([{"params": list(model.parameters()), "lr": 0.1, "betas": (0.5, 0.6)}], 0.0)
        training.fit(model, optimizer, batches, steps=12, loss=loss)
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)

    def test_is_the_update_of_adamw_with_the_gradient_clipped(self) -> None:
        """Against the update's equations in float64 (Loshchilov and Hutter 2019, algorithm 2), for one step."""
        model, batches = quadratic()
        start = model.weight.detach().double().clone()
        batches[0]["x"] *= 100
        optimizer = training.adamw([{"params": list(model.parameters()), "lr": 0.1}], 0.01)
        training.step(model, optimizer, batches[0], loss=loss, max_grad_norm=0.5)
        gradient = model.weight.grad.double()
        assert math.hypot(gradient.norm(), model.bias.grad.norm()) == pytest.approx(0.5, rel=1e-4)
        expected = start * (1 - 0.1 * 0.01) - 0.1 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(model.weight.detach().double(), expected, rtol=1e-5, atol=1e-7)

    def test_takes_a_single_step_too(self) -> None:
        model, batches = quadratic()
        optimizer = training.adamw([{"params": list(model.parameters()), "lr": 0.1}], 0.0)
        assert len(training.fit(model, optimizer, batches[:1], steps=1, loss=loss)) == 1
