"""Expert choice, Sinkhorn, and the noisy gate's losses for balance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_moe.balanced import plan
from harness_moe.noisy import chances, squared_variation
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.api import UsageError
from harness.families.route.balance import max_violation

EXPERTS = 4
SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(8, 40)


class TestExpertChoice:
    @given(SEEDS, COUNTS, st.integers(1, EXPERTS))
    def test_every_expert_has_as_many_tokens(self, build, tokens, seed, count, k) -> None:
        trace = []
        build("expert-choice", seed=seed, k=k).layer(tokens(count, seed), trace)
        (passage,) = trace
        assert max_violation(passage.load).item() == 0
        assert passage.load[0] == -(-k * count // EXPERTS)
        assert passage.lost == 0

    @given(SEEDS, COUNTS)
    def test_they_are_those_with_the_best_scores_which_are_the_weights(self, build, tokens, dense, seed, count) -> None:
        built = build("expert-choice", seed=seed)
        some = tokens(count, seed)
        logits = some.features.double().numpy() @ built.router.gate.weight.detach().double().numpy().T
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = np.zeros_like(scores)
        for expert in range(EXPERTS):
            for token in sorted(range(count), key=lambda token: -scores[token, expert])[: -(-2 * count // EXPERTS)]:
                expected[token, expert] = scores[token, expert]
        np.testing.assert_allclose(dense(built.router(some), count).detach().numpy(), expected, atol=1e-5)

    def test_some_tokens_are_left_out_and_counted(self, build, tokens) -> None:
        built = build("expert-choice", k=1)
        trace = []
        output = built.layer(tokens(64), trace)
        assert trace[0].untouched() == int((output == 0).all(1).sum()) > 0


class TestSinkhorn:
    @given(SEEDS, COUNTS)
    def test_the_plan_s_columns_are_even_and_its_rows_nearly_one(self, seed, count) -> None:
        logits = torch.randn(count, EXPERTS, generator=torch.Generator().manual_seed(seed)).double() * 2
        found = plan(logits, 50)
        torch.testing.assert_close(found.sum(0), torch.full((EXPERTS,), count / EXPERTS).double())
        torch.testing.assert_close(found.sum(1), torch.ones(count).double(), atol=1e-2, rtol=0)

    @given(SEEDS, st.integers(1, 10))
    def test_it_equals_scaling_rows_and_columns_in_turn(self, seed, iterations) -> None:
        logits = torch.randn(12, EXPERTS, generator=torch.Generator().manual_seed(seed)).double()
        table = np.exp(logits.numpy())
        for _ in range(iterations):
            for row in range(12):
                table[row] /= table[row].sum()
            for column in range(EXPERTS):
                table[:, column] *= 12 / EXPERTS / table[:, column].sum()
        np.testing.assert_allclose(plan(logits, iterations).numpy(), table, rtol=1e-9)

    def test_training_is_more_even_than_the_best_of_the_logits(self, build, tokens) -> None:
        built = build("sinkhorn", sharp=6.0)
        some = tokens(400)
        loads = {}
        for training in (True, False):
            trace = []
            built.layer.train(training)(some, trace)
            loads[training] = max_violation(trace[0].load).item()
        assert loads[True] < 0.5 * loads[False]

    @given(SEEDS, st.booleans())
    def test_the_weight_is_the_sigmoid_of_the_logit(self, build, tokens, seed, training) -> None:
        built = build("sinkhorn", seed=seed)
        some = tokens(20, seed)
        routing = built.router.train(training)(some)
        logits = built.router.gate(some.features)[routing.token, routing.expert]
        torch.testing.assert_close(routing.weight, 1 / (1 + torch.exp(-logits)))


class TestNoisyTopK:
    def test_the_noise_is_of_training_only(self, build, tokens, dense) -> None:
        built = build("noisy-top-k")
        some = tokens(30)
        assert not torch.equal(*(dense(built.router(some), 30) for _ in range(2)))
        built.router.eval()
        assert torch.equal(*(dense(built.router(some), 30) for _ in range(2)))

    @given(SEEDS, COUNTS)
    def test_at_test_it_is_the_softmax_of_the_best_logits(self, build, tokens, dense, seed, count) -> None:
        built = build("noisy-top-k", seed=seed)
        some = tokens(count, seed)
        logits = built.router.gate(some.features).detach().double().numpy()
        expected = np.zeros_like(logits)
        for row, values in enumerate(logits):
            best = np.argsort(-values)[:2]
            expected[row, best] = np.exp(values[best]) / np.exp(values[best]).sum()
        np.testing.assert_allclose(dense(built.router.eval()(some), count).detach().numpy(), expected, atol=1e-5)

    @given(SEEDS, st.integers(1, EXPERTS - 1))
    def test_chances_are_those_of_beating_the_others_noisy_logits(self, seed, k) -> None:
        draw = torch.Generator().manual_seed(seed)
        logits = torch.randn(6, EXPERTS, generator=draw).double()
        deviation = torch.rand(6, EXPERTS, generator=draw).double() + 0.1
        noisy = logits + torch.randn(6, EXPERTS, generator=draw).double() * deviation
        found = chances(logits, noisy, deviation, k)
        for row in range(6):
            for expert in range(EXPERTS):
                others = sorted((noisy[row, rival].item() for rival in range(EXPERTS) if rival != expert), reverse=True)
                expected = stats.norm.cdf((logits[row, expert] - others[k - 1]) / deviation[row, expert])
                assert found[row, expert].item() == pytest.approx(float(expected), abs=1e-9)

    @given(st.lists(st.floats(0.1, 10), min_size=2, max_size=8))
    def test_the_losses_are_squared_coefficients_of_variation(self, values) -> None:
        found = squared_variation(torch.tensor(values, dtype=torch.float64)).item()
        assert found == pytest.approx(float(stats.variation(values)) ** 2, abs=1e-12)

    def test_the_loss_weighs_importance_and_load(self, build, tokens) -> None:
        some = tokens(30)
        losses = {}
        for importance, load in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.2)):
            torch.manual_seed(3)
            losses[importance, load] = build("noisy-top-k", importance=importance, load=load).router(some).loss.item()
        assert losses[0.3, 0.2] == pytest.approx(0.3 * losses[1.0, 0.0] + 0.2 * losses[0.0, 1.0], rel=1e-4)
        assert min(losses.values()) > 0

    def test_it_needs_an_expert_to_spare(self, build) -> None:
        with pytest.raises(UsageError, match=f"k = {EXPERTS}: expected a whole number from 1 to {EXPERTS - 1}"):
            build("noisy-top-k", k=EXPERTS)
