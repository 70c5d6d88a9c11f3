"""Refuses models whose weights alone are more than the memory that is free, before anything is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from harness.api import Case, UsageError
from harness.measure.memory import available_bytes

LONGEST: Final = 100_000_000
"""The most bytes of a header, as the format has it."""


def require_room(cases: Iterable[Case]) -> None:
    """Raise UsageError for a model of the user's own whose stored weights do not fit into the free memory."""
    folders = {str(case.settings.get("model", "")) for case in cases if case.device == "cpu"} - {""}
    free = available_bytes()
    problems = []
    for folder in sorted(folders):
        size = stored_bytes(Path(folder))
        if size > free:
            problems.append(
                f"--model {folder!r}: its weights take {size / 2**30:.2g} GiB, and {free / 2**30:.2g} GiB are free; "
                "take a smaller model, or a machine with more memory"
            )
    if problems:
        raise UsageError(*problems)


def stored_bytes(folder: Path) -> int:
    """Return the bytes of all tensors in the files of a folder, by their headers; 0 where there are none to be read."""
    return sum(map(_of_file, sorted(folder.glob("*.safetensors")))) if folder.is_dir() else 0


def _of_file(path: Path) -> int:
    """Return the bytes of the tensors in a file of safetensors, which begins with the length of a header in JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, LONGEST)))
        spans = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
        return sum(int(end) - int(start) for start, end in spans)
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return 0  # transformers says what is wrong with it
