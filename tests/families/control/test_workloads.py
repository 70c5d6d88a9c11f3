"""The workloads of controlled generation: truth by enumeration, and who is told off."""

from __future__ import annotations

import itertools
import math
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from harness.api import CaseContext, Incorrect, UsageError
from harness.families.control.checks import DEVIATIONS, POWER, Truth, detectable, distance, worst
from harness.families.control.contract import Population
from harness.families.control.settings import VerifierSettings
from harness.families.control.workloads import Brackets, Verifier, gate, model
from tests.declared import specs

SETTINGS = VerifierSettings(particles=2, populations=2, noise=2.5)
SPECS = specs("control")


class Exact:
    """Draws from the truth itself, by listing every text with its weight."""

    weighted = True

    def __init__(self, scale=1.0):
        self.scale = scale

    def generate(self, task, generator):
        texts, weights = [], []
        for _ in range(task.particles):
            text, weight = (), 1.0
            for _ in range(task.length):
                chances = torch.tensor(task.chances(text), dtype=torch.float64)
                chances *= torch.tensor([float(task.allowed(text, token)) for token in range(task.vocabulary)])
                weight *= float(chances.sum())
                text = (*text, int(torch.multinomial(chances, 1, generator=generator)))
            texts.append(text)
            weights.append(self.scale * weight * task.score(text))
        return Population(texts=texts, weights=weights)


def context(seed=0, **settings):
    return CaseContext(
        seed=seed,
        device="cpu",
        settings={"particles": 10, "populations": 5, "noise": 0.0, **settings},
        cache=None,
        phase=lambda _: nullcontext(),
    )


@pytest.mark.parametrize("workload", [Brackets(), Verifier()], ids=lambda workload: type(workload).__name__)
def test_the_truth_is_the_sum_over_all_texts(workload):
    workload.length = 3  # of an instance; few enough to write the sum out
    truth = workload.truth(0)
    chances = model(0, workload.vocabulary)
    task = workload.task(0, SETTINGS)
    evidence, marginals = 0.0, torch.zeros(3, workload.vocabulary, dtype=torch.float64)
    for text in itertools.product(range(workload.vocabulary), repeat=3):
        mass = math.prod(float(chances[a, b]) for a, b in itertools.pairwise((0, *text)))
        value = float(workload.values(0, torch.tensor([text])))
        if all(task.allowed(text[:place], text[place]) for place in range(3)) != (value > 0):
            pytest.fail(f"{text}: what is allowed token by token is not what is allowed as a whole")
        if isinstance(workload, Brackets) or value:
            assert value == pytest.approx(task.score(text) if value else 0.0) or isinstance(workload, Verifier)
        evidence += mass * value
        for place, token in enumerate(text):
            marginals[place, token] += mass * value
    assert truth.evidence == pytest.approx(evidence)
    torch.testing.assert_close(truth.marginals, marginals / evidence)


def test_a_whole_text_is_scored_without_noise_and_a_beginning_with_it():
    workload = Verifier()
    task, hidden = workload.task(3, SETTINGS), tuple(workload.hidden(3).tolist())
    assert task.score(hidden) == pytest.approx(1.0)
    assert task.score((*hidden[:-1], (hidden[-1] + 1) % 4)) == pytest.approx(math.exp(-workload.SURE))
    assert task.score(hidden[:3]) == task.score(hidden[:3]) != pytest.approx(1.0)
    assert task.score(()) == 1.0


def test_how_much_noise_there_is_can_be_set():
    quiet, loud = (Verifier().task(3, replace(SETTINGS, noise=noise)) for noise in (0.0, 1.0))
    hidden = tuple(Verifier().hidden(3).tolist())
    assert quiet.score(hidden[:3]) == pytest.approx(1.0)
    assert quiet.score(hidden[:3]) != pytest.approx(loud.score(hidden[:3]))
    assert quiet.score(hidden) == loud.score(hidden)


def test_who_does_not_weigh_estimates_nothing():
    technique = Exact()
    technique.weighted = False
    metrics = Brackets().evaluate(technique, context()).metrics
    assert metrics["evidence_error"] == metrics["evidence_bias"] == pytest.approx(100)


@pytest.mark.parametrize("name", SPECS)
def test_workloads_emit_what_they_declare(name):
    module, _, attribute = SPECS[name].target.partition(":")
    workload = getattr(__import__(module, fromlist=[attribute]), attribute)()
    outcome = workload.evaluate(Exact(), context())
    assert set(outcome.metrics) == set(SPECS[name].metrics)
    assert tuple(workload.open(Exact(), context()).phases) == SPECS[name].phases


def test_weights_that_are_off_are_caught_and_right_ones_are_not():
    Brackets().check(Exact(), context())
    with pytest.raises(Incorrect, match=r"all texts|token"):
        Brackets().check(Exact(scale=1.2), context())


def test_wrong_texts_are_caught_where_the_total_is_right():
    truth = Truth(evidence=0.5, marginals=torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    draw = torch.Generator().manual_seed(0)
    runs = []
    for _ in range(40):
        tokens = (torch.rand(10, generator=draw) < 0.8).long().tolist()
        runs.append(Population(texts=[(token,) for token in tokens], weights=[0.5] * 10))
    off, what = worst(runs, truth)
    assert off > 5
    assert what.startswith("texts with token")
    assert distance(runs, truth) == pytest.approx(0.3, abs=0.05)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="particles"):
        Brackets().check(Exact(), context(particles=1))
    with pytest.raises(UsageError, match="noise = -1"):
        Verifier().check(Exact(), context(noise=-1))


def populations(mean, spread, draw):
    """Return sixty populations whose estimates are drawn from a normal distribution."""
    return estimating(mean + spread * torch.randn(60, generator=draw, dtype=torch.float64))


def estimating(values):
    return [Population(texts=[(0,)], weights=[float(value)]) for value in values]


def test_weights_that_are_off_by_the_stated_error_are_found_and_those_off_by_half_of_it_are_not():
    truth = Truth(evidence=2.0, marginals=torch.ones(1, 1, dtype=torch.float64))
    spread, trials = 0.2, 300
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(60, generator=draw, dtype=torch.float64)
    typical = estimating(2.0 + spread * (values - values.mean()) / values.std())
    stated = detectable(typical, truth)
    found = {
        factor: sum(
            worst(populations(2.0 * (1 + factor * stated), spread, draw), truth)[0] > DEVIATIONS for _ in range(trials)
        )
        for factor in (0.5, 1.0)
    }
    assert found[0.5] < trials / 5
    assert found[1.0] >= binom.ppf(1e-3, trials, POWER)


def test_the_note_of_the_gate_says_how_large_an_error_it_finds():
    (note,) = gate(Exact(), 0)
    match = re.search(r"finds a mean weight of all texts that is off by ([\d.]+) % or more with a chance of 95 %", note)
    assert match
    assert 0 < float(match.group(1)) < 100
    with pytest.raises(Incorrect, match="standard errors"):
        gate(Exact(scale=1 + 2 * float(match.group(1)) / 100), 0)
