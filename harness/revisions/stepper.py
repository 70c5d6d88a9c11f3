"""Times the phases of stored cases at the caller's request; run as a file by the Python of any commit.

This file uses only those parts of the package under test that plugins are written against (`CaseContext`, the
workload's methods, `OpenCase`), so that this file also works with the package of an old commit. The clock's module is
loaded from the caller's file, so that all commits are timed with the same clock. The process is a fork server: the
parent imports modules, and every case runs in a fork of its own.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import importlib.util
import json
import os
import random
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

SLOW = ("torch._dynamo",)
"""Modules whose import takes seconds, and which some cases import only in their first step, as optimisers do."""


def main(control: int, clock: str) -> NoReturn:
    """Serve the caller at the other end of the socket ``control`` until the caller closes the socket.

    ``control`` is the file descriptor of the socket, ``clock`` the path of the file of the clock's module.
    """
    _Stepper(socket.socket(fileno=control), _load(clock)).serve()
    os._exit(0)


def _load(file: str) -> ModuleType:
    """Return the module of a file."""
    spec = importlib.util.spec_from_file_location("callers_clock", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Stepper:
    """The fork server; the server reads no message while a fork serves the caller."""

    def __init__(self, control: socket.socket, clock: ModuleType) -> None:
        self._control = control
        self._lines = control.makefile("rb", buffering=0)
        self._clock = clock

    def serve(self) -> None:
        """Import modules and fork for cases, as the caller asks, until the caller closes the socket."""
        while line := self._lines.readline():
            message = json.loads(line)
            if "import" in message:
                _preload(message["import"])
                self._send({"ready": True})
            elif "open" in message:
                self._fork(message["open"])

    def _fork(self, case: Mapping[str, Any]) -> None:
        """Run a case in a fork, and send the fork's exit status when the fork has ended."""
        pid = os.fork()
        if pid == 0:
            try:
                self._run(case)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        self._send({"ended": os.waitstatus_to_exitcode(status)})

    def _run(self, case: Mapping[str, Any]) -> None:
        """Open a case and take its turns until the caller closes the case or the case fails."""
        try:
            opened = _Case(case, self._clock)
            _pin(case["processor"])
            self._send({"repeats": opened.repeats, "imported": [name for name in SLOW if name in sys.modules]})
            while line := self._lines.readline():
                message = json.loads(line)
                if "turn" not in message:
                    return
                self._send({"samples": opened.turn(message["turn"])})
        except BaseException as error:  # any exception ends the case, and its text is sent to the caller
            self._send({"failed": f"{type(error).__name__}: {error}"})

    def _send(self, message: Mapping[str, object]) -> None:
        """Send a message as a line of JSON."""
        with contextlib.suppress(BrokenPipeError):  # the next read notices that the caller has closed the socket
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _preload(modules: Sequence[str]) -> None:
    """Import modules before the forks, so that no case has to; skip modules whose import fails."""
    for module in ("torch", *modules):
        with contextlib.suppress(BaseException):  # the case that needs the module reports why its import fails
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


class _Case:
    """A stored case: prepared, checked, warmed up and calibrated; ``repeats`` are the calls per turn, by phase."""

    def __init__(self, case: Mapping[str, Any], clock: ModuleType) -> None:
        import torch

        from harness.api import CaseContext

        torch.set_num_threads(1)
        self._clock = clock
        self._device = case["device"]
        workload = _resolve(case["workload_target"])()
        make = _resolve(case["technique_target"])

        def technique() -> Any:
            return make(**copy.deepcopy(case["params"]))  # a technique may change what it is given

        def context() -> CaseContext:
            return CaseContext(
                seed=case["seed"],
                device=self._device,
                settings=copy.deepcopy(case["settings"]),
                cache=Path(case["cache"]),
                phase=clock.PhaseClock(self._device),
            )

        _seed(case["seed"])
        workload.prepare(context())
        _seed(case["seed"])
        workload.check(technique(), context())
        _seed(case["seed"])
        self._phases = workload.open(technique(), context()).phases
        self.repeats: dict[str, int] = {}
        for name, phase in self._phases.items():
            clock.warm_up(phase.run, device=self._device)
            self.repeats[name], _ = clock.calibrate(phase.run, device=self._device)
        gc.collect()
        gc.freeze()
        gc.disable()

    def turn(self, repeats: Mapping[str, int]) -> dict[str, tuple[float, bool]]:
        """Return the seconds per call of each phase, and whether the scheduler interrupted the calls."""
        gc.collect()
        samples = {}
        for name, count in repeats.items():
            run = self._phases[name].run
            if count > 1:
                run()  # refills the processor's caches, which the other sides overwrote: a short phase would show it
            sample = self._clock.take(run, repeats=count, device=self._device)
            samples[name] = sample.seconds, sample.interruptions > 0
        return samples


def _pin(processor: int | None) -> None:
    """Bind this process to a processor, the same for all sides, so that other load slows down all sides alike."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})


def _seed(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _resolve(target: str) -> Any:
    """Return the object that a target ``module:name`` names.

    `harness.api.resolve` does the same, but the harness of an old commit may not have that function.
    """
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
