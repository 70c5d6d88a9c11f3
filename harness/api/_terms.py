"""The words of the project that are values: lanes, statuses, stages, forms, devices and kinds of claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""A value that JSON can hold. Parameters, settings and facts of the environment are such values."""

Lane = Literal["accuracy", "memory", "time"]
"""A kind of measurement. Cases of accuracy and memory run concurrently; time needs a machine without other load."""

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
"""All lanes."""

DEVICES: Final = ("cpu", "cuda", "mps")
"""The devices that a run may choose, by torch's names."""

Status = Literal["ok", "error", "incorrect", "oom", "timeout", "crash", "unavailable", "skipped", "lost"]
"""How a case ended: ``ok``, or the reason why it has no numbers.

``error``: an exception. ``incorrect``: a wrong output. ``oom``: out of memory. ``timeout``: over the time limit.
``crash``: the process ended without an answer. ``unavailable``: something is not installed, or the machine lacks it.
``skipped``: nothing to act on here. ``lost``: the executor lost the case's process, or could start none.
"""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""All statuses of a row."""

FAILED: Final[frozenset[str]] = frozenset({"error", "incorrect", "oom", "timeout", "crash", "lost"})
"""The statuses that make a run exit with 1. ``unavailable`` and ``skipped`` were never started."""

Stage = Literal["tuning", "final"]
"""The purpose of a case: to choose the values of a trial, or to measure with the values that were chosen."""

Form = Literal["full", "quick", "track"]
"""The extent of a run: the full suite, the short form for a first look, or the form that is tracked over commits."""

ClaimKind = Literal["better", "same", "gain", "interaction", "ratio", "steps", "trend", "best", "correlation"]
"""What a claim says.

- ``better``: the technique `Claim.better` beats `Claim.than`.
- ``same``: the two differ by less than the margin.
- ``gain``: `Claim.better` gains more over `Claim.than` on the workload `Claim.workload` than on `Claim.less_on`.
- ``interaction``: `Claim.better` gains more over `Claim.than` than the first of `Claim.others` does over the second.
- ``ratio``: the metric of `Claim.better` is at least, or at most, `Claim.bound` times that of `Claim.than`.
- ``steps``: `Claim.better` takes fewer steps than `Claim.than` until the series `Claim.metric` reaches `Claim.bound`.
- ``trend``: the metric of `Claim.better`, or its gain over `Claim.than`, rises or falls with `Claim.parameter`.
- ``best``: the value of `Claim.parameter` that is best is larger, or smaller, for `Claim.better` than for `Claim.than`.
- ``correlation``: over contestants, the metric rises, or falls, with the metric `Claim.other_metric`.
"""

ClaimDirection = Literal["more", "less"]
"""Which way a claim points: at least, rising or larger (``more``), or at most, falling or smaller (``less``)."""
