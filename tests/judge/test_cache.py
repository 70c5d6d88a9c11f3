"""The cache: made once, whole or not at all, and made again where it is damaged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.judge.cache import key_of, load_or_make

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from harness.judge.cache import load_or_make

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def make():
    with (folder / "made").open("a") as file:
        file.write("x")
    time.sleep(seconds)
    return {"weight": torch.full((3,), float(os.getpid()))}

print(load_or_make(folder, "model", make)["weight"].tolist())
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def times_made(folder: Path) -> int:
    return (folder / "made").stat().st_size if (folder / "made").exists() else 0


@pytest.fixture
def make() -> Callable[[], dict[str, Tensor]]:
    return lambda: {"weight": torch.arange(6.0).view(2, 3), "labels": torch.arange(4, dtype=torch.uint8)}


@pytest.fixture
def file(tmp_path: Path, make: Callable[[], dict[str, Tensor]]) -> Path:
    load_or_make(tmp_path, "model", make)
    return tmp_path / "base-models" / "model.safetensors"


def test_two_processes_at_once_make_it_once(tmp_path: Path) -> None:
    answers = [process.communicate()[0] for process in [start(tmp_path, 1.0), start(tmp_path, 1.0)]]
    assert answers[0] == answers[1] != ""
    assert times_made(tmp_path) == 1


def test_a_maker_that_is_killed_blocks_no_other(tmp_path: Path) -> None:
    victim = start(tmp_path, 600)
    deadline = time.monotonic() + 600
    while not times_made(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    other = start(tmp_path, 0)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert other.communicate(timeout=600)[0]
    assert times_made(tmp_path) == 2


def test_what_is_read_is_what_was_made(tmp_path: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    def never() -> dict[str, Tensor]:
        raise AssertionError("made twice")

    load_or_make(tmp_path, "model", make)
    again = load_or_make(tmp_path, "model", never)
    assert all(torch.equal(again[name], tensor) for name, tensor in make().items())
    assert all(again[name].dtype == tensor.dtype for name, tensor in make().items())


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[:-5],
    "foreign": lambda _: b"not a model at all, but long enough to look like one",
    "one bit flipped": flip,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(file: Path, make: Callable[[], dict[str, Tensor]], damage: str) -> None:
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[damage](whole))
    found = load_or_make(file.parent.parent, "model", make)
    assert torch.equal(found["weight"], make()["weight"])
    assert file.read_bytes() == whole


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    def fail() -> dict[str, Tensor]:
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"):
        load_or_make(tmp_path, "model", fail)
    assert not list((tmp_path / "base-models").iterdir())
    assert len(load_or_make(tmp_path, "model", make)) == 2


def test_only_the_model_stays_in_the_folder(file: Path) -> None:
    assert [path.name for path in file.parent.iterdir()] == ["model.safetensors"]


def test_the_name_follows_from_the_facts_in_any_order() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1}) != key_of({"a": 1, "b": [3]})


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_is_made_all_the_same_and_a_line_says_so_once(
    tmp_path: Path,
    make: Callable[[], dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    for name in ("first", "second"):
        assert torch.equal(load_or_make(tmp_path, name, make)["weight"], make()["weight"])
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(number) in line
    assert sorted(path.name for path in (tmp_path / "base-models").iterdir()) == [
        "first.safetensors",
        "second.safetensors",
    ]


def test_two_makers_without_locks_leave_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def outer() -> dict[str, Tensor]:
        load_or_make(tmp_path, "model", lambda: {"weight": torch.ones(1)})
        return {"weight": torch.ones(1)}

    monkeypatch.setattr("fcntl.flock", refuse)
    load_or_make(tmp_path, "model", outer)
    assert load_or_make(tmp_path, "model", outer)["weight"].item() == 1
    assert [path.name for path in (tmp_path / "base-models").iterdir()] == ["model.safetensors"]
