"""The collector of cycles leaves rows and ending processes alone, and goes on afterwards as before."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collecting import no_collection
from tests.conftest import Harness, Site

CYCLE = """
from harness.collecting import end_without_collection
class Own:
    def __del__(self): print("searched")
own = Own()
own.self = own
"""


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing is frozen, as in a command: the collection of tests has frozen what it made."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("thawed")
def test_nothing_is_collected_meanwhile_and_what_was_made_is_old() -> None:
    assert gc.isenabled()
    with no_collection():
        with no_collection():
            made = [[] for _ in range(2000)]
        assert not gc.isenabled()
        assert gc.get_count()[0] >= 2000
    assert gc.isenabled()
    assert gc.get_count()[0] < 2000
    assert any(found is made for found in gc.get_objects(generation=2))


def test_what_others_have_frozen_stays_so() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with no_collection():
            pass
        assert gc.get_freeze_count() >= frozen > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(("call", "printed"), [("", "searched\n"), ("end_without_collection()", "")])
def test_a_process_ends_without_a_search(call: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", CYCLE + call], capture_output=True, text=True, check=True)
    assert done.stdout == printed


LEAVES_FILES_OPEN = """
import tempfile
HARNESS_API = 1
class Own:
    def __init__(self):
        self.file = open("left.log", "w")
        self.draft = tempfile.NamedTemporaryFile(prefix="draft", dir=".")
        self.own = self
OWN = Own()
OWN.file.write("not lost")
"""


def test_a_file_that_a_plugin_leaves_open_in_a_cycle_is_written_and_closed(
    site: Site, harness: Harness, tmp_path: Path
) -> None:
    site.plugin("leaves", LEAVES_FILES_OPEN)
    assert harness("plugins").returncode == 0
    (log,) = tmp_path.rglob("left.log")
    assert log.read_text() == "not lost"
    assert not [*log.parent.glob("draft*")]


CALLS = """
from pathlib import Path
from harness.cli import main
try:
    main(["runs"])
except SystemExit:
    pass
class Own:
    def __init__(self): self.file, self.own = Path("own.log").open("w"), self
own = Own()
own.file.write("not lost")
"""


def test_a_program_that_calls_the_command_line_keeps_what_it_wrote(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CALLS], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "own.log").read_text() == "not lost"
