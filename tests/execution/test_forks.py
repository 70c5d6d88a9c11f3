"""Cases are forked from imports that left no threads; where these did, they are slow, and that is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.api import WARNING
from harness.execution.isolation.supervisors import ONE_THREAD
from harness.host import load_host
from harness.testing.isolated import _modules

from .conftest import local, make_case, one

IMPORTS = """
import importlib, sys
from harness.execution.isolation.forkserver import others
for module in sys.argv[1:]:
    importlib.import_module(module)
    assert not others(), f"{module} left {others()}"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="cases are forked on Linux only")
def test_no_import_of_a_judge_or_a_technique_leaves_a_thread() -> None:
    """The fork server of each plugin imports these; a thread in one would make all its cases seconds longer."""
    host = load_host()
    specs = [*host.workloads.values(), *host.techniques.values()]
    modules = _modules(entry.spec for entry in specs)
    assert len(modules) > 30
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *modules],
        env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_thread_that_imports_left_is_told(tmp_path, monkeypatch) -> None:
    left = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "leaves_a_thread.py").write_text(left)
    monkeypatch.syspath_prepend(tmp_path)
    with local(tmp_path, preload=("leaves_a_thread", "toys")) as executor:
        reply = one(executor, make_case("Seeded"))
    assert reply.status == "ok", reply
    (note,) = [note for note in reply.notes if note.startswith(f"{WARNING}imports left threads")]
    assert "an interpreter of its own" in note
    with local(tmp_path) as executor:
        assert not [note for note in one(executor, make_case("Seeded")).notes if "imports left" in note]
