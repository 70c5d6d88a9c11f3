"""Steps the phases of stored cases when told to; run as a file by the Python of any commit.

Of the package under test it uses what a plugin is written against and nothing else (`CaseContext`, the workload's
methods, `OpenCase`), so that the process of an old commit understands the same words. The clock is the caller's, by its
file: both commits are timed with the same one. Every case gets a fork of its own, while the parent only imports.
"""

from __future__ import annotations

import contextlib
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
"""What some cases import only when they step (the first step of an optimiser does), and which takes seconds."""


def main(control: int, clock: str) -> NoReturn:
    """Obey the caller at the other end of the socket ``control`` until it closes."""
    _Stepper(socket.socket(fileno=control), _load(clock)).serve()
    os._exit(0)


def _load(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("callers_clock", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Stepper:
    """The loop of the process that imports; it reads nothing while a fork of it converses with the caller."""

    def __init__(self, control: socket.socket, clock: ModuleType) -> None:
        self._control = control
        self._words = control.makefile("rb", buffering=0)
        self._clock = clock

    def serve(self) -> None:
        while line := self._words.readline():
            message = json.loads(line)
            if "import" in message:
                _preload(message["import"])
                self._say({"ready": True})
            elif "open" in message:
                self._fork(message["open"])

    def _fork(self, case: Mapping[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self._converse(case)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        self._say({"ended": os.waitstatus_to_exitcode(status)})

    def _converse(self, case: Mapping[str, Any]) -> None:
        """Open a case, take its turns, and leave when told to, or when it fails."""
        try:
            stepped = _Case(case, self._clock)
            _pin(case["processor"])
            self._say({"repeats": stepped.repeats, "imported": [name for name in SLOW if name in sys.modules]})
            while line := self._words.readline():
                message = json.loads(line)
                if "turn" not in message:
                    return
                self._say({"samples": stepped.turn(message["turn"])})
        except BaseException as error:  # whatever a case raises ends the case, and is told
            self._say({"failed": f"{type(error).__name__}: {error}"})

    def _say(self, message: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # its end is then read as well
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _preload(modules: Sequence[str]) -> None:
    for module in ("torch", *modules):
        with contextlib.suppress(Exception):  # the case that needs it says why it cannot be imported
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


class _Case:
    """A stored case, built and warm."""

    def __init__(self, case: Mapping[str, Any], clock: ModuleType) -> None:
        import torch

        from harness.api import CaseContext

        torch.set_num_threads(1)
        self._clock = clock
        self._device = case["device"]
        workload = _resolve(case["workload_target"])()
        context = CaseContext(
            seed=case["seed"],
            device=self._device,
            settings=case["settings"],
            cache=Path(case["cache"]),
            phase=clock.PhaseClock(self._device),
        )
        make = _resolve(case["technique_target"])
        _seed(case["seed"])
        workload.prepare(context)
        _seed(case["seed"])
        workload.check(make(**case["params"]), context)
        _seed(case["seed"])
        self._phases = workload.open(make(**case["params"]), context).phases
        self.repeats: dict[str, int] = {}
        for name, phase in self._phases.items():
            clock.warm_up(phase.run, device=self._device)
            self.repeats[name], _ = clock.calibrate(phase.run, device=self._device)
        gc.collect()
        gc.freeze()
        gc.disable()

    def turn(self, repeats: Mapping[str, int]) -> dict[str, tuple[float, bool]]:
        """Seconds a call of each phase, and whether the scheduler interrupted it."""
        gc.collect()
        samples = {}
        for name, count in repeats.items():
            run = self._phases[name].run
            if count > 1:
                run()  # the others have emptied the caches, which a short phase would feel
            sample = self._clock.take(run, repeats=count, device=self._device)
            samples[name] = sample.seconds, sample.interruptions > 0
        return samples


def _pin(processor: int | None) -> None:
    """Stay on one processor, the same for all sides: another's neighbours would slow down one side alone."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})


def _seed(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


# Not `harness.api.resolve`: the api imported here is that of an old commit, which may not have it.
def _resolve(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
