"""Dense layers, fixed routing, soft experts and low-rank ones."""

from __future__ import annotations

import pytest
import torch
from harness_moe import register_techniques
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.families.route.contract import Everything, Tokens

TECHNIQUES = [technique.id for technique in register_techniques()]
WIDTH, EXPERTS, HIDDEN, VOCABULARY = 6, 4, 5, 20
SEEDS = st.integers(0, 10_000)


SPARSE = sorted(set(TECHNIQUES) - {"dense-active", "dense-total", "soft"})


class TestDense:
    def test_sizes_are_of_the_experts_passed_and_of_all(self, build) -> None:
        sizes = {name: build(name).layout.hidden for name in ("dense-active", "dense-total")}
        assert sizes == {"dense-active": 2 * HIDDEN, "dense-total": EXPERTS * HIDDEN}

    def test_the_total_one_has_the_parameters_of_top_k_but_for_output_biases(self, build) -> None:
        counts = {
            name: sum(parameter.numel() for parameter in build(name).layer.experts.parameters())
            for name in ("dense-total", "top-k")
        }
        assert counts["top-k"] - counts["dense-total"] == (EXPERTS - 1) * WIDTH

    def test_nothing_is_routed(self, build, tokens) -> None:
        built = build("dense-active")
        assert isinstance(built.router(tokens()), Everything)
        assert not list(built.router.parameters())


@pytest.mark.parametrize("name", ["top-k", "switch", "gshard", "sinkhorn", "hash", "random", "expert-choice"])
def test_a_token_passes_the_hidden_units_of_the_dense_layer(build, name) -> None:
    built = build(name)
    k = built.technique.k
    assert k * built.layout.hidden == build("dense-active").layout.hidden


@pytest.mark.parametrize("name", SPARSE)
def test_each_token_and_expert_meet_at_most_once(build, tokens, name) -> None:
    built = build(name)
    for training in (True, False):
        routing = built.router.train(training)(tokens(40))
        pairs = list(zip(routing.token.tolist(), routing.expert.tolist(), strict=True))
        assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_the_declared_permutation_equivariance_holds(build, tokens, name) -> None:
    built = build(name)
    built.layer.eval().double()  # sums in another order then differ by 1e-15 of their terms, which are below 1000
    some, order = tokens(40), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    some = Tokens(features=some.features.double(), ids=some.ids)
    torch.manual_seed(0)
    expected = built.layer(some, [])[order]
    torch.manual_seed(0)
    same = torch.allclose(built.layer(some.at(order), []), expected, rtol=0, atol=1e-10)
    assert same or not built.technique.equivariant


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_the_task_s_gradient_reaches_the_router_exactly_where_declared(build, tokens, name) -> None:
    built = build(name)
    if name == "mole":
        torch.nn.init.normal_(built.layer.experts.outer_b)  # zero at first, and with it the change that a weight scales
    output = built.layer(tokens(), [])
    output.square().sum().backward()
    grads = [parameter.grad for parameter in built.router.parameters()]
    reached = any(grad is not None and bool(grad.any()) for grad in grads)
    assert reached == built.technique.learned


class TestHash:
    @given(SEEDS)
    def test_features_play_no_part(self, build, tokens, seed) -> None:
        built = build("hash")
        some = tokens(30, seed)
        other = Tokens(features=torch.randn(30, WIDTH), ids=some.ids)
        assert torch.equal(built.router(some).expert, built.router(other).expert)

    def test_an_id_has_the_same_k_experts_wherever_it_stands(self, build, tokens, dense) -> None:
        built = build("hash", k=3)
        some = tokens(200)
        table = dense(built.router(some), 200)
        for word in range(VOCABULARY):
            rows = table[some.ids == word]
            assert (rows == rows[0]).all()
            assert (rows > 0).sum(1).eq(3).all()
        torch.testing.assert_close(table.sum(1), torch.ones(200))

    def test_seeds_hash_differently(self, build) -> None:
        tables = [build("hash", seed=seed).router.experts for seed in (0, 1)]
        assert not torch.equal(*tables)


class TestRandom:
    def test_all_experts_are_equally_likely_and_drawn_anew(self, build, tokens, dense) -> None:
        built = build("random")
        some = tokens(2000)
        first, second = (built.router(some) for _ in range(2))
        assert not torch.equal(first.expert, second.expert)
        counts = torch.bincount(first.expert, minlength=EXPERTS).numpy()
        assert stats.chisquare(counts).pvalue > 1e-3
        torch.testing.assert_close(dense(first, 2000).sum(1), torch.ones(2000))


class TestSoft:
    @given(SEEDS, st.integers(2, 20), st.integers(1, 4))
    def test_outputs_are_the_mixtures_written_out(self, build, tokens, seed, count, slots) -> None:
        built = build("soft", seed=seed, slots=slots)
        built.layer.double()  # both sides in float64: a term's roundings, below 1000 of 1e-16, are far from 1e-10
        some = tokens(count, seed)
        x = some.features.double()
        some = Tokens(features=x, ids=some.ids)
        logits = x @ built.router.slots
        down = torch.exp(logits) / torch.exp(logits).sum(0, keepdim=True)
        up = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
        experts = built.layer.experts
        expected = torch.zeros(count, WIDTH, dtype=torch.float64)
        for slot in range(EXPERTS * slots):
            expert = slot // slots
            mixed = sum(down[t, slot] * x[t] for t in range(count))
            hidden = torch.relu(mixed @ experts.inner[expert] + experts.inner_bias[expert, 0])
            out = hidden @ experts.outer[expert] + experts.outer_bias[expert, 0]
            expected += up[:, slot : slot + 1] * out
        torch.testing.assert_close(built.layer(some, []), expected, atol=1e-10, rtol=1e-10)

    def test_nothing_is_dropped_and_all_experts_have_as_much(self, build, tokens) -> None:
        trace = []
        build("soft", slots=3).layer(tokens(30), trace)
        (passage,) = trace
        assert passage.lost == passage.untouched() == 0
        torch.testing.assert_close(passage.load, torch.full((EXPERTS,), 3.0))


class TestMoLE:
    def test_at_its_start_it_is_the_network_that_its_experts_change(self, build, tokens) -> None:
        built = build("mole")
        some = tokens(30)
        base = built.layer.experts.base
        torch.testing.assert_close(built.layer(some, []), base.plain(some.features.unsqueeze(0))[0])

    def test_one_expert_is_lora_whatever_the_gate_says(self, build, tokens) -> None:
        built = build("mole", experts=1)
        experts = built.layer.experts
        torch.nn.init.normal_(experts.inner_b)
        torch.nn.init.normal_(experts.outer_b)
        some = tokens(30)
        base = experts.base
        inner = base.inner[0] + experts.inner_a[0] @ experts.inner_b[0]
        outer = base.outer[0] + experts.outer_a[0] @ experts.outer_b[0]
        expected = torch.relu(some.features @ inner + base.inner_bias[0]) @ outer + base.outer_bias[0]
        torch.testing.assert_close(built.layer(some, []), expected)

    def test_each_token_has_the_most_likely_expert_with_its_probability(self, build, tokens) -> None:
        built = build("mole")
        some = tokens(30)
        probabilities = built.router.gate(some.features).softmax(1)
        routing = built.router(some)
        assert torch.equal(routing.expert, probabilities.argmax(1))
        torch.testing.assert_close(routing.weight, probabilities.amax(1))
        assert routing.loss is not None
