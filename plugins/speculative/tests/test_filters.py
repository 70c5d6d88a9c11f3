"""Filters of many texts: who is chosen, what that does to weights, and whole populations against their definition."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from harness_speculative.filters import EntropicFilter, Particle, ParticleFilter, effective, resampled, systematic
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.api import UsageError
from harness.families.control.contract import ControlTask
from harness.families.control.workloads import gate

CHANCES = {(): [0.3, 0.7], (0,): [0.6, 0.4], (1,): [0.2, 0.8], (0, 0): [0.5, 0.5], (0, 1): [0.9, 0.1]}
CHANCES |= {(1, 0): [0.25, 0.75], (1, 1): [0.55, 0.45]}
SCORES = {(0,): 6.0, (1,): 0.5, (0, 0): 1.0, (0, 1): 4.0, (1, 0): 2.0, (1, 1): 0.3}
SCORES |= dict(zip(itertools.product((0, 1), repeat=3), [1.0, 3.0, 0.5, 2.0, 0.2, 1.5, 4.0, 0.7], strict=True))
LENGTH = 3


def small_task(particles=2, allowed=lambda *_: True):
    return ControlTask(
        vocabulary=2,
        length=LENGTH,
        particles=particles,
        _chances=CHANCES.__getitem__,
        _allowed=allowed,
        _score=SCORES.__getitem__,
    )


def systematically(first):
    """Pairs that systematic resampling gives of two shares, with their probabilities: points u and u + 1/2."""
    yield (0, 0), max(0.0, 2 * first - 1)
    yield (0, 1), 1 - abs(2 * first - 1)
    yield (1, 1), max(0.0, 1 - 2 * first)


def populations(texts, weights, look_ahead, early, threshold):
    """All populations of two texts that a filter can end with, their weights and probabilities, by its definition."""
    place = len(texts[0])
    if place == LENGTH:
        yield tuple(texts), weights, 1.0
        return
    for tokens in itertools.product((0, 1), repeat=2):
        chance = math.prod(CHANCES[text][token] for text, token in zip(texts, tokens, strict=True))
        longer = [(*text, token) for text, token in zip(texts, tokens, strict=True)]
        heavier = [w * SCORES[new] / SCORES.get(old, 1.0) for w, new, old in zip(weights, longer, texts, strict=True)]
        if place + 1 == LENGTH or sum(heavier) ** 2 / sum(w**2 for w in heavier) >= 2 * threshold:
            choices = [(longer, heavier, 1.0)]
        else:
            choices = list(chosen(longer, heavier, look_ahead, early, threshold))
        for kept, weighing, share in choices:
            for end, final, rest in populations(kept, weighing, look_ahead, early, threshold):
                yield end, final, chance * share * rest


def chosen(texts, weights, look_ahead, early, threshold):
    progress = len(texts[0]) / LENGTH
    for ahead in itertools.product((0, 1), repeat=2) if look_ahead else [()]:
        successors = [(*text, token) for text, token in zip(texts, ahead, strict=False)]
        chance = math.prod(CHANCES[text][token] for text, token in zip(texts, ahead, strict=False))
        hopes = [SCORES[new] / SCORES[old] for new, old in zip(successors, texts, strict=False)] or [1.0, 1.0]
        logs = np.log(weights) + np.log(hopes)
        ess = np.exp(logs).sum() ** 2 / (np.exp(logs) ** 2).sum()
        annealed = ess / 2 < threshold and progress < early
        temperature = max(1.0, 2 / ess * (1 - progress)) if annealed else 1.0
        shares = np.exp(logs / temperature) / np.exp(logs / temperature).sum()
        for pair, share in systematically(float(shares[0])):
            if share:
                yield [texts[i] for i in pair], [float(weights[i] / (2 * shares[i])) for i in pair], chance * share


@pytest.mark.parametrize(
    ("early", "look_ahead"), [(0.0, False), (0.5, False), (0.5, True)], ids=["plain", "annealed", "looking-ahead"]
)
def test_whole_populations_are_distributed_as_the_definition_written_out(early, look_ahead):
    expected = Counter()
    evidence = 0.0
    for texts, weights, chance in populations([(), ()], [1.0, 1.0], look_ahead, early, 1.0):
        expected[texts] += chance
        evidence += chance * sum(weights) / 2
    truth = sum(
        math.prod(CHANCES[text[:place]][text[place]] for place in range(LENGTH)) * SCORES[text]
        for text in itertools.product((0, 1), repeat=LENGTH)
    )
    assert evidence == pytest.approx(truth)
    draw, count = torch.Generator().manual_seed(0), 3000
    one = EntropicFilter("masked", 1.0, early, look_ahead)
    found = [one.generate(small_task(), draw) for _ in range(count)]
    seen = Counter(tuple(population.texts) for population in found)
    assert set(seen) <= set(expected)
    common = [texts for texts, chance in expected.items() if count * chance >= 5]
    rare = count * (1 - sum(expected[texts] for texts in common))
    masses = [*(count * expected[texts] for texts in common), rare]
    counts = [*(seen[texts] for texts in common), count - sum(seen[texts] for texts in common)]
    solid = slice(None) if rare >= 5 else slice(-1)
    masses, counts = np.array(masses[solid]), np.array(counts[solid])
    assert chisquare(counts, masses * counts.sum() / masses.sum()).pvalue > 1e-4
    estimates = torch.tensor([population.evidence for population in found], dtype=torch.float64)
    assert abs(float(estimates.mean()) - truth) < 4.5 * float(estimates.std()) / math.sqrt(count)


def test_annealing_and_look_ahead_change_who_is_chosen():
    """Else the test above would hold three times of the same thing."""
    found = []
    for early, look_ahead in ((0.0, False), (0.5, False), (0.5, True)):
        expected = Counter()
        for texts, _, chance in populations([(), ()], [1.0, 1.0], look_ahead, early, 1.0):
            expected[texts] += chance
        found.append(expected)
    for first, other in itertools.combinations(found, 2):
        assert sum(abs(first[texts] - other[texts]) for texts in first | other) > 0.02


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any), st.integers(0, 2**31))
def test_systematic_resampling_takes_each_its_share_rounded(weights, seed):
    shares = [weight / sum(weights) for weight in weights]
    chosen = systematic(shares, torch.Generator().manual_seed(seed))
    assert len(chosen) == len(shares)
    for index, share in enumerate(shares):
        assert abs(chosen.count(index) - len(shares) * share) < 1 + 1e-9
    assert all(shares[index] > 0 for index in chosen)


def test_the_effective_number_is_that_of_equal_weights():
    assert effective([1.0, 1.0, 0.0, 1.0]) == pytest.approx(3)
    assert effective([5.0, 1e-9]) == pytest.approx(1)
    assert effective([0.0, 0.0]) == 0


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=2, max_size=8), st.integers(0, 2**31))
def test_copies_weigh_together_what_they_weighed_over_all_draws_whatever_they_were_chosen_by(pairs, seed):
    particles = [Particle(text=(number,), weight=weight, score=1.0) for number, (weight, _) in enumerate(pairs)]
    chances = [chance for _, chance in pairs]
    found = resampled(particles, chances, torch.Generator().manual_seed(seed))
    copies = Counter(particle.text[0] for particle in found)
    for particle in found:
        number = particle.text[0]
        share = len(pairs) * chances[number] / sum(chances)  # how many copies there are on average
        assert particle.weight * share == pytest.approx(particles[number].weight)
        assert abs(copies[number] - share) < 1 + 1e-9


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=10),
    st.integers(1, LENGTH),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0]),
)
def test_the_choice_is_a_softmax_of_log_weights_at_the_temperature_of_the_schedule(weights, place, threshold, early):
    particles = [Particle(text=(0,) * place, weight=weight, score=1.0) for weight in weights]
    chances = EntropicFilter("masked", threshold, early).chances(small_task(len(weights)), particles, torch.Generator())
    share = np.sum(weights) ** 2 / np.sum(np.square(weights)) / len(weights)
    annealed = share < threshold and place / LENGTH < early
    temperature = max(1.0, (1 - place / LENGTH) / share) if annealed else 1.0
    expected = np.exp(np.log(weights) / temperature)
    assert np.array(chances) / sum(chances) == pytest.approx(expected / expected.sum())


def test_a_look_ahead_asks_once_of_each_text_and_leaves_nothing_behind():
    task = small_task(particles=6)
    particles = [
        Particle(text=(0,), weight=2.0, score=SCORES[0,]),
        Particle(text=(1,), weight=1.0, score=SCORES[1,]),
    ] * 3
    asked = dict(task.asked)
    hopes = EntropicFilter("masked", 0.5, 0.5, look_ahead=True).hopes(task, particles, torch.Generator().manual_seed(0))
    assert task.asked["verifier"] - asked["verifier"] == 6
    for particle, hope in zip(particles, hopes, strict=True):
        assert any(hope == pytest.approx(SCORES[*particle.text, token] / particle.score) for token in (0, 1))
        assert len(particle.text) == 1


def test_a_text_whose_successor_breaks_off_keeps_a_chance():
    task = small_task(particles=3, allowed=lambda text, _: text != (1,))
    particles = [Particle(text=(token,), weight=1.0, score=SCORES[token,]) for token in (0, 1, 0)]
    one = EntropicFilter("masked", 0.5, 0.5, look_ahead=True)
    hopes = one.hopes(task, particles, torch.Generator().manual_seed(0))
    assert hopes[1] == min(hopes[0], hopes[2])
    assert one.hopes(task, particles[1:2], torch.Generator()) == [1.0]


@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("proposal", ["masked", "unmasked", "adaptive"])
@pytest.mark.parametrize("name", ["particle-filter", "entropic-filter", "entropic-look-ahead"])
def test_filters_keep_their_weights_right_however_often_they_resample(name, proposal, threshold, build):
    gate(build(name, proposal=proposal, threshold=threshold), 0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="threshold"):
        ParticleFilter("masked", 2)
    with pytest.raises(UsageError, match="early"):
        EntropicFilter("masked", 0.5, -0.1)
    with pytest.raises(UsageError, match="look_ahead = 1: expected one of false, true"):
        EntropicFilter("masked", 0.5, 0.5, 1)
