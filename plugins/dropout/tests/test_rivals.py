"""Penalties, constraints and the rest, against closed forms, NumPy, and torch's own losses and optimiser."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from harness_dropout.constraints import GhostNorm, NormBound, preactivation_widths
from harness_dropout.penalties import L1, ConfidencePenalty, LabelSmoothing
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import nn
from torch.nn import functional

from harness.api import NotApplicable, UsageError


def forward(model, inputs):
    return model(inputs)


def matrices(model):
    return [parameter for parameter in model.parameters() if parameter.ndim > 1]


class TestWeightDecay:
    def test_shrinks_weights_by_lr_times_strength_and_leaves_biases(self, problem, build) -> None:
        model = problem("mlp").attached(build("none"))
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        groups = build("weight-decay", strength=3.0).parameter_groups(model, 0.1)
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for name, value in model.named_parameters():
            expected = before[name] * (1 - 0.3 if value.ndim > 1 else 1)
            torch.testing.assert_close(value.detach(), expected)


class TestL1:
    @given(strength=st.floats(1e-6, 1.0))
    def test_adds_the_sum_of_the_sizes_of_the_weights(self, strength) -> None:
        model = nn.Linear(4, 3, dtype=torch.float64)
        inputs, targets = torch.zeros(2, 4, dtype=torch.float64), torch.tensor([0, 2])
        found = L1(strength).loss(model, inputs, targets, forward)
        entropy = functional.cross_entropy(model(inputs), targets).item()
        assert found.item() == pytest.approx(entropy + strength * np.abs(model.weight.detach().numpy()).sum())
        found.backward()
        torch.testing.assert_close(model.weight.grad, strength * model.weight.detach().sign())


class TestLabelSmoothing:
    @given(strength=st.floats(0.0, 0.99), seed=st.integers(0, 2**31))
    def test_is_cross_entropy_with_mixed_targets(self, strength, seed) -> None:
        logits = torch.randn((5, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        targets = torch.tensor([0, 1, 2, 3, 0])
        found = LabelSmoothing(strength).loss(nn.Identity(), logits, targets, forward)
        mixed = (1 - strength) * np.eye(4)[targets.numpy()] + strength / 4
        expected = -(mixed * special.log_softmax(logits.numpy(), -1)).sum(1).mean()
        assert found.item() == pytest.approx(expected)


class TestConfidencePenalty:
    @given(strength=st.floats(0.01, 5), seed=st.integers(0, 2**31))
    def test_rewards_entropy(self, strength, seed) -> None:
        logits = torch.randn((5, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        targets = torch.tensor([0, 1, 2, 3, 0])
        found = ConfidencePenalty(strength).loss(nn.Identity(), logits, targets, forward).item()
        p = special.softmax(logits.numpy(), -1)
        expected = -np.log(p[np.arange(5), targets]).mean() - strength * stats.entropy(p, axis=1).mean()
        assert found == pytest.approx(expected, rel=1e-6)


class TestGradientNoise:
    @pytest.mark.parametrize("step", [0, 9, 400])
    def test_has_a_variance_that_fades_with_the_steps(self, problem, build, step) -> None:
        one, technique = problem("mlp"), build("gradient-noise", strength=0.3)
        one.attached(technique)
        layer = nn.Linear(200, 200)
        layer.weight.grad = torch.full_like(layer.weight, 2.0)
        technique.before_update(layer, step)
        noise = layer.weight.grad - 2.0
        expected = 0.3 / (1 + step) ** 0.55
        count = noise.numel()
        assert abs(noise.mean()) < 4 * math.sqrt(expected / count)
        assert noise.var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / count))
        assert layer.bias.grad is None


class TestMixup:
    def test_mixes_inputs_and_targets_by_one_share(self, problem, build) -> None:
        one, technique = problem("mlp"), build("mixup", strength=1.0)
        one.attached(technique)
        for _ in range(20):
            inputs, targets = technique.batch(torch.eye(4), torch.arange(4))
            assert torch.equal(inputs, targets)
            torch.testing.assert_close(inputs.sum(1), torch.ones(4))
            assert ((inputs > 0).sum(1) <= 2).all()
            shares = inputs.diagonal()
            assert len(shares[shares < 1].unique()) <= 1

    @pytest.mark.parametrize("strength", [0.2, 1.0, 8.0])
    def test_the_share_has_a_beta_distribution(self, problem, build, strength) -> None:
        one, technique = problem("mlp"), build("mixup", strength=strength)
        one.attached(technique)
        shares = []
        for _ in range(400):
            _, targets = technique.batch(torch.eye(2), torch.tensor([0, 1]))
            swapped = targets[0, 0] != 1.0
            shares += [targets[0, 0].item()] if swapped else []
        assert len(shares) > 130
        assert stats.kstest(shares, stats.beta(strength, strength).cdf).pvalue > 1e-3

    def test_tokens_cannot_be_mixed(self, problem, build) -> None:
        one, technique = problem("mlp"), build("mixup")
        one.attached(technique)
        with pytest.raises(NotApplicable, match="tokens"):
            technique.batch(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))

    def test_a_class_for_each_position_cannot_be_mixed(self, problem, build) -> None:
        one, technique = problem("mlp"), build("mixup")
        one.attached(technique)
        with pytest.raises(NotApplicable, match="each position"):
            technique.batch(torch.zeros(4, 3), torch.zeros(12, dtype=torch.int64))


class TestMaxNorm:
    @given(bound=st.floats(0.05, 3.0), seed=st.integers(0, 2**31))
    def test_projects_each_units_weights_onto_the_ball(self, bound, seed) -> None:
        layer = nn.Linear(4, 6, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)))
        before = layer.weight.detach().clone()
        norms = NormBound(bound)
        norms.attach(layer, SimpleNamespace(steps=1, epochs=1))
        norms.clip(0)
        found = layer.weight.detach()
        expected = torch.renorm(before, 2, 0, bound)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        inside = before.norm(dim=1) <= bound
        assert torch.equal(found[inside], before[inside])

    @pytest.mark.parametrize("name", ["max-norm", "dropout-max-norm"])
    @pytest.mark.parametrize("kind", ["mlp", "conv", "rnn"])
    def test_no_unit_exceeds_it_after_training(self, problem, build, name, kind) -> None:
        one, technique = problem(kind), build(name, bound=0.3)
        one.train(technique)
        assert all(weight.flatten(1).norm(dim=1).max() <= 0.3 + 1e-6 for weight in matrices(one.model))
        assert technique.acted
        assert sum(technique.curves["clips"]) > 0
        assert len(technique.curves["clips"]) == one.task.epochs

    def test_leaves_biases_alone(self, problem, build) -> None:
        one, technique = problem("mlp"), build("max-norm", bound=0.0)
        model = one.attached(technique)
        biases = [parameter.detach().clone() for parameter in model.parameters() if parameter.ndim == 1]
        technique.after_update(model, 0)
        after = [parameter for parameter in model.parameters() if parameter.ndim == 1]
        assert all(torch.equal(a, b) for a, b in zip(biases, after, strict=True))
        assert not any(weight.any() for weight in matrices(model))

    def test_a_bound_that_is_never_reached_did_nothing(self, problem, build) -> None:
        technique = build("max-norm", bound=100.0)
        problem("mlp").train(technique)
        assert not technique.acted


class TestGhostBatchNorm:
    @given(
        n=st.integers(2, 23),
        size=st.integers(2, 9),
        shape=st.lists(st.integers(1, 3), max_size=2),
        seed=st.integers(0, 99),
    )
    def test_normalises_each_ghost_by_itself(self, n, size, shape, seed) -> None:
        x = torch.randn((n, 5, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if len(shape) == 1:
            x = x.transpose(1, 2)  # sequences have their width last
        found = GhostNorm(5, size).double().train()(x).detach().numpy()
        axes = (0, 1) if len(shape) == 1 else (0, *range(2, x.ndim))
        parts = np.array_split(x.numpy(), max(1, n // size))
        expected = [
            (part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + 1e-5) for part in parts
        ]
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-7, atol=1e-9)

    def test_of_the_whole_batch_is_batch_norm(self) -> None:
        ghost, plain, x = GhostNorm(5, 16).train(), nn.BatchNorm1d(5).train(), torch.randn(16, 5)
        torch.testing.assert_close(ghost(x), plain(x))
        torch.testing.assert_close(ghost.eval()(x), plain.eval()(x))

    def test_a_single_example_is_normalised_by_the_running_statistics(self) -> None:
        x = torch.randn(1, 5)
        torch.testing.assert_close(GhostNorm(5, 4).train()(x), nn.BatchNorm1d(5).eval()(x))

    def test_finds_the_widths_of_layers_and_convolutions(self, problem) -> None:
        one = problem("conv")
        widths = preactivation_widths(one.model, one.task.preactivations)
        assert widths == {
            "stem.before": 4,
            "blocks.0.body.0.before": 4,
            "blocks.1.body.0.before": 4,
            "top.before": 8,
        }


class TestEarlyStopping:
    def test_goes_back_to_the_best_epoch(self, problem, build) -> None:
        one, technique = problem("mlp"), build("early-stopping", patience=2)
        model = one.attached(technique)
        seen = []
        for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.2, 1.0]):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(epoch)
            seen.append(technique.observe(model, epoch, loss))
            if seen[-1]:
                break
        technique.finish(model)
        assert seen == [False, False, False, True]
        assert all((parameter == 1).all() for parameter in model.parameters())
        assert technique.acted
        assert technique.curves == {"best_epoch": [1.0]}

    def test_did_nothing_where_the_last_epoch_is_the_best(self, problem, build) -> None:
        one, technique = problem("mlp"), build("early-stopping")
        model = one.attached(technique)
        assert not any(technique.observe(model, epoch, 1.0 / (epoch + 1)) for epoch in range(5))
        assert not technique.acted

    def test_leaves_a_model_that_was_never_observed(self, problem, build) -> None:
        one, technique = problem("mlp"), build("early-stopping")
        model = one.attached(technique)
        before = [parameter.clone() for parameter in model.parameters()]
        technique.finish(model)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("weight-decay", {"strength": -1.0}),
        ("label-smoothing", {"strength": 1.0}),
        ("max-norm", {"bound": -1.0}),
        ("ghost-batchnorm", {"size": 1}),
        ("early-stopping", {"patience": 0}),
        ("mc-dropout", {"passes": 0}),
        ("mixup", {"strength": math.inf}),
    ],
)
def test_a_value_that_makes_no_sense_is_named(build, name, params) -> None:
    (key,) = params
    with pytest.raises(UsageError, match=f"{key} .*expected"):
        build(name, **params)
