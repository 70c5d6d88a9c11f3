"""The interface between the worker and a judge: the context of a case, its outcome, and the protocols of workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from harness.api._terms import Json, Lane

WARNING: Final = "warning: "
"""The prefix of a note that is shown below the table; the text after the prefix must be the same on every seed."""


@dataclass(frozen=True, kw_only=True)
class CaseContext:
    """The arguments of a workload's methods: what a case is, and a clock for the parts of its work."""

    seed: int
    """The seed, from which everything random follows."""

    device: str
    """The device that computes, by torch's name."""

    settings: Mapping[str, Json]
    """The settings of the protocol, each with its value."""

    cache: Path
    """The folder for trained base models."""

    phase: Callable[[str], AbstractContextManager[None]]
    """A clock: ``with context.phase("init"):`` times its block, with the device synchronised on both sides.

    Seconds are summed by name into `Reply.phases`. The phase is reported to the parent process as it begins, so that a
    timeout can name it.
    """

    perturbed: bool = False
    """Whether a workload that declares ``perturbs`` begins to train from weights that differ by a rounding error.

    `harness.judge.perturbation.perturb_start` makes such weights.
    """

    keep: Path | None = None
    """A folder for what is to be kept of the case beside its figures, such as an adapter; None where nothing is."""

    lane: Lane = "accuracy"
    """The lane of the case, for an ``open`` that shows memory other data than time."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of an accuracy case."""

    metrics: Mapping[str, float]
    """One number for each metric that the workload declares."""

    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Curves over the training, by name.

    A series ``WHAT_by_PLACE`` is over something else, and has a value for each place from 1 on; where ``WHAT`` is a
    metric, the chart of the series has its unit.
    """

    notes: Sequence[str] = ()
    """Remarks for the reader.

    One that begins with `WARNING` is shown below the table, with the number of seeds that gave it.
    """


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One repeatable unit of work of a built trial, such as a training step."""

    run: Callable[[], object]
    """The work: every call computes on data that no call before had, and returns its output."""

    samples: int
    """The number of samples of a call: its batch size."""

    verify: Callable[[Any], None] | None = None
    """What holds the output against the definition: it raises `Incorrect` where the output is wrong.

    It is called with what the last call of ``run`` returned, after samples chosen at random, outside the timed
    interval.
    """

    refresh: Callable[[], None] | None = None
    """What draws data that cost too much to be drawn within a call of ``run``.

    It is called before the first call and after every sample of the time lane, outside the timed interval.
    """


@dataclass(frozen=True, kw_only=True)
class OpenCase:
    """A technique built on a workload's model, whose phases are run in order.

    The memory lane releases each phase after its measurement, which frees what only that phase used.
    """

    phases: Mapping[str, Phase]
    """The phases of the contract that the workload measures, by name."""

    probes: Mapping[str, Phase] = field(default_factory=dict)
    """What is timed in the same rounds but not compared between techniques, by name.

    A probe may be one part of a phase, or a limit of the machine.
    """

    figures: Callable[[Mapping[str, Sequence[float]]], Mapping[str, float]] | None = None
    """What returns further metrics of the time lane.

    It takes the seconds per call of all phases and probes, by name and in order of rounds.
    """

    def __post_init__(self) -> None:
        if twice := self.phases.keys() & self.probes.keys():
            raise ValueError(f"{sorted(twice)} are both phases and probes of a trial: give each a name of its own")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a technique costs on a workload, found by doing a little of everything: an estimate is made of it."""

    seconds: Mapping[str, float]
    """The seconds of each unit of work, by a name of the workload's own: a training step, a batch of the test."""

    build: Mapping[str, float]
    """How many of each unit a call of ``open`` takes, by the same names."""

    phases: Mapping[str, Mapping[str, float]]
    """How many of each unit a call of each phase takes, by phase."""

    memory_phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The same of a call in the memory lane, for phases that take another batch there."""


class Workload(Protocol):
    """The methods of a workload that the worker calls. ``technique`` is the built target, an object of the contract."""

    def prepare(self, context: CaseContext) -> None:
        """Make what all cases share (a pretrained base model) in the cache; idempotent, safe to run concurrently."""

    def evaluate(self, technique: Any, context: CaseContext) -> Outcome:
        """Run the whole protocol on held-out data and return the declared metrics."""

    def open(self, technique: Any, context: CaseContext) -> OpenCase:
        """Build the model with the technique for the memory and time lanes; initialise it in ``phase('init')``."""

    def check(self, technique: Any, context: CaseContext) -> None:
        """Raise `Incorrect` where the technique breaks an invariant of its contract."""


class CheckingWorkload(Workload, Protocol):
    """A workload that can refuse invalid settings before a run."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise `UsageError` with a line for every invalid setting: its value, and what was expected."""


class StackingWorkload(Workload, Protocol):
    """A workload that can train several seeds and trials of one technique together, which is faster."""

    def evaluate_stacked(self, techniques: Sequence[Any], contexts: Sequence[CaseContext]) -> Sequence[Outcome]:
        """Return the outcome of ``evaluate`` for each technique in its context, with the same numbers.

        The contexts differ in the seed and in the settings that are tuned, the techniques in the values of their
        parameters.

        Raises `CannotStack` where the cases cannot be evaluated together, without side effects.
        """


class EstimatingWorkload(Workload, Protocol):
    """A workload whose cases take minutes: it says what they will cost before the first of them is begun.

    Where its settings have a ``batch_size`` and a ``micro_batch``, a run chooses the largest micro-batch of which a
    case of the baseline fits into memory, for all techniques alike.
    """

    def trial(self, technique: Any, context: CaseContext) -> Trial:
        """Do a little of what ``evaluate`` does and return what it costs.

        The process's memory is watched meanwhile, so that the largest of what ``evaluate`` does is to be part of it,
        such as the longest batch of the training and of the test.
        """

    def counts(self, context: CaseContext) -> Mapping[str, float]:
        """Return how many units of each name in `Trial.seconds` a call of ``evaluate`` takes."""
