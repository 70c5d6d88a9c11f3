"""The standard streams: what may be written to which, and what happens where one is closed, full or left."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

_OUT, _ERR = 1, 2


class OutputLost(Exception):
    """Standard output cannot be written to; ``left`` says that its reader has gone, which is no fault."""

    def __init__(self, error: OSError) -> None:
        self.left = error.errno == errno.EPIPE
        super().__init__(f"cannot write to standard output: {error.strerror or error}")


class _Guarded(io.FileIO):
    """A descriptor whose first failing write raises OutputLost; later writes, and all of ``quiet``, are dropped."""

    def __init__(self, descriptor: int, *, quiet: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._quiet = quiet

    def write(self, data: object, /) -> int:
        """Write bytes, and drop them where the descriptor takes none."""
        size = memoryview(data).nbytes  # type: ignore[arg-type]  # whatever FileIO takes
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError as error:
            if not self._quiet:
                self._quiet = True
                raise OutputLost(error) from error
            return size


@contextmanager
def guarded() -> Iterator[None]:
    """Replace closed standard streams by ones that drop everything, and open ones by ones that fail as `OutputLost`.

    A closed descriptor is occupied too, since the next file that is opened would get its number, and with it whatever
    a library prints.
    """
    for descriptor in range(_ERR + 1):
        _occupy(descriptor)
    before = sys.stdout, sys.stderr
    sys.stdout = _guard(sys.stdout, _OUT, quiet=False)
    sys.stderr = _guard(sys.stderr, _ERR, quiet=True)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OutputLost, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _occupy(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _guard(stream: TextIO | None, descriptor: int, *, quiet: bool) -> TextIO:
    """Return a guarded stream for the descriptor; a stream that is not the descriptor's own (a test's) as it is."""
    if stream is None:  # it was closed when Python started
        return io.TextIOWrapper(_buffered(descriptor, quiet=True), encoding="utf-8", errors="backslashreplace")
    if not isinstance(stream, io.TextIOWrapper) or descriptor_of(stream) != descriptor:
        return stream
    with suppress(OSError):
        stream.flush()
    errors = stream.errors if stream.errors not in (None, "strict") else "backslashreplace"
    return io.TextIOWrapper(
        _buffered(descriptor, quiet=quiet), encoding=stream.encoding, errors=errors, line_buffering=True
    )


def _buffered(descriptor: int, *, quiet: bool) -> io.BufferedWriter:
    return io.BufferedWriter(_Guarded(descriptor, quiet=quiet))


def descriptor_of(stream: TextIO | None) -> int | None:
    """Return the descriptor of a stream; None for a stream without one, and for no stream."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


@contextmanager
def aside() -> Iterator[None]:
    """Lead what foreign code prints, in Python or to the descriptor, from standard output to standard error.

    Standard output is for what a command answers, often to a program.
    """
    out = sys.stdout
    if out is None or sys.stderr is None or out is sys.stderr:
        yield
        return
    with suppress(OSError):
        out.flush()
    own = descriptor_of(out) == _OUT
    saved = os.dup(_OUT) if own else None
    sys.stdout = sys.stderr
    if own:
        os.dup2(_ERR, _OUT)
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        if saved is not None:
            _flush_c_streams()
            os.dup2(saved, _OUT)
            os.close(saved)
        sys.stdout = out


@contextmanager
def answering() -> Iterator[TextIO]:
    """Yield standard output for the one answer of this process; whatever else it prints, to its end, is dropped.

    The reader of the answer is another process of the harness. Modules of plugins may print while they are imported,
    without an end of line, and when the process ends.
    """
    sys.stdout.flush()
    answer = os.fdopen(os.dup(_OUT), "w", encoding="utf-8")
    dropped = os.open(os.devnull, os.O_WRONLY)
    os.dup2(dropped, _OUT)
    os.close(dropped)
    with answer:
        yield answer


def _flush_c_streams() -> None:
    """Write what C code printed and the C library still holds, while its descriptor leads to standard error."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is an open terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def is_coloured(stream: TextIO | None, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether to write colours to a stream, by the conventions that other programs keep too.

    NO_COLOR forbids them; FORCE_COLOR and CLICOLOR_FORCE ask for them anywhere; CLICOLOR=0 and TERM=dumb forbid them;
    else a terminal has them.
    """
    asked = os.environ if environment is None else environment
    if asked.get("NO_COLOR"):
        return False
    if any(asked.get(name, "0") not in ("", "0", "false") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if asked.get("CLICOLOR") == "0" or asked.get("TERM") == "dumb":
        return False
    return is_terminal(stream)
