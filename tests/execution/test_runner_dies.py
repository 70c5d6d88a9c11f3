"""``kill -9`` of the runner leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil

from .conftest import TOYS, eventually

RUNNER = """
import sys
sys.path[:0] = [{root!r}, {toys!r}]
from pathlib import Path
from harness.api import Unit
from tests.execution.conftest import local, make_case
with local(Path({cache!r}), jobs=4) as executor:
    cases = [
        make_case("HoldsTheLock", how="sleep"),
        make_case("Ignores"),
        make_case("Begets", flees=True, file={cache!r} + "/fled", then="hang"),
        make_case("Begets", flees=False, file={cache!r} + "/stayed", then="hang"),
    ]
    for case in cases:
        executor.submit(Unit(cases=(case,)))
    while {{phase for _, phase in executor.running()}} != {{"init"}} or len(list(Path({cache!r}).iterdir())) < 2:
        executor.wait(0.05)
    print("torch" in sys.modules, "numpy" in sys.modules, flush=True)
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


def test_killing_the_runner_leaves_no_process(tmp_path):
    mark = uuid.uuid4().hex
    root = TOYS.parent.parent
    code = RUNNER.format(root=str(root), toys=str(TOYS), cache=str(tmp_path))
    runner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "MARK": mark}, cwd=tmp_path
    )
    try:
        assert runner.stdout.readline() == "False False\n"  # nor does it import what only workers need
        assert len(marked(mark)) == 1 + 1 + 4 + 2  # runner, fork server, workers, their children
        runner.kill()
        runner.wait()
        assert eventually(lambda: not marked(mark))
    finally:
        for process in marked(mark):
            process.kill()
        runner.stdout.close()
