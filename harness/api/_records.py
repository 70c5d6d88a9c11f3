"""Records of a run: cases, replies and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.api._suites import Suite
from harness.api._terms import FAILED, Form, Json, Lane, Stage, Status


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: a technique with its values on a workload, with one seed, in one lane."""

    key: str
    """The hash of everything that can change the result."""

    suite: str
    """The id of the suite."""

    suite_version: int
    """The version of the suite."""

    contract: str
    """The contract of the technique and the workload."""

    workload: str
    """The full id of the workload, with the values that a name pins."""

    workload_version: int
    """The version of the workload."""

    workload_target: str
    """What makes the workload, as ``package.module:attribute``."""

    technique: str
    """The full id of the technique, with the values that a name pins."""

    technique_target: str
    """What builds the technique, as ``package.module:attribute``."""

    plugin_version: str
    """The version of the plugin that brings the technique."""

    params: Mapping[str, Json]
    """The technique's parameters."""

    settings: Mapping[str, Json]
    """The settings of the workload's protocol; a tuned learning rate is one unless the technique declares it."""

    tuned: Mapping[str, Json]
    """Those of the parameters and settings that tuning chose or tries."""

    seed: int
    """The seed of the split, the initial weights and the order of batches."""

    lane: Lane
    """What the case measures."""

    device: str
    """The device that computes, by torch's name."""

    stage: Stage
    """Whether the case helps to choose values; no part of the key."""

    code: str
    """The digest of the sources that compute the result."""

    form: Form = "full"
    """The extent of the run that planned the case."""

    stacked: bool = False
    """Whether the case may be evaluated together with other seeds and trials; notes of a row say whether it was."""

    perturbed: bool = False
    """Whether the training of the seed is repeated from weights that differ by a rounding error.

    Such a case is no further seed: it only tells how far the result moves.
    """


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A decision not to run a case."""

    reason: str
    """Why, as the row of the case says it."""

    status: Literal["unavailable", "skipped", "error"] = "skipped"
    """The status of the row: ``unavailable`` where something has to be installed, ``error`` where a technique cannot
    work as it is declared."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The result of a case in its process."""

    status: Status
    """How the case ended."""

    reason: str = ""
    """Why it has no numbers, in one line; empty where it is ``ok``."""

    detail: str = ""
    """A traceback, or the end of the case's own output."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """A number for each metric."""

    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Curves over the training, by name."""

    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Raw measurements in the order taken: seconds per call, by phase.

    Under ``baseline.PHASE`` are the baseline's of the same rounds.
    """

    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds by the name that the workload gave to a part of its work."""

    notes: Sequence[str] = ()
    """Remarks for the reader; those that begin with `WARNING` are shown below the table."""

    wall_s: float = 0.0
    """The seconds that the case took."""

    cpu_s: float = 0.0
    """The seconds that its process computed."""

    load: float = 0.0
    """The load average of the machine, over a minute, when the process was started."""

    peak_bytes: float = 0.0
    """The most memory that the process of an accuracy case had above its start; 0 where that is not known."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The stored result of a case."""

    run: str
    """The id of the run that the row belongs to."""

    case: Case
    """The case."""

    reply: Reply
    """What came of it."""

    started: str
    """When the process that computed the result started, as ISO 8601 in UTC."""

    environment: Mapping[str, Json]
    """The facts of the place where the result was computed, such as ``cpu``, ``hostname`` and versions."""

    reused_from: str = ""
    """The run that computed the result, where this run took the row from the store; empty otherwise."""

    schema: int = 2
    """The version of the form: 3 in files that are written now, 2 in memory, whichever a row was stored with."""

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
    """One run, as stored in ``run.json``."""

    id: str
    """The id of the run, and the name of its folder."""

    suite: Suite
    """The suite as it was run."""

    started: str
    """When the run started, as ISO 8601 in UTC."""

    folder: Path
    """The folder of its results."""

    selection: Mapping[str, Json]
    """What the user selected: options of the command line that change which cases there are."""

    plugins: Sequence[Mapping[str, Json]]
    """The active and the broken plugins, each with its version, its metrics, and the first cause where it is broken."""

    environment: Mapping[str, Json]
    """The facts of the machine and its packages at the start."""

    planned: int
    """The number of planned cases."""

    finished: str = ""
    """When the run ended; empty before."""

    exit_code: int | None = None
    """How it ended, as the exit code of the command; None before."""

    resumed: Sequence[Mapping[str, Json]] = ()
    """An entry for each resume in another environment: the time (``started``), and the facts that differed."""

    estimate: Mapping[str, Json] = field(default_factory=dict)
    """What the run was expected to take before its first case, or the first after its last resume.

    ``made`` at a time, ``seconds``, ``cases``, ``processes``, ``process_bytes``, and at the run's end what it took, as
    ``took_seconds`` and so on; empty where nothing was tried.
    """

    name: str = ""
    """What a user called the run, if anything."""

    schema: int = 2
    """The version of the form: 3 in files that are written now, 2 in memory, whichever a run was stored with."""
