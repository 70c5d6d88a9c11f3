"""The workload of decoding: what it emits, what its gate does to a wrong rule, and what is refused."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from harness.api import Incorrect, NotApplicable, Technique, UsageError
from harness.families.decode.contract import Sampling, plain
from harness.families.decode.data import CATEGORIES, prompts, texts, written
from harness.families.decode.models import Shape, TextModel
from harness.families.decode.training import Trained
from harness.families.decode.workloads import DecodeText, Problem, Settings, repetition, text_loss
from harness.judge.settings import read_settings
from harness.testing.smoke import Bench
from tests.declared import declared_here, specs
from tests.mutants.mutant_decoders import Speculating

SPEC = specs()["decode-text"]
SMALL = {"prompts": 2, "timed_prompts": 1, "prompt_tokens": 12, "tokens": 10, "timed_tokens": 8, "draws": 800}
TIME = {"speedup", "speedup_least", "draft_cost", "verify_cost", "theoretical_speedup", "fraction_reached"}


@pytest.fixture(autouse=True, scope="module")
def untrained(monkeypatch_module):
    """Small random models in place of trained ones: what is tested here is what is done with them."""

    def made(shape, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = TextModel(shape).requires_grad_(False).eval()
        return Trained(model=model, loss=3.0, sha256=f"{seed:064}")

    target = {"vocabulary": 96, "width": 16, "layers": 2, "exit_layer": 1, "extra_heads": 3}
    monkeypatch_module.setattr(
        "harness.families.decode.training.target", lambda heads, *_: made(Shape(**target, kv_heads=heads), 0)
    )
    monkeypatch_module.setattr(
        "harness.families.decode.training.draft",
        lambda name, *_: made(Shape(vocabulary=96, width=8, layers=int(name == "small")), 1),
    )


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def bench(cache, kind, **settings):
    spec = Technique(
        id="one", contract="decode", target=f"tests.mutants.mutant_decoders:{kind}", summary="a decoder of the tests"
    )
    values = {**SPEC.settings, **SMALL, **settings}
    return Bench(
        technique="tests/one",
        spec=spec,
        workload_id=SPEC.id,
        workload=SPEC,
        settings=values,
        cache=cache,
        protocol="harness.families.decode.contract:DecodeTechnique",
    )


def test_a_right_rule_has_numbers_and_a_wrong_one_none(cache) -> None:
    right = bench(cache, "Speculating").run()
    assert (right.status, right.reason) == ("ok", "")
    assert set(right.metrics) == set(SPEC.metrics)
    wrong = bench(cache, "WrongResidual").run()
    assert (wrong.status, wrong.metrics) == ("incorrect", {})
    assert "sampled text is not distributed as the target's: p = " in wrong.reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("NoRatio", "not distributed as the target's"),
        ("GreedyDraft", "not distributed as the target's"),
        ("BonusFromDraft", "greedy text differs"),
    ],
)
def test_what_is_wrong_is_never_timed(kind, reason, cache) -> None:
    with pytest.raises(Incorrect, match=reason):
        bench(cache, kind).check()


def test_a_rule_that_is_wrong_only_when_sampling_passes_where_nothing_is(cache) -> None:
    assert bench(cache, "WrongResidual", temperature=0.0).run().status == "ok"


def test_who_says_that_samples_differ_is_measured_and_marked(cache, monkeypatch) -> None:
    monkeypatch.setattr("tests.mutants.mutant_decoders.AcceptsAll.exact", lambda *_: False)
    reply = bench(cache, "AcceptsAll").run()
    assert reply.status == "ok"
    assert reply.metrics["total_variation"] > 10
    assert "warning: its samples are not distributed as the target's, by design" in reply.notes


def test_rounds_and_times_of_a_trial(context) -> None:
    trial = DecodeText().open(Speculating(2), context("decode-text", **SMALL))
    assert tuple(trial.phases) == SPEC.phases
    assert trial.phases["infer"].samples == 8
    for _ in range(3):
        trial.phases["infer"].run()
        trial.probes["plain"].run()
    figures = trial.figures({"infer": [0.2, 0.2], "plain": [0.1, 0.1]})
    assert set(figures) == TIME == declared_here("decode", "time")
    assert figures["speedup"] == pytest.approx(0.5)
    assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())


def test_settings_and_categories_that_make_no_sense_are_refused(context) -> None:
    for wrong, text in (
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"tokens": 1}, "tokens"),
        ({"prompts": 0}, "prompts"),
        ({"timed_tokens": 250}, "at most 256"),
        ({"prompt_tokens": 250}, "at most 256"),
        ({"category": "verse"}, "category = 'verse': expected one of 'mixed', 'prose', 'code', 'repetitive'"),
    ):
        with pytest.raises(UsageError, match=text):
            DecodeText().problem(Speculating(), context("decode-text", **{**SMALL, **wrong}))


def test_other_devices_are_left_alone(context) -> None:
    with pytest.raises(NotApplicable, match="CPU"):
        DecodeText().problem(Speculating(), replace(context("decode-text"), device="cuda"))


def test_prompts_are_held_out_text_of_their_category(cache) -> None:
    found = texts(cache)
    for category in CATEGORIES:
        for prompt in prompts(found, category, 3, 60, torch.Generator().manual_seed(0)):
            assert len(prompt) == 60
            text = written(prompt)
            if category == "repetitive":
                assert any(text[size:] == text[:-size] for size in range(16, 41))
            else:
                assert text in written(found.held_out[category].tolist())
                assert text not in written(found.train[category].tolist())
    mixed = prompts(found, "mixed", 7, 60, torch.Generator().manual_seed(0))
    assert len({tuple(prompt) for prompt in mixed}) == 7


def problem_of(model, given, tokens):
    trained = Trained(model=model, loss=0.0, sha256="")
    settings = read_settings(Settings, {**SPEC.settings, **SMALL, "tokens": tokens})
    return Problem(settings=settings, models=None, target=trained, reference=trained, prompts=given, unseen=given)


def test_the_surprise_is_that_of_the_reference_at_what_was_written() -> None:
    with torch.random.fork_rng():
        model = TextModel(Shape(vocabulary=7, width=16, layers=1)).requires_grad_(False)
    given, found = [[1, 2, 3], [4, 5, 6]], [[0, 1], [2, 3]]
    expected = [
        functional.cross_entropy(model.open().read([*prompt, *text[:at]], 1)[0], torch.tensor(text[at]))
        for prompt, text in zip(given, found, strict=True)
        for at in range(2)
    ]
    assert text_loss(problem_of(model, given, 2), found) == pytest.approx(float(sum(expected)) / 4, rel=1e-4)


def test_repetition_counts_what_stood_there_before() -> None:
    fresh = list(range(30))
    assert repetition([fresh], [list(range(30, 50))]) == 0
    assert repetition([fresh], [fresh]) == pytest.approx(100 * 23 / 30)
    assert repetition([fresh[:10]], [fresh[:10] * 2]) == pytest.approx(100 * (20 - 7) / 20)


def test_greedy_plain_text_is_the_same_every_time() -> None:
    with torch.random.fork_rng():
        model = TextModel(Shape(vocabulary=7, width=16, layers=1)).requires_grad_(False)
    decode = plain(model, Sampling(temperature=0.0))
    found = Counter(tuple(decode([1, 2], 9, torch.Generator().manual_seed(seed), None)) for seed in range(3))
    assert len(found) == 1
