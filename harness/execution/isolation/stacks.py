"""The stack of a process that hangs: asked for by a signal, written by the process, and shortened for a reader."""

from __future__ import annotations

import faulthandler
import signal
from pathlib import Path
from typing import Final

ASKS: Final = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR1
"""The signal by which a process is asked to write its stacks: where there is, one that programs leave alone."""

ANSWER_S: Final = 0.5
"""Seconds that a process has for its answer before it is killed: it takes milliseconds once it has a processor."""

STACK_BYTES: Final = 1 << 14
"""How much of an answer is read: a hundred frames, which is what a thread writes at most."""

_OWN: Final = f'  File "{Path(__file__).parents[1]}/'
_COMMAND: Final = '  File "<string>"'
"""What the lines of frames begin with that are the harness's own, and of no help to a reader."""


def answer_with_stacks(descriptor: int) -> None:
    """Make this process write the stacks of all its threads to a descriptor when it is asked.

    It does so where the interpreter's lock is held, too: no code of Python is run for it.
    """
    faulthandler.register(ASKS, file=descriptor, all_threads=True)


def shortened(answer: bytes) -> str:
    """Return the stacks in an answer, the innermost frame first, without the harness's own frames at their ends."""
    stacks: list[list[str]] = [[]]
    for line in answer.decode(errors="replace").strip("\0\n ").splitlines():
        if line.strip():
            stacks[-1].append(line)
        else:
            stacks.append([])
    return "\n".join("\n".join(_of_case(stack)) for stack in stacks if stack)


def _of_case(stack: list[str]) -> list[str]:
    """Return the lines of a thread up to the outermost frame that is not the harness's own; all where there is none."""
    places = [place for place, line in enumerate(stack) if not line.startswith((_OWN, _COMMAND))]
    end = 1 + max(places, default=-1)
    return stack[:end] if end > 1 else stack
