"""The hooks a plugin may implement; these docstrings are the hook reference.

Implement a hook as a module-level function of the same name marked with ``harness.api.hookimpl``. Take only the
arguments you need, by name and without defaults. A hook gets copies: altering them changes neither cases nor rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from harness.api import (
    PROJECT,
    BaseSpec,
    Case,
    Contract,
    ExecutorSpec,
    Json,
    Metric,
    Reporter,
    Row,
    RunInfo,
    Skip,
    Technique,
    WorkloadSpec,
)

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker(PROJECT)

# Declaring hooks are called plugin by plugin, once, at start: no torch, no files read, no network.


@hookspec
def register_techniques() -> Sequence[Technique]:
    """Declare techniques. An id is qualified with the plugin's name: ``pissa`` of ``lora`` is ``lora/pissa``."""
    raise AssertionError("a specification is never called")


@hookspec
def register_contracts() -> Sequence[Contract]:
    """Declare contracts: the interface of a family's techniques, and the phases in which cost is measured.

    A contract has one owner and a global id, by which workloads and techniques of any plugin refer to the contract.
    """
    raise AssertionError("a specification is never called")


@hookspec
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare workloads: data, model, protocol and metrics of a standard problem."""
    raise AssertionError("a specification is never called")


@hookspec
def register_suites() -> Sequence[Path]:
    """Declare suite files (TOML). The file's stem is the suite's id."""
    raise AssertionError("a specification is never called")


@hookspec
def register_metrics() -> Sequence[Metric]:
    """Declare metrics that workloads emit beyond the built-in ones. Metric ids are global."""
    raise AssertionError("a specification is never called")


@hookspec
def register_reporters() -> Sequence[Reporter]:
    """Declare output formats for ``harness run --format``."""
    raise AssertionError("a specification is never called")


@hookspec
def register_bases() -> Sequence[BaseSpec]:
    """Declare forms of users' own models under what trains, for ``harness run --base``. Ids of bases are global."""
    raise AssertionError("a specification is never called")


@hookspec
def register_executors() -> Sequence[ExecutorSpec]:
    """Declare ways to run cases for ``harness run --executor``."""
    raise AssertionError("a specification is never called")


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the ``harness`` command line with ``cli.add_command``."""


# Planning hooks run in the parent, before anything starts.


@hookspec
def modify_cases(cases: list[Case]) -> None:
    """Filter or reorder planned cases in place, before they start.

    The hook is called with the first cases of all techniques, and again with the cases that follow from a technique's
    tuning. The host computes the keys: do not replace a case with an altered one.
    """


@hookspec(firstresult=True)
def check_case(case: Case, environment: Mapping[str, Json]) -> Skip | None:
    """Return a `Skip` with the reason why a case cannot or should not run here, or None.

    The reason is stored in the row of the case. The first hook that returns a `Skip` decides.
    """


# Observing hooks run in the parent; a hook that raises is reported once and not called again: the run goes on.


@hookspec
def run_started(run: RunInfo) -> None:
    """Observe the start of a run: its folder and plan exist, no case has started."""


@hookspec
def case_started(case: Case) -> None:
    """Observe that a case was handed to the executor; cases whose row an earlier run has are not."""


@hookspec
def case_finished(row: Row) -> None:
    """Observe that the row of a case was written to disk; ``row.reused_from`` names the run that computed it before."""


@hookspec
def run_finished(run: RunInfo) -> None:
    """Observe the end of a run, an interrupted run included; ``run.exit_code`` says how the run ended."""


@hookspec
def environment_info() -> Mapping[str, Json]:
    """Return facts about the machine or the setting; each row's environment has these under the plugin's name."""
    raise AssertionError("a specification is never called")
