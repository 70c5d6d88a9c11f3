"""What lies between the worker and a judge: the context of a case, its outcome, and the protocols of a workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from harness.api._records import Json

WARNING: Final = "warning: "
"""How a note begins that every reader of the table should see; what follows it is the same on every seed."""


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
class OpenCase:
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

    def open(self, technique: Any, context: CaseContext) -> OpenCase:
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
