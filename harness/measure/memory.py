"""Measures the peak memory of each phase of a trial: live tensors to the byte, and the process as the OS sees it.

A phase is measured in its steady state: two calls first, so that optimiser state exists, then one that counts.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.api import NotApplicable, OpenCase

if TYPE_CHECKING:
    from torch.autograd.profiler import profile

LINUX: Final = platform.system() == "Linux"

WARM_STEPS: Final = 2

Mark = Callable[[str], AbstractContextManager[None]]
"""Encloses the region of a phase that is to be measured."""

_MADV_POPULATE_READ: Final = 22
_PR_SET_THP_DISABLE: Final = 41
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_M_TOP_PAD: Final = -2
_KEPT: Final = 1 << 25  # the most that glibc takes as a threshold of mmap
_MARK: Final = "harness.phase."


def tensor_peaks(build: Callable[[], OpenCase], phase: Mark) -> dict[str, float]:
    """Return bytes of live CPU tensors at the peak of each phase, as ``<phase>_tensor_peak``; one phase is ``build``.

    Counted are all storages that torch's allocator handed out since ``build`` began, so weights made in it are part
    of every later peak; memory that torch merely wraps (NumPy arrays, mapped files) is not. The same to the byte in
    every process. Source: the memory events of torch's profiler; the one below ``torch.profiler``, which imports for
    two seconds what nothing here needs.
    """
    from torch.autograd.profiler import profile, record_function

    names: list[str] = []

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        names.append(name)
        with phase(name), record_function(_MARK + name):
            yield

    with profile(profile_memory=True) as profiler:
        _walk(build, mark)
    return _peaks_by_mark(profiler, names)


def process_peaks(build: Callable[[], OpenCase], phase: Mark) -> tuple[dict[str, float], list[str]]:
    """Return bytes of the process at the peak of each phase, above its beginning, as ``<phase>_process_peak``.

    On Linux the kernel's high-water mark (VmHWM), reset per phase. It is kept in per-CPU counters, so a figure is
    good to about 0.1 MiB a processor the process has run on. Elsewhere the mark cannot be reset, and a note says so.
    """
    resets = _settle()
    baseline = _high_water() if resets else resident_bytes(None)
    peaks: dict[str, float] = {}

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        if resets:
            _reset_high_water()
        with phase(name):
            yield
        peaks[f"{name}_process_peak"] = float(max(0, _high_water() - baseline))

    _walk(build, mark)
    return peaks, [] if resets else ["process_peak counts all phases up to its own: the system cannot reset it"]


def cuda_peaks(build: Callable[[], OpenCase], phase: Mark, device: str) -> dict[str, float]:
    """Return bytes allocated (``_tensor_peak``) and reserved (``_process_peak``) on the device at each phase's peak."""
    import torch

    peaks: dict[str, float] = {}

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # else blocks cached by an earlier phase count as reserved by this one
        torch.cuda.reset_peak_memory_stats(device)
        with phase(name):
            yield
        torch.cuda.synchronize(device)
        peaks[f"{name}_tensor_peak"] = float(torch.cuda.max_memory_allocated(device))
        peaks[f"{name}_process_peak"] = float(torch.cuda.max_memory_reserved(device))

    _walk(build, mark)
    return peaks


def give_back_at_once() -> None:
    """Make this process's allocator return what is freed, page by page, so that its resident set is what it uses.

    Costs time (14 % in a training step), so never in a process that is timed. As if glibc had been started with
    MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ and MALLOC_ARENA_MAX; without glibc, nothing changes.
    """
    if not LINUX:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((_M_TRIM_THRESHOLD, 1 << 16), (_M_MMAP_THRESHOLD, 1 << 16), (_M_ARENA_MAX, 1)):
            libc.mallopt(option, value)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def keep_what_is_freed() -> None:
    """Make this process's allocator keep freed memory for the next step instead of asking the system for it anew.

    Without it, small models in a fresh process spend a tenth of a training step on page faults. The opposite of
    `give_back_at_once`; without glibc, nothing changes.
    """
    libc = ctypes.CDLL(None)
    if LINUX and hasattr(libc, "mallopt"):
        for option, value in ((_M_TRIM_THRESHOLD, 1 << 30), (_M_MMAP_THRESHOLD, _KEPT), (_M_TOP_PAD, 1 << 24)):
            libc.mallopt(option, value)


def require_peaks(device: str) -> None:
    """Raise NotApplicable where the device's allocator keeps no peak."""
    if not device.startswith(("cpu", "cuda")):
        raise NotApplicable(f"the allocator of {device} keeps no peak")


def available_bytes() -> int:
    """Return the bytes of this machine's memory that new processes may take before anything is swapped out."""
    import psutil

    return int(psutil.virtual_memory().available)


def resident_bytes(pid: int | None = None) -> int:
    """Return bytes of private and shared anonymous memory of a process (its own by default), without code and files.

    Raises ProcessLookupError where it is gone.
    """
    if LINUX:
        status = _status(pid)
        return status.get("RssAnon", 0) + status.get("RssShmem", 0)  # a zombie has neither
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(pid) from error


def data_bytes() -> int:
    """Return the bytes of this process that RLIMIT_DATA counts (Linux)."""
    return _status(None)["VmData"]


def _walk(build: Callable[[], OpenCase], mark: Mark) -> None:
    """Build the trial, then bring each phase to its steady state and run it once under its mark.

    A phase is let go of once it is measured, so that the next need not keep what only the last one used.
    """
    gc.collect()
    with mark("build"):
        remaining = dict(build().phases)
    while remaining:
        name = next(iter(remaining))
        phase = remaining.pop(name)
        for _ in range(WARM_STEPS):
            phase.run()
        gc.collect()
        with mark(name):
            phase.run()
        del phase
        gc.collect()


def _peaks_by_mark(profiler: profile, names: list[str]) -> dict[str, float]:
    from torch.autograd import DeviceType  # type: ignore[attr-defined]  # public, but not re-exported

    results: Any = profiler.kineto_results
    spans: dict[str, tuple[int, int]] = {}
    changes: list[tuple[int, int]] = []
    for event in results.events():
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            changes.append((event.start_ns(), event.nbytes()))
        elif event.name().startswith(_MARK):
            spans[event.name().removeprefix(_MARK)] = event.start_ns(), event.end_ns()
    changes.sort(key=lambda change: change[0])
    return {f"{name}_tensor_peak": float(_peak(changes, *spans[name])) for name in names}


def _peak(changes: list[tuple[int, int]], start: int, end: int) -> int:
    """Return the highest sum of ``changes`` (time, bytes) between two times; what lives at the start counts."""
    live = peak = 0
    for when, change in changes:
        if when > end:
            break
        live += change
        peak = live if when < start else max(peak, live)
    return peak


def _settle() -> bool:
    """Bring the process to a state that its later peaks can be compared with; say whether marks can be reset.

    Garbage and freed pages would otherwise be reused unseen, and pages of code, which a forked process maps anew
    as it touches them, would count as memory: 24 MiB in a first training step.
    """
    gc.collect()
    if not LINUX:
        return False
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, _, *path = line.split(maxsplit=5)
        if permissions.startswith("r") and path and path[0].startswith("/"):
            start, end = (int(address, 16) for address in span.split("-"))
            # Advice only: a kernel before 5.14 refuses it, and then the pages count.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
    try:
        _reset_high_water()
    except OSError:  # a container may mount /proc read-only
        return False
    return True


def _reset_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int:
    """Return the highest resident set so far, or since the last reset, in bytes."""
    if LINUX:
        return _status(None)["VmHWM"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(pid: int | None) -> dict[str, int]:
    """Return the sizes in /proc/PID/status, in bytes."""
    try:
        text = Path(f"/proc/{pid or 'self'}/status").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    sizes = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(value) * 1024 for name, value, _ in sizes}
