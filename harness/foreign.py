"""Contains what foreign code raises: only a signal, such as that of Ctrl-C, interrupts a command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from harness.api.text import printable

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals whose handlers may raise KeyboardInterrupt."""


class Ended(Exception):
    """Foreign code raised what is no Exception, such as SystemExit; the text names it in one line."""


class contained:  # noqa: N801  # a context manager, named like a function
    """A context manager in which foreign code raises only an Exception, or a signal raises KeyboardInterrupt.

    Whatever else is raised, such as SystemExit or a KeyboardInterrupt that no signal caused, becomes `Ended`. After an
    interruption by a signal KeyboardInterrupt is raised also where the code has caught it or raises another exception.
    """

    def __enter__(self) -> Self:
        self._interrupted = False
        self._before: dict[signal.Signals, Callable[..., Any]] = {}
        self._own: dict[signal.Signals, Callable[..., Any]] = {}
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._watch(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) is self._own[number]:  # the code may have set a handler of its own
                signal.signal(number, handler)
        if self._interrupted:
            raise KeyboardInterrupt from error
        if error is not None and not isinstance(error, Exception):
            raise Ended(one_line(error)) from error

    def _watch(self, number: signal.Signals, handler: Callable[..., Any]) -> None:
        """Note from here on when the handler of a signal raises KeyboardInterrupt."""

        def noting(received: int, frame: FrameType | None) -> None:
            try:
                handler(received, frame)
            except KeyboardInterrupt:
                self._interrupted = True
                raise

        try:
            signal.signal(number, noting)
        except ValueError:  # not in the main thread, which alone receives signals
            return
        self._before[number], self._own[number] = handler, noting


def one_line(error: BaseException) -> str:
    """Return the type and the text of an exception in one line; the type alone where there is no text."""
    if isinstance(error, Ended):
        return str(error)
    try:
        text = printable(" ".join(str(error).split()))
    except BaseException:  # an exception of foreign code may fail to give its text
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
