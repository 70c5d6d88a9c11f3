"""Makes cases and their keys from a suite, the techniques it selects and the user's choices."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from harness.api import LANES, Case, Json, Lane, Skip, Stage, Suite, UsageError, nearest
from harness.host import Host, matches
from harness.measure.sources import content_digest
from harness.pins import base_of, check_values, is_pinned, resolve_pinned, values_of
from harness.suite import select_techniques

Tuned = Mapping[str, Json]
"""The settings or parameters one trial tries."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the user chose on top of the suite: globs, seeds, fixed parameters, lanes, device, whether seeds share."""

    techniques: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    params: Mapping[str, Json] = field(default_factory=dict)
    lanes: tuple[Lane, ...] = LANES
    device: str = "cpu"
    stack: bool = True


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A technique on a workload: the trials its tuning has, or why it is not started."""

    workload: str
    technique: str
    trials: tuple[Tuned, ...]
    skip: Skip | None = None


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What besides the case itself can change a result: digests of what computes, versions of libraries.

    ``code`` has the digest of the host's code under `HOST_CODE`, and that of each technique and workload under its
    `part`; ``requirements`` has the versions of what each requires. ``packages`` count for every case.
    """

    code: Mapping[str, str]
    packages: Mapping[str, Json]
    requirements: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


HOST_CODE: Final = "harness"
"""Under which an `Identity` has the digest of what of the host computes."""


def part(kind: str, name: str) -> str:
    """Return the name of a technique or a workload in an `Identity`: its kind and its id without pinned values."""
    return f"{kind} {base_of(name)}"


class Plan:
    """The contestants of a run and the cases each needs; what follows from tuning is made when it is known."""

    def __init__(self, suite: Suite, host: Host, selection: Selection, identity: Identity) -> None:
        self.suite = _narrowed(suite, host, selection)
        self._host = host
        self._selection = selection
        self._identity = identity
        self.contestants = tuple(self._contestants())
        self._check_files()
        self.notes = tuple(self._notes())

    def _check_files(self) -> None:
        """Raise UsageError with a line for each file that a contestant's values name and that is not there."""
        problems: dict[str, None] = {}
        for contestant in (contestant for contestant in self.contestants if not contestant.skip):
            for tuned in contestant.trials:
                try:
                    self.case(contestant, tuned, self.seeds[0])
                except UsageError as error:
                    problems.update(dict.fromkeys(error.problems))
        if problems:
            raise UsageError(*problems)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the run, the tuning ones first."""
        return self.suite.seeds

    @property
    def fixed_by_user(self) -> bool:
        """Whether the user fixed any value, by an option or in the name of a technique or workload."""
        chosen = self._selection
        return bool(chosen.params) or any(map(is_pinned, (*chosen.techniques, *chosen.workloads)))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that were asked for."""
        return self._selection.lanes

    def first_case(self, contestant: Contestant) -> Case:
        """The case in whose name a contestant leaves a row that says why it was not started."""
        stage: Stage = "final" if len(contestant.trials) == 1 else "tuning"
        lane = next(lane for lane in LANES if lane in self.lanes)
        return self.case(contestant, contestant.trials[0], self.seeds[0], lane=lane, stage=stage)

    def trial_cases(self, contestant: Contestant) -> list[Case]:
        """The cases to start with: every trial on the tuning seeds, or all seeds where nothing is tuned."""
        if "accuracy" not in self.lanes:
            return []
        if len(contestant.trials) == 1:
            return [self.case(contestant, contestant.trials[0], seed) for seed in self.seeds]
        seeds = self.seeds[: self.suite.tuning_seeds]
        return [self.case(contestant, tuned, seed, stage="tuning") for seed in seeds for tuned in contestant.trials]

    def final_cases(self, contestant: Contestant, tuned: Tuned) -> list[Case]:
        """What the chosen trial still needs: the remaining seeds, and its memory."""
        seeds = () if len(contestant.trials) == 1 else self.seeds[self.suite.tuning_seeds :]
        cases = [self.case(contestant, tuned, seed) for seed in seeds] if "accuracy" in self.lanes else []
        if "memory" in self.lanes:
            cases.append(self.case(contestant, tuned, self.seeds[0], lane="memory"))
        return cases

    def time_case(self, contestant: Contestant, tuned: Tuned) -> Case:
        """The timing of the chosen trial, one for each contestant of a block."""
        return self.case(contestant, tuned, self.seeds[0], lane="time")

    def size(self, contestant: Contestant) -> int:
        """How many rows the contestant will leave if nothing fails."""
        if contestant.skip:
            return 1
        trials = len(contestant.trials)
        first = self.suite.tuning_seeds if trials > 1 else len(self.seeds)
        quality = trials * first + (len(self.seeds) - first)
        return quality * ("accuracy" in self.lanes) + ("memory" in self.lanes) + ("time" in self.lanes)

    def case(
        self, contestant: Contestant, tuned: Tuned, seed: int, *, lane: Lane = "accuracy", stage: Stage = "final"
    ) -> Case:
        """One case, with its key."""
        technique = self._host.techniques[base_of(contestant.technique)]
        workload = self._host.workloads[base_of(contestant.workload)]
        fixed = {**self.suite.settings, **self._fixed(contestant.technique), **tuned}
        settings = fixed | values_of(contestant.workload)
        own = technique.spec.params
        case = Case(
            key="",
            suite=self.suite.id,
            suite_version=self.suite.version,
            contract=self.suite.contract,
            workload=contestant.workload,
            workload_version=workload.spec.version,
            workload_target=workload.spec.target,
            technique=contestant.technique,
            technique_target=technique.spec.target,
            plugin_version=self._host.version_of(technique.plugin),
            params={key: fixed.get(key, value) for key, value in own.items()},
            settings={key: _fixed(key, value, settings, own) for key, value in workload.spec.settings.items()},
            tuned=dict(tuned),
            seed=seed,
            lane=lane,
            device=self._selection.device,
            stage=stage,
            code=_digest({name: self._identity.code.get(name, "") for name in (HOST_CODE, *_parts(contestant))}),
            form=self.suite.form,
            stacked=lane == "accuracy" and self._selection.stack and workload.spec.stacks,
        )
        return replace(case, key=self._key(case))

    def _key(self, case: Case) -> str:
        facts = {name: value for name, value in asdict(case).items() if name not in ("key", "stage", "form", "tuned")}
        rounds = self.suite.rounds if case.lane == "time" else None
        packages = dict(self._identity.packages)
        for name in _parts(case):
            packages |= self._identity.requirements.get(name, {})
        files = self._files_of(case)
        for kind in ("params", "settings"):
            facts[kind] = {name: value for name, value in facts[kind].items() if (kind, name) not in files}
        contents = {f"{kind} {name}": digest for (kind, name), digest in files.items()}
        return _digest({**facts, "packages": packages, "rounds": rounds, "files": contents})

    def _files_of(self, case: Case) -> dict[tuple[str, str], str]:
        """Return the digests of the files that parameters and settings name: in place of a path, its content counts.

        Raises UsageError with a line for each file that is not there.
        """
        declared = {
            "params": (case.params, self._host.techniques[base_of(case.technique)].spec.params),
            "settings": (case.settings, self._host.workloads[base_of(case.workload)].spec.settings),
        }
        found: dict[tuple[str, str], str] = {}
        problems: list[str] = []
        for kind, (values, spec) in declared.items():
            for name in (knob.name for knob in getattr(spec, "knobs", ()) if knob.file and values[knob.name]):
                path = Path(str(values[name])).expanduser()
                try:
                    found[kind, name] = content_digest(path)
                except OSError as error:
                    cause = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
                    problems.append(f"setting {name} = {str(path)!r}: {cause}; expected a path, from {Path.cwd()}")
        if problems:
            raise UsageError(*problems)
        return found

    def _contestants(self) -> Iterable[Contestant]:
        for workload in self.suite.workloads:
            for technique in select_techniques(self.suite, self._host):
                fixed = self._fixed(technique) | values_of(workload)
                trials = self._trials(workload, technique, fixed)
                yield Contestant(
                    workload=workload,
                    technique=technique,
                    trials=trials,
                    skip=self._unavailable(technique, workload) or self._unequal(trials, fixed),
                )

    def _fixed(self, technique: str) -> dict[str, Json]:
        """What the user and the name of the technique fix, so that it is not tuned."""
        return {**self._selection.params, **values_of(technique)}

    def _trials(self, workload: str, technique: str, fixed: Mapping[str, Json]) -> tuple[Tuned, ...]:
        """The technique's own space or else the suite's grid, without what is fixed, thinned to equal size.

        Where the grid varies nothing that the technique or the workload has, there is one trial.
        """
        spec = self._host.techniques[base_of(technique)].spec
        known = {*spec.params, *self._host.workloads[base_of(workload)].spec.settings}
        space = spec.space or self.suite.tuning
        if not self.suite.tuning or not known & {*space}:
            return ({},)
        return _thin(_grid(space, fixed), len(_grid(self.suite.tuning, fixed)))

    def _unequal(self, trials: Sequence[Tuned], fixed: Mapping[str, Json]) -> Skip | None:
        budget = len(_grid(self.suite.tuning, fixed))
        if len(trials) >= budget or trials == ({},):
            return None
        return Skip(reason=f"its space has {len(trials)} trials where every technique of the suite gets {budget}")

    def _unavailable(self, technique: str, workload: str) -> Skip | None:
        missing = [
            *missing_requirements(self._host.techniques[base_of(technique)].spec.requires),
            *missing_requirements(self._host.workloads[base_of(workload)].spec.requires),
        ]
        if not missing:
            return None
        return Skip(reason=install_hint(missing), status="unavailable")

    def _notes(self) -> Iterable[str]:
        chosen = self._selection.techniques
        if chosen and not any(matches(pattern, self.suite.baseline) for pattern in chosen):
            yield f"{self.suite.baseline} runs too: it is the baseline everything is compared with"


def _parts(named: Contestant | Case) -> tuple[str, str]:
    return part("technique", named.technique), part("workload", named.workload)


def install_hint(missing: Sequence[str]) -> str:
    """What is not installed and the command that mends it."""
    quoted = " ".join(f'"{one}"' if set(one) & set("<>= ;") else one for one in missing)
    return f"needs {', '.join(missing)}: pip install {quoted}"


def missing_requirements(requires: Iterable[str]) -> list[str]:
    """Those of the pip requirements that this environment does not satisfy."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    missing = []
    for text in requires:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            missing.append(text)
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            missing.append(text)
    return missing


def _narrowed(suite: Suite, host: Host, selection: Selection) -> Suite:
    """The suite with the user's globs, seeds and fixed parameters; raises UsageError for what matches nothing."""
    problems: list[str] = []
    if suite.tuning and "accuracy" not in selection.lanes:
        problems.append("--lane: what is tuned is chosen by its quality: add --lane accuracy, or take --track")
    all_techniques = select_techniques(suite, host)
    asked = {
        kind: _pinned(getattr(selection, kind), kind, suite, host, problems) for kind in ("techniques", "workloads")
    }
    chosen = _matching(asked["techniques"], all_techniques, "technique", problems)
    workloads = _matching(asked["workloads"], suite.workloads, "workload", problems)
    known = {key: value for name in all_techniques for key, value in host.techniques[base_of(name)].spec.params.items()}
    for name in suite.workloads:
        known |= host.workloads[base_of(name)].spec.settings
    try:
        check_values(selection.params, known, "--param")
    except UsageError as error:
        problems.extend(error.problems)
    if problems:
        raise UsageError(*problems)
    seeds = selection.seeds or suite.seeds
    return replace(
        suite,
        techniques=tuple(dict.fromkeys([suite.baseline, *chosen])),
        workloads=tuple(workloads),
        seeds=seeds,
        tuning_seeds=min(suite.tuning_seeds, len(seeds)),
    )


def _matching(patterns: Sequence[str], names: Sequence[str], what: str, problems: list[str]) -> list[str]:
    if not patterns:
        return list(names)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if is_pinned(pattern):
            chosen[pattern] = None
            continue
        found = [name for name in names if matches(pattern, name)]
        if not found:
            problems.append(f"--{what} {pattern!r} matches no {what} of the suite{nearest(pattern, names)}")
        chosen.update(dict.fromkeys(found))
    return [*(name for name in names if name in chosen), *(name for name in chosen if name not in names)]


def _pinned(patterns: Sequence[str], kind: str, suite: Suite, host: Host, problems: list[str]) -> list[str]:
    """The patterns, those that pin values with their full names and held against the suite's contract."""
    names = []
    for pattern in patterns:
        if is_pinned(pattern):
            try:
                name = resolve_pinned(kind, pattern, host)
            except UsageError as error:
                problems.extend(error.problems)
                continue
            contract = getattr(host, kind)[base_of(name)].spec.contract
            if contract != suite.contract:
                problems.append(f"{name} has contract {contract!r}; suite {suite.id!r} is of {suite.contract!r}")
            names.append(name)
        else:
            names.append(pattern)
    return names


def _fixed(key: str, value: Json, fixed: Mapping[str, Json], own: Mapping[str, Json]) -> Json:
    """A setting's value; a parameter that the technique declares itself does not reach the protocol."""
    return value if key in own else fixed.get(key, value)


def _grid(space: Mapping[str, Sequence[Json]], fixed: Mapping[str, Json]) -> list[Tuned]:
    keys = [key for key in space if key not in fixed]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(space[key] for key in keys))]


def _thin(trials: Sequence[Tuned], budget: int) -> tuple[Tuned, ...]:
    """At most ``budget`` trials, evenly spaced, both ends kept."""
    if len(trials) <= budget:
        return tuple(trials)
    if budget == 1:
        return (trials[len(trials) // 2],)
    return tuple(trials[round(step * (len(trials) - 1) / (budget - 1))] for step in range(budget))


def _digest(facts: Mapping[str, object]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
