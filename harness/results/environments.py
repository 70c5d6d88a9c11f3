"""Reads the environments of a run's rows from its header, which has each once; a row refers to one."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.api import Json, UsageError
from harness.results.decoding import advice

ENVIRONMENTS: Final = "environments"
"""The field of a header that has the environments by digest."""

Environment = Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Environments:
    """The environments of a run's rows: that of the run itself, and by digest those of rows computed elsewhere.

    A row refers to that of the run by null, to another one by its digest. Without a header there is none of the run.
    """

    own: Environment | None = None
    others: Mapping[str, Environment] = field(default_factory=dict)

    def find(self, reference: object, where: str) -> Environment:
        """Return the environment that a row refers to, or that it has itself, as exports and earlier versions do.

        ``where`` names the row in the `UsageError` that is raised where the header has no such environment.
        """
        if reference is None and self.own is not None:
            return self.own
        if isinstance(reference, dict):
            return reference
        if not isinstance(reference, str) or reference not in self.others:
            raise UsageError(f"{where}: its run has no environment {reprlib.repr(reference)}", advice(where))
        return self.others[reference]


def environments_of(header: Mapping[str, Any], own: Environment, where: str) -> Environments:
    """Return the environments of a header as read. Raises `UsageError` where they are damaged."""
    others = header.get(ENVIRONMENTS, {})
    if not isinstance(others, dict) or not all(isinstance(entry, dict) for entry in others.values()):
        shown = reprlib.repr(others)
        raise UsageError(f"{where}: field {ENVIRONMENTS!r} should be an object of objects, not {shown}", advice(where))
    return Environments(own=own, others=others)
