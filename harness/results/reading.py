"""Reads the files of a run: their bytes, and the rows up to an incomplete last line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from harness.api import Row, UsageError
from harness.collecting import no_collection
from harness.results.environments import Environments
from harness.results.schema import flat_from_json, row_of
from harness.results.typed import Record, flat_of_record, row_of_record, typed_decoder

T = TypeVar("T")

_AT_ONCE: Final = 2**18
"""How many bytes are decoded at once, about: a run in the form of an earlier version has megabytes of environments."""

_decode = json.JSONDecoder().decode


def contents(path: Path) -> bytes:
    """Return the bytes of a file; raises `UsageError` where the file can't be read."""
    try:
        if path.exists() and not path.is_file():  # of a pipe a reader would wait for ever
            raise UsageError(f"cannot read {path}: it is no regular file", f"repair or remove {path.parent}")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", f"repair or remove {path.parent}") from error


def read_rows(data: bytes, path: Path, environments: Environments) -> tuple[list[Row], int]:
    """Return the rows, and the number of bytes that their complete lines take.

    ``environments`` are those that the rows refer to. A power failure may leave an incomplete last line, which is left
    out. Raises `UsageError` at any other line that is not a row.
    """
    return _read(data, path, environments, _Made(of_record=row_of_record, of_flat=row_of))


def read_flat(data: bytes, path: Path, environments: Environments) -> tuple[list[dict[str, Any]], int]:
    """Return the fields of each row by name, and the number of bytes, as `read_rows` does."""
    return _read(data, path, environments, _Made(of_record=flat_of_record, of_flat=lambda flat: flat))


@dataclass(frozen=True, kw_only=True)
class _Made(Generic[T]):
    """What is made of a row: of its record where it was read quickly, else of its fields."""

    of_record: Callable[[Record], T]
    of_flat: Callable[[dict[str, Any]], T]


def _read(data: bytes, path: Path, environments: Environments, made: _Made[T]) -> tuple[list[T], int]:
    """Return what is made of the rows, and the number of bytes that their complete lines take.

    Lines are read many at once, and each by itself where one of them has to be looked at.
    """
    found: list[T] = []
    complete = 0
    end = data.rfind(b"\n") + 1
    environment = None
    decode = typed_decoder(environments)
    with no_collection():
        while complete < end:
            lines = data[complete : data.find(b"\n", min(complete + _AT_ONCE, end - 1)) + 1]
            records = decode(lines)
            if records is not None:
                found += map(made.of_record, records)
                complete += len(lines)
                continue
            for line in lines.splitlines(keepends=True):
                if (single := decode(line)) is not None:
                    found.append(made.of_record(single[0]))
                else:
                    where = f"{path}:{len(found) + 1}"
                    flat = _flat_of(line, where, environments, last=complete + len(line) == len(data))
                    if flat is None:
                        return found, complete
                    if flat["environment"] == environment:
                        flat["environment"] = environment  # earlier versions repeat it in each row: it is kept once
                    environment = flat["environment"]
                    found.append(made.of_flat(flat))
                complete += len(line)
    return found, complete


def _flat_of(line: bytes, where: str, environments: Environments, *, last: bool) -> dict[str, Any] | None:
    """Return the fields of the row of a line; None for the ``last`` one where that is not JSON."""
    try:
        content = _decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        if last and not isinstance(error, RecursionError):
            return None
        raise UsageError(f"{where}: not JSON ({error})", f"repair or remove line {where.rpartition(':')[2]}") from error
    return flat_from_json(content, where, environments)
