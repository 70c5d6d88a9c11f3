"""Looks for what makes the times of this machine unreliable, in what Linux tells in /proc and /sys.

Everything is read below one root, so that tests give toy trees. What cannot be read, or makes no sense, is unknown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

State = Literal["fine", "warning", "unknown"]

WATCHED_S: Final = 1.0
"""Seconds over which counters are watched."""

BUSY: Final = 0.1
"""The share of the processors' time that others may take."""

STOLEN: Final = 0.005
"""The share of time that the host of a virtual machine may take for others."""

THROTTLED: Final = 0.01
"""The share of periods in which a group of processes may have used up its quota."""

HOT_C: Final = 85.0
"""Degrees from which processors tend to slow down, where no trip point tells."""

COARSE_S: Final = 1e-6
"""The resolution from which a clock is too coarse."""

_STEADY_CLOCKS: Final = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one thing: its state, what is the case, and where that is a warning what to do."""

    name: str
    state: State
    what: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is looked at: the files below ``root`` and the resolution of the clock; and how to wait for counters."""

    root: Path = Path("/")
    resolution_s: float = time.get_clock_info("perf_counter").resolution
    wait: Callable[[float], None] = time.sleep

    def text(self, path: str) -> str:
        """Return the text of a file; empty where it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except (OSError, ValueError):
            return ""

    def number(self, path: str) -> float | None:
        """Return the number in a file; None where there is none."""
        return _number(self.text(path))

    def found(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern, without the root."""
        try:
            return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))
        except OSError:
            return []

    def values(self, path: str) -> dict[str, float]:
        """Return the numbers of a file with a name and a number in each line."""
        pairs = (re.split(r"[:\s]+", line, maxsplit=1) for line in self.text(path).splitlines())
        found = {pair[0]: _number(pair[1].split()[0]) for pair in pairs if len(pair) == 2 and pair[1].split()}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Counters at one moment."""

    stat: tuple[float, ...]
    swapped: float | None
    throttled: Mapping[str, float]
    hot: float | None


def examine(machine: Machine) -> list[Finding]:
    """Return a finding for each thing that makes times unreliable; takes `WATCHED_S`."""
    before = _counts(machine)
    machine.wait(WATCHED_S)
    after = _counts(machine)
    cores = allowed(machine)
    return [
        _governor(machine, cores),
        _turbo(machine),
        _load(before, after),
        _cores(machine, cores),
        _siblings(machine, cores),
        _quota(machine),
        _throttling(before, after),
        _swap(machine, before, after),
        _stolen(machine, before, after),
        _clock(machine),
        _heat(machine, before, after),
    ]


def allowed(machine: Machine) -> list[int]:
    """Return the processors that this process may use, as the system lists them; empty where it does not."""
    status = re.search(r"^Cpus_allowed_list:\s*(.*)$", machine.text("proc/self/status"), re.MULTILINE)
    return listed(status[1]) if status else []


def listed(text: str) -> list[int]:
    """Return the numbers of a list like ``0-3,8``; empty where it is no such list."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip(), re.ASCII)
        if not match:
            return []
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, min(last, first + 65_535) + 1)
    return sorted({*numbers})


def _number(text: str) -> float | None:
    try:
        return float(text) if re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", text, re.ASCII) else None
    except ValueError:
        return None


def _counts(machine: Machine) -> _Counts:
    line = next((line for line in machine.text("proc/stat").splitlines() if line.startswith("cpu ")), "")
    numbers = [_number(word) for word in line.split()[1:]]
    memory = machine.values("proc/vmstat")
    swapped = memory["pswpin"] + memory["pswpout"] if {"pswpin", "pswpout"} <= memory.keys() else None
    throttles = [
        machine.number(path) for path in machine.found("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_count")
    ]
    known = [count for count in throttles if count is not None]
    return _Counts(
        stat=tuple(number for number in numbers if number is not None) if None not in numbers else (),
        swapped=swapped,
        throttled=_group_counts(machine),
        hot=sum(known) if known else None,
    )


def _groups(machine: Machine) -> Iterator[str]:
    """Yield the folders of the control groups of this process, the innermost first."""
    for line in machine.text("proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part]
        if ".." in parts or (controllers and "cpu" not in controllers.split(",")):
            continue
        mounts = [
            f"sys/fs/cgroup/{name}".rstrip("/") for name in (["cpu", controllers] if controllers else ["", "unified"])
        ]
        for mount in mounts:
            yield from ("/".join([mount, *parts[:depth]]) for depth in range(len(parts), -1, -1))


def _group_counts(machine: Machine) -> dict[str, float]:
    """Return the periods, and those in which a quota was used up, of the innermost group that counts them."""
    for folder in _groups(machine):
        counts = machine.values(f"{folder}/cpu.stat")
        if counts.get("nr_periods"):
            return counts
    return {}


def _governor(machine: Machine, cores: list[int]) -> Finding:
    name = "frequency"
    paths = machine.found("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    governors = {machine.text(path) for path in paths if not cores or _core_of(path) in cores} - {""}
    if not governors:
        return Finding(name=name, state="unknown", what="no governor is told; in a virtual machine its host has it")
    told = f"governor {', '.join(sorted(governors))}"
    if governors == {"performance"}:
        return Finding(name=name, state="fine", what=told)
    return Finding(
        name=name, state="warning", what=f"{told}: the frequency follows the load",
        advice="set the governor performance: sudo cpupower frequency-set -g performance",
    )  # fmt: skip


def _core_of(path: str) -> int:
    match = re.search(r"/cpu(\d{1,6})/", path)
    return int(match[1]) if match else -1


def _turbo(machine: Machine) -> Finding:
    name = "turbo"
    intel, boost = (
        machine.number("sys/devices/system/cpu/intel_pstate/no_turbo"),
        machine.number("sys/devices/system/cpu/cpufreq/boost"),
    )
    if intel is None and boost is None:
        return Finding(name=name, state="unknown", what="not told")
    if intel == 1 or (intel is None and boost == 0):
        return Finding(name=name, state="fine", what="off")
    path, value = ("intel_pstate/no_turbo", 1) if intel is not None else ("cpufreq/boost", 0)
    return Finding(
        name=name, state="warning", what="on: the frequency falls as more processors work, and with heat",
        advice=f"switch it off: echo {value} | sudo tee /sys/devices/system/cpu/{path}",
    )  # fmt: skip


def _shares(before: _Counts, after: _Counts) -> dict[str, float] | None:
    """Return the shares of time that all processors were idle, or stolen, between two moments; None if not known."""
    if len(before.stat) < 8 or len(after.stat) < 8:
        return None
    passed = [late - early for early, late in zip(before.stat[:8], after.stat[:8], strict=True)]
    whole = sum(passed)
    if whole <= 0 or min(passed) < 0:
        return None
    return {"idle": (passed[3] + passed[4]) / whole, "stolen": passed[7] / whole}


def _load(before: _Counts, after: _Counts) -> Finding:
    name, shares = "load", _shares(before, after)
    if shares is None:
        return Finding(name=name, state="unknown", what="the processors' time is not told")
    busy = 1 - shares["idle"]
    what = f"others take {busy:.0%} of the processors' time".replace("%", " %")
    if busy <= BUSY:
        return Finding(name=name, state="fine", what=what)
    return Finding(name=name, state="warning", what=what, advice="end what else runs, or measure when nothing does")


def _cores(machine: Machine, cores: list[int]) -> Finding:
    name, online = "cores", listed(machine.text("sys/devices/system/cpu/online"))
    if not cores:
        return Finding(name=name, state="unknown", what="not told")
    what = f"{len(cores)} of {len(online)} may be used" if online else f"{len(cores)} may be used"
    if len(cores) > 1:
        return Finding(name=name, state="fine", what=what)
    return Finding(
        name=name, state="warning", what=f"{what}: what is timed shares it with the harness and the system",
        advice="allow two or more: taskset, cpusets, or the size of the container",
    )  # fmt: skip


def _siblings(machine: Machine, cores: list[int]) -> Finding:
    name, own = "hyper-threads", {*cores}
    pairs = {
        tuple(listed(machine.text(path)))
        for path in machine.found("sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
        if not own or _core_of(path) in own
    } - {()}
    if not pairs:
        return Finding(name=name, state="unknown", what="not told")
    shared = sorted(pair for pair in pairs if len(own & {*pair} if own else pair) > 1)
    if not shared:
        return Finding(name=name, state="fine", what="no two of the allowed processors share a core")
    example = ", ".join(map(str, shared[0]))
    return Finding(
        name=name, state="warning", what=f"{len(shared)} cores have two processors each, such as {example}",
        advice="allow one of each: taskset --cpu-list, or echo off | sudo tee /sys/devices/system/cpu/smt/control",
    )  # fmt: skip


def _quota(machine: Machine) -> Finding:
    name = "quota"
    quotas: list[float] = []
    for folder in _groups(machine):
        text = machine.text(f"{folder}/cpu.max").split()
        text = text or [machine.text(f"{folder}/cpu.cfs_{part}_us") for part in ("quota", "period")]
        numbers = [_number(word) for word in text]
        if len(numbers) == 2 and numbers[0] and numbers[1] and numbers[0] > 0 and numbers[1] > 0:
            quotas.append(numbers[0] / numbers[1])
    if not quotas:
        return Finding(name=name, state="fine", what="no quota of processor time")
    return Finding(
        name=name, state="warning", what=f"the container is stopped when it uses more than {min(quotas):g} processors",
        advice="lift the quota (docker --cpus), and limit the processors instead (docker --cpuset-cpus)",
    )  # fmt: skip


def _throttling(before: _Counts, after: _Counts) -> Finding:
    name = "throttling"
    if "nr_throttled" not in after.throttled:
        return Finding(name=name, state="fine", what="no quota has stopped this group")
    now = after.throttled["nr_throttled"] - before.throttled.get("nr_throttled", after.throttled["nr_throttled"])
    share = after.throttled["nr_throttled"] / after.throttled["nr_periods"]
    what = f"stopped in {after.throttled['nr_throttled']:.0f} of {after.throttled['nr_periods']:.0f} periods"
    if now <= 0 and share <= THROTTLED:
        return Finding(name=name, state="fine", what=what)
    advice = "lift the quota, or start fewer processes: harness run --jobs"
    return Finding(name=name, state="warning", what=what, advice=advice)


def _swap(machine: Machine, before: _Counts, after: _Counts) -> Finding:
    name, memory = "swap", machine.values("proc/meminfo")
    if "SwapTotal" not in memory or "SwapFree" not in memory:
        return Finding(name=name, state="unknown", what="not told")
    used = max(0.0, memory["SwapTotal"] - memory["SwapFree"]) / 2**10
    moved = None if before.swapped is None or after.swapped is None else after.swapped - before.swapped
    what = f"{used:.0f} MiB are swapped out" if memory["SwapTotal"] else "none"
    if moved:
        return Finding(
            name=name, state="warning", what=f"{what}, and {moved:.0f} pages moved in {WATCHED_S:g} s",
            advice="free memory, or start fewer processes: harness run --jobs",
        )  # fmt: skip
    return Finding(name=name, state="fine", what=what)


def _stolen(machine: Machine, before: _Counts, after: _Counts) -> Finding:
    name, shares = "virtual machine", _shares(before, after)
    is_guest = bool(re.search(r"^flags\s*:.*\bhypervisor\b", machine.text("proc/cpuinfo"), re.MULTILINE))
    if shares is None:
        return Finding(name=name, state="unknown", what="the time that a host takes is not told")
    total = sum(after.stat[:8])
    share = max(shares["stolen"], after.stat[7] / total if total else 0.0)
    what = f"{share:.1%} of the time goes to others on the host".replace("%", " %") if is_guest or share else "none"
    if share <= STOLEN:
        return Finding(name=name, state="fine", what=what)
    return Finding(
        name=name,
        state="warning",
        what=what,
        advice="take a machine with processors of its own, or more rounds: --rounds",
    )


def _clock(machine: Machine) -> Finding:
    name = "clock"
    source = machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource")
    what = f"{source or 'source not told'}, resolution {machine.resolution_s * 1e9:g} ns"
    if machine.resolution_s > COARSE_S or (source and source not in _STEADY_CLOCKS):
        return Finding(
            name=name, state="warning", what=what,
            advice="use tsc where the processor has a steady one: the kernel's option tsc=reliable",
        )  # fmt: skip
    return Finding(name=name, state="fine" if source else "unknown", what=what)


def _heat(machine: Machine, before: _Counts, after: _Counts) -> Finding:
    name, hottest = "heat", 0.0
    limit, known = HOT_C, False
    for zone in machine.found("sys/class/thermal/thermal_zone[0-9]*"):
        degrees = machine.number(f"{zone}/temp")
        if degrees is None or not -50_000 < degrees < 200_000:
            continue
        known, hottest = True, max(hottest, degrees / 1000)
        for path in machine.found(f"{zone}/trip_point_*_type"):
            trip = machine.number(path.replace("_type", "_temp"))
            if machine.text(path) == "passive" and trip and trip > 0:
                limit = min(limit, trip / 1000)
    slowed = None if before.hot is None or after.hot is None else after.hot - before.hot
    if not known and slowed is None:
        return Finding(name=name, state="unknown", what="no temperature is told")
    what = f"{hottest:.0f} °C" if known else "no temperature is told"
    if slowed or (known and hottest >= limit):
        what += f", slowed down {slowed:.0f} times in {WATCHED_S:g} s" if slowed else ""
        return Finding(name=name, state="warning", what=what, advice="let it cool, switch turbo off, or cool it better")
    return Finding(name=name, state="fine", what=what)
