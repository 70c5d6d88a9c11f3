"""Exceptions that cross the border between plugins, judge and host.

.. code-block:: text

    Exception
    ├── HarnessError            an error for a person; exit code 2, no traceback
    │   └── UsageError          the command, a file, an option or a value was wrong (anyone may raise it)
    ├── NotApplicable           a technique or workload has nothing to act on here: the row is ``skipped``
    ├── Unavailable             a technique cannot run on this machine: the row is ``unavailable``
    ├── CannotStack             a workload cannot evaluate these seeds together: they are evaluated one by one
    └── Incorrect               the judge found an output wrong: the row is ``incorrect``
"""

from __future__ import annotations


class HarnessError(Exception):
    """An error for a person: what was wrong, what was expected, what to do next. Exit code 2, no traceback."""

    exit_code: int = 2


class UsageError(HarnessError):
    """The command, a file or an option was wrong; one line an error, all errors at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NotApplicable(Exception):
    """Raised by a technique or a workload that has nothing to act on here; the row is ``skipped`` with the text."""


class Unavailable(Exception):
    """Raised by a technique that cannot run here, in the library's or the machine's own words: ``unavailable``."""


class CannotStack(Exception):
    """Raised by a workload where seeds have to be evaluated one by one; that is then done, and the rows say why."""


class Incorrect(Exception):
    """Raised by the judge when an output is wrong; the row is ``incorrect`` and carries no time."""
