"""What the toy plugin's techniques and workloads are, once a case imports them."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from harness.api import CaseContext, Incorrect, NotApplicable, OpenCase, Outcome, Phase, UsageError


class ToyTechnique(Protocol):
    """Has a shift."""

    behaviour: str
    shift: float

    def apply(self) -> float:
        """The shift."""


class Toy:
    """Behaves as its name says when it is applied."""

    def __init__(self, behaviour: str = "good", shift: float = 0.0) -> None:
        if not -100 <= shift <= 100:
            raise UsageError(f"shift {shift}: expected -100 to 100")
        self.behaviour = behaviour
        self.shift = shift

    def apply(self) -> float:
        """Misbehave, or return the shift."""
        match self.behaviour:
            case "raises":
                raise ValueError("a toy that raises")
            case "segfaults":
                ctypes.string_at(0)
            case "exits":
                os._exit(3)
            case "hangs":
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                    signal.signal(number, signal.SIG_IGN)
                ctypes.PyDLL(None).usleep(ctypes.c_uint(3_600_000_000))  # keeps the interpreter's lock
            case "eats-memory":
                hoard = []
                while True:
                    hoard.append(torch.ones(2**22))
            case "nan":
                return float("nan")
            case "wrong":
                raise Incorrect("off by 3 at shape (2, 2)")
            case "not-applicable":
                raise NotApplicable("nothing to act on")
        return self.shift


class Formula:
    """Score = 80 + shift + noise of the seed, best at lr 0.2."""

    def check_settings(self, settings: Mapping[str, float]) -> None:
        """A learning rate is positive."""
        if settings["lr"] <= 0:
            raise UsageError(f"lr {settings['lr']}: expected more than 0")

    def prepare(self, context: CaseContext) -> None:
        """Nothing is shared."""

    def evaluate(self, technique: Toy, context: CaseContext) -> Outcome:
        """Compute the score."""
        time.sleep(float(context.settings["sleep_s"]))
        noise = random.Random(f"{context.seed}").gauss(0, 0.1)
        own = random.Random(f"{context.seed} {technique.behaviour}").gauss(0, 0.1)
        score = 80 + technique.apply() + noise + own - 100 * (float(context.settings["lr"]) - 0.2) ** 2
        return Outcome(metrics={"toy_score": score, "toy_val_score": score - 1})

    def open(self, technique: Toy, context: CaseContext) -> OpenCase:
        """A matrix product a step; where the environment names a gate, the trial waits until that file is there."""
        while (gate := os.environ.get("TOY_GATE")) and not Path(gate).exists():
            time.sleep(0.02)
        with context.phase("init"):
            technique.apply()
        weight = torch.ones(64, 64)
        return OpenCase(
            phases={
                "train": Phase(run=lambda: weight @ weight @ weight, samples=64),
                "infer": Phase(run=lambda: weight @ weight, samples=64),
            }
        )

    def check(self, technique: Toy, context: CaseContext) -> None:
        """No invariant."""


class Unprepared(Formula):
    """Its base model cannot be made, unless the environment says that the data is there."""

    def prepare(self, context: CaseContext) -> None:
        """Fail."""
        if "TOY_DATA" not in os.environ:
            raise OSError("the data is not there")
