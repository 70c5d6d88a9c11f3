"""Settings that a judge has to refuse, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.api import Json, Knob, UsageError, WorkloadSpec, resolve
from harness.testing.declaring import fail


def values_refused(knob: Knob) -> list[Json]:
    """Return invalid values of a setting: of a wrong kind, and beyond each of its bounds."""
    wrong: list[Json] = [None, [knob.default], True]
    if knob.kind == "text":
        return [*wrong, 1, *(["no such choice"] if knob.choices else [])]
    wrong += ["a text", math.nan, math.inf]
    if knob.kind == "whole number":
        wrong.append(0.5 + (knob.least or 0))
    wrong += [bound - 1 for bound in (knob.least,) if bound is not None]
    wrong += [bound + 1 for bound in (knob.most,) if bound is not None]
    wrong += [bound for bound in (knob.above, knob.below) if bound is not None]
    return wrong


def check_settings(workload: WorkloadSpec, values: Mapping[str, Json]) -> None:
    """Let the judge of a workload read its settings; fail the test where it has no method for that."""
    judge = resolve(workload.target)()
    if workload.settings and not hasattr(judge, "check_settings"):
        fail(f"{workload.target} lacks check_settings: read them there by harness.judge.settings.read_settings")
    if workload.settings:
        judge.check_settings(values)


def require_refused(workload: WorkloadSpec, values: Mapping[str, Json], name: str) -> None:
    """Fail the test where the judge takes these settings, or refuses them without the name of the setting."""
    given = f"{name} = {values[name]!r}" if name in values else f"no {name}"
    try:
        check_settings(workload, values)
    except UsageError as error:
        if name not in str(error):
            fail(f"{workload.id!r} with {given} is refused without the setting's name", str(error))
        return
    except Exception as error:
        raise AssertionError(f"{workload.id!r} with {given}: expected UsageError, not {error!r}") from error
    fail(f"workload {workload.id!r} takes {given}; expected UsageError")
