"""The limits of a container, as the files of control groups tell them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.execution.session import cores
from harness.measure import cgroups, processors
from harness.measure.environment import environment

V2 = "0::/pod/app\n"
V1 = "4:memory:/pod\n2:cpuacct,cpu:/pod\n0::/\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(membership: str, files: Mapping[str, str]) -> None:
        (tmp_path / "self").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "self")
        monkeypatch.setattr(cgroups, "MOUNT", tmp_path / "mount")

    return make


@pytest.mark.parametrize(
    ("membership", "files", "quota", "memory"),
    [
        (V2, {"cpu.max": "150000 100000", "memory.max": "1073741824"}, 1.5, 2**30),
        (V2, {"pod/cpu.max": "100000 100000", "pod/app/cpu.max": "400000 100000"}, 1.0, None),
        (V2, {"pod/app/memory.max": "4096", "pod/memory.max": "max", "cpu.max": "max 100000"}, None, 4096),
        (V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0, None),
        (V1, {"cpuacct,cpu/pod/cpu.cfs_quota_us": "50000", "cpuacct,cpu/pod/cpu.cfs_period_us": "100000"}, 0.5, None),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        (
            V1,
            {"memory/pod/memory.limit_in_bytes": "1000", "memory/memory.limit_in_bytes": str(2**63 - 4096)},
            None,
            1000,
        ),
        ("0::/../../outside\n", {"cpu.max": "200000 100000"}, 2.0, None),
        (V2, {"cpu.max": "nonsense", "memory.max": ""}, None, None),
        ("", {}, None, None),
    ],
)
def test_the_smallest_limit_of_the_groups_of_a_process_counts(
    groups, membership: str, files: Mapping[str, str], quota: float | None, memory: int | None
) -> None:
    groups(membership, files)
    assert cgroups.cpu_quota() == quota
    assert cgroups.memory_limit() == memory


@pytest.mark.parametrize(
    ("quota", "expected"), [("50000", 1), ("100000", 1), ("290000", 2), ("9900000", 4), ("max", 4)]
)
def test_the_cores_are_what_affinity_and_quota_leave(groups, monkeypatch, quota: str, expected: int) -> None:
    groups(V2, {"cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert cores() == processors.allowed_cores() == expected


def test_the_limits_are_recorded_in_the_environment(groups) -> None:
    groups(V2, {"cpu.max": "100000 100000", "memory.max": "1073741824"})
    facts = environment()
    assert (facts["cpu_quota"], facts["memory_limit"]) == (1.0, 2**30)


@pytest.mark.parametrize(
    ("membership", "files", "left"),
    [
        (V2, {"pod/app/memory.max": "1000", "pod/app/memory.current": "300"}, 700),
        (
            V2,
            {
                "pod/app/memory.max": "1000",
                "pod/app/memory.current": "900",
                "pod/app/memory.stat": "anon 700\ninactive_file 150",
                "pod/memory.max": "5000",
                "pod/memory.current": "4900",
            },
            100,
        ),
        (V1, {"memory/pod/memory.limit_in_bytes": "800", "memory/pod/memory.usage_in_bytes": "100"}, 700),
        (V2, {"pod/memory.max": "max", "pod/memory.current": "300"}, None),
        (V2, {"pod/memory.max": "4096"}, 4096),
    ],
)
def test_what_is_left_is_that_of_the_fullest_group_with_the_files_that_it_can_give_back(
    groups, membership: str, files: Mapping[str, str], left: int | None
) -> None:
    groups(membership, files)
    assert cgroups.memory_left() == left
