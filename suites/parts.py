"""Benchmarks for asv of where the time of a run goes: the CPU seconds of its start, and of each kind of its cases.

A short run of each tracked suite, with the baseline and one other technique on one workload, is made `RUNS` times. CPU
seconds count what all processes computed, not what they waited for, so that other work on the machine matters less.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from suites import benchmarks

RUNS = 3
"""The runs of a suite; the median is shown, and nothing where the runs are further apart than other times may be."""

PARTS = ("start", "tuning", "seeds", "repeated seeds", "memory", "time")
"""The parts of a run; the start is all that is computed outside of cases, imports and base models included."""


def measure(suite: str, workload: str, techniques: list[str]) -> dict[str, Any]:
    """Run the short form of a suite `RUNS` times, and return ``{"values": Values}`` or ``{"absent": reason}``.

    Raises RuntimeError where the harness has all of it and yet stores no run, and where a case fails.
    """
    chosen = [option for name in techniques for option in ("--technique", name)]
    options = ("--suite", suite, "--workload", workload, *chosen, "--quick", "--quiet", "--store")
    samples: dict[str, list[float]] = {}
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as store:  # an empty one, so that nothing is taken from an earlier run
            before = cpu_of_children()
            done = benchmarks._start("-P", "-m", "harness", "run", *options, store)
            total = cpu_of_children() - before
            files = list(Path(store).glob("runs/*/rows.jsonl"))
            rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        if not files:
            absent = filter(None, (benchmarks.why_absent(suite, name) for name in techniques))
            if done.returncode == 2 and (reason := next(absent, None)):
                return {"absent": reason}
            raise RuntimeError(
                f"harness run ended with {done.returncode}:\n{done.stderr[-benchmarks.LAST_CHARACTERS :]}"
            )
        for part, seconds in spent(rows, total).items():
            samples.setdefault(part, []).append(seconds)
    return {"values": {part: {"spent": values} for part, values in samples.items() if benchmarks.steady(values)}}


def cpu_of_children() -> float:
    """Return the CPU seconds of all processes that this one has started and that have ended, with their own ones."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spent(rows: Iterable[Mapping[str, Any]], total: float) -> dict[str, float]:
    """Return the CPU seconds by part of a run whose processes took ``total`` of them.

    Raises RuntimeError for the first case that failed: what a failed run takes is no point of a series.
    """
    seconds: dict[str, float] = {}
    for row in rows:
        if row["status"] in benchmarks.FAILED:
            raise RuntimeError(f"{row['technique']}, {row['lane']}: {row['status']}: {row['reason']}")
        own = "tuning" if row["stage"] == "tuning" else "repeated seeds" if row.get("perturbed") else "seeds"
        part = own if row["lane"] == "accuracy" else row["lane"]
        seconds[part] = seconds.get(part, 0.0) + row["cpu_s"]
    return {"start": total - sum(seconds.values()), **seconds}


def families() -> Iterator[type]:
    """Yield a class of benchmarks for each tracked suite of the working tree."""
    for suite in benchmarks.declared()["suites"]:
        yield family(suite)


def family(suite: Mapping[str, Any]) -> type:
    """Return the class of benchmarks of a suite."""
    name, workload, techniques = suite["suite"], suite["workloads"][0], suite["techniques"][:2]

    def make() -> dict[str, Any]:
        return measure(name, workload, techniques)

    made = benchmarks._family(
        f"{benchmarks.safe(name)}_parts",
        benchmarks.safe(name, "parts"),
        f"{name} · where the time goes",
        f"{benchmarks.VERSION}.{suite['version']}",
        ("part", list(PARTS)),
        [("spent", "CPU seconds", f"a short run of {' and '.join(techniques)}")],
        make,
    )
    made.__module__ = __name__
    return made


if "ASV" in os.environ:
    globals().update({made.__name__: made for made in families()})
