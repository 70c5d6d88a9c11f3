"""Exceptions that cross the border between plugins, judge and host.

.. code-block:: text

    Exception
    ├── HarnessError            an error for the user; exit code 2, no traceback
    │   └── UsageError          the command, a file, an option or a value was wrong (anyone may raise it)
    ├── NotApplicable           a technique or workload has nothing to act on here: the row is ``skipped``
    ├── Unavailable             a technique cannot run on this machine: the row is ``unavailable``
    ├── CannotStack             a workload cannot evaluate these seeds together: they are evaluated one by one
    └── Incorrect               the judge found an output wrong: the row is ``incorrect``
"""

from __future__ import annotations


class HarnessError(Exception):
    """An error for the user: what was wrong, what was expected, what to do next. Exit code 2, no traceback."""

    exit_code: int = 2
    """The exit code of the command that the error ends."""


class UsageError(HarnessError):
    """A wrong command, file, option or value; the message has one line for each of ``problems``."""

    problems: tuple[str, ...]
    """What is wrong, a line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NotApplicable(Exception):
    """An error of a technique or workload that has nothing to act on here; the row is ``skipped`` with the text."""


class Unavailable(Exception):
    """An error of a technique that cannot run on this machine; the row is ``unavailable`` with the text."""


class CannotStack(Exception):
    """An error of a workload that cannot evaluate seeds together; the host evaluates each alone and notes why."""


class Incorrect(Exception):
    """An error of the judge that found an output wrong; the row is ``incorrect`` and has no time."""
