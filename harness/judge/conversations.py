"""Conversations of users' data: messages of roles, of which the last answer of the assistant is learned. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from harness.api import UsageError, nearest

Message = Mapping[str, Any]
"""A turn: its ``role``, its ``content`` as a text, and what else a chat template may read of it."""

Conversation = Sequence[Message]

Render = Callable[[Conversation], tuple[str, str]]
"""Writes a conversation that ends with an answer as a prompt and its completion. Raises UsageError where it cannot."""

ROLES_OF_TURNS: Final = ("system", "developer", "user", "assistant", "tool")

_WRITTEN: Final = re.compile(r"""\s*\[\s*\{.*["']role["']\s*:""", re.DOTALL)
"""How a list of turns is written as a text, as JSON or as Python writes it."""

ANSWERS: Final = "assistant"
"""The role whose last turn is learned."""


def looks_like_one(value: object) -> bool:
    """Return whether a value is a list, or a text that writes a list of turns, as the cell of a ``.csv`` file does."""
    return isinstance(value, list) or (isinstance(value, str) and bool(_WRITTEN.match(value)))


def _read(value: object) -> object:
    """Return what a text of JSON says; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def conversation_of(value: object, column: str) -> Conversation:
    """Return the value of a row as a conversation up to its last answer; turns that follow it are left out.

    Raises UsageError for what is no list of turns with a role and a text, and for one without an answer.
    """
    value = _read(value)
    if not isinstance(value, list) or not value:
        form = ", written as JSON" if isinstance(value, str) else ""
        raise UsageError(f'expected a list in {column!r}, like [{{"role": "user", "content": "…"}}, …]{form}')
    for number, turn in enumerate(value, start=1):
        if wrong := _wrong(turn):
            raise UsageError(f"message {number} in {column!r}: {wrong}")
    answers = [number for number, turn in enumerate(value) if turn["role"] == ANSWERS]
    if not answers:
        raise UsageError(f"no message in {column!r} has the role {ANSWERS!r}, so that there is no answer to learn")
    if answers[-1] == 0:
        raise UsageError(f"the only answer in {column!r} is the first message; expected a message before it")
    if not value[answers[-1]]["content"].strip():
        raise UsageError(f"message {answers[-1] + 1} in {column!r}: the last answer is empty; expected a text")
    # a table of columns gives each turn the keys of all, and templates ask whether a key is there
    return [{key: part for key, part in turn.items() if part is not None} for turn in value[: answers[-1] + 1]]


def _wrong(turn: object) -> str:
    """Return what is wrong with a turn; empty where it is one."""
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        told = f" with the keys {', '.join(map(str, turn))}" if isinstance(turn, dict) else f": {str(turn)[:40]!r}"
        return f"expected role and content, not {type(turn).__name__}{told}"
    if turn["role"] not in ROLES_OF_TURNS:
        role = turn["role"]
        known = ", ".join(ROLES_OF_TURNS)
        return f"role {role!r}: expected one of {known}{nearest(str(role), ROLES_OF_TURNS)}"
    if not isinstance(turn["content"], str):
        return f"content is {type(turn['content']).__name__}; expected a text"
    return ""
