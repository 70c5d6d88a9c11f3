"""The public interface for plugins, judges, executors and observers; importing `harness.api` does not import torch.

Each name stands once, under the first audience that needs it:

- authors of techniques: `Technique`, `hookimpl`, `API_VERSION`, the ranges of parameters `Knob`, `ranged`, `Defaults`,
  the checks of values `whole_number`, `number`, `one_of`, `nearest`, the errors `UsageError`, `NotApplicable`,
  `Unavailable`, and `Json`;
- authors of families: `Contract`, `WorkloadSpec`, `DATA_KINDS`, `Metric`, `phase_metrics`, `BUILD_PHASE`, the protocols
  `Workload`, `CheckingWorkload`, `StackingWorkload`, `EstimatingWorkload`, what they take and return: `CaseContext`,
  `Outcome`, `WARNING`, `OpenCase`, `Phase`, `Trial`, and the errors `Incorrect`, `CannotStack`;
- authors of bases of users' own models: `BaseSpec`;
- authors of executors: `ExecutorSpec`, `Executor`, `ExecutorOptions`, `Limits`, `Origin`, `Unit`,
  `Reply`;
- authors of observers, reporters and commands: `Reporter`, `RunInfo`, `Suite`, `Claim`, `ClaimKind`, `ClaimDirection`,
  `Case`, `Row`, `Skip`, `Lane`, `LANES`, `Status`, `STATUSES`, `FAILED`, `Stage`, `Form`, `DEVICES`, and the
  error `HarnessError`;
- authors of tools around the harness: `PROJECT`, `DISTRIBUTION`, `ENTRY_POINT_GROUP`, `PLUGINS_VARIABLE`,
  `BASE_MODELS`, `CONVERTED`, `check_id`, `resolve`, `require_members`.
"""

from __future__ import annotations

from harness.api._errors import CannotStack, HarnessError, Incorrect, NotApplicable, Unavailable, UsageError
from harness.api._executor import Executor, ExecutorOptions, Limits, Origin, Unit
from harness.api._records import Case, Reply, Row, RunInfo, Skip
from harness.api._specs import (
    API_VERSION,
    BASE_MODELS,
    BUILD_PHASE,
    CONVERTED,
    DATA_KINDS,
    DISTRIBUTION,
    ENTRY_POINT_GROUP,
    PLUGINS_VARIABLE,
    PROJECT,
    BaseSpec,
    Contract,
    ExecutorSpec,
    Metric,
    Reporter,
    Technique,
    WorkloadSpec,
    check_id,
    hookimpl,
    phase_metrics,
)
from harness.api._suites import Claim, Suite
from harness.api._terms import (
    DEVICES,
    FAILED,
    LANES,
    STATUSES,
    ClaimDirection,
    ClaimKind,
    Form,
    Json,
    Lane,
    Stage,
    Status,
)
from harness.api._workload import (
    WARNING,
    CaseContext,
    CheckingWorkload,
    EstimatingWorkload,
    OpenCase,
    Outcome,
    Phase,
    StackingWorkload,
    Trial,
    Workload,
)
from harness.api.values import Defaults, Knob, nearest, number, one_of, ranged, require_members, resolve, whole_number

__all__ = [
    "API_VERSION",
    "BASE_MODELS",
    "BUILD_PHASE",
    "CONVERTED",
    "DATA_KINDS",
    "DEVICES",
    "DISTRIBUTION",
    "ENTRY_POINT_GROUP",
    "FAILED",
    "LANES",
    "PLUGINS_VARIABLE",
    "PROJECT",
    "STATUSES",
    "WARNING",
    "BaseSpec",
    "CannotStack",
    "Case",
    "CaseContext",
    "CheckingWorkload",
    "Claim",
    "ClaimDirection",
    "ClaimKind",
    "Contract",
    "Defaults",
    "EstimatingWorkload",
    "Executor",
    "ExecutorOptions",
    "ExecutorSpec",
    "Form",
    "HarnessError",
    "Incorrect",
    "Json",
    "Knob",
    "Lane",
    "Limits",
    "Metric",
    "NotApplicable",
    "OpenCase",
    "Origin",
    "Outcome",
    "Phase",
    "Reply",
    "Reporter",
    "Row",
    "RunInfo",
    "Skip",
    "StackingWorkload",
    "Stage",
    "Status",
    "Suite",
    "Technique",
    "Trial",
    "Unavailable",
    "Unit",
    "UsageError",
    "Workload",
    "WorkloadSpec",
    "check_id",
    "hookimpl",
    "nearest",
    "number",
    "one_of",
    "phase_metrics",
    "ranged",
    "require_members",
    "resolve",
    "whole_number",
]
