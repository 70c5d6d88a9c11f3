"""What foreign code raises stays with it; only a signal ends a command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from harness.foreign import Ended, contained
from harness.host import load_host
from tests.conftest import Harness, Site
from tests.test_host import HEALTHY, record

ENDS = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BaseException,
}
HEAD = """
import os, signal
from asyncio import CancelledError
from harness.api import hookimpl
HARNESS_API = 1
"""
CTRL_C = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_a_process_breaks_only_the_plugin_that_raises_it(
    site: Site, capfd: pytest.CaptureFixture[str], end: str
) -> None:
    site.plugin("healthy", HEALTHY)
    site.plugin("imported", f"{HEAD}raise {end}('bye')")
    site.plugin("declared", f"{HEAD}@hookimpl\ndef register_techniques(): raise {end}('bye')\n")
    site.plugin("noticed", f"{HEAD}@hookimpl\ndef environment_info(): raise {end}('bye')\n")
    host = load_host()
    for name in ("imported", "declared"):
        assert (record(host, name).status, record(host, name).cause) == ("broken", f"{end}: bye")
    assert "healthy/one" in host.techniques
    assert host.notify("environment_info") == []
    assert host.notify("environment_info") == []
    assert capfd.readouterr().err.splitlines() == [
        f"harness: plugin 'noticed' failed in environment_info and is left out from here on: {end}: bye"
    ]


def test_an_exception_that_has_no_text_breaks_only_its_plugin(site: Site) -> None:
    site.plugin("mute", f"{HEAD}class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute\n")
    assert record(load_host(), "mute").cause == "Mute"


@pytest.mark.parametrize("answer", ["pass", "raise ImportError('interrupted')", "raise"])
def test_ctrl_c_ends_the_command_whatever_the_plugin_makes_of_it(site: Site, answer: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    text = f"try:\n    {CTRL_C}\nexcept BaseException:\n    {answer}\n"
    site.plugin("slow", HEAD + text)
    with pytest.raises(KeyboardInterrupt):
        load_host()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_command_goes_on_after_a_false_interruption_and_ends_at_a_true_one(site: Site, harness: Harness) -> None:
    site.plugin("false", f"{HEAD}raise KeyboardInterrupt\n")
    done = harness("list", "suites")
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["harness: plugin 'false' is broken: KeyboardInterrupt"]
    site.plugin("true", f"{HEAD}{CTRL_C}\n")
    done = harness("list", "suites")
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr


def test_a_handler_that_does_not_raise_interrupts_nothing() -> None:
    received = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        with contained():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]


def test_a_handler_that_the_code_sets_stays() -> None:
    def own(*_: object) -> None:
        pass

    before = signal.getsignal(signal.SIGINT)
    try:
        with contained():
            signal.signal(signal.SIGINT, own)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def ended(act: Callable[[], object]) -> str:
    try:
        with contained():
            act()
    except Ended as error:
        return str(error)
    return ""


def test_nested_and_in_a_thread_it_contains_the_same() -> None:
    assert ended(lambda: ended(lambda: sys.exit(4)) and sys.exit(3)) == "SystemExit: 3"
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(ended(lambda: sys.exit(5))))
    thread.start()
    thread.join()
    assert found == ["SystemExit: 5"]


@pytest.mark.parametrize("end", ["KeyboardInterrupt", "SystemExit"])
def test_a_finder_of_distributions_that_ends_the_process_is_one_broken_plugin(
    site: Site, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    class Finder:
        def find_distributions(self, *_: object):
            raise ENDS[end]("bye")

        def find_spec(self, *_: object) -> None:
            return None

    site.plugin("healthy", HEALTHY)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    host = load_host()
    assert record(host, "(installed packages)").cause == f"ValueError: its entry points cannot be read: {end}: bye"
    assert "healthy/one" in host.techniques
