"""Rows, suites and runs for the tests of results, analysis and report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.api import Case, Claim, Metric, Reply, Row, RunInfo, Suite

METRICS = {
    metric.id: metric
    for metric in (
        Metric(id="accuracy", unit="%", higher_is_better=True, summary="right answers", lane="accuracy"),
        Metric(id="loss", unit="nats", higher_is_better=False, summary="cross-entropy", lane="accuracy"),
        Metric(id="val_loss", unit="nats", higher_is_better=False, summary="on validation", lane="accuracy"),
        Metric(id="adapter_parameters", unit="parameters", higher_is_better=False, summary="a", lane="accuracy"),
        Metric(id="trainable_parameters", unit="parameters", higher_is_better=False, summary="t", lane="accuracy"),
        Metric(id="checkpoint_bytes", unit="B", higher_is_better=False, summary="c", lane="accuracy"),
        Metric(id="train_tensor_peak", unit="B", higher_is_better=False, summary="peak", lane="memory"),
        Metric(id="infer_tensor_peak", unit="B", higher_is_better=False, summary="peak", lane="memory"),
        Metric(id="train_throughput", unit="samples/s", higher_is_better=True, summary="speed", lane="time"),
        Metric(id="infer_throughput", unit="samples/s", higher_is_better=True, summary="speed", lane="time"),
        Metric(id="init_time", unit="s", higher_is_better=False, summary="start", lane="time"),
    )
}


def make_suite(**changes: Any) -> Suite:
    """A suite of one workload and five seeds, tuned over three rates on two of them."""
    given: dict[str, Any] = {
        "id": "toy",
        "title": "A toy",
        "version": 1,
        "contract": "toy",
        "baseline": "toys/base",
        "workloads": ("core/alpha",),
        "techniques": ("*",),
        "seeds": (0, 1, 2, 3, 4),
        "metrics": ("accuracy", "loss"),
        "select": "val_loss",
        "tuning_seeds": 2,
        "tuning": {"lr": (0.01, 0.1, 1.0)},
        "settings": {},
        "margins": {"accuracy": 1.0},
        "claims": (),
        "rounds": 20,
        "form": "full",
        "source": "toy.toml",
        "costs": ("adapter_parameters", "trainable_parameters", "train_tensor_peak"),
    }
    return Suite(**{**given, **changes})


def make_claim(**changes: Any) -> Claim:
    """A claim that toys/a beats toys/b in accuracy."""
    given = {"id": "a-beats-b", "source": "arXiv:0000.00000", "says": "a is better than b"}
    return Claim(**{**given, "metric": "accuracy", "better": "toys/a", "than": "toys/b", **changes})


def make_case(**changes: Any) -> Case:
    """A case whose key follows from its other fields."""
    given: dict[str, Any] = {
        "suite": "toy",
        "suite_version": 1,
        "contract": "toy",
        "workload": "core/alpha",
        "workload_version": 1,
        "workload_target": "toys.judge:Alpha",
        "technique": "toys/base",
        "technique_target": "toys.methods:Base",
        "plugin_version": "1.0",
        "params": {},
        "settings": {},
        "tuned": {},
        "seed": 0,
        "lane": "accuracy",
        "device": "cpu",
        "stage": "final",
        "code": "c0de",
    }
    given.update(changes)
    hashed = json.dumps({name: given[name] for name in sorted(given) if name != "stage"}, sort_keys=True)
    return Case(**{"key": hashlib.sha256(hashed.encode()).hexdigest()[:24], **given})


def make_row(
    *, status: str = "ok", reason: str = "", metrics: Mapping[str, float] | None = None, **changes: Any
) -> Row:
    """A row of a case; ``samples`` and ``notes`` go to the reply, what else is given to the case."""
    reply = {name: changes.pop(name) for name in ("samples", "notes", "detail", "series") if name in changes}
    return Row(
        run="20260101-000000-abcd",
        case=make_case(**changes),
        reply=Reply(status=status, reason=reason, metrics=metrics or {}, **reply),  # type: ignore[arg-type]
        started="2026-01-01T00:00:00.000+00:00",
        environment={"threads": 1},
    )


def make_run(suite: Suite | None = None, **changes: Any) -> RunInfo:
    """The header of a finished run."""
    given: dict[str, Any] = {
        "id": "20260101-000000-abcd",
        "suite": suite or make_suite(),
        "started": "2026-01-01T00:00:00.000+00:00",
        "folder": Path("/nowhere"),
        "selection": {},
        "plugins": (),
        "environment": {"threads": 1},
        "planned": 0,
        "finished": "2026-01-01T00:01:00.000+00:00",
        "exit_code": 0,
    }
    return RunInfo(**{**given, **changes})


def scored(technique: str, scores: Sequence[float], **changes: Any) -> list[Row]:
    """Untuned rows of a technique, one a seed, with these accuracies."""
    metrics: Mapping[str, float] = changes.pop("metrics", {})
    return [
        make_row(technique=technique, seed=seed, metrics={"accuracy": score, **metrics}, **changes)
        for seed, score in enumerate(scores)
    ]


def timed(technique: str, baseline: Iterable[float], own: Iterable[float], **changes: Any) -> Row:
    """A timing row: seconds of training steps of the baseline and of the technique, round by round."""
    samples = {"train": tuple(own), "baseline.train": tuple(baseline)}
    middle = sorted(samples["train"])[len(samples["train"]) // 2]
    metrics = {"train_throughput": 32 / middle, "train_time": middle}
    return make_row(technique=technique, lane="time", metrics=metrics, samples=samples, **changes)
