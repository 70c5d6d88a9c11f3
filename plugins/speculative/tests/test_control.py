"""Controlled generation: estimates without bias, texts from the right distribution, and how much was asked."""

from __future__ import annotations

import itertools
import math
from contextlib import nullcontext

import pytest
import torch
from harness_speculative.control import adaptive_rejection, masked, unmasked
from hypothesis import given
from hypothesis import strategies as st

from harness.api import CaseContext, Incorrect, UsageError
from harness.families.control.contract import ControlTask
from harness.families.control.workloads import Brackets, gate


def one_step(chances, allowed):
    return ControlTask(
        vocabulary=len(chances),
        length=1,
        particles=1,
        _chances=lambda _: chances,
        _allowed=lambda _, token: allowed[token],
        _score=lambda _: 1.0,
    )


def every_order(chances):
    """All orders that draws without replacement come in, with their probabilities."""
    for order in itertools.permutations([token for token, chance in enumerate(chances) if chance > 0]):
        probability, left = 1.0, 1.0
        for token in order:
            probability *= chances[token] / left
            left -= chances[token]
        yield order, probability


@st.composite
def steps(draw):
    weights = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    allowed = draw(st.lists(st.booleans(), min_size=len(weights), max_size=len(weights)))
    return [weight / sum(weights) for weight in weights], allowed


def walked(order, chances, allowed):
    """The estimate and token of one order, by the paper's recursion written out."""
    left, rejected = 1.0, []
    for place, token in enumerate(order):
        share = chances[token] / left
        if allowed[token]:
            tail = 1.0 if place + 1 == len(order) else float(allowed[order[place + 1]])
            found = share + (1 - share) * tail
            for earlier in reversed(rejected):
                found = (1 - earlier) * found
            return token, found
        rejected.append(share)
        left -= chances[token]
    return None, 0.0


@given(steps())
def test_the_recursion_is_unbiased_and_its_token_exact_by_enumeration(step):
    chances, allowed = step
    mass = sum(chance for chance, fine in zip(chances, allowed, strict=True) if fine)
    estimate, tokens = 0.0, dict.fromkeys(range(len(chances)), 0.0)
    for order, probability in every_order(chances):
        token, found = walked(order, chances, allowed)
        estimate += probability * found
        if token is not None:
            tokens[token] += probability
    assert estimate == pytest.approx(mass, abs=1e-12)
    for token, share in tokens.items():
        assert share == pytest.approx(chances[token] / mass if allowed[token] else 0.0, abs=1e-12)


@given(steps(), st.integers(0, 2**31))
def test_what_is_drawn_is_one_of_the_orders(step, seed):
    chances, allowed = step
    task = one_step(chances, allowed)
    found = adaptive_rejection(task, (), torch.Generator().manual_seed(seed))
    possible = {walked(order, chances, allowed) for order, _ in every_order(chances)}
    possible = {(token or 0 if token is not None else 0, round(estimate, 9)) for token, estimate in possible}
    assert (found[0], round(found[1], 9)) in possible


def test_right_weights_that_a_few_populations_make_look_wrong_are_accepted(build):
    """On seed 11, the mean weight of a rare token is 6.9 standard errors off on the first sixty populations."""
    (note,) = gate(build("awrs"), 11)
    assert "off by at most" in note


@pytest.mark.parametrize("proposal", [masked, unmasked, adaptive_rejection], ids=lambda proposal: proposal.__name__)
def test_estimates_have_the_mass_that_is_allowed_as_their_mean_and_tokens_their_share(proposal):
    chances, allowed = [0.45, 0.05, 0.3, 0.2], [False, True, False, True]
    draw = torch.Generator().manual_seed(0)
    found = [proposal(one_step(chances, allowed), (), draw) for _ in range(4000)]
    estimates = torch.tensor([estimate for _, estimate in found], dtype=torch.float64)
    assert abs(float(estimates.mean()) - 0.25) <= 4.5 * float(estimates.std()) / math.sqrt(4000) + 1e-12
    weighted = sum(estimate for token, estimate in found if token == 3) / 4000
    assert weighted == pytest.approx(0.2, abs=0.02)
    assert not any(estimate for token, estimate in found if not allowed[token])


def test_masking_asks_about_all_and_rejection_about_few():
    chances, allowed = [0.7, 0.1, 0.1, 0.1], [True, True, False, False]
    asked = {}
    for proposal in (masked, unmasked, adaptive_rejection):
        task = one_step(chances, allowed)
        draw = torch.Generator().manual_seed(0)
        for _ in range(300):
            proposal(task, (), draw)
        asked[proposal.__name__] = task.asked["constraint"] / 300
    assert asked["masked"] == 4
    assert asked["unmasked"] == 1
    assert 2 <= asked["adaptive_rejection"] < 2.5


def first_accept(task, text, draw):
    """The mass that was not rejected before the first token that is allowed: too much in the mean."""
    chances = torch.tensor(task.chances(text), dtype=torch.float64)
    left = 1.0
    for token in torch.multinomial(chances, len(chances), generator=draw).tolist():
        if task.allowed(text, token):
            return token, left
        left -= float(chances[token])
    return 0, 0.0


def test_the_judge_catches_weights_that_are_off(tmp_path, build):
    context = CaseContext(
        seed=0,
        device="cpu",
        settings={"particles": 10, "populations": 5},
        cache=tmp_path,
        phase=lambda _: nullcontext(),
    )
    technique = build("awrs")
    Brackets().check(technique, context)
    technique.proposal = first_accept
    with pytest.raises(Incorrect, match=r"mean weight of .* standard errors"):
        Brackets().check(technique, context)


def test_what_makes_no_sense_is_refused(build):
    with pytest.raises(UsageError, match="proposal = 'magic'"):
        build("awrs", proposal="magic")
