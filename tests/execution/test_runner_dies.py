"""``kill -9`` of the runner, of its fork servers, or of both at once leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import psutil
import pytest

from .conftest import TOYS, eventually

RUNNER = """
import sys
sys.path[:0] = [{root!r}, {toys!r}]
from pathlib import Path
from harness.api import Unit
from tests.execution.conftest import local, make_case
with local(Path({cache!r}), jobs=5, preload=("toys",)) as executor:
    cases = [
        make_case("HoldsTheLock", how="sleep"),
        make_case("Ignores"),
        make_case("Begets", flees=True, file={cache!r} + "/fled", then="hang"),
        make_case("Begets", flees=False, file={cache!r} + "/stayed", then="hang"),
        make_case("Begets", flees=True, unmarked=True, file={cache!r} + "/unmarked", then="hang"),
    ]
    for case in cases:
        executor.submit(Unit(cases=(case,)))
    while {{phase for _, phase in executor.running()}} != {{"init"}} or len(list(Path({cache!r}).iterdir())) < 3:
        executor.wait(0.05)
    print("torch" in sys.modules, "numpy" in sys.modules, flush=True)
    print(*(worker.pid for worker in executor._workers.values()), flush=True)
    executor.wait()
"""


def marked(mark):
    """Processes that carry the mark in their environment, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark:
                found.append(process)
        except psutil.Error:  # gone meanwhile, or a zombie, whose environment is gone
            continue
    return found


def lives(process):
    """Whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "killed",
    [{"runner"}, {"fork server"}, {"runner", "fork server"}, {"runner", "stopped fork server"}],
    ids=lambda killed: " and ".join(sorted(killed)),
)
def test_killing_the_runner_or_its_fork_server_leaves_no_process_of_a_case(tmp_path, killed):
    mark = uuid.uuid4().hex
    root = TOYS.parent.parent
    code = RUNNER.format(root=str(root), toys=str(TOYS), cache=str(tmp_path))
    runner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "MARK": mark}, cwd=tmp_path
    )
    everyone = []
    try:
        assert runner.stdout.readline() == "False False\n"  # nor does it import what only workers need
        workers = [psutil.Process(int(pid)) for pid in runner.stdout.readline().split()]
        (server,) = {worker.parent() for worker in workers}
        everyone = psutil.Process(runner.pid).children(recursive=True)
        assert len(everyone) == 3 + 5 + 3  # fork server, its supervisor, their base, workers, their children
        if "stopped fork server" in killed:
            server.send_signal(signal.SIGSTOP)
        if "runner" in killed:
            runner.kill()
        if "fork server" in killed:
            server.kill()
        left = everyone if "runner" in killed else [process for process in everyone if process in workers]
        assert eventually(lambda: not any(map(lives, left)))
        assert "runner" not in killed or eventually(lambda: not marked(mark))
        assert eventually(lambda: not any(map(lives, everyone)))
    finally:
        for process in [*everyone, *marked(mark)]:
            if lives(process):
                process.kill()
        runner.kill()
        runner.wait()
        runner.stdout.close()
