"""Users' own models and data: the workload that runs on them, and what a suite's table ``[own]`` changes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.api import Form, Json, UsageError, nearest
from harness.api.values import is_finite
from harness.host import Host
from harness.suite_rules import Problems

OVERRIDES: Final = ("techniques", "seeds", "tuning_seeds", "rounds", "settings")
"""What the table ``[own]`` of a suite may say, and ``[own.quick]`` for the quick form, beside ``scale``."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A user's own model and data, as absolute paths, and the task; an empty ``task`` is the contract's only one."""

    model: str
    data: str
    task: str = ""


def source_of(model: Path | str | None, data: Path | str | None, task: str | None) -> Source | None:
    """Return the source that the options name; None without any.

    Raises UsageError where only one of model and data is named, or where one does not exist.
    """
    if model is None and data is None and task is None:
        return None
    given = {"--model": model, "--data": data}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise UsageError(
            f"{missing[0]} is missing: a model and data of one's own come together: --model DIR --data FILE"
        )
    paths = {name: Path(str(value)).expanduser().absolute() for name, value in given.items()}
    hints = {"--model": "; nothing is downloaded: save a model of a hub once, by save_pretrained", "--data": ""}
    absent = [
        f"{name} {str(path)!r}: there is no such file or folder{hints[name]}"
        for name, path in paths.items()
        if not path.exists()
    ]
    if absent:
        raise UsageError(*absent)
    return Source(model=str(paths["--model"]), data=str(paths["--data"]), task=task or "")


def stated(path: Path, table: Mapping[str, Any]) -> Source | None:
    """Return the source that a suite file names in its table ``[source]``; paths are relative to the file."""
    if not isinstance(given := table.get("source"), dict):
        return None
    names = {key: given.get(key) for key in ("model", "data")}
    here = {key: str(path.parent / value) if isinstance(value, str) else None for key, value in names.items()}
    return source_of(here["model"], here["data"], str(given.get("task", "")))


def on_source(table: Mapping[str, Any], source: Source, workload: str, form: Form) -> dict[str, Any]:
    """Return a suite's table as it is for a source: its ``workload``, settings, and what ``[own]`` changes.

    Left out are the suite's own workloads and settings, and claims about one of these workloads.
    """
    own: Mapping[str, Any] = table.get("own", {})
    short: Mapping[str, Any] = own.get("quick", {}) if form == "quick" else {}
    changes = {**own, **short}
    settings = {**own.get("settings", {}), **short.get("settings", {})}
    scale = scale_of(table)
    return {
        **{
            key: value for key, value in table.items() if key not in ("own", "source", "quick", "track", *_OF_THE_SUITE)
        },
        **{key: changes[key] for key in OVERRIDES if key in changes},
        "workloads": [workload],
        "settings": {**settings, "model": source.model, "data": source.data},
        "tuning": {key: _scaled(values, scale.get(key, 1)) for key, values in table.get("tuning", {}).items()},
        "claims": [claim for claim in table.get("claims", []) if not _is_of_a_workload(claim)],
    }


def scale_of(table: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the factors by name that the values of grids are multiplied with on users' own models."""
    scale: Mapping[str, float] = table.get("own", {}).get("scale", {})
    return scale


def check_own(table: Mapping[str, Any], problems: Problems) -> None:
    """Add what is wrong with the shape of the tables ``[own]`` and ``[source]``."""
    own, source = table.get("own", {}), table.get("source", {})
    for key, value in (("own", own), ("source", source)):
        if not isinstance(value, dict):
            problems.add(key, f"{value!r}: expected a table")
    if not isinstance(own, dict) or not isinstance(source, dict):
        return
    problems.keys(own, (*OVERRIDES, "scale", "quick"), "own.")
    short, scale = own.get("quick", {}), own.get("scale", {})
    if not isinstance(short, dict):
        problems.add("own.quick", f"{short!r}: expected a table")
    else:
        problems.keys(short, OVERRIDES, "own.quick.")
    if not isinstance(scale, dict) or not all(is_finite(factor) and factor > 0 for factor in scale.values()):
        problems.add("own.scale", f"{scale!r}: expected a table of factors, more than 0, by the names in [tuning]")
    problems.keys(source, ("model", "data", "task"), "source.")


_OF_THE_SUITE: Final = ("own", "source", "quick", "track", "sequential", "repeatability", "settings", "workloads")
"""The forms of a suite, and what it asks of its own workloads only."""


def workload_for(source: Source, contract: str, host: Host) -> str:
    """Return the workload of a contract that runs on users' own models. Raises UsageError where there is none."""
    offered = {
        entry.spec.task: full
        for full, entry in host.workloads.items()
        if entry.spec.contract == contract and entry.spec.task
    }
    if not offered:
        raise UsageError(f"--model: no workload of the contract {contract!r} runs on a model of one's own yet")
    if source.task and source.task not in offered:
        known = ", ".join(sorted(offered))
        raise UsageError(f"--task {source.task!r}: expected one of {known}{nearest(source.task, offered)}")
    if not source.task and len(offered) > 1:
        raise UsageError(f"--task is missing: expected one of {', '.join(sorted(offered))}")
    return offered[source.task] if source.task else next(iter(offered.values()))


def _scaled(values: Any, factor: Any) -> Any:
    """Return the values of a grid times a factor, with three digits."""
    if not isinstance(values, list) or factor == 1:
        return values
    return [scaled(value, factor) for value in values]


def scaled(value: Any, factor: float) -> Any:
    """Return a number times a factor, with three digits, and anything else as it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(f"{value * factor:.3g}") if number and factor != 1 else value


def scaled_space(space: Mapping[str, Sequence[Json]], scale: Mapping[str, float]) -> Mapping[str, Sequence[Json]]:
    """Return a technique's own space with the values of each name times its factor in ``scale``."""
    return {name: [scaled(value, scale.get(name, 1)) for value in values] for name, values in space.items()}


def _is_of_a_workload(claim: Any) -> bool:
    test = claim.get("test") if isinstance(claim, dict) else None
    return isinstance(test, dict) and bool({"workload", "more_on", "than_on"} & test.keys())
