"""Holds the state of a contestant in a run: its rows, its choice of parameters, and the check of its technique."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.api import Case, Json, Row, Stage
from harness.grid import Tuned
from harness.plan import Contestant, Plan

CHECKED: Final = "found by the check of the technique, which precedes every measurement"
"""The note of a row whose case was not run because the check of its technique failed."""


@dataclass(kw_only=True)
class ContestantState:
    """The state of a contestant: the cases it waits for, its rows, and whether it may continue."""

    contestant: Contestant
    planned: int
    waiting: set[str] = field(default_factory=set)
    """Keys of the cases that were asked for and have no row yet."""
    rows: list[Row] = field(default_factory=list)
    tuned: Tuned | None = None
    over: bool = False
    refused: bool = False
    """Whether a check failed, so that nothing more is measured."""
    checking: bool = False
    checked: list[tuple[Stage, Mapping[str, Json]]] = field(default_factory=list)
    """The stages and the parameters at which the technique was checked against its contract."""
    held: list[Case] = field(default_factory=list)
    """Cases that wait for the end of a check."""

    @property
    def of(self) -> tuple[str, str]:
        """The workload's and the technique's name."""
        return self.contestant.workload, self.contestant.technique

    @property
    def left(self) -> bool:
        """Whether it has fewer rows than are planned."""
        return len(self.rows) < self.planned

    @property
    def alive(self) -> bool:
        """Whether further cases are worth running: no case has a row yet, or at least one succeeded."""
        return not self.refused and (not self.rows or any(row.ok for row in self.rows))

    def needs_check(self, case: Case) -> bool:
        """Return whether the technique has to be checked before a case is run.

        It is checked before its first trial, and again with its tuned parameters where it has some.
        """
        return not any(stage == case.stage or params == case.params for stage, params in self.checked)

    def holds(self, case: Case) -> bool:
        """Put a case aside until the check of the technique has ended, where one is under way; return whether it is."""
        if self.checking:
            self.held.append(case)
        return self.checking


def baseline_cases(states: Iterable[ContestantState], plan: Plan) -> list[Case]:
    """Return the baseline's timing, which every block carries, stored already or not; none where it failed."""
    return [
        plan.time_case(state.contestant, state.tuned)
        for state in states
        if state.contestant.technique == plan.suite.baseline and state.tuned is not None and not state.refused
    ]
