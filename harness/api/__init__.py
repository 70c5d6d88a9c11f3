"""The public interface for plugins, judges, executors and observers; importing `harness.api` does not import torch.

The names by audience:

- authors of techniques: `Technique`, `hookimpl`, `UsageError`, `NotApplicable`, `Unavailable`, `Json`, `Knob` and
  `ranged` for the ranges of parameters, and the checks of values `whole_number`, `number`, `one_of`;
- authors of families: `Contract`, `WorkloadSpec`, `Metric`, `CaseContext`, `Outcome`, `Phase`, `OpenCase`, `Incorrect`,
  `CannotStack`, `WARNING`, and the protocols `Workload`, `CheckingWorkload`, `StackingWorkload`;
- authors of executors: `Executor`, `ExecutorSpec`, `ExecutorOptions`, `Unit`, `Case`, `Reply`, `Limits`;
- authors of observers and reporters: `RunInfo`, `Row`, `Case`, `Skip`, `Reporter`, `Suite`, `Claim`.
"""

from __future__ import annotations

from harness.api._errors import CannotStack, HarnessError, Incorrect, NotApplicable, Unavailable, UsageError
from harness.api._executor import Executor, ExecutorOptions, Limits, Unit
from harness.api._records import (
    DEVICES,
    FAILED,
    LANES,
    STATUSES,
    Case,
    Claim,
    ClaimKind,
    Form,
    Json,
    Lane,
    Reply,
    Row,
    RunInfo,
    Skip,
    Stage,
    Status,
    Suite,
)
from harness.api._specs import (
    API_VERSION,
    BASE_MODELS,
    BUILD_PHASE,
    CONVERTED,
    DATA_KINDS,
    DISTRIBUTION,
    ENTRY_POINT_GROUP,
    PROJECT,
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
from harness.api._workload import (
    WARNING,
    CaseContext,
    CheckingWorkload,
    OpenCase,
    Outcome,
    Phase,
    StackingWorkload,
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
    "PROJECT",
    "STATUSES",
    "WARNING",
    "CannotStack",
    "Case",
    "CaseContext",
    "CheckingWorkload",
    "Claim",
    "ClaimKind",
    "Contract",
    "Defaults",
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
