"""Records of a run: suites, cases, replies and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"


Lane = Literal["accuracy", "memory", "time"]
"""A kind of measurement. Cases of accuracy and memory run concurrently; time needs a machine without other load."""


LANES: Final[tuple[Lane, ...]] = get_args(Lane)


DEVICES: Final = ("cpu", "cuda", "mps")
"""The devices that a run may choose, by torch's names."""


Status = Literal["ok", "error", "incorrect", "oom", "timeout", "crash", "unavailable", "skipped", "lost"]


STATUSES: Final[tuple[Status, ...]] = get_args(Status)


FAILED: Final[frozenset[str]] = frozenset({"error", "incorrect", "oom", "timeout", "crash", "lost"})
"""The statuses that make a run exit with 1. ``unavailable`` and ``skipped`` were never started."""


Stage = Literal["tuning", "final"]


Form = Literal["full", "quick", "track"]
"""The extent of a run: the full suite, the short form for a first look, or the form that is tracked over commits."""


ClaimKind = Literal["better", "same", "gain"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's statement as a comparison on ``metric`` of two techniques, each at its best tuning.

    ``better``: ``better`` beats ``than``. ``same``: the two differ by less than the margin. ``gain``: ``better`` gains
    more over ``than`` on ``workload`` than on ``less_on``. The claim is tested on ``workload``, or on every workload
    where that is empty. ``margin``, in the metric's unit, overrides the suite's margin.
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
    """A checked suite file.

    ``techniques`` are globs, or ``!glob`` to exclude; ``workloads`` and ``baseline`` are full ids.
    ``select`` is the validation metric that chooses among the ``tuning`` grid, over the first ``tuning_seeds``
    seeds. ``margins`` are the smallest differences that matter, in the metric's unit; ``metrics[0]`` is the quality
    metric. ``costs`` are the cost metrics in order of preference: the first that a run has
    is the axis of the Pareto front. ``looks`` are the numbers of seeds after which undecided comparisons are tested, in
    rising order; empty where all techniques get the ``seeds``, which are those of the first look. ``judge`` is the
    metric that sorts the table and makes the verdicts where that is not ``metrics[0]``: one of the accuracy lane, or a
    throughput. A technique that is worse than the baseline in one of ``unchanged`` is not ranked. Where ``equal`` is
    named, techniques are compared with the one of the ``references`` that has an equal value of this metric. The
    suite asks about ``beside`` too, which makes no verdict. On the first ``repeatability`` seeds, each technique is
    trained once more from perturbed weights. On a
    user's own model, numbers that techniques' own spaces give to a name in ``scale`` are multiplied with its factor,
    as the suite's ``tuning`` has been. Runs stored before a field with a default existed lack that field.
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
    looks: tuple[int, ...] = ()
    judge: str = ""
    unchanged: tuple[str, ...] = ()
    equal: str = ""
    references: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    repeatability: int = 0
    scale: Mapping[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> str:
        """The metric of quality that is followed over commits, and that the table is sorted by unless one is stated."""
        return self.metrics[0]

    @property
    def judged(self) -> str:
        """The metric that sorts the table and makes the verdicts."""
        return self.judge or self.quality

    @property
    def judged_phase(self) -> str:
        """The phase whose throughput makes the verdicts, over rounds; empty where a metric does, over seeds."""
        return self.judged.removesuffix("_throughput") if self.judged.endswith("_throughput") else ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case. ``key`` hashes everything that can change the result of the case; ``stage`` is not part of the key.

    ``stacked`` says that the case may be evaluated together with other seeds and trials (the notes of a row say whether
    that happened). ``params`` are the technique's parameters, ``settings`` those of the workload's protocol (a tuned
    learning rate is a setting unless the technique declares one). ``code`` is the digest of the sources that compute
    the result. A ``perturbed`` case repeats the training of its seed from weights that differ by a rounding error; it
    is no further seed, and only tells how far the result moves.
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
    perturbed: bool = False


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A decision not to run a case, with the reason.

    ``unavailable``: something has to be installed; ``error``: the technique cannot work as it is declared.
    """

    reason: str
    status: Literal["unavailable", "skipped", "error"] = "skipped"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The result of a case in its process. ``detail`` has a traceback or the end of the case's own output.

    ``samples`` are raw measurements in the order taken (seconds per call for ``train``/``infer``; under
    ``baseline.train`` the baseline's of the same rounds); ``phases`` are seconds by phase name. ``peak_bytes`` is the
    most memory that the process of an accuracy case had above its start; 0 where that is not known.
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
    peak_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """The stored result of a case: the case, its reply, the start time and the environment.

    ``reused_from`` is the run that computed the result, where ``run`` took the row from the store; ``started`` and
    ``environment`` are then those of the process that computed it.
    """

    run: str
    case: Case
    reply: Reply
    started: str
    environment: Mapping[str, Json]
    reused_from: str = ""
    schema: int = 2

    @property
    def ok(self) -> bool:
        """Whether the case has numbers to show."""
        return self.reply.status == "ok"

    @property
    def failed(self) -> bool:
        """Whether the case was started and failed."""
        return self.reply.status in FAILED


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """One run, as stored in ``run.json``: its suite and selection, the folder of results, and the loaded plugins.

    ``plugins`` are the active and the broken plugins, each with version and first cause; ``planned`` is the number of
    planned cases; ``finished`` is the time at which the run ended, empty before. ``environment`` is that of the start;
    ``resumed`` has an entry for each resume in another: the time (``started``), and the facts that were different then.
    ``estimate`` is what the run was expected to take before its first case (or the first after its last resume):
    ``made`` at a time, ``seconds``, ``cases``, ``processes``, ``process_bytes``, and at the run's end what it took, as
    ``took_seconds`` and so on; empty where nothing was tried.
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
    resumed: Sequence[Mapping[str, Json]] = ()
    estimate: Mapping[str, Json] = field(default_factory=dict)
    schema: int = 2
