"""``harness check`` finds what the conformance tests find, needs no pytest, and survives what a technique does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from harness.testing import checks
from tests.conftest import ROOT

PLUGIN = """
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    def technique(name, target, **facts):
        return Technique(id=name, contract="finetune", target=target, summary="of a test", **facts)

    @hookimpl
    def register_techniques():
        return [
            technique("moody", "tests.testing.faulty_targets:Moody"),
            technique("leaves", "leaving:leave", params={"size": 1}, space={"size": [1, 2]}),
            technique("elsewhere", "nowhere:Nothing", requires=["surely-not-installed>=2"]),
        ]
"""

LEAVING = """
    import os
    from tests.testing.faulty_targets import Honest

    def leave(size):
        if size == 2:  # which is built in no case, only by the check of the space
            os._exit(0)
        return Honest()
"""


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, where importing pytest fails."""
    (folder / "pytest.py").write_text("raise ImportError('pytest is imported')\n")
    path = f"{folder}{os.pathsep}{ROOT}"
    return subprocess.run(
        [sys.executable, "-m", "harness", "check", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.slow
def test_each_mistake_is_told_with_its_mend_and_hurts_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "harness_bad.py").write_text(dedent(PLUGIN))
    (tmp_path / "leaving.py").write_text(dedent(LEAVING))
    done = check(tmp_path, "harness_bad", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    failed = {(entry["whose"], entry["check"]): entry for entry in told["checks"] if entry["result"] == "failed"}
    assert failed.keys() == {("bad/moody", "repeats_itself"), ("bad/leaves", "can_be_built")}
    assert "draw only from the generator" in failed["bad/moody", "repeats_itself"]["said"]
    left = failed["bad/leaves", "can_be_built"]
    assert "the process ended in can_be_built with exit status 0" in left["said"]
    assert "must neither end its process" in left["mend"]
    (untried,) = (entry for entry in told["checks"] if entry["result"] == "untried")
    assert (untried["whose"], untried["mend"]) == ("bad/elsewhere", "install what is missing")


HANGS = """
    import time
    from tests.testing.faulty_targets import Honest

    class Hangs(Honest):
        def adapt(self, model, task):
            while True:
                time.sleep(1)
"""


@pytest.mark.thorough
def test_a_case_that_hangs_is_told_with_where_it_hung(tmp_path: Path) -> None:
    (tmp_path / "harness_bad.py").write_text(
        dedent(PLUGIN).replace("tests.testing.faulty_targets:Moody", "hangs:Hangs")
    )
    (tmp_path / "hangs.py").write_text(dedent(HANGS))
    done = check(tmp_path, "harness_bad", "--technique", "moody", "--limit", "2", "--json")
    assert done.returncode == 1, done.stderr
    (failed,) = (entry for entry in json.loads(done.stdout)["checks"] if entry["result"] == "failed")
    assert "ended as timeout: timeout after 2 s" in failed["said"]
    assert "Where it hung:\nCurrent thread" in failed["said"]
    assert f'  File "{tmp_path / "hangs.py"}", line 8 in adapt' in failed["said"]


def test_a_process_that_checks_tells_where_it_hangs_before_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from harness.execution.isolation.stacks import answer_with_stacks\n"
        "answer_with_stacks(1)\n"
        "def hang():\n"
        "    while True: print('on the way', file=sys.stderr)\n"
        "hang()\n"
    )
    with (tmp_path / "said").open("w+b") as said, (tmp_path / "stacks").open("w+b") as stacks:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=stacks, stderr=said)
        try:
            while not checks._tail(said):
                assert process.poll() is None
                time.sleep(0.05)
            where = checks._where(process, stacks)
            assert where.splitlines()[0] == "Where it hung:"
            assert where.endswith(', line 5 in hang\n  File "<string>", line 6 in <module>')
            assert {*checks._tail(said).splitlines()[1:-1]} == {"on the way"}
        finally:
            process.kill()
            process.wait()


def test_techniques_are_checked_side_by_side_and_told_in_order_until_the_caller_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2)
    ended = []

    def checked(order: checks.Order, contract: str, stop: threading.Event) -> Iterator[checks.Checked]:
        yield checks.Checked(whose=order.technique, check=contract, result="passed")
        if order.technique in "ab":
            both.wait(timeout=30)  # the second has begun, too
        time.sleep(0.05 * (order.technique == "a"))
        if order.technique == "c":
            stop.wait(timeout=30)
            ended.append(stop.is_set())

    monkeypatch.setattr(checks, "technique_checked", checked)
    orders = [
        (checks.Order(technique=name, modules=(), cache="", limit_s=1.0, memory_bytes=1), "toy") for name in "abcd"
    ]
    told = checks.techniques_checked(orders, 2)
    assert [next(told).whose for _ in range(2)] == ["a", "b"]
    told.close()
    assert ended == [True]


def test_a_plugin_that_does_not_load_fails_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "harness_old.py").write_text("HARNESS_API = 0\n")
    done = check(tmp_path, "harness_old")
    assert done.returncode == 1
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("failed: old: loads: plugin 'old' is broken: ")
    assert last.startswith("old: 4 checks of the declaration and 0 techniques: ")


def test_a_name_that_is_no_plugin_is_refused_in_one_line(tmp_path: Path) -> None:
    for name, reason in (("finetun", "did you mean 'finetune'?"), ("no such name", "no such module")):
        done = check(tmp_path, name)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr
    done = check(tmp_path, "lora", "--technique", "pisa")
    assert done.returncode == 2
    assert "no technique of plugin 'lora' matches 'pisa'; did you mean 'lora/pissa'?" in done.stderr
