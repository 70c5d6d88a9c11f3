"""Whatever a case does to its process, it leaves a reply, and the others go on."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from harness.api import Reply, Unit
from harness.execution.isolation import client
from tests.nursery import nursery

from .conftest import MIB, finish, gone, local, make_case

LIMIT = 256 * MIB

DEATHS = {
    "an exception": (("Raises", {"what": "value"}), "error", "ValueError: seven"),
    "SystemExit": (("Raises", {"what": "exit"}), "error", "SystemExit: 3"),
    "KeyboardInterrupt": (("Raises", {"what": "interrupt"}), "error", "KeyboardInterrupt"),
    "endless recursion": (("Recurses", {}), "error", "RecursionError: maximum recursion depth exceeded"),
    "NaN": (("NotANumber", {}), "error", "score is nan"),
    "a missing attribute": (("toys:Missing", {}), "error", "AttributeError: module 'toys' has no attribute 'Missing'"),
    "a missing module": (("nowhere:It", {}), "error", "ModuleNotFoundError: No module named 'nowhere'"),
    "wrong parameters": (("toys:Toy", {"depth": 1}), "error", "TypeError: Toy() takes no arguments"),
    "a segmentation fault": (("Signals", {"number": signal.SIGSEGV}), "crash", "SIGSEGV in init"),
    "SIGKILL": (("Signals", {"number": signal.SIGKILL}), "crash", "SIGKILL in init"),
    "os._exit": (("Exits", {}), "crash", "exited with status 3 without a result"),
    "a hang": (("Hangs", {}), "timeout", "timeout after 3600 s in init"),
    "a hang in C that holds the lock": (("HoldsTheLock", {"how": "sleep"}), "timeout", "timeout after 3600 s in init"),
    "a loop in C that holds the lock": (("HoldsTheLock", {"how": "regex"}), "timeout", "timeout after 3600 s in init"),
    "a hang that ignores all signals": (("Ignores", {}), "timeout", "timeout after 3600 s in init"),
    "tensors beyond the limit": (("Allocates", {"how": "torch", "mib": 1024, "hold_s": 3600}), "oom", "can't allocate"),
    "bytes beyond the limit": (("Allocates", {"how": "bytes", "mib": 1024, "hold_s": 3600}), "oom", "MemoryError"),
    "shared memory beyond the limit": (
        ("Allocates", {"how": "shared", "mib": 512, "hold_s": 3600}),
        "oom",
        "in use in init, limit 268,435,456",
    ),
    "MemoryError": (("Raises", {"what": "memory"}), "oom", "MemoryError: none left"),
    "the device's memory": (("Raises", {"what": "torch-memory"}), "oom", "OutOfMemoryError: CUDA out of memory."),
    "nothing to act on": (("Raises", {"what": "skip"}), "skipped", "no norm layers"),
    "cannot run here": (("Raises", {"what": "unavailable"}), "unavailable", "OSError: no such library"),
    "a wrong output": (("Raises", {"what": "incorrect"}), "incorrect", "off by one"),
    "a child in its group left behind": (("Begets", {"flees": False, "then": "end"}), "ok", ""),
    "a child in a session of its own left behind": (("Begets", {"flees": True, "then": "end"}), "ok", ""),
    "a hang with a child": (("Begets", {"flees": False, "then": "hang"}), "timeout", "timeout after 3600 s in init"),
    "memory within the limit": (("Allocates", {"how": "torch", "mib": 128, "hold_s": 0.5}), "ok", ""),
}


def hasten(executor, keys):
    """Let the time of the cases of these keys be up as soon as they hang."""
    look = executor._watch

    def watch():
        look()
        for worker in executor._workers.values():
            begets = worker.job.case.params.get("file")
            hangs = worker.phase == "init" and (begets is None or (Path(begets).exists() and Path(begets).read_text()))
            if worker.job.case.key in keys and hangs and worker.deadline is not None:
                worker.deadline = time.monotonic()

    executor._watch = watch


@dataclass(frozen=True, kw_only=True)
class Found:
    """Carries the replies by name, the processes that cases left behind, and how long all of it took."""

    replies: dict[str, Reply]
    orphans: dict[str, int]
    survivors: list[int]
    elapsed_s: float


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """All deaths at once, side by side with healthy cases."""
    folder = tmp_path_factory.mktemp("deaths")
    units = {}
    for name, ((technique, params), _, _) in DEATHS.items():
        if technique == "Begets":
            params = {**params, "file": str(folder / name)}
        units[name] = Unit(cases=(make_case(technique, **params),))
    start = time.monotonic()
    with local(folder, time_s=3600, memory_bytes=LIMIT, jobs=8) as executor:
        hasten(executor, {unit.cases[0].key for name, unit in units.items() if DEATHS[name][1] == "timeout"})
        found = dict(zip(units, finish(executor, list(units.values())), strict=True))
        orphans = {path.name: int(path.read_text()) for path in folder.iterdir()}
        survivors = [pid for pid in orphans.values() if not gone(pid)]
    return Found(
        replies={name: reply for name, [reply] in found.items()},
        orphans=orphans,
        survivors=survivors,
        elapsed_s=time.monotonic() - start,
    )


@pytest.mark.parametrize("name", DEATHS)
def test_each_end_has_its_status_and_reason(deaths, name):
    _, status, reason = DEATHS[name]
    reply = deaths.replies[name]
    assert (reply.status, reason in reply.reason) == (status, True), reply


def test_no_descendant_outlives_its_case(deaths):
    assert len(deaths.orphans) == 3
    assert deaths.survivors == []


def test_a_failed_case_shows_its_traceback_and_the_end_of_its_output(deaths):
    reply = deaths.replies["an exception"]
    assert reply.detail.startswith("Traceback (most recent call last)")
    assert "harness/execution" not in reply.detail
    assert reply.detail.endswith("Output:\non the way")
    assert deaths.replies["os._exit"].detail == "Output:\nlast words"
    assert "toys.py" in deaths.replies["a segmentation fault"].detail


def test_a_case_that_is_not_a_number_has_no_metrics_and_a_curve_cut_where_it_broke(deaths):
    reply = deaths.replies["NaN"]
    assert reply.metrics == {}
    assert reply.series == {"loss": [2.0, 1.0]}
    assert reply.notes == ["loss is inf at step 3 of 4"]


def test_time_is_filled_in_for_those_that_could_not_tell_it(deaths):
    reply = deaths.replies["a loop in C that holds the lock"]
    # It computes on while it is asked where and until it is killed, however late that is on a busy machine.
    assert 0 < reply.cpu_s <= deaths.elapsed_s
    assert reply.load >= 0


def begun_since(before, *, recursive=False):
    """Return the children of this process that were not there before, when other tests' executors were."""
    return [child for child in psutil.Process().children(recursive=recursive) if child not in before]


def test_close_ends_a_hanging_case_at_once(tmp_path, monkeypatch):
    nursery()  # which base servers are forks of, and which stays
    before = psutil.Process().children(recursive=True)
    with local(tmp_path, jobs=2) as executor:
        executor.submit(Unit(cases=(make_case("Ignores"),)))
        executor.submit(Unit(cases=(make_case("Begets", flees=True, file=str(tmp_path / "pid"), then="hang"),)))
        while [phase for _, phase in executor.running()] != ["init", "init"] or not (tmp_path / "pid").exists():
            assert executor.wait(0.05) == []
        children = begun_since(before, recursive=True)
        assert len(children) == 6  # base server, supervisor, fork server, two cases and the child of one
        monkeypatch.setattr(client, "CLOSE_S", 900)
        [server] = executor._clients.values()
        kills = []
        monkeypatch.setattr(server._supervisor, "kill", lambda: kills.append("supervisor"))
        executor.close()
        assert kills == []  # it ended by itself
        assert all(gone(child.pid) for child in children)


def test_a_lost_fork_server_loses_only_its_cases(tmp_path):
    before = psutil.Process().children()
    with local(tmp_path, device="cuda") as executor:  # each worker a fresh interpreter, so nothing is imported first
        for _ in range(2):
            executor.submit(Unit(cases=(make_case("Hangs"),)))
            while executor.running()[0][1] not in ("import", "init"):
                executor.wait(0.05)
            [supervisor] = begun_since(before)
            [server] = supervisor.children()
            [worker] = server.children()
            server.kill()
            [(_, [reply])] = executor.wait()
            assert (reply.status, reply.reason) == ("lost", "the fork server ended (SIGKILL)")
            assert gone(worker.pid)
            assert gone(supervisor.pid)


def test_modules_that_cannot_be_preloaded_harm_only_the_case_that_needs_them(tmp_path, monkeypatch):
    (tmp_path / "quits.py").write_text("raise SystemExit(1)")
    (tmp_path / "dies.py").write_text("import os; os._exit(1)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with local(tmp_path, preload=("quits", "dies", "toys"), jobs=3) as executor:
        units = [Unit(cases=(make_case(target),)) for target in ("quits:It", "dies:It", "Seeded")]
        replies = [reply for [reply] in finish(executor, units)]
    assert [(reply.status, reply.reason) for reply in replies] == [
        ("error", "SystemExit: 1"),
        ("crash", "exited with status 1 without a result"),
        ("ok", ""),
    ]
