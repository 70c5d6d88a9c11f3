"""Trainings that are repeated from perturbed weights, in whole runs of a calm and a chaotic technique."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import harness as product
from harness.api import Case, UsageError
from harness.execution.grouping import companions
from harness.report.formats import render
from harness.report.page import render_page
from harness.results.export import to_csv
from harness.results.index import Index
from harness.results.store import Store
from harness.suite import read_suite
from tests.conftest import Harness, Site

PLUGIN = '''
from pathlib import Path

import torch

from harness.api import Contract, Metric, Outcome, Technique, WorkloadSpec, hookimpl

HARNESS_API = 1
STEPS = 100


class Map:
    """A technique whose training is the iteration of a map."""

    def __init__(self, chaotic=False, shift=0.0):
        self.chaotic, self.shift = chaotic, shift

    def step(self, x):
        return 4 * x * (1 - x) if self.chaotic else 0.5 * x + 0.1


class Iterated:
    """Trains one number, which begins near 0.3."""

    def prepare(self, context):
        pass

    def check(self, technique, context):
        pass

    def open(self, technique, context):
        raise NotImplementedError

    def evaluate(self, technique, context):
        from harness.judge.perturbation import perturb_start
        from harness.judge.seeds import generator

        weight = torch.rand(1, generator=generator(context.seed, "start"), dtype=torch.float64) / 10 + 0.3
        ease = torch.rand(1, generator=generator(context.seed, "data"), dtype=torch.float64)
        perturb_start([weight], context)
        for _ in range(STEPS):
            weight = technique.step(weight)
        score = 10 * weight.item() + 5 * ease.item() + technique.shift
        return Outcome(metrics={"height": score, "val_height": score})

    def evaluate_stacked(self, techniques, contexts):
        return [self.evaluate(*pair) for pair in zip(techniques, contexts)]


@hookimpl
def register_techniques():
    kinds = {"base": (False, 0.0), "calm": (False, 0.1), "wild": (True, 0.0)}
    return [
        Technique(
            id=name, contract="iterate", target="harness_weather:Map", summary="a map",
            params={"chaotic": chaotic, "shift": shift},
        )
        for name, (chaotic, shift) in kinds.items()
    ]


@hookimpl
def register_contracts():
    return [Contract(id="iterate", protocol="harness_weather:Map", summary="a map", phases={"train": "a step"})]


@hookimpl
def register_workloads():
    return [
        WorkloadSpec(
            id=name, contract="iterate", target="harness_weather:Iterated", summary="one number", version=1,
            metrics=("height", "val_height"), phases=("train",), settings={"lr": 0.1}, stacks=True, perturbs=perturbs,
        )
        for name, perturbs in (("number", True), ("fixed", False))
    ]


@hookimpl
def register_metrics():
    return [
        Metric(id=name, unit="m", higher_is_better=True, summary="height", lane="accuracy", selects="val" in name)
        for name in ("height", "val_height")
    ]
'''  # fmt: skip

SUITE = """
title = "Weather"
version = 1
contract = "iterate"
baseline = "base"
workloads = ["number"]
techniques = ["base", "calm", "wild"]
seeds = 5
metrics = ["height"]
select = "val_height"
repeatability = 1

[tuning]
lr = [0.1, 0.2]

[margins]
height = 0.5
"""


@pytest.fixture
def weather(site: Site, tmp_path: Path) -> Path:
    """Return the suite's file; its plugin is installed."""
    site.plugin("weather", PLUGIN)
    path = tmp_path / "weather.toml"
    path.write_text(SUITE)
    return path


def ran(suite: Path, **options) -> product.RunView:
    """Run the accuracy lane in this process."""
    chosen = {"lanes": ["accuracy"], "executor": "inline", "store": suite.parent / "store", **options}
    return product.run(str(suite), cache=suite.parent / "cache", **chosen)


def rows_of(view: product.RunView) -> list[dict]:
    return [json.loads(line) for line in (view.info.folder / "rows.jsonl").read_text().splitlines()]


def test_a_chaotic_technique_is_found_and_a_calm_one_is_silent(weather: Path) -> None:
    view = ran(weather)
    of = {summary.technique.partition("/")[2]: summary for summary in view.workloads[0].techniques}
    assert of["wild"].repeatability is not None
    assert of["wild"].repeatability.matters
    assert of["calm"].repeatability is not None
    assert of["calm"].repeatability.change < 1e-9
    assert not of["calm"].repeatability.matters
    text = render(view, "table", width=200)
    assert "repeatability of height" in render_page(view)
    assert "repeatability of height" in text
    assert "weather/wild moves by" in text
    assert "weather/calm moves by" not in text
    assert "these verdicts rest on rounding, which moves 1 of 2 techniques" in text
    assert "repeatability" not in render(ran(weather, techniques=["weather/calm"]), "table", width=200)


def test_a_repeated_training_is_no_seed_of_its_own(weather: Path) -> None:
    view = ran(weather)
    repeated = [row for row in rows_of(view) if row["perturbed"]]
    assert [(row["seed"], row["stage"]) for row in repeated] == [(0, "final")] * 3
    for summary in view.workloads[0].techniques:
        assert summary.quality is not None
        assert list(summary.quality.values) == [0, 1, 2, 3, 4]
        assert summary.ended == (0, 1, 2, 3, 4)
    assert len({row["key"] for row in rows_of(view)}) == len(rows_of(view)) == view.info.planned
    weather.write_text(SUITE.replace("repeatability = 1", ""))
    without = ran(weather)
    assert not any(row["perturbed"] for row in rows_of(without))
    for own, other in zip(view.workloads[0].techniques, without.workloads[0].techniques, strict=True):
        assert (own.figures, own.comparison) == (other.figures, other.comparison)


def test_a_repeated_training_is_resumed_and_exported_as_such(weather: Path) -> None:
    view = ran(weather)
    file = view.info.folder / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"perturbed": false' in line or "wild" not in line))
    host = product.host.load_host()
    with Store(weather.parent / "store").open_run(view.info.id) as writer:
        resources = product.execution.choices.resources_of(
            executor="inline", jobs=1, limits=None, cache=weather.parent / "cache"
        )
        session = product.execution.session.resume(host, writer.info, resources)
        session.carry_out(writer, product.execution.session.Silent())
    again = file.read_text().splitlines()
    assert {(row["key"], str(row["metrics"])) for row in map(json.loads, again)} == {
        (row["key"], str(row["metrics"])) for row in map(json.loads, lines)
    }
    records = list(csv.DictReader(io.StringIO(to_csv(Store(weather.parent / "store").read(view.info.id).rows))))
    assert {record["technique"] for record in records if record["perturbed"] == "True"} == {
        "weather/base", "weather/calm", "weather/wild",
    }  # fmt: skip


def test_a_repeated_training_can_be_taken_from_an_earlier_run_and_is_no_point_of_a_history(weather: Path) -> None:
    view = ran(weather)
    index = Index(Store(weather.parent / "store"))
    assert {row["key"] for row in rows_of(view)} == set(index.runs_by_key("weather"))
    (seeds,) = (point.seeds for _, point in index.points("height".__eq__) if point.technique == "weather/wild")
    assert sorted(seeds) == [0, 1, 2, 3, 4]


def test_further_seeds_repeat_nothing_more(weather: Path) -> None:
    weather.write_text(SUITE + "[sequential]\nlooks = [5, 7]\n")
    view = ran(weather)
    assert sum(row["perturbed"] for row in rows_of(view)) == 3
    assert max(row["seed"] for row in rows_of(view)) == 6, "something was undecided after the first look"


def test_a_form_for_a_first_look_repeats_nothing(weather: Path) -> None:
    weather.write_text(SUITE + "[quick]\nseeds = 2\n")
    assert not any(row["perturbed"] for row in rows_of(ran(weather, form="quick")))


def test_without_tuning_the_seeds_are_repeated_too(weather: Path) -> None:
    weather.write_text(SUITE.replace("lr = [0.1, 0.2]", "").replace("repeatability = 1", "repeatability = 2"))
    view = ran(weather)
    repeated = [row for row in rows_of(view) if row["perturbed"]]
    assert sorted(row["seed"] for row in repeated) == [0, 0, 0, 1, 1, 1]
    assert view.info.planned == len(rows_of(view)) == 3 * 7


def test_an_option_replaces_the_number_of_the_suite_and_of_its_short_form(weather: Path) -> None:
    assert not any(row["perturbed"] for row in rows_of(ran(weather, repeatability=0)))
    more = ran(weather, repeatability=3)
    assert sorted(row["seed"] for row in rows_of(more) if row["perturbed"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert more.info.planned == len(rows_of(more))
    weather.write_text(SUITE + "[quick]\nseeds = 2\n")
    quick = ran(weather, form="quick", repeatability=1)
    assert [row["seed"] for row in rows_of(quick) if row["perturbed"]] == [0, 0, 0]


def test_an_option_changes_no_key_and_is_kept_for_a_resume(weather: Path) -> None:
    view = ran(weather, repeatability=2, fresh=True)
    plain = {row["key"] for row in rows_of(ran(weather, repeatability=0, fresh=True))}
    assert plain == {row["key"] for row in rows_of(view) if not row["perturbed"]}
    assert view.info.selection["repeatability"] == 2
    host = product.host.load_host()
    resources = product.execution.choices.resources_of(
        executor="inline", jobs=1, limits=None, cache=weather.parent / "cache"
    )
    session = product.execution.session.resume(host, view.info, resources)
    assert session.planned_rows == view.info.planned == len(rows_of(view))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"repeatability": 6}, "--repeatability 6: expected a number of seeds from 0 to 5, which are all of the run"),
        ({"repeatability": 3, "seeds": 2}, "--repeatability 3: expected a number of seeds from 0 to 2"),
        ({"repeatability": 1, "lanes": ["memory"]}, "--repeatability 1: .* add --lane accuracy"),
        ({"repeatability": -1}, "repeatability = -1: expected a whole number of at least 0"),
        ({"repeatability": True}, "repeatability = true: expected a whole number of at least 0"),
    ],
)
def test_a_number_of_repeated_seeds_that_cannot_be_had_is_refused(weather: Path, options: dict, reason: str) -> None:
    weather.write_text(SUITE.replace("lr = [0.1, 0.2]", ""))
    with pytest.raises(UsageError, match=reason):
        ran(weather, **options)


def test_an_option_is_refused_where_no_workload_can_be_perturbed(weather: Path) -> None:
    weather.write_text(SUITE.replace('["number"]', '["fixed"]').replace("repeatability = 1", ""))
    with pytest.raises(UsageError, match="--repeatability 1: weather/fixed cannot be trained from perturbed weights"):
        ran(weather, repeatability=1)


def test_the_command_counts_what_it_would_repeat_and_refuses_what_it_cannot(weather: Path, harness: Harness) -> None:
    planned = harness("run", "--suite", str(weather), "--lane", "accuracy", "--repeatability", "2", "--dry-run")
    assert "27 cases" in planned.stdout
    refused = harness("run", "--suite", str(weather), "--repeatability", "-1")
    assert refused.returncode == 2
    assert "--repeatability -1: expected a number of seeds from 0 to 5" in refused.stderr
    resumed = harness("run", "--resume", "--repeatability", "0")
    assert resumed.returncode == 2
    assert "leave out --repeatability" in resumed.stderr


def test_a_repeated_training_is_packed_with_the_seeds_of_its_technique(weather: Path) -> None:
    rows = Store(weather.parent / "store").read(ran(weather).info.id).rows
    cases: list[Case] = [row.case for row in rows if row.case.technique == "weather/wild"]
    repeated = next(case for case in cases if case.perturbed)
    others = [case for case in cases if case.seed > 1]
    assert companions(repeated, others, 1, 2) == others


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("repeatability = 1", "repeatability = 6", "6: expected a number of seeds from 0 to 5"),
        ("repeatability = 1", "repeatability = -1", "-1: expected a number of seeds"),
        ("repeatability = 1", 'repeatability = "all"', "'all': expected a whole number"),
        ('["number"]', '["fixed"]', "weather/fixed cannot be trained from perturbed weights"),
    ],
)
def test_a_suite_that_could_repeat_nothing_is_refused(weather: Path, old: str, new: str, reason: str) -> None:
    weather.write_text(SUITE.replace(old, new))
    with pytest.raises(UsageError, match="repeatability: ") as error:
        read_suite(str(weather), product.host.load_host())
    assert reason in str(error.value)


def test_the_rows_of_a_technique_tell_how_far_each_metric_moved(weather: Path) -> None:
    from harness.report.detail import find_rows, show_row, show_rows

    run = Store(weather.parent / "store").read(ran(weather).info.id)
    rows = run.rows
    text = show_rows(find_rows(rows, "weather/wild"), run.info)
    assert "repeatability on number, seed 0, from weights one rounding apart: height " in text
    assert "0 repeated" in text
    repeated = next(row for row in rows if row.case.perturbed)
    assert "the training of its seed" in show_row(repeated)
    assert "the training of its seed" not in show_row(replace(repeated, case=replace(repeated.case, perturbed=False)))
