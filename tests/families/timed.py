"""Plays the timed lane in the test's own process, as the worker does, and says what the judge found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.api import CaseContext, Incorrect, Workload

SAMPLES = 4
CALLS = 3


def found_in_time(workload: Workload, technique: Any, case: CaseContext, phases: Sequence[str] = ()) -> str:
    """Return what was found wrong with a timed call, or an empty text; all phases are played where none are given."""
    opened = workload.open(technique, case)
    for phase in opened.phases.values():
        if phase.refresh is not None:
            phase.refresh()
    for name, phase in opened.phases.items():
        if phases and name not in phases:
            continue
        assert phase.verify is not None, f"{name} is not held against a definition"
        for _ in range(CALLS):  # the warm-up
            phase.run()
        for _ in range(SAMPLES):
            for _ in range(CALLS - 1):
                phase.run()
            result = phase.run()
            try:
                phase.verify(result)
            except Incorrect as error:
                return f"{name}: {error}"
            if phase.refresh is not None:
                phase.refresh()
    return ""
