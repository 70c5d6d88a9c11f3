"""The progress displays of a run: a bar for a terminal, plain lines for a log, none with --quiet."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.api import Case, Row
from harness.api.text import named, printable
from harness.cli.spent import Spent
from harness.report.units import duration, size
from harness.streams import is_coloured, is_terminal

if TYPE_CHECKING:
    from harness.execution.destination import Progress
    from harness.execution.forecast import Forecast

SHOWN = 2
"""The number of running cases that are named beside the bar."""


def make_progress(*, quiet: bool, verbose: bool = False) -> _Base:
    """Return the display: a log of every case, none, a Rich bar on a terminal, or lines."""
    if verbose:
        return _Log()
    if quiet:
        return _Base()
    if os.environ.get("TERM") == "dumb" or not is_terminal(sys.stderr):
        return _Lines()
    return _Bar()


def case_label(case: Case) -> str:
    """Return a short description of a case: 'lora/pissa on digits-split, seed 3, lr 0.01'."""
    tuned = f", {named(case.tuned)}" if case.tuned else ""
    what = f"seed {case.seed}{' repeated' if case.perturbed else ''}" if case.lane == "accuracy" else case.lane
    return printable(f"{case.technique} on {case.workload.rpartition('/')[2]}, {what}{tuned}")


class _Base:
    """A display that counts rows and shows nothing."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal."""

    def planned(self, rows: int) -> None:
        """Set the number of rows of the run."""
        self.total = rows

    def finished(self, row: Row) -> None:  # noqa: ARG002 - the displays that follow read it
        """Count a row."""
        self.done += 1

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        """Show how many comparisons are undecided after a number of seeds."""

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        """Show the running cases."""

    def expected(self, forecast: Forecast) -> None:
        """Show what the run is expected to take."""

    def remaining(self, seconds: float) -> None:
        """Show how long the rest of the run is expected to take."""


def forecast_line(forecast: Forecast) -> str:
    """Return what a run is expected to take: '64 cases, about 9 min on 2 processes, 0.6 GiB each; --quick: 3 min'."""
    processes = f"{forecast.processes} process{'es' if forecast.processes > 1 else ''}"
    text = (
        f"{forecast.cases} cases, about {about(forecast.seconds)} on {processes}, {size(forecast.process_bytes)} each"
    )
    if forecast.most_seconds is not None:
        text += f"; at most {about(forecast.most_seconds)} with all further seeds"
    if forecast.micro_batch:
        text += f"; in micro-batches of {forecast.micro_batch}"
    if forecast.short_seconds is not None:
        text += f"; --quick: about {about(forecast.short_seconds)}"
    return text


def about(seconds: float) -> str:
    """Return seconds in the unit that a person waits in: seconds below a minute and a half, else minutes."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else duration(60 * round(seconds / 60))


def _look_line(seeds: int, undecided: int, of: int) -> str:
    return f"after {seeds} seeds {undecided} of {of} comparisons are undecided"


def _write(text: str) -> None:
    """Write lines to standard error, where there is one; they hold no command to a terminal."""
    if sys.stderr is not None:
        sys.stderr.write(printable(text, keep="\n\t") + "\n")
        sys.stderr.flush()


class _Lines(_Base):
    """A display for a file or a CI log: one line for each failure, and one for each tenth of the run."""

    def __init__(self) -> None:
        super().__init__()
        self._tenth = 0
        self._left = ""
        self._start = time.monotonic()

    def finished(self, row: Row) -> None:
        super().finished(row)
        if row.failed:
            _write(f"{row.reply.status}: {case_label(row.case)}: {row.reply.reason}")
        self._tell()

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        _write(_look_line(seeds, undecided, of))

    def expected(self, forecast: Forecast) -> None:
        _write(forecast_line(forecast))

    def remaining(self, seconds: float) -> None:
        self._left = f", about {about(seconds)} left" if seconds else ""

    def _tell(self) -> None:
        tenth = 10 * self.done // max(self.total, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            seconds = time.monotonic() - self._start
            _write(f"{self.done}/{self.total} cases, {seconds:.0f} s{self._left}")


class _Log(_Base):
    """The display of --verbose: every case as it ends, the output of failed cases, and where the time went."""

    def __init__(self) -> None:
        super().__init__()
        self._spent = Spent(began=dt.datetime.now(dt.UTC))
        self._start = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _write(self._spent.line(time.monotonic() - self._start))

    def finished(self, row: Row) -> None:
        super().finished(row)
        self._spent.add(row)
        reply = row.reply
        took = f"{reply.wall_s:.2f} s wall, {reply.cpu_s:.2f} s cpu"
        if row.reused_from:
            took = f"of run {row.reused_from}"
        _write(f"[{self.done}/{self.total}] {reply.status} {case_label(row.case)}: {reply.reason or took}")
        if row.failed and reply.detail:
            _write(reply.detail.rstrip())

    def expected(self, forecast: Forecast) -> None:
        _write(forecast_line(forecast))

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        _write(_look_line(seeds, undecided, of))


class _Bar(_Base):
    """A display for a terminal: a bar, the time left, and the running cases with their phase."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._display = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True, no_color=not is_coloured(sys.stderr)),
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._display.add_task("starting", total=None)
        self._left = ""

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def planned(self, rows: int) -> None:
        super().planned(rows)
        self._display.update(self._task, total=rows)

    def finished(self, row: Row) -> None:
        super().finished(row)
        self._display.update(self._task, completed=self.done)
        if row.failed:
            from rich.text import Text

            line = Text.assemble((row.reply.status, "red"), f" {case_label(row.case)}: {printable(row.reply.reason)}")
            self._display.console.print(line)

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        self._display.console.print(_look_line(seeds, undecided, of), highlight=False)

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        names = [f"{case_label(case)}{f' ({phase})' if phase else ''}" for case, phase in cases[:SHOWN]]
        more = f" +{len(cases) - SHOWN}" if len(cases) > SHOWN else ""
        self._display.update(self._task, description=self._left + "; ".join(names) + more)

    def expected(self, forecast: Forecast) -> None:
        self._display.console.print(forecast_line(forecast), highlight=False)

    def remaining(self, seconds: float) -> None:
        self._left = f"about {about(seconds)} left: "


if TYPE_CHECKING:
    _checked: Progress = _Base()
