"""The protocol of executors, and what they are handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.api._records import Case, Json, Reply


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one case: wall seconds, and bytes of private memory above the worker's baseline."""

    time_s: float
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """What an executor is made with: worker slots, limits, the cache folder, modules worth importing once.

    ``protocol`` names the class ``package.module:Name`` that every technique of the run has to fulfil; executors hand
    it on to their workers. It is empty where nothing is checked.
    """

    jobs: int
    limits: Limits
    cache: Path
    preload: Sequence[str]
    rounds: int
    device: str
    protocol: str = ""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What an executor is handed: one case of the accuracy or memory lane, or the contestants of one timed block.

    To an executor that ``stacks`` it may also be several seeds and trials of one contestant in the accuracy lane.
    The cases of a time unit are interleaved and ``cases[0]`` is the baseline they are paired with. A ``prepare``
    unit names a workload by one of its cases and only makes what its cases share. ``processes`` is the number of
    slots that the unit takes, more than 1 where its workload declares a case of several processes.
    """

    cases: tuple[Case, ...]
    prepare: bool = False
    processes: int = 1


class Executor(Protocol):
    """Runs units. Single-threaded from the caller's side: ``submit`` until ``slots`` are full, then ``wait``.

    ``slots`` is the number of processes that may compute side by side; a unit of more ``processes`` than there are
    slots is submitted on its own. ``stacks`` says whether the executor takes several seeds and trials of a contestant
    in one unit. An executor may run units on other machines than the driver's: it answers for where they ran.
    """

    slots: int
    stacks: bool

    def submit(self, unit: Unit) -> None:
        """Start a unit; never blocks on its result."""

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        """Block until at least one unit is finished (or the timeout) and return the finished ones."""

    def running(self) -> list[tuple[Case, str]]:
        """Cases under way and the phase each is in."""

    def free_memory(self) -> int:
        """Return the bytes that are free where the next timed block would run; the block takes half of them."""

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        """Return the facts in which the place where a finished unit ran differs from the driver, by name.

        They replace those of the driver in the rows of the unit (names as in a row's ``environment``: ``cpu``, ``gpu``,
        ``hostname``). Empty where the unit ran on the driver's machine. Asked once, after `wait` has returned the unit.
        """

    def close(self) -> None:
        """End everything that still runs, with all its descendants; idempotent."""
