"""Rates over training, and losses and predictions of several passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_dropout.passes import symmetric_divergence
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

SCHEDULES = {"early": (1, -1), "late": (0, 1), "curriculum": (0, 1)}


def forward(model, inputs):
    return model(inputs)


def rates_of(problem, technique):
    one = problem("mlp")
    model = one.attached(technique)
    found = [[layer.rate for layer in technique.layers]]
    for step in range(one.task.steps):
        technique.after_update(model, step)
        found.append([layer.rate for layer in technique.layers])
    return np.array(found)


class TestSchedules:
    @pytest.mark.parametrize("name", SCHEDULES)
    def test_moves_in_one_direction_within_its_rate(self, problem, build, name) -> None:
        found = rates_of(problem, build(name, rate=0.5))
        start, direction = SCHEDULES[name]
        assert (np.diff(found, axis=0) * direction >= 0).all()
        np.testing.assert_allclose(found[0], start * np.array([0.2, 0.5, 0.5]))
        assert (found <= [0.2, 0.5, 0.5]).all()

    def test_early_falls_linearly_to_zero_at_its_part(self, problem, build) -> None:
        found = rates_of(problem, build("early", rate=0.6, part=0.5))[:, -1]
        t = np.linspace(0, 1, len(found))
        np.testing.assert_allclose(found, 0.6 * np.maximum(0, 1 - t / 0.5), atol=1e-12)

    def test_late_starts_at_its_part(self, problem, build) -> None:
        found = rates_of(problem, build("late", rate=0.6, part=0.25))[:, -1]
        t = np.linspace(0, 1, len(found))
        np.testing.assert_allclose(found, np.where(t >= 0.25, 0.6, 0.0))

    def test_curriculum_keeps_less_and_less(self, problem, build) -> None:
        found = rates_of(problem, build("curriculum", rate=0.6, gamma=10.0))[:, -1]
        t, q = np.linspace(0, 1, len(found)), 0.4
        np.testing.assert_allclose(1 - found, (1 - q) * np.exp(-10 * t) + q)

    def test_no_part_is_no_early_dropout(self, problem, build) -> None:
        assert not rates_of(problem, build("early", part=0.0)).any()


class TestRDrop:
    @given(n=st.integers(1, 6), classes=st.integers(2, 7), seed=st.integers(0, 2**31))
    def test_the_divergence_is_the_mean_of_both_directions(self, n, classes, seed) -> None:
        one, other = torch.randn((2, n, classes), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        p, q = special.softmax(one.numpy(), -1), special.softmax(other.numpy(), -1)
        expected = np.mean([(stats.entropy(a, b) + stats.entropy(b, a)) / 2 for a, b in zip(p, q, strict=True)])
        assert symmetric_divergence(one, other).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)

    def test_without_dropout_it_is_twice_the_cross_entropy(self, problem, build) -> None:
        one, technique = problem("mlp"), build("r-drop", rate=0.0)
        model = one.attached(technique)
        plain = build("none").loss(model, one.inputs, one.targets, forward)
        torch.testing.assert_close(technique.loss(model, one.inputs, one.targets, forward), 2 * plain)

    def test_adds_both_entropies_and_alpha_times_the_divergence(self, problem, build) -> None:
        one, technique = problem("mlp"), build("r-drop", alpha=3.0)
        model = one.attached(technique)
        state = one.task.generator.get_state()
        found = technique.loss(model, one.inputs, one.targets, forward).item()
        one.task.generator.set_state(state)
        logits = model(torch.cat([one.inputs, one.inputs])).detach().double().numpy()
        log_p = special.log_softmax(logits, -1)
        first, second = log_p[: len(one.inputs)], log_p[len(one.inputs) :]
        at = (np.arange(len(first)), one.targets.numpy())
        p, q = np.exp(first), np.exp(second)
        divergence = np.mean(((p - q) * (first - second)).sum(1)) / 2
        expected = -first[at].mean() - second[at].mean() + 3.0 * divergence
        assert found == pytest.approx(expected, rel=1e-5)


class TestMonteCarlo:
    def test_averages_the_probabilities_of_its_passes(self, problem, build) -> None:
        one, technique = problem("mlp"), build("mc-dropout", passes=7)
        model = one.attached(technique)
        found = one.predicted(technique).exp()
        one.task.generator.manual_seed(technique._seed)
        with torch.no_grad():
            expected = torch.stack([model.train()(one.inputs).softmax(-1) for _ in range(7)]).mean(0)
        torch.testing.assert_close(found, expected)

    def test_leaves_the_trainings_draws_and_the_models_mode_alone(self, problem, build) -> None:
        one, technique = problem("mlp"), build("mc-dropout")
        model = one.attached(technique)
        before = one.task.generator.get_state()
        one.predicted(technique)
        assert torch.equal(one.task.generator.get_state(), before)
        assert not any(module.training for module in model.modules())

    def test_more_passes_come_closer_to_their_limit(self, problem, build) -> None:
        spread = {}
        for passes in (2, 50):
            found = []
            for seed in range(5):
                one, technique = problem("mlp"), build("mc-dropout", passes=passes)
                one.attached(technique)
                type(technique)._seed, kept = seed, technique._seed
                found.append(one.predicted(technique).exp())
                type(technique)._seed = kept
            spread[passes] = torch.stack(found).std(0).mean().item()
        assert spread[50] < spread[2] / math.sqrt(25) * 1.5
