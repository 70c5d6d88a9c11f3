"""Reads tables of labelled texts from users' files. Imports no torch."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError, nearest

TEXT_COLUMNS: Final = ("text", "sentence", "review", "content", "body", "comment", "tweet", "document", "question")
LABEL_COLUMNS: Final = ("label", "labels", "class", "category", "sentiment", "target", "intent", "topic")
"""The names by which a column is taken for the texts or the labels, in this order."""

MOST_CLASSES: Final = 100
"""The most labels of a classification: more are numbers to predict, or the wrong column."""

FEWEST: Final = 8
"""The fewest examples of each class, so that each part of a division can have some."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Labelled texts, each text once: ``labels[i]`` is the index of the text's class in ``classes``.

    ``text`` and ``label`` are the columns that were read, ``repeated`` counts the rows that said the same again.
    """

    texts: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]
    text: str
    label: str
    repeated: int


def read_labelled(path: Path, *, text: str = "", label: str = "") -> Labelled:
    """Return the labelled texts of a file; columns that are not named are guessed by their names.

    A text that occurs twice is taken once, so that no text is both trained on and tested. Raises UsageError for a file
    that cannot be read, for columns that are missing or cannot be guessed, and for labels that are no classes.
    """
    rows = _rows(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
        raise UsageError(f"{path}: has no rows; expected a table of texts and labels")
    text = _column(path, columns, text, TEXT_COLUMNS, "text")
    label = _column(path, [name for name in columns if name != text], label, LABEL_COLUMNS, "label")
    return _labelled(path, [(row.get(text), row.get(label)) for row in rows], text, label)


def _labelled(path: Path, pairs: Sequence[tuple[object, object]], text: str, label: str) -> Labelled:
    kept: dict[str, str] = {}
    for number, (words, kind) in enumerate(pairs, start=1):
        if not isinstance(words, str) or not words.strip() or kind is None or not str(kind).strip():
            raise UsageError(f"{path}: row {number}: expected a text in {text!r} and a label in {label!r}")
        if kept.setdefault(words, str(kind)) != str(kind):
            other = f"{kept[words]!r} and {str(kind)!r}"
            raise UsageError(f"{path}: row {number}: the same text has the labels {other}; leave one of them out")
    counts = Counter(kept.values())
    if not 2 <= len(counts) <= MOST_CLASSES:
        raise UsageError(
            f"{path}: column {label!r} has {len(counts)} different values; expected 2 to {MOST_CLASSES} classes"
        )
    rarest, count = min(counts.items(), key=lambda item: item[1])
    if count < FEWEST:
        raise UsageError(f"{path}: label {rarest!r} has {count} texts; expected at least {FEWEST} for each label")
    classes = sorted(counts)
    numbers = {name: number for number, name in enumerate(classes)}
    return Labelled(
        texts=list(kept),
        labels=[numbers[kind] for kind in kept.values()],
        classes=classes,
        text=text,
        label=label,
        repeated=len(pairs) - len(kept),
    )


def _column(path: Path, columns: Sequence[str], given: str, usual: Sequence[str], kind: str) -> str:
    """Return the column that was named, or the first usual one; names may be written in capitals."""
    if given:
        if given not in columns:
            known = ", ".join(columns)
            raise UsageError(f"{path}: there is no column {given!r}{nearest(given, columns)}; it has: {known}")
        return given
    lower = {name.lower(): name for name in reversed(columns)}
    found = next((lower[name] for name in usual if name in lower), None)
    if found is None:
        known = ", ".join(columns)
        raise UsageError(
            f"{path}: no column is named like a {kind}; name it with --param {kind}=COLUMN, one of: {known}"
        )
    return found


def _rows(path: Path) -> list[Mapping[str, object]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: expected a file that ends in {', '.join(_READERS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return list(reader(path, lines))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no UTF-8 text: byte {error.start}") from error


def _separated(separator: str) -> Callable[[Path, Iterator[str]], Iterator[Mapping[str, object]]]:
    def read(path: Path, lines: Iterator[str]) -> Iterator[Mapping[str, object]]:
        try:
            table = csv.DictReader(lines, delimiter=separator, strict=True)
            for row in table:
                if None in row or None in row.values():
                    fields = len(table.fieldnames or ())
                    raise UsageError(f"{path}: line {table.line_num}: expected {fields} fields, as in the first line")
                yield row
        except csv.Error as error:
            raise UsageError(f"{path}: line {table.line_num}: {error}") from error

    return read


def _json_lines(path: Path, lines: Iterator[str]) -> Iterator[Mapping[str, object]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}: line {number}: is no JSON") from error
        if not isinstance(row, dict):
            raise UsageError(f'{path}: line {number}: expected an object, like {{"text": …, "label": …}}')
        yield row


_READERS: Final[Mapping[str, Callable[[Path, Iterator[str]], Iterator[Mapping[str, object]]]]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _json_lines,
}
