"""Records of a run: what a suite asks for, the cases it makes, and the rows they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"


Lane = Literal["accuracy", "memory", "time"]
"""Accuracy and memory are settled by the seed, so their cases run side by side; time needs a quiet machine."""


LANES: Final[tuple[Lane, ...]] = get_args(Lane)


Status = Literal["ok", "error", "incorrect", "oom", "timeout", "crash", "unavailable", "skipped", "lost"]


STATUSES: Final[tuple[Status, ...]] = get_args(Status)


FAILED: Final[frozenset[str]] = frozenset({"error", "incorrect", "oom", "timeout", "crash", "lost"})
"""The statuses that make a run exit with 1. ``unavailable`` and ``skipped`` were never started."""


Stage = Literal["tuning", "final"]


Form = Literal["full", "quick", "track"]
"""How much of a suite a run takes: all of it, the short form for a first look, or the one tracked over commits."""


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
    metric that sorts the table. ``costs`` are the metrics that quality is weighed against, the narrowest first: the
    first that a run has is the axis of the Pareto front. A run stored before there were any has none.
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
    costs: tuple[str, ...] = ()

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
