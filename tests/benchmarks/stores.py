"""Stores of any size, made by the writer of runs: what the benchmarks of the store read."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness.api import Case, Json, Metric, Reply, Row, Suite
from harness.results.schema import metric_to_json
from harness.results.store import Store

ROWS = 5_000
"""Rows of a run."""

SUITES = 10
"""Suites whose runs follow each other in turns."""

WORKLOADS = tuple(f"scale/problem-{number}" for number in range(4))
RATES = (0.001, 0.01, 0.1)
SEEDS = 20
TRIED = 8
"""Seeds on which each rate is tried."""

PER_PAIR = len(RATES) * TRIED + SEEDS + 3 + 3
"""Rows of a technique on a workload: its tuning, its seeds, three of memory and three of time."""

METRICS = (
    Metric(id="accuracy", unit="%", higher_is_better=True, summary="right answers", lane="accuracy"),
    Metric(id="loss", unit="nats", higher_is_better=False, summary="cross-entropy", lane="accuracy"),
    Metric(id="val_loss", unit="nats", higher_is_better=False, summary="on validation", lane="accuracy"),
    Metric(id="trainable_parameters", unit="parameters", higher_is_better=False, summary="trained", lane="accuracy"),
    Metric(id="adapter_bytes", unit="B", higher_is_better=False, summary="size", lane="accuracy"),
    Metric(id="train_tensor_peak", unit="B", higher_is_better=False, summary="peak", lane="memory"),
    Metric(id="train_process_peak", unit="B", higher_is_better=False, summary="peak", lane="memory"),
    Metric(id="train_throughput", unit="samples/s", higher_is_better=True, summary="speed", lane="time"),
    Metric(id="train_time", unit="s", higher_is_better=False, summary="seconds", lane="time"),
)


def environment() -> dict[str, Json]:
    """Return an environment of the usual size, 2 kB, with the facts that a run of a plugin's suite has."""
    versions: dict[str, Json] = {"peft": "0.21.2", "scipy": "1.17.1", "torch": "2.13.0+cpu"}
    commit = "0123456789abcdef0123456789abcdef01234567"
    state: dict[str, Json] = {"commit": commit, "dirty": False, "version": "0.2.0", "digest": "e" * 64}
    requirements: dict[str, Json] = {f"technique scale/method-{number:02}": versions for number in range(12)}
    return {
        "python": "3.11.7",
        "platform": "Linux-6.18.44-x86_64-with-glibc2.36",
        "machine": "x86_64",
        "cpu": {"model": "AMD EPYC", "flags": ["avx2", "fma"]},
        "cores": 2,
        "gpu": [],
        "memory": 25276063744,
        "threads": {"OMP_NUM_THREADS": "1"},
        "variables": {},
        "packages": {"technique-harness": "0.2.0", "numpy": "2.4.6", "transformers": "5.23.0", **versions},
        "code": {"harness": state, "harness_scale": state},
        "requirements": requirements,
        "case_threads": 1,
        "suite": {"commit": commit, "dirty": False, "digest": "5" * 64},
    }


def make_store(path: Path, rows: int, per_run: int = ROWS) -> Store:
    """Write a store of about so many rows, in runs of ``per_run`` rows, and return it."""
    store = Store(path)
    draw = random.Random(0)
    with _unflushed():
        for number in range(max(1, rows // per_run)):
            write_run(store, number, per_run, draw)
    return store


def write_run(store: Store, number: int, rows: int, draw: random.Random) -> str:
    """Write a run of about so many rows and return its id; ``number`` chooses its suite and its effects."""
    techniques = [f"scale/method-{one:02}" for one in range(max(2, rows // (PER_PAIR * len(WORKLOADS))))]
    suite = Suite(
        id=f"scale-{number % SUITES}",
        title="A store of many rows",
        version=1,
        contract="scale",
        baseline=techniques[0],
        workloads=WORKLOADS,
        techniques=("*",),
        seeds=tuple(range(SEEDS)),
        metrics=("accuracy", "loss"),
        select="val_loss",
        tuning_seeds=TRIED,
        tuning={"lr": RATES},
        settings={"steps": 100, "batch_size": 32},
        margins={"accuracy": 1.0},
        claims=(),
        rounds=20,
        form="full",
        source="scale.toml",
        costs=("trainable_parameters", "train_tensor_peak"),
    )
    plugin: dict[str, Any] = {"name": "scale", "status": "ok", "distribution": "harness-scale", "version": "1"}
    plugin["metrics"] = [metric_to_json(metric) for metric in METRICS]
    around = environment()
    with store.create_run(suite=suite, selection={}, plugins=(plugin,), environment=around, planned=rows) as writer:
        for case, reply in _cases(suite, techniques, draw):
            started = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
            writer.append(Row(run=writer.info.id, case=case, reply=reply, started=started, environment=around))
        return writer.finish(0).id


def _cases(suite: Suite, techniques: list[str], draw: random.Random) -> Iterator[tuple[Case, Reply]]:
    for workload in suite.workloads:
        for place, technique in enumerate(techniques):
            for rate in RATES:
                for seed in range(TRIED):
                    case = _case(suite, workload, technique, lr=rate, seed=seed, stage="tuning")
                    yield case, _learned(80 + place / 10 - abs(rate - 0.01), draw)
            for seed in range(SEEDS):
                yield _case(suite, workload, technique, lr=0.01, seed=seed), _learned(80 + place / 10, draw)
            for seed in range(3):
                peaks = {"train_tensor_peak": 1e6 + place, "train_process_peak": 2e7 + 1e4 * draw.random()}
                yield _case(suite, workload, technique, lr=0.01, seed=seed, lane="memory"), _reply(peaks, draw)
            for seed in range(3):
                yield _case(suite, workload, technique, lr=0.01, seed=seed, lane="time"), _timed(place, draw)


def _case(suite: Suite, workload: str, technique: str, **changes: Any) -> Case:
    rate = changes.pop("lr")
    text = f"{suite.id} {workload} {technique} {rate} {sorted(changes.items())}"
    given: dict[str, Any] = {"lane": "accuracy", "stage": "final", **changes}
    return Case(
        key=hashlib.sha256(text.encode()).hexdigest()[:16],
        suite=suite.id,
        suite_version=1,
        contract=suite.contract,
        workload=workload,
        workload_version=1,
        workload_target="harness_scale.problems:Problem",
        technique=technique,
        technique_target="harness_scale.methods:Method",
        plugin_version="1",
        params={"rank": 4, "alpha": 4},
        settings={**suite.settings, "lr": rate, "weight_decay": 0.01},
        tuned={"lr": rate},
        device="cpu",
        code="e48bb1ca90d8edcb",
        **given,
    )


def _learned(mean: float, draw: random.Random) -> Reply:
    loss = 2 - mean / 100 + draw.gauss(0, 0.05)
    metrics = {
        "accuracy": mean + draw.gauss(0, 1),
        "loss": loss,
        "val_loss": loss + draw.gauss(0, 0.01),
        "trainable_parameters": 7200,
        "adapter_bytes": 28800,
    }
    return _reply(metrics, draw, series={"loss": tuple(loss * (1 + 1 / step) for step in range(1, 9))})


def _timed(place: int, draw: random.Random) -> Reply:
    baseline = tuple(0.004 * draw.lognormvariate(0, 0.05) for _ in range(12))
    own = tuple(seconds * (1 + place / 50) * draw.lognormvariate(0, 0.02) for seconds in baseline)
    middle = sorted(own)[6]
    samples: Mapping[str, tuple[float, ...]] = {"train": own, "baseline.train": baseline}
    return _reply({"train_throughput": 32 / middle, "train_time": middle}, draw, samples=samples)


def _reply(metrics: Mapping[str, float], draw: random.Random, **given: Any) -> Reply:
    phases = {"load": 0.01 * draw.random(), "train": draw.random(), "test": 0.1 * draw.random()}
    return Reply(status="ok", metrics=metrics, phases=phases, wall_s=1.1, cpu_s=1.0, load=1.0, **given)


@contextmanager
def _unflushed() -> Iterator[None]:
    """Write without waiting for the disk row by row: such a store need not survive a power failure."""
    with mock.patch.object(os, "fsync", return_value=None):
        yield
