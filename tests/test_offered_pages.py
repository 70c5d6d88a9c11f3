"""The pages of suites and metrics: what is compared and by what, without importing torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.analysis.claims import margin_of
from harness.cli import cli
from harness.host import Host, load_host
from harness.report.offered import direction
from harness.suite import read_suite
from tests.conftest import Site


@lru_cache
def installed() -> Host:
    """Return a host with the plugins that are installed: a suite names their techniques."""
    return load_host()


SUITES = sorted(installed().declared.suites)


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_shown_with_all_that_it_compares(name: str) -> None:
    text = shown("show", "suite", name)
    flat = " ".join(text.split())
    suite = read_suite(name, installed())
    assert flat.startswith(f"{name}: {suite.title} contract {suite.contract} ")
    assert max(len(line) for line in text.splitlines() if " " in line.strip() and "/" not in line) <= 80
    for named in (suite.baseline, *suite.workloads, *suite.costs, *suite.beside, *suite.unchanged, *suite.references):
        assert named in flat
    for metric_name in (*suite.metrics, suite.judged):
        metric = installed().metrics[metric_name]
        margin = margin_of(metric, suite)
        assert f" {metric_name} (" in flat
        assert f"{direction(metric)}, margin {margin:g})" in flat if margin else direction(metric) in flat
    for claim in suite.claims:
        assert f"{claim.id} ({claim.source}): {claim.says}" in flat
    assert f"{suite.rounds} in the time lane" in flat
    for key in suite.tuning:
        assert f"{key} over " in flat
        assert f"chosen by {suite.select} on {suite.tuning_seeds} seeds" in flat


@pytest.mark.parametrize("name", SUITES)
def test_the_file_of_a_suite_is_printed_as_it_is(name: str) -> None:
    path = installed().declared.suites[name].spec
    assert shown("show", "suite", name, "--path") == f"{path}\n"
    assert shown("show", "suite", name, "--toml") == path.read_text(encoding="utf-8")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    found = json.loads(shown("show", "suite", name, "--json"))
    assert found["forms"] == {form: table[form] for form in ("quick", "track", "own") if form in table}
    assert [metric["id"] for metric in found["metrics"]] == table["metrics"]
    assert (found["id"], found["source"]) == (name, str(path))
    assert found["baseline"] in found["techniques"]


def test_a_copy_of_a_suite_is_shown_by_its_path(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(shown("show", "suite", "peft", "--toml"), encoding="utf-8")
    assert shown("show", "suite", str(copy)).startswith("mine: Parameter-efficient fine-tuning\n")
    copy.write_text(copy.read_text(encoding="utf-8").replace("rounds = 12", "roundz = 12"), encoding="utf-8")
    done = CliRunner().invoke(cli, ["show", "suite", str(copy)])
    assert "did you mean 'rounds'?" in str(done.exception)
    assert "roundz = 12" in shown("show", "suite", str(copy), "--toml")


MARBLES = """
    from harness.api import Contract, Metric, WorkloadSpec, hookimpl

    HARNESS_API = 1

    @hookimpl
    def register_contracts():
        phases = {"roll": "a roll", "weigh": "a weighing"}
        return [Contract(id="marbles", protocol="marbles:Marble", summary="a marble", phases=phases)]

    @hookimpl
    def register_metrics():
        return [
            Metric(id=name, unit="mm", higher_is_better=False, lane="accuracy", summary="how round it is")
            for name in ("dent", "scratch", "bulge")
        ]

    @hookimpl
    def register_workloads():
        return [
            WorkloadSpec(
                id=name, contract="marbles", target="marbles:Bag", summary="a bag", version=1, metrics=metrics,
                phases=phases,
            )
            for name, metrics, phases in (
                ("bag", ["dent"], ["roll"]),
                ("box", ["dent", "scratch"], ["roll", "weigh"]),
                ("jar", ["scratch"], []),
            )
        ]
"""
"""A plugin whose metrics have known workloads."""


@pytest.mark.parametrize(
    ("metric", "workloads"),
    [
        ("dent", ["marbles/bag", "marbles/box"]),
        ("scratch", ["marbles/box", "marbles/jar"]),
        ("bulge", []),
        ("roll_throughput", ["marbles/bag", "marbles/box"]),
        ("roll_process_peak", ["marbles/bag", "marbles/box"]),
        ("weigh_time", ["marbles/box"]),
        ("weigh_tensor_peak", ["marbles/box"]),
    ],
)
def test_a_metric_is_shown_with_the_workloads_that_emit_it(site: Site, metric: str, workloads: list[str]) -> None:
    site.plugin("marbles", MARBLES)
    assert json.loads(shown("show", "metric", metric, "--json"))["workloads"] == workloads
    text = " ".join(shown("show", "metric", metric).split())
    assert f"workloads {', '.join(workloads) or 'none emits it'}" in text


def test_every_metric_has_a_summary() -> None:
    assert all(metric.summary for metric in installed().metrics.values())


def test_a_metric_is_shown_with_its_margin_in_each_suite() -> None:
    text = shown("show", "metric", "loss")
    assert "  unit       nats\n  direction  less is better\n  lane       accuracy\n" in text
    assert "  finetune/peft: 0.05 nats\n" in text
    found = json.loads(shown("show", "metric", "loss", "--json"))
    assert found["margins"]["finetune/peft"] == 0.05
    assert "finetune/digits-mlp" in found["workloads"]


def test_lists_say_the_direction_of_a_metric_and_what_a_workload_measures() -> None:
    metrics = " ".join(shown("list", "metrics").split())
    assert "mean cross-entropy on held-out test examples [nats, less is better]" in metrics
    workloads = " ".join(shown("list", "workloads").split())
    spec = installed().workloads["finetune/digits-mlp"].spec
    assert f"metrics: {', '.join(spec.metrics)} phases: train, infer" in workloads
    (listed,) = [
        entry for entry in json.loads(shown("list", "workloads", "--json")) if entry["id"] == "finetune/digits-mlp"
    ]
    assert listed["metrics"] == list(spec.metrics)
    assert (listed["phases"], listed["settings"]["steps"]) == (["train", "infer"], spec.settings["steps"])


def test_showing_suites_and_metrics_imports_no_torch() -> None:
    commands = [["show", "metric", "accuracy"], ["list", "bases"], *(["show", "suite", name] for name in SUITES)]
    code = (
        "import json, sys\nfrom harness.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "    heavy = {'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
