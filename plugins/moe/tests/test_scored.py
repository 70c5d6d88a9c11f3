"""Top-k of a score, the bias that follows the load, and the auxiliary losses, against their equations in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_moe.base import balance_loss, shares, z_loss
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.families.route.balance import max_violation
from harness.families.route.contract import Tokens

EXPERTS = 4
SEEDS = st.integers(0, 10_000)
COUNTS = st.integers(8, 40)


def scores_of(built, given_tokens, kind):
    logits = given_tokens.features.double().numpy() @ built.router.gate.weight.detach().double().numpy().T
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def expected_weights(scores, selection, k):
    """The k best of each row of ``selection``, weighted by ``scores``, renormalised; written out."""
    table = np.zeros_like(scores)
    for row, wanted in enumerate(selection):
        best = sorted(range(len(wanted)), key=lambda expert: -wanted[expert])[:k]
        total = sum(scores[row][expert] for expert in best)
        for expert in best:
            table[row][expert] = scores[row][expert] / total
    return table


@given(SEEDS, COUNTS, st.integers(1, EXPERTS), st.sampled_from(["softmax", "sigmoid"]))
def test_weights_are_the_renormalised_best_scores(build, tokens, dense, seed, count, k, kind) -> None:
    built = build("top-k", seed=seed, k=k, score=kind)
    some = tokens(count, seed)
    scores = scores_of(built, some, kind)
    found = dense(built.router(some), count).detach().double().numpy()
    np.testing.assert_allclose(found, expected_weights(scores, scores, k), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


@given(SEEDS)
def test_all_experts_are_the_soft_mixture(build, tokens, seed) -> None:
    built = build("top-k", seed=seed, k=EXPERTS)
    some = tokens(16, seed)
    found = built.layer(some, [])
    every = built.layer.experts.plain(some.features.expand(EXPERTS, -1, -1))
    mixture = torch.einsum("te,etd->td", built.router.gate(some.features).softmax(1), every)
    torch.testing.assert_close(found, mixture)


BIASED = st.sampled_from(["softmax-bias", "sigmoid-bias"])


@given(SEEDS, BIASED)
def test_the_bias_enters_the_choice_and_not_the_weight(build, tokens, dense, seed, name) -> None:
    built = build(name, seed=seed)
    some = tokens(24, seed)
    built.router.bias += torch.randn(EXPERTS, generator=torch.Generator().manual_seed(seed))
    scores = scores_of(built, some, "softmax" if name == "softmax-bias" else "sigmoid")
    selection = scores + built.router.bias.double().numpy()
    found = dense(built.router(some), 24).detach().double().numpy()
    np.testing.assert_allclose(found, expected_weights(scores, selection, 2), atol=1e-5)


@given(SEEDS, BIASED, st.floats(-3, 3))
def test_a_uniform_shift_of_the_bias_changes_nothing(build, tokens, dense, seed, name, shift) -> None:
    built = build(name, seed=seed)
    some = tokens(24, seed)
    before = dense(built.router(some), 24)
    built.router.bias += shift
    torch.testing.assert_close(dense(built.router(some), 24), before)


@given(SEEDS, BIASED, st.floats(1e-4, 0.1), st.integers(1, 20))
def test_no_bias_grows_beyond_its_steps(build, tokens, seed, name, u, steps) -> None:
    built = build(name, seed=seed, u=u)
    for step in range(steps):
        trace = []
        built.layer(tokens(24, seed + step), trace)
        built.router.after_step(trace[0].load)
    assert built.router.bias.abs().max() <= steps * u * (1 + 1e-5)


@given(st.lists(st.integers(0, 50), min_size=EXPERTS, max_size=EXPERTS), st.floats(1e-3, 0.1))
def test_the_update_is_the_sign_of_the_mean_load_minus_the_load(build, load, u) -> None:
    built = build("sigmoid-bias", u=u)
    built.router.after_step(torch.tensor(load, dtype=torch.float32))
    mean = sum(load) / EXPERTS
    assert built.router.bias.tolist() == pytest.approx([u * np.sign(mean - count) for count in load], rel=1e-5)


@pytest.mark.parametrize("name", ["top-k", "top-k-aux", "sigmoid"])
def test_without_u_the_bias_stays_at_zero(build, name) -> None:
    built = build(name)
    built.router.after_step(torch.tensor([9.0, 0, 0, 0]))
    assert not built.router.bias.any()


def test_a_prediction_leaves_the_bias_as_it_is(build, tokens) -> None:
    built = build("sigmoid-bias")
    before = built.router.bias.clone()
    built.layer.eval()(tokens(), [])
    assert torch.equal(built.router.bias, before)


@given(SEEDS, BIASED, st.floats(1e-3, 0.05), st.integers(1, 3))
def test_frozen_scores_move_tokens_from_overloaded_to_underloaded_experts_only(
    build, tokens, dense, seed, name, u, k
) -> None:
    built = build(name, seed=seed, u=u, k=k)
    some = tokens(40, seed)
    before = dense(built.router(some), 40) > 0
    for _ in range(15):
        load = before.sum(0).float()
        built.router.after_step(load)
        after = dense(built.router(some), 40) > 0
        gained, lost = after & ~before, before & ~after
        assert not gained[:, load > load.mean()].any()
        assert not lost[:, load < load.mean()].any()
        before = after


def test_with_scores_frozen_the_overload_goes(build, tokens) -> None:
    built = build("sigmoid-bias", u=0.01)
    some = Tokens(features=tokens(400).features + 1, ids=tokens(400).ids)  # off centre, so that some experts suit most
    violations = []
    for _ in range(200):
        trace = []
        built.layer(some, trace)
        violations.append(max_violation(trace[0].load).item())
        built.router.after_step(trace[0].load)
    assert violations[0] > 0.3
    assert max(violations[-20:]) < 0.1


@given(SEEDS, COUNTS, st.integers(1, EXPERTS))
def test_the_balance_loss_is_its_sum_written_out(build, tokens, seed, count, k) -> None:
    built = build("top-k-aux", seed=seed, k=k, alpha=0.3)
    some = tokens(count, seed)
    scores = scores_of(built, some, "softmax")
    chosen = expected_weights(scores, scores, k) > 0
    expected = EXPERTS * sum(
        chosen[:, expert].sum() / (count * k) * scores[:, expert].mean() for expert in range(EXPERTS)
    )
    assert built.router(some).loss.item() == pytest.approx(0.3 * expected, rel=1e-4)


@pytest.mark.parametrize("k", [1, 2])
def test_the_balance_loss_equals_transformers_on_one_layer(k) -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = torch.randn(64, EXPERTS) * 2
    probabilities = logits.softmax(1)
    ours = balance_loss(probabilities, shares(probabilities.topk(k).indices, EXPERTS))
    theirs = load_balancing_loss_func((logits,), EXPERTS, top_k=k)
    assert ours.item() == pytest.approx(float(theirs) / k, rel=1e-5)  # it counts a token k times, we share it out


def test_the_balance_loss_is_one_at_balance_and_the_number_of_experts_at_collapse() -> None:
    even, collapse = torch.full((8, EXPERTS), 1 / EXPERTS), torch.eye(EXPERTS)[0].expand(8, -1)
    assert balance_loss(even, even[0]).item() == pytest.approx(1)
    assert balance_loss(collapse, collapse[0]).item() == pytest.approx(EXPERTS)


def test_the_balance_loss_has_a_gradient_for_the_gate_that_takes_from_the_fullest(build, tokens) -> None:
    built = build("top-k-aux", alpha=1.0)
    some = tokens(64)
    routing = built.router(some)
    load = torch.bincount(routing.expert, minlength=EXPERTS)
    before = built.router.gate(some.features).softmax(1).mean(0)
    routing.loss.backward()
    with torch.no_grad():
        built.router.gate.weight -= 0.01 * built.router.gate.weight.grad
    after = built.router.gate(some.features).softmax(1).mean(0)
    assert after[load.argmax()] < before[load.argmax()]


@given(SEEDS, COUNTS)
def test_the_z_loss_is_the_mean_squared_log_partition(build, tokens, seed, count) -> None:
    built = build("top-k-z", seed=seed, z=0.2)
    some = tokens(count, seed)
    logits = some.features.double().numpy() @ built.router.gate.weight.detach().double().numpy().T
    expected = np.mean(np.log(np.exp(logits).sum(1)) ** 2)
    assert built.router(some).loss.item() == pytest.approx(0.2 * expected, rel=1e-4)


def test_zero_logits_have_the_z_loss_of_the_number_of_experts() -> None:
    assert z_loss(torch.zeros(5, EXPERTS)).item() == pytest.approx(math.log(EXPERTS) ** 2)


@pytest.mark.parametrize("name", ["top-k-aux", "top-k-z"])
def test_there_is_no_auxiliary_loss_at_test(build, tokens, name) -> None:
    built = build(name)
    assert built.router(tokens()).loss is not None
    assert built.router.eval()(tokens()).loss is None


def test_an_unknown_score_is_refused(build) -> None:
    with pytest.raises(UsageError, match="score = 'tanh': expected one of 'softmax', 'sigmoid'"):
        build("top-k", score="tanh")


def test_more_choices_than_experts_are_refused(build) -> None:
    with pytest.raises(UsageError, match=f"k = {EXPERTS + 1}: expected a whole number from 1 to {EXPERTS}"):
        build("top-k", k=EXPERTS + 1)


def test_all_choices_of_a_token_go_before_those_of_the_next(build, tokens) -> None:
    routing = build("top-k").router(tokens(10))
    assert routing.token.tolist() == [token for token in range(10) for _ in range(2)]
    assert (routing.weight[::2] >= routing.weight[1::2]).all()
