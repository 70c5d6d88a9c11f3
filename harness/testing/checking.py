"""Checks a technique in this process, for ``harness check``, and tells of each check as a line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from harness.api import Limits
from harness.execution.isolation.stacks import answer_with_stacks
from harness.host import Host, load_host
from harness.measure.memory import data_bytes
from harness.testing import techniques
from harness.testing.checks import BEGAN, PREPARES, Checked, Order, Result
from harness.testing.isolated import isolated
from harness.testing.smoke import Bench, one_thread
from harness.testing.told import Mistake, Untried

LINUX: Final = sys.platform == "linux"


class _Teller:
    """Makes checks of one technique and writes what becomes of each to the descriptor of the order."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def tries(self, check: str, act: Callable[[], object]) -> bool:
        """Make a check and return whether it is passed; whatever a technique raises is told as a failure."""
        self._tell(check, BEGAN)
        try:
            act()
        except Mistake as error:
            self._tell(check, "failed", str(error))
        except Untried as error:
            self._tell(check, "untried", str(error))
        except AssertionError as error:
            self._tell(check, "failed", str(error), traceback.format_exc())
        except Exception as error:  # a technique may raise anything
            self._tell(check, "failed", f"{type(error).__name__}: {error}", traceback.format_exc())
        else:
            self._tell(check, "passed")
            return True
        return False

    def _tell(self, check: str, result: Result, *said: str) -> None:
        text = "\n".join(part for part in said if part)
        line = Checked(whose=self._order.technique, check=check, result=result, said=text)
        os.write(self._order.descriptor, (json.dumps(asdict(line)) + "\n").encode())


def carry_out(order: Order) -> None:
    """Make all checks of the technique that the order names."""
    for descriptor in (order.descriptor, order.stacks):
        os.set_inheritable(descriptor, False)
    answer_with_stacks(order.stacks)
    host = load_host(order.modules)
    tell = _Teller(order)
    spec = host.techniques[order.technique].spec
    tell.tries("describes_itself", lambda: techniques.describes_itself(spec))
    if not tell.tries("has_what_it_requires", lambda: techniques.require_able(spec)):
        return
    with tempfile.TemporaryDirectory(prefix="harness-check-") as fallback, one_thread():
        _on_a_workload(order, host, tell, Path(order.cache or fallback))


def _on_a_workload(order: Order, host: Host, tell: _Teller, cache: Path) -> None:
    """Make the checks that need a workload, on the first that accepts the technique."""
    entry = host.techniques[order.technique]
    limits = Limits(time_s=order.limit_s, memory_bytes=order.memory_bytes)
    processes = isolated(host, entry.plugin, entry.spec.contract, cache, limits)
    found: list[Bench] = []

    def find() -> None:
        bench = techniques.first_that_accepts(host, order.technique, cache, processes)
        techniques.require_tried(bench)
        found.append(bench)

    try:
        if tell.tries(PREPARES, find):
            _limit_memory(order.memory_bytes)
            for check in techniques.TECHNIQUE_CHECKS:
                tell.tries(check.__name__, lambda check=check: check(found[0]))  # type: ignore[misc]
    finally:
        processes.close()


def _limit_memory(most: int) -> None:
    """Let allocations of this process fail beyond ``most`` more bytes; cases have limits of their own."""
    if LINUX:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = data_bytes() + most
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    carry_out(Order(**json.loads(sys.argv[1])))
