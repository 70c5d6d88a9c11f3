"""What asv follows over commits: thin readers of one measured harness run for each technique of each tracked suite.

asv imports this file of the working tree beside the harness of every commit, in a process that forks: so it imports
neither torch nor the harness, names its series after what the working tree declares, and asks the installed commit only
through its command line. Every series is lower-is-better, since asv knows nothing else.
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
"""``declared/`` caches what a working tree declares; ``store/COMMIT`` keeps the runs of a commit."""

VERSION = "1"
"""Raised by hand when a series must not be continued; a suite's own version does the same for that suite."""

TIMEOUT_S = 3600.0
LAST_CHARACTERS = 2000
"""So much of what a harness said is shown where it did not run."""

SET_ASIDE = ("PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS")
"""What of the caller's environment would change what is measured, or how it is told."""

STEADY = 0.1
"""A time is not told where its interval reaches further than this: that says more of the machine than of the commit."""

FAILED = ("error", "incorrect", "oom", "timeout", "crash", "lost")

BASELINES = "of the baseline's"
"""The unit of a time relative to that of the baseline, which took turns with it: seconds drift with the machine."""

Series = tuple[str, str, str]
"""Its name, its unit, and what a person reads."""

Values = dict[str, dict[str, list[float] | str]]
"""By workload and series: its samples, or why there are none. What does not apply is not there."""


# ------------------------------------------------------------------------------ what the working tree declares


def declared() -> dict[str, Any]:
    """Return the suites and the host's own benchmarks of the working tree, cached by the content of its sources."""
    total = hashlib.sha256(sys.version.encode())
    for path in _sources():
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    cache = STATE / "declared" / f"{total.hexdigest()[:16]}.json"
    if not cache.is_file():
        found = {"suites": _declared_suites(), "host": _declared_host()}
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False, encoding="utf-8") as draft:
            json.dump(found, draft)
        Path(draft.name).rename(cache)
    return json.loads(cache.read_text(encoding="utf-8"))


def _sources() -> Iterator[Path]:
    for pattern in (
        "harness/**/*.py",
        "plugins/**/*.py",
        "plugins/*/*.toml",
        "suites/**/*.toml",
        "tests/benchmarks/*.py",
    ):
        yield from sorted(ROOT.glob(pattern))


def _declared_suites() -> Any:
    return json.loads(_python("-P", "-m", "harness.tracking.declared", str(ROOT), PYTHONPATH=str(ROOT)))


def _declared_host() -> list[str]:
    """Return the names of the tests in ``tests/benchmarks``."""
    if not (ROOT / "tests/benchmarks").is_dir():
        return []
    listed = _python("-m", "pytest", "tests/benchmarks", "--collect-only", "-q", "-p", "no:cacheprovider", cwd=ROOT)
    return sorted(line.partition("::")[2] for line in listed.splitlines() if "::" in line)


# -------------------------------------------------------------------------------- asking the commit under test


def _start(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this environment's Python, one thread a process, away from any checkout unless ``cwd`` says otherwise."""
    around = {name: value for name, value in os.environ.items() if name not in SET_ASIDE}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or tempfile.gettempdir(),
        env={**around, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _python(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    done = _start(*arguments, cwd=cwd, **environment)
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def _list(*what: str) -> list[dict[str, Any]]:
    return json.loads(_python("-P", "-m", "harness", *what, "--json"))


def why_absent(suite: str, technique: str) -> str | None:
    """Return why the installed commit does not have a technique or suite; None where it has both.

    Raises RuntimeError where it would have it, were its plugin not broken.
    """
    plugin = technique.partition("/")[0]
    if technique.partition(":")[0] not in {entry["id"] for entry in _list("list", "techniques")}:
        causes = [
            entry["cause"] for entry in _list("plugins") if entry["name"] == plugin and entry["status"] == "broken"
        ]
        if causes:
            raise RuntimeError(f"plugin {plugin!r} is broken at this commit: {causes[0]}")
        return f"there is no {technique} at this commit"
    if not any(entry["id"].rpartition("/")[2] == suite and entry.get("track") for entry in _list("list", "suites")):
        return f"suite {suite!r} is not followed at this commit"
    return None


def measure(suite: str, technique: str, quality: dict[str, Any], series: list[str]) -> dict[str, Any]:
    """Run a technique once, with its baseline, and read what it left: ``{"values": ...}`` or ``{"absent": reason}``.

    ``series`` are to be read beside the quality's.
    """
    store = STATE / "store" / os.environ.get("ASV_COMMIT", "unknown")
    before = set(store.glob("runs/*"))
    options = ("--suite", suite, "--technique", technique, "--track", "--quiet", "--store", str(store))
    done = _start("-P", "-m", "harness", "run", *options)
    runs = set(store.glob("runs/*")) - before
    if not runs:
        # 2 is what the harness answers to names it does not know; a harness that does not start cannot be asked
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
    """Return the samples of series by workload, from the stored rows of one technique."""
    found: Values = {}
    for workload in {row["workload"] for row in rows}:
        own = [row for row in rows if row["workload"] == workload]
        reasons = [f"{row['lane']}, seed {row['seed']}: {row['status']}: {row['reason']}" for row in own if _bad(row)]
        series: dict[str, list[float] | str] = {}
        for name in dict.fromkeys([quality["series"], *names]):
            samples = list(_samples(own, name, quality))
            lanes = {row["lane"] for row in own if _bad(row)}
            if reasons and (not samples or (name == quality["series"] and "accuracy" in lanes)):
                series[name] = reasons[0]
            elif samples:
                series[name] = samples
        found[workload] = series
    return found


def _bad(row: dict[str, Any]) -> bool:
    return row["status"] in FAILED


def _samples(rows: list[dict[str, Any]], name: str, quality: dict[str, Any]) -> Iterator[float]:
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
    """Return seconds and their ratios to the baseline's of the same rounds; none where the machine was too busy."""
    ratios = [own / other for own, other in zip(rounds, baselines, strict=bool(baselines))]
    told = steady(ratios or rounds)
    return {"time": rounds if told else [], "ratio": ratios if told else []}


def steady(values: list[float]) -> bool:
    """Return whether the interval of the median, by order statistics, reaches at most a tenth of it to either side."""
    ordered = sorted(values)
    rank = max(0, math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))))
    middle = statistics.median(ordered)
    return middle - ordered[rank] <= STEADY * middle and ordered[-1 - rank] - middle <= STEADY * middle


LOWER: dict[str, Callable[[float], float]] = {
    "itself": lambda value: value,
    "error": lambda value: 100.0 - value,
    "inverse": lambda value: 1 / max(value, 1e-12),
}
"""How a quality becomes one of which less is better, and that JSON can hold."""


def report(data: dict[str, Any], key: str, series: str) -> float | dict[str, Any]:
    """Return what asv reads: samples where there are several, n/a where there are none; raise where the case failed."""
    if "failed" in data:
        raise RuntimeError(data["failed"])
    found = data["values"].get(key, {}).get(series, [])
    if isinstance(found, str):
        raise RuntimeError(found)
    if not found:
        return math.nan
    return found[0] if len(set(found)) == 1 else {"samples": found, "number": 1}


# ------------------------------------------------------------------------------------------ what asv is shown


def safe(*words: str) -> str:
    """Return a name that asv can use for a class, in a file and in an address."""
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words)).strip("_")


def _once(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what ``make`` finds, or ``{"failed": reason}``, kept by the first reader in the folder of asv's cache."""
    file = Path.cwd() / f"{name}.json"
    if not file.is_file():
        try:
            found = make()
        except Exception as error:  # kept, since it took a run to find; every reader raises it
            found = {"failed": f"{type(error).__name__}: {error}"}
        file.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def _family(
    group: str, name: str, title: str, version: str, keys: tuple[str, list[str]], series: list[Series],
    make: Callable[[], dict[str, Any]],
) -> type:  # fmt: skip
    """Return a class of benchmarks that read what ``make`` measures once; ``keys`` are the parameter's name and values.

    asv starts a Python for each cache, and a fork for each reader. So the classes of a group share one cache, which is
    but a folder, and the first reader of a class measures.
    """

    def setup_cache(_: object) -> dict[str, Any]:
        return {}

    def setup(_: object, _cache: dict[str, Any], _key: str) -> None:
        found = _once(name, make)
        if "absent" in found:
            raise NotImplementedError(found["absent"])

    def reader(one: str, unit: str, text: str) -> Callable[..., float | dict[str, Any]]:
        def track(_: object, _cache: dict[str, Any], key: str) -> float | dict[str, Any]:
            return report(_once(name, make), key, one)

        track.__name__ = track.__qualname__ = f"track_{one}"
        track.unit, track.pretty_name = unit, f"{title}: {text}"  # type: ignore[attr-defined]
        return track

    # asv tells caches apart by module and line, so each group needs a module of its own
    setup_cache.__module__ = f"{__name__}.{group}"
    sys.modules.setdefault(setup_cache.__module__, ModuleType(setup_cache.__module__))
    readers = {f"track_{entry[0]}": reader(*entry) for entry in series}
    members = {"setup_cache": setup_cache, "setup": setup, "version": version, "params": [keys[1]]}
    members |= {"timeout": TIMEOUT_S, "param_names": [keys[0]], "__module__": __name__}
    return type(name, (), {**members, **readers})


def quality_of(suite: dict[str, Any]) -> dict[str, Any]:
    """Return how a suite's quality is followed: as it is, or as the error or the inverse where higher is better."""
    own, unit = suite["quality"], suite["unit"]
    if not suite["higher_is_better"]:
        return {"id": own, "series": own, "unit": unit, "form": "itself"}
    if unit == "%":
        return {"id": own, "series": "error", "unit": "%", "form": "error"}
    return {"id": own, "series": f"inverse_{own}", "unit": f"1/({unit})" if unit else "", "form": "inverse"}


def measured_of(phases: dict[str, str], sizes: dict[str, str]) -> list[Series]:
    """Return the series that are followed beside the quality.

    ``phases`` gives the words for one call of each phase that the suite's workloads step; ``sizes`` the units of those
    of its costs that the seed settles.
    """
    return [
        *((f"{phase}_time", "seconds", call) for phase, call in phases.items()),
        *((f"{phase}_ratio", BASELINES, f"{call}, relative") for phase, call in phases.items()),
        *((f"{phase}_tensor_peak", "bytes", f"live tensors, {call}") for phase, call in phases.items()),
        *((f"{phase}_process_peak", "bytes", f"process memory, {call}") for phase, call in [*phases.items()][:1]),
        *((name, unit, name.replace("_", " ")) for name, unit in sizes.items()),
    ]


def technique_families(suite: dict[str, Any]) -> Iterator[type]:
    """Yield a class for each technique of a suite."""
    quality = quality_of(suite)
    own = (quality["series"], quality["unit"], quality["series"])
    others = [entry for entry in measured_of(suite["phases"], suite["sizes"]) if entry[0] != own[0]]
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
    """Run the commit's own benchmarks of the host: seconds by test."""
    project = Path(os.environ["ASV_ENV_DIR"]) / "project"
    if not (project / "tests/benchmarks").is_dir():
        return {"absent": "there are no tests/benchmarks at this commit"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benchmarks.json"
        options = ("--benchmark-only", f"--benchmark-json={file}", "-q", "-p", "no:cacheprovider")
        done = _start("-m", "pytest", "tests/benchmarks", *options, cwd=project)
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = {
        entry["fullname"].partition("::")[2]: {"time": [float(value) for value in entry["stats"]["data"]]}
        for entry in (json.loads(text)["benchmarks"] if text else [])
    }
    if done.returncode and not found:
        raise RuntimeError(f"pytest tests/benchmarks ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    failed = re.findall(r"^(?:FAILED|ERROR) \S+?::(\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    return {"values": {**found, **{name: {"time": reason or "failed"} for name, reason in failed}}}


def families() -> dict[str, type]:
    """Return all classes for asv by name. Raises ValueError where two would have the same name."""
    tree = declared()
    found = [family for suite in tree["suites"] for family in technique_families(suite)]
    if tree["host"]:
        keys = ("test", tree["host"])
        found.append(_family("host", "host", "host", VERSION, keys, [("time", "seconds", "seconds")], measure_host))
    names = [family.__name__ for family in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"techniques whose names are one to asv: {', '.join(twice)}")
    return dict(zip(names, found, strict=True))


if "ASV" in os.environ:
    globals().update(families())
