"""Measures the peak memory of each phase of a trial: bytes of live tensors, and the resident memory of the process.

A phase is measured in its steady state: two unmeasured calls create the optimiser state, then one call is measured.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.api import NotApplicable, OpenCase
from harness.measure import cgroups, gpu

if TYPE_CHECKING:
    from torch.autograd.profiler import profile

LINUX: Final = platform.system() == "Linux"

WARM_STEPS: Final = 2
"""Calls of a phase before the one that is measured."""

Mark = Callable[[str], AbstractContextManager[None]]
"""A function from a phase's name to the context manager that encloses the measured region."""

_MADV_POPULATE_READ: Final = 22
_PR_SET_THP_DISABLE: Final = 41
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_M_TOP_PAD: Final = -2
_MMAP_THRESHOLD_MAX: Final = 1 << 25  # bytes; glibc accepts no higher threshold for mmap
_MARK: Final = "harness.phase."


def tensor_peaks(build: Callable[[], OpenCase], phase: Mark) -> dict[str, float]:
    """Return the bytes of live CPU tensors at the peak of each phase, ``build`` included, as ``<phase>_tensor_peak``.

    All storages that torch's allocator handed out since ``build`` began are counted, so weights created in ``build``
    are part of every later peak; memory that torch only wraps (NumPy arrays, mapped files) is not counted. The figures
    are equal to the byte in every process. They are read from the memory events of ``torch.autograd.profiler``;
    importing ``torch.profiler`` instead would take two seconds for functions that are not needed here.
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
    """Return how many bytes each phase's peak lies above the process's memory at the start, and notes for the user.

    The names are ``<phase>_process_peak``. On Linux the figure is the kernel's high-water mark of the resident set
    (VmHWM), which is reset before each phase. The kernel keeps it in per-CPU counters, so its error is about 0.1 MiB
    for each processor that the process has run on. Other systems cannot reset the mark, which a note tells the user.
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
    return peaks, [] if resets else [
        "process_peak includes all earlier phases: this system cannot reset the high-water mark"
    ]


def kept_between_builds() -> tuple[int, int]:
    """Return what a further build in this process would not make again: how many tensors are kept, and compiled graphs.

    Tensors that were alive when the collector was frozen are not counted, since every process has them.
    """
    from torch import Tensor

    gc.collect()
    tensors = sum(issubclass(type(item), Tensor) for item in gc.get_objects())
    compiler = sys.modules.get("torch._dynamo.utils")
    return tensors, compiler.counters["stats"]["unique_graphs"] if compiler else 0


def cuda_peaks(build: Callable[[], OpenCase], phase: Mark, device: str) -> dict[str, float]:
    """Return each phase's peak bytes allocated (``_tensor_peak``) and reserved (``_process_peak``) on the device."""
    import torch

    peaks: dict[str, float] = {}

    @contextmanager
    def mark(name: str) -> Iterator[None]:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # or blocks cached by an earlier phase would count as reserved by this phase
        torch.cuda.reset_peak_memory_stats(device)
        with phase(name):
            yield
        torch.cuda.synchronize(device)
        peaks[f"{name}_tensor_peak"] = float(torch.cuda.max_memory_allocated(device))
        peaks[f"{name}_process_peak"] = float(torch.cuda.max_memory_reserved(device))

    with gpu.without_graphs():
        _walk(build, mark)
    return peaks


def give_back_at_once() -> None:
    """Make the allocator return freed pages to the system at once, so that the resident set equals the memory in use.

    This costs time (14 % of a training step), so it is not called in a process that is timed. It has the effect of
    the variables MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ and MALLOC_ARENA_MAX of glibc, and disables
    transparent huge pages; the allocator of another C library stays as it is.
    """
    if not LINUX:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((_M_TRIM_THRESHOLD, 1 << 16), (_M_MMAP_THRESHOLD, 1 << 16), (_M_ARENA_MAX, 1)):
            libc.mallopt(option, value)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def keep_what_is_freed() -> None:
    """Make the allocator keep freed memory for the next step instead of returning it to the system.

    Otherwise small models in a fresh process spend a tenth of a training step on page faults. This is the opposite of
    `give_back_at_once`, and changes nothing without glibc.
    """
    libc = ctypes.CDLL(None)
    if LINUX and hasattr(libc, "mallopt"):
        for option, value in (
            (_M_TRIM_THRESHOLD, 1 << 30),
            (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_MAX),
            (_M_TOP_PAD, 1 << 24),
        ):
            libc.mallopt(option, value)


def require_peaks(device: str) -> None:
    """Raise NotApplicable where the device's allocator records no peak."""
    if not device.startswith(("cpu", "cuda")):
        raise NotApplicable(f"the allocator of {device} records no peak; memory is measured on cpu and cuda")


def total_bytes() -> int:
    """Return the bytes of memory of this machine, or of the control groups of this process where these allow less."""
    import psutil

    total, limit = int(psutil.virtual_memory().total), cgroups.memory_limit()
    return total if limit is None else min(total, limit)


def available_bytes() -> int:
    """Return the bytes that new processes can use without swapping, of this machine and of its control groups."""
    import psutil

    available = int(psutil.virtual_memory().available)
    left = cgroups.memory_left()
    return available if left is None else max(0, min(available, left))


def free_bytes(device: str) -> int:
    """Return the bytes of memory that are free on a device for this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


class Watch:
    """Watches the highest memory of this process, or of its device, above what it is when the object is made."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._start = 0
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
            return
        if LINUX:
            with suppress(OSError):  # a container may mount /proc read-only: the mark is then that of the whole process
                _reset_high_water()
        self._start = _status(None)["VmRSS"] if LINUX else resident_bytes(None)

    def peak(self) -> int:
        """Return the highest memory so far, in bytes above that at the start."""
        if self._device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_reserved(self._device))
        return max(0, _high_water() - self._start)


def resident_bytes(pid: int | None = None) -> int:
    """Return the bytes of private and shared anonymous memory of a process, by default of this process.

    Code and mapped files are not counted on Linux; other systems give the whole resident set. Raises
    ProcessLookupError where the process has ended.
    """
    if LINUX:
        status = _status(pid)
        return status.get("RssAnon", 0) + status.get("RssShmem", 0)  # a zombie process has neither line
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(pid) from error


def data_bytes() -> int:
    """Return the bytes of this process that count against RLIMIT_DATA; for Linux only."""
    return _status(None)["VmData"]


def _walk(build: Callable[[], OpenCase], mark: Mark) -> None:
    """Build the trial, then bring each phase to its steady state and run it once under its mark.

    Each phase is deleted after its measurement, so that objects that only this phase used are not counted in the next.
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
    """Return the peak of live CPU bytes within each marked span of a profile."""
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
    """Return the highest running sum of ``changes`` between two times, with the bytes that live at the start.

    ``changes`` are pairs of a time (ns) and a change (bytes), in the order of times.
    """
    live = peak = 0
    for when, change in changes:
        if when > end:
            break
        live += change
        peak = live if when < start else max(peak, live)
    return peak


def _settle() -> bool:
    """Bring the process to a reproducible state before peaks are measured; return whether the mark can be reset.

    Otherwise garbage and freed pages would be reused without raising the peak, and pages of code, which a forked
    process maps when it first touches them, would count as memory: 24 MiB in a first training step.
    """
    gc.collect()
    if not LINUX:
        return False
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, _, *path = line.split(maxsplit=5)
        if permissions.startswith("r") and path and path[0].startswith("/"):
            start, end = (int(address, 16) for address in span.split("-"))
            # This is only advice: a kernel before 5.14 refuses it, and then the pages of code are counted.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
    try:
        _reset_high_water()
    except OSError:  # a container may mount /proc read-only
        return False
    return True


def _reset_high_water() -> None:
    """Reset the high-water mark (VmHWM) of this process to its current resident set."""
    Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int:
    """Return the highest resident set since the start of the process or the last reset, in bytes."""
    if LINUX:
        return _status(None)["VmHWM"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(pid: int | None) -> dict[str, int]:
    """Return the sizes in /proc/PID/status, in bytes. Raises ProcessLookupError where the process has ended."""
    try:
        text = Path(f"/proc/{pid or 'self'}/status").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    sizes = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(value) * 1024 for name, value, _ in sizes}
