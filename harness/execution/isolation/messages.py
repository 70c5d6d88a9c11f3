"""How messages pass between runner and worker: JSON lines both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.api import Reply
from harness.execution.job import Message

PHASE_BYTES: Final = 64
"""The head of a worker's output file, where it notes the phase it is in: read only when somebody asks."""


def encode(message: Message) -> bytes:
    """Return a message as one line of JSON."""
    return json.dumps(message, default=dict).encode() + b"\n"


def encode_reply(reply: Reply) -> bytes:
    """Return the final line of a worker."""
    return encode({"reply": vars(reply)})


def encode_stacked(replies: Sequence[Reply]) -> bytes:
    """Return the line with the replies of cases that were evaluated together."""
    return encode({"stacked": [vars(reply) for reply in replies]})


def read_reply(message: Message) -> Reply:
    """Return the reply in a worker's final line."""
    return Reply(**message["reply"])


@dataclass(kw_only=True)
class Lines:
    """Puts a stream back together into messages; an unfinished line waits for its rest."""

    rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that ``data`` completes."""
        self.rest += data
        *lines, rest = self.rest.split(b"\n")
        self.rest = bytearray(rest)
        return [json.loads(line) for line in lines]
