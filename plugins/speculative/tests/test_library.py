"""transformers on the judge's models: the same text, the same distribution, the rounds it says it makes."""

from __future__ import annotations

import pytest
import torch

from harness.families.decode.checks import examine
from harness.families.decode.clocks import Watch
from harness.families.decode.contract import Sampling

pytest.importorskip("transformers")
NAMES = ("hf-generate", "hf-assisted", "hf-assisted-default", "hf-lookup")


@pytest.mark.parametrize("name", NAMES)
def test_greedy_text_is_that_of_plain_decoding(name, build, decode, text_models):
    expected = decode(build("autoregressive"), text_models, count=20, temperature=0.0)
    assert decode(build(name), text_models, count=20, temperature=0.0) == expected


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_the_targets(name, build):
    verdict = examine(build(name, **({} if name == "hf-generate" else {"gamma": 2})), Sampling(), draws=120, seed=0)
    assert verdict.exact, verdict


@pytest.mark.parametrize("name", NAMES)
def test_samples_at_another_temperature_are_the_targets(name, build):
    technique = build(name, **({} if name == "hf-generate" else {"gamma": 2}))
    assert examine(technique, Sampling(temperature=0.5), draws=60, seed=0).exact


def test_a_draft_that_is_the_target_is_always_accepted(build, decode, table_models):
    watch = Watch(table_models(apart=0.0))
    decode(build("hf-assisted", gamma=3), watch.models, count=12)
    assert watch.log.proposals(5 + 12) == [(3, 3)] * 3


def test_the_global_generator_is_left_alone(build, decode, text_models):
    before = torch.get_rng_state()
    decode(build("hf-generate"), text_models, count=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_reaches_the_library(build, decode, text_models):
    sampling = Sampling(top_k=1)
    greedy = decode(build("autoregressive"), text_models, count=8, temperature=0.0)
    assert decode(build("hf-generate"), text_models, count=8, top_k=sampling.top_k) == greedy


def test_the_default_form_of_assistance_has_the_library_s_own_defaults(build):
    from transformers import GenerationConfig

    technique = build("hf-assisted-default")
    default = GenerationConfig._get_default_generation_params()
    assert technique.gamma == default["num_assistant_tokens"]
    assert technique.confidence == default["assistant_confidence_threshold"]
    assert default["num_assistant_tokens_schedule"] == "constant"
    assert build("hf-assisted").confidence == 0


def test_a_round_ends_where_the_draft_is_not_confident(build, decode, table_models):
    lengths = {}
    for confidence in (0.0, 1.0):
        watch = Watch(table_models(apart=0.0))
        decode(build("hf-assisted", gamma=3, confidence=confidence), watch.models, count=12)
        lengths[confidence] = [proposed for proposed, _ in watch.log.proposals(5 + 12)]
    assert set(lengths[0.0]) == {3}
    assert lengths[1.0][0] == 1
