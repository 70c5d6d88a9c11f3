"""Reads suite files and checks them against what the plugins offer, reporting all errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from harness.api import Claim, Form, Suite, UsageError, WorkloadSpec, check_id, nearest
from harness.api.text import quoted
from harness.entrants import WITHOUT, Entrant, Kind, entrant_of, is_glob, is_json, value_problem
from harness.host import Host
from harness.origins.reading import OFFLINE, Reading
from harness.source import Source, check_own, on_source, require_base, scale_of, stated, workload_for
from harness.suite_claims import Known, claims_in
from harness.suite_comparison import stated_in
from harness.suite_files import find_suite, parse
from harness.suite_rules import WORDS, Problems, fits, looks_in
from harness.suite_rules import problems as rules
from harness.suite_rules import seeds_of as seeds_of

_REQUIRED = {
    "title": str,
    "version": int,
    "contract": str,
    "baseline": str,
    "workloads": list,
    "techniques": list,
    "seeds": (int, list),
    "metrics": list,
}
_STAND_INS = {"title": "-", "version": 1}
"""What the rest of a file is checked with where its own values cannot be used; nothing else depends on them."""
_OPTIONAL = {
    "select": str,
    "costs": list,
    "tuning_seeds": int,
    "rounds": int,
    "tuning": dict,
    "settings": dict,
    "margins": dict,
    "comparison": dict,
    "sequential": dict,
    "repeatability": int,
    "claims": list,
    "quick": dict,
    "track": dict,
    "own": dict,
    "source": dict,
}
_OVERRIDES = ("workloads", "techniques", "seeds", "tuning_seeds", "rounds", "tuning", "settings")
"""What a suite's ``[quick]`` and ``[track]`` tables may say."""
_OF_FULL = ("sequential", "repeatability")
"""What only the full suite does."""
DEFAULT_ROUNDS = 20
DEFAULT_TUNING_SEEDS = 2


def read_suite(
    name: str, host: Host, *, form: Form = "full", source: Source | None = None, reading: Reading = OFFLINE
) -> Suite:
    """Read and check a suite by id, short name or path; the table named like ``form`` overrides the other keys.

    The form ``track`` runs every technique at its defaults, unless the table ``[track]`` has a tuning grid. With a
    ``source``, or where the file names one, the suite runs on that model and these data, and ``[own]`` overrides;
    ``reading`` says how the one of the file is found.

    Raises UsageError with every problem found, each naming the file, the key, what was expected and the nearest
    right name.
    """
    path = find_suite(name, host)
    data = parse(path)
    problems = Problems(path)
    if found := source or stated(path, data, reading):
        if form == "track":
            out = "--model and --data" if source else f"[source] of {path}"
            raise UsageError(f"--track follows a suite's own workloads over commits: leave {out} out")
        return _read_on_source(path, data, host, form, found)
    if reading.columns or reading.download:
        raise UsageError("--column and --download go with a model and data of one's own: add --model and --data")
    suite = _read_form(path, data, host, form, problems)
    if form == "full":  # a mistake in another form's table is one of the file, too
        for other in (other for other in get_args(Form) if other != form and other in data):
            of_form = Problems(path)
            _read_form(path, data, host, other, of_form)
            problems.add_new(of_form, f"{other}: ")
    problems.raise_if_any()
    assert suite is not None
    return suite


def _read_on_source(path: Path, data: Mapping[str, Any], host: Host, form: Form, source: Source) -> Suite:
    """Return a suite on a user's own model and data. Raises UsageError with every problem found."""
    problems = Problems(path)
    check_own(data, problems, _tasks(host))
    problems.raise_if_any()
    if source.base:
        require_base(data, source.base, host)
    workload = workload_for(source, str(data.get("contract", "")), host)
    task = host.workloads[workload].spec.task
    table = on_source(data, source, workload, task, form)
    suite = _Reader(table, host, problems).read(path, form)
    problems.raise_if_any()
    assert suite is not None
    return replace(suite, scale=scale_of(data, task))


def _tasks(host: Host) -> set[str]:
    """Return what workloads learn from users' own data."""
    return {entry.spec.task for entry in host.workloads.values()} - {""}


def _read_form(path: Path, data: Mapping[str, Any], host: Host, form: Form, problems: Problems) -> Suite | None:
    """Return a suite in one of its forms; None, and problems noted, where it has any that forbid to go on."""
    if form != "full":
        overrides = data.get(form)
        if not isinstance(overrides, dict):
            raise UsageError(f"{path}: has no [{form}] table, so --{form} has no effect; leave out --{form}")
        problems.keys(overrides, _OVERRIDES, f"{form}.")
        untuned: dict[str, Any] = {"tuning": {}} if form == "track" else {}
        data = {key: value for key, value in data.items() if key not in _OF_FULL}
        data = {**data, **untuned, **{key: value for key, value in overrides.items() if key in _OVERRIDES}}
    return _Reader(dict(data), host, problems).read(path, form)


class _Reader:
    """A reader that turns the table of one suite file into a `Suite` and adds each error to the problems."""

    def __init__(self, data: Mapping[str, Any], host: Host, problems: Problems) -> None:
        self._data = data
        self._host = host
        self._problems = problems
        self._wrong: set[str] = set()  # the keys without a value that can be used

    def read(self, path: Path, form: Form) -> Suite | None:
        self._check_shape(path)
        if self._wrong & _REQUIRED.keys() - _STAND_INS.keys():
            self._check_names_that_are_there()  # all that can be checked without values of the right types
            return None
        data = self._data = {**_STAND_INS, **{key: self._data[key] for key in self._data.keys() - self._wrong}}
        stated = stated_in(data, lambda name: self._name("techniques", "comparison.references", name))
        baseline = self._entrant("techniques", "baseline", data["baseline"])
        workloads = [self._entrant("workloads", "workloads", name) for name in data["workloads"]]
        self._check_contract([*workloads, baseline])
        metrics = tuple(data["metrics"])
        select = data.get("select", f"val_{metrics[0]}")
        costs = self._costs()
        self._metrics([*((name, "metrics") for name in metrics), (select, "select")])
        self._metrics((name, "costs") for name in costs)
        # what is known of all workloads: where one is unknown, so are its settings and metrics
        specs = {known.name: known.spec for known in workloads if known} if all(workloads) else {}
        if specs:
            self._check_values(list(specs.values()))
        resolved = {**data, "workloads": [workload.name for workload in workloads if workload]}
        for key, text in rules(resolved, specs, select, self._host.metrics):
            self._problems.add(key, text)
        return Suite(
            id=path.stem,
            title=data["title"],
            version=data["version"],
            contract=data["contract"],
            baseline=baseline.name if baseline else "",
            workloads=tuple(workload.name for workload in workloads if workload),
            techniques=self._techniques(),
            seeds=seeds_of(data["seeds"]),
            metrics=metrics,
            select=select,
            tuning_seeds=min(data.get("tuning_seeds", DEFAULT_TUNING_SEEDS), len(seeds_of(data["seeds"]))),
            tuning={key: tuple(values) for key, values in data.get("tuning", {}).items() if fits(values, list)},
            settings=data.get("settings", {}),
            margins=self._margins(),
            claims=self._claims(list(specs.values()), form),
            rounds=data.get("rounds", DEFAULT_ROUNDS),
            form=form,
            source=str(path),
            costs=costs,
            looks=looks_in(data),
            repeatability=data.get("repeatability", 0),
            **vars(stated),
        )

    def _check_shape(self, path: Path) -> None:
        known = {**_REQUIRED, **_OPTIONAL}
        self._problems.keys(self._data, known)
        check_own(self._data, self._problems, _tasks(self._host))
        for key, kind in known.items():
            if key not in self._data:
                if key in _REQUIRED:
                    self._refuse(key, f"missing; expected {WORDS[kind]}")
            elif not fits(self._data[key], kind):
                self._refuse(key, f"{quoted(self._data[key])}: expected {WORDS[kind]}")
        self._check_lists()
        for key in ("version", "tuning_seeds", "rounds"):
            value = self._data.get(key)
            if isinstance(value, int) and value < 1:
                self._refuse(key, f"{value}: expected 1 or more")
        try:
            check_id(path.stem, "suite")
        except ValueError as error:
            self._problems.add("(file name)", str(error))
        if fits(self._data.get("seeds"), (int, list)):
            try:
                seeds_of(self._data["seeds"])
            except ValueError as error:
                self._refuse("seeds", str(error))

    def _refuse(self, key: str, text: str) -> None:
        """Note what is wrong with the value of a key, which is used no further."""
        self._problems.add(key, text)
        self._wrong.add(key)

    def _check_lists(self) -> None:
        for key, may_be_empty in (("workloads", False), ("techniques", False), ("metrics", False), ("costs", True)):
            value = self._data.get(key)
            if not isinstance(value, list) or (value and all(isinstance(name, str) for name in value)):
                continue
            if value or not may_be_empty:
                expected = "a list of strings" if may_be_empty else "a list of at least one string"
                self._refuse(key, f"{quoted(value)}: expected {expected}")

    def _check_names_that_are_there(self) -> None:
        kinds: dict[str, Kind] = {"workloads": "workloads", "techniques": "techniques", "baseline": "techniques"}
        for key, kind in kinds.items():
            value = self._data.get(key)
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and not is_glob(name):
                    self._name(kind, key, name)

    def _name(self, kind: Kind, key: str, name: str) -> str:
        entrant = self._entrant(kind, key, name)
        return entrant.name if entrant else name

    def _entrant(self, kind: Kind, key: str, name: str) -> Entrant[Any] | None:
        """Return the entrant of a name; None, and a problem noted, where there is none."""
        try:
            return entrant_of(kind, name, self._host, str(self._data.get("contract", "")))
        except UsageError as error:
            self._problems.add(key, str(error))
            return None

    def _check_contract(self, entrants: Iterable[Entrant[Any] | None]) -> None:
        contract = self._data["contract"]
        offered = {entry.spec.contract for entry in self._host.workloads.values()}
        if contract not in offered:
            self._problems.add("contract", f"no workload has contract {contract!r}{nearest(contract, offered)}")
            return
        for entrant in entrants:
            if entrant and entrant.spec.contract != contract:
                kind = "workloads" if isinstance(entrant.spec, WorkloadSpec) else "techniques"
                text = f"{entrant.name} has contract {entrant.spec.contract!r}; expected {contract!r}"
                self._problems.add(kind, text)

    def _techniques(self) -> tuple[str, ...]:
        names = []
        for name in self._data["techniques"]:
            if not is_glob(name):
                entrant = self._entrant("techniques", "techniques", name)
                self._check_contract([entrant])
                names += [entrant.name] if entrant else []
            else:
                matching = self._host.matching("techniques", name.removeprefix(WITHOUT))
                if not any(self._host.techniques[full].spec.contract == self._data["contract"] for full in matching):
                    self._problems.add("techniques", f"{name!r} matches no technique of this contract")
                names.append(name)
        return tuple(names)

    def _costs(self) -> tuple[str, ...]:
        """Return the cost metrics that the file names; by default the tensor peak of the contract's first phase."""
        if "costs" in self._data:
            return tuple(self._data["costs"])
        contract = self._host.contracts.get(self._data["contract"])
        return tuple(f"{phase}_tensor_peak" for phase in contract.spec.phases)[:1] if contract else ()

    def _metrics(self, names: Iterable[tuple[str, str]]) -> None:
        for name, key in names:
            if name not in self._host.metrics:
                self._problems.add(key, self._host.unknown("metric", name, self._host.metrics))

    def _check_values(self, workloads: Sequence[WorkloadSpec]) -> None:
        """Check the names and the ranges of the values that are tuned and of the settings."""
        settings = {key for spec in workloads for key in spec.settings}
        techniques = [entry.spec for entry in self._host.techniques.values()]
        mine = [spec for spec in techniques if spec.contract == self._data["contract"]]
        params = {key for spec in mine for key in spec.params}
        for key, values in self._data.get("tuning", {}).items():
            if not fits(values, list) or not values or not all(_is_scalar(value) for value in values):
                self._problems.add(f"tuning.{key}", f"{values!r}: expected a list of at least one value")
            else:
                self._check_range(f"tuning.{key}", key, values, [] if key in params else workloads)
                having = [spec.params for spec in mine if key in spec.params]
                for value in values if having else ():
                    refused = [value_problem(key, value, known) for known in having]
                    if all(refused):  # a grid is for those techniques that take its values
                        self._problems.add(f"tuning.{key}", refused[0])
            if key not in settings | params:
                names = sorted(settings | params)
                hint = nearest(key, names) or f"; known: {', '.join(names)}"
                self._problems.add(f"tuning.{key}", f"no workload setting and no technique parameter{hint}")
        self._problems.keys(self._data.get("settings", {}), sorted(settings), "settings.")
        for key, value in self._data.get("settings", {}).items():
            self._check_range(f"settings.{key}", key, [value], workloads)

    def _check_range(self, where: str, key: str, values: Iterable[Any], workloads: Iterable[WorkloadSpec]) -> None:
        """Note each value that JSON cannot hold, and each that a workload with this setting does not allow."""
        for value in values:
            if not is_json(value):
                self._problems.add(where, f"{quoted(value)}: expected a finite number")
                continue
            for spec in workloads:
                if key in spec.settings and (problem := value_problem(key, value, spec.settings)):
                    self._problems.add(where, problem)

    def _margins(self) -> Mapping[str, float]:
        margins: dict[str, float] = self._data.get("margins", {})
        self._metrics((name, "margins") for name in margins)
        for name, value in margins.items():
            if not fits(value, float) or value < 0:
                self._problems.add(f"margins.{name}", f"{quoted(value)}: expected a number, 0 or more")
        return margins

    def _claims(self, specs: Sequence[WorkloadSpec], form: Form) -> tuple[Claim, ...]:
        """Return the claims; ``specs`` are the workloads, none where not all of them are known."""
        data = self._data
        mine = (entry.spec for entry in self._host.techniques.values() if entry.spec.contract == data["contract"])
        known = Known(
            name=self._name,
            metric=lambda name, where: self._metrics([(name, where)]),
            parameters=frozenset(key for spec in mine for key in spec.params) if specs else frozenset(),
            settings=frozenset(key for spec in specs for key in spec.settings),
            phases=frozenset(phase for spec in specs for phase in spec.phases),
            techniques=tuple(data["techniques"]) if form == "full" else (),
            workloads=tuple(data["workloads"]),
            tuned=frozenset(data.get("tuning", {})),
        )
        return claims_in(data.get("claims", []), known, self._problems)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))
