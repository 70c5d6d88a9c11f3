"""Reads the files of a run: their bytes, and the rows up to an incomplete last line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.api import Row, UsageError
from harness.collecting import no_collection
from harness.results.environments import Environments
from harness.results.schema import flat_from_json, row_of
from harness.results.typed import typed_decoder

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
    with no_collection():
        flats, complete = read_flat(data, path, environments)
        return [row_of(flat) for flat in flats], complete


def read_flat(data: bytes, path: Path, environments: Environments) -> tuple[list[dict[str, Any]], int]:
    """Return the fields of each row by name, and the number of bytes, as `read_rows` does."""
    flats: list[dict[str, Any]] = []
    complete = 0
    environment = None
    decode = typed_decoder(environments)
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        last = complete + len(line) == len(data)
        if last and not line.endswith(b"\n"):
            break
        flat = decode(line) or _flat_of(line, f"{path}:{number}", environments, last=last)
        if flat is None:
            break
        if flat["environment"] is not environment:
            if flat["environment"] == environment:
                flat["environment"] = environment  # earlier versions repeat it in each row: it is kept once
            environment = flat["environment"]
        flats.append(flat)
        complete += len(line)
    return flats, complete


def _flat_of(line: bytes, where: str, environments: Environments, *, last: bool) -> dict[str, Any] | None:
    """Return the fields of the row of a line; None for the ``last`` one where that is not JSON."""
    try:
        content = _decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        if last and not isinstance(error, RecursionError):
            return None
        raise UsageError(f"{where}: not JSON ({error})", f"repair or remove line {where.rpartition(':')[2]}") from error
    return flat_from_json(content, where, environments)
