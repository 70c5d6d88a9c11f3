"""Defines the job of a worker: its case, its task, and the acts and messages of a contestant's turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from harness.api import Case, Limits

THREADS: Final = 1
"""Threads that compute in a case: on busy cores, more threads make small models at least ten times slower."""

Task = Literal["prepare", "check", "trial", "evaluate", "stack", "peaks", "tensor_peak", "contest"]

PEAK_TASKS: Final[tuple[Task, ...]] = ("peaks", "tensor_peak")
"""The passes of the memory lane. The first measures what the system sees, of which a profiler would be a part, and then
the live tensors. Where it cannot tell these as a fresh process would, the second measures them in one."""

Act = Literal["open", "round", "close"]
"""The request to a contestant of a timed block in its turn."""

Message = Mapping[str, Any]
"""One JSON line. From a worker: ``baseline`` (bytes), ``answer`` to a contestant's turn, a ``mark`` where a sample of
a phase begins or ends, or the final ``reply``, and before that the replies of cases that were ``stacked``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one worker process."""

    case: Case
    task: Task
    cache: Path
    limits: Limits
    others: tuple[Case, ...] = ()
    """Other seeds and trials of the same case, to be evaluated together with it; of a trial, the quick form's case."""
    processor: int | None = None
    """The only processor that the worker may use; the worker may use any where this is None."""
    card: str = ""
    """The only GPU that a worker of a GPU sees, by its name for the driver's library; the first where it is empty."""
    keep: Path | None = None
    """The folder of what the case leaves beside its figures."""
    protocol: str = ""
    """The target of the contract's protocol, ``package.module:Name``; members are not checked where it is empty."""

    def message(self) -> Message:
        """Return the job as JSON."""
        return {
            "case": vars(self.case),
            "task": self.task,
            "cache": str(self.cache),
            "limits": vars(self.limits),
            "others": [vars(case) for case in self.others],
            "processor": self.processor,
            "card": self.card,
            "keep": None if self.keep is None else str(self.keep),
            "protocol": self.protocol,
        }

    @classmethod
    def read(cls, message: Message) -> Job:
        """Return the job of a message, the inverse of `message`."""
        return cls(
            case=Case(**message["case"]),
            task=message["task"],
            cache=Path(message["cache"]),
            limits=Limits(**message["limits"]),
            others=tuple(Case(**case) for case in message["others"]),
            processor=message["processor"],
            card=message["card"],
            keep=Path(message["keep"]) if message["keep"] else None,
            protocol=message["protocol"],
        )
