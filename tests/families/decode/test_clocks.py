"""Rounds as the judge counts them, and the theory of how much faster they can be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.families.decode.clocks import Log, Rounds, Speed, Watch, expected_tokens, rounds_of, speed_figures
from harness.families.decode.contract import Models, Sampling, Trace, plain
from harness.families.decode.models import Shape, TextModel
from harness.families.decode.tables import tables
from tests.mutants.mutant_decoders import AcceptsAll, Speculating


def watched(technique, count=17, apart=0.7, seed=0):
    watch = Watch(tables(torch.Generator().manual_seed(0), apart=apart))
    decode = technique.open(watch.models, Sampling())
    text = decode([0, 1, 2], count, torch.Generator().manual_seed(seed), Trace())
    return watch.log, text


def test_rounds_are_counted_from_what_the_target_was_asked():
    class Told(Speculating):
        """Tells what it accepted, to be compared with what the judge found."""

        told: list[int]

        def open(self, models, sampling):
            self.told = []
            return super().open(models, sampling)

        def accepts(self, p, q, token, draw):
            found = super().accepts(p, q, token, draw)
            self.told.append(found)
            return found

    technique = Told(3)
    log, text = watched(technique, count=40)
    proposals = log.proposals(3 + len(text))
    assert all(proposed == 3 for proposed, _ in proposals)
    accepted = sum(accepted for _, accepted in proposals)
    assert 0 <= sum(technique.told) - accepted <= 3  # the text may end within the last round
    assert sum(1 + count for _, count in proposals) == len(text)


def test_a_decoder_that_accepts_all_makes_whole_rounds():
    log, text = watched(AcceptsAll(3), count=16)
    assert log.proposals(3 + len(text)) == [(3, 3)] * 4


@given(st.floats(0, 1), st.integers(0, 12))
def test_expected_tokens_are_the_sum_of_powers(alpha, proposed):
    assert expected_tokens(alpha, proposed) == pytest.approx(sum(alpha**i for i in range(proposed + 1)))


def test_rounds_of_independent_acceptance_are_as_theory_has_them():
    draw = torch.Generator().manual_seed(0)
    alpha, gamma = 0.7, 4
    hits = torch.rand(4000, gamma, generator=draw) < alpha
    accepted = hits.long().cumprod(1).sum(1).tolist()
    rounds = rounds_of([(gamma, count) for count in accepted], [])
    assert rounds.alpha == pytest.approx(alpha, abs=0.01)
    assert rounds.tau / rounds.expected == pytest.approx(1, abs=0.02)
    assert rounds.acceptance == pytest.approx(100 * (rounds.tau - 1) / gamma)


def test_acceptance_by_position_is_among_the_rounds_that_reached_it():
    rounds = rounds_of([(3, 0), (3, 1), (3, 3), (2, 2), (1, 0), (0, 0)], [])
    assert rounds.by_position == pytest.approx([100 * 3 / 5, 100 * 2 / 3, 100 * 1 / 1])
    assert rounds_of([(0, 0)], []).by_position == []
    never = rounds_of([(4, 0)] * 3, [])
    assert never.by_position == [0.0], "position 2 was never reached, so that nothing is known of it"


def test_acceptance_by_position_is_alpha_where_it_is_independent_and_gives_the_tokens_a_round_in_any_case():
    draw = torch.Generator().manual_seed(0)
    gamma, chances = 4, torch.tensor([0.9, 0.7, 0.5, 0.3])
    hits = torch.rand(20_000, gamma, generator=draw) < chances
    rounds = rounds_of([(gamma, count) for count in hits.long().cumprod(1).sum(1).tolist()], [])
    assert rounds.by_position == pytest.approx((100 * chances).tolist(), abs=2.5)
    reached = torch.tensor(rounds.by_position).div(100).cumprod(0).sum()
    assert rounds.tau == pytest.approx(1 + float(reached)), "the chance of k tokens is the product of those up to k"


def test_plain_rounds_have_no_proposals():
    rounds = rounds_of([(0, 0)] * 5, [])
    assert (rounds.tau, rounds.expected, rounds.alpha, rounds.acceptance) == (1, 1, 0, 0)


def pace(total, prompt, draft, target, steps):
    log = Log(whole_s=total, prompt_s=prompt, draft_s=draft, target_s=target, steps=steps)
    return Speed(total=total, logs=[log], prompts=1)


def test_a_decoder_that_spends_no_time_between_models_reaches_what_theory_says():
    rounds = Rounds(proposals=[(4, 2)] * 10, alpha=0.5)
    base = pace(total=31.0, prompt=1.0, draft=0.0, target=30.0, steps=30)
    rounds_needed = 30 / rounds.expected
    draft, verify = 0.4 * rounds_needed, 1.5 * rounds_needed
    own = pace(total=1.0 + draft + verify, prompt=1.0, draft=draft, target=verify, steps=rounds_needed)
    figures = speed_figures(own, base, rounds)
    assert figures["draft_cost"] == pytest.approx(0.1)
    assert figures["verify_cost"] == pytest.approx(1.5)
    assert figures["theoretical_speedup"] == pytest.approx(expected_tokens(0.5, 4) / (4 * 0.1 + 1.5))
    assert figures["fraction_reached"] == pytest.approx(100)
    assert figures["speedup"] == pytest.approx(31 / own.total)


def test_time_between_models_costs_a_share_of_what_could_be_reached():
    rounds = Rounds(proposals=[(0, 0)] * 10, alpha=0.0)
    base = pace(total=11.0, prompt=1.0, draft=0.0, target=10.0, steps=10)
    own = pace(total=13.5, prompt=1.0, draft=0.0, target=10.0, steps=10)
    assert speed_figures(own, base, rounds)["fraction_reached"] == pytest.approx(80)


def test_bytes_are_those_held_when_a_read_begins():
    with torch.random.fork_rng():
        model = TextModel(Shape(vocabulary=5, width=8, layers=2)).requires_grad_(False)
    watch = Watch(Models(target=model, drafts={}))
    plain(watch.models.target, Sampling())([1, 2, 3], 5, torch.Generator().manual_seed(0), Trace())
    assert watch.log.cache_bytes == (3 + 3) * 4 * 2 * 2 * 8  # the fifth token is never read, the fourth is last


def test_each_prompt_is_paired_with_itself_over_all_passes():
    rounds = Rounds(proposals=[(0, 0)], alpha=0.0)
    paces = [
        Speed(total=sum(whole), logs=[Log(whole_s=seconds, target_s=seconds, steps=1) for seconds in whole], prompts=2)
        for whole in ([1.0, 4.0, 2.0, 2.0], [2.0, 2.0, 4.0, 1.0])  # two passes over two prompts
    ]
    assert [pace.by_prompt for pace in paces] == [[3.0, 6.0], [6.0, 3.0]]
    figures = speed_figures(paces[1], paces[0], rounds)
    assert (figures["speedup"], figures["speedup_least"]) == (pytest.approx(1.0), pytest.approx(0.5))
