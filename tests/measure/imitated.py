"""A CUDA device that is imitated: streams that are busy until some time, events, and an allocator's counters."""

from __future__ import annotations

import torch

from harness.measure import clock


class Stream:
    cuda_stream = 0

    def __init__(self):
        self.busy_until = 0.0


class Device:
    """Streams and a common clock, in seconds. ``launch`` queues work and returns at once."""

    def __init__(self):
        self.now = 1000.0
        self.default, self.side = Stream(), Stream()
        self.current = self.default
        self.live = self.peak = self.reserved = self.peak_reserved = 0

    def launch(self, seconds, stream=None):
        stream = stream or self.current
        stream.busy_until = max(self.now, stream.busy_until) + seconds

    def wait(self, _=None):
        self.now = max(self.now, self.default.busy_until, self.side.busy_until)

    def allocate(self, count):
        self.live += count
        self.reserved = max(self.reserved, self.live)
        self.peak, self.peak_reserved = max(self.peak, self.live), max(self.peak_reserved, self.reserved)

    def give_back(self):
        self.reserved = self.live

    def begin_anew(self, _=None):
        self.peak, self.peak_reserved = self.live, self.reserved


class Event:
    """An event, which is recorded on the current stream where it is told no other."""

    device: Device

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self, stream=None):
        self.at = max(self.device.now, (stream or self.device.current).busy_until)

    def elapsed_time(self, end):
        return (end.at - self.at) * 1e3


def imitate(monkeypatch) -> Device:
    """Put an imitated device in the place of torch's, and of the clocks."""
    device = Device()
    monkeypatch.setattr(Event, "device", device, raising=False)
    for name, value in {
        "Event": Event,
        "init": lambda: None,
        "is_initialized": lambda: True,
        "default_stream": lambda _: device.default,
        "current_stream": lambda: device.current,
        "synchronize": device.wait,
        "empty_cache": device.give_back,
        "reset_peak_memory_stats": device.begin_anew,
        "max_memory_allocated": lambda _: device.peak,
        "max_memory_reserved": lambda _: device.peak_reserved,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_synchronize", device.wait, raising=False)
    monkeypatch.setattr(clock, "perf_counter_ns", lambda: round(device.now * 1e9))
    monkeypatch.setattr(clock, "perf_counter", lambda: device.now)
    clock.bound.cache_clear()
    return device
