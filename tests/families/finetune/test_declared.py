"""What is declared is what there is, and declaring it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.families.finetune.digits import DigitsWorkload
from harness.families.finetune.settings import Settings
from harness.host import load_host
from harness.judge.settings import read_settings
from tests.declared import metrics, specs
from tests.families.conftest import Context
from tests.families.finetune.conftest import CLASSES
from tests.families.finetune.techniques import Honest

SPECS = {name: spec for name, spec in specs("finetune").items() if not spec.task}


def test_every_workload_emits_the_declared_metrics_exactly(
    workload: DigitsWorkload, name: str, context: Context
) -> None:
    outcome = workload.evaluate(Honest(), context(name, steps=2))
    assert set(outcome.metrics) == set(SPECS[name].metrics)


def test_every_workload_opens_the_declared_phases(workload: DigitsWorkload, name: str, context: Context) -> None:
    assert tuple(workload.open(Honest(), context(name)).phases) == tuple(SPECS[name].phases)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_targets_lead_to_the_class(name: str) -> None:
    kind = CLASSES[name]
    assert SPECS[name].target == f"{kind.__module__}:{kind.__qualname__}"
    assert kind.name == name


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_default_settings_are_the_protocol(name: str) -> None:
    assert vars(read_settings(Settings, SPECS[name].settings)) == SPECS[name].settings


def test_every_accuracy_metric_comes_from_a_workload() -> None:
    declared = {metric.id for metric in metrics().values() if metric.lane == "accuracy"}
    assert declared == {metric for spec in specs().values() for metric in spec.metrics}
    assert len({metric.id for metric in metrics().values()}) == len(metrics())


def test_the_host_offers_them() -> None:
    host = load_host(entry_points=False)
    assert {f"{spec.contract}/{spec.id}" for spec in specs().values()} == set(host.workloads)
    assert {metric.id for metric in metrics().values()} <= set(host.metrics)


def test_importing_computes_nothing_and_the_declaration_imports_no_torch() -> None:
    code = (
        "import sys, harness.families.finetune\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "import harness.families.finetune.workloads.digits_mlp\n"
        "assert not {'sklearn', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
