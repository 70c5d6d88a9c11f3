"""Sampling as the contract has it, against transformers, and the tables that stand in for models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from harness.families.decode.contract import Sampling, Trace, plain
from harness.families.decode.tables import tables


@given(
    st.integers(0, 2**31),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.integers(0, 7),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_probabilities_are_those_of_transformers(seed, temperature, top_k, top_p):
    logits = 2 * torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = Sampling(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(logits)
    torch.testing.assert_close(found, expected.softmax(-1))


def test_greedy_is_one_hot_and_draws_nothing():
    sampling = Sampling(temperature=0.0)
    p = sampling.probabilities(torch.tensor([[1.0, 2.0, 0.0]]))
    assert p.tolist() == [[0, 1, 0]]
    draw = torch.Generator().manual_seed(0)
    before = draw.get_state()
    assert sampling.draw(p[0], draw) == 1
    assert torch.equal(draw.get_state(), before)


def test_weights_to_draw_by_need_not_sum_to_one():
    draw = torch.Generator().manual_seed(0)
    found = [Sampling().draw(torch.tensor([0.0, 0.02, 0.06]), draw) for _ in range(2000)]
    assert found.count(2) / 2000 == pytest.approx(0.75, abs=0.045)
    assert 0 not in found


def test_overlaps_are_what_can_be_accepted():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    trace = Trace()
    trace.sampled(p, torch.tensor([[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]]))
    trace.listed(p, [[0, 2], [1]])
    assert trace.overlaps() == pytest.approx([0.6, 1.0, 0.7, 0.1])


def test_plain_decoding_of_tables_draws_from_them():
    models = tables(torch.Generator().manual_seed(0), apart=1.0)
    decode = plain(models.target, Sampling())
    draw = torch.Generator().manual_seed(0)
    found = torch.tensor([decode([3, 1], 2, draw, Trace()) for _ in range(3000)])
    table = models.target.logits.softmax(-1)
    shares = torch.bincount(found[:, 0], minlength=5) / 3000
    torch.testing.assert_close(shares, table[3, 1], atol=0.04, rtol=0)
    after = found[found[:, 0] == int(shares.argmax())]
    shares = torch.bincount(after[:, 1], minlength=5) / len(after)
    torch.testing.assert_close(shares, table[1, after[0, 0]], atol=0.06, rtol=0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 8))
def test_tables_read_by_pieces_with_a_tree_and_through_the_exit_alike(tokens, cut):
    target = tables(torch.Generator().manual_seed(0), apart=1.0).target
    whole = target.open().read(tokens, len(tokens))
    session = target.open()
    session.read(tokens[:cut], 0)
    rest = tokens[cut:]
    if rest:
        tree = session.read_tree(rest, list(range(-1, len(rest) - 1)))
        torch.testing.assert_close(tree, whole[len(tokens) - len(rest) :])
        session.keep(range(len(rest)))
    session.rollback(0)
    for token in tokens:
        session.exit(token)
    torch.testing.assert_close(session.resolve(), whole)


def test_who_writes_into_logits_changes_no_table():
    target = tables(torch.Generator().manual_seed(0), apart=1.0).target
    before = [tensor.clone() for tensor in (target.logits, target.exit_logits, target.head_logits)]
    session = target.open()
    session.read([1, 2, 3], 2).zero_()
    session.read([0], 1).zero_()
    session.heads(-1).zero_()
    session.read_tree([1], [-1]).zero_()
    session.rollback(4)
    session.exit(1).zero_()
    session.resolve().zero_()
    assert all(map(torch.equal, before, (target.logits, target.exit_logits, target.head_logits)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "sampling",
    [
        *(Sampling(temperature=temperature) for temperature in (1e-38, 1e-40, 1e-46, 5e-324)),
        *(Sampling(temperature=1e-40, top_k=2, top_p=0.5), Sampling(top_p=1e-40), Sampling(top_p=5e-324)),
    ],
    ids=str,
)
def test_a_tiny_temperature_or_mass_is_greedy_where_no_logits_are_equal(sampling: Sampling, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1e30, -1e30, -torch.inf]], dtype=dtype)
    expected = Sampling(temperature=0.0).probabilities(logits)
    assert torch.equal(sampling.probabilities(logits), expected)
