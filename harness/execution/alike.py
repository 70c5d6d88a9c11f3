"""Refuses a row whose machine is unlike that of the run's other rows of the workload: such results are not compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from harness.api import Json, Row, UsageError
from harness.api.text import as_text
from harness.results.schema import encode

FACTS: Final = ("machine", "cpu", "gpu")
"""The facts of a machine that may change a result. A run of one machine has these in the keys of its cases."""


class Alike:
    """Records the rows of a run, of which ``stored`` are there already. A case that computed nothing says nothing."""

    def __init__(self, record: Callable[[Row], None], stored: Iterable[Row]) -> None:
        self._record = record
        self._known: dict[str, Mapping[str, Json]] = {}
        for row in stored:
            if row.ok:
                self._known.setdefault(row.case.workload, row.environment)

    def __call__(self, row: Row) -> None:
        """Record a row. Raises UsageError where its machine is unlike that of an earlier row of its workload."""
        if row.ok:
            before = self._known.setdefault(row.case.workload, row.environment)
            unlike = [name for name in FACTS if encode(before.get(name)) != encode(row.environment.get(name))]
            if unlike:
                was, now = (_short(environment.get(unlike[0])) for environment in (before, row.environment))
                raise UsageError(
                    f"run {row.run}: {row.environment.get('hostname', 'this machine')} has another {unlike[0]} ({now}) "
                    f"than the machine of the stored rows of {row.case.workload} ({was}), and results of unlike "
                    "machines are not compared: resume the run on machines like those, or start another run"
                )
        self._record(row)


def _short(fact: Any) -> str:
    """Return a fact in a few words: the model of a processor."""
    return as_text((fact.get("model") if isinstance(fact, Mapping) else fact) or "none")
