"""Checks the arguments of `harness.run`, as the command line's parser does for its options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import get_args

from harness.api import DEVICES, LANES, Form, Json, Lane, Limits, UsageError, number, one_of, whole_number
from harness.execution.session import TIME_LIMIT_S, Resources, cores
from harness.results.places import default_cache_path
from harness.selection import Selection
from harness.suite import seeds_of
from harness.until import Until, parse_until


def check_form(form: str) -> None:
    """Raise UsageError for an unknown form of a suite."""
    one_of("form", form, get_args(Form))


def selection_of(
    *,
    techniques: Iterable[str],
    workloads: Iterable[str],
    seeds: int | Iterable[int],
    params: Mapping[str, Json] | None,
    lanes: Iterable[Lane],
    device: str,
    until: str | int | None = None,
    repeatability: int | None = None,
    rounds: int | None = None,
) -> Selection:
    """Return the selection; raise UsageError with a line for each argument that is wrong in itself."""
    _check_all(
        lambda: _texts("techniques", techniques),
        lambda: _texts("workloads", workloads),
        lambda: _seeds(seeds),
        lambda: _mapping("params", {} if params is None else params),
        lambda: [one_of("lanes", lane, LANES) for lane in _texts("lanes", lanes)],
        lambda: one_of("device", device, DEVICES),
        lambda: _until(until),
        lambda: repeatability is None or whole_number("repeatability", repeatability, least=0),
        lambda: rounds is None or whole_number("rounds", rounds),
    )
    return Selection(
        techniques=tuple(techniques),
        workloads=tuple(workloads),
        seeds=_seeds(seeds),
        params=dict(params or {}),
        lanes=tuple(lanes) or LANES,
        device=device,
        until=_until(until),
        repeatability=repeatability,
        rounds=rounds,
    )


def resources_of(
    *,
    executor: str,
    jobs: int | None,
    limits: Limits | None,
    cache: Path | str | None,
    fresh: bool = False,
    fail_fast: bool = False,
    address: str = "",
) -> Resources:
    """Return the resources, by default those of the command line; raise UsageError for numbers out of their range."""
    limits = limits or Limits(time_s=TIME_LIMIT_S)
    memory = limits.memory_bytes
    _check_all(
        lambda: jobs is None or whole_number("jobs", jobs),
        lambda: number("limits.time_s", limits.time_s, above=0),
        lambda: memory is None or whole_number("limits.memory_bytes", memory),
        lambda: one_of("fresh", fresh, (False, True)),
        lambda: one_of("fail_fast", fail_fast, (False, True)),
    )
    return Resources(
        executor=executor,
        jobs=jobs or cores(),
        limits=limits,
        cache=Path(cache) if cache else default_cache_path(),
        fresh=fresh,
        fail_fast=fail_fast,
        address=address,
        jobs_asked=jobs is not None,
    )


def _until(value: object) -> Until | None:
    """Return what the argument means; None where there is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"until: {value!r}: expected 'decided', a number of seeds, or a time like '10min'")
    return parse_until(str(value))


def _check_all(*checks: Callable[[], object]) -> None:
    """Raise one UsageError with the lines of all checks that raise one."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except UsageError as error:
            problems.extend(error.problems)
    if problems:
        raise UsageError(*problems)


def _texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return the strings. Raises UsageError for a single string, whose characters would be taken for names."""
    if isinstance(values, list | tuple | set | frozenset) and all(isinstance(value, str) for value in values):
        return tuple(values)
    raise UsageError(f"{name} = {values!r}: expected a list of strings")


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Return the seeds of a count or a list; an empty list stands for the suite's seeds."""
    if isinstance(seeds, list | tuple | range) and not seeds:
        return ()
    try:
        return seeds_of(seeds)
    except ValueError as error:
        raise UsageError(f"seeds: {error}") from error


def _mapping(name: str, values: object) -> None:
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} = {values!r}: expected a dict, like {{'lr': 0.01}}")
