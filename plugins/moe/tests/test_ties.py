"""Equal scores: every router takes the expert, or the token, with the lowest index."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness_moe import register_techniques
from harness_moe.base import highest
from hypothesis import given
from hypothesis import strategies as st

from harness.families.route.contract import Layout, Sparse, Tokens

TECHNIQUES = sorted(technique.id for technique in register_techniques())
ASSIGNING = sorted(set(TECHNIQUES) - {"dense-active", "dense-total", "soft", "hash", "random"})


def equal(count: int, width: int = 6) -> Tokens:
    """Return copies of one token."""
    return Tokens(features=torch.ones(count, width), ids=torch.zeros(count, dtype=torch.long))


def undecided(build, name: str, experts: int) -> object:
    """Return a router in evaluation mode all of whose logits are 0."""
    built = build(name)
    task = replace(built.task, experts=experts)
    parameters = {"experts": experts} if name in ("mole", "widenet") else {}
    technique = type(built.technique)(**{**keywords(name), **parameters})
    layout: Layout = technique.layout(task)
    router = technique.router(task, layout).eval()
    for parameter in router.parameters():
        torch.nn.init.zeros_(parameter)
    return router


def keywords(name: str) -> dict:
    return dict(next(technique.params for technique in register_techniques() if technique.id == name))


@pytest.mark.parametrize("experts", [4, 8, 64])
@pytest.mark.parametrize("name", sorted(set(ASSIGNING) - {"expert-choice"}))
def test_a_token_goes_to_the_lowest_of_experts_with_equal_logits(build, name: str, experts: int) -> None:
    routing = undecided(build, name, experts)(equal(8))
    assert isinstance(routing, Sparse)
    for token in range(8):
        chosen = routing.expert[routing.token == token].tolist()
        assert chosen == list(range(len(chosen)))
        assert chosen


def test_an_expert_takes_the_first_of_tokens_with_equal_scores(build) -> None:
    routing = undecided(build, "expert-choice", 4)(equal(64))
    for expert in range(4):
        assert routing.token[routing.expert == expert].tolist() == list(range(32))


@pytest.mark.parametrize("name", TECHNIQUES)
def test_copies_of_one_token_have_one_output_where_a_router_is_declared_equivariant(build, name: str) -> None:
    built = build(name)
    for parameter in built.router.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        found = built.layer.eval()(equal(64), [])
    assert built.technique.equivariant <= torch.allclose(found, found[:1].expand_as(found), atol=1e-6)


def test_a_choice_by_experts_is_equivariant_where_no_two_tokens_are_equal(build, tokens) -> None:
    built = build("expert-choice")
    built.layer.eval().double()
    some, order = tokens(40), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    some = Tokens(features=some.features.double(), ids=some.ids)
    expected = built.layer(some, [])[order]
    torch.testing.assert_close(built.layer(some.at(order), []), expected, rtol=0, atol=1e-10)
    assert not built.technique.equivariant


@given(
    values=st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=5), k=st.integers(1, 7)
)
def test_the_highest_are_those_of_a_sort_by_score_and_index(values: list[list[int]], k: int) -> None:
    scores = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    found, indices = highest(scores, k)
    for row, own in enumerate(values):
        expected = sorted(range(7), key=lambda index, own=own: (-own[index], index))[:k]
        assert indices[row].tolist() == expected
        assert found[row].tolist() == [own[index] for index in expected]
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert torch.equal(gradient, torch.zeros_like(scores).scatter(1, indices, 1.0))
