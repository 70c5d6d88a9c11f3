"""What plugins, judge and host share: frozen specs, protocols and the errors a person reads.

Everything a plugin author needs is importable from here, and importing it is cheap: no torch, no numpy,
nothing else of this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import pluggy

API_VERSION: Final = 1
"""The plugin interface this host speaks; a plugin states the one it was written for as ``HARNESS_API``."""

PROJECT: Final = "harness"
"""The pluggy project name, and the prefix of the entry-point group."""

ENTRY_POINT_GROUP: Final = "harness.plugins"

DISTRIBUTION: Final = "technique-harness"
"""The name of the host's distribution on a package index."""

BASE_MODELS: Final = "base-models"
"""The folder of the cache in which trained base models lie."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook of the same name."""

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"

Lane = Literal["accuracy", "memory", "time"]
"""Accuracy and memory are settled by the seed, so their cases run side by side; time needs a quiet machine."""
LANES: Final[tuple[Lane, ...]] = get_args(Lane)

Status = Literal["ok", "error", "incorrect", "oom", "timeout", "crash", "unavailable", "skipped", "lost"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

FAILED: Final[frozenset[str]] = frozenset({"error", "incorrect", "oom", "timeout", "crash", "lost"})
"""The statuses that make a run exit with 1. ``unavailable`` and ``skipped`` were never started."""

WARNING: Final = "warning: "
"""How a note begins that every reader of the table should see; what follows it is the same on every seed."""

Stage = Literal["tuning", "final"]

Form = Literal["full", "quick", "track"]
"""How much of a suite a run takes: all of it, the short form for a first look, or the one tracked over commits."""

_ID = re.compile(r"[a-z0-9]+([.+-][a-z0-9]+)*")


# --------------------------------------------------------------------------------------------------- errors


class HarnessError(Exception):
    """An error for a person: what was wrong, what was expected, what to do next. Exit code 2, no traceback."""

    exit_code: int = 2


class UsageError(HarnessError):
    """The command, a file or an option was wrong; one line an error, all errors at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NotApplicable(Exception):
    """Raised by a technique or a workload that has nothing to act on here; the row is ``skipped`` with the text."""


class Unavailable(Exception):
    """Raised by a technique that cannot run here, in the library's or the machine's own words: ``unavailable``."""


class CannotStack(Exception):
    """Raised by a workload where seeds have to be evaluated one by one; that is then done, and the rows say why."""


class Incorrect(Exception):
    """Raised by the judge when an output is wrong; the row is ``incorrect`` and carries no time."""


# ------------------------------------------------------------------------------------- what plugins declare


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it is a well-formed id; raise ValueError naming the rule otherwise."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{what} id {value!r}: expected lower-case words joined by '-', '.' or '+', like 'init-a'")
    return value


def _check_target(value: str, what: str) -> None:
    module, _, name = value.partition(":")
    if not module or not name:
        raise ValueError(f"{what} target {value!r}: expected 'package.module:attribute'")


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A method under test, as its plugin declares it.

    ``target`` names a callable ``'package.module:attribute'`` that takes ``params`` as keyword arguments and
    returns an object that fulfils ``contract``; it is imported only in the process that runs a case. It raises
    `UsageError` for a value that makes no sense: one that a user fixed is then refused before the run.
    ``space`` maps a parameter, of the technique or of the workload's protocol, to the values tuning may try in
    place of the suite's grid. ``requires`` lists pip requirements beyond those of the plugin itself.
    """

    id: str
    contract: str
    target: str
    summary: str
    reference: str = ""
    params: Mapping[str, Json] = field(default_factory=dict)
    space: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    requires: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_id(self.id, "technique")
        check_id(self.contract, "contract")
        _check_target(self.target, f"technique {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """A standard problem, as the judge declares it.

    ``target`` names a class without constructor arguments that fulfils `Workload`. ``settings`` are the
    protocol's defaults (steps, batch size, learning rate); suites and tuning may override them and nothing else.
    ``metrics`` are what the accuracy lane emits, exactly; ``phases`` what the memory and time lanes step through.
    ``version`` is raised by hand whenever numbers of before and after must not be compared. ``stacks`` says that the
    workload fulfils `StackingWorkload`: it evaluates several seeds of a technique together. ``preload`` names modules
    that a case would import only while it runs, and so count in its time and memory, as the first step of an optimiser
    does ``torch._dynamo`` (two seconds, 70 MB): they are imported once, before any case.
    """

    id: str
    contract: str
    target: str
    summary: str
    version: int
    metrics: Sequence[str]
    phases: Sequence[str] = ("train", "infer")
    settings: Mapping[str, Json] = field(default_factory=dict)
    requires: Sequence[str] = ()
    stacks: bool = False
    preload: Sequence[str] = ("torch._dynamo",)

    def __post_init__(self) -> None:
        check_id(self.id, "workload")
        check_id(self.contract, "contract")
        _check_target(self.target, f"workload {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured quantity: its unit as stored, which direction is better, and the lane it comes from."""

    id: str
    unit: str
    higher_is_better: bool
    summary: str
    lane: Lane

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.id):
            raise ValueError(f"metric id {self.id!r}: expected snake_case, like 'train_throughput'")


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """An output format of ``harness run --format``; ``target`` takes a `harness.analysis.RunView`, returns text."""

    id: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        _check_target(self.target, f"reporter {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    """A way to run cases; ``target`` is called with `ExecutorOptions` and returns an `Executor`."""

    id: str
    target: str
    summary: str

    def __post_init__(self) -> None:
        check_id(self.id, "executor")
        _check_target(self.target, f"executor {self.id!r}")


# ---------------------------------------------------------------------- between the judge and the worker


@dataclass(frozen=True, kw_only=True)
class CaseContext:
    """What the worker hands a workload: the seed, the device, the protocol's settings and a phase clock.

    ``phase('init')`` is a context manager that times what it encloses (device synchronised, seconds summed per
    name, readable in ``phases``) and tells the parent where the case is, so that a timeout can say so.
    ``cache`` is the folder for trained base models.
    """

    seed: int
    device: str
    settings: Mapping[str, Json]
    cache: Path
    phase: Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an accuracy case found: one number a metric, curves over training, and notes for the reader.

    A note that begins with `WARNING` stands below the table, with the number of seeds it was given on.
    """

    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One repeatable unit of work of a built trial, such as a training step; ``samples`` is its batch size."""

    run: Callable[[], object]
    samples: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A technique built on a workload's model, ready to be stepped phase by phase, in order.

    The memory lane lets go of each phase once it is measured: a later one may then free what only an earlier one used.

    ``probes`` are timed in the same rounds as the phases and compared with nobody: what the workload needs to know
    beside them, such as the time of one part of a phase or a limit of the machine. ``figures`` is told the seconds a
    call, round by round, of all phases and probes by name, and gives metrics of the time lane that follow from them.
    """

    phases: Mapping[str, Phase]
    probes: Mapping[str, Phase] = field(default_factory=dict)
    figures: Callable[[Mapping[str, Sequence[float]]], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if twice := self.phases.keys() & self.probes.keys():
            raise ValueError(f"{sorted(twice)} are both phases and probes of a trial: give each a name of its own")


class Workload(Protocol):
    """What the worker asks of a workload. ``technique`` is the built target, an object of the contract."""

    def prepare(self, context: CaseContext) -> None:
        """Make what every case shares (a pretrained base model), in the cache; idempotent, safe for two at once."""

    def evaluate(self, technique: Any, context: CaseContext) -> Outcome:
        """Run the whole protocol on held-out data and return the declared metrics."""

    def open(self, technique: Any, context: CaseContext) -> Trial:
        """Build the model with the technique for the memory and time lanes; the init runs in ``phase('init')``."""

    def check(self, technique: Any, context: CaseContext) -> None:
        """Raise `Incorrect` where the technique breaks an invariant of its contract."""


class CheckingWorkload(Workload, Protocol):
    """A workload that can say before a run that it makes no sense of a setting."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise `UsageError` with a line for every value that is wrong: what it is, and what was expected."""


class StackingWorkload(Workload, Protocol):
    """A workload that can train several seeds and trials of one technique together, which is faster."""

    def evaluate_stacked(self, techniques: Sequence[Any], contexts: Sequence[CaseContext]) -> Sequence[Outcome]:
        """What ``evaluate`` finds for each technique in its context, number by number.

        The contexts differ in the seed only, the techniques in the values of their parameters.

        Raises `CannotStack` where that cannot be, and then leaves nothing behind.
        """


# ---------------------------------------------------------------------------------- suites, cases and rows


ClaimKind = Literal["better", "same", "gain"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's statement as a comparison on ``metric`` of two techniques, each at its best tuning.

    ``better``: ``better`` beats ``than``. ``same``: the two differ by less than the margin. ``gain``: ``better`` gains
    more over ``than`` on ``workload`` than on ``less_on``. It holds on ``workload``, or on every one where that is
    empty. ``margin``, in the metric's unit, takes the place of the suite's.
    """

    id: str
    source: str
    says: str
    metric: str
    better: str
    than: str
    kind: ClaimKind = "better"
    workload: str = ""
    less_on: str = ""
    margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked suite file. ``techniques`` are globs, or ``!glob`` to leave out; ``workloads``, ``baseline`` full ids.

    ``select`` is the validation metric that chooses among the ``tuning`` grid, over the first ``tuning_seeds``
    seeds. ``margins`` are the smallest differences that matter, in the metric's unit; ``metrics[0]`` is the quality
    metric that sorts the table.
    """

    id: str
    title: str
    version: int
    contract: str
    baseline: str
    workloads: tuple[str, ...]
    techniques: tuple[str, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    select: str
    tuning_seeds: int
    tuning: Mapping[str, tuple[Json, ...]]
    settings: Mapping[str, Json]
    margins: Mapping[str, float]
    claims: tuple[Claim, ...]
    rounds: int
    form: Form
    source: str

    @property
    def quality(self) -> str:
        """The metric the table is sorted by."""
        return self.metrics[0]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One unit of execution. ``key`` hashes all that can change its result; ``stage`` is not part of it.

    ``stacked`` says that other seeds and trials may be evaluated with it (the notes of a row say whether they were).
    ``params`` build the technique, ``settings`` steer the workload's protocol (the tuned learning rate is here
    unless the technique declares it). ``code`` is the digest of the sources that compute the result.
    """

    key: str
    suite: str
    suite_version: int
    contract: str
    workload: str
    workload_version: int
    workload_target: str
    technique: str
    technique_target: str
    plugin_version: str
    params: Mapping[str, Json]
    settings: Mapping[str, Json]
    tuned: Mapping[str, Json]
    seed: int
    lane: Lane
    device: str
    stage: Stage
    code: str
    form: Form = "full"
    stacked: bool = False


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A hook's answer that a case is not to be run, with the reason and whether it could be with an install."""

    reason: str
    status: Literal["unavailable", "skipped"] = "skipped"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of a case in its process. ``detail`` holds a traceback or the tail of the case's own output.

    ``samples`` are raw measurements in the order taken (seconds per call for ``train``/``infer``; the baseline's of
    the same rounds under ``baseline.train``); ``phases`` are seconds by phase name.
    """

    status: Status
    reason: str = ""
    detail: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    wall_s: float = 0.0
    cpu_s: float = 0.0
    load: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a case left, as stored: the case, its reply, where and when. Written the moment it exists."""

    run: str
    case: Case
    reply: Reply
    started: str
    environment: Mapping[str, Json]
    schema: int = 2

    @property
    def ok(self) -> bool:
        """Whether the case has numbers to show."""
        return self.reply.status == "ok"

    @property
    def failed(self) -> bool:
        """Whether the case was started and did not end well."""
        return self.reply.status in FAILED


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one case: wall seconds, and bytes of private memory above the worker's baseline."""

    time_s: float
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """What an executor is made with: worker slots, limits, the cache folder, modules worth importing once."""

    jobs: int
    limits: Limits
    cache: Path
    preload: Sequence[str]
    rounds: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What an executor is handed: one case of the accuracy or memory lane, or the contestants of one timed block.

    To an executor that ``stacks`` it may also be several seeds and trials of one contestant in the accuracy lane.
    The cases of a time unit are interleaved and ``cases[0]`` is the baseline they are paired with. A ``prepare``
    unit names a workload by one of its cases and only makes what its cases share.
    """

    cases: tuple[Case, ...]
    prepare: bool = False


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """One invocation, as stored in ``run.json``: its suite and selection, where the results lie, what was loaded.

    ``plugins`` are those active and those broken, each with version and first cause; ``planned`` counts the cases
    of the plan, ``finished`` is empty until the run ended (it then holds the time and the exit code says how).
    """

    id: str
    suite: Suite
    started: str
    folder: Path
    selection: Mapping[str, Json]
    plugins: Sequence[Mapping[str, Json]]
    environment: Mapping[str, Json]
    planned: int
    finished: str = ""
    exit_code: int | None = None
    schema: int = 2


class Executor(Protocol):
    """Runs units. Single-threaded from the caller's side: ``submit`` until ``slots`` are full, then ``wait``.

    One that has an attribute ``stacks`` which is true takes several seeds and trials of a contestant in one unit.
    """

    slots: int

    def submit(self, unit: Unit) -> None:
        """Start a unit; never blocks on its result."""

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        """Block until at least one unit is finished (or the timeout) and return the finished ones."""

    def running(self) -> list[tuple[Case, str]]:
        """Cases under way and the phase each is in."""

    def close(self) -> None:
        """End everything that still runs, with all its descendants; idempotent."""
