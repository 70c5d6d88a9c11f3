"""A forked command is what an interpreter of its own would have been."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.measure.memory import LINUX
from tests.nursery import nursery

TOYS = Path(__file__).parent / "toy"
PLUGIN = """
import os, sys
HARNESS_API = 1
facts = sys.flags.optimize, sys.path[:2], os.getcwd(), sorted(os.listdir("/proc/self/fd")), os.environ.get("MINE")
print(*facts, sys.stdout.isatty(), "HARNESS_FORK_SERVER" in os.environ, file=sys.stderr)
"""

pytestmark = pytest.mark.skipif(not LINUX, reason="processes are forked on Linux alone")


def environment(*folders: Path, **changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1", **changes}


def afresh(place: Path, around: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=place, env=around, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("more", [("--dry-run",), ("--param", "lr=none"), ("--technique", "none"), ("--help",)])
def test_it_prints_and_returns_the_same(more: tuple[str, ...], tmp_path: Path) -> None:
    command = ("run", "-p", "harness_toy", "--no-plugins", "--suite", "toys", *more)
    real = afresh(tmp_path, environment(TOYS), *command)
    forked = nursery().run(command, place=tmp_path, environment=environment(TOYS), timeout=60)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("changes", [{}, {"PYTHONOPTIMIZE": "1"}, {"MINE": "é"}], ids=str)
def test_a_plugin_finds_the_same_around_it(changes: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "harness_facts.py").write_text(PLUGIN)
    command = ("-p", "harness_facts", "--no-plugins", "run")
    around = environment(tmp_path, **changes)
    real = afresh(tmp_path, around, *command)
    assert "False" in real.stderr
    assert nursery().run(command, place=tmp_path, environment=around, timeout=60).stderr == real.stderr


def test_another_harness_on_the_path_is_the_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness/__init__.py").touch()
    (tmp_path / "harness/__main__.py").write_text("raise SystemExit('another')\n")
    for place, around in ((tmp_path, environment()), (tmp_path / "harness", environment(tmp_path))):
        done = nursery().run(("run",), place=place, environment=around, timeout=60)
        assert (done.returncode, done.stderr) == (1, "another\n")


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    (tmp_path / "harness_slow.py").write_text(
        "import os, time\nopen('pid', 'w').write(f'{os.getpid()}')\nwhile True: time.sleep(1)\n"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        nursery().run(("-p", "harness_slow", "run"), place=tmp_path, environment=environment(tmp_path), timeout=5)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).wait(timeout=60)
