"""Finds suite files and reads their tables."""

from __future__ import annotations

import reprlib
import tomllib
from pathlib import Path
from typing import Any

from harness.api import Form, UsageError
from harness.host import Host


def find_suite(name: str, host: Host) -> Path:
    """Return the file of a suite given by id, short name or path; raise UsageError where there is none."""
    if name.endswith(".toml") or ("/" in name and name not in host.declared.suites):
        path = Path(name)
        try:
            if path.is_file():
                return path
        except OSError as error:  # the name is too long, or of a folder that may not be looked at
            raise UsageError(f"suite file {reprlib.repr(name)}: cannot be read: {error.strerror}") from error
        raise UsageError(f"no suite file {name!r} in {Path.cwd()}; harness list suites shows the ones that ship")
    return host.declared.suites[host.resolve("suites", name)].spec


def has_form(name: str, host: Host, form: Form) -> bool:
    """Return whether a suite has a table for a form; raise UsageError where the suite cannot be read.

    What is learned of a user's own model and data is not tracked over commits.
    """
    if form == "full":
        return True
    table = parse(find_suite(name, host))
    return form in table and not (form == "track" and "source" in table)


def parse(path: Path) -> dict[str, Any]:
    """Return the table of a suite file. Raises UsageError where it cannot be read, or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:  # also of a number of thousands of digits, or as many brackets
        raise UsageError(f"{path}: not valid TOML: {str(error).partition(';')[0]}") from error
