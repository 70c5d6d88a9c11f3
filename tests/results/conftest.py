"""Stores, and a PostgreSQL server of the tests' own, from Debian's package."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from pg8000.dbapi import DatabaseError, connect

from harness.results.store import Store

REQUIRED = "HARNESS_REQUIRE_POSTGRES"
"""Set to 1 where a missing server is a failure rather than a test left out."""

PASSWORD = "s3cr%t/pass"
"""A password that an address has to have quoted."""


@dataclass(kw_only=True)
class Server:
    """A running server with one database; nothing that it is told has to survive it."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"postgresql://tester:s3cr%25t%2Fpass@127.0.0.1:{self.port}/postgres"

    @property
    def user(self) -> str | None:
        """The user to run as: the server refuses to run as root."""
        return "postgres" if os.geteuid() == 0 else None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        command = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", ""]
        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, *options], user=self.user, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        end = time.monotonic() + 30
        while True:
            with closing(socket.socket()) as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop at once, as a crash does, and end all connections."""
        assert self.process is not None
        self.process.send_signal(subprocess.signal.SIGQUIT)
        self.process.wait(30)

    def run(self, statement: str) -> list[tuple]:
        """Carry out a statement as another client would, and return its records."""
        with closing(connect("tester", "127.0.0.1", "postgres", self.port, PASSWORD)) as db:
            db.autocommit = True
            cursor = db.cursor()
            cursor.execute(statement)
            return [tuple(record) for record in cursor.fetchall()] if cursor.description else []


def programs() -> Path:
    """The folder of the server's programs; skips the test where there is none, fails it where one is required."""
    found = shutil.which("postgres")
    debian = [*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *([Path(found)] if found else [])]
    if not debian:
        reason = "no PostgreSQL server is here: apt-get install postgresql"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return max(debian).parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another store, from which runs come."""
    return Store(tmp_path / "there")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server on a free port of this machine, which asks for a password."""
    where = programs()
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    server = Server(programs=where, folder=folder, port=port)
    try:
        (folder / "password").write_text(PASSWORD)
        if server.user:
            for path in (folder, folder / "password"):
                shutil.chown(path, server.user)
        made = [
            where / "initdb",
            "-D",
            folder / "data",
            "-U",
            "tester",
            "-E",
            "UTF8",
            "--no-sync",
            "--auth=scram-sha-256",
        ]
        subprocess.run(
            [*made, f"--pwfile={folder / 'password'}"], user=server.user, cwd="/", capture_output=True, check=True
        )
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def team_index(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the team's index, without any store; the tables of an earlier test stay where they are whole."""
    try:
        postgres.run("TRUNCATE harness.stores RESTART IDENTITY CASCADE")
    except DatabaseError:
        postgres.run("DROP SCHEMA IF EXISTS harness CASCADE")
    monkeypatch.setenv("HARNESS_INDEX", postgres.address)
    return postgres
