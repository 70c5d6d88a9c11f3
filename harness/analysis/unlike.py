"""Lists the differences that make two runs incomparable, and the code that each run tested."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from harness.api import DISTRIBUTION, RunInfo
from harness.api.text import as_text
from harness.results.store import StoredRun

_MACHINE: Final = ("python", "machine", "cpu", "gpu", "cores", "cpu_quota", "memory_limit", "case_threads")
_CHOICES: Final = ("device", "params")


def unlike(base: StoredRun, head: StoredRun) -> tuple[str, ...]:
    """Return one line for each difference, besides the code under test, that may have changed the results.

    Compared are the suite, its version and its form, the versions of Python and of third-party packages, the hardware,
    the limits of the container, the threads of a case, the device, fixed parameters, and the versions of workloads. Of
    a run that went on in other environments, each of these is compared; of rows that other machines computed, those of
    these machines.
    """
    lines = [
        line
        for first in _in_each_environment(base)
        for second in _in_each_environment(head)
        for line in _unlike(first, second)
    ]
    return tuple(dict.fromkeys(line for line in lines if line))


def _in_each_environment(run: StoredRun) -> list[StoredRun]:
    """Return the run as if it had been started in each of the environments that computed its rows."""
    environments = [run.info.environment]
    environments += [{**run.info.environment, **_mapping(entry.get("environment"))} for entry in run.info.resumed]
    computed = [row.environment for row in run.rows if row.ok]
    elsewhere = {_facts(environment): environment for environment in computed if "hostname" in environment}
    if elsewhere and all("hostname" in environment for environment in computed):
        environments = []  # those of the driver, which computed nothing
    environments += elsewhere.values()
    return [replace(run, info=replace(run.info, environment=environment)) for environment in environments]


def _facts(environment: Mapping[str, Any]) -> str:
    """Return the facts of an environment that are compared, as a text."""
    names = (*_MACHINE, "packages", "requirements")
    return json.dumps([environment.get(name) for name in names], sort_keys=True, default=str)


def _unlike(base: StoredRun, head: StoredRun) -> list[str]:
    """Return one line for each difference between two runs of one environment each; lines may be empty."""
    base_info, head_info = base.info, head.info
    lines = []
    suite, other = base_info.suite, head_info.suite
    if suite.id != other.id:
        lines.append(f"suite: {suite.id} and {other.id}")
    elif suite.version != other.version:
        lines.append(f"suite {suite.id}: version {suite.version} and {other.version}")
    if suite.form != other.form:
        lines.append(f"form: {suite.form} and {other.form}")
    lines += [_line(name, base_info.environment, head_info.environment) for name in _MACHINE]
    own = _own_packages(base_info) | _own_packages(head_info)
    packages = [_third_party(info, own) for info in (base_info, head_info)]
    lines += [_line(name, *packages) for name in dict.fromkeys([*packages[0], *packages[1]])]
    lines += _requirements(base, head, own)
    lines += [_line(name, base_info.selection, head_info.selection) for name in _CHOICES]
    lines += _workloads(base, head)
    return lines


def code_of(info: RunInfo) -> dict[str, str]:
    """Return the state of each package under test: its commit where that is known, else its version and digest."""
    states = {}
    for name, facts in _mapping(info.environment.get("code")).items():
        state = _mapping(facts)
        commit = str(state.get("commit") or "")[:9]
        text = commit + (" with changes" if commit and state.get("dirty") else "")
        states[name] = text or f"{state.get('version') or '?'} ({str(state.get('digest'))[:8]})"
    return states


def _line(name: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """Return the line on a fact that differs between base and head, or an empty text where the fact is the same."""
    first, second = base.get(name), head.get(name)
    return "" if first == second else f"{name}: {_short(first)} and {_short(second)}"


def _short(value: object) -> str:
    """Return a short text for a fact: the model of a device, the items of a mapping, or ``none`` for an empty value."""
    if isinstance(value, Mapping):
        model = value.get("model") or ", ".join(f"{key}={as_text(item)}" for key, item in value.items())
        return as_text(model or "none")
    if isinstance(value, list | tuple):
        return "; ".join(map(_short, value)) or "none"
    return "none" if value is None else as_text(value)


def _own_packages(info: RunInfo) -> set[str]:
    """Return the distributions under test: the harness and the plugins of the run."""
    return {DISTRIBUTION, *(str(plugin.get("distribution")) for plugin in info.plugins)}


def _third_party(info: RunInfo, own: set[str]) -> dict[str, Any]:
    """Return the versions of the packages that are not under test."""
    packages = _mapping(info.environment.get("packages"))
    return {name: version for name, version in packages.items() if name not in own}


def _requirements(base: StoredRun, head: StoredRun, own: set[str]) -> Iterable[str]:
    """Yield a line for each library, required by a technique or workload of both runs, whose versions differ."""
    ran = [
        {part for row in run.rows for part in (f"technique {row.case.technique}", f"workload {row.case.workload}")}
        for run in (base, head)
    ]
    for part in sorted({name.partition(":")[0] for name in ran[0] & ran[1]}):
        before, after = (_mapping(_mapping(run.info.environment.get("requirements")).get(part)) for run in (base, head))
        yield from (_line(name, before, after) for name in before if name in after and name not in own)


def _workloads(base: StoredRun, head: StoredRun) -> Iterable[str]:
    """Yield a line for each workload whose version differs."""
    versions: list[dict[str, int]] = [
        {row.case.workload: row.case.workload_version for row in run.rows} for run in (base, head)
    ]
    for name in versions[0]:
        if versions[0][name] != versions[1].get(name, versions[0][name]):
            yield f"workload {name}: version {versions[0][name]} and {versions[1][name]}"


def _mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, Mapping) else {}
