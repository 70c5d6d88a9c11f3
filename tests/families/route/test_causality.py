"""The gate for language models: who sees the future gets no score, whatever it says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.api import Incorrect, NotApplicable
from harness.families.route.causality import TOLERANCE, leak, require_causality, sway
from harness.families.route.contract import Sparse, Tokens
from harness.families.route.models import CharTransformer
from harness.families.route.training import Problem, start
from harness.families.route.workloads.text import CharLm
from tests.families.conftest import Context
from tests.families.route.routers import Plain, leaking, top2

FEW = {"steps": 4, "batch_size": 128}


@pytest.fixture
def problem(context: Context) -> Problem:
    with torch.random.fork_rng(devices=[]):
        return CharLm().problem(context("charlm-moe", **FEW))


def model_with(rule: object, problem: Problem) -> CharTransformer:
    with torch.random.fork_rng(devices=[]):
        model = start(Plain(rule), problem).model
    assert isinstance(model, CharTransformer)
    return model


def with_room_for(places: int) -> object:
    def rule(logits: Tensor, tokens: Tokens) -> Sparse:
        return replace(top2(logits, tokens), capacity=places)

    return rule


def by_position(logits: Tensor, tokens: Tokens) -> Sparse:
    """Both choices of a token before those of the next: full experts turn later tokens away, never earlier ones."""
    found = top2(logits, tokens)
    order = torch.argsort(found.token, stable=True)
    return Sparse(
        token=found.token[order], expert=found.expert[order], weight=found.weight[order], capacity=len(tokens) // 5
    )


def test_what_chooses_for_each_token_alone_is_causal_and_alone(problem: Problem) -> None:
    model = model_with(top2, problem)
    batch = problem.data.validation[0]
    assert leak(model, batch, 96, 0) <= TOLERANCE
    assert sway(model, batch, 96, 0) <= TOLERANCE


@pytest.mark.parametrize("rule", [leaking, with_room_for(7)], ids=["experts choose", "second choices wait"])
def test_what_looks_ahead_leaks(rule: object, problem: Problem) -> None:
    assert leak(model_with(rule, problem), problem.data.validation[0], 96, 0) > 10 * TOLERANCE


def test_dropping_by_position_is_causal_but_depends_on_the_batch(problem: Problem) -> None:
    model = model_with(by_position, problem)
    batch = problem.data.validation[0]
    assert leak(model, batch, 96, 0) <= TOLERANCE
    assert sway(model, batch, 96, 0) > 10 * TOLERANCE


def test_an_attention_without_a_mask_would_be_found(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(top2, problem)
    masked = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "harness.families.route.models.functional.scaled_dot_product_attention",
        lambda query, key, value, **_: masked(query, key, value),
    )
    assert leak(model, problem.data.validation[0], 96, 0) > 10 * TOLERANCE


def test_a_leak_that_is_declared_is_skipped_and_one_that_is_not_is_incorrect(problem: Problem) -> None:
    model = model_with(leaking, problem)
    batch = problem.data.validation[0]
    with pytest.raises(NotApplicable, match=r"^leaks: what it predicts depends on characters yet to come"):
        require_causality(Plain(causal=False), model, batch, 96, 0)
    with pytest.raises(Incorrect, match=r"^leaks: .* declared causal"):
        require_causality(Plain(causal=True), model, batch, 96, 0)


def test_who_says_it_leaks_but_does_not_is_scored(problem: Problem) -> None:
    require_causality(Plain(causal=False), model_with(top2, problem), problem.data.validation[0], 96, 0)


@pytest.mark.parametrize("ask", ["evaluate", "check"])
def test_every_lane_is_gated(ask: str, context: Context) -> None:
    technique = Plain(leaking, weights=(0.0, 1.0), causal=False, equivariant=False)
    with pytest.raises(NotApplicable, match="leaks"):
        getattr(CharLm(), ask)(technique, context("charlm-moe", **FEW))
