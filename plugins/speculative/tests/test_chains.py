"""Chains of proposals: whatever proposes, the text is the target's, and the sessions hold what they should."""

from __future__ import annotations

import pytest
import torch
from harness_speculative.chains import AdaptivePace, _LookupProposer
from hypothesis import given
from hypothesis import strategies as st

from harness.api import NotApplicable, UsageError
from harness.families.decode.checks import examine
from harness.families.decode.clocks import Watch, rounds_of
from harness.families.decode.contract import Models, Sampling, Trace

CHAINS = ("draft", "draft-layer", "adaptive", "early-exit", "lookup")


@pytest.mark.parametrize("name", ["autoregressive", "no-cache", "gqa", "mqa", *CHAINS])
def test_greedy_text_is_that_of_plain_decoding(name, build, decode, text_models):
    expected = decode(build("autoregressive"), text_models, count=30, temperature=0.0)
    assert decode(build(name), text_models, count=30, temperature=0.0) == expected


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("name", CHAINS)
def test_exactly_as_many_tokens_as_asked_for(name, count, build, decode, text_models):
    assert len(decode(build(name), text_models, count=count)) == count


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("gamma", [1, 3])
def test_samples_are_the_targets(name, gamma, build):
    verdict = examine(build(name, gamma=gamma), Sampling(), draws=400, seed=0)
    assert verdict.exact, verdict


def test_without_a_cache_the_same_tokens_are_drawn(build, decode, text_models):
    found = [decode(build(name), text_models, count=20, seed=3) for name in ("autoregressive", "no-cache")]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CHAINS)
def test_alpha_told_is_the_share_accepted_of_what_was_reached(name, build, table_models):
    technique, sampling = build(name), Sampling()
    watch = Watch(table_models())
    decoder = technique.open(watch.models, sampling)
    draw = torch.Generator().manual_seed(0)
    proposals, overlaps = [], []
    for _ in range(250):
        log, trace = watch.start(), Trace()
        text = decoder([0, 1, 2, 0, 1], 12, draw, trace)
        proposals += log.proposals(5 + len(text))
        overlaps += trace.overlaps()
    told, counted = rounds_of(proposals, overlaps).alpha, rounds_of(proposals, []).alpha
    assert told == pytest.approx(counted, abs=0.05)
    assert len(overlaps) == sum(min(accepted + 1, proposed) for proposed, accepted in proposals)


def test_a_draft_that_is_the_target_is_always_accepted(build, decode, table_models):
    watch = Watch(table_models(apart=0.0))
    decode(build("draft", gamma=3), watch.models, count=13)
    assert watch.log.proposals(5 + 13) == [(3, 3)] * 3


def test_adaptive_rounds_grow_by_two_and_shrink_by_one():
    pace = AdaptivePace(4, 7)
    seen = []
    for accepted_whole in (True, True, False, False, True):
        pace.told(pace.gamma, pace.gamma if accepted_whole else 0)
        seen.append(pace.gamma)
    assert seen == [6, 7, 6, 5, 7]
    for _ in range(9):
        pace.told(pace.gamma, 0)
    assert pace.gamma == 1


@given(st.lists(st.integers(0, 2), min_size=2, max_size=30), st.integers(1, 4), st.integers(1, 3))
def test_what_is_looked_up_followed_the_longest_n_gram_where_it_last_stood(text, count, ngram):
    proposer = _LookupProposer(None, ngram)
    for end in range(2, len(text) + 1):  # as the text grows
        found, draft = proposer.propose(text[:end], count, None)
    assert draft is None
    expected = []
    for size in range(min(ngram, len(text)), 0, -1):
        ends = [end for end in range(size, len(text)) if text[end - size : end] == text[-size:]]
        if ends:
            expected = text[ends[-1] : ends[-1] + count]
            break
    assert found == expected


def test_an_unknown_draft_and_a_gamma_of_nothing_are_refused(build, text_models):
    with pytest.raises(UsageError, match="draft = 'huge': expected one of 'tiny', 'small'"):
        build("draft", draft="huge").open(text_models, Sampling())
    for wrong in (0, 1.5, True):
        with pytest.raises(UsageError, match="gamma"):
            build("draft", gamma=wrong)


def test_a_target_without_an_exit_has_nothing_to_exit_from(build, text_models):
    with pytest.raises(NotApplicable, match="no early exit"):
        build("early-exit").open(Models(target=text_models.drafts["small"], drafts={}), Sampling())
