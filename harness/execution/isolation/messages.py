"""How messages pass between runner and worker: JSON lines both ways, each checked where it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from harness.api import STATUSES, Reply
from harness.execution.job import Message

PHASE_BYTES: Final = 64
"""The head of a worker's output file, where it notes the phase it is in: read only when somebody asks."""

LONGEST_BYTES: Final = 1 << 26
"""The length of a message at most; the longest that an honest worker sends is a reply of about 20 MB."""


class Unreadable(Exception):
    """A message that is no message, or that a worker does not send; the text says what is wrong."""


def encode(message: Message) -> bytes:
    """Return a message as one line of JSON."""
    return json.dumps(message, default=dict).encode() + b"\n"


def encode_reply(reply: Reply) -> bytes:
    """Return the final line of a worker."""
    return encode({"reply": vars(reply)})


def encode_stacked(replies: Sequence[Reply]) -> bytes:
    """Return the line with the replies of cases that were evaluated together."""
    return encode({"stacked": [vars(reply) for reply in replies]})


class Lines:
    """Puts a stream back together into messages; an unfinished line waits for its rest."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that ``data`` completes. Raises Unreadable for what is no message, or too long a one."""
        first, *others = data.split(b"\n")
        lines: list[bytes] = []
        if others:
            lines = [b"".join([*self._parts, first]), *others[:-1]]
            self._parts, self._held = [], 0
        rest = others[-1] if others else first
        self._parts.append(rest)
        self._held += len(rest)
        if self._held > LONGEST_BYTES:
            raise Unreadable(f"a message of more than {LONGEST_BYTES:,} bytes")
        return [_message(line) for line in lines]


def _message(line: bytes) -> Message:
    """Return the object in a line. Raises Unreadable where the line holds no JSON object."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable("no JSON") from error
    if not isinstance(message, dict):
        raise Unreadable("no JSON object")
    return message


# ------------------------------------------------------------------------------------------- checks


def read_reply(data: object) -> Reply:
    """Return the reply in a message. Raises Unreadable for a field that is unknown, missing or of the wrong type."""
    if not isinstance(data, dict) or not {"status"} <= data.keys() <= _FIELDS.keys():
        raise Unreadable("no reply")
    for name, value in data.items():
        _require(_FIELDS[name](value), f"{name} of a reply")
    return Reply(**data)


def read_stacked(data: object, cases: int) -> list[Reply]:
    """Return the replies of cases that were evaluated together. Raises Unreadable where there is not one for each."""
    _require(isinstance(data, list) and len(data) == cases, "replies of cases evaluated together")
    assert isinstance(data, list)
    return [read_reply(item) for item in data]


def read_opened(data: object) -> Message:
    """Return what a contestant says of its opening. Raises Unreadable where a field is missing or of a wrong type."""
    _require(isinstance(data, dict) and data.keys() == _OPENED.keys(), "answer to 'open'")
    assert isinstance(data, dict)
    for name, value in data.items():
        _require(_OPENED[name](value), f"{name} of an answer to 'open'")
    return data


def read_samples(data: object, phases: Sequence[str]) -> Message:
    """Return a contestant's samples of a round: for each phase the seconds a call, an interruption, the calls."""
    _require(isinstance(data, dict) and list(data) == list(phases), "answer to 'round'")
    assert isinstance(data, dict)
    for phase, sample in data.items():
        _require(_is_sample(sample), f"sample of {phase}")
    return data


def read_count(data: object) -> int:
    """Return a number of bytes. Raises Unreadable where it is none."""
    _require(_is_count(data), "number of bytes")
    assert isinstance(data, int)
    return data


def read_name(data: object) -> str:
    """Return the name of a phase. Raises Unreadable where it is no text."""
    _require(isinstance(data, str), "name of a phase")
    assert isinstance(data, str)
    return data


def _require(readable: bool, what: str) -> None:
    """Raise Unreadable where a message does not hold what it has to."""
    if not readable:
        raise Unreadable(f"no {what}")


def is_number(value: object) -> bool:
    """Return whether a value is a finite number that a float can hold, and no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_count(value: object) -> bool:
    """Return whether a value is a whole number, at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0."""
    return is_number(value) and value > 0


def _is_text(value: object) -> bool:
    """Return whether a value is a text."""
    return isinstance(value, str)


def _is_list(value: object, of: Callable[[Any], bool]) -> bool:
    """Return whether a value is a list whose elements pass."""
    return isinstance(value, list) and all(map(of, value))


def _is_mapping(value: object, of: Callable[[Any], bool]) -> bool:
    """Return whether a value is an object whose values pass."""
    return isinstance(value, dict) and all(map(of, value.values()))


def _is_sample(value: object) -> bool:
    """Return whether a value is a sample: the seconds a call, whether it was interrupted, and the number of calls."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and _is_positive(value[0])
        and isinstance(value[1], bool)
        and _is_count(value[2])
        and value[2] > 0
    )


def _are_numbers(value: object) -> bool:
    """Return whether a value is a list of numbers."""
    return _is_list(value, is_number)


_FIELDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "status": lambda value: isinstance(value, str) and value in STATUSES,
    "reason": _is_text,
    "detail": _is_text,
    "metrics": lambda value: _is_mapping(value, is_number),
    "series": lambda value: _is_mapping(value, _are_numbers),
    "samples": lambda value: _is_mapping(value, _are_numbers),
    "phases": lambda value: _is_mapping(value, is_number),
    "notes": lambda value: _is_list(value, _is_text),
    "wall_s": is_number,
    "cpu_s": is_number,
    "load": is_number,
    "peak_bytes": is_number,
}
"""What each field of a reply has to be."""

_OPENED: Final[Mapping[str, Callable[[Any], bool]]] = {
    "build": lambda value: _are_numbers(value) and bool(value),
    "init": _are_numbers,
    "batches": lambda value: _is_mapping(value, is_number) and bool(value),
    "probes": lambda value: _is_list(value, _is_text),
    "turn_s": is_number,
}
"""What each field of the answer to ``open`` has to be."""
