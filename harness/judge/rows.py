"""Reads the rows of users' tables: of a file, or of a folder with a file for each part of a split. No torch."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.api import UsageError

Row = Mapping[str, object]

PARTS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""The parts of a split by the names that data use, those of the library datasets."""

SPLIT: Final = "split"
"""The column that names the part of each row, which may be in capitals."""

HEAD: Final = 100
"""The rows whose columns are looked at to tell what data hold."""

_PART_OF_NAME: Final = re.compile(rf"({'|'.join(PARTS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one file, or of the files of a folder one after the other.

    ``parts`` has the part of each row, "train", "validation" or "test"; it is empty where the data have no split of
    their own. ``files`` has each file with the number of its rows.
    """

    path: Path
    rows: Sequence[Row]
    files: Sequence[tuple[Path, int]]
    parts: Sequence[str] = field(default=())

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order in which rows first have them, without that of the split."""
        return [name for name in _columns(self.rows) if name.lower() != SPLIT]

    def place(self, index: int) -> str:
        """Return where a row stands, for a message: its file and its number in the file."""
        for path, count in self.files:
            if index < count:
                return f"{path}: row {index + 1}"
            index -= count
        raise IndexError(index)


def read_table(path: Path, head: int | None = None, *, learned: bool = True) -> Table:
    """Return the rows of a file or folder, of each file the first ``head`` alone where that is a number.

    Raises UsageError with the place of what cannot be read, for a folder whose files are not named by the parts of a
    split, and for parts without one to train on, unless nothing is ``learned``.
    """
    try:
        files = {file: part for part, file in _files(path)}
    except OSError as error:
        raise UsageError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error
    read = {file: _rows(file, head) for file in files}
    rows = [row for some in read.values() for row in some]
    if not rows:
        raise UsageError(f"{path}: has no rows; expected a table of texts and labels, or of texts")
    parts = [part for file, part in files.items() for _ in read[file]]
    table = Table(path=path, rows=rows, files=[(file, len(some)) for file, some in read.items()])
    if not any(parts):
        parts = _told(table)
    if parts and len({*parts}) < 2 and head is None:
        parts = []  # one part is no split
    if parts and head is None and learned and "train" not in parts:
        raise UsageError(f"{path}: has the parts {' and '.join(sorted({*parts}))}, but none to train on, named train")
    return Table(path=path, rows=rows, files=table.files, parts=parts)


def _told(table: Table) -> list[str]:
    """Return the part of each row from the column of the split; empty where there is no such column."""
    column = next((name for name in _columns(table.rows) if name.lower() == SPLIT), None)
    if column is None:
        return []
    named = [str(row.get(column)).strip().lower() for row in table.rows]
    wrong = next((index for index, name in enumerate(named) if name not in PARTS), None)
    if wrong is not None:
        value = table.rows[wrong].get(column)
        expected = f"expected train, validation or test; rename the column {column!r} if it is no split"
        raise UsageError(f"{table.place(wrong)}: {column} {value!r}: {expected}")
    return [PARTS[name] for name in named]


def _columns(rows: Sequence[Row]) -> list[str]:
    return [*dict.fromkeys(name for row in rows for name in row)]


def _files(path: Path) -> list[tuple[str, Path]]:
    """Return the files of a path, each with its part; a part is empty where names tell none."""
    if not path.is_dir():
        return [("", path)]
    tables = sorted(file for file in path.rglob("*") if file.suffix.lower() in _READERS and file.is_file())
    named = [(part, file) for file in tables if (part := _part(file.relative_to(path)))]
    if len(places := sorted({_place(file.relative_to(path)) for _, file in named})) > 1:
        several = ", ".join(repr(place) for place in places[:8])
        raise UsageError(f"{path}: has data in several folders: {several}; name one of them by its path")
    texts = [("", file) for file in tables if file.suffix.lower() == ".txt"]
    for found in (named, [("", file) for file in tables] if len(tables) == 1 else texts):
        if found and len(kinds := {file.suffix.lower() for _, file in found}) == 1:
            _require_all_named(path, found, [file for file in tables if file.suffix.lower() in kinds])
            return found
    there = ", ".join(str(file.relative_to(path)) for file in tables[:8]) or "none"
    raise UsageError(
        f"{path}: expected a file of data, files named train and test, or a folder of images for each class; "
        f"tables there: {there}"
    )


def _require_all_named(path: Path, found: Sequence[tuple[str, Path]], tables: Sequence[Path]) -> None:
    """Raise UsageError for a table beside those of a split whose name tells no part: its rows would be left out."""
    taken = {file for _, file in found}
    if other := next((file for file in tables if file not in taken), None):
        raise UsageError(
            f"{path}: {str(other.relative_to(path))!r} begins with the name of no part of a split, as "
            f"{str(found[0][1].relative_to(path))!r} does; name it train, validation or test, or leave it out"
        )


def _part(path: Path) -> str:
    """Return the part that the name of a file, or of a folder above it, begins with; empty where none does."""
    found = next((match for name in reversed(path.parts) if (match := _PART_OF_NAME.match(name))), None)
    return PARTS[found[1].lower()] if found else ""


def _place(path: Path) -> str:
    """Return the folder of a file without those that are named like a part: files of different data differ in it."""
    return "/".join(name for name in path.parts[:-1] if name.lower() not in PARTS) or "."


def _rows(path: Path, head: int | None) -> list[Row]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: expected a file that ends in {', '.join(_READERS)}")
    if path.exists() and not path.is_file():  # a pipe would be waited for, and cannot be read twice
        raise UsageError(f"{path}: cannot be read: expected a file")
    try:
        return list(islice(reader(path), head))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no UTF-8 text: byte {error.start}") from error


def _separated(separator: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            longest = csv.field_size_limit(sys.maxsize)  # a text may be a book
            table = csv.DictReader(lines, delimiter=separator, strict=True)
            try:
                table.fieldnames = [name.strip() for name in table.fieldnames or ()]  # "text, label"
                _require_columns(path, table.fieldnames, separator)
                for row in table:
                    if None in row or None in row.values():
                        expected = f"expected {len(table.fieldnames)} fields, as in the first line"
                        raise UsageError(f"{path}: line {table.line_num}: {expected}")
                    yield row
            except csv.Error as error:
                raise UsageError(f"{path}: line {table.line_num}: {error}") from error
            finally:
                csv.field_size_limit(longest)

    return read


def _require_columns(path: Path, names: Sequence[str], separator: str) -> None:
    """Raise UsageError where two columns have the same name, or a first line has other separators only."""
    _require_different(path, names)
    other = next((mark for mark in ",;\t|" if mark in "".join(names)), None)
    if len(names) == 1 and other:
        raise UsageError(f"{path}: line 1: is separated by {other!r}; expected {separator!r}, as the file's name says")


def _require_different(path: Path, names: Sequence[str]) -> None:
    """Raise UsageError where two columns have the same name: a row would have the last of them only."""
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UsageError(f"{path}: has several columns {twice!r}; rename or leave out all but one")


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if "\\u" in line:
                    json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{path}: line {number}: has half of a pair of \\u escapes, which is no text"
                ) from error
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}: line {number}: is no JSON") from error
            if not isinstance(row, dict):
                raise UsageError(f'{path}: line {number}: expected an object, like {{"text": …, "label": …}}')
            yield row


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        needs = "a .parquet file needs pyarrow: pip install 'technique-harness[parquet]'"
        raise UsageError(f"{path}: {needs}") from error
    try:
        with parquet.ParquetFile(path) as file:
            _require_different(path, file.schema_arrow.names)
            for batch in file.iter_batches():
                rows: list[dict[str, Any]] = batch.to_pylist()
                yield from rows
    except UnicodeDecodeError:
        raise
    except (ArrowException, ValueError, OverflowError, OSError) as error:  # a damaged page, or a date too late
        cause = str(error).partition("\n")[0].partition(".")[0]
        raise UsageError(f"{path}: is no Parquet file that can be read: {cause}") from error


def _text(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    if text.strip():
        yield {"text": text}


_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": _text,
}
