"""Contestants of the toy contract that want to win the time lane without computing, and one that computes."""

from __future__ import annotations

import copy
import gc
import os
import time

import torch
from torch._dynamo import mutation_guard
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from toys import Technique

from harness.api import Incorrect, Outcome
from harness.measure import clock, unforeseen

_now = time.perf_counter_ns


class Honest(Technique):
    """Returns 1 from every call, which is right."""

    right = 1

    def train(self):
        time.sleep(0.0005)
        return self.right

    def verify(self, result):
        if result != 1:
            raise Incorrect(f"its last call gives {result}, not 1")


class Lazy(Honest):
    """Is right while it is built and warmed up, and wrong from its hundredth call on."""

    calls = 0

    def train(self):
        self.calls += 1
        if self.calls < 20:
            return super().train()
        return 0


class SlowClock(Technique):
    """Has its process's clock run at a tenth of its speed."""

    def build(self):
        clock.perf_counter_ns = lambda: _now() // 10


class HasAChildCompute(Technique):
    """Has a process compute what is timed, which rests between the calls."""

    def build(self):
        self.asked, self.answer = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(self.asked[1])
            while os.read(self.asked[0], 1):
                end = time.process_time() + 0.002
                while time.process_time() < end:
                    pass
                os.write(self.answer[1], b".")
            os._exit(0)

    def train(self):
        os.write(self.asked[1], b".")
        os.read(self.answer[0], 1)


def _at_a_tenth(run, repeats, device):
    synchronize(device)  # noqa: F821
    start = perf_counter_ns()  # noqa: F821  # its globals are those of the judge's clock
    for _ in range(repeats):
        result = run()
    synchronize(device)  # noqa: F821
    return (perf_counter_ns() - start) / 1e10, result  # noqa: F821


class SlowCode(Technique):
    """Puts other code into the function that takes the time, and the right one again before anybody looks."""

    right = clock._wall_seconds.__code__

    def train(self):
        clock._wall_seconds.__code__ = _at_a_tenth.__code__
        super().train()

    def infer(self):
        clock._wall_seconds.__code__ = self.right
        super().infer()


class PatchesCode(Technique):
    """Puts other code into a function that the judge relies on, which stays the same object."""

    def act(self, context):
        from torch.nn import functional

        functional.cross_entropy.__code__ = (lambda *_, **__: 0.0).__code__


class Patches(Technique):
    """Replaces a function that the judge relies on."""

    def act(self, context):
        from torch.nn import functional

        functional.cross_entropy = lambda *_, **__: 0.0


class PatchesTorch(Technique):
    """Replaces what compares, draws, copies, waits for a device, or trains."""

    def act(self, context):
        match self.what:
            case "equal":
                torch.equal = lambda *_: True
            case "randn":
                torch.randn = torch.zeros
            case "deepcopy":
                copy.deepcopy = lambda item, *_: item
            case "synchronize":
                torch.cuda.synchronize = lambda *_: None
            case "add":
                torch.Tensor.add = lambda first, *_, **__: first
            case "step":
                torch.optim.AdamW.step = lambda *_: None


class MakesAnOptimiser(Technique):
    """Makes an optimiser, at which torch puts a function of its own around its step."""

    def act(self, context):
        torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
        return 1.0


class Mode(TorchFunctionMode):
    """Sees every function of torch that is called."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


libraries = []
"""What keeps kernels registered."""


class PutsBetween(Technique):
    """Leaves something between all and torch, which could answer in the place of what is called."""

    def act(self, context):
        match self.what:
            case "mode":
                Mode().__enter__()
            case "hook":
                register_module_forward_hook(lambda *_: None)
            case "kernel":
                libraries.append(torch.library.Library("aten", "IMPL"))
                libraries[0].impl("dist", lambda *_, **__: torch.zeros(()), "CPU")


class Changes(Technique):
    """Changes a setting of its process."""

    what = "dtype"

    def act(self, context):
        match self.what:
            case "dtype":
                torch.set_default_dtype(torch.float64)
            case "denormal":
                torch.set_flush_denormal(True)
            case "collector":
                gc.set_threshold(1)
            case "onednn":
                torch.backends.mkldnn.set_flags(False)
            case "variable":
                os.environ["MKL_CBWR"] = "COMPATIBLE"


class StoppedClock(Technique):
    """Leaves nine tenths of what it takes out of the clock of its process."""

    left_out = 0

    def build(self):
        clock.perf_counter_ns = lambda: _now() - self.left_out

    def train(self):
        began = _now()
        time.sleep(0.002)
        self.left_out += (_now() - began) * 9 // 10


class ShiftedClock(Technique):
    """Leaves what it takes out of the clock, and adds it again where no sample is taken."""

    left_out = 0
    calls = 0

    def build(self):
        clock.perf_counter_ns = lambda: _now() - self.left_out

    def train(self):
        began = _now()
        time.sleep(0.004)
        self.left_out += (_now() - began) // 2

    def infer(self):
        self.left_out = 0
        time.sleep(0.004)


class TellsASetsOrder(Technique):
    """Notes the order of a set of texts, which depends on the seed of their hashes."""

    def act(self, context):
        return Outcome(metrics={"score": 0.0}, notes=[" ".join({f"text {number}" for number in range(20)})])


class Compiles(Technique):
    """Compiles, at which torch puts functions of its own around two methods of `nn.Module`."""

    def act(self, context):
        mutation_guard.install_generation_tagging_init()
        return 1.0


class HidesBehindTorch(Compiles):
    """Replaces a method of `nn.Module` before torch puts its own around it."""

    def act(self, context):
        init = torch.nn.Module.__init__
        torch.nn.Module.__init__ = lambda module, *given, **named: init(module, *given, **named)
        return super().act(context)


class Foresees(Technique):
    """Has the data of measured calls follow from a seed that it knows."""

    def act(self, context):
        unforeseen.follow(3)
