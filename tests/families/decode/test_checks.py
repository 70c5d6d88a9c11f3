"""The exactness gate: passes decoders that are right, catches each way of being wrong, and says by how much."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chisquare, kstest

from harness.api import Incorrect
from harness.families.decode.checks import examine, follow, joint, require_greedy, require_greedy_on_tables
from harness.families.decode.contract import Sampling, Trace, plain
from harness.families.decode.tables import VOCABULARY, probabilities, tables
from tests.mutants.mutant_decoders import WRONG, AcceptsAll, BonusFromDraft, MostLikely, SecondBest, Speculating

DRAWS = 800


class Plain:
    kv_heads, longest, slow = 4, 2, False

    def exact(self, sampling):
        return True

    def open(self, models, sampling):
        return plain(models.target, sampling)


def models(apart=0.7, seed=0):
    return tables(torch.Generator().manual_seed(seed), apart=apart)


def drawn(technique, found, prompt, length, count, seed=0):
    decode = technique.open(found, Sampling())
    draw = torch.Generator().manual_seed(seed)
    return torch.tensor([decode(prompt, length, draw, Trace()) for _ in range(count)])


@pytest.mark.parametrize("technique", [Plain(), Speculating(2), Speculating(4)], ids=["plain", "short", "long"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=3), Sampling(top_p=0.8)], ids=str)
def test_a_right_decoder_passes(technique, sampling):
    verdict = examine(technique, sampling, draws=400, seed=0)
    assert verdict.exact
    assert verdict.distance < 2 * verdict.expected


@pytest.mark.parametrize("wrong", WRONG, ids=lambda technique: technique.__name__)
def test_a_wrong_rule_is_caught(wrong):
    verdict = examine(wrong(3), Sampling(), draws=DRAWS, seed=0)
    assert not verdict.exact
    assert verdict.p < 1e-7


def test_a_wrong_bonus_shows_only_beyond_a_whole_round():
    short = BonusFromDraft(3)
    found = models()
    prompt = [0, 1, 2]
    table = probabilities(found.target, Sampling())
    texts = drawn(short, found, prompt, 4, 2000)
    assert min(follow(texts, prompt, table, position) for position in range(3)) > 1e-4
    assert follow(texts, prompt, table, 3) < 1e-7


def test_p_values_of_a_right_decoder_are_uniform():
    found, prompt = models(seed=3), [0, 1, 2]
    table = probabilities(found.target, Sampling())
    values = []
    for seed in range(60):
        texts = drawn(Plain(), found, prompt, 3, 300, seed=seed)
        observed, expected = joint(texts, prompt, table)
        values.append(float(chisquare(observed, expected).pvalue))
    assert kstest(values, "uniform").pvalue > 1e-3


def test_cells_of_the_joint_distribution_add_up_and_are_large_enough():
    found, prompt = models(), [0, 1, 2]
    table = probabilities(found.target, Sampling())
    texts = drawn(Plain(), found, prompt, 5, 400)
    observed, expected = joint(texts, prompt, table)
    assert float(observed.sum()) == 400
    assert float(expected.sum()) == pytest.approx(400)
    assert float(expected.min()) >= 5


def test_cells_of_short_texts_are_the_texts_themselves():
    found, prompt = models(), [0, 1, 2]
    table = probabilities(found.target, Sampling())
    texts = drawn(Plain(), found, prompt, 2, 100_0)
    exact = [1000 * float(table[1, 2, a] * table[2, a, b]) for a, b in itertools.product(range(VOCABULARY), repeat=2)]
    _, expected = joint(texts, prompt, table)
    kept = sorted(mass for mass in exact if mass >= 5)
    assert sorted(expected.tolist())[-len(kept) // 2 :] == pytest.approx(kept[-len(kept) // 2 :])


def test_what_can_never_follow_is_caught_at_once():
    class Off(Plain):
        def open(self, models, sampling):
            decode = plain(models.target, Sampling())
            return lambda *arguments: decode(*arguments)

    verdict = examine(Off(), Sampling(top_k=2), draws=100, seed=0)
    assert verdict.p == 0


def test_greedy_text_has_to_be_that_of_plain_decoding():
    found = models(apart=2.5)
    prompts = [[0, 1, 2], [3, 4, 0]]
    assert require_greedy(Speculating(3), found, prompts, 12) == ""
    assert require_greedy(MostLikely(3), found, prompts, 12) == ""
    with pytest.raises(Incorrect, match=r"differs from plain decoding at token \d+ of 12: .* logit is [\d.]+ higher"):
        require_greedy(Drafts(3), found, prompts, 12)


@pytest.mark.parametrize("seed", range(5))
def test_small_models_catch_who_is_content_with_the_second_choice(seed):
    require_greedy_on_tables(Speculating(2), prompts=20, count=32, seed=seed)
    with pytest.raises(Incorrect, match="differs from plain decoding"):
        require_greedy_on_tables(SecondBest(2), prompts=20, count=32, seed=seed)


class Drafts(Speculating):
    """Takes the draft's word for everything."""

    def accepts(self, p, q, token, draw):
        return True


def test_too_few_tokens_are_wrong():
    class Short(Plain):
        def open(self, models, sampling):
            decode = plain(models.target, sampling)
            return lambda prompt, count, draw, trace: decode(prompt, count - 1, draw, trace)

    with pytest.raises(Incorrect, match="gave 11 tokens where 12"):
        require_greedy(Short(), models(), [[0, 1]], 12)


def test_a_tie_of_rounding_is_noted_and_is_no_mistake():
    found = models()
    logits = found.target.logits
    logits[1, 2] = torch.tensor([1.0, 1.0 - 1e-6, 0.0, 0.0, 0.0])

    class Other(Plain):
        def open(self, models, sampling):
            decode = plain(models.target, sampling)

            def swapped(prompt, count, draw, trace):
                return [1, *decode([*prompt, 1], count - 1, draw, trace)]

            return swapped

    note = require_greedy(Other(), found, [[0, 1, 2]], 4)
    assert note == "greedy text: 1 of 1 prompts differ from plain decoding after a tie within rounding"


def test_the_gate_is_the_same_every_time():
    assert examine(AcceptsAll(2), Sampling(), draws=50, seed=1) == examine(AcceptsAll(2), Sampling(), draws=50, seed=1)
