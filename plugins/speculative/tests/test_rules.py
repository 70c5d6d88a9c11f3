"""Accepting and replacing: the token that comes out is drawn from the target, whatever proposed it."""

from __future__ import annotations

import pytest
import torch
from harness_speculative.rules import accept, accept_certain, residual
from hypothesis import given
from hypothesis import strategies as st

from harness.families.decode.contract import Sampling

SIZE = 4


@st.composite
def distributions(draw, size=SIZE):
    """Probabilities, some of them zero."""
    weights = draw(st.lists(st.integers(0, 20), min_size=size, max_size=size).filter(any))
    return torch.tensor(weights, dtype=torch.float64) / sum(weights)


@given(distributions(), distributions())
def test_what_is_accepted_and_what_replaces_it_add_up_to_the_target(p, q):
    accepted = q * torch.minimum(torch.ones(SIZE, dtype=torch.float64), p / q.clamp(min=1e-300))
    rejected = 1 - accepted.sum()
    rest = residual(p, q)
    assert float(rest.sum()) == pytest.approx(float(rejected), abs=1e-12)
    replaced = rejected * rest / rest.sum() if rest.any() else torch.zeros(SIZE)
    torch.testing.assert_close(accepted + replaced, p, rtol=0, atol=1e-12)


@given(distributions(), distributions(), distributions())
def test_the_chance_of_acceptance_is_the_overlap(p, q, after):
    draw = torch.Generator().manual_seed(0)
    sampling = Sampling()
    hits = 0
    for _ in range(400):
        token = sampling.draw(q, draw)
        hits += accept(torch.stack([p, after]), q[None], [token], sampling, draw)[0]
    overlap = float(torch.minimum(p, q).sum())
    assert abs(hits / 400 - overlap) <= 4.5 * (overlap * (1 - overlap) / 400) ** 0.5 + 1e-9


@given(st.integers(0, 2**31), distributions(), distributions())
def test_a_target_that_equals_the_draft_accepts_everything(seed, p, after):
    draw = torch.Generator().manual_seed(seed)
    sampling = Sampling()
    token = sampling.draw(p, draw)
    accepted, following = accept(torch.stack([p, after]), p[None], [token], sampling, draw)
    assert accepted == 1
    assert after[following] > 0


@given(st.integers(0, 2**31), distributions(), distributions())
def test_what_replaces_a_proposal_is_something_the_draft_thought_too_little_of(seed, p, q):
    draw = torch.Generator().manual_seed(seed)
    sampling = Sampling()
    token = sampling.draw(q, draw)
    accepted, replacement = accept(torch.stack([p, p]), q[None], [token], sampling, draw)
    if not accepted:
        assert p[replacement] > q[replacement]


def test_sure_proposals_are_accepted_as_often_as_the_target_says():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    draw = torch.Generator().manual_seed(0)
    found = [accept_certain(p, [1], Sampling(), draw) for _ in range(4000)]
    accepted = sum(count for count, _ in found)
    assert accepted / 4000 == pytest.approx(0.2, abs=4.5 * (0.16 / 4000) ** 0.5)
    replaced = [token for count, token in found if not count]
    assert 1 not in replaced
    assert replaced.count(0) / len(replaced) == pytest.approx(0.7 / 0.8, abs=4.5 * (0.11 / len(replaced)) ** 0.5)


def test_greedy_accepts_exactly_the_most_likely():
    sampling = Sampling(temperature=0.0)
    p = sampling.probabilities(torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]]))
    q = sampling.probabilities(torch.tensor([[0.0, 1.0, 0.5]]))
    draw = torch.Generator().manual_seed(0)
    assert accept(p, q, [1], sampling, draw) == (1, 0)
    wrong = sampling.probabilities(torch.tensor([[0.0, 1.0, 2.5]]))
    assert accept(p, wrong, [2], sampling, draw) == (0, 1)
