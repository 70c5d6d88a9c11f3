"""Benchmarks for asv, which read their values from one harness run for each technique of each tracked suite.

asv imports this file from the working tree together with the harness of every commit, in a process that forks.
Therefore the file imports neither torch nor the harness, names its series after what the working tree declares, and
uses the installed commit only through its command line. In every series lower is better, as asv expects.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
STATE = ROOT / ".asv"
"""The folder with ``declared/``, a cache of what a working tree declares, and ``store/COMMIT``, a commit's runs."""

VERSION = "1"
"""The version to raise by hand when no series may be continued; a suite's version does the same for that suite."""

TIMEOUT_S = 3600.0
"""Seconds after which asv ends a benchmark."""
LAST_CHARACTERS = 2000
"""The number of characters of a failed harness's error output that an error shows."""

SET_ASIDE = ("PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "HARNESS_PLUGINS")
"""Environment variables of the caller that would change what is measured or printed, so they are removed."""

STEADY = 0.1
"""The largest distance from a median to the ends of its interval, as a fraction of the median, at which times count.

A wider interval says more about the load of the machine than about the commit.
"""

FAILED = ("error", "incorrect", "oom", "timeout", "crash", "lost")
"""The statuses of failed cases."""

BASELINES = "of the baseline's"
"""The unit of a time relative to the baseline's; unlike seconds, the ratio does not drift with the machine's speed."""

Series = tuple[str, str, str]
"""The name, the unit and the description of a series."""

Values = dict[str, dict[str, list[float] | str]]
"""By workload and series: the samples, or the reason of a failure. Series that do not apply are missing."""


# ------------------------------------------------------------------------------ what the working tree declares


def declared() -> dict[str, Any]:
    """Return the suites and the host's own benchmarks in the working tree, cached by the content of its sources."""
    total = hashlib.sha256(sys.version.encode())
    for path in _sources():
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    cache = STATE / "declared" / f"{total.hexdigest()[:16]}.json"
    if not cache.is_file():
        content = {"suites": _declared_suites(), "host": _declared_host()}
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False, encoding="utf-8") as draft:
            json.dump(content, draft)
        Path(draft.name).rename(cache)
    return json.loads(cache.read_text(encoding="utf-8"))


def _sources() -> Iterator[Path]:
    """Yield the files of the working tree that affect what it declares."""
    for pattern in (
        "harness/**/*.py",
        "plugins/**/*.py",
        "plugins/*/*.toml",
        "suites/**/*.toml",
        "tests/benchmarks/*.py",
    ):
        yield from sorted(ROOT.glob(pattern))


def _declared_suites() -> Any:
    """Return the tracked suites of the working tree."""
    return json.loads(_python("-P", "-m", "harness.tracking.declared", str(ROOT), PYTHONPATH=str(ROOT)))


def _declared_host() -> list[str]:
    """Return the names of the tests in ``tests/benchmarks``, sorted."""
    if not (ROOT / "tests/benchmarks").is_dir():
        return []
    listed = _python("-m", "pytest", "tests/benchmarks", "--collect-only", "-q", "-p", "no:cacheprovider", cwd=ROOT)
    return sorted(line.partition("::")[2] for line in listed.splitlines() if "::" in line)


# -------------------------------------------------------------------------------- asking the commit under test


def _start(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this environment's Python with one thread a process, in ``cwd`` or else outside of any checkout."""
    inherited = {name: value for name, value in os.environ.items() if name not in SET_ASIDE}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or tempfile.gettempdir(),
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _python(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """Return the output of this environment's Python. Raises RuntimeError where it exits with an error."""
    done = _start(*arguments, cwd=cwd, **environment)
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def _list(*command: str) -> list[dict[str, Any]]:
    """Return what a command of the installed harness prints as JSON."""
    return json.loads(_python("-P", "-m", "harness", *command, "--json"))


def why_absent(suite: str, technique: str) -> str | None:
    """Return why the installed commit lacks this technique or suite; None where the commit has both.

    Raises RuntimeError where the technique is missing because its plugin is broken.
    """
    plugin = technique.partition("/")[0]
    if technique.partition(":")[0] not in {listed["id"] for listed in _list("list", "techniques")}:
        plugins = [listed for listed in _list("plugins") if listed["name"] == plugin]
        causes = [listed["cause"] for listed in plugins if listed["status"] == "broken"]
        if causes:
            raise RuntimeError(f"plugin {plugin!r} is broken at this commit: {causes[0]}")
        return f"there is no {technique} at this commit"
    if not any(listed["id"].rpartition("/")[2] == suite and listed.get("track") for listed in _list("list", "suites")):
        return f"suite {suite!r} is not tracked at this commit"
    return None


def measure(suite: str, technique: str, quality: dict[str, Any], series: list[str]) -> dict[str, Any]:
    """Run a technique once, with its baseline, and return ``{"values": Values}`` or ``{"absent": reason}``.

    ``series`` are the names of the series to read in addition to the quality's. Raises RuntimeError where the harness
    has technique and suite and yet stores no run.
    """
    commit = os.environ.get("ASV_COMMIT", "")
    store = STATE / "store" / (commit or "unknown")
    before = set(store.glob("runs/*"))
    options = ("--suite", suite, "--technique", technique, "--track", "--quiet", "--store", str(store))
    done = _start("-P", "-m", "harness", "run", *options, HARNESS_COMMIT=commit)
    runs = set(store.glob("runs/*")) - before
    if not runs:
        # exit code 2 may mean unknown names; a harness that ends with another code may not start, so it is not asked
        absent = why_absent(suite, technique) if done.returncode == 2 else None
        if absent is None:
            raise RuntimeError(f"harness run ended with {done.returncode}:\n{done.stderr[-LAST_CHARACTERS:]}")
        return {"absent": absent}
    (run,) = runs
    lines = (run / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["technique"] == technique]
    return {"values": values_of(rows, quality, series)}


# ---------------------------------------------------------------------------------------------- reading rows


def values_of(rows: list[dict[str, Any]], quality: dict[str, Any], names: list[str]) -> Values:
    """Return the samples of the series by workload, from the stored rows of one technique."""
    values: Values = {}
    for workload in {row["workload"] for row in rows}:
        own = [row for row in rows if row["workload"] == workload]
        reasons = [
            f"{row['lane']}, seed {row['seed']}: {row['status']}: {row['reason']}" for row in own if _is_failed(row)
        ]
        series: dict[str, list[float] | str] = {}
        for name in dict.fromkeys([quality["series"], *names]):
            samples = list(_samples(own, name, quality))
            lanes = {row["lane"] for row in own if _is_failed(row)}
            if reasons and (not samples or (name == quality["series"] and "accuracy" in lanes)):
                series[name] = reasons[0]
            elif samples:
                series[name] = samples
        values[workload] = series
    return values


def _is_failed(row: dict[str, Any]) -> bool:
    """Return whether the case of a row failed."""
    return row["status"] in FAILED


def _samples(rows: list[dict[str, Any]], name: str, quality: dict[str, Any]) -> Iterator[float]:
    """Yield the samples of a series from the rows of one technique on one workload."""
    metric = quality["id"] if name == quality["series"] else name
    for row in rows:
        if row["status"] != "ok" or row["stage"] != "final":
            continue
        phase, _, kind = name.rpartition("_")
        if kind in ("time", "ratio") and phase in row["samples"]:
            yield from _times(row["samples"][phase], row["samples"].get(f"baseline.{phase}", []))[kind]
        elif (value := row["metrics"].get(metric)) is None:
            continue
        elif name == quality["series"]:
            yield LOWER[quality["form"]](float(value))
        else:
            yield float(value)


def _times(rounds: list[float], baselines: list[float]) -> dict[str, list[float]]:
    """Return seconds by round, and their ratios to the baseline's; none where the median's interval is too wide."""
    ratios = [seconds / baseline for seconds, baseline in zip(rounds, baselines, strict=bool(baselines))]
    is_steady = steady(ratios or rounds)
    return {"time": rounds if is_steady else [], "ratio": ratios if is_steady else []}


def steady(values: list[float]) -> bool:
    """Return whether both ends of the median's interval, by order statistics, are within `STEADY` of the median.

    The interval is that of `harness.measure.clock.order_interval`, which this file must not import.
    """
    ordered = sorted(values)
    rank = max(0, math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))))
    middle = statistics.median(ordered)
    return middle - ordered[rank] <= STEADY * middle and ordered[-1 - rank] - middle <= STEADY * middle


LOWER: dict[str, Callable[[float], float]] = {
    "itself": lambda value: value,
    "error": lambda value: 100.0 - value,
    "inverse": lambda value: 1 / max(value, 1e-12),
}
"""The functions that turn a quality into a finite value of which lower is better, by form of `quality_of`."""


def report(data: dict[str, Any], key: str, series: str) -> float | dict[str, Any]:
    """Return the value for asv: all samples where they differ, one where they are equal, NaN where there are none.

    Raises RuntimeError with the reason where the case failed.
    """
    if "failed" in data:
        raise RuntimeError(data["failed"])
    samples = data["values"].get(key, {}).get(series, [])
    if isinstance(samples, str):
        raise RuntimeError(samples)
    if not samples:
        return math.nan
    return samples[0] if len(set(samples)) == 1 else {"samples": samples, "number": 1}


# ------------------------------------------------------------------------------------------ what asv is shown


def safe(*words: str) -> str:
    """Return the words as a name that asv can use for a class, in a file and in an address."""
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words)).strip("_")


def _once(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of ``make``, or ``{"failed": reason}``, which the first call stores in asv's cache folder."""
    file = Path.cwd() / f"{name}.json"
    if not file.is_file():
        try:
            content = make()
        except Exception as error:  # stored, so that no reader repeats the run; each reader raises it
            content = {"failed": f"{type(error).__name__}: {error}"}
        file.write_text(json.dumps(content), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def _family(
    group: str, name: str, title: str, version: str, keys: tuple[str, list[str]], series: list[Series],
    make: Callable[[], dict[str, Any]],
) -> type:  # fmt: skip
    """Return a class of benchmarks that read what one call of ``make`` measures.

    ``keys`` are the name and the values of the benchmarks' parameter. asv starts a Python process for each cache, and
    a fork for each benchmark. Therefore all classes of a group share one cache, of which only the folder is used, and
    the first benchmark of a class that runs calls ``make``.
    """

    def setup_cache(_: object) -> dict[str, Any]:
        """Return nothing, but make asv create the folder of the cache."""
        return {}

    def setup(_: object, _cache: dict[str, Any], _key: str) -> None:
        """Raise NotImplementedError, by which asv skips a benchmark, where the commit lacks what is measured."""
        content = _once(name, make)
        if "absent" in content:
            raise NotImplementedError(content["absent"])

    def reader(series_name: str, unit: str, text: str) -> Callable[..., float | dict[str, Any]]:
        def track(_: object, _cache: dict[str, Any], key: str) -> float | dict[str, Any]:
            return report(_once(name, make), key, series_name)

        track.__name__ = track.__qualname__ = f"track_{series_name}"
        track.unit, track.pretty_name = unit, f"{title}: {text}"  # type: ignore[attr-defined]
        return track

    # asv identifies a cache by module and line, so each group needs a module of its own
    setup_cache.__module__ = f"{__name__}.{group}"
    sys.modules.setdefault(setup_cache.__module__, ModuleType(setup_cache.__module__))
    readers = {f"track_{series_name}": reader(series_name, unit, text) for series_name, unit, text in series}
    members = {"setup_cache": setup_cache, "setup": setup, "version": version, "params": [keys[1]]}
    members |= {"timeout": TIMEOUT_S, "param_names": [keys[0]], "__module__": __name__}
    return type(name, (), {**members, **readers})


def quality_of(suite: dict[str, Any]) -> dict[str, Any]:
    """Return how a suite's quality is tracked: as it is, or where higher is better as its error or its inverse."""
    name, unit = suite["quality"], suite["unit"]
    if not suite["higher_is_better"]:
        return {"id": name, "series": name, "unit": unit, "form": "itself"}
    if unit == "%":
        return {"id": name, "series": "error", "unit": "%", "form": "error"}
    return {"id": name, "series": f"inverse_{name}", "unit": f"1/({unit})" if unit else "", "form": "inverse"}


def measured_of(phases: dict[str, str], sizes: dict[str, str]) -> list[Series]:
    """Return the series that are tracked in addition to the quality.

    ``phases`` maps each phase that the suite's workloads run to the words for one call; ``sizes`` maps each cost that
    the seed determines to the cost's unit.
    """
    return [
        *((f"{phase}_time", "seconds", call) for phase, call in phases.items()),
        *((f"{phase}_ratio", BASELINES, f"{call}, relative") for phase, call in phases.items()),
        *((f"{phase}_tensor_peak", "bytes", f"live tensors, {call}") for phase, call in phases.items()),
        *((f"{phase}_process_peak", "bytes", f"process memory, {call}") for phase, call in [*phases.items()][:1]),
        *((name, unit, name.replace("_", " ")) for name, unit in sizes.items()),
    ]


def technique_families(suite: dict[str, Any]) -> Iterator[type]:
    """Yield a class of benchmarks for each technique of a suite."""
    quality = quality_of(suite)
    own = (quality["series"], quality["unit"], quality["series"])
    others = [series for series in measured_of(suite["phases"], suite["sizes"]) if series[0] != own[0]]
    for technique in suite["techniques"]:

        def make(technique: str = technique) -> dict[str, Any]:
            return measure(suite["suite"], technique, quality, [name for name, _, _ in others])

        yield _family(
            safe(suite["suite"]),
            safe(suite["suite"], technique),
            f"{suite['suite']} · {technique}",
            f"{VERSION}.{suite['version']}",
            ("workload", suite["workloads"]),
            [own, *others],
            make,
        )


def measure_host() -> dict[str, Any]:
    """Run the commit's own benchmarks of the host, and return their seconds by test.

    Raises RuntimeError where pytest fails before any benchmark has a result.
    """
    project = Path(os.environ["ASV_ENV_DIR"]) / "project"
    if not (project / "tests/benchmarks").is_dir():
        return {"absent": "there are no tests/benchmarks at this commit"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benchmarks.json"
        options = ("--benchmark-only", f"--benchmark-json={file}", "-q", "-p", "no:cacheprovider")
        done = _start("-m", "pytest", "tests/benchmarks", *options, cwd=project)
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    seconds = {
        benchmark["fullname"].partition("::")[2]: {"time": [float(value) for value in benchmark["stats"]["data"]]}
        for benchmark in (json.loads(text)["benchmarks"] if text else [])
    }
    if done.returncode and not seconds:
        raise RuntimeError(f"pytest tests/benchmarks ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    failed = re.findall(r"^(?:FAILED|ERROR) \S+?::(\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    return {"values": {**seconds, **{name: {"time": reason or "failed"} for name, reason in failed}}}


def families() -> dict[str, type]:
    """Return all classes for asv by name. Raises ValueError where two techniques would have the same class name."""
    tree = declared()
    classes = [family for suite in tree["suites"] for family in technique_families(suite)]
    if tree["host"]:
        keys = ("test", tree["host"])
        classes.append(_family("host", "host", "host", VERSION, keys, [("time", "seconds", "seconds")], measure_host))
    names = [family.__name__ for family in classes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several techniques have the same class name for asv: {', '.join(twice)}; rename one of each")
    return dict(zip(names, classes, strict=True))


if "ASV" in os.environ:
    globals().update(families())
