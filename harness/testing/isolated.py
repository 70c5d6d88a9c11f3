"""Cases of the conformance tests in child processes with a time limit, so that no technique ends or stops the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from harness.api import ExecutorOptions, Limits, Reply, Technique, Unit, WorkloadSpec
from harness.execution.executors.local import LocalExecutor
from harness.host import Host
from harness.requirements import missing_requirements

DEVICE: Final = "cpu"

ENDED: Final = ("crash", "timeout", "oom", "lost")
"""What becomes of a case that did not end by itself; such a technique is not built in the process of the tests."""


class Isolated:
    """A fork server that has imported the techniques of one plugin and the judges of one contract."""

    def __init__(self, options: ExecutorOptions) -> None:
        self._executor = LocalExecutor(options)
        self._kept: dict[tuple[str, str], Reply] = {}

    def reply(self, unit: Unit) -> Reply:
        """Return the reply of a unit of one case, within the time limit."""
        self._executor.submit(unit)
        ((_, (reply,)),) = self._executor.wait()
        return reply

    def once(self, what: str, whose: str, make: Callable[[], Reply]) -> Reply:
        """Return the first reply of a kind for a technique, made where there is none yet."""
        if (what, whose) not in self._kept:
            self._kept[what, whose] = make()
        return self._kept[what, whose]

    def close(self) -> None:
        """End all processes."""
        self._executor.close()


def isolated(host: Host, plugin: str, contract: str, cache: Path, limits: Limits) -> Isolated:
    """Return the processes for a plugin's techniques of one contract; each case within ``limits``."""
    workloads = [entry.spec for entry in host.workloads.values() if entry.spec.contract == contract]
    techniques = [entry.spec for entry in host.techniques.values() if entry.plugin == plugin]
    return Isolated(
        ExecutorOptions(
            jobs=1,
            limits=limits,
            cache=cache,
            preload=_modules(workloads),
            techniques={plugin: _modules(spec for spec in techniques if spec.contract == contract)},
            rounds=1,
            device=DEVICE,
            protocol=host.contracts[contract].spec.protocol,
        )
    )


def _modules(specs: Iterable[Technique | WorkloadSpec]) -> list[str]:
    """Return the modules of the targets whose requirements are installed, and what workloads have imported early."""
    able = [spec for spec in specs if not missing_requirements(spec.requires)]
    early = [module for spec in able if isinstance(spec, WorkloadSpec) for module in spec.preload]
    return list(dict.fromkeys([*(spec.target.partition(":")[0] for spec in able), *early]))
