"""Techniques that say what no worker says, or harm the processes and the machine around them."""

from __future__ import annotations

import math
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import torch
from toys import Technique, Toy

from harness.api import OpenCase, Outcome, Phase
from harness.execution.isolation.stacks import ASKS


def channels():
    """Return the sockets of this process: the worker's channel to the runner."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISSOCK(os.fstat(int(path.name)).st_mode):
                found.append(int(path.name))
        except OSError:
            continue
    return found


class Says(Technique):
    """Writes ``text`` to its channel, and ends at once where ``ends``."""

    def say(self):
        for descriptor in channels():
            os.write(descriptor, self.text.encode() + b"\n")
        if getattr(self, "ends", False):
            os._exit(0)

    def act(self, context):
        self.say()
        return 1.0


class SaysInItsTurn(Says):
    """Writes ``text`` to its channel in its training step."""

    def train(self):
        self.say()
        time.sleep(0.001)


class ForksAndReturns(Technique):
    """Forks, and both processes return a long result."""

    def act(self, context):
        os.fork()
        return Outcome(metrics={"score": 1.0}, series={"loss": [0.123456789] * 100_000})


class DiesLater(Technique):
    """Dies ``after`` seconds from its build, whoever has the turn then."""

    def build(self):
        threading.Timer(self.after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    def train(self):
        time.sleep(0.02)

    infer = train


class KillsItsParent(Technique):
    """Kills the fork server, in its evaluation or in its training step; once only where there is a ``file``."""

    def kill(self):
        path = getattr(self, "file", None)
        if path and Path(path).exists():
            return
        if path:
            Path(path).touch()
        os.kill(os.getppid(), getattr(self, "number", signal.SIGKILL))
        time.sleep(1)

    def act(self, context):
        self.kill()

    def train(self):
        self.kill()
        time.sleep(0.001)


class StopsItsParent(Technique):
    """Stops the fork server, then goes on as if nothing were."""

    def act(self, context):
        os.kill(os.getppid(), signal.SIGSTOP)


class RemovesTemporary(Technique):
    """Removes the folder for temporary files."""

    def act(self, context):
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)  # never that of the machine


class Spams(Technique):
    """Writes ``mib`` MiB to its output, waits until the runner has dropped them, and writes a last word."""

    def act(self, context):
        for _ in range(self.mib):
            os.write(1, b"spam" * (1 << 18))
        while os.fstat(1).st_size >= self.mib << 20:
            time.sleep(0.01)
        os.write(1, b"the last word")
        raise ValueError("enough")


class AllocatesElsewhere(Technique):
    """Has a process that left its group, and its parents, hold ``mib`` MiB for an hour."""

    def act(self, context):
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            import mmap

            held = mmap.mmap(-1, self.mib << 20)
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
            time.sleep(3600)
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(3600)


class CannotSay(Exception):
    """An exception without a text."""

    def __str__(self):
        raise ValueError("no text for you")


class RaisesWithoutText(Technique):
    def act(self, context):
        raise CannotSay


class Gives(Technique):
    """Returns an outcome of these parts."""

    def act(self, context):
        return Outcome(metrics={"score": 1.0}, **{name: part() for name, part in PARTS[self.what].items()})


PARTS = {
    "a number among the notes": {"notes": lambda: [1, "text"]},
    "an object among the notes": {"notes": lambda: [object()]},
    "no notes": {"notes": lambda: None},
    "long notes": {"notes": lambda: ["n" * 5_000_000]},
    "many notes": {"notes": lambda: [f"note {number}" for number in range(5000)]},
    "a long series": {"series": lambda: {"loss": [0.1] * 2_000_000}},
    "no series": {"series": lambda: [0.1]},
    "a name that is no text": {"series": lambda: {1: [0.1]}},
}


class RaisesAtLength(Technique):
    def act(self, context):
        raise ValueError("y" * 10_000_000)


class Scores(Technique):
    """Scores what it is given."""

    def act(self, context):
        scores = {"text": "87.5", "truth": True, "complex": 1 + 2j, "huge": 10**400, "none": None}
        return Outcome(metrics={"score": torch.ones(()) if self.what == "tensor" else scores[self.what]})


class Counts(Toy):
    """A workload whose training step counts as many samples as its technique says."""

    def open(self, technique, context):
        opened = super().open(technique, context)
        samples = {"text": "64", "none": None, "zero": 0, "less": -3, "nan": math.nan, "many": 2}[technique.what]
        return OpenCase(phases={name: Phase(run=phase.run, samples=samples) for name, phase in opened.phases.items()})


class RepliesWhenAsked(Technique):
    """Hangs, and says over its channel that all is well once it is asked where."""

    def act(self, context):
        def reply(*_):
            for descriptor in channels():
                os.write(descriptor, b'{"reply": {"status": "ok", "metrics": {"forged": 1.0, "score": 1.0}}}\n')

        signal.signal(ASKS, reply)
        while True:
            time.sleep(0.01)


class WritesWhenAsked(Technique):
    """Hangs, and writes without end once it is asked where."""

    def act(self, context):
        def write(*_):
            while True:
                os.write(1, b"forged row\n" * 1000)

        signal.signal(ASKS, write)
        while True:
            time.sleep(0.01)


class PrintsAsItHangs(Technique):
    """Has a handler of its own for a signal that is free, and writes without end."""

    def act(self, context):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        while True:
            os.write(1, b"again and again\n")


class HangsDeep(Technique):
    """Hangs below more frames than are shown."""

    def act(self, context):
        def deeper(steps):
            if steps:
                deeper(steps - 1)
            while True:
                time.sleep(1)

        deeper(300)


class SaysAndHangs(Technique):
    """Writes a line, and hangs."""

    def act(self, context):
        os.write(1, b"on the way\n")
        while True:
            time.sleep(1)
