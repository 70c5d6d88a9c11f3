"""What a worker is to do with a case: the job, its task, and what is asked of it turn by turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.api import Case, Limits

Task = Literal["prepare", "check", "evaluate", "stack", "process_peak", "tensor_peak", "contest"]

Act = Literal["open", "round", "close"]
"""What a contestant of a timed block is asked in its turn."""

Message = Mapping[str, Any]
"""One JSON line. From a worker: ``baseline`` (bytes), ``answer`` to a contestant's turn, a ``mark`` where a sample of
a phase begins or ends, or the final ``reply``, and before that the replies of cases that were ``stacked``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker process is to do."""

    case: Case
    task: Task
    cache: Path
    limits: Limits
    others: tuple[Case, ...] = ()
    """Other seeds and trials of the same case, to be evaluated together with it."""
    processor: int | None = None
    """The only one that the worker is to use; any where it is None."""
    protocol: str = ""
    """Where the protocol of the contract lies, ``package.module:Name``; not checked where it is empty."""

    def message(self) -> Message:
        """Return the job as JSON."""
        return {
            "case": vars(self.case),
            "task": self.task,
            "cache": str(self.cache),
            "limits": vars(self.limits),
            "others": [vars(case) for case in self.others],
            "processor": self.processor,
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
            protocol=message["protocol"],
        )
