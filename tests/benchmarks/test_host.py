"""What the host itself costs: ``pytest tests/benchmarks --benchmark-only -s`` prints the figures."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.api import CaseContext, Limits, Row
from harness.execution.session import Resources, Silent, begin
from harness.host import Host, load_host
from harness.results.store import Store
from harness.selection import Selection
from harness.suite import read_suite

TOYS = Path(__file__).parent.parent / "toy"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.syspath_prepend(TOYS)
    return load_host(["harness_toy"], entry_points=False)


def bare_loop(rows: list[Row]) -> float:
    """Seconds a plain Python loop takes for the accuracy cases of these rows."""
    from contextlib import nullcontext

    from toy_targets import Formula, Toy

    start = time.perf_counter()
    for row in rows:
        case = row.case
        if case.lane == "accuracy":
            context = CaseContext(
                seed=case.seed, device="cpu", settings=case.settings, cache=Path(), phase=lambda _: nullcontext()
            )
            Formula().evaluate(Toy(**case.params), context)
    return time.perf_counter() - start


@pytest.mark.thorough
def test_the_host_s_own_share_of_a_run(
    benchmark: BenchmarkFixture, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In-process: wall time of a run minus the time inside its cases, for each case and as a share."""
    import toy_targets  # noqa: F401 - what the cases import is not the host's share

    sleep_s = 0.25 if benchmark.enabled else 0.02  # where nothing is measured there is nothing to wait for
    resources = Resources(executor="inline", jobs=1, limits=Limits(time_s=60), cache=tmp_path)

    def run() -> tuple[float, list[Row]]:
        start = time.perf_counter()
        selection = Selection(params={"sleep_s": sleep_s})
        session = begin(host, read_suite("toys", host), selection, resources)
        writer = session.start(Store(tmp_path / "store"), selection, resources)
        info = session.carry_out(writer, Silent())
        wall = time.perf_counter() - start
        return wall, list(Store(tmp_path / "store").read(info.id).rows)

    wall, rows = benchmark.pedantic(run, rounds=1, warmup_rounds=1)
    inside = sum(row.reply.wall_s for row in rows)
    per_case_ms = 1000 * (wall - inside) / len(rows)
    figures = {
        "cases": len(rows),
        "host_ms_per_case": round(per_case_ms, 3),
        "host_share_percent": round(100 * (wall - inside) / wall, 3),
        "accuracy_cases_s": round(sum(row.reply.wall_s for row in rows if row.case.lane == "accuracy"), 3),
        "bare_loop_s": round(bare_loop(rows), 3),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        sys.stdout.write(f"\nhost's own share: {figures}\n")
    assert len(rows) == 30
    assert inside < wall


@pytest.mark.parametrize("arguments", [["--help"], ["list", "techniques"]], ids=" ".join)
def test_a_command_starts(benchmark: BenchmarkFixture, arguments: list[str], tmp_path: Path) -> None:
    """The whole process of a light command, beside that of a bare interpreter (``bare_s``)."""

    def run(command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return time.perf_counter() - start

    bare = min(run([sys.executable, "-c", "pass"]) for _ in range(3))
    benchmark.extra_info["bare_s"] = round(bare, 4)
    benchmark.pedantic(run, args=([sys.executable, "-m", "harness", *arguments],), rounds=10, warmup_rounds=1)
