"""The progress displays of a run: a bar for a terminal, plain lines for a log, none with --quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.api import Case, Row

if TYPE_CHECKING:
    from harness.execution.runner import Progress

SHOWN = 2
"""The number of running cases that are named beside the bar."""


def make_progress(*, quiet: bool, verbose: bool = False) -> _Base:
    """Return the display: a log of every case, none, a Rich bar on a terminal, or lines."""
    if verbose:
        return _Log()
    if quiet:
        return _Base()
    return _Bar() if sys.stderr.isatty() else _Lines()


def case_label(case: Case) -> str:
    """Return a short description of a case: 'lora/pissa on digits-split, seed 3, lr 0.01'."""
    tuned = "".join(f", {key} {value}" for key, value in case.tuned.items())
    what = f"seed {case.seed}" if case.lane == "accuracy" else case.lane
    return f"{case.technique} on {case.workload.rpartition('/')[2]}, {what}{tuned}"


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

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        """Show the running cases."""


class _Lines(_Base):
    """A display for a file or a CI log: one line for each failure, and one for each tenth of the run."""

    def __init__(self) -> None:
        super().__init__()
        self._tenth = 0
        self._start = time.monotonic()

    def finished(self, row: Row) -> None:
        super().finished(row)
        if row.failed:
            sys.stderr.write(f"{row.reply.status}: {case_label(row.case)}: {row.reply.reason}\n")
        tenth = 10 * self.done // max(self.total, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            seconds = time.monotonic() - self._start
            sys.stderr.write(f"{self.done}/{self.total} cases, {seconds:.0f} s\n")
            sys.stderr.flush()


class _Log(_Base):
    """The display of --verbose: every case as it ends, and the output of failed cases."""

    def finished(self, row: Row) -> None:
        super().finished(row)
        reply = row.reply
        took = f"{reply.wall_s:.2f} s wall, {reply.cpu_s:.2f} s cpu"
        line = f"[{self.done}/{self.total}] {reply.status} {case_label(row.case)}: {reply.reason or took}\n"
        sys.stderr.write(line + (f"{reply.detail.rstrip()}\n" if row.failed and reply.detail else ""))
        sys.stderr.flush()


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
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._display.add_task("starting", total=None)

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

            line = Text.assemble((row.reply.status, "red"), f" {case_label(row.case)}: {row.reply.reason}")
            self._display.console.print(line)

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        names = [f"{case_label(case)}{f' ({phase})' if phase else ''}" for case, phase in cases[:SHOWN]]
        more = f" +{len(cases) - SHOWN}" if len(cases) > SHOWN else ""
        self._display.update(self._task, description="; ".join(names) + more)


if TYPE_CHECKING:
    _checked: Progress = _Base()
