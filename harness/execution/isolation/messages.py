"""What passes between runner and worker: one job, then JSON lines both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from harness.api import Case, Limits, Reply

Task = Literal["prepare", "evaluate", "stack", "process_peak", "tensor_peak", "contest"]

Act = Literal["open", "round", "close"]
"""What a contestant of a timed block is asked in its turn."""

Message = Mapping[str, Any]
"""One JSON line. From a worker: ``baseline`` (bytes), ``answer`` to a contestant's turn, or the final ``reply``, and
before that the replies of cases that were ``stacked``."""

PHASE_BYTES: Final = 64
"""The head of a worker's output file, where it notes the phase it is in: read only when somebody asks."""


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
        """The job as JSON."""
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
        """The inverse of `message`."""
        return cls(
            case=Case(**message["case"]),
            task=message["task"],
            cache=Path(message["cache"]),
            limits=Limits(**message["limits"]),
            others=tuple(Case(**case) for case in message["others"]),
            processor=message["processor"],
            protocol=message["protocol"],
        )


def encode(message: Message) -> bytes:
    """One line of JSON."""
    return json.dumps(message, default=dict).encode() + b"\n"


def encode_reply(reply: Reply) -> bytes:
    """The final line of a worker."""
    return encode({"reply": vars(reply)})


def encode_stacked(replies: Sequence[Reply]) -> bytes:
    """The replies of cases that were evaluated together."""
    return encode({"stacked": [vars(reply) for reply in replies]})


def read_reply(message: Message) -> Reply:
    """The reply in a worker's final line."""
    return Reply(**message["reply"])


@dataclass(kw_only=True)
class Lines:
    """Puts a stream back together into messages; an unfinished line waits for its rest."""

    rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes."""
        self.rest += data
        *lines, rest = self.rest.split(b"\n")
        self.rest = bytearray(rest)
        return [json.loads(line) for line in lines]
