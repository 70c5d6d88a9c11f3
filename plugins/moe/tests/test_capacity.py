"""Experts that take only so many tokens."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from harness_moe.base import balance_loss, capacity, shares
from hypothesis import given
from hypothesis import strategies as st

from harness.api import NotApplicable
from harness.families.route.experts import grouped

EXPERTS = 4
SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(8, 40)


CROWDED = st.sampled_from(["switch", "gshard", "widenet"])
FACTORS = st.sampled_from([0.25, 0.5, 1.0, 1.2, 1.25, 2.0])


@given(CROWDED, SEEDS, COUNTS, FACTORS, st.booleans())
def test_no_expert_has_more_than_its_capacity(build, tokens, name, seed, count, factor, training) -> None:
    built = build(name, seed=seed, capacity=factor)
    routing = built.router.train(training)(tokens(count, seed))
    experts = built.layout.experts
    groups = grouped(routing, experts)
    loads = torch.bincount(groups.slot // groups.rows, minlength=experts)
    limit = math.ceil(Fraction(str(factor)) * built.technique.k * count / experts)
    assert loads.max() <= min(limit, count)


@given(st.integers(1, 4096), st.integers(1, 64), st.integers(1, 4), FACTORS)
def test_capacity_is_rounded_up_exactly(count, experts, k, factor) -> None:
    exact = math.ceil(Fraction(str(factor)) * k * count / experts)
    assert capacity(factor, count, experts, k) == min(exact, count)


@given(SEEDS, COUNTS)
def test_switch_sends_each_token_to_its_best_expert_with_its_probability(build, tokens, seed, count) -> None:
    built = build("switch", seed=seed)
    some = tokens(count, seed)
    probabilities = built.router.gate(some.features).softmax(1)
    routing = built.router(some)
    assert torch.equal(routing.expert, probabilities.argmax(1))
    torch.testing.assert_close(routing.weight, probabilities.amax(1))
    expected = 0.01 * balance_loss(probabilities, shares(probabilities.argmax(1), EXPERTS))
    torch.testing.assert_close(routing.loss, expected)


@given(SEEDS)
def test_dropped_tokens_come_out_as_zero_and_are_the_last_of_their_expert(build, tokens, seed) -> None:
    built = build("switch", seed=seed, capacity=0.5)
    some = tokens(40, seed)
    limit = capacity(0.5, 40, EXPERTS)
    best = built.router.gate(some.features).argmax(1).tolist()
    full = [best[:place].count(expert) >= limit for place, expert in enumerate(best)]
    output = built.layer(some, [])
    assert (output == 0).all(1).tolist() == full
    assert any(full)


@given(st.sampled_from(["switch", "gshard"]), SEEDS)
def test_a_capacity_of_all_tokens_drops_none(build, tokens, name, seed) -> None:
    built = build(name, seed=seed, capacity=float(EXPERTS))
    trace = []
    built.layer(tokens(40, seed), trace)
    assert trace[0].lost == 0


class TestGShard:
    @given(SEEDS)
    def test_weights_are_shares_of_the_two_best(self, build, tokens, dense, seed) -> None:
        built = build("gshard", seed=seed)
        some = tokens(30, seed)
        probabilities = built.router.gate(some.features).softmax(1).double()
        found = dense(built.router.eval()(some), 30).double()
        for row, sent in zip(probabilities, found, strict=True):
            first, second = row.sort(descending=True).values[:2]
            torch.testing.assert_close(sent.max(), first / (first + second), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(sent.sum(), torch.tensor(1.0).double(), atol=1e-5, rtol=1e-5)

    def test_second_choices_are_sent_with_twice_their_share_as_probability(self, build, tokens) -> None:
        built = build("gshard", sharp=1.0)
        some = tokens(30)
        every = built.router.eval()(some)
        wanted = (2 * every.weight[30:]).clamp(max=1).detach()
        built.router.train()
        counts = torch.zeros(30)
        for _ in range(400):
            routing = built.router(some)
            counts[routing.token[30:]] += 1
        error = (counts / 400 - wanted).abs() / (wanted * (1 - wanted) / 400).sqrt().clamp_min(1e-3)
        assert error.max() < 4.5
        assert wanted.min() < 0.9

    def test_first_choices_are_always_sent_and_go_first(self, build, tokens) -> None:
        built = build("gshard")
        some = tokens(30)
        routing = built.router(some)
        assert routing.token[:30].tolist() == list(range(30))
        assert torch.equal(routing.expert[:30], built.router.gate(some.features).argmax(1))

    def test_the_same_is_sent_every_time_at_test(self, build, tokens) -> None:
        built = build("gshard")
        routings = [built.router.eval()(tokens(30)) for _ in range(2)]
        assert torch.equal(routings[0].token, routings[1].token)
        assert len(routings[0].token) == 60


class TestWideNet:
    def test_it_is_shared(self, build) -> None:
        assert build("widenet").layout.shared

    def test_a_single_layer_has_nothing_to_share(self, build) -> None:
        with pytest.raises(NotApplicable, match="no depth"):
            build("widenet", layers=1)

    def test_noise_is_of_training_only(self, build, tokens, dense) -> None:
        built = build("widenet")
        some = tokens(30)
        noisy = [dense(built.router(some), 30) for _ in range(2)]
        assert not torch.equal(*noisy)
        built.router.eval()
        quiet = [dense(built.router(some), 30) for _ in range(2)]
        assert torch.equal(*quiet)
        best = built.router.gate(some.features).softmax(1).topk(2).values.sum(1)
        torch.testing.assert_close(quiet[0].sum(1), best)
