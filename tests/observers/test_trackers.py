"""The real trackers, on this machine: what each has stored of a run, as read through the tracker itself.

`make trackers` installs them and runs these tests.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.api import Row, RunInfo
from harness.observers.offered import replay
from tests.conftest import ROOT, Harness

pytestmark = pytest.mark.exhaustive

TOYS = ROOT / "tests" / "toy"
_BLOCK = 32768


@pytest.fixture(scope="module")
def run(builders, tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    environment = {"cpu": {"model": "A & B"}, "hostname": "here"}
    return builders.make_run(exit_code=1, environment=environment, folder=tmp_path_factory.mktemp("s") / "runs" / "r")


@pytest.fixture(scope="module")
def rows(builders) -> list[Row]:
    """A good row with a curve that has a gap, and one that failed; their names would leave a folder or a filter."""
    return [
        builders.make_row(
            technique="toys/../a'%", seed=3, tuned={"lr": 0.1}, params={"rank": 4, "deep": {"x": [1]}},
            settings={"lr": 0.1}, metrics={"accuracy": 80.5, "loss": math.nan},
            series={"train_loss": [2.0, math.inf, 1.0]},
        ),
        builders.make_row(technique="toys/bad", status="error", reason="no luck", metrics={}),
    ]  # fmt: skip


def wandb_runs(folder: Path) -> list[dict[str, Any]]:
    """The offline runs of a folder, by the records of their files (LevelDB's log format, as W&B writes it)."""
    from wandb.proto import wandb_internal_pb2 as proto

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        one: dict[str, Any] = {"config": {}, "summary": {}, "history": []}
        for data in _logged(path.read_bytes()):
            record = proto.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                one |= {"name": record.run.display_name, "group": record.run.run_group, "project": record.run.project}
                one["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "summary":
                one["summary"] |= {
                    item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update
                }
            elif kind == "history":
                values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                one["history"].append({**values, "step": record.history.step.num})
            elif kind == "exit":
                one["exit"] = record.exit.exit_code
        found.append(one)
    return found


def _logged(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log: blocks of 32 KiB, in which parts have a checksum, a length and a kind."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_mlflow_has_a_run_in_a_run_for_each_row_once(run: RunInfo, rows: list[Row], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    for _ in range(2):
        replay("mlflow", run, rows, tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("harness toy")
    assert experiment is not None
    stored = {
        mlflow_run.data.tags["harness.key"]: mlflow_run for mlflow_run in client.search_runs([experiment.experiment_id])
    }
    assert set(stored) == {"run", *(row.case.key for row in rows)}
    parent, good, bad = stored["run"], *(stored[row.case.key] for row in rows)
    assert parent.data.tags["harness.environment.cpu.model"] == "A & B"
    assert parent.info.status == "FAILED"
    assert good.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert good.data.params == {"seed": "3", "param.rank": "4", "param.deep": '{"x": [1]}', "setting.lr": "0.1"}
    assert good.data.metrics == {"accuracy": 80.5, "train_loss": 1.0}
    curve = client.get_metric_history(good.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 2.0), (2, 1.0)]
    assert (bad.info.status, bad.data.tags["harness.reason"]) == ("FAILED", "no luck")
    kept = Path(client.download_artifacts(parent.info.run_id, "run.json", str(tmp_path)))
    assert json.loads(kept.read_text())["environment"] == dict(run.environment)


def test_wandb_has_a_run_in_the_group_for_each_row_once(run: RunInfo, rows: list[Row], tmp_path: Path) -> None:
    for _ in range(2):
        replay("wandb", run, rows, tmp_path)
    stored = wandb_runs(tmp_path)
    assert len(stored) == 3
    assert {(kept["project"], kept["group"]) for kept in stored} == {("harness-toy", run.id)}
    whole = next(kept for kept in stored if "environment" in kept["config"])
    good = next(kept for kept in stored if kept["summary"].get("status") == "ok")
    bad = next(kept for kept in stored if kept["summary"].get("status") == "error")
    assert whole["config"]["environment"] == dict(run.environment)
    assert (good["config"]["seed"], good["config"]["param.rank"], good["config"]["param.deep"]) == (3, 4, {"x": [1]})
    assert good["summary"]["accuracy"] == 80.5
    assert [(point["step"], point["train_loss"]) for point in good["history"]] == [(0, 2.0), (2, 1.0)]
    assert (good["exit"], bad["exit"], bad["summary"]["reason"]) == (0, 1, "no luck")


def test_tensorboard_has_a_folder_for_each_row_once(run: RunInfo, rows: list[Row], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for _ in range(2):
        replay("tensorboard", run, rows, tmp_path)
    files = sorted(tmp_path.glob("**/events.out.tfevents.*"))
    assert len(files) == 3
    assert all(tmp_path / run.id in path.parents for path in files), "no name leaves the folder"
    stored = {path.parent.relative_to(tmp_path / run.id).parts: EventAccumulator(str(path.parent)) for path in files}
    for events in stored.values():
        events.Reload()
    good = next(events for parts, events in stored.items() if "accuracy, final, seed 3" in parts[-1])
    bad = next(
        events for parts, events in stored.items() if ("toys" in parts and "bad" in parts) or "toys-bad" in parts
    )
    assert [(point.step, point.value) for point in good.Scalars("accuracy")] == [(0, 80.5)]
    assert [(point.step, point.value) for point in good.Scalars("curves/train_loss")] == [(0, 2.0), (2, 1.0)]
    data = HParamsPluginData()
    data.ParseFromString(good.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    assert data.session_start_info.hparams["param.rank"].number_value == 4
    assert data.session_start_info.hparams["technique"].string_value == "toys/../a'%"
    data.ParseFromString(bad.SummaryMetadata("_hparams_/session_end_info").plugin_data.content)
    assert data.session_end_info.status == STATUS_FAILURE
    assert "| reason | no luck |" in bad.Tensors("case/text_summary")[0].tensor_proto.string_val[0].decode()
    facts = stored["run",].Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"model": "A & B"' in facts


def test_a_run_tells_all_three_of_each_row_as_it_ends(harness: Harness, tmp_path: Path) -> None:
    trackers = [part for name in ("mlflow", "wandb", "tensorboard") for part in ("--observe", name)]
    done = harness(
        "run", "-p", "harness_toy", "--no-plugins", "--suite", "toys", "--quick", "--technique", "raises", *trackers,
        PYTHONPATH=f"{TOYS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "left out from here on" not in done.stderr
    exported = json.loads(harness("export", "json").stdout)
    from mlflow import MlflowClient

    store = tmp_path / "cwd" / ".harness"
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "harness toys"]
    stored = client.search_runs([experiment.experiment_id])
    assert len(exported) == len(stored) - 1 > 0
    assert len(wandb_runs(store / "wandb")) == len(exported) + 1
    assert len([*store.glob("tensorboard/**/events.out.tfevents.*")]) == len(exported) + 1
    assert {kept.data.tags["harness.status"] for kept in stored if "harness.status" in kept.data.tags} == {
        row["status"] for row in exported
    }
