"""Workloads of regularisers: each emits what it declares, repeats itself, and says what a reader should know."""

from __future__ import annotations

import importlib
import importlib.util
from statistics import mean
from typing import Any

import pytest
from packaging.requirements import Requirement

from harness.api import Json
from harness.families.regularize.checks import Nothing
from harness.families.regularize.settings import Settings
from harness.families.regularize.workloads.digits import DigitsMlp
from harness.judge.settings import read_settings
from tests.declared import specs
from tests.families.conftest import Context
from tests.families.regularize.regularizers import Drop

SPECS = specs("regularize")
SHORT: dict[str, Json] = {"epochs": 1}

each_workload = pytest.mark.parametrize("name", sorted(SPECS))


def workload_of(name: str) -> Any:
    for requirement in SPECS[name].requires:
        distribution = Requirement(requirement).name
        if importlib.util.find_spec(distribution) is None:
            pytest.skip(f"{distribution}, whose data set this is, is not installed")
    module, _, attribute = SPECS[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)()


@each_workload
def test_every_workload_emits_its_metrics_names_its_data_and_repeats_itself(name: str, context: Context) -> None:
    workload, case = workload_of(name), context(name, **SHORT)
    workload.prepare(case)
    first, second = (workload.evaluate(Drop(), case) for _ in range(2))
    assert set(first.metrics) == set(SPECS[name].metrics)
    assert first == second
    assert workload.dataset(case.cache).sha256 in first.notes[0]
    assert len(first.series["train_loss"]) == 1


@each_workload
def test_every_workload_opens_its_phases_and_they_can_be_stepped(name: str, context: Context) -> None:
    workload, case = workload_of(name), context(name, **SHORT)
    trial = workload.open(Drop(), case)
    assert tuple(trial.phases) == tuple(SPECS[name].phases)
    for phase in trial.phases.values():
        phase.run()
        phase.run()
        assert phase.samples == case.settings["batch_size"]


@each_workload
def test_every_workload_holds_techniques_to_the_contract(name: str, context: Context) -> None:
    workload_of(name).check(Drop(), context(name))


@each_workload
def test_default_settings_are_the_protocol(name: str) -> None:
    assert vars(read_settings(Settings, SPECS[name].settings)) == SPECS[name].settings


@each_workload
def test_seeds_differ_in_split_and_start(name: str, context: Context) -> None:
    workload = workload_of(name)
    first, second = (workload.problem(context(name, seed=seed)) for seed in (0, 1))
    assert not first.parts.test.inputs.equal(second.parts.test.inputs)
    assert not next(first.model.parameters()).equal(next(second.model.parameters()))


@pytest.mark.thorough
def test_on_noisy_labels_dropout_gains_about_ten_points_and_on_clean_ones_next_to_nothing(context: Context) -> None:
    gains = {}
    for name in ("digits-noisy", "digits-clean"):
        scores = [
            [DigitsMlp().evaluate(technique, context(name, seed=seed)).metrics["accuracy"] for seed in range(3)]
            for technique in (Nothing(), Drop())
        ]
        gains[name] = mean(scores[1]) - mean(scores[0])
    assert gains["digits-noisy"] > 7
    assert abs(gains["digits-clean"]) < 2


def test_a_technique_that_did_nothing_is_reported_and_so_is_a_model_that_does_not_overfit(context: Context) -> None:
    overfits = DigitsMlp().evaluate(Nothing(), context("digits-noisy"))
    assert overfits.metrics["train_accuracy"] > overfits.metrics["accuracy"] + 10
    assert overfits.notes[1:] == ("the technique did nothing here",)
    fits = DigitsMlp().evaluate(Nothing(), context("digits-noisy", epochs=3))
    assert "does not overfit" in fits.notes[-1]
    assert len(DigitsMlp().evaluate(Drop(), context("digits-noisy", epochs=3)).notes) == 1


class Showing(Drop):
    curves = {"rate": [0.5, 0.1234567891]}  # noqa: RUF012  the judge only reads it


def test_what_a_technique_has_to_show_is_kept_under_a_name_of_its_own(context: Context) -> None:
    found = DigitsMlp().evaluate(Showing(), context("digits-noisy", **SHORT))
    assert found.series["technique_rate"] == [0.5, 0.123457]
