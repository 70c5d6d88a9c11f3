"""Finds the rows of earlier runs that a run takes from its store, instead of computing their cases again.

A key has all that is known to change a result. A row is taken where its key is that of the case and where, besides, the
facts of `FACTS` are the same: what a key leaves out because results should not depend on it is no risk then.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from harness.analysis.tuning import select_best
from harness.api import DISTRIBUTION, Case, Json, Lane, Metric, Row, UsageError
from harness.execution.identity import mapping
from harness.grid import Tuned
from harness.host import warn
from harness.plan import Contestant, Plan
from harness.results.index import Index
from harness.results.schema import encode
from harness.results.store import Store

LANES: Final[tuple[Lane, ...]] = ("accuracy", "memory")
"""The lanes whose results the seed determines. A time says something about its own run and moment only."""

DEVICE: Final = "cpu"
"""The only device whose results are the same in every run: kernels of a GPU may add in any order."""

EXECUTOR: Final = "local"
"""The only executor that takes rows: `inline` is for a debugger, and others may run on other machines."""

FACTS: Final = (
    "python", "platform", "machine", "cpu", "gpu", "threads", "variables", "case_threads", "transparent_hugepages",
)  # fmt: skip
"""The facts of an environment that have to be the same, besides the packages and the code of the host."""


class Earlier:
    """The rows of a store's earlier runs; each run's file is read once, when the first of its rows is asked for.

    ``plan`` and ``environment`` are those of the run which takes the rows, ``time_s`` is its limit of a case, and
    ``select`` the metric that chooses among the trials of a tuning.
    """

    def __init__(
        self, store: Store, plan: Plan, select: Metric, environment: Mapping[str, Json], time_s: float
    ) -> None:
        self._store = store
        self._plan = plan
        self._select = select
        self._facts = _facts_of(environment)
        self._time_s = time_s
        self._runs: dict[str, list[str]] | None = None
        """The runs that have a key, the newest first, by key; None until the first case is asked for."""
        self._rows: dict[str, dict[str, Row]] = {}

    def find(self, case: Case) -> Row | None:
        """Return the row of a case from the newest run that has it; None where the case has to be computed."""
        if case.lane not in LANES or case.device != DEVICE:
            return None
        if self._runs is None:
            self._runs = self._runs_by_key()
        for run in self._runs.get(case.key, ()):
            if run not in self._rows:
                self._rows[run] = self._rows_of(run)
            row = self._rows[run].get(case.key)
            if row is not None and self._fits(row, case):
                return replace(row, case=case, reused_from=row.reused_from or run)
        return None

    def known(self, contestant: Contestant) -> Counter[Lane]:
        """Return how many cases of a contestant have a row, by lane, as far as their choice of parameters is known."""
        if contestant.skip:
            return Counter()
        cases = self._plan.trial_cases(contestant)
        rows = [row for case in cases if (row := self.find(case)) is not None]
        tuned = self._chosen(contestant, rows) if len(rows) == len(cases) else None
        finals = self._plan.final_cases(contestant, tuned) if tuned is not None else []
        return Counter(case.lane for case in (*(row.case for row in rows), *filter(self.find, finals)))

    def _chosen(self, contestant: Contestant, rows: list[Row]) -> Tuned | None:
        """Return the trial that a run will choose once it has these rows of its tuning."""
        if len(contestant.trials) == 1:
            return contestant.trials[0]
        choice = select_best(rows, self._plan.suite, contestant.technique, contestant.workload, self._select)
        return choice.tuned if choice else None

    def covers(self, contestant: Contestant) -> bool:
        """Return whether nothing of a contestant will be computed."""
        if self._plan.suite.looks or "time" in self._plan.lanes:
            return False
        return self.known(contestant).total() == self._plan.size(contestant)

    def _fits(self, row: Row, case: Case) -> bool:
        """Return whether a row is a result of this very case that computing it again would give once more."""
        return _place(row.case) == _place(case) and row.reply.wall_s <= self._time_s

    def _runs_by_key(self) -> dict[str, list[str]]:
        """Return the runs of the suite that have a key; where the store can't be read, a line says so."""
        try:
            index = Index(self._store)
            damaged = [run.id for run in index.runs() if run.problem]
            runs = index.runs_by_key(self._plan.suite.id)
        except (UsageError, OSError, sqlite3.Error) as error:  # what is stored never stops a run
            warn(f"no row of an earlier run is taken, as {self._store.path} cannot be read: {_line(error)}")
            return {}
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            warn(f"no row of run {damaged[0]}{more} is taken, as it cannot be read; see: harness runs")
        return runs

    def _rows_of(self, run: str) -> dict[str, Row]:
        """Return the rows of a run that are ok and of the same facts, by key.

        There are none where the run can't be read, and where another executor ran it.
        """
        try:
            stored = self._store.read(run)
        except UsageError as error:
            warn(f"no row of run {run} is taken, as it cannot be read: {_line(error)}")
            return {}
        if stored.info.selection.get("executor") != EXECUTOR:
            return {}
        rows: dict[str, Row] = {}
        environment: Mapping[str, Json] = {}
        same = False
        for row in stored.rows:
            if row.environment != environment:  # as good as all rows of a run have the same one
                environment, same = row.environment, _facts_of(row.environment) == self._facts
            if same and row.ok:
                rows[row.case.key] = row
        return rows


def _facts_of(environment: Mapping[str, Json]) -> dict[str, Any]:
    """Return the facts that have to be the same, as they are read back from a store."""
    packages = {name: version for name, version in mapping(environment.get("packages")).items() if name != DISTRIBUTION}
    host = mapping(mapping(environment.get("code")).get("harness")).get("digest")
    facts = {name: environment.get(name) for name in FACTS}
    return {**{name: encode(value) for name, value in facts.items()}, "packages": encode(packages), "host": host}


def _place(case: Case) -> tuple[object, ...]:
    """Return what a row is of: an edited row may have a key that is not its own."""
    of = (case.technique, case.workload, case.seed, case.perturbed, case.lane, case.device)
    return (*of, case.code, case.plugin_version)


def _line(error: Exception) -> str:
    """Return the first line of what an exception says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
