"""Reads what a language model learns from users' files: prompts with completions, or plain texts. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.judge.tables import TEXT_COLUMNS, _column, _rows

PROMPT_COLUMNS: Final = ("prompt", "instruction", "question", "query", "input", "source")
COMPLETION_COLUMNS: Final = ("completion", "response", "output", "answer", "target")
"""The names by which a column is taken for the prompts or the completions, in this order."""

PLAIN: Final = ".txt"


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Either ``pairs`` of a prompt and its completion, each pair once, or whole ``texts`` in their order."""

    pairs: Sequence[tuple[str, str]] = ()
    texts: Sequence[str] = ()


def read_passages(path: Path, *, prompt: str = "", completion: str = "", text: str = "") -> Passages:
    """Return the pairs or texts of a file; columns that are not named are guessed by their names.

    The texts of a table are shuffled, always alike, since tables are often sorted. Raises UsageError for a file that
    cannot be read, for columns that are missing or cannot be guessed, and for rows without a text.
    """
    if path.suffix.lower() == PLAIN:
        return Passages(texts=[_plain(path)])
    rows = _rows(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        raise UsageError(f"{path}: has no rows; expected a table of prompts and completions, or of texts")
    lower = {name.lower() for name in columns}
    paired = prompt or completion or (lower & {*PROMPT_COLUMNS} and lower & {*COMPLETION_COLUMNS})
    if not paired or text:
        name = _column(path, columns, text, TEXT_COLUMNS, "text")
        texts = [_filled(path, row, number, name) for number, row in enumerate(rows, start=1)]
        random.Random(0).shuffle(texts)
        return Passages(texts=texts)
    first = _column(path, columns, prompt, PROMPT_COLUMNS, "prompt")
    rest = [name for name in columns if name != first]
    second = _column(path, rest, completion, COMPLETION_COLUMNS, "completion")
    pairs = [
        (_filled(path, row, number, first), _filled(path, row, number, second))
        for number, row in enumerate(rows, start=1)
    ]
    return Passages(pairs=list(dict.fromkeys(pairs)))


def _filled(path: Path, row: Mapping[str, object], number: int, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{path}: row {number}: expected a text in {name!r}")
    return value


def _plain(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no UTF-8 text: byte {error.start}") from error
    if not text.strip():
        raise UsageError(f"{path}: has no text")
    return text
