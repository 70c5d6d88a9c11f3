"""The protocol of executors, and the arguments of executors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.api._records import Case, Reply
from harness.api._terms import Json


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The hard limits of one case."""

    time_s: float
    """The most seconds that the case may take."""

    memory_bytes: int | None = None
    """The most bytes of private memory above the worker's baseline; None where there is no limit."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run was planned with: another machine that is to compute for the run has to have the same."""

    contract: str
    """The id of the suite's contract."""

    base: str
    """The base of the user's own model; empty where the run has none."""

    plugins: Sequence[str]
    """The modules of the plugins that work."""

    environment: Mapping[str, Json]
    """The environment of the driver, as in a row."""


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """The arguments of an executor."""

    jobs: int
    """The number of worker slots."""

    limits: Limits
    """The limits of each case."""

    cache: Path
    """The folder for trained base models."""

    preload: Sequence[str]
    """Modules of the judge to import before any case."""

    rounds: int
    """The number of rounds of a timed block."""

    device: str
    """The device that computes, by torch's name."""

    protocol: str = ""
    """The class ``package.module:Name`` that every technique of the run has to fulfil; empty where none is checked.

    Executors pass it to their workers.
    """

    techniques: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The modules of the contestants by the plugin that brings them, which is the first part of a technique's id.

    What a module changes in its process must not reach the cases of another plugin, nor those that prepare shared
    content.
    """

    keep: Path | None = None
    """The folder of what cases leave beside their figures, in a folder each, named by the case's key.

    None where they leave nothing.
    """

    address: str = ""
    """The place of the cluster, for an executor that takes one; empty where the user named none."""

    origin: Origin | None = None
    """What the run was planned with, for an executor of other machines; None where nothing is compared."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of work of an executor: one case of the accuracy or memory lane, or the contestants of one timed block.

    For an executor that ``stacks``, a unit may also be several seeds and trials of one contestant in the accuracy lane.
    """

    cases: tuple[Case, ...]
    """The cases; those of a timed block are interleaved, and each is paired with the baseline ``cases[0]``."""

    prepare: bool = False
    """Whether the one case of a workload is only to make the content that the workload's cases share."""

    check: bool = False
    """Whether the technique of the one case is only held against the invariants of its contract."""

    trial: bool = False
    """Whether a little of the case is done, to find what the cases of the run will cost.

    Such a unit has one case of a contestant, or that case and the same one of the suite's quick form.
    """

    processes: int = 1
    """The number of slots that the unit takes: more than 1 where its workload declares a case of several processes."""


class Executor(Protocol):
    """A runner of units. The caller uses one thread: ``submit`` until ``slots`` units run, then ``wait``.

    An executor may run units on other machines than the driver's: it answers for where they ran.
    """

    slots: int
    """The number of processes that may compute side by side; a unit of more ``processes`` is submitted on its own."""

    stacks: bool
    """Whether the executor takes several seeds and trials of a contestant in one unit."""

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
