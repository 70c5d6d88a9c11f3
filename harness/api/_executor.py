"""The protocol of executors, and the arguments of executors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.api._records import Case, Json, Reply


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The hard limits of one case: wall-clock seconds, and bytes of private memory above the worker's baseline."""

    time_s: float
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """The arguments of an executor: worker slots, limits, the cache folder, modules to import before any case.

    ``preload`` are modules of the judge. ``techniques`` are the modules of the contestants by the plugin that brings
    them, which is the first part of a technique's id: what a module changes in its process must not reach the cases of
    another plugin, nor those that prepare shared content.

    ``protocol`` names the class ``package.module:Name`` that every technique of the run has to fulfil; executors pass
    ``protocol`` to their workers. An empty ``protocol`` means that no member is checked. ``keep`` is the folder of what
    cases leave beside their figures, in a folder each, named by the case's key; None where they leave nothing.
    """

    jobs: int
    limits: Limits
    cache: Path
    preload: Sequence[str]
    rounds: int
    device: str
    protocol: str = ""
    techniques: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of work of an executor: one case of the accuracy or memory lane, or the contestants of one timed block.

    For an executor that ``stacks``, a unit may also be several seeds and trials of one contestant in the accuracy lane.
    The cases of a time unit are interleaved, and each is paired with the baseline ``cases[0]``. A ``prepare`` unit has
    one case of a workload and only makes the content that the workload's cases share. A ``check`` unit has one case
    of a contestant, whose technique it holds against the invariants of its contract.
    A ``trial`` unit has one case of a contestant, or that case and the same one of the suite's quick form: it does a
    little of the case, to find what the cases of the run will cost.
    ``processes`` is the number of slots that the unit takes: more than 1 where its workload declares a case of several
    processes.
    """

    cases: tuple[Case, ...]
    prepare: bool = False
    check: bool = False
    trial: bool = False
    processes: int = 1


class Executor(Protocol):
    """A runner of units. The caller uses one thread: ``submit`` until ``slots`` units run, then ``wait``.

    ``slots`` is the number of processes that may compute side by side; a unit of more ``processes`` than there are
    slots is submitted on its own. ``stacks`` says whether the executor takes several seeds and trials of a contestant
    in one unit. An executor may run units on other machines than the driver's: it answers for where they ran.
    """

    slots: int
    stacks: bool

    def submit(self, unit: Unit) -> None:
        """Start a unit without waiting for its result."""

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        """Block until a unit finishes, at most ``timeout_s`` seconds; return the finished units and their replies."""

    def running(self) -> list[tuple[Case, str]]:
        """Return the running cases and the current phase of each."""

    def free_memory(self) -> int:
        """Return the bytes that are free where the next timed block would run; the block takes half of them."""

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        """Return the facts in which the place where a finished unit ran differs from the driver, by name.

        They replace those of the driver in the rows of the unit (names as in a row's ``environment``: ``cpu``, ``gpu``,
        ``hostname``). Empty where the unit ran on the driver's machine. Asked once, after `wait` has returned the unit.
        """

    def close(self) -> None:
        """Terminate all running units and their descendant processes; idempotent."""
