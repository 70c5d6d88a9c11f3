"""Users' own models and data: the workload that runs on them, and what a suite's table ``[own]`` changes there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from harness.api import DATA_KINDS, Form, Json, UsageError, WorkloadSpec, nearest
from harness.api.values import is_finite
from harness.host import Host
from harness.judge.tables import ROLES, kinds_of
from harness.origins.converted import GGUF, converted
from harness.origins.finding import data_path, from_folder, model_path
from harness.origins.reading import OFFLINE, Reading
from harness.suite_rules import Problems

OVERRIDES: Final = (
    *("techniques", "seeds", "tuning_seeds", "rounds", "settings"),
    *("metrics", "margins", "costs", "comparison", "select", "claims"),
)
"""What the table ``[own]`` of a suite may say, and ``[own.quick]`` for the quick form, beside ``scale``.

``[own.TASK]`` and ``[own.TASK.quick]`` say it for one task, and win over these.
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A user's own model and data, as absolute paths, and the task; an empty ``task`` follows from the data.

    ``columns`` are the columns of the data by what they are: ``{"text": "review"}``. ``base`` is the form of the model
    under what trains; an empty one is the workload's default.
    """

    model: str
    data: str
    task: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    base: str = ""


def source_of(
    model: Path | str | None,
    data: Path | str | None,
    task: str | None,
    reading: Reading = OFFLINE,
    *,
    base: str | None = None,
) -> Source | None:
    """Return the source that the options name; None without any.

    Raises UsageError where only one of model and data is named, or where one cannot be found; nothing is downloaded
    unless ``reading`` says so.
    """
    if model is None and data is None and task is None and base is None:
        return None
    given = {"--model": model, "--data": data}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise UsageError(
            f"{missing[0]} is missing: a model and data of one's own come together: --model MODEL --data DATA"
        )
    unknown = sorted(reading.columns.keys() - ROLES.keys())
    problems = [f"--column {role}: expected one of {', '.join(ROLES)}{nearest(role, ROLES)}" for role in unknown]
    paths: list[Path] = []
    for find, value in ((model_path, model), (data_path, data)):
        try:
            paths.append(find(str(value), reading))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(*problems)
    folder, found = (converted(path, reading.cache) if path.suffix.lower() == GGUF else path for path in paths)
    return Source(model=str(folder), data=str(found), task=task or "", columns=reading.columns, base=base or "")


def stated(path: Path, table: Mapping[str, Any], reading: Reading = OFFLINE) -> Source | None:
    """Return the source that a suite file names in its table ``[source]``; paths are relative to the file.

    The columns of ``reading`` win over those of the file.
    """
    if not isinstance(given := table.get("source"), dict):
        return None
    names = {key: given.get(key) for key in ("model", "data")}
    here = {
        key: from_folder(path.parent, value) if isinstance(value, str) and value else None
        for key, value in names.items()
    }
    columns = given.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns.values()):
        raise UsageError(
            f"{path}: source.columns: {columns!r}: expected a table of columns, like {{ text = 'review' }}"
        )
    told = replace(reading, columns={**columns, **reading.columns})
    return source_of(here["model"], here["data"], str(given.get("task", "")), told, base=str(given.get("base", "")))


def on_source(table: Mapping[str, Any], source: Source, workload: str, task: str, form: Form) -> dict[str, Any]:
    """Return a suite's table as it is for a source: its ``workload``, settings, and what ``[own]`` changes.

    ``task`` is the workload's. Left out are the suite's own workloads and settings, and claims about these workloads
    or about values that nothing here tunes.
    """
    own = _own_of(table, task)
    layers = [layer for given in own for layer in (given, given.get("quick", {}) if form == "quick" else {})]
    changes = {key: layer[key] for layer in layers for key in OVERRIDES if key in layer}
    if source.base and (bases := bases_of(table)):
        changes["techniques"] = bases[source.base]
    settings = {key: value for layer in layers for key, value in layer.get("settings", {}).items()}
    scale = scale_of(table, task)
    tuned = table.get("tuning", {})
    claims = changes.get("claims", table.get("claims", []))
    return {
        **{
            key: value for key, value in table.items() if key not in ("own", "source", "quick", "track", *_OF_THE_SUITE)
        },
        **changes,
        "workloads": [workload],
        "settings": {**settings, "model": source.model, "data": source.data, **source.columns, **_base(source, table)},
        "tuning": {key: _scaled(values, scale.get(key, 1)) for key, values in tuned.items()},
        "claims": [claim for claim in claims if not _is_of_the_suite(claim, tuned)],
    }


def bases_of(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the techniques that a suite compares where a base is named, by its name; empty where bases are settings.

    A suite whose techniques put a model into fewer bits has no other use for ``--base``.
    """
    bases: Mapping[str, Any] = table.get("own", {}).get("bases", {})
    return bases


def require_base(table: Mapping[str, Any], base: str, host: Host) -> None:
    """Raise UsageError unless a base is one that the suite or a plugin knows."""
    if not (bases := bases_of(table)):
        host.resolve("bases", base)
    elif base not in bases:
        raise UsageError(f"--base {base!r}: expected one of {', '.join(bases)}{nearest(base, bases)}")


def scale_of(table: Mapping[str, Any], task: str) -> Mapping[str, float]:
    """Return the factors by name that the values of grids are multiplied with on users' own models, for a task."""
    return {name: factor for own in _own_of(table, task) for name, factor in own.get("scale", {}).items()}


def _own_of(table: Mapping[str, Any], task: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the table ``[own]`` of a suite and, of more weight, the one in it for a task."""
    own: Mapping[str, Any] = table.get("own", {})
    return own, own.get(task, {})


def check_own(table: Mapping[str, Any], problems: Problems, tasks: Collection[str]) -> None:
    """Add what is wrong with the shape of the tables ``[own]`` and ``[source]``; ``tasks`` are all that are known."""
    own, source = table.get("own", {}), table.get("source", {})
    for key, value in (("own", own), ("source", source)):
        if not isinstance(value, dict):
            problems.add(key, f"{value!r}: expected a table")
    if not isinstance(own, dict) or not isinstance(source, dict):
        return
    _check_overrides(own, "own", problems, ("bases", *sorted(tasks)))
    bases = own.get("bases", {})
    if not isinstance(bases, dict) or not all(isinstance(names, list) for names in bases.values()):
        problems.add("own.bases", f"{bases!r}: expected a table of lists of techniques")
    for task in (task for task in tasks if task in own):
        if isinstance(own[task], dict):
            _check_overrides(own[task], f"own.{task}", problems)
        else:
            problems.add(f"own.{task}", f"{own[task]!r}: expected a table")
    problems.keys(source, ("model", "data", "task", "columns", "base"), "source.")


def _check_overrides(own: Mapping[str, Any], name: str, problems: Problems, more: Sequence[str] = ()) -> None:
    """Add what is wrong with a table of overrides called ``name``, in which the keys ``more`` may stand too."""
    problems.keys(own, (*OVERRIDES, "scale", "quick", *more), f"{name}.")
    short, scale = own.get("quick", {}), own.get("scale", {})
    if not isinstance(short, dict):
        problems.add(f"{name}.quick", f"{short!r}: expected a table")
    else:
        problems.keys(short, OVERRIDES, f"{name}.quick.")
    if not isinstance(scale, dict) or not all(is_finite(factor) and factor > 0 for factor in scale.values()):
        problems.add(f"{name}.scale", f"{scale!r}: expected a table of factors, more than 0, by the names in [tuning]")
    for of_settings, where in ((own, name), (short if isinstance(short, dict) else {}, f"{name}.quick")):
        if not isinstance(given := of_settings.get("settings", {}), dict):
            problems.add(f"{where}.settings", f"{given!r}: expected a table")


_OF_THE_SUITE: Final = ("own", "source", "quick", "track", "sequential", "repeatability", "settings", "workloads")
"""The forms of a suite, and what it asks of its own workloads only."""


def workload_for(source: Source, contract: str, host: Host) -> str:
    """Return the workload of a contract that runs on a user's own model and data: of the task named, or that fits.

    Without a task, that is the one which reads the likeliest kind of the data. Raises UsageError where there is none,
    where several are, and where the data are none that the named task reads.
    """
    offered = {
        entry.spec.task: (full, entry.spec)
        for full, entry in host.workloads.items()
        if entry.spec.contract == contract and entry.spec.task
    }
    if not offered:
        raise UsageError(f"--model: no workload of the contract {contract!r} runs on a model of one's own yet")
    if source.task and source.task not in offered:
        known = ", ".join(sorted(offered))
        raise UsageError(f"--task {source.task!r}: expected one of {known}{nearest(source.task, offered)}")
    kinds = kinds_of(Path(source.data), source.columns)
    for kind in kinds:
        fitting = [task for task, (_, spec) in offered.items() if kind in spec.reads and source.task in ("", task)]
        if len(fitting) > 1:
            raise UsageError(f"--task is missing: expected one of {', '.join(sorted(fitting))}")
        if fitting:
            return offered[fitting[0]][0]
    tasks = {source.task: offered[source.task]} if source.task else offered
    reads = "; ".join(f"{task} reads {_phrases(spec.reads)}" for task, (_, spec) in sorted(tasks.items()))
    raise UsageError(f"--data {source.data!r}: has {_phrases(kinds[:1])}; the task {reads}")


def learned(spec: WorkloadSpec, settings: Mapping[str, Json]) -> Iterator[str]:
    """Yield what is learned from a user's data, and from which kind of data that follows."""
    data = Path(str(settings.get("data", "")))
    if not spec.task or not settings.get("data"):
        return
    columns = {role: str(settings[role]) for role in ROLES if role in settings}
    for kind in [kind for kind in kinds_of(data, columns) if kind in spec.reads][:1]:
        yield f"the task is {spec.task}: {data.name} has {DATA_KINDS[kind]}; --task NAME chooses another"


def _phrases(kinds: Sequence[str]) -> str:
    return " or ".join(DATA_KINDS[kind] for kind in kinds)


def _base(source: Source, table: Mapping[str, Any]) -> dict[str, Any]:
    return {"base": source.base} if source.base and not bases_of(table) else {}


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


def _is_of_the_suite(claim: Any, tuned: Mapping[str, Any]) -> bool:
    """Return whether a claim is about the suite's own workloads, or about values that are pinned there."""
    test = claim.get("test") if isinstance(claim, dict) else None
    if not isinstance(test, dict):
        return False
    varied = [test[key] for key in ("rises_with", "falls_with", "best") if key in test]
    return bool({"workload", "more_on", "than_on"} & test.keys()) or any(
        isinstance(value, str) and value not in tuned for value in varied
    )
