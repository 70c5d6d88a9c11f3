"""The interface between the worker and a judge: the context of a case, its outcome, and the protocols of workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from harness.api._records import Json, Lane

WARNING: Final = "warning: "
"""The prefix of a note that is shown below the table; the text after the prefix must be the same on every seed."""


@dataclass(frozen=True, kw_only=True)
class CaseContext:
    """The arguments of a workload's methods: the seed, the device, the protocol's settings and a phase clock.

    ``phase('init')`` is a context manager that times its block (device synchronised, seconds summed per
    name, readable in ``phases``) and reports the phase to the parent process, so that a timeout can name the phase.
    ``cache`` is the folder for trained base models. Where ``perturbed``, a workload that declares ``perturbs`` begins
    to train from weights that differ by a rounding error (`harness.judge.perturbation.perturb_start`).
    ``keep`` is a folder for what is to be kept of the case beside its figures, such as an adapter; None where nothing
    is. ``lane`` is the one that the case is of, for an `open` that shows memory other data than time.
    """

    seed: int
    device: str
    settings: Mapping[str, Json]
    cache: Path
    phase: Callable[[str], AbstractContextManager[None]]
    perturbed: bool = False
    keep: Path | None = None
    lane: Lane = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of an accuracy case: one number for each metric, curves over training, and notes for the reader.

    A note that begins with `WARNING` is shown below the table, with the number of seeds that gave the note.
    """

    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One repeatable unit of work of a built trial, such as a training step; ``samples`` is its batch size.

    ``verify`` holds what is timed against the definition. Outside the timed interval, after samples chosen at random,
    it is called with what the last call of ``run`` returned, and raises `Incorrect` where that is wrong. For this
    to mean anything, every call of ``run`` computes on data that no call before had, and returns its output.
    Data that cost too much to be drawn within a call are drawn by ``refresh``, which is called before the first call
    and after every sample of the time lane, outside the timed interval too.
    """

    run: Callable[[], object]
    samples: int
    verify: Callable[[Any], None] | None = None
    refresh: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class OpenCase:
    """A technique built on a workload's model, whose phases are run in order.

    The memory lane releases each phase after its measurement, which frees what only that phase used.

    ``probes`` are timed in the same rounds as the phases but not compared between techniques, such as the time of one
    part of a phase or a limit of the machine. ``figures`` takes the seconds per call of all phases and probes, by name
    and in order of rounds, and returns the metrics of the time lane that follow from these.
    """

    phases: Mapping[str, Phase]
    probes: Mapping[str, Phase] = field(default_factory=dict)
    figures: Callable[[Mapping[str, Sequence[float]]], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if twice := self.phases.keys() & self.probes.keys():
            raise ValueError(f"{sorted(twice)} are both phases and probes of a trial: give each a name of its own")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a technique costs on a workload, found by doing a little of everything: an estimate is made of it.

    ``seconds`` has the seconds of each unit of work by a name of the workload's own, such as a training step or a batch
    of the test. ``build`` says how many of each a call of `open` takes, ``phases`` how many a call of each of its
    phases, and ``memory_phases`` how many such a call takes in the memory lane, where that is another batch.
    """

    seconds: Mapping[str, float]
    build: Mapping[str, float]
    phases: Mapping[str, Mapping[str, float]]
    memory_phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


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
