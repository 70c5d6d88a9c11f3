"""Limits of the machine, measured beside the techniques (reading, copying, multiplying), and cold weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from time import process_time
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.measure.memory import total_bytes
from harness.measure.processors import everywhere

T = TypeVar("T")

COLD: Final = 4
"""Size of all rotated copies together, in sizes of the last-level cache."""

USUAL_CACHE: Final = 32 << 20
MOST_COPIED: Final = 1 << 30
"""Bytes of copies at most, should a machine report the cache of a whole rack."""

MEMORY_SHARE: Final = 160
"""The machine's memory over the bytes of copies, at least: a contestant has five, and some twenty take turns."""

IMPOSSIBLE: Final = 150.0
"""Shares of what the memory of this machine allows, in per cent, from which on nothing was computed."""

FIRST_CALLS: Final = 3
"""Calls of a rotation before it makes copies: a lane that measures memory and not time makes no more calls."""

PRODUCTS: Final = {"matmul": torch.float32, "matmul_bf16": torch.bfloat16}
"""Dtypes of the square matrices whose products, made in the cache, are the limit of multiplication."""

ORDER: Final = 384
SLOW_ORDER: Final = 160
"""The orders of these matrices, and of those of bfloat16 where the processor has no fast product of them."""


LARGER: Final = 16
"""Factor of the orders of the matrices on a GPU."""


@lru_cache
def cache_bytes(device: str = "cpu") -> int:
    """Return the bytes of the last-level cache as Linux or the GPU's driver reports it, else `USUAL_CACHE`."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).L2_cache_size) or USUAL_CACHE
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text.endswith("K"):
            sizes.append(int(text[:-1]) << 10)
    return max(sizes, default=USUAL_CACHE)


def copied_bytes(device: str = "cpu", times_cache: int = COLD) -> int:
    """Return the bytes of what has to be out of the cache: so many caches, as far as the machine's memory allows it."""
    wanted = min(times_cache * cache_bytes(device), MOST_COPIED)
    return wanted if device.startswith("cuda") else min(wanted, total_bytes() // MEMORY_SHARE)


class Rotation(Generic[T]):
    """A rotation over copies of an item, so many that each is out of the cache when its turn comes again.

    ``size`` is the item's bytes. Copies are made after the first `FIRST_CALLS` calls.
    """

    def __init__(self, first: T, size: int, copy: Callable[[T], T], device: str = "cpu") -> None:
        self._count = max(2, -(-copied_bytes(device) // max(size, 1)))
        self._copy = copy
        self._items = [first]
        self._turn = 0
        self._next = self.shared()

    def __call__(self) -> T:
        """Return the next copy."""
        return self._next()

    def shared(self) -> Callable[[], T]:
        """Return a function that returns the next copy, for another user with first calls of its own."""
        calls = itertools.count()
        return lambda: self._items[0] if next(calls) < FIRST_CALLS else self._cold()

    @property
    def whole(self) -> bool:
        """Whether the copies were made."""
        return len(self._items) > 1

    def ahead(self, count: int) -> list[T]:
        """Return the items of the next turns, each once; before there are copies, the first."""
        turns = range(self._turn + 1, self._turn + 1 + min(count, len(self._items)))
        return [self._items[turn % len(self._items)] for turn in turns]

    def _cold(self) -> T:
        if len(self._items) == 1:
            self._items += [self._copy(self._items[0]) for _ in range(self._count - 1)]
        self._turn += 1
        return self._items[self._turn % len(self._items)]


def rotated_tensor(tensor: Tensor, copy: Callable[[Tensor], Tensor] = torch.clone) -> Rotation[Tensor]:
    """Return a rotation over a tensor and its copies."""
    return Rotation(tensor, tensor.numel() * tensor.element_size(), copy, str(tensor.device))


class Probe:
    """A measurement of the machine that also notes the least time that a call computed, others left out.

    A measurement ``on_all`` processors divides it among them. On a GPU, which computes by itself, there is none.
    """

    def __init__(self, run: Callable[[], object], *, on_all: bool = False, device: str = "cpu") -> None:
        self._run = run
        self._on_all = on_all
        self._device = device
        self._least_s = math.inf

    def __call__(self) -> object:
        """Measure, and note the time."""
        began = process_time()
        result = self._run()
        if self._device == "cpu":
            computed = process_time() - began
            self._least_s = min(self._least_s, computed / _processors() if self._on_all else computed)
        return result

    def least(self, rounds: Sequence[float]) -> float:
        """Return the seconds of the fastest round, or those that a call would take on a machine that does nothing else.

        A machine that is always busy slows all rounds of a long measurement, and not those of a short call.
        """
        return min(*rounds, self._least_s)


@dataclass(frozen=True, kw_only=True)
class MachineLimits:
    """Probes of a machine, and the numbers that turn their seconds into rates."""

    probes: Mapping[str, Probe]
    read_bytes: int
    copied_bytes: int
    orders: Mapping[str, int]
    device: str = "cpu"

    def fastest(self, rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return the rates of the fastest rounds of the probes, by their seconds."""
        return self.rates({name: probe.least(rounds[name]) for name, probe in self.probes.items()})

    def rates(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return GB/s of reading and of copying (bytes read and written), and GFLOP/s of the faster product.

        All threads read at least as fast as one does, which reads two stretches at once.
        """
        return {
            "read_rate": self.read_bytes / seconds["read"] / 1e9,
            "read_all_rate": self.read_bytes / min(seconds["read_all"], seconds["read"]) / 1e9,
            "copy_rate": self.copied_bytes / seconds["copy"] / 1e9,
            "matmul_rate": max(2 * order**3 / seconds[name] for name, order in self.orders.items()) / 1e9,
        }


def require_possible(shares: Mapping[str, float], device: str = "cpu") -> None:
    """Raise Incorrect where a share, in per cent of what this machine's memory allows, is beyond all noise.

    The shares are those of the fastest round of each probe, by `Probe.least`. Shares of honest techniques of the median
    were seen up to 110 %, and up to 158 % on a machine that did much else. Where the machine's memory is too small for
    copies that leave the cache, a share says nothing of that memory, and none is impossible.
    """
    if copied_bytes(device) < cache_bytes(device):
        return
    for name, share in shares.items():
        if share > IMPOSSIBLE:
            raise Incorrect(
                f"{name} is {share:.0f} %: faster than this machine can move the bytes that have to be moved"
            )


def limits(device: str = "cpu") -> MachineLimits:
    """Return probes of reading a cold buffer on one thread and on all, of copying, and of matrix products.

    Buffers and matrices are allocated when a probe first runs, so that peaks of memory do not include them.
    """
    words = copied_bytes(device) // 8
    orders = {name: _order(dtype, device) for name, dtype in PRODUCTS.items()}

    def read() -> float:  # of two stretches at once: a processor fetches no single one as fast as it can
        halves = _numbers(2 * words, device).view(2, -1)
        return float(torch.mv(halves, halves[0])[1])

    def read_all() -> float:  # each thread in one stretch: torch has no sum of two on several threads
        with all_threads():
            return float(_numbers(2 * words, device).sum())

    probes: dict[str, Callable[[], object]] = {
        "read": read,
        "read_all": read_all,
        "copy": lambda: _numbers(words, device).copy_(_numbers(2 * words, device)[:words]),
        **{name: partial(_multiply, dtype, orders[name], device) for name, dtype in PRODUCTS.items()},
    }
    return MachineLimits(
        probes={name: Probe(run, on_all=name == "read_all", device=device) for name, run in probes.items()},
        read_bytes=8 * words,
        copied_bytes=8 * words,
        orders=orders,
        device=device,
    )


@lru_cache
def _numbers(count: int, device: str) -> Tensor:
    return torch.ones(count, dtype=torch.float32, device=device)


@lru_cache
def _matrices(dtype: torch.dtype, order: int, device: str) -> Tensor:
    return torch.randn(2, order, order, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def _order(dtype: torch.dtype, device: str) -> int:
    """Return the order of the matrices of a dtype: so large that the product is near its highest rate."""
    if device != "cpu":
        return LARGER * ORDER
    onednn = torch.ops.mkldnn  # without operators in a torch that was built without it
    supports = hasattr(onednn, "_is_mkldnn_bf16_supported") and onednn._is_mkldnn_bf16_supported()
    return ORDER if dtype != torch.bfloat16 or supports else SLOW_ORDER


def _multiply(dtype: torch.dtype, order: int, device: str) -> Tensor:
    first, second = _matrices(dtype, order, device)
    product: Tensor = first @ second
    return product


@lru_cache
def _processors() -> int:
    with everywhere() as count:
        return count


@contextmanager
def all_threads() -> Iterator[None]:
    """Let torch use as many threads as there are processors within the context, although a timed case uses one."""
    with everywhere() as count, threads(count):
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def median(values: Sequence[float]) -> float:
    """Return the middle value, of an even number the upper one."""
    return sorted(values)[len(values) // 2]
