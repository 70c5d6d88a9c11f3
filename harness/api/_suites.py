"""A checked suite, and the claims that it tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.api._terms import ClaimDirection, ClaimKind, Form, Json


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's statement as a test on a metric: mostly of two techniques, each at its best tuning.

    Runs that were stored before a field with a default existed lack that field.
    """

    id: str
    """The name of the claim, unique in its suite."""

    source: str
    """Where the statement is made, such as ``arXiv:2406.08447``."""

    says: str
    """The statement in one sentence."""

    metric: str
    """The metric that is tested; for the kind ``steps`` also the name of the series that reaches the target."""

    better: str
    """The full id of the technique that is said to be better; empty for the kind ``correlation``."""

    than: str
    """The full id of the technique that it is compared with; empty where there is none."""

    kind: ClaimKind = "better"
    """What is said: see `ClaimKind`."""

    workload: str = ""
    """The workload on which the claim is tested; every workload of the suite where this is empty."""

    less_on: str = ""
    """The workload on which the gain is said to be smaller, for the kind ``gain``."""

    margin: float | None = None
    """The smallest difference that matters, in the metric's unit; None for the margin of the suite."""

    direction: ClaimDirection = "more"
    """Which way the kinds ``ratio``, ``trend``, ``best`` and ``correlation`` point."""

    bound: float | None = None
    """The ratio, the target of the series, or the least size of the correlation."""

    parameter: str = ""
    """The parameter of the techniques, or setting of the workloads, for the kinds ``trend`` and ``best``."""

    other_metric: str = ""
    """The second metric of the kind ``correlation``."""

    others: tuple[str, ...] = ()
    """Of the kind ``interaction``, the second pair of techniques; of ``correlation``, globs of those that count."""

    phase: str = ""
    """Of the kind ``steps``, the phase whose seconds turn steps into time; empty where steps are compared."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked suite file. Runs that were stored before a field with a default existed lack that field."""

    id: str
    """The id of the suite: the stem of its file."""

    title: str
    """The heading of its table."""

    version: int
    """The version of its numbers, which is raised where they must not be compared with earlier ones."""

    contract: str
    """The contract that all its techniques fulfil."""

    baseline: str
    """The full id of the technique that all others are compared with."""

    workloads: tuple[str, ...]
    """The full ids of the workloads."""

    techniques: tuple[str, ...]
    """Globs of full ids of techniques; ``!glob`` excludes."""

    seeds: tuple[int, ...]
    """The seeds that every technique gets."""

    metrics: tuple[str, ...]
    """The metrics of the table; the first is that of quality."""

    select: str
    """The metric on validation data that chooses among the trials of the tuning."""

    tuning_seeds: int
    """The number of seeds, the first ones, on which trials are compared."""

    tuning: Mapping[str, tuple[Json, ...]]
    """The grid: the values to try, by the name of a setting or parameter."""

    settings: Mapping[str, Json]
    """Settings of the workloads that the suite fixes."""

    margins: Mapping[str, float]
    """The smallest difference that matters, by metric and in its unit."""

    claims: tuple[Claim, ...]
    """The claims that are tested."""

    rounds: int
    """The number of rounds of the time lane."""

    form: Form
    """The extent of the suite that is run."""

    source: str
    """The path of the suite file."""

    costs: tuple[str, ...] = ()
    """Cost metrics in order of preference: the first that a run has is the axis of the Pareto front."""

    looks: tuple[int, ...] = ()
    """The numbers of seeds after which undecided comparisons are tested, rising; the first look has the ``seeds``.

    Empty where all techniques get the ``seeds`` and no more.
    """

    judge: str = ""
    """The metric that sorts the table and makes the verdicts, where that is not ``metrics[0]``.

    It is a metric of the accuracy lane, or a throughput.
    """

    unchanged: tuple[str, ...] = ()
    """Metrics in which a technique must not be worse than the baseline: one that is worse is not ranked."""

    equal: str = ""
    """The metric that has to be equal: a technique is compared with the reference that has an equal value of it."""

    references: tuple[str, ...] = ()
    """The full ids of the techniques that others are compared with at an equal value of ``equal``."""

    beside: tuple[str, ...] = ()
    """Metrics that the suite asks about as well, and which make no verdict."""

    repeatability: int = 0
    """The number of seeds, the first ones, on which each technique is trained once more from perturbed weights."""

    scale: Mapping[str, float] = field(default_factory=dict)
    """On a user's own model, the factor by which the numbers of a name in a technique's own space are multiplied.

    The suite's own ``tuning`` has been multiplied already.
    """

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
