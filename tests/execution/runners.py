"""Techniques that start threads or processes: some leave them running, others leave them idle."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from toys import Technique


def spin(until=float("inf")):
    while time.monotonic() < until:
        pass


def multiply():
    while True:
        torch.rand(100, 100) @ torch.rand(100, 100)


class Burns(Technique):
    """Starts ``threads`` that compute for ever, when it is built."""

    threads = 1
    work = staticmethod(multiply)

    def build(self):
        for _ in range(self.threads):
            threading.Thread(target=self.work, daemon=True).start()

    def act(self, context):
        self.build()
        return 1.0

    def train(self):
        time.sleep(0.001)

    infer = train


class BurnsInPython(Burns):
    work = staticmethod(spin)


class BurnsInAChild(Burns):
    """Forks a process that computes for ever."""

    def build(self):
        if os.fork() == 0:
            spin()


class BurnsLater(Burns):
    """Starts its thread in its first training step after it was built and warmed up."""

    calls = 0

    def build(self):
        pass

    def train(self):
        self.calls += 1
        if self.calls == 60:
            super().build()
        time.sleep(0.001)


class Idles(Burns):
    """Has a pool of threads whose work is done, and a child process that waits."""

    def build(self):
        self.pool = ThreadPoolExecutor(4)
        list(self.pool.map(lambda _: torch.rand(100, 100).sum(), range(20)))
        self.event = threading.Event()
        threading.Thread(target=self.event.wait, daemon=True).start()
        threading.Thread(target=self.wake, daemon=True).start()
        if os.fork() == 0:
            time.sleep(1000)

    def wake(self):
        """Wake up often, as monitors of libraries do."""
        while not self.event.wait(0.01):
            pass


class ComesToRest(Burns):
    """Has threads that wait actively for a fifth of a second after their work, as some pools do."""

    def build(self):
        for _ in range(2):
            threading.Thread(target=spin, args=(time.monotonic() + 0.2,), daemon=True).start()


class Widens(Burns):
    """Has torch compute on two threads."""

    def build(self):
        torch.set_num_threads(2)
