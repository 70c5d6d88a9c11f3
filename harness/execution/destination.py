"""Says where the rows of a run go, and who is told how the run goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from harness.api import Case, Json, Row
from harness.execution.forecast import Forecast
from harness.execution.reuse import Earlier
from harness.plan import Contestant


class Stopped(Exception):
    """A run ends with its first failure, and a case has failed."""


class Progress(Protocol):
    """Who is told how a run goes."""

    def planned(self, rows: int) -> None:
        """Take note of how many rows the run will have, as far as is known now."""

    def finished(self, row: Row) -> None:
        """Take note of a row that is on disk."""

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        """Take note of how many of all comparisons are undecided after a number of seeds."""

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        """Take note of the cases under way and the phase of each."""

    def expected(self, forecast: Forecast) -> None:
        """Take note of what the run is expected to take."""

    def remaining(self, seconds: float) -> None:
        """Take note of how long the rest of the run is expected to take."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a run's rows go: its id and environment, the durable ``record``, and the rows it has already.

    ``earlier`` has the rows of other runs that are taken instead of computing their cases; None where all is computed.
    With ``fail_fast``, the run ends with the first row of a failure.
    """

    run: str
    environment: Mapping[str, Json]
    record: Callable[[Row], None]
    stored: Mapping[str, Row] = field(default_factory=dict)
    earlier: Earlier | None = None
    fail_fast: bool = False

    def earlier_row(self, case: Case) -> Row | None:
        """Return the row of a case that an earlier run has, as one of this run; None where the case has to be run."""
        row = self.earlier.find(case) if self.earlier else None
        return replace(row, run=self.run) if row else None

    def has_all(self, contestants: Sequence[Contestant]) -> bool:
        """Return whether earlier runs have all rows of these contestants, so that nothing of them is run."""
        return self.earlier is not None and all(map(self.earlier.covers, contestants))


class Environments:
    """Makes the environments of rows: for all rows of a machine the same object, which is digested only once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Mapping[str, Json], Mapping[str, Json]]] = {}
        """What a machine differs in, by its identity, and the environment that it makes."""

    def joined(self, own: Mapping[str, Json], differs: Mapping[str, Json]) -> Mapping[str, Json]:
        """Return the run's environment with what is different where a unit ran."""
        if not differs:
            return own
        if id(differs) not in self._known:
            self._known[id(differs)] = differs, {**own, **differs}
        return self._known[id(differs)][1]
