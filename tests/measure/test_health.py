"""What makes a machine's times unreliable, from toy trees of /proc and /sys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.measure.health import Machine, examine, listed

CPU = "sys/devices/system/cpu"
QUIET: dict[str, str] = {
    "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-1\n",
    "proc/self/cgroup": "0::/app\n",
    "proc/stat": "cpu  100 0 100 9800 0 0 0 0 0 0\ncpu0 1 1 1 1\n",
    "proc/vmstat": "pswpin 10\npswpout 20\n",
    "proc/meminfo": "MemTotal: 8000000 kB\nSwapTotal: 1024 kB\nSwapFree: 1024 kB\n",
    "proc/cpuinfo": "flags\t\t: fpu avx2\n",
    f"{CPU}/online": "0-1",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
    f"{CPU}/cpu1/cpufreq/scaling_governor": "performance",
    f"{CPU}/intel_pstate/no_turbo": "1",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0,2",
    f"{CPU}/cpu1/topology/thread_siblings_list": "1,3",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "5",
    "sys/fs/cgroup/app/cpu.max": "max 100000",
    "sys/fs/cgroup/app/cpu.stat": "usage_usec 5\nnr_periods 0\nnr_throttled 0\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/class/thermal/thermal_zone0/temp": "45000",
}
LATER: dict[str, str] = {"proc/stat": "cpu  105 0 100 9995 0 0 0 0 0 0\n"}


@pytest.fixture
def states(tmp_path: Path) -> Callable[..., dict[str, tuple[str, str, str]]]:
    """The findings by name of a quiet machine with changes, and further changes while it is watched."""

    def write(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def look(files: Mapping[str, str], later: Mapping[str, str] = LATER, resolution_s: float = 1e-9):
        write({**QUIET, **files})
        machine = Machine(root=tmp_path, resolution_s=resolution_s, wait=lambda _: write(later))
        return {found.name: (found.state, found.what, found.advice) for found in examine(machine)}

    return look


def test_a_quiet_machine_is_fine_in_everything(states) -> None:
    assert {state for state, _, _ in states({}).values()} == {"fine"}


@pytest.mark.parametrize(
    ("name", "files", "later", "words"),
    [
        ("frequency", {f"{CPU}/cpu1/cpufreq/scaling_governor": "powersave"}, {}, "powersave"),
        ("turbo", {f"{CPU}/intel_pstate/no_turbo": "0"}, {}, "on"),
        ("load", {}, {"proc/stat": "cpu  150 0 100 9950 0 0 0 0 0 0\n"}, "25 %"),
        ("cores", {"proc/self/status": "Cpus_allowed_list:\t1\n"}, {}, "1 of 2"),
        ("hyper-threads", {f"{CPU}/cpu0/topology/thread_siblings_list": "0-1"}, {}, "0, 1"),
        ("quota", {"sys/fs/cgroup/app/cpu.max": "150000 100000"}, {}, "1.5 processors"),
        ("quota", {"sys/fs/cgroup/cpu.max": "50000 100000"}, {}, "0.5 processors"),
        (
            "throttling",
            {"sys/fs/cgroup/app/cpu.stat": "nr_periods 1000\nnr_throttled 1\n"},
            {"sys/fs/cgroup/app/cpu.stat": "nr_periods 1010\nnr_throttled 2\n"},
            "2 of 1010",
        ),
        ("swap", {}, {"proc/vmstat": "pswpin 15\npswpout 20\n"}, "5 pages"),
        ("virtual machine", {}, {"proc/stat": "cpu  105 0 100 9985 0 0 0 10 0 0\n"}, "5.0 %"),
        ("clock", {"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"}, {}, "hpet"),
        ("heat", {"sys/class/thermal/thermal_zone0/temp": "91000"}, {}, "91 °C"),
        ("heat", {}, {f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "8"}, "3 times"),
    ],
)
def test_each_disturbance_is_a_warning_that_says_what_to_do(states, name, files, later, words) -> None:
    found = states(files, {**LATER, **later})
    state, what, advice = found.pop(name)
    assert state == "warning"
    assert words in what
    assert advice
    assert {state for state, _, _ in found.values()} == {"fine"}


def test_a_coarse_clock_and_a_low_trip_point_are_warned_of(states) -> None:
    assert states({}, resolution_s=1e-3)["clock"][0] == "warning"
    trip = {"type": "passive", "temp": "40000"}
    zone = {f"sys/class/thermal/thermal_zone0/trip_point_0_{name}": text for name, text in trip.items()}
    assert states(zone)["heat"][0] == "warning"


def test_a_machine_that_tells_nothing_is_unknown_and_no_error(tmp_path: Path) -> None:
    found = examine(Machine(root=tmp_path / "nothing", wait=lambda _: None))
    assert {finding.state for finding in found} <= {"unknown", "fine"}
    assert len(found) == 11


@pytest.mark.parametrize("damage", ["", "-", "\x00\xff", "9" * 400, "nan", "cpu a b c\n: :\n", "0-", "max", "1e999 x"])
def test_damaged_files_are_no_error(states, damage: str) -> None:
    found = states(dict.fromkeys(QUIET, damage), dict.fromkeys(QUIET, damage))
    assert len(found) == 11


def test_a_file_that_is_a_folder_is_no_error(tmp_path: Path) -> None:
    for name in QUIET:
        (tmp_path / name).mkdir(parents=True)
    assert len(examine(Machine(root=tmp_path, wait=lambda _: None))) == 11


def test_lists_of_processors_are_read() -> None:
    assert listed("0-2,5") == [0, 1, 2, 5]
    assert listed("x") == []
