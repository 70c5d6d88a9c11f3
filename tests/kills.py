"""Runs of the toy suite whose processes are killed at random moments, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import psutil

from tests.conftest import ROOT

MARK: Final = "HARNESS_KILLED_RUN"
"""The variable of the environment by which the processes of a run are known."""

VICTIMS: Final = ("runner", "runner and fork servers", "fork servers")
"""Who is killed, one after the other, in one run: after the last, the run goes on to its end."""

_RUN: Final = ("run", "-p", "harness_toy", "--no-plugins", "--quiet")
_FRESH: Final = ("--suite", "toys", "--quick")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The undisturbed run: its rows by key, and how many seconds it took."""

    rows: dict[str, dict[str, Any]]
    seconds: float


def reference_of(folder: Path) -> Reference:
    """Carry a run out without disturbing it."""
    place = Place(folder)
    began = time.monotonic()
    process = place.start()
    assert process.wait(900) == 0, place.output()
    return Reference(rows=by_key(place.rows()), seconds=time.monotonic() - began)


def by_key(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows by key. A key may have a second row only where the case had been lost before."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        earlier = found.get(row["key"])
        assert earlier is None or earlier["status"] == "lost", f"{row['key']} has a second row, after {earlier}"
        found[row["key"]] = row
    return found


class Place:
    """A folder with a store of one run, which is begun, killed and resumed there, with further ``options``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        folder.mkdir()
        self._mark = uuid.uuid4().hex
        self._log = folder / "log.txt"

    @property
    def run(self) -> Path | None:
        """The folder of the run; None where it was killed before there was one."""
        runs = [path for path in (self.folder / ".harness" / "runs").glob("*") if not path.name.startswith(".")]
        assert len(runs) <= 1, runs
        return runs[0] if runs else None

    def rows(self) -> list[dict[str, Any]]:
        """Return the stored rows. Only the last line may be torn, and only until the run is resumed."""
        return [json.loads(line) for line in self.stored().splitlines(keepends=True) if line.endswith(b"\n")]

    def stored(self) -> bytes:
        """Return the content of the file of rows, once ``run.json`` has been read as a whole."""
        if self.run is None:
            return b""
        json.loads((self.run / "run.json").read_bytes())
        return (self.run / "rows.jsonl").read_bytes()

    def output(self) -> str:
        """Return what the commands have said."""
        return self._log.read_text()

    def start(self, *fresh: str) -> subprocess.Popen[bytes]:
        """Begin the run, with options that a resumed one has already, or resume it."""
        more = ("--resume",) if self.run else (*_FRESH, *fresh)
        environment = {
            **os.environ,
            MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT / 'tests' / 'toy'}",
            "HARNESS_CACHE": str(self.folder / "cache"),
        }
        environment.pop("HARNESS_STORE", None)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "harness", *_RUN, *more, *self._options],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, victims: str, after_s: float) -> bool:
        """Start the run, kill the victims after some seconds, and check what is left; return whether any was there."""
        process = self.start()
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            pass
        else:
            assert process.returncode in (0, 1), self.output()
            return False
        servers = fork_servers(process.pid) if "fork servers" in victims else []
        before = self.stored()
        for server in servers:
            server.kill()
        if "runner" in victims:
            process.kill()
            process.wait()
        else:
            assert process.wait(900) in (0, 1), self.output()
        assert self.ended(), "processes go on"
        assert "Traceback" not in self.output(), self.output()
        after = self.stored()
        assert after.startswith(before[: before.rfind(b"\n") + 1]), "rows that were stored are gone"
        by_key(self.rows())
        return bool(servers) or "runner" in victims

    def finish(self) -> None:
        """Resume the run until its end, where it has not come there yet."""
        if self.run and json.loads((self.run / "run.json").read_bytes())["exit_code"] == 0:
            return
        assert self.start().wait(900) == 0, self.output()
        assert self.stored().endswith(b"\n")

    def ended(self) -> bool:
        """Return whether all processes of the run end within some minutes."""
        end = time.monotonic() + 300
        while any(map(self._belongs, psutil.process_iter())):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _belongs(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark
        except psutil.Error:  # gone meanwhile, or a zombie, whose environment is gone
            return False


def fork_servers(runner: int) -> list[psutil.Process]:
    """Return the fork servers of a runner: the children of the supervisors that its base server has forked."""
    found: list[psutil.Process] = []
    try:
        for base in psutil.Process(runner).children():
            if any("isolation.base" in argument for argument in base.cmdline()):
                found += [server for supervisor in base.children() for server in supervisor.children()]
    except psutil.NoSuchProcess:
        pass
    return found


def check_equal(reference: Reference, place: Place) -> None:
    """Require that a finished run holds what the undisturbed run holds, to the last digit where seeds determine it."""
    rows = by_key(place.rows())
    assert rows.keys() == reference.rows.keys()
    for key, row in rows.items():
        expected = reference.rows[key]
        assert (row["status"], row["lane"], row["tuned"]) == (expected["status"], expected["lane"], expected["tuned"])
        if row["lane"] == "accuracy":
            assert (row["metrics"], row["series"]) == (expected["metrics"], expected["series"])
        if row["lane"] == "memory":
            assert tensor_peaks(row) == tensor_peaks(expected)
    assert place.run is not None
    assert json.loads((place.run / "run.json").read_bytes())["exit_code"] == 0
    store = place.folder / ".harness"
    drafts = [path for path in store.rglob("*") if path.name.startswith((".new-", ".run.json."))]
    files = {path for path in store.rglob("*") if path.is_file() and not set(path.parents) & set(drafts)} - set(drafts)
    index = {f"index.sqlite{ending}" for ending in ("", "-wal", "-shm", "-journal")}
    assert {path.relative_to(store).name for path in files} <= {".gitignore", "run.json", "rows.jsonl", *index}


def tensor_peaks(row: dict[str, Any]) -> dict[str, float]:
    """Return the peaks of a row that are the same in every run."""
    return {name: value for name, value in row["metrics"].items() if name.endswith("_tensor_peak")}


def kill_at_random(folder: Path, count: int, seed: int) -> list[str]:
    """Kill runs ``count`` times, resume them to the end, and compare each with the undisturbed run; return a log."""
    log = [f"seed {seed}"]
    random = Random(seed)
    reference = reference_of(folder / "undisturbed")
    kills = 0
    for attempt in range(3 * count):
        place = Place(folder / f"place-{attempt}")
        for victims in VICTIMS:
            left = 1 - len(by_key(place.rows())) / len(reference.rows)
            after_s = random.uniform(0.1, 0.4 + 0.5 * left) * reference.seconds
            log.append(f"{place.folder.name}: {victims} after {after_s:.3f} s")
            try:
                hit = place.kill(victims, after_s)
            except AssertionError as error:
                raise AssertionError("\n".join([*log, str(error)])) from error
            kills += hit
            log[-1] += "" if hit else ", which was too late"
            if not hit or kills == count:
                break
        try:
            place.finish()
            check_equal(reference, place)
        except AssertionError as error:
            raise AssertionError("\n".join([*log, str(error)])) from error
        if kills == count:
            return log
    raise AssertionError("\n".join([*log, "the runs ended before they could be killed"]))
