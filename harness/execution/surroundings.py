"""Describes the environment of a run, which goes into every row, and the part of it that enters a case's key."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from harness.api import DISTRIBUTION, BaseSpec, Json, Suite
from harness.declared import Registered, RegisteredTechnique, RegisteredWorkload
from harness.discovery import PluginRecord
from harness.execution.job import THREADS
from harness.host import Host
from harness.measure import git
from harness.measure.distributions import HOST_PACKAGE, PluginCode, dependencies, in_site, required_versions
from harness.measure.environment import code_state, environment, suite_state
from harness.measure.sources import FAMILIES, HOST, Sources, host_sources, module_sources
from harness.plan import HOST_CODE, Identity, part

RESULT_PACKAGES: Final = ("python", "torch", "numpy", "scipy", "transformers", "peft", "scikit-learn", "tokenizers")
"""The versions that are part of every case's key; the packages that a technique or a workload requires are added."""

Entry = RegisteredTechnique | RegisteredWorkload | Registered[BaseSpec]
"""A declaration of code that computes results."""

_FAMILY: Final = f"{HOST_PACKAGE}.{FAMILIES}."


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The environment of a run, which goes into every row, and the part of it that enters a case's key."""

    environment: Mapping[str, Json]
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class _Code:
    """The code that computes: digests and versions by `part`, and the state of the code of each package under test."""

    digests: dict[str, str]
    versions: dict[str, Mapping[str, Json]]
    states: dict[str, Json]


def of_suite(
    host: Host,
    suite: Suite,
    stored: Mapping[str, Json] | None = None,
    *,
    fixed: Mapping[str, Json] = MappingProxyType({}),
) -> Surroundings:
    """Return the surroundings of a run of a suite, with the state of the suite's file as ``suite``.

    ``fixed`` are the values that the user fixed.

    ``stored`` are the facts of a run that is resumed: its suite is stored too, so that the file does not matter any
    more.
    """
    around = surroundings(host, suite.contract, str({**suite.settings, **fixed}.get("base", "")))
    if stored is not None:
        facts = {"suite": stored["suite"]} if "suite" in stored else {}
    else:
        code = around.environment["code"]
        facts = {"suite": suite_state(Path(suite.source), code if isinstance(code, Mapping) else {})}
    return replace(around, environment={**around.environment, **facts})


def surroundings(host: Host, contract: str | None = None, base: str = "") -> Surroundings:
    """Return the machine, the versions, and the code of all techniques and workloads, or of one contract's and a base.

    The base is that of users' own models.
    """
    code = _read_code(host, contract, base)
    facts = dict(environment())
    facts["code"] = code.states
    facts["requirements"] = {name: dict(versions) for name, versions in code.versions.items() if versions}
    facts["case_threads"] = THREADS
    # Named like a fact of the run's own, a plugin would have said on which processor or with which torch it ran.
    facts = {**dict(host.notify("environment_info")), **facts}
    everywhere = {"python": facts.get("python"), **cast("Mapping[str, Json]", facts.get("packages", {}))}
    versions = {name: value for name, value in everywhere.items() if name in RESULT_PACKAGES}
    identity = Identity(
        code=code.digests,
        packages={**versions, "cpu": facts.get("cpu"), "gpu": facts.get("gpu")},
        requirements=code.versions,
    )
    return Surroundings(environment=facts, identity=identity)


def _read_code(host: Host, contract: str | None, base: str) -> _Code:
    families: dict[str, Sources] = {}
    code = _Code(digests={HOST_CODE: host_sources().digest}, versions={}, states={HOST_PACKAGE: None})
    for record in host.plugins:
        entries: list[tuple[str, Entry]] = [
            (kind, entry) for kind, entry in _entries(host, record) if contract in (None, entry.spec.contract)
        ]
        entries += [
            ("base", entry) for entry in host.declared.bases.values() if (entry.id, entry.plugin) == (base, record.name)
        ]
        if not entries:
            continue
        if record.module.startswith(f"{HOST_PACKAGE}."):
            families[record.module] = module_sources(record.module)
            digest = families[record.module].digest
            for kind, entry in entries:
                code.digests[part(kind, entry.id)] = digest
                code.versions[part(kind, entry.id)] = required_versions(entry.spec.requires)
        else:
            _read_plugin(host, record, entries, code)
    code.states[HOST_PACKAGE] = _host_state(families.values())
    return code


def _read_plugin(host: Host, record: PluginRecord, entries: Sequence[tuple[str, Entry]], code: _Code) -> None:
    """Add an external plugin to ``code``: its own code, and for each entry the families that its module imports."""
    bases = [entry.spec.target for entry in host.declared.bases.values() if entry.plugin == record.name]
    targets = [*(entry.spec.target for _, entry in _entries(host, record)), *bases]
    suites = [suite.spec for suite in host.declared.suites.values() if suite.plugin == record.name]
    plugin = PluginCode(record.module, record.distribution, targets, suites)
    package = host.module_of(record.name)
    code.states[package] = code_state(plugin.sources, plugin.distribution, plugin.checkout, plugin.unknown)
    versions = cache(lambda *requires: required_versions(requires, without=without))
    own = str(code.states[package]["digest"])  # type: ignore[index, call-overload]  # a state is a mapping
    brought = [*dependencies(plugin.distribution), *plugin.foreign]
    without = [plugin.distribution.name] if plugin.distribution is not None else []
    families_of = cache(lambda module: _families(plugin.imports(module)))
    digest_of_family = cache(lambda family: module_sources(family).digest)
    for kind, entry in entries:
        imported = {family: digest_of_family(family) for family in families_of(entry.spec.target.partition(":")[0])}
        facts = json.dumps({"own": own, **imported}, sort_keys=True)
        code.digests[part(kind, entry.id)] = hashlib.sha256(facts.encode()).hexdigest()
        code.versions[part(kind, entry.id)] = versions(*brought, *entry.spec.requires)


def _entries(host: Host, record: PluginRecord) -> Iterable[tuple[str, RegisteredTechnique | RegisteredWorkload]]:
    """Yield the kind and the entry of each technique and workload that a plugin declares."""
    for technique in host.techniques.values():
        if technique.plugin == record.name:
            yield "technique", technique
    for workload in host.workloads.values():
        if workload.plugin == record.name:
            yield "workload", workload


def _families(names: Iterable[str]) -> list[str]:
    """Return the packages of the built-in families that contain at least one of the named modules."""
    families = {name.removeprefix(_FAMILY).partition(".")[0] for name in names if name.startswith(_FAMILY)}
    return sorted(f"{_FAMILY}{family}" for family in families if (HOST / FAMILIES / family).is_dir())


def _host_state(families: Iterable[Sources]) -> dict[str, Json]:
    """Return the state of the host's code: its computing modules, and the families that may run."""
    computing = host_sources()
    every = [computing, *families]
    parts = (*computing.parts, *(name for family in every[1:] for name in family.parts))
    sources = Sources(files=tuple(file for sources in every for file in sources.files), folder=HOST, parts=parts)
    try:
        distribution: Any = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if in_site(HOST):
        return code_state(sources, distribution, None)
    return code_state(sources, distribution, git.checkout(HOST), git.why_no_commit(HOST))
