"""What each technique says of its causality is what the judge's gate finds on a language."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from harness_moe import register_techniques

from harness.api import CaseContext, NotApplicable
from harness.families.route.causality import TOLERANCE, leak, sway
from harness.families.route.training import fit, start
from harness.families.route.workloads.text import CharLm
from harness.testing import cache_folder
from tests.declared import specs

LEAKING = {"expert-choice", "gshard", "soft"}
SWAYED = {"switch", "widenet"}  # full experts turn the tokens of later sequences away


@pytest.fixture(scope="module")
def context(request, tmp_path_factory):
    """A short training on the language."""
    spec = specs()["charlm-moe"]
    return CaseContext(
        seed=0,
        device="cpu",
        settings={**spec.settings, "steps": 12, "batch_size": 256},
        cache=cache_folder(request.config, tmp_path_factory),
        phase=lambda _: nullcontext(),
    )


@pytest.fixture(scope="module")
def trained(context, build):
    """A technique by id, and the model it was trained in."""

    def train(name):
        technique = build(name).technique
        problem = CharLm().problem(context)
        with torch.random.fork_rng(devices=[]):
            one = start(technique, problem)
            fit(one, problem)
        return technique, one.model, problem.data.validation[0]

    return train


@pytest.mark.parametrize("name", sorted(technique.id for technique in register_techniques()))
def test_it_leaks_exactly_where_it_says_so(name, trained) -> None:
    technique, model, batch = trained(name)
    found = leak(model, batch, CharLm.vocabulary, 0)
    assert technique.causal == (name not in LEAKING)
    assert (found > TOLERANCE) == (name in LEAKING)
    if name not in LEAKING:
        assert (sway(model, batch, CharLm.vocabulary, 0) > TOLERANCE) == (name in SWAYED)


@pytest.mark.parametrize("name", sorted(LEAKING))
def test_its_row_says_that_it_leaks(name, context, build) -> None:
    with pytest.raises(NotApplicable, match=r"^leaks: "):
        CharLm().evaluate(build(name).technique, context)
