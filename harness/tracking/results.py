"""Writes stored runs as an asv results directory, so that asv's site can show runs that asv does not start itself."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import statistics
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.analysis.parts import PARTS, spent
from harness.api import FAILED, Contract, Form, Metric, Row, RunInfo, Suite, UsageError
from harness.measure.clock import order_interval
from harness.results.store import StoredRun
from harness.tracking.machines import FILE, machine_of, safe

BASELINES: Final = "of the baseline's"
"""The unit of a time relative to that of the baseline, which is measured in alternation with the technique."""

STEADY: Final = 0.1
"""The largest distance from a median to the ends of its interval, as a fraction of the median, at which times count.

It is equal to that of suites/benchmarks.py.
"""

VERSION: Final = "1"
"""The first part of a series' version, before the suite's version; equal to that of suites/benchmarks.py."""

_RESULTS_VERSION: Final = 2
_BENCHMARKS_VERSION: Final = 2
_MACHINE_VERSION: Final = 1
COMMIT: Final = re.compile("[0-9a-f]{40}")
"""The form of the id of a commit."""
_ENVIRONMENT: Final = "harness"
_COLUMNS: Final = ("result", "params", "version", "started_at")
_STATISTICS: Final = ("stats_q_25", "stats_q_75", "stats_number", "stats_repeat")


@dataclass(frozen=True, kw_only=True)
class _Series:
    """A series of one run: the benchmark as asv lists it, and for each workload the result of `_samples`."""

    benchmark: dict[str, Any]
    samples: tuple[list[float] | None, ...]


def write_asv(
    runs: Sequence[StoredRun],
    metrics: Mapping[str, Metric],
    contracts: Mapping[str, Contract],
    folder: Path,
    dates: Mapping[str, int],
) -> list[Path]:
    """Add runs to the asv results directory ``folder``, which is created as needed; return the files of results.

    ``metrics`` and ``contracts`` are those of the loaded plugins. ``dates`` maps the commits that the repository has to
    their time in seconds since 1970; a commit that is missing there gets the start time of the run. A series of a later
    run replaces the same series of an earlier run of the same commit and machine.

    Raises `UsageError` for a run whose commit is not known, and for a folder that cannot be written.
    """
    commits = [commit_of(run.info, dates) for run in runs]
    try:
        written = []
        for run, commit in zip(runs, commits, strict=True):
            series = list(_series(run, metrics, contracts))
            machine = machine_of(run.info, folder)
            place = folder / machine["machine"]
            place.mkdir(parents=True, exist_ok=True)
            _write(place / FILE, {**machine, "version": _MACHINE_VERSION})
            _add_benchmarks(folder / "benchmarks.json", series)
            file = place / f"{commit[:8]}-{_ENVIRONMENT}.json"
            date = dates.get(commit, int(dt.datetime.fromisoformat(run.info.started).timestamp()))
            _add_results(file, _header(run.info, commit, machine, date), series, run.info)
            written.append(file)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror or error}", "choose another folder") from error
    return list(dict.fromkeys(written))


def commits_of(info: RunInfo) -> dict[str, str]:
    """Return the commits of the packages that a run measured, by package, as the run says."""
    return {name: str(state["commit"]) for name, state in _states(info).items() if state.get("commit")}


def _states(info: RunInfo) -> dict[str, Mapping[str, Any]]:
    """Return the state of the code of each package that a run measured."""
    code = info.environment.get("code")
    packages = code if isinstance(code, Mapping) else {}
    return {name: state for name, state in packages.items() if isinstance(state, Mapping)}


def commit_of(info: RunInfo, known: Container[str] = ()) -> str:
    """Return the commit of the code that a run measured.

    It is the one that is ``known`` to the repository where only one is (a plugin's own repository), else that of the
    package beside which the suite's file lies, else the harness's, else the only commit that the plugins have.
    Raises `UsageError` where the commit is not known, or where the code had uncommitted changes.
    """
    commits = commits_of(info)
    advice = (
        "a point of a series needs a commit: run from a clean checkout, which a plugin of one's own is after "
        "pip install -e ., or install the project from a commit"
    )
    if odd := next((commit for commit in commits.values() if not COMMIT.fullmatch(commit)), ""):
        raise UsageError(f"run {info.id}: {odd!r} is not the id of a commit; expected 40 hexadecimal digits", advice)
    here = {commit for commit in commits.values() if commit in known}
    if len(here) != 1 and "harness" not in commits and len(set(commits.values())) != 1:
        reasons = {str(state["commit_unknown"]) for state in _states(info).values() if state.get("commit_unknown")}
        raise UsageError(": ".join([f"run {info.id}: the commit of its code is not known", *sorted(reasons)]), advice)
    changed = [name for name, state in _states(info).items() if state.get("dirty")]
    if changed:
        raise UsageError(f"run {info.id}: {changed[0]} had uncommitted changes", advice)
    suite = info.environment.get("suite")
    if isinstance(suite, Mapping) and suite.get("dirty"):
        own = suite.get("commit") in commits.values()
        what = "had uncommitted changes" if own else "is not in the repository of the code"
        raise UsageError(f"run {info.id}: the file of its suite {info.suite.id} {what}", advice)
    of_suite = str(suite.get("commit")) if isinstance(suite, Mapping) else ""
    beside = of_suite if of_suite in commits.values() else ""
    return here.pop() if len(here) == 1 else beside or commits.get("harness") or next(iter(commits.values()))


# ----------------------------------------------------------------------------------------- series of a run


def _series(run: StoredRun, metrics: Mapping[str, Metric], contracts: Mapping[str, Contract]) -> Iterator[_Series]:
    """Yield each technique's series that has samples or a failed case, and the one of the seconds of the run's parts.

    Raises UsageError for an unknown quality.
    """
    suite = run.info.suite
    quality = metrics.get(suite.quality)
    if quality is None:
        raise UsageError(f"run {run.info.id}: no loaded plugin declares its metric {suite.quality!r}")
    quality_name, quality_unit = _quality_series(quality)
    calls = contracts[suite.contract].phases if suite.contract in contracts else {}
    sizes = sizes_of(suite, metrics)
    form = () if suite.form == "track" else (suite.form,)
    titled = " ".join([suite.id, *(f"({word})" for word in form)])
    for technique in dict.fromkeys(row.case.technique for row in run.rows):
        rows = [row for row in run.rows if row.case.technique == technique]
        phases = {phase: calls.get(phase, phase) for phase in _phases(rows)}
        kinds = {**series_of(phases, sizes), quality_name: (quality_unit, quality_name)}
        for name, (unit, text) in kinds.items():
            samples = tuple(_samples(rows, workload, name, quality, quality_name) for workload in suite.workloads)
            if any(values is None or values for values in samples):
                benchmark = _benchmark(
                    benchmark_name(suite.id, suite.form, technique, name),
                    f"{titled} · {technique}: {text}",
                    unit,
                    suite.workloads,
                    f"{VERSION}.{suite.version}",
                )
                yield _Series(benchmark=benchmark, samples=samples)
    if seconds := spent(run):
        name = f"parts.{safe(suite.id, suite.form)}.track_spent"
        text = f"{titled} · where the time goes: CPU seconds, of the start wall-clock seconds"
        benchmark = _benchmark(name, text, "seconds", PARTS, f"{VERSION}.{suite.version}")
        samples = tuple([seconds[part]] if part in seconds else [] for part in PARTS)
        yield _Series(benchmark={**benchmark, "param_names": ["part"]}, samples=samples)


def benchmark_name(suite: str, form: Form, technique: str, series: str) -> str:
    """Return the name by which asv knows a series of a technique in a form of a suite."""
    return f"benchmarks.{safe(suite, *(() if form == 'track' else (form,)), technique)}.track_{series}"


def series_of(phases: Mapping[str, str], sizes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return unit and description of each series other than the quality, by name.

    ``phases`` maps each phase that was run to the words for one call; ``sizes`` is the result of `sizes_of`.
    """
    return {
        **{f"{phase}_time": ("seconds", call) for phase, call in phases.items()},
        **{f"{phase}_ratio": (BASELINES, f"{call}, relative") for phase, call in phases.items()},
        **{f"{phase}_tensor_peak": ("bytes", f"live tensors, {call}") for phase, call in phases.items()},
        **{f"{phase}_process_peak": ("bytes", f"process memory, {call}") for phase, call in [*phases.items()][:1]},
        **{name: (unit, name.replace("_", " ")) for name, unit in sizes.items()},
    }


def sizes_of(suite: Suite, metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Return the unit of each of a suite's costs that the seed determines, such as the number of parameters."""
    return {name: metrics[name].unit for name in suite.costs if name in metrics and metrics[name].lane == "accuracy"}


def _phases(rows: Iterable[Row]) -> list[str]:
    """Return the phases of which the rows have memory or times, in the order of the rows, without ``build``."""
    phases = (
        name.removesuffix(ending)
        for ending in ("_tensor_peak", "_throughput")
        for row in rows
        for name in row.reply.metrics
        if name.endswith(ending)
    )
    return [phase for phase in dict.fromkeys(phases) if phase != "build"]


def _quality_series(quality: Metric) -> tuple[str, str]:
    """Return the name and unit of the quality's series, in which lower is better, as asv expects of all series."""
    name = series_name(quality.id, quality.unit, higher_is_better=quality.higher_is_better)
    if name.startswith("inverse_") and quality.higher_is_better:
        return name, f"1/({quality.unit})" if quality.unit else ""
    return name, quality.unit


def series_name(metric: str, unit: str, *, higher_is_better: bool) -> str:
    """Return the name of the series of a metric, in which lower is better."""
    if not higher_is_better:
        return metric
    return "error" if unit == "%" else f"inverse_{metric}"


def _lower(value: float, quality: Metric) -> float:
    """Return a value of the quality as a value of the quality's series, in which lower is better."""
    if not quality.higher_is_better:
        return value
    if quality.unit == "%":
        return 100.0 - value
    return 1 / max(value, 1e-12)


def _samples(rows: Iterable[Row], workload: str, name: str, quality: Metric, quality_name: str) -> list[float] | None:
    """Return the samples of a series on a workload; none where the series does not apply, None where a case failed."""
    rows = [row for row in rows if row.case.workload == workload and row.case.stage == "final"]
    rows = [row for row in rows if not row.case.perturbed]
    samples: list[float] = []
    for row in rows:
        if not row.ok:
            continue
        phase, _, kind = name.rpartition("_")
        value = row.reply.metrics.get(quality.id if name == quality_name else name)
        if kind in ("time", "ratio") and phase in row.reply.samples:
            samples += _times(row.reply.samples[phase], row.reply.samples.get(f"baseline.{phase}", ()))[kind]
        elif value is not None:
            samples.append(_lower(value, quality) if name == quality_name else value)
    failed = {row.case.lane for row in rows if row.reply.status in FAILED}
    if failed and (not samples or (name == quality_name and "accuracy" in failed)):
        return None
    return samples


def _times(rounds: Sequence[float], baselines: Sequence[float]) -> dict[str, Sequence[float]]:
    """Return seconds by round, and their ratios to the baseline's; none where the median's interval is too wide.

    None either where a second is missing or is not positive, as in a row that somebody edited.
    """
    if not rounds or not all(seconds > 0 for seconds in (*rounds, *baselines)):
        return {"time": (), "ratio": ()}
    ratios = [seconds / baseline for seconds, baseline in zip(rounds, baselines, strict=bool(baselines))]
    low, high = order_interval(ratios or rounds)
    middle = statistics.median(ratios or rounds)
    steady = middle - low <= STEADY * middle and high - middle <= STEADY * middle
    return {"time": rounds if steady else (), "ratio": ratios if steady else ()}


def _benchmark(name: str, title: str, unit: str, workloads: Sequence[str], version: str) -> dict[str, Any]:
    """Return the entry of a series in asv's benchmarks.json."""
    return {
        "name": name,
        "param_names": ["workload"],
        "params": [[repr(workload) for workload in workloads]],
        "pretty_name": title,
        "type": "track",
        "unit": unit,
        "version": version,
    }


# ----------------------------------------------------------------------------------------------- asv's files


def _header(info: RunInfo, commit: str, machine: Mapping[str, str], date: int) -> dict[str, Any]:
    """Return the content of an asv results file without its results; ``date`` is in seconds since 1970."""
    python = ".".join(str(info.environment.get("python") or "").split(".")[:2])
    return {
        "commit_hash": commit,
        "env_name": _ENVIRONMENT,
        "date": 1000 * date,
        # those of asv's own files and no other: each further parameter would make a line of its own
        "params": {**{name: fact for name, fact in machine.items() if name != "gpu"}, "python": python},
        "python": python,
        "requirements": {},
        "env_vars": {},
        "result_columns": [*_COLUMNS, "duration", "stats_ci_99_a", "stats_ci_99_b", *_STATISTICS],
        "results": {},
        "durations": {},
        "version": _RESULTS_VERSION,
    }


def _add_results(file: Path, header: dict[str, Any], series: Iterable[_Series], info: RunInfo) -> None:
    """Write results to a file; results of other series that the file has are kept."""
    before = _read(file).get("results", {})
    started = int(1000 * dt.datetime.fromisoformat(info.started).timestamp())
    added = {item.benchmark["name"]: _result(item, started) for item in series}
    _write(file, {**header, "results": {**before, **added}})


def _result(series: _Series, started: int) -> list[Any]:
    """Return a row of an asv results file: values and statistics, each a list over workloads, or None if all are None.

    ``started`` is in milliseconds since 1970. Workloads whose samples are all equal have no statistics.
    """
    points = [
        None if samples is None else statistics.median(samples) if samples else math.nan for samples in series.samples
    ]
    varying = [samples if samples and len(set(samples)) > 1 else None for samples in series.samples]
    columns: list[list[Any]] = [
        [samples and _quartile(samples, 0) for samples in varying],
        [samples and _quartile(samples, 2) for samples in varying],
        [samples and 1 for samples in varying],
        [samples and len(samples) for samples in varying],
    ]
    spread = [column if any(varying) else None for column in columns]
    result = None if all(point is None for point in points) else points
    return [result, series.benchmark["params"], series.benchmark["version"], started, None, None, None, *spread]


def _quartile(values: Sequence[float], which: int) -> float:
    """Return the lower quartile (0), the median (1) or the upper quartile (2), interpolated linearly."""
    return statistics.quantiles(values, n=4, method="inclusive")[which]


def _add_benchmarks(file: Path, series: Iterable[_Series]) -> None:
    """Add series to asv's list in a file; a listed series keeps its workloads, and new workloads are appended."""
    listed = _read(file)
    for item in series:
        name = item.benchmark["name"]
        known = listed.get(name, {}).get("params", [[]])[0]
        params = [list(dict.fromkeys([*known, *item.benchmark["params"][0]]))]
        listed[name] = {"code": "", **listed.get(name, {}), **item.benchmark, "params": params}
    _write(file, {**listed, "version": _BENCHMARKS_VERSION})


def _read(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty where there is no file. Raises UsageError where it is not JSON."""
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{file}: not JSON ({error})", "repair or remove the file, or choose another folder"
        ) from error
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON."""
    file.write_text(json.dumps(content), encoding="utf-8")
