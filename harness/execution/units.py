"""What executors have in common where they evaluate several seeds of a case together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.api import Limits, Reply


def multiplied(limits: Limits, cases: int) -> Limits:
    """The limits of one case, for so many at once."""
    memory = None if limits.memory_bytes is None else limits.memory_bytes * cases
    return Limits(time_s=limits.time_s * cases, memory_bytes=memory)


def share_out(replies: Sequence[Reply], together: Reply) -> list[Reply]:
    """Each reply with its share of the seconds that all took ``together``."""
    wall, cpu = together.wall_s / len(replies), together.cpu_s / len(replies)
    return [replace(reply, wall_s=wall, cpu_s=cpu, load=together.load) for reply in replies]


def evaluated_alone(reply: Reply, together: Reply) -> Reply:
    """The reply of a seed on its own, with the reason why it was not evaluated with the others."""
    return replace(reply, notes=(*reply.notes, f"evaluated alone: {together.reason or together.status}"))
