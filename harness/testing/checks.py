"""Checks a plugin for ``harness check``: its declaration, then each technique in a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Event
from typing import IO, Final, Literal

from harness.discovery import PluginRecord
from harness.execution.isolation.stacks import ANSWER_S, ASKS, STACK_BYTES, shortened
from harness.testing.declaration import DECLARATION_CHECKS
from harness.testing.told import Mistake

Result = Literal["began", "passed", "failed", "untried"]
BEGAN: Final = "began"

PREPARES: Final = "is_accepted_by_a_workload"
"""The check that makes what cases share, such as a base model, which counts against no limit of the technique."""

PREPARING_S: Final = 600.0
SLACK_S: Final = 60.0
"""Seconds for what the judge does around a technique: preparing content, and the imports of processes."""

CASES: Final = 3
"""The most cases of a check, each of which may take the whole limit."""

TAIL_BYTES: Final = 1 << 14
"""How much of what a process has said is told."""

_PAUSE_S: Final = 0.2

MENDS: Final = {
    "loads": "correct what the cause names; the option -v shows the traceback",
    "states_the_interface_it_speaks": "write that number into the plugin's module, once the plugin is ported to it",
    "describes_itself": "correct the declaration in register_techniques",
    "has_what_it_requires": "install what is missing",
    PREPARES: "the first reason says what the technique does there; it must neither end nor hang its process",
    "can_be_built": "the target takes each declared parameter, and each value of its space",
    "keeps_the_invariants_of_its_contract": "harness show contract {contract} says what every technique must keep",
    "emits_the_declared_metrics": "a case has to end well; the option -v shows the traceback",
}
"""What to do about a failed check whose message does not say it."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of one check of a plugin or technique, and what it said."""

    whose: str
    check: str
    result: Result
    said: str = ""
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process that checks a technique is told, as JSON; ``modules`` are plugins that are not installed.

    It tells what becomes of the checks by ``descriptor``, and where it hangs by ``stacks``.
    """

    technique: str
    modules: Sequence[str]
    cache: str
    limit_s: float
    memory_bytes: int
    descriptor: int = -1
    stacks: int = -1


def declaration_checked(record: PluginRecord) -> Iterator[Checked]:
    """Yield what becomes of each check of a plugin's declaration."""
    for check in DECLARATION_CHECKS:
        try:
            check(record)
        except Mistake as error:
            mend = MENDS.get(check.__name__, "")
            yield Checked(whose=record.name, check=check.__name__, result="failed", said=str(error), mend=mend)
        except subprocess.TimeoutExpired as error:
            said = f"{record.module} takes more than {error.timeout:.0f} s to be imported"
            yield Checked(whose=record.name, check=check.__name__, result="failed", said=said)
        else:
            yield Checked(whose=record.name, check=check.__name__, result="passed")


def techniques_checked(orders: Sequence[tuple[Order, str]], jobs: int) -> Iterator[Checked]:
    """Yield what becomes of the checks of techniques, each with its contract, in their order, ``jobs`` side by side.

    Where the caller stops, the processes that are under way end.
    """
    stop = Event()

    def check(order: Order, contract: str) -> list[Checked]:
        return [*technique_checked(order, contract, stop)]

    with ThreadPoolExecutor(jobs) as pool:
        found = [pool.submit(check, *pair) for pair in orders]
        try:
            for future in found:
                yield from future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def technique_checked(order: Order, contract: str, stop: Event) -> Iterator[Checked]:
    """Yield what becomes of each check of a technique, made in a process that ends with its checks or its limit.

    It ends as well where ``stop`` is set.
    """
    reader, writer = os.pipe()
    order = Order(**{**asdict(order), "descriptor": writer})
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as stacks:
        order = Order(**{**asdict(order), "stacks": stacks.fileno()})
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.testing.checking", json.dumps(asdict(order))],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(writer, stacks.fileno()),
            start_new_session=True,
        )
        os.close(writer)
        try:
            for told in _told(process, reader, order, (said, stacks)):
                if stop.is_set():
                    return
                if told.result != BEGAN:
                    yield _mended(told, contract)
        finally:
            os.close(reader)
            with suppress(ProcessLookupError):  # it has ended, as it should
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _told(
    process: subprocess.Popen[bytes], reader: int, order: Order, files: tuple[IO[bytes], IO[bytes]]
) -> Iterator[Checked]:
    """Yield what the process tells, and now and then that a check goes on.

    Where it ends or exceeds its time in a check, that check has failed. ``files`` have what it says, and its stacks
    where it is asked for them.
    """
    said, stacks = files
    running: Checked | None = None
    deadline = time.monotonic() + SLACK_S
    for line in _lines(process, reader):
        if line:
            told = Checked(**json.loads(line))
            running = told if told.result == BEGAN else None
            deadline = time.monotonic() + (PREPARING_S if told.check == PREPARES else SLACK_S) + CASES * order.limit_s
            yield told
        elif time.monotonic() > deadline:
            break
        elif running:
            yield running
    during = running.check if running else "ends_by_itself"
    ended = process.poll()
    where = ""
    if ended is None:
        reason = f"{during} takes more than {CASES} times {order.limit_s:g} s"
        where = _where(process, stacks)
    elif ended or running:
        reason = f"the process ended in {during} with {_status(ended)}"
    else:
        return
    text = "\n".join(filter(None, [reason, where, _tail(said)]))
    mend = "a technique must neither end its process nor leave the limits: --limit, --memory-limit"
    yield Checked(whose=order.technique, check=during, result="failed", said=text, mend=mend)


def _where(process: subprocess.Popen[bytes], stacks: IO[bytes]) -> str:
    """Ask a process where it hangs, and return the stacks that it writes to a file of their own."""
    with suppress(ProcessLookupError):
        process.send_signal(ASKS)
    with suppress(subprocess.TimeoutExpired):  # it ends only where it takes the signal for its end
        process.wait(ANSWER_S)
    answer = shortened(os.pread(stacks.fileno(), STACK_BYTES, 0))
    return f"Where it hung:\n{answer}" if answer else ""


def _tail(said: IO[bytes]) -> str:
    """Return the end of what a process has said."""
    size = said.seek(0, os.SEEK_END)
    return os.pread(said.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace").strip()


def _lines(process: subprocess.Popen[bytes], reader: int) -> Iterator[str]:
    """Yield the lines that a process writes until it has ended, and an empty text where there is none for a while."""
    rest = b""
    while True:
        ended = process.poll() is not None
        ready, _, _ = select.select([reader], [], [], 0 if ended else _PAUSE_S)
        written = os.read(reader, 1 << 16) if ready else b""
        *lines, rest = (rest + written).split(b"\n")
        yield from (line.decode() for line in lines)
        if not written:
            if ended:
                return
            if ready:  # the end of the pipe, shortly before that of the process
                time.sleep(_PAUSE_S)
            yield ""


def _status(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _mended(told: Checked, contract: str) -> Checked:
    """Return what was told, with the mend of a failed check where it has none."""
    mend = MENDS.get(told.check, "").format(contract=contract) if told.result != "passed" else ""
    return Checked(**{**asdict(told), "mend": told.mend or mend})
