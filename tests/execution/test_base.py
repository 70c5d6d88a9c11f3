"""The base server: the judge is imported once for all plugins, and whatever happens to it, cases go on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from contextlib import closing
from dataclasses import replace

import psutil
import pytest

from harness.api import ExecutorOptions, Unit
from harness.execution.executors.local import LocalExecutor
from harness.execution.isolation import base, client, descriptors, processes, supervisors

from .conftest import eventually, finish, gone, make_case, options

MANY_FILES = 1100
"""More open files than `select.select` takes."""


@pytest.fixture
def executor(tmp_path, monkeypatch):
    """An executor for two plugins, whose judge writes down each process that imports it."""
    (tmp_path / "judging.py").write_text(
        f"import os, toys\nwith open({str(tmp_path / 'imports')!r}, 'a') as f: f.write(f'{{os.getpid()}}\\n')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    techniques = {"loud": ("hostile",), "toys": ("toys",)}
    settings = {**vars(options(tmp_path, jobs=1)), "preload": ("judging",), "techniques": techniques}
    with closing(LocalExecutor(ExecutorOptions(**settings))) as executor:
        yield executor


def of_plugin(plugin, technique="Technique", **params):
    return Unit(cases=(replace(make_case(technique, **params), technique=f"{plugin}/it"),))


def base_server(executor):
    [process] = (psutil.Process(base._process.pid) for base in [executor._supervisors._base])
    return process


def statuses(executor, *units):
    return [reply.status for [reply] in finish(executor, list(units))]


def test_the_judge_is_imported_once_for_all_plugins(executor, tmp_path):
    assert statuses(executor, of_plugin("toys"), of_plugin("loud"), of_plugin("")) == ["ok"] * 3
    assert (tmp_path / "imports").read_text().split() == [str(base_server(executor).pid)]


def test_each_fork_server_has_a_mark_of_its_own_that_its_cases_inherit(executor):
    assert statuses(executor, of_plugin("toys"), of_plugin("loud")) == ["ok", "ok"]
    found = []
    for known in executor._clients.values():
        supervisor = psutil.Process(known._supervisor.pid)
        own = {supervisor.pid, *(process.pid for process in supervisor.children(recursive=True))}
        assert set(processes.marked(f"{base.MARK}={known._mark}")) == own
        found.append(own)
    assert not set.intersection(*found)


def test_the_end_of_the_base_server_ends_no_case(executor, tmp_path):
    file = tmp_path / "pid"
    executor.submit(of_plugin("toys", "Begets", flees=False, file=str(file), then="hang"))
    assert eventually(lambda: not executor.wait(0.05) and file.exists() and file.read_text())
    first = base_server(executor)
    first.kill()
    assert statuses(executor, of_plugin("loud")) == ["ok"]
    assert base_server(executor) != first
    assert processes.is_running(int(file.read_text()))
    psutil.Process(executor._clients["toys"]._supervisor.pid).kill()
    [(_, [reply])] = executor.wait()
    assert (reply.status, reply.reason) == ("lost", "the fork server ended (and its base server before it)")
    assert gone(int(file.read_text()))


def test_a_stopped_base_server_is_replaced(executor, monkeypatch):
    assert statuses(executor, of_plugin("toys")) == ["ok"]
    first = base_server(executor)
    first.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(client, "START_S", 0.5)
    monkeypatch.setattr(supervisors, "CLOSE_S", 0.5)
    real = supervisors.Base

    def another(*arguments):
        monkeypatch.setattr(client, "START_S", 900.0)
        return real(*arguments)

    monkeypatch.setattr(supervisors, "Base", another)
    assert statuses(executor, of_plugin("loud")) == ["ok"]
    assert base_server(executor) != first


def test_a_base_server_with_threads_starts_fork_servers_in_interpreters_of_their_own(executor, tmp_path):
    (tmp_path / "judging.py").write_text(
        "import threading, time, toys\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()"
    )
    executor.submit(of_plugin("toys"))

    def is_afresh():
        executor.wait(0.05)
        with contextlib.suppress(KeyError):  # it is not started yet
            supervisor = psutil.Process(executor._clients["toys"]._supervisor.pid)
            return any("isolation.supervisor" in argument for argument in supervisor.cmdline())
        return False

    assert eventually(is_afresh)


def test_an_import_that_kills_the_base_server_harms_only_the_case_that_needs_it(executor, tmp_path):
    (tmp_path / "judging.py").write_text("import os; os._exit(1)")
    assert statuses(executor, of_plugin("toys"), of_plugin("loud", "judging:It")) == ["ok", "crash"]


def test_a_base_server_of_a_runner_with_many_open_files_is_heard(executor):
    descriptors.raise_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= MANY_FILES:
        pytest.skip("this process may not have as many files open")
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(MANY_FILES)]
    try:
        assert statuses(executor, of_plugin("toys")) == ["ok"]
        assert psutil.Process(executor._clients["toys"]._supervisor.pid).is_running()
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_only_imports_go_without_the_collector(tmp_path, monkeypatch):
    (tmp_path / "collected.py").write_text(
        "import gc, toys\nAT_IMPORT = gc.isenabled()\n"
        "class Collected(toys.Technique):\n    def act(self, context):\n        return 2 * AT_IMPORT + gc.isenabled()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {**vars(options(tmp_path, jobs=1)), "techniques": {"toys": ("collected",)}}
    with closing(LocalExecutor(ExecutorOptions(**settings))) as executor:
        [[reply]] = finish(executor, [of_plugin("toys", "collected:Collected")])
    assert reply.metrics["score"] == 1.0, reply


FIRST_MODULE = """
import os, toys
from pathlib import Path

class First(toys.Technique):
    def act(self, context):
        Path(os.environ["MARKS"], "first").touch()
        return 1.0
"""

SECOND_MODULE = """
import os, time
from pathlib import Path

end = time.monotonic() + 30
while not Path(os.environ["MARKS"], "first").exists() and time.monotonic() < end:
    time.sleep(0.01)
import toys

class Second(toys.Technique):
    pass
"""


def test_a_technique_of_the_first_module_does_not_wait_for_imports_of_others(tmp_path, monkeypatch):
    (tmp_path / "first_module.py").write_text(FIRST_MODULE)
    (tmp_path / "second_module.py").write_text(SECOND_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MARKS", str(tmp_path))
    settings = {**vars(options(tmp_path, jobs=2)), "techniques": {"toys": ("first_module", "second_module")}}
    with closing(LocalExecutor(ExecutorOptions(**settings))) as executor:
        finish(executor, [of_plugin("")])
        units = [of_plugin("toys", technique) for technique in ("second_module:Second", "first_module:First")]
        assert statuses(executor, *units) == ["ok", "ok"]
        assert set(executor._clients) == {"", "toys", "first module of toys"}


def test_a_base_server_that_was_begun_is_taken_by_the_first_executor(tmp_path):
    with supervisors.begun():
        [ahead] = supervisors._begun
        with closing(LocalExecutor(options(tmp_path))) as executor:
            assert statuses(executor, of_plugin("")) == ["ok"]
            assert base_server(executor).pid == ahead._process.pid
    assert ahead.ended


def test_a_base_server_that_was_begun_for_nothing_ends(tmp_path):
    with supervisors.begun():
        [ahead] = supervisors._begun
    assert ahead._process.returncode is not None
    with closing(LocalExecutor(options(tmp_path))) as executor:
        assert statuses(executor, of_plugin("")) == ["ok"]
        assert base_server(executor).pid != ahead._process.pid


def test_a_base_server_that_was_begun_and_died_is_replaced(tmp_path):
    with supervisors.begun():
        [ahead] = supervisors._begun
        ahead.kill()
        ahead._process.wait()
        with closing(LocalExecutor(options(tmp_path))) as executor:
            assert statuses(executor, of_plugin("")) == ["ok"]
