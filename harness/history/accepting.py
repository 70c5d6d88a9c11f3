"""Adds an accepted change to ``harness-history.toml`` without touching what people wrote there."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.history.decisions import FILE, Accepted, Decisions, parse
from harness.results.locks import hold

_HEADING: Final = """\
# What this project decided about its history: docs/history.md of Harness explains each key.
"""


def accept(folder: Path, entry: Accepted) -> Path:
    """Append an entry to the file in a folder, which is made as needed, and return the file.

    The file is replaced in one step, and every character that it had is kept. Raises UsageError where the file is wrong
    already, where it has this entry, and where it cannot be written.
    """
    file = (folder / FILE).resolve()
    with ExitStack() as held:  # so that two at once append one after the other
        hold(held, file.parent)
        _append(file, entry)
    return file


def _append(file: Path, entry: Accepted) -> None:
    """Append an entry to the file, as `accept` does."""
    try:
        before = file.read_bytes().decode("utf-8") if file.is_file() else _HEADING
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "repair the file, or remove it") from error
    known = parse(before, str(file))
    if same := [other for other in known.accepted if _series(other) == _series(entry)]:
        raise UsageError(
            f"{file}: this change is accepted already: {same[0].note}", "edit the file to change the entry"
        )
    newline = "\r\n" if "\r\n" in before else "\n"
    gap = newline if before.endswith("\n") or not before else 2 * newline
    text = before + gap + newline.join([*_lines(entry), ""])
    _check(text, known, entry, file)
    _replace(file, text)


def _series(entry: Accepted) -> tuple[str, ...]:
    return (entry.suite, entry.technique, entry.workload, entry.metric, entry.commit)


def _lines(entry: Accepted) -> list[str]:
    """Return the lines of an entry in TOML; a key that says nothing is left out."""
    texts = {
        key: getattr(entry, key)
        for key in ("suite", "technique", "workload", "metric", "commit", "reason", "author")
    }  # fmt: skip
    lines = ["[[accepted]]", *(f"{key} = {toml_string(text)}" for key, text in texts.items() if text != "*")]
    lines += [f"until = {entry.until.isoformat()}"] if entry.until else []
    lines += [f"limit = {entry.limit:.4g}"] if entry.limit is not None else []
    return lines


def toml_string(text: str) -> str:
    """Return a text as a string of TOML, which escapes as JSON does, and one more character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check(text: str, known: Decisions, entry: Accepted, file: Path) -> None:
    """Raise UsageError unless a text has the known entries and the new one: nothing that somebody wrote may be lost."""
    try:
        added = parse(text, str(file)).accepted
    except UsageError as error:  # as where the file has its entries in another form of TOML
        raise UsageError(
            f"{file}: an entry cannot be appended: {error.problems[0]}", "write each as [[accepted]]"
        ) from error
    assert added[:-1] == known.accepted
    assert _series(added[-1]) == _series(entry)


def _replace(file: Path, text: str) -> None:
    """Write a file in one step, with the permissions that it had."""
    draft = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=file.parent, prefix=f".{FILE}.", delete=False) as written:
            draft = Path(written.name)
            written.write(text.encode("utf-8"))
            written.flush()
            os.fsync(written.fileno())
        draft.chmod(file.stat().st_mode & 0o7777 if file.is_file() else 0o644)
        draft.replace(file)
    except OSError as error:
        if draft is not None:
            with suppress(OSError):
                draft.unlink()
        raise UsageError(f"{file} cannot be written: {error.strerror or error}", "check the folder's rights") from error
