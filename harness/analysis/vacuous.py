"""Finds comparisons that decide nothing, so that a gate doesn't pass where nothing was compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.analysis.changes import Change, Pairing


def undecidable(changes: Sequence[Change], pairings: Sequence[Pairing]) -> list[str]:
    """Return why a gate on the changes would decide nothing; an empty list where some technique was compared.

    The baseline of a suite always runs, so a comparison of baselines alone says nothing about what was asked for.
    """
    gated = [change for change in changes if change.gated]
    if any(change.verdict == "worse" for change in gated):
        return []
    decisive = [change for change in gated if _decides(change)]
    baselines = {
        (run.info.suite.id, run.info.suite.baseline) for pair in pairings for run in (pair.reference, pair.head)
    }
    if any((change.place.suite, change.place.technique) not in baselines for change in decisive):
        return []
    if decisive:
        return [f"only the baseline was compared: {_names(decisive)}"]
    failing = [change for change in gated if change.kind == "status" and change.verdict == "same"]
    if failing:
        return [f"nothing was compared: every case fails, as before: {_names(failing)}"]
    if gated:
        return [f"nothing was compared: {reason}" for reason in sorted({change.reason for change in gated})]
    return ["nothing was compared: no technique has a result of the same kind on both sides"]


def _decides(change: Change) -> bool:
    """Return whether a change compares results; a failure that stays, or values of no common seed, compares none."""
    if change.kind == "status":
        return change.verdict != "same"
    return change.verdict != "undecided" or change.difference is not None


def _names(changes: Iterable[Change]) -> str:
    return ", ".join(sorted({change.place.technique for change in changes}))
