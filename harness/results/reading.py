"""Reads the files of a run: their bytes, and the rows up to an incomplete last line."""

from __future__ import annotations

import json
from pathlib import Path

from harness.api import Row, UsageError
from harness.results.environments import Environments
from harness.results.schema import row_from_json


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

    ``environments`` are those that the rows refer to.
    A power failure may leave an incomplete last line, which is left out. Raises `UsageError` at any other line that is
    not a row.
    """
    rows: list[Row] = []
    complete = 0
    environment = None
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        where = f"{path}:{number}"
        last = complete + len(line) == len(data)
        if last and not line.endswith(b"\n"):
            break
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            if last and not isinstance(error, RecursionError):
                break
            raise UsageError(f"{where}: not JSON ({error})", f"repair or remove line {number}") from error
        if isinstance(content, dict) and content.get("environment") == environment:
            content["environment"] = environment  # earlier versions repeat it in each row: equal ones are kept once
        rows.append(row_from_json(content, where, environments))
        environment = rows[-1].environment
        complete += len(line)
    return rows, complete
