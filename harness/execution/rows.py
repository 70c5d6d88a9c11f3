"""Checks replies and rows before a row is written: what is stored can be read back, and holds what was declared."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Final

from harness.api import BUILD_PHASE, Case, Json, Lane, Metric, Reply, Row, Skip, UsageError, WorkloadSpec
from harness.execution.isolation.messages import Unreadable, read_reply
from harness.results.schema import dump_line, row_from_json

_WHERE: Final = "the row"

PREPARING: Final = "preparing "
"""What the reason of a case begins with whose workload could not be prepared."""


def now() -> str:
    """Return the time of day, as rows have it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def storable(row: Row, environment: Mapping[str, Json]) -> Row:
    """Return a row that can be read back: the row itself, or an ``error`` row that says why that one cannot.

    ``environment`` is that of the run, which the row gets where its own cannot be stored.
    """
    problem = _problem(row)
    if not problem:
        return row
    failed = replace(row, reply=Reply(status="error", reason=f"its result cannot be stored: {problem}"))
    return replace(failed, environment=environment) if _problem(failed) else failed


def require_storable(cases: Iterable[Case]) -> None:
    """Raise UsageError for cases whose rows could not be read back, as their technique or workload is declared."""
    problems: dict[str, None] = {}
    for case in cases:
        row = Row(run="", case=case, reply=Reply(status="ok"), started="", environment={})
        if problem := _problem(row):
            problems[f"{case.technique} on {case.workload}: {problem}"] = None
    if problems:
        raise UsageError(*problems, "its rows could not be read back: correct what the plugin declares")


def as_declared(reply: Reply, lane: Lane, spec: WorkloadSpec, metrics: Mapping[str, Metric]) -> Reply:
    """Return a reply, or an error where it does not hold what the workload declares for its lane.

    ``metrics`` are all metrics by id: figures of the time lane have to be among these.
    """
    if reply.status != "ok":
        return reply
    if lane == "accuracy":
        return holds_declared(reply, spec.metrics, spec.optional)
    ending = "_throughput" if lane == "time" else "_tensor_peak"
    names = [name.removesuffix(ending) for name in reply.metrics if name.endswith(ending)]
    opened = [name for name in names if name != BUILD_PHASE and (lane == "memory" or f"{name}_time" in reply.metrics)]
    missing = [f"has no phase {name}" for name in spec.phases if name not in opened]
    more = [f"has the phase {name}" for name in opened if name not in spec.phases]
    problem = " and ".join([*missing, *more])
    if problem:
        problem = f"the opened case {problem}; the workload declares {', '.join(spec.phases)}"
    elif lane == "time" and (unknown := _undeclared(reply, opened, metrics)):
        problem = f"figures returned {', '.join(unknown)}; declare a metric of the lane 'time' for each"
    return replace(reply, status="error", reason=problem[:_LONGEST], metrics={}) if problem else reply


def _undeclared(reply: Reply, phases: Sequence[str], metrics: Mapping[str, Metric]) -> list[str]:
    """Return the names of figures that are no metric of the time lane; those of the phases are the host's."""
    own = {f"{phase}_{kind}" for phase in phases for kind in ("time", "throughput")}
    return [name for name in reply.metrics if name not in own and (name not in metrics or metrics[name].lane != "time")]


def holds_declared(reply: Reply, declared: Sequence[str], optional: Sequence[str] = ()) -> Reply:
    """Return a reply of the accuracy lane, or an error where its metrics are not the declared ones.

    All of these have to be there but for the ``optional`` ones.
    """
    if reply.status != "ok":
        return reply
    missing = [f"{name} is missing" for name in declared if name not in {*reply.metrics, *optional}]
    more = [f"{name} is not declared by the workload" for name in reply.metrics if name not in declared]
    if not missing and not more:
        return reply
    return replace(reply, status="error", reason=", ".join([*missing, *more])[:_LONGEST], metrics={})


_LONGEST: Final = 300
"""Characters of a reason."""


def skipped(skip: object) -> Reply:
    """Return the reply of a case that a plugin or the plan says not to run."""
    if not isinstance(skip, Skip):
        return Reply(status="error", reason=f"a plugin answered {type(skip).__name__}, expected a Skip")
    return Reply(status=skip.status, reason=skip.reason)


def unpaired(reply: Reply) -> Reply:
    """Return a reply without the samples of a baseline, where the suite's baseline is not part of the block."""
    samples = {name: value for name, value in reply.samples.items() if not name.startswith("baseline.")}
    return replace(reply, samples=samples)


def _problem(row: Row) -> str:
    """Return why a row cannot be read back; empty where it can."""
    try:
        data = json.loads(dump_line(row))
        read_reply({field.name: data[field.name] for field in fields(Reply)})
        row_from_json(data, _WHERE)
    except Unreadable as error:
        return f"{error} of the kind that is expected"
    except UsageError as error:
        return error.problems[0].removeprefix(f"{_WHERE}: ")
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"[:_LONGEST]
    return ""


def not_prepared(workload: str, reply: Reply) -> Reply:
    """Return the reply of each case of a workload whose preparation ended with a reply that is not ok."""
    return replace(reply, reason=f"{PREPARING}{workload}: {reply.reason}")


RETRIED: Final = frozenset({"error", "crash", "timeout", "oom"})
"""The failures that another try may not have; a wrong answer is a finding about its technique."""


NOT_ASKED: Final = "not run again: another trial was chosen since, so that the run asks for this case no longer"
"""The reason of a case that had failed and that a resumed run has no use for."""


def left_out(stored: Iterable[Row], ended: Iterable[Row], *, retry_failed: bool) -> list[Row]:
    """Return rows in place of the failures that a resumed run was to try again and, when it had ended, never asked for.

    ``stored`` are the rows before the resume, ``ended`` those that the resumed run took or made.
    """
    asked = {row.case.key for row in ended}
    failures = [row for row in stored if row.failed and not is_kept(row.reply, retry_failed=retry_failed)]
    reply = Reply(status="skipped", reason=NOT_ASKED)
    return [replace(row, reply=reply, started=now(), reused_from="") for row in failures if row.case.key not in asked]


def is_kept(reply: Reply, *, retry_failed: bool = False) -> bool:
    """Return whether a resumed run keeps a stored reply.

    A case that was lost, or whose workload could not be prepared, says nothing about its technique and is run again;
    with ``retry_failed`` so is one that failed in another way than by its answer.
    """
    if retry_failed and reply.status in RETRIED:
        return False
    return reply.status != "lost" and not (reply.status != "ok" and reply.reason.startswith(PREPARING))
