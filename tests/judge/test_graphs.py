"""Steps and predictions that are captured once and replayed, on an imitation of CUDA graphs that replays kernels."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.api import Incorrect, OpenCase, Phase, Unavailable
from harness.judge import graphs, training
from harness.judge.fresh import FreshBatches
from harness.judge.timed import RepeatedPrediction, RepeatedStep
from harness.measure import gpu, memory
from tests.measure.imitated import imitate


class Graph:
    """Kernels on the memory of their capture; a replay runs no Python of the captured function."""

    def __init__(self):
        self.calls = []

    def replay(self):
        with torch.no_grad():
            for func, args, named, kept in self.calls:
                again = func(*args, **named)
                for old, new in zip(listed(kept), listed(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def listed(value):
    return value if isinstance(value, tuple | list) else [value]


class Capture(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        result = func(*args, **(kwargs or {}))
        self._graph.calls.append((func, args, kwargs or {}, result))
        return result


@contextmanager
def graph(made):
    with Capture(made):
        yield


@pytest.fixture
def device(monkeypatch):
    found = imitate(monkeypatch)
    stream = SimpleNamespace(wait_stream=lambda _: None, cuda_stream=0)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return found


@dataclass(kw_only=True)
class Adapted:
    model: nn.Module
    optimizer: torch.optim.Optimizer


class Counting(nn.Sequential):
    """Counts the calls in Python, which replays do not make."""

    def __init__(self):
        super().__init__(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
        self.calls = [0]

    def forward(self, x):
        self.calls[0] += 1
        return super().forward(x)


def made():
    torch.manual_seed(0)
    model = Counting()
    return Adapted(model=model, optimizer=training.adamw([{"params": list(model.parameters()), "lr": 1e-2}], 0.0))


def batches():
    draw = torch.Generator().manual_seed(1)
    return FreshBatches({"x": torch.randn(6, 5, generator=draw), "labels": torch.arange(6) % 3})


LOSS = training.cross_entropy(lambda model, batch: model(batch["x"]))


def step(trains, batch, _):
    training.step(trains.model, trains.optimizer, batch, loss=LOSS, max_grad_norm=1.0)


@pytest.mark.usefixtures("device")
def test_replayed_steps_have_the_gradients_of_an_untouched_copy():
    train = RepeatedStep(made(), batches(), step, captured=True)
    train.refresh()
    before = train.trains.model.calls[0]
    weights = [value.detach().clone() for value in train.trains.model.parameters()]
    for _ in range(5):
        train.verify(train())
    assert train.trains.model.calls[0] - before == graphs.WARM + 1  # in Python, for the capture
    after = train.trains.model.parameters()
    assert all(not torch.equal(old, new) for old, new in zip(weights, after, strict=True))


@pytest.mark.usefixtures("device")
def test_replayed_steps_move_the_parameters_as_steps_do():
    captured, plain = made(), made()
    own = graphs.CapturedStep(captured, step)
    fresh = batches()
    first, *others = (fresh() for _ in range(4))
    own(captured, first, 0)
    for batch in others:
        own(captured, batch, 0)
    # the imitation takes a step while it captures, which a device does not
    for batch in [first] * (graphs.WARM + 2) + others:
        step(plain, batch, 0)
    for value, reference in zip(captured.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(value, reference)
    assert {group["capturable"] for group in captured.optimizer.param_groups} == {True}


@pytest.mark.usefixtures("device")
def test_what_is_decided_in_python_while_it_is_captured_is_found_out():
    class Early(Counting):
        """Has gradients of everything in its first calls, and of the bias alone once it is captured."""

        def forward(self, x):
            out = super().forward(x)
            return out if self.calls[0] <= graphs.WARM else out.detach() + self[2].bias

    trains = made()
    trains.model.__class__ = Early
    train = RepeatedStep(trains, batches(), step, captured=True)
    train.refresh()
    trains.model.calls[0] = 0
    with pytest.raises(Incorrect):
        train.verify(train())


@pytest.mark.usefixtures("device")
def test_a_prediction_is_replayed_for_each_shape_of_batches():
    model = made().model.eval()

    def predict(batch):
        with torch.no_grad():
            return model(batch["x"])

    captured = graphs.Captured(predict, "its prediction")
    infer = RepeatedPrediction(batches(), captured, predict)
    infer.refresh()
    for _ in range(3):
        infer.verify(infer())
    wider = {"x": torch.ones(9, 5)}
    assert torch.allclose(captured(wider), predict(wider))
    assert len(captured._graphs) == 2


@pytest.mark.usefixtures("device")
def test_what_asks_the_host_is_unavailable_in_cuda_s_own_words():
    def compute(batch):
        return batch["x"].sum().item()

    with pytest.raises(
        Unavailable, match=r"its prediction cannot be captured.*not permitted when stream is capturing$"
    ):
        graphs.Captured(compute, "its prediction")({"x": torch.ones(2)})


def test_only_who_asks_is_captured_on_a_gpu_alone_and_never_where_memory_is_measured(device):
    asks = SimpleNamespace(graphable=True)
    assert graphs.asked(asks, "cuda")
    assert not graphs.asked(asks, "cpu")
    assert not graphs.asked(SimpleNamespace(), "cuda")
    found = []

    def run():
        found.append(graphs.asked(asks, "cuda"))

    memory.cuda_peaks(lambda: OpenCase(phases={"train": Phase(run=run, samples=1)}), lambda _: nullcontext(), "cuda")
    assert not any(found)
    assert gpu.graphs_are_used()
    assert device.peak == 0
