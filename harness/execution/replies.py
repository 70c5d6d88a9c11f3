"""Makes the reply of a case from what it returned or raised: numbers, texts and curves of a bounded size."""

from __future__ import annotations

import errno
import itertools
import math
import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from harness.api import CannotStack, Incorrect, NotApplicable, OpenCase, Outcome, Phase, Reply, Status, Unavailable
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


class Malformed(Exception):
    """An answer of a workload, or a part of it, that is not what it has to be; the text is the reason of the reply."""


ALLOCATOR: Final = "[enforce fail at alloc"
"""How torch's message begins where memory could not be had; it breaks off where its own text finds none either."""


def failure(error: BaseException, phases: Mapping[str, float]) -> Reply:
    """Return the reply for an exception that a case raised."""
    text = _text_of(error)
    if isinstance(error, Malformed):
        return Reply(status="error", reason=_line(text), phases=phases)
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


def require_outcome(answer: object, method: str = "evaluate") -> Outcome:
    """Return what a workload's method answered. Raises Malformed where it is no outcome."""
    if not isinstance(answer, Outcome):
        raise Malformed(f"{method} returned {_kind(answer)}; expected harness.api.Outcome")
    return answer


def require_outcomes(answer: object, count: int) -> Sequence[Outcome]:
    """Return the outcomes of cases that were evaluated together. Raises Malformed where there is not one for each."""
    method = "evaluate_stacked"
    if not isinstance(answer, list | tuple):
        raise Malformed(f"{method} returned {_kind(answer)}; expected a list of {count} harness.api.Outcome")
    if len(answer) != count:
        raise Malformed(f"{method} returned {len(answer)} outcomes of {count} cases")
    return [require_outcome(outcome, f"{method}, in its list,") for outcome in answer]


def require_opened(answer: object) -> OpenCase:
    """Return what a workload opened. Raises Malformed where it is no open case, or a phase cannot be run."""
    if not isinstance(answer, OpenCase):
        raise Malformed(f"open returned {_kind(answer)}; expected harness.api.OpenCase")
    for what, phases in (("phases", answer.phases), ("probes", answer.probes)):
        if not isinstance(phases, Mapping):
            raise Malformed(f"{what} is {_shown(phases)}, expected a mapping of names to harness.api.Phase")
        for name, phase in phases.items():
            if not isinstance(phase, Phase) or not callable(phase.run):
                raise Malformed(f"{_name(name, what)} is {_shown(phase)}; expected a harness.api.Phase with a function")
    if answer.figures is not None and not callable(answer.figures):
        raise Malformed(f"figures is {_shown(answer.figures)}, expected a function or None")
    batches_of(answer.phases)
    return answer


def require_nothing(answer: object, method: str) -> None:
    """Raise Malformed where a method that has to raise `Incorrect` answers in another way."""
    if answer is not None:
        shown = repr(answer) if isinstance(answer, bool) else _kind(answer)
        raise Malformed(f"{method} returned {shown}; expected None, and harness.api.Incorrect raised for what is wrong")


def quality(outcome: Outcome, seconds: Mapping[str, float], *more_notes: str) -> Reply:
    """Return the reply that holds an outcome, or an error where a part of the outcome is malformed."""
    try:
        series, cut = _finite_series(outcome.series)
        notes = _texts(outcome.notes)
    except Malformed as error:
        return Reply(status="error", reason=_line(str(error)), phases=seconds)
    return replace(figures(outcome.metrics, seconds), series=series, notes=(*notes, *cut, *more_notes))


def figures(values: Mapping[str, float], seconds: Mapping[str, float], what: str = "metrics") -> Reply:
    """Return the reply that holds the figures, or an error where a figure is no number, NaN or infinite.

    ``what`` says in an error where the figures are from.
    """
    try:
        if not isinstance(values, Mapping):
            raise Malformed(f"{what} is {_shown(values)}, expected a mapping of names to numbers")
        metrics = {_name(name, "metric"): _number(name, value) for name, value in values.items()}
    except Malformed as error:
        return Reply(status="error", reason=_line(str(error)), phases=seconds)
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
    return Reply(
        status="error" if wrong else "ok",
        reason=_line(", ".join(wrong)),
        metrics={} if wrong else metrics,
        phases=seconds,
    )


def batches_of(phases: Mapping[str, Phase]) -> dict[str, float]:
    """Return the samples of each phase's call. Raises Malformed where there is no phase, or a number is not above 0."""
    found = {_name(name, "phase"): _number(f"samples of {name}", phase.samples) for name, phase in phases.items()}
    wrong = [
        f"samples of {name} is {value:g}, expected a number above 0"
        for name, value in found.items()
        if not 0 < value < math.inf
    ]
    if wrong or not found:
        raise Malformed(", ".join(wrong) or "the opened case has no phase")
    return found


def _number(name: object, value: Any) -> float:
    """Return a figure as a float. Raises Malformed for what is no number, such as a text, a truth value or a tensor."""
    try:
        if not isinstance(value, bool) and isinstance(value, Real):
            return float(value)
    except OverflowError:
        raise Malformed(f"{name} is too large for a float, expected a number up to 1.8e308") from None
    raise Malformed(f"{name} is {_shown(value)}, expected a number")


def _name(name: object, what: str) -> str:
    """Return a name. Raises Malformed where it is no text."""
    if not isinstance(name, str):
        raise Malformed(f"the name of a {what} is {_shown(name)}, expected a text")
    return name


def _kind(value: object) -> str:
    """Return the name of a value's type, and None as it is."""
    return "None" if value is None else type(value).__name__


def _shown(value: object) -> str:
    """Return a short text for a value of whatever type."""
    short = isinstance(value, (str, bytes, bool, complex)) or value is None
    return repr(value)[:40] if short else f"of type {type(value).__name__}"


def _texts(notes: object) -> list[str]:
    """Return notes, cut to a number and a length that can be stored. Raises Malformed where they are no texts."""
    if isinstance(notes, str) or not isinstance(notes, Iterable):
        raise Malformed(f"notes is {_shown(notes)}, expected a list of texts")
    texts: list[str] = []
    for note in itertools.islice(notes, MOST_NOTES + 1):
        if not isinstance(note, str):
            raise Malformed(f"a note is {_shown(note)}, expected a text")
        texts.append(note if len(note) <= NOTE_LENGTH else f"{note[: NOTE_LENGTH - 1]}…")
    if len(texts) > MOST_NOTES:
        texts[-1] = f"there were more than {MOST_NOTES} notes"
    return texts


def _finite_series(series: Mapping[str, Sequence[float]]) -> tuple[dict[str, list[float]], list[str]]:
    """Return curves up to the first NaN or infinity, which JSON cannot hold, and a note for each curve that was cut.

    Raises Malformed for more numbers than can be stored, and for names that are no texts.
    """
    kept: dict[str, list[float]] = {}
    notes = []
    left = MOST_POINTS
    if not isinstance(series, Mapping):
        raise Malformed(f"series is {_shown(series)}, expected a mapping of names to lists of numbers")
    for name, values in series.items():
        numbers = [_number(f"a value of {name}", value) for value in itertools.islice(values, left + 1)]
        left -= len(numbers)
        if left < 0:
            raise Malformed(f"series hold more than {MOST_POINTS:,} numbers")
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
    if not isinstance(error, RuntimeError):
        return False
    torn = text != "" and ALLOCATOR.startswith(text)
    return torn or any(
        words in text
        for words in (
            ALLOCATOR,
            os.strerror(errno.ENOMEM),  # of a file that cannot be mapped
            "can't allocate memory",
            "not enough memory",
            "out of memory",
            "std::bad_alloc",
        )
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
