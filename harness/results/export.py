"""Exports stored rows as CSV, JSON or Parquet for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from harness.api import DISTRIBUTION, Row, UsageError, nearest
from harness.results.schema import encode, row_to_json

_STRINGS: Final = ("run", "suite", "workload", "technique", "stage", "lane", "tuned", "params", "settings", "key")
_PROVENANCE: Final = ("reused_from", "device", "plugin_version", "code", "started", "status", "reason", "metric")
_WHOLE: Final = ("suite_version", "workload_version", "seed")

_COMPUTED: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

COLUMNS: Final = (*_STRINGS, *_WHOLE, "form", "perturbed", *_PROVENANCE, "value", "unit")
"""The columns of the long form, in which each record holds one value of one metric (tidy data)."""


def long_form(rows: Iterable[Row], units: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield one record for each metric of each row, with the columns `COLUMNS`.

    A row without metrics, such as that of a failed case, yields one record whose metric is empty and whose value is
    None. ``units`` are those of the metrics by id; one that is not among them has an empty unit. ``tuned``, ``params``
    and ``settings`` are JSON text with sorted keys. A value that isn't finite becomes None.
    """
    for row in rows:
        flat: Mapping[str, Any] = row_to_json(row)
        nested = {name: json.dumps(flat[name], sort_keys=True) for name in ("tuned", "params", "settings")}
        base = {name: flat[name] for name in COLUMNS if name in flat} | nested
        for metric, value in (row.reply.metrics or {"": math.nan}).items():
            record = {"metric": metric, "value": encode(value), "unit": (units or {}).get(metric, "")}
            yield {name: base.get(name) for name in COLUMNS} | record


def to_csv(rows: Iterable[Row], units: Mapping[str, str] | None = None) -> str:
    """Return the long form as CSV with a header line; numbers are written in full, so that none loses precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in long_form(rows, units))
    return text.getvalue()


def _cell(value: object) -> object:
    """Return a value for CSV: a text that a spreadsheet would compute has a quote before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _COMPUTED else value


def to_json(rows: Iterable[Row]) -> str:
    """Return the rows, with everything that is stored of them, as a JSON array; the header of the run has the units."""
    return json.dumps([row_to_json(row) for row in rows], indent=1, allow_nan=False) + "\n"


def write_parquet(rows: Iterable[Row], path: Path, units: Mapping[str, str] | None = None) -> None:
    """Write the long form as a Parquet file; a column of whole numbers beyond 64 bits is written as text.

    Raises `UsageError` where pyarrow isn't installed, and `OSError` where ``path`` can't be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            "parquet needs pyarrow, which is not installed", f"install it: pip install '{DISTRIBUTION}[parquet]'"
        ) from error
    records = [
        {**record, "value": None if record["value"] is None else float(record["value"])}
        for record in long_form(rows, units)
    ]
    large = [name for name in _WHOLE if any(not -(2**63) <= record[name] < 2**63 for record in records)]
    records = [{**record, **{name: str(record[name]) for name in large}} for record in records]
    kinds = {name: pa.int64() for name in _WHOLE if name not in large} | {"value": pa.float64()}
    kinds["perturbed"] = pa.bool_()
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    table = pa.Table.from_pylist(records, schema=schema)
    with path.open("wb") as file:  # pyarrow reads a path as a URI, and refuses one that is not UTF-8
        pq.write_table(table, file)


EXPORTS: Final = ("csv", "json", "parquet")
"""The formats that `export` can write."""


def export(
    rows: Iterable[Row], format_: str, path: Path | None = None, units: Mapping[str, str] | None = None
) -> str | None:
    """Write rows to ``path`` and return None, or return the text where no path is given.

    ``units`` are the units of the metrics by id.

    Raises `UsageError` for an unknown format, for ``parquet`` without a path or without pyarrow, and where ``path``
    can't be written.
    """
    if format_ not in EXPORTS:
        hint = nearest(format_, EXPORTS)
        raise UsageError(f"export format {format_!r}: expected one of {', '.join(EXPORTS)}{hint}")
    if format_ == "parquet" and path is None:
        raise UsageError("parquet is binary and needs a file", "name one: --output results.parquet")
    text = None if format_ == "parquet" else to_csv(rows, units) if format_ == "csv" else to_json(rows)
    if path is None:
        return text
    try:
        if text is None:
            write_parquet(rows, path, units)
        else:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}", "choose another file") from error
    return None
