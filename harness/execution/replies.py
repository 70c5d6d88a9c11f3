"""Makes the reply of a case from what it returned or raised: numbers, texts and curves of a bounded size."""

from __future__ import annotations

import errno
import itertools
import math
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from harness.api import CannotStack, Incorrect, NotApplicable, Outcome, Phase, Reply, Status, Unavailable
from harness.api.text import printable

REASON_LENGTH: Final = 300
"""Characters of a reason."""

DETAIL_LENGTH: Final = 1 << 16
"""Characters of a traceback; of a longer one the beginning and the end are kept."""

MOST_NOTES: Final = 100
NOTE_LENGTH: Final = 1000
"""Notes of a case, and characters of each."""

MOST_POINTS: Final = 1_000_000
"""Numbers in the curves of a case."""


class _Malformed(Exception):
    """A part of a result that is not what it has to be; the text is the reason of the reply."""


def failure(error: BaseException, phases: Mapping[str, float]) -> Reply:
    """Return the reply for an exception that a case raised."""
    text = _text_of(error)
    if isinstance(error, NotApplicable | CannotStack):
        return Reply(status="skipped", reason=_line(text), phases=phases)
    if isinstance(error, Unavailable):
        return Reply(status="unavailable", reason=_line(text), phases=phases)
    detail = _cut("".join(traceback.format_exception(type(error), error, _case_frames(error))))
    if isinstance(error, Incorrect):
        return Reply(status="incorrect", reason=_line(text), detail=detail, phases=phases)
    status: Status = "oom" if _is_out_of_memory(error, text) else "error"
    reason = _line(": ".join(filter(None, [type(error).__name__, text])))
    return Reply(status=status, reason=reason, detail=detail, phases=phases)


def quality(outcome: Outcome, seconds: Mapping[str, float], *more_notes: str) -> Reply:
    """Return the reply that holds an outcome, or an error where a part of the outcome is malformed."""
    try:
        series, cut = _finite_series(outcome.series)
        notes = _texts(outcome.notes)
    except _Malformed as error:
        return Reply(status="error", reason=_line(str(error)), phases=seconds)
    return replace(figures(outcome.metrics, seconds), series=series, notes=(*notes, *cut, *more_notes))


def figures(values: Mapping[str, float], seconds: Mapping[str, float]) -> Reply:
    """Return the reply that holds the figures, or an error where a figure is no number, NaN or infinite."""
    try:
        metrics = {_name(name, "metric"): _number(name, value) for name, value in values.items()}
    except _Malformed as error:
        return Reply(status="error", reason=_line(str(error)), phases=seconds)
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    return Reply(
        status="error" if wrong else "ok",
        reason=_line(", ".join(wrong)),
        metrics={} if wrong else metrics,
        phases=seconds,
    )


def batches_of(phases: Mapping[str, Phase]) -> dict[str, float] | Reply:
    """Return the samples of each phase's call, or an error where there is no phase or the samples are no number."""
    try:
        found = {_name(name, "phase"): _number(f"samples of {name}", phase.samples) for name, phase in phases.items()}
    except _Malformed as error:
        return Reply(status="error", reason=_line(str(error)))
    wrong = [
        f"samples of {name} is {value:g}, expected a number above 0"
        for name, value in found.items()
        if not 0 < value < math.inf
    ]
    if wrong or not found:
        return Reply(status="error", reason=_line(", ".join(wrong) or "the opened case has no phase"))
    return found


def _number(name: object, value: Any) -> float:
    """Return a figure as a float. Raises _Malformed for texts, truth values and what has no value as a float."""
    try:
        if not isinstance(value, (str, bytes, bytearray, bool)):
            return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise _Malformed(f"{name} is {_shown(value)}, expected a number")


def _name(name: object, what: str) -> str:
    """Return a name. Raises _Malformed where it is no text."""
    if not isinstance(name, str):
        raise _Malformed(f"the name of a {what} is {_shown(name)}, expected a text")
    return name


def _shown(value: object) -> str:
    """Return a short text for a value of whatever type."""
    short = isinstance(value, (str, bytes, bool, complex)) or value is None
    return repr(value)[:40] if short else f"of type {type(value).__name__}"


def _texts(notes: object) -> list[str]:
    """Return notes, cut to a number and a length that can be stored. Raises _Malformed where they are no texts."""
    if isinstance(notes, str) or not isinstance(notes, Iterable):
        raise _Malformed(f"notes is {_shown(notes)}, expected a list of texts")
    texts: list[str] = []
    for note in itertools.islice(notes, MOST_NOTES + 1):
        if not isinstance(note, str):
            raise _Malformed(f"a note is {_shown(note)}, expected a text")
        texts.append(note if len(note) <= NOTE_LENGTH else f"{note[: NOTE_LENGTH - 1]}…")
    if len(texts) > MOST_NOTES:
        texts[-1] = f"there were more than {MOST_NOTES} notes"
    return texts


def _finite_series(series: Mapping[str, Sequence[float]]) -> tuple[dict[str, list[float]], list[str]]:
    """Return curves up to the first NaN or infinity, which JSON cannot hold, and a note for each curve that was cut.

    Raises _Malformed for more numbers than can be stored, and for names that are no texts.
    """
    kept: dict[str, list[float]] = {}
    notes = []
    left = MOST_POINTS
    for name, values in series.items():
        numbers = [_number(f"a value of {name}", value) for value in itertools.islice(values, left + 1)]
        left -= len(numbers)
        if left < 0:
            raise _Malformed(f"series hold more than {MOST_POINTS:,} numbers")
        end = next((i for i, number in enumerate(numbers) if not math.isfinite(number)), len(numbers))
        kept[_name(name, "series")] = numbers[:end]
        if end < len(numbers):
            notes.append(f"{name} is {numbers[end]} at step {end + 1} of {len(numbers)}")
    return kept, notes


def _case_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from where it leaves `harness.execution`, whose own frames do not help a reader."""
    frame = error.__traceback__
    room = Path(__file__).parent
    while frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(room):
        frame = frame.tb_next
    return frame or error.__traceback__


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """Return whether an exception, whose text is given, says that memory could not be had."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    )


def _line(text: str) -> str:
    """Return the first line of a text, cut to a length that a table can show."""
    line = printable(next(iter(text.strip().splitlines()), ""))
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…"


def _text_of(error: BaseException) -> str:
    """Return the text of an exception; empty where the exception has none, or fails to give it."""
    try:
        return str(error)
    except BaseException:  # foreign code, which may raise anything
        return ""


def _cut(text: str) -> str:
    """Return a text without its middle where it is long."""
    half = DETAIL_LENGTH // 2
    return text if len(text) <= DETAIL_LENGTH else f"{text[:half]}\n…\n{text[-half:]}"
