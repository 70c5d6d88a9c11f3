"""The declarations of plugins: frozen specs that are validated when they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pluggy

from harness.api._terms import Json, Lane

API_VERSION: Final = 1
"""The version of the plugin interface; a plugin states the version that it was written for as ``HARNESS_API``."""

PROJECT: Final = "harness"
"""The pluggy project name, and the prefix of the entry-point group."""

ENTRY_POINT_GROUP: Final = "harness.plugins"
"""The group of entry points by which an installed package says that it is a plugin."""

PLUGINS_VARIABLE: Final = "HARNESS_PLUGINS"
"""The environment variable that names plugins as the option ``-p`` does."""

DISTRIBUTION: Final = "technique-harness"
"""The name of the host's distribution on a package index."""

BASE_MODELS: Final = "base-models"
"""The folder of the cache in which trained base models lie."""

CONVERTED: Final = "converted"
"""The folder within that of base models that holds users' models which were converted, one in each folder."""

DATA_KINDS: Final[Mapping[str, str]] = {
    "labelled": "a column of texts and one of labels",
    "pairs": "a column of prompts and one of completions",
    "messages": "a column of conversations",
    "texts": "texts alone",
    "images": "a folder with a folder of images for each class",
}
"""The kinds of users' own data, by the name that `WorkloadSpec.reads` has, each with a phrase for messages."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""The decorator of a plugin's function that implements the hook of the same name."""


_ID = re.compile(r"[a-z0-9]+([.+-][a-z0-9]+)*")
_METRIC_ID = re.compile(r"[a-z][a-z0-9_]*")

BUILD_PHASE: Final = "build"
"""The phase that every case has: loading the model and initialising the technique."""


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it is a well-formed id; raise ValueError naming the rule otherwise."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{what} id {value!r}: expected lower-case words joined by '-', '.' or '+', like 'two-words'")
    return value


def _check_target(value: str, what: str) -> None:
    module, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not module or not name:
        raise ValueError(f"{what} target {value!r}: expected 'package.module:attribute'")


def _check_texts(value: object, what: str) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{what} = {value!r}: expected a list of texts")


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A method under test, as its plugin declares it."""

    id: str
    """The name within the plugin, such as ``two-words``; the plugin's name is put before it: ``lora/pissa``."""

    contract: str
    """The contract that it fulfils, such as ``finetune``."""

    target: str
    """What builds it: a callable ``package.module:attribute``.

    It takes ``params`` as keyword arguments and returns an object that fulfils the contract. It is imported only in the
    process that runs a case, and raises `UsageError` for an invalid value; a value that a user fixed is then refused
    before the run.
    """

    summary: str
    """What it does, in a phrase."""

    reference: str = ""
    """Where it was published, such as ``arXiv:2404.02948``."""

    params: Mapping[str, Json] = field(default_factory=dict)
    """Its parameters with their defaults, best made by `ranged`."""

    space: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    """The values that tuning tries instead of the suite's grid.

    They are given by the name of a parameter of the technique, or of a setting of the workload's protocol.
    """

    requires: Sequence[str] = ()
    """Its pip requirements beyond those of the plugin itself."""

    def __post_init__(self) -> None:
        check_id(self.id, "technique")
        check_id(self.contract, "contract")
        _check_target(self.target, f"technique {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The interface of a family's techniques, as declared by the family that owns the contract.

    Raises ValueError for an id, a target or a phase that is not well-formed.
    """

    id: str
    """The name of the contract, which no other plugin may declare."""

    protocol: str
    """The `typing.Protocol` class ``package.module:Name`` that a technique's target must return an instance of.

    The worker refuses an object that lacks a member.
    """

    summary: str
    """What a technique of the contract is, in a phrase."""

    phases: Mapping[str, str]
    """The phases in which cost may be measured, each with a description of one call.

    An example is ``{"train": "a training step"}``. The host derives from each phase the metrics of `phase_metrics`.
    """

    def __post_init__(self) -> None:
        check_id(self.id, "contract")
        _check_target(self.protocol, f"contract {self.id!r}")
        if not isinstance(self.phases, Mapping):
            raise ValueError(f"contract {self.id!r}: phases = {self.phases!r}: expected a mapping of phases to texts")
        for phase in self.phases:
            if not isinstance(phase, str) or not _METRIC_ID.fullmatch(phase):
                raise ValueError(f"contract {self.id!r}: phase {phase!r}: expected snake_case, like 'encode_row'")
            if phase == BUILD_PHASE:
                raise ValueError(f"contract {self.id!r}: phase {phase!r} is the host's: every case is built")


def phase_metrics(phase: str, call: str) -> tuple[Metric, ...]:
    """Return the metrics of a phase: time (s), throughput (samples/s), and two memory peaks (bytes).

    ``call`` describes one call of the phase.
    """
    return (
        Metric(id=f"{phase}_time", unit="s", higher_is_better=False, lane="time", summary=f"median of {call}"),
        Metric(
            id=f"{phase}_throughput",
            unit="samples/s",
            higher_is_better=True,
            lane="time",
            summary=f"samples a second of {call}",
        ),
        Metric(
            id=f"{phase}_tensor_peak",
            unit="B",
            higher_is_better=False,
            lane="memory",
            summary=f"bytes of live tensors at the peak of {call}",
        ),
        Metric(
            id=f"{phase}_process_peak",
            unit="B",
            higher_is_better=False,
            lane="memory",
            summary=f"bytes taken from the system at the peak of {call}",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """A standard problem, as declared by its family."""

    id: str
    """The name within the family; the plugin's name is put before it, as in ``finetune/digits-mlp``."""

    contract: str
    """The contract of the techniques that it compares."""

    target: str
    """The class ``package.module:Name`` without constructor arguments that fulfils `Workload`."""

    summary: str
    """What the problem is, in a phrase."""

    version: int
    """The version of its results, which is raised by hand whenever earlier ones must not be compared with new ones."""

    metrics: Sequence[str]
    """Exactly the metrics that the accuracy lane emits."""

    phases: Sequence[str]
    """The phases of the contract that the memory and time lanes measure."""

    settings: Mapping[str, Json] = field(default_factory=dict)
    """The protocol's settings with their defaults, best made by `harness.judge.settings.defaults_of`.

    Suites and tuning may override these settings only.
    """

    small: Mapping[str, Json] = field(default_factory=dict)
    """Settings at which a case takes about a second, for the conformance tests."""

    requires: Sequence[str] = ()
    """Its pip requirements beyond those of the plugin itself."""

    stacks: bool = False
    """Whether it fulfils `StackingWorkload`: it evaluates several seeds of a technique together."""

    fewest_stacked: int = 3
    """The number of seeds from which evaluating them together takes less time than one by one."""

    perturbs: bool = False
    """Whether ``evaluate`` trains, from perturbed weights where the context says so."""

    preload: Sequence[str] = ()
    """Modules that a case would otherwise import while it is measured; they are imported once, before any case.

    The first step of an optimiser, for example, imports ``torch._dynamo`` (two seconds, 70 MB).
    """

    processes: int = 1
    """The number of processes of a case that compute at the same time, its own among them.

    A case takes as many slots of the executor.
    """

    task: str = ""
    """What is learned from a user's own data, like ``text-classification``; empty for a problem of the family's own.

    The settings ``model`` and ``data`` of such a workload name the user's model and data, and ``harness run --model``
    chooses it.
    """

    optional: Sequence[str] = ()
    """Those of the metrics that are emitted only where the settings ask for them."""

    reads: Sequence[str] = ()
    """The kinds of data (`DATA_KINDS`) that a workload with a task reads.

    The kind of a user's data chooses the task where the user names none.
    """

    def __post_init__(self) -> None:
        check_id(self.id, "workload")
        check_id(self.contract, "contract")
        for name in ("metrics", "optional", "reads"):
            _check_texts(getattr(self, name), f"workload {self.id!r}: {name}")
        if not isinstance(self.task, str):
            raise ValueError(f"workload {self.id!r}: task = {self.task!r}: expected a text")
        if self.task and not isinstance(self.settings, Mapping):
            raise ValueError(f"workload {self.id!r}: settings = {self.settings!r}: expected a mapping")
        if foreign := [name for name in self.optional if name not in self.metrics]:
            raise ValueError(f"workload {self.id!r}: optional {foreign}: expected some of its metrics")
        if self.task and not {"model", "data"} <= {*self.settings}:
            raise ValueError(f"workload {self.id!r}: has a task, so it needs the settings 'model' and 'data'")
        if bool(self.task) != bool(self.reads) or not {*self.reads} <= {*DATA_KINDS}:
            expected = f"some of {', '.join(DATA_KINDS)} for a workload with a task, and none for others"
            raise ValueError(f"workload {self.id!r}: reads = {self.reads!r}: expected {expected}")
        _check_target(self.target, f"workload {self.id!r}")
        if not isinstance(self.processes, int) or isinstance(self.processes, bool) or self.processes < 1:
            raise ValueError(
                f"workload {self.id!r}: processes = {self.processes!r}: expected a whole number, at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured quantity."""

    id: str
    """The name, in snake_case, which no other plugin may declare."""

    unit: str
    """The unit of stored values, such as ``%``, ``nats`` or ``B``; empty for a number without one."""

    higher_is_better: bool
    """Whether more is better."""

    summary: str
    """What is measured, in a phrase."""

    lane: Lane
    """The lane that it comes from."""

    selects: bool = False
    """Whether tuning may choose by it: it is computed on validation data, never on test data.

    A suite that tunes and selects by another metric is refused.
    """

    limit: float | None = None
    """The largest value that can be, such as 100 for a share of what the machine allows; None where there is none.

    A larger value is named below the table and is nobody's best.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _METRIC_ID.fullmatch(self.id):
            raise ValueError(f"metric id {self.id!r}: expected snake_case, like 'peak_bytes'")


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """An output format of ``harness run --format``."""

    id: str
    """The name of the format."""

    target: str
    """The function ``package.module:attribute`` that takes a `harness.analysis.RunView` and returns text."""

    summary: str
    """What it writes, in a phrase."""

    def __post_init__(self) -> None:
        _check_target(self.target, f"reporter {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class BaseSpec:
    """A form of a user's own model under what trains, such as weights of 4 bits: ``harness run --base ID``."""

    id: str
    """The name of the base, which no other plugin may declare."""

    target: str
    """A callable ``package.module:attribute`` without arguments that returns a `harness.judge.bases.Base`.

    It is imported only in the process that runs a case.
    """

    summary: str
    """What the form is, in a phrase."""

    requires: Sequence[str] = ()
    """Its pip requirements beyond those of the plugin itself."""

    def __post_init__(self) -> None:
        check_id(self.id, "base")
        _check_target(self.target, f"base {self.id!r}")


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec:
    """A way to run cases: ``harness run --executor ID``."""

    id: str
    """The name of the executor."""

    target: str
    """A callable ``package.module:attribute`` that takes `ExecutorOptions` and returns an `Executor`."""

    summary: str
    """Where and how it runs cases, in a phrase."""

    takes_address: bool = False
    """Whether ``--address`` says where the cluster is that it runs cases on."""

    def __post_init__(self) -> None:
        check_id(self.id, "executor")
        _check_target(self.target, f"executor {self.id!r}")
