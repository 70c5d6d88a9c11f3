"""Says in what two runs are unlike: what forbids to compare them, and which code was under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.api import DISTRIBUTION, RunInfo
from harness.results.store import StoredRun

_HARDWARE: Final = ("machine", "cpu", "gpu")
_CHOICES: Final = ("device", "params")


def unlike(base: StoredRun, head: StoredRun) -> tuple[str, ...]:
    """One line for each thing besides the code under test that may have changed the numbers; empty where alike.

    Hardware, versions of Python and of third-party packages, the suite, its form and version, versions of workloads,
    the device, fixed parameters, threads of a case.
    """
    one, other = base.info, head.info
    lines = []
    if one.suite.id != other.suite.id:
        lines.append(f"suite: {one.suite.id} and {other.suite.id}")
    elif one.suite.version != other.suite.version:
        lines.append(f"suite {one.suite.id}: version {one.suite.version} and {other.suite.version}")
    if one.suite.form != other.suite.form:
        lines.append(f"form: {one.suite.form} and {other.suite.form}")
    lines += [_line(name, one.environment, other.environment) for name in ("python", *_HARDWARE, "case_threads")]
    own = _own_packages(one) | _own_packages(other)
    packages = [_others(info, own) for info in (one, other)]
    lines += [_line(name, *packages) for name in dict.fromkeys([*packages[0], *packages[1]])]
    lines += _requirements(base, head, own)
    lines += [_line(name, one.selection, other.selection) for name in _CHOICES]
    lines += _workloads(base, head)
    return tuple(dict.fromkeys(line for line in lines if line))


def code_of(info: RunInfo) -> dict[str, str]:
    """Each package under test and its state: the commit where it's known, else its version."""
    found = {}
    for name, state in _mapping(info.environment.get("code")).items():
        commit = str(state.get("commit") or "")[:9]
        text = commit + (" with changes" if commit and state.get("dirty") else "")
        found[name] = text or f"{state.get('version') or '?'} ({str(state.get('digest'))[:8]})"
    return found


def _line(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs in one fact; empty where nothing does, or where both don't have it."""
    first, second = one.get(name), other.get(name)
    return "" if first == second else f"{name}: {_short(first)} and {_short(second)}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("model") or ", ".join(f"{key}={one}" for key, one in value.items()) or "none")
    return "none" if value in (None, [], ()) else str(value)


def _own_packages(info: RunInfo) -> set[str]:
    """The distributions under test: the host's and the plugins'."""
    return {DISTRIBUTION, *(str(plugin.get("distribution")) for plugin in info.plugins)}


def _others(info: RunInfo, own: set[str]) -> dict[str, Any]:
    packages = _mapping(info.environment.get("packages"))
    return {name: version for name, version in packages.items() if name not in own}


def _requirements(base: StoredRun, head: StoredRun, own: set[str]) -> Iterable[str]:
    """Yield a line for each library that a technique or workload of both runs requires, in two versions."""
    ran = [
        {part for row in run.rows for part in (f"technique {row.case.technique}", f"workload {row.case.workload}")}
        for run in (base, head)
    ]
    for part in sorted({name.partition(":")[0] for name in ran[0] & ran[1]}):
        one, other = (_mapping(_mapping(run.info.environment.get("requirements")).get(part)) for run in (base, head))
        yield from (_line(name, one, other) for name in one if name in other and name not in own)


def _workloads(base: StoredRun, head: StoredRun) -> Iterable[str]:
    versions: list[dict[str, int]] = [
        {row.case.workload: row.case.workload_version for row in run.rows} for run in (base, head)
    ]
    for name in versions[0]:
        if versions[0][name] != versions[1].get(name, versions[0][name]):
            yield f"workload {name}: version {versions[0][name]} and {versions[1][name]}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
