"""Discovers plugins, isolates the broken ones, and resolves the names of what the others offer."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast

import pluggy

from harness import hookspecs
from harness.api import (
    API_VERSION,
    DISTRIBUTION,
    PLUGINS_VARIABLE,
    PROJECT,
    BaseSpec,
    Contract,
    ExecutorSpec,
    Metric,
    Reporter,
    Technique,
    UsageError,
    WorkloadSpec,
    check_id,
    nearest,
)
from harness.api.text import printable
from harness.checked import BrokenPlugin, check_answer, check_declared, kept
from harness.declared import Declared, Registered, first_misfit
from harness.discovery import (
    Candidate,
    PluginRecord,
    entry_point_candidates,
    family_candidates,
    module_candidate,
    named_candidate,
    named_in_environment,
    record_of,
    without_version,
)
from harness.foreign import contained, one_line
from harness.implemented import Manager, check_hook_names
from harness.streams import aside

CORE = "core"
"""The plugin name of what ships with the host."""

DISABLE = "no:"
"""``-p no:NAME`` disables a plugin, as in pytest."""


# hook, the field of Declared it fills, the type of its items, and whether ids are global
_DECLARING: tuple[tuple[str, str, type, bool], ...] = (
    ("register_techniques", "techniques", Technique, False),
    ("register_contracts", "contracts", Contract, True),
    ("register_workloads", "workloads", WorkloadSpec, False),
    ("register_suites", "suites", Path, False),
    ("register_metrics", "metrics", Metric, True),
    ("register_reporters", "reporters", Reporter, True),
    ("register_executors", "executors", ExecutorSpec, True),
    ("register_bases", "bases", BaseSpec, True),
)

_IMPORTS_TORCH = "imports torch when it is listed, which makes every command slow: import it where it is used"
"""The note on a plugin that imports torch to declare itself."""

_LISTED = ("suite", "technique", "contract", "workload", "metric", "base")
"""What `harness list` shows, in the singular."""


class Host:
    """The loaded plugins, with the declarations of each and the look-up of declarations by name."""

    def __init__(self) -> None:
        self._manager = Manager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self.declared = Declared()
        self._dropped: set[str] = set()
        self._own: set[str] = {CORE}
        self._told: set[str] = set()

    @property
    def techniques(self) -> dict[str, Registered[Technique]]:
        """Techniques by full id."""
        return self.declared.techniques

    @property
    def workloads(self) -> dict[str, Registered[WorkloadSpec]]:
        """Workloads by full id."""
        return self.declared.workloads

    @property
    def contracts(self) -> dict[str, Registered[Contract]]:
        """Contracts by id."""
        return self.declared.contracts

    @property
    def metrics(self) -> dict[str, Metric]:
        """Metrics by id: those that plugins declare, and those that follow from the phases of contracts."""
        return self.declared.all_metrics()

    @property
    def broken(self) -> list[PluginRecord]:
        """The plugins that could not be used."""
        return [record for record in self.plugins if record.status == "broken"]

    def require_loaded(self, modules: Collection[str]) -> None:
        """Raise UsageError with a line for each of these plugins or modules, which the user named, that is broken."""
        broken = [record for record in self.broken if {record.module, record.name} & {*modules}]
        if broken:
            raise UsageError(*(f"plugin {record.module}{where_named(record)}: {record.cause}" for record in broken))

    def load(self, candidate: Candidate) -> None:
        """Load one plugin, or record why the plugin is broken; an exception of the plugin is never passed on."""
        module: object = None
        has_torch = "torch" in sys.modules
        try:
            with aside(), contained():
                module = candidate.load()
                note = _note_of(module)
                declared = self._register(candidate.name, module)
        except Exception as error:  # a plugin may raise anything while it is imported
            if os.environ.get("HARNESS_RAISE"):
                raise
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            self.add_broken(candidate, _one_line(error), traceback.format_exc())
            return
        for name in vars(self.declared):
            getattr(self.declared, name).update(getattr(declared, name))
        slow = "" if has_torch or "torch" not in sys.modules else _IMPORTS_TORCH
        self.plugins.append(record_of(candidate, "ok", "; ".join(filter(None, [note, candidate.note, slow]))))

    def settle(self) -> None:
        """Mark as broken the plugins whose declarations name what no plugin declares, until all names resolve.

        The declarations of such a plugin are removed, so that plugins which relied on these are marked too. Techniques
        and workloads that rely on a plugin that the user disabled are removed, and the rest of their plugin stays.
        """
        self._leave_out_disabled()
        order: dict[str, int] = {}
        for place, record in enumerate(self.plugins):
            order.setdefault(record.name, place)
        lost = {record.name: record.name for record in self.broken if record.name not in self.declared.contracts}
        while misfit := first_misfit(self.declared, order, lost):
            if os.environ.get("HARNESS_RAISE"):
                raise BrokenPlugin(f"plugin {misfit.plugin!r} {misfit.cause}")
            self._manager.unregister(name=misfit.plugin)
            lost |= self.declared.take_out(misfit.plugin)
            self._mend_record(misfit.plugin, status="broken", cause=misfit.cause)

    def _leave_out_disabled(self) -> None:
        """Leave out the techniques and workloads whose contract is named like a plugin that the user disabled."""
        disabled = {record.name for record in self.plugins if record.status == "disabled"}
        touched = self.declared.take_out_of_contracts(frozenset(disabled - self.declared.contracts.keys()))
        for plugin, contracts in touched.items():
            switches = ", ".join(f"-p {DISABLE}{contract}" for contract in contracts)
            note = f"without what it offers for {', '.join(contracts)}: disabled by {switches}"
            (record,) = (record for record in self.plugins if record.name == plugin and record.status == "ok")
            self._mend_record(plugin, status="ok", cause="; ".join(filter(None, [record.cause, note])))

    def _mend_record(self, plugin: str, *, status: Literal["ok", "broken"], cause: str) -> None:
        """Write what became of a plugin that had been loaded."""
        self.plugins = [
            replace(record, status=status, cause=cause) if record.name == plugin and record.status == "ok" else record
            for record in self.plugins
        ]

    def add_broken(self, candidate: Candidate, cause: str, detail: str = "") -> None:
        """Record a plugin that cannot be used."""
        self.plugins.append(record_of(candidate, "broken", cause, detail))

    def take_as_own(self, plugins: Iterable[str]) -> None:
        """Note which plugins ship with the host: a short name that they share with others means theirs."""
        self._own.update(plugins)

    def add_disabled(self, candidate: Candidate) -> None:
        """Record a plugin that the user switched off."""
        self.plugins.append(record_of(candidate, "disabled", f"disabled by -p {DISABLE}{candidate.name}"))

    def _register(self, name: str, module: object) -> Declared:
        version = getattr(module, "HARNESS_API", None)
        if version is None:
            raise BrokenPlugin(without_version(module))
        if type(version) is not int:
            raise BrokenPlugin(f"states HARNESS_API = {version!r}; expected the whole number {API_VERSION}")
        if version != API_VERSION:
            later = version > API_VERSION
            mend = f"pip install --upgrade {DISTRIBUTION}" if later else "look for a newer version of the plugin"
            raise BrokenPlugin(f"is written for plugin interface {version}; this host speaks {API_VERSION}: {mend}")
        check_hook_names(module)
        try:
            self._manager.register(module, name)
        except pluggy.PluginValidationError as error:
            raise BrokenPlugin(str(error).partition("\n")[2] or str(error)) from error
        return self._declare(name, module)

    def _declare(self, plugin: str, module: object) -> Declared:
        declared = Declared()
        others = [other for other in self._manager.get_plugins() if other is not module]
        for hook, kind, item_type, is_global in _DECLARING:
            answers = self._manager.subset_hook_caller(hook, others)()
            target: dict[str, Any] = getattr(declared, kind)
            for item in (item for answer in answers for item in _sequence(answer, hook)):
                if not isinstance(item, item_type):
                    raise BrokenPlugin(f"{hook} returned {item!r}; expected {item_type.__name__} objects")
                short = check_id(item.stem, "suite") if isinstance(item, Path) else cast(Any, item).id
                full = short if is_global else f"{plugin}/{short}"
                if full in target:
                    raise BrokenPlugin(f"declares {kind[:-1]} {short!r} twice")
                check_declared(item, kind[:-1])
                if full in getattr(self.declared, kind):
                    if kind == "metrics" and getattr(self.declared, kind)[full].spec == item:
                        continue  # two plugins may declare the same metric, where they agree on what it is
                    owner = getattr(self.declared, kind)[full].plugin
                    raise BrokenPlugin(
                        f"declares {kind[:-1]} {short!r}, which plugin {owner!r} declares already; choose another id"
                    )
                target[full] = Registered(id=full, plugin=plugin, spec=item)
        return declared

    def notify(self, hook: str, **arguments: object) -> list[Any]:
        """Call a hook plugin by plugin; return pairs of plugin name and result.

        A plugin gets copies, so that what it alters changes neither cases nor rows; of a list of cases, those that it
        keeps stay, in its order. A plugin that raises, or whose answer is not what the hook promises, is dropped.
        """
        answers: list[Any] = []
        caller = getattr(self._manager.hook, hook)
        for plugin in [impl.plugin for impl in caller.get_hookimpls()]:
            name = self._manager.get_name(plugin) or "?"
            if name in self._dropped:
                continue
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            given = {key: value if key == "cli" else deepcopy(value) for key, value in arguments.items()}
            try:
                with aside(), contained():
                    answer = self._manager.subset_hook_caller(hook, others)(**given)
                results = answer if isinstance(answer, list) and hook != "check_case" else [answer]
                for result in results:
                    check_answer(hook, result)
                if isinstance(cases := arguments.get("cases"), list):
                    cases[:] = kept(cases, cast("list[object]", given["cases"]))
            except Exception as error:
                if os.environ.get("HARNESS_RAISE"):
                    raise
                self._dropped.add(name)
                warn(f"plugin {name!r} failed in {hook} and is left out from here on: {_one_line(error)}")
                continue
            answers.extend((name, result) for result in results if result is not None)
        return answers

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            warn(line)

    def version_of(self, plugin: str) -> str:
        """Return the version of a plugin's distribution; an empty text where the plugin has none."""
        return next((record.version for record in self.plugins if record.name == plugin), "")

    def module_of(self, plugin: str) -> str:
        """Return the top-level package of a plugin, whose sources compute the plugin's results."""
        return next(record.module.partition(".")[0] for record in self.plugins if record.name == plugin)

    def resolve(self, kind: str, name: str, contract: str = "") -> str:
        """Return the full id of ``name`` among ``kind`` ('techniques', 'workloads', 'suites', ...).

        A short name works where it is unique, or where one alone is of the ``contract`` that it is wanted for. Raises
        UsageError with the candidates, the nearest name, or the cause of the failure of the plugin that the name
        belongs to.
        """
        known: dict[str, Any] = getattr(self.declared, kind)
        if name in known:
            return name
        candidates = [full for full in known if full.rpartition("/")[2] == name]
        if contract:
            candidates = [full for full in candidates if known[full].spec.contract == contract] or candidates
        own = [full for full in candidates if known[full].plugin in self._own]
        if len(own) == 1 and len(candidates) > 1:
            rest = ", ".join(sorted(full for full in candidates if full != own[0]))
            self._tell_once(f"{kind[:-1]} {name!r} is {own[0]}; others need their full id: {rest}")
            return own[0]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UsageError(
                f"{kind[:-1]} {name!r} is offered by several plugins: say {' or '.join(sorted(candidates))}"
            )
        raise UsageError(self.unknown(kind[:-1], name, known))

    def unknown(self, what: str, name: str, known: Iterable[str]) -> str:
        """Return the error line for an unknown name, with the nearest known name and the likely cause."""
        plugin = name.partition("/")[0]
        for record in self.plugins:
            if "/" in name and record.name == plugin and record.status != "ok":
                return f"unknown {what} {name!r}: plugin {plugin!r} is {record.status}: {record.cause}"
        names = sorted(known)
        hint = f"; see: harness list {what}s" if what in _LISTED else f"; there are: {', '.join(names)}"
        hint = hint if names else f"; no plugin offers any {what}"
        line = f"unknown {what} {name!r}{nearest(name, names) or hint}"
        for status in ("broken", "disabled"):
            plugins = [record.name for record in self.plugins if record.status == status]
            line += f"; {status} plugins: {', '.join(plugins)} (see harness plugins)" if plugins else ""
        return line

    def matching(self, kind: str, pattern: str) -> list[str]:
        """Return the full ids among ``kind`` that a glob matches, by full id or by short name, sorted."""
        known: dict[str, Any] = getattr(self.declared, kind)
        return sorted(full for full in known if matches(pattern, full))


def matches(pattern: str, full: str) -> bool:
    """Return whether a glob matches an id: the full id, or the short name where the pattern has no '/'."""
    return fnmatchcase(full, pattern) or ("/" not in pattern and fnmatchcase(full.rpartition("/")[2], pattern))


def where_named(record: PluginRecord) -> str:
    """Return in brackets that the environment names a plugin, which its user may have forgotten; else nothing."""
    return f" (of {PLUGINS_VARIABLE})" if {record.module, record.name} & {*named_in_environment()} else ""


def warn(line: str) -> None:
    """Write one line to standard error."""
    if sys.stderr is not None:  # a process that was started without it
        sys.stderr.write(f"harness: {printable(line)}\n")


def enabled_and_disabled(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the plugins that values of ``-p`` name, and those that they disable."""
    disabled = [name.removeprefix(DISABLE) for name in names if name.startswith(DISABLE)]
    return [name for name in names if not name.startswith(DISABLE)], disabled


def load_host(enable: Sequence[str] = (), disable: Sequence[str] = (), *, entry_points: bool = True) -> Host:
    """Load the host's own plugin, the built-in families, the installed plugins and the modules in ``enable``.

    ``entry_points`` says whether installed plugins are looked for. ``disable`` names plugins to leave out. What
    ``enable`` names by the name or the module of a plugin that is found anyway, is that plugin.
    The built-in families are loaded before all others, so that no other plugin takes a name that they declare; within
    both groups plugins are loaded sorted by name, each on its own. What fails is in ``Host.broken``. A module in
    ``enable`` that does not exist is broken like any other.
    """
    host = Host()
    core = module_candidate(CORE, "harness.builtin", DISTRIBUTION)
    host.load(core)
    families = {candidate.name: candidate for candidate in family_candidates()}
    host.take_as_own(families)
    others: dict[str, list[Candidate]] = {}
    installed = entry_point_candidates() if entry_points else []
    found = {name for known in (core, *families.values(), *installed) for name in (known.name, known.module)}
    named = [named_candidate(module) for module in enable if module not in found]
    for candidate in (*installed, *named):
        same = others.setdefault(candidate.name, [])
        if not candidate.module:
            host.load(candidate)  # unreadable metadata: it says why, and claims no name
        elif all(candidate.module != other.module for other in same):  # one that is named twice is one
            same.append(candidate)
    for name in sorted(families):
        host.add_disabled(families[name]) if name in disable else host.load(families[name])
    for name, same in sorted((name, same) for name, same in others.items() if same):
        if name in families or name == CORE:
            for candidate in same:
                host.add_broken(candidate, f"the plugin name {name!r} is taken by the host itself; choose another one")
        elif name in disable:
            host.add_disabled(same[0])
        elif len(same) > 1:
            owners = [f"{candidate.distribution or 'the module'} ({candidate.module})" for candidate in same]
            host.add_broken(same[0], f"the plugin name {name!r} is claimed by {' and by '.join(owners)}; uninstall one")
        else:
            host.load(same[0])
    host.settle()
    host.plugins.sort(key=lambda record: (record.name != CORE, record.name))
    return host


def _sequence(answer: object, hook: str) -> Sequence[Any]:
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return answer
    raise BrokenPlugin(f"{hook} returned {type(answer).__name__}; expected a list")


def _note_of(module: object) -> str:
    note = getattr(module, "HARNESS_NOTE", "")
    if not isinstance(note, str):
        raise BrokenPlugin(f"HARNESS_NOTE = {note!r}: expected a text")
    return " ".join(note.split())


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split())) if isinstance(error, BrokenPlugin) else one_line(error)
