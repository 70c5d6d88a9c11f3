"""A workload and techniques that do one known thing each, or die in one known way."""

from __future__ import annotations

import ctypes
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import torch

from harness.api import CannotStack, Incorrect, NotApplicable, OpenCase, Outcome, Phase, Unavailable
from harness.measure.unforeseen import random_bits

MIB = 1 << 20


class Toy:
    """The workload: whatever the technique does is what happens."""

    def prepare(self, context):
        (context.cache / "prepared").write_text(f"{context.seed}")

    def evaluate(self, technique, context):
        with context.phase("init"):
            result = technique.act(context)
        return result if isinstance(result, Outcome) else Outcome(metrics={"score": float(result or 0.0)})

    def open(self, technique, context):
        with context.phase("init"):
            technique.build()
        return OpenCase(
            phases={
                "train": Phase(run=technique.train, samples=8, verify=getattr(technique, "verify", None)),
                "infer": Phase(run=technique.infer, samples=4),
            },
            probes={"part": Phase(run=technique.part, samples=1)} if hasattr(technique, "part") else {},
            figures=getattr(technique, "figures", None),
        )

    def check(self, technique, context):
        if getattr(technique, "wrong", False):
            raise Incorrect("its output differs by 3")


class Technique:
    """Does nothing; the parameters become attributes."""

    def __init__(self, **params):
        vars(self).update(params)

    def act(self, context):
        return 0.0

    def build(self):
        pass

    def train(self):
        time.sleep(0.0005)

    def infer(self):
        time.sleep(0.0005)


class Seeded(Technique):
    def act(self, context):
        import numpy as np

        return Outcome(
            metrics={"torch": float(torch.rand(())), "numpy": np.random.rand(), "python": random.random()},
            series={"loss": [3.0, 2.0, 1.0]},
            notes=[f"lr {context.settings['lr']}", f"threads {torch.get_num_threads()}"],
        )


class Raises(Technique):
    def act(self, context):
        sys.stdout.write("on the way\n")
        raise {
            "value": ValueError("seven\nlines"),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "skip": NotApplicable("no norm layers"),
            "unavailable": Unavailable("OSError: no such library"),
            "incorrect": Incorrect("off by one"),
            "memory": MemoryError("none left"),
            "torch-memory": torch.OutOfMemoryError("CUDA out of memory."),
        }[self.what]


class Grows(Technique):
    """Adds to the list that it is given, and refuses a list to which somebody has added before."""

    def __init__(self, **params):
        super().__init__(**params)
        self.steps.append(0)

    def act(self, context):
        context.settings["rates"].append(0.1)
        return len(self.steps) + len(context.settings["rates"])

    def build(self):
        if len(self.steps) != 2:
            raise ValueError(f"steps {self.steps}")


class Imports(Technique):
    def act(self, context):
        for name in [*(f"late.{number}" for number in range(self.modules)), "late", getattr(self, "last", "later")]:
            sys.modules[name] = ModuleType(name)


class Grown(Technique):
    """Takes as much memory as its data say."""

    def train(self):
        return torch.zeros(1 + random_bits(16))


class Recurses(Technique):
    def act(self, context):
        return self.act(context)


class NotANumber(Technique):
    def act(self, context):
        return Outcome(metrics={"score": math.nan, "loss": 1.0}, series={"loss": [2.0, 1.0, math.inf, 0.0]})


class Signals(Technique):
    def act(self, context):
        if self.number == signal.SIGSEGV:
            ctypes.string_at(0)
        os.kill(os.getpid(), self.number)


class Exits(Technique):
    def act(self, context):
        os.write(2, b"last words\n")
        os._exit(3)


class Hangs(Technique):
    def act(self, context):
        while True:
            time.sleep(1)


class Waits(Technique):
    """Waits for a file."""

    def act(self, context):
        while not Path(self.file).exists():
            time.sleep(0.01)


class HoldsTheLock(Technique):
    """Never gives the interpreter lock back, so that no Python code in this process runs any more."""

    def act(self, context):
        if self.how == "regex":
            re.match(r"(a+)+$", "a" * 64 + "b")
        ctypes.PyDLL(None).sleep(1000)


class Ignores(Technique):
    """Blocks and ignores all it may."""

    def act(self, context):
        everything = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
        for number in everything:
            if number < signal.SIGRTMIN:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        while True:
            time.sleep(1)


class Begets(Technique):
    """Leaves a process behind, in its own session where ``flees``, and writes down its id.

    Where ``unmarked``, nothing in the environment of that process tells where it comes from.
    """

    def act(self, context):
        environment = {} if getattr(self, "unmarked", False) else None
        command = [sys.executable, "-c", "import time; time.sleep(1000)"]
        child = subprocess.Popen(command, start_new_session=self.flees, env=environment)
        Path(self.file).write_text(str(child.pid))
        if self.then == "hang":
            ctypes.PyDLL(None).sleep(1000)


class Allocates(Technique):
    def act(self, context):
        if self.how == "torch":
            held = torch.ones(self.mib * MIB // 4)
        elif self.how == "bytes":
            held = bytearray(self.mib * MIB)
        else:  # pages that RLIMIT_DATA does not count
            import mmap

            held = mmap.mmap(-1, self.mib * MIB)
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
        time.sleep(self.hold_s)
        return float(len(held))


class Holds(Technique):
    """Keeps ``mib`` MiB from its build on, and takes ``extra`` MiB more in each training step."""

    def build(self):
        self.held = torch.ones(self.mib * MIB // 4)
        self.model = torch.nn.Linear(64, 64)
        self.optimiser = torch.optim.AdamW(self.model.parameters())

    def train(self):
        more = torch.ones(self.extra * MIB // 4)
        self.optimiser.zero_grad()
        self.model(torch.ones(8, 64)).sum().backward()
        self.optimiser.step()
        return float(more[0])

    def infer(self):
        with torch.no_grad():
            self.model(torch.ones(8, 64))


class Keeps(Holds):
    """Makes a table of ``mib`` MiB in the first build of a process only."""

    tables: ClassVar[list[torch.Tensor]] = []

    def build(self):
        size, self.mib = self.mib, 0
        super().build()
        if not self.tables:
            self.tables.append(torch.ones(size * MIB // 4))


class Sleeps(Technique):
    """A step that takes ``ms`` milliseconds; an initialisation that takes ten times that."""

    def build(self):
        time.sleep(self.ms / 100)

    def train(self):
        time.sleep(self.ms / 1000)

    infer = train


class Parted(Sleeps):
    """Has a part that takes a quarter of its step, tells the share of rounds that are so; or says ``instead``."""

    def part(self):
        time.sleep(self.ms / 4000)

    def figures(self, seconds):
        rounds = list(zip(seconds["train"], seconds["part"], strict=True))
        share = sum(1000 * train >= self.ms and 4000 * part >= self.ms for train, part in rounds) / len(rounds)
        return {"share": getattr(self, "instead", share)}


class Pinned(Sleeps):
    """Tells on which processors it may run."""

    def figures(self, seconds):
        return {"processors": len(os.sched_getaffinity(0)), "first": min(os.sched_getaffinity(0))}


class Logs(Technique):
    """Writes its name into a file at every training step."""

    def train(self):
        with Path(self.file).open("a") as file:
            file.write(self.name)
        time.sleep(0.004)


class Mortal(Technique):
    """Ends in its n-th training step."""

    steps = 0

    def train(self):
        self.steps += 1
        if self.steps > self.lives:
            os._exit(9) if self.hard else {}["gone"]
        time.sleep(0.004)


class Stacking(Toy):
    """Evaluates seeds together, unless a technique refuses; what happens to one alone happens to all."""

    def evaluate_stacked(self, techniques, context_of_each):
        if any(getattr(technique, "apart", False) for technique in techniques):
            raise CannotStack("its seeds must be kept apart")
        with context_of_each[0].phase("train"):
            return [
                self.evaluate(technique, context)
                for technique, context in zip(techniques, context_of_each, strict=True)
            ]


class TellsItsSeed(Technique):
    """Scores its seed; dies, or raises, on one of them."""

    def act(self, context):
        if context.seed == getattr(self, "dies_on", None):
            os._exit(3)
        if context.seed == getattr(self, "raises_on", None):
            raise ValueError("this seed is unlucky")
        time.sleep(getattr(self, "sleep_s", 0.0))
        return float(context.seed)
