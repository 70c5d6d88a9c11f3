"""Makes cases and their keys from a suite, the techniques it selects and the user's choices."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from harness.api import LANES, BaseSpec, Case, Json, Lane, Skip, Stage, Suite, Technique, UsageError, WorkloadSpec
from harness.bounded import Excess, exceeding, told
from harness.digest import short_digest
from harness.entrants import Entrant, is_pinned
from harness.grid import Tuned, grid_of, thin
from harness.host import Host, matches
from harness.measure.sources import content_digest
from harness.requirements import install_hint, missing_requirements
from harness.selection import Selection, narrowed
from harness.source import learned, scaled_space
from harness.targets import target_problem
from harness.until import further_seeds


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A technique on a workload, with the trials of its tuning, or the reason why the technique is not started."""

    problem: Entrant[WorkloadSpec]
    entrant: Entrant[Technique]
    trials: tuple[Tuned, ...]
    skip: Skip | None = None

    @property
    def workload(self) -> str:
        """The workload's name, with the values that it pins."""
        return self.problem.name

    @property
    def technique(self) -> str:
        """The technique's name, with the values that it pins."""
        return self.entrant.name


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The digests of source code and the versions of libraries that can change a result.

    ``code`` maps `HOST_CODE` to the digest of the host's code, and the `part` of each technique and workload to the
    digest of its package. ``requirements`` maps a `part` to the versions of the packages that the part requires.
    ``packages`` are part of the key of every case.
    """

    code: Mapping[str, str]
    packages: Mapping[str, Json]
    requirements: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


HOST_CODE: Final = "harness"
"""The key in `Identity.code` of the digest of the host's code that computes results."""


def part(kind: str, full: str) -> str:
    """Return the name of a technique, a workload or a base in an `Identity`: its kind and its id."""
    return f"{kind} {full}"


class Plan:
    """The contestants of a run and the cases of each; the cases after tuning are made once the trial is chosen."""

    def __init__(self, suite: Suite, host: Host, selection: Selection, identity: Identity) -> None:
        entry = narrowed(suite, host, selection)
        self.suite, self._techniques, self._workloads = entry.suite, entry.techniques, entry.workloads
        self._host = host
        self._selection = selection
        self._identity = identity
        self.contestants = tuple(self._contestants())
        if "accuracy" not in self.lanes and any(len(contestant.trials) > 1 for contestant in self.contestants):
            given = " ".join(f"--lane {lane}" for lane in self.lanes)
            raise UsageError(f"{given}: tuning chooses a trial by its quality: add --lane accuracy, or take --track")
        self._check_values()
        self.notes = tuple(self._notes())

    def _check_values(self) -> None:
        """Raise UsageError for each file that does not exist, and each value above what bounds it in its case."""
        problems: dict[str, None] = {}
        excesses: list[Excess] = []
        for contestant in (contestant for contestant in self.contestants if not contestant.skip):
            for tuned in contestant.trials:
                try:
                    case = self.case(contestant, tuned, self.seeds[0])
                    excesses += exceeding(case, contestant.entrant.spec, contestant.problem.spec)
                except UsageError as error:
                    problems.update(dict.fromkeys(error.problems))
        if problems or excesses:
            raise UsageError(*problems, *told(excesses))

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the run, the seeds of the tuning first."""
        return self.suite.seeds

    def seeds_between(self, look: int, next_look: int) -> tuple[int, ...]:
        """Return the seeds that a technique gets after one look and before the next, both in numbers of seeds."""
        return further_seeds(self.seeds, next_look)[look:]

    def fix(self, name: str, value: Json) -> None:
        """Fix a setting of all cases that are made from now on."""
        self._selection = replace(self._selection, params={**self._selection.params, name: value})

    @property
    def fixed(self) -> Mapping[str, Json]:
        """The values that are fixed for all cases, by the user or by `fix`."""
        return self._selection.params

    @property
    def further_seconds(self) -> float:
        """The seconds after whose end no further seeds are begun; infinite without a limit."""
        return self._selection.until.seconds if self._selection.until else math.inf

    @property
    def fixed_by_user(self) -> bool:
        """Whether the user fixed any value, by an option or in the name of a technique or workload."""
        chosen = self._selection
        return bool(chosen.params) or any(map(is_pinned, (*chosen.techniques, *chosen.workloads)))

    @property
    def on_source(self) -> bool:
        """Whether a model and data of the user's own are run on."""
        return any(contestant.problem.spec.task for contestant in self.contestants)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that the user selected."""
        return self._selection.lanes

    def first_case(self, contestant: Contestant) -> Case:
        """Return the case whose row records why the contestant was not started."""
        stage: Stage = "final" if len(contestant.trials) == 1 else "tuning"
        lane = next(lane for lane in LANES if lane in self.lanes)
        return self.case(contestant, contestant.trials[0], self.seeds[0], lane=lane, stage=stage)

    def trial_cases(self, contestant: Contestant) -> list[Case]:
        """Return the first cases: every trial on the tuning seeds, or the only trial on all seeds."""
        if "accuracy" not in self.lanes:
            return []
        if len(contestant.trials) == 1:
            tuned = contestant.trials[0]
            cases = [self.case(contestant, tuned, seed) for seed in self.seeds]
            return [*cases, *self._perturbed_cases(contestant, tuned)]
        seeds = self.seeds[: self.suite.tuning_seeds]
        return [self.case(contestant, tuned, seed, stage="tuning") for seed in seeds for tuned in contestant.trials]

    def final_cases(self, contestant: Contestant, tuned: Tuned) -> list[Case]:
        """Return the cases of the chosen trial after tuning: the other seeds, repeated ones, and the memory case."""
        cases: list[Case] = []
        if "accuracy" in self.lanes and len(contestant.trials) > 1:
            cases += [self.case(contestant, tuned, seed) for seed in self.seeds[self.suite.tuning_seeds :]]
            cases += self._perturbed_cases(contestant, tuned)
        if "memory" in self.lanes:
            cases.append(self.case(contestant, tuned, self.seeds[0], lane="memory"))
        return cases

    def _perturbed_cases(self, contestant: Contestant, tuned: Tuned) -> list[Case]:
        """Return the cases that train the first seeds once more, from perturbed weights."""
        cases = (self.case(contestant, tuned, seed) for seed in self._repeated(contestant))
        return [self.case_like(contestant, replace(case, perturbed=True)) for case in cases]

    def _repeated(self, contestant: Contestant) -> tuple[int, ...]:
        """Return the seeds that are trained once more from perturbed weights, where the workload can do that."""
        return self.seeds[: self.suite.repeatability] if contestant.problem.spec.perturbs else ()

    def case_like(self, contestant: Contestant, stored: Case) -> Case:
        """Return a stored case as the plan makes it now."""
        case = self.case(contestant, stored.tuned, stored.seed, lane=stored.lane, stage=stored.stage)
        case = replace(case, perturbed=stored.perturbed)
        return replace(case, key=self._key(case, contestant))

    def further_cases(self, contestant: Contestant, tuned: Tuned, seeds: Iterable[int]) -> list[Case]:
        """Return the cases of further seeds of the chosen trial."""
        return [self.case(contestant, tuned, seed) for seed in seeds]

    def time_case(self, contestant: Contestant, tuned: Tuned) -> Case:
        """Return the time case of the chosen trial; a timed block has one such case for each contestant."""
        return self.case(contestant, tuned, self.seeds[0], lane="time")

    def size(self, contestant: Contestant) -> int:
        """Return the number of rows that the contestant leaves if no case fails."""
        if contestant.skip:
            return 1
        trials = len(contestant.trials)
        first = self.suite.tuning_seeds if trials > 1 else len(self.seeds)
        quality = trials * first + (len(self.seeds) - first) + len(self._repeated(contestant))
        return quality * ("accuracy" in self.lanes) + ("memory" in self.lanes) + ("time" in self.lanes)

    def case(
        self, contestant: Contestant, tuned: Tuned, seed: int, *, lane: Lane = "accuracy", stage: Stage = "final"
    ) -> Case:
        """Return one case, with its key."""
        technique, workload = contestant.entrant, contestant.problem
        fixed = {**self.suite.settings, **self._fixed(technique), **tuned}
        settings = {**fixed, **workload.pinned}
        own = technique.spec.params
        given = {key: _fixed(key, value, settings, own) for key, value in workload.spec.settings.items()}
        base = self._base(workload, given)
        if base is not None:
            given["base"] = base.target
        case = Case(
            key="",
            suite=self.suite.id,
            suite_version=self.suite.version,
            contract=self.suite.contract,
            workload=workload.name,
            workload_version=workload.spec.version,
            workload_target=workload.spec.target,
            technique=technique.name,
            technique_target=technique.spec.target,
            plugin_version=self._host.version_of(technique.plugin),
            params=deepcopy({key: fixed.get(key, value) for key, value in own.items()}),
            settings=deepcopy(given),
            tuned=deepcopy(dict(tuned)),
            seed=seed,
            lane=lane,
            device=self._selection.device,
            stage=stage,
            code=_digest({**self._code_of(contestant), **({"base": self._code_of_base(base)} if base else {})}),
            form=self.suite.form,
            stacked=lane == "accuracy" and self._selection.stack and workload.spec.stacks,
        )
        return replace(case, key=self._key(case, contestant))

    def _base(self, workload: Entrant[WorkloadSpec], settings: Mapping[str, Json]) -> BaseSpec | None:
        """Return the base that the setting ``base`` of a workload on users' own models names; None where it has none.

        Raises UsageError where no plugin declares the base, or its requirements are not installed.
        """
        if not workload.spec.task or "base" not in settings:
            return None
        base = self._host.declared.bases[self._host.resolve("bases", str(settings["base"]))].spec
        if missing := missing_requirements(base.requires):
            raise UsageError(f"base {base.id!r} {install_hint(missing)}")
        return base

    def _code_of_base(self, base: BaseSpec) -> Json:
        """Return the digest of a base's code, with the versions of the packages that the base requires."""
        name = part("base", base.id)
        return [self._identity.code.get(name, ""), dict(self._identity.requirements.get(name, {}))]

    def _code_of(self, contestant: Contestant) -> dict[str, str]:
        technique, workload = (self._identity.code.get(name, "") for name in _parts(contestant))
        return {"host": self._identity.code.get(HOST_CODE, ""), "technique": technique, "workload": workload}

    def _key(self, case: Case, contestant: Contestant) -> str:
        facts = {name: value for name, value in asdict(case).items() if name not in ("key", "stage", "form", "tuned")}
        rounds = self.suite.rounds if case.lane == "time" else None
        packages = dict(self._identity.packages)
        for name in _parts(contestant):
            packages |= self._identity.requirements.get(name, {})
        files = _contents_of(case, contestant)
        for kind in ("params", "settings"):
            facts[kind] = {name: value for name, value in facts[kind].items() if (kind, name) not in files}
        contents = {f"{kind} {name}": digest for (kind, name), digest in files.items()}
        return _digest({**facts, "packages": packages, "rounds": rounds, "files": contents})

    def _contestants(self) -> Iterable[Contestant]:
        for workload in self._workloads:
            for technique in self._techniques:
                fixed = {**self._fixed(technique), **workload.pinned}
                trials = self._trials(workload, technique, fixed)
                yield Contestant(
                    problem=workload,
                    entrant=technique,
                    trials=trials,
                    skip=self._unavailable(technique, workload) or _absent(technique) or self._unequal(trials, fixed),
                )

    def _fixed(self, technique: Entrant[Technique]) -> dict[str, Json]:
        """Return the values that the user or the name of the technique fixes; these are not tuned."""
        return {**self._selection.params, **technique.pinned}

    def _trials(
        self, workload: Entrant[WorkloadSpec], technique: Entrant[Technique], fixed: Mapping[str, Json]
    ) -> tuple[Tuned, ...]:
        """Return the trials: the technique's own space or the suite's grid, without fixed values, thinned.

        One empty trial is returned where the grid varies no parameter of the technique and no setting of the workload.
        """
        known = {*technique.spec.params, *workload.spec.settings}
        space = scaled_space(technique.spec.space, self.suite.scale) or self.suite.tuning
        if not self.suite.tuning or not known & {*space}:
            return ({},)
        return thin(grid_of(space, fixed), len(grid_of(self.suite.tuning, fixed)))

    def _unequal(self, trials: Sequence[Tuned], fixed: Mapping[str, Json]) -> Skip | None:
        budget = len(grid_of(self.suite.tuning, fixed))
        if len(trials) >= budget or trials == ({},):
            return None
        held = f"{len(trials)} {'trial' if len(trials) == 1 else 'trials'}"
        return Skip(
            reason=f"the technique's space has {held}, and this suite gives every technique {budget}: list more values"
        )

    def _unavailable(self, technique: Entrant[Technique], workload: Entrant[WorkloadSpec]) -> Skip | None:
        missing = missing_requirements([*technique.spec.requires, *workload.spec.requires])
        if not missing:
            return None
        return Skip(reason=install_hint(missing), status="unavailable")

    def _notes(self) -> Iterable[str]:
        for spec in {contestant.problem.id: contestant.problem.spec for contestant in self.contestants}.values():
            yield from learned(spec, {**spec.settings, **self.suite.settings, **self._selection.params})
        chosen = self._selection.techniques
        if chosen and not any(matches(pattern, self.suite.baseline) for pattern in chosen):
            yield f"{self.suite.baseline} runs too: every technique is compared with the baseline"


def _absent(technique: Entrant[Technique]) -> Skip | None:
    """Return that the target of a technique is not there, so that a typo is told before anything starts."""
    problem = target_problem(technique.spec.target)
    return Skip(reason=problem, status="error") if problem else None


def _parts(contestant: Contestant) -> tuple[str, str]:
    return part("technique", contestant.entrant.id), part("workload", contestant.problem.id)


def files_of(case: Case, contestant: Contestant) -> dict[tuple[str, str], Path]:
    """Return the paths of the files that parameters and settings name, by ``(kind, name)``."""
    declared = {
        "params": (case.params, contestant.entrant.spec.params),
        "settings": (case.settings, contestant.problem.spec.settings),
    }
    return {
        (kind, knob.name): Path(str(values[knob.name])).expanduser()
        for kind, (values, spec) in declared.items()
        for knob in getattr(spec, "knobs", ())
        if knob.file and values[knob.name]
    }


def _contents_of(case: Case, contestant: Contestant) -> dict[tuple[str, str], str]:
    """Return the content digests of the files that parameters and settings name; a key has these, not the paths.

    Raises UsageError with a line for each file that does not exist.
    """
    digests: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    for place, path in files_of(case, contestant).items():
        try:
            digests[place] = content_digest(path)
        except OSError as error:
            cause = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
            problems.append(f"setting {place[1]} = {str(path)!r}: {cause}; expected a path, from {Path.cwd()}")
    if problems:
        raise UsageError(*problems)
    return digests


def _fixed(key: str, value: Json, fixed: Mapping[str, Json], own: Mapping[str, Json]) -> Json:
    """Return the value of a setting; a parameter of the technique itself keeps the protocol's default."""
    return value if key in own else fixed.get(key, value)


def _digest(facts: Mapping[str, object]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=list)
    return short_digest(text.encode())
