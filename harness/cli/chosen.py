"""Turns the options of ``harness run`` into what a run is given: its form, selection, resources and users' data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import LANES

if TYPE_CHECKING:
    from harness.api import Form, Lane
    from harness.execution.session import Resources
    from harness.origins.reading import Reading
    from harness.selection import Selection


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of ``harness run``, as parsed."""

    suite: str | None
    model: str | None
    data: str | None
    task: str | None
    column: tuple[str, ...]
    base: str | None
    download: bool
    technique: tuple[str, ...]
    workload: tuple[str, ...]
    seeds: str | None
    param: tuple[str, ...]
    device: str
    lane: tuple[Lane, ...]
    quick: bool
    until: str | None
    repeatability: int | None
    rounds: int | None
    track: bool
    stack: bool
    jobs: int | None
    time_limit: float
    memory_limit: int | None
    executor: str
    address: str
    observe: tuple[str, ...]
    fresh: bool
    resume: str | None
    retry_failed: bool
    fail_fast: bool
    store: Path | None
    format: str
    dry_run: bool
    quiet: bool


def form_of(options: RunOptions) -> Form:
    """Return the form of the suite. Raises UsageError where two are asked for."""
    if options.quick and options.track:
        from harness.api import UsageError

        raise UsageError("--quick and --track are two forms of a suite: take one")
    return "quick" if options.quick else "track" if options.track else "full"


def reading_of(options: RunOptions) -> Reading:
    """Return how the model and data are found. Raises UsageError for a column that is told in another way."""
    from harness.api import UsageError
    from harness.origins.reading import Reading

    if wrong := [pair for pair in options.column if not all(pair.partition("="))]:
        raise UsageError(f"--column {wrong[0]!r}: expected what it is and its name, like text=review")
    columns = {role: name for role, _, name in (pair.partition("=") for pair in options.column)}
    return Reading(columns=columns, download=options.download)


def selection_of(options: RunOptions) -> Selection:
    """Return what is chosen of the suite. Raises UsageError for a value that cannot be read."""
    from harness.entrants import read_values
    from harness.selection import Selection
    from harness.until import parse_until

    return Selection(
        techniques=options.technique,
        workloads=options.workload,
        seeds=parse_seeds(options.seeds) if options.seeds else (),
        params=read_values(options.param, "--param"),
        lanes=options.lane or LANES,
        device=options.device,
        stack=options.stack,
        until=parse_until(options.until) if options.until is not None else None,
        repeatability=options.repeatability,
        rounds=options.rounds,
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``--seeds``: a count (``5`` means 0 to 4) or a list (``3,7,11``; ``3,`` is one seed).

    Raises UsageError where the text is neither.
    """
    from harness.api import UsageError
    from harness.suite import seeds_of

    try:
        given = [int(part) for part in text.split(",") if part.strip()] if "," in text else int(text)
    except ValueError:
        raise UsageError(f"--seeds {text!r}: expected a count like 5, or a list like 0,1,2") from None
    try:
        return seeds_of(given)
    except ValueError as error:
        hint = f"; for the one seed write {given}," if isinstance(given, int) and given > 0 else ""
        raise UsageError(f"--seeds {text!r}: {error}{hint}") from None


def resources_of(options: RunOptions) -> Resources:
    """Return what the run may use, and how it is carried out."""
    from harness.api import Limits
    from harness.execution.session import Resources, cores
    from harness.results.places import default_cache_path

    return Resources(
        executor=options.executor,
        jobs=options.jobs or cores(),
        limits=Limits(time_s=options.time_limit, memory_bytes=options.memory_limit),
        cache=default_cache_path(),
        fresh=options.fresh,
        fail_fast=options.fail_fast,
        address=options.address,
        jobs_asked=options.jobs is not None,
    )
