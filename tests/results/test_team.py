"""The index of a team: what members see of each other's stores, and what happens where the server fails."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.api import UsageError
from harness.cli.runs import runs
from harness.cli.store import store as store_command
from harness.history.decisions import Decisions
from harness.history.series import Wanted, read
from harness.results import shared
from harness.results.address import address
from harness.results.index import Index
from harness.results.shared import TeamLost
from harness.results.store import Store
from harness.results.tables import VERSION
from harness.results.team import runs_elsewhere, team, told_places

SECRETS = ("s3cr%t/pass", "s3cr%25t%2Fpass")


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    return Store(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    return Store(tmp_path / "theirs")


def write(store: Store, builders, scores: list[float]) -> str:
    with store.create_run(
        suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=len(scores)
    ) as writer:
        for row in builders.scored("toys/a", scores):
            writer.append(row)
        writer.finish(0)
        return writer.info.id


def share(store: Store) -> int:
    found = team()
    assert found is not None
    return found.share(store)


def elsewhere(store: Store) -> list[str]:
    return [found.run.id for found in runs_elsewhere(store)]


def listed(store: Store, *options: str) -> Result:
    done = CliRunner().invoke(runs, ["--store", str(store.path), *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done


@pytest.mark.usefixtures("team_index")
def test_the_runs_of_others_are_listed_with_their_host_and_a_line_says_where_they_are(
    ours: Store, theirs: Store, builders
) -> None:
    their, our = write(theirs, builders, [1.0]), write(ours, builders, [2.0])
    assert share(theirs) == 1
    done = listed(ours)
    host = socket.gethostname()
    _, _, first, second, where = done.stdout.splitlines()
    assert (first.split()[0], first.split()[-1]) == (their, host)
    assert (second.split()[0], second.split()[-1]) == (our, "ok")
    assert where == f"1 run in {host}:{theirs.path}: read with --store {theirs.path}"
    assert [(run["id"], run["path"]) for run in json.loads(listed(ours, "--json").stdout)] == [
        (their, str(theirs.path)),
        (our, str(ours.path)),
    ]
    with pytest.raises(UsageError, match=f"the team's index has run {their} in {host}:{theirs.path}"):
        ours.resolve(their[-4:])


@pytest.mark.usefixtures("team_index")
def test_a_folder_whose_name_is_no_text_is_published(ours: Store, tmp_path: Path, builders) -> None:
    run = write(odd := Store(tmp_path / "b\udcffad"), builders, [1.0])
    assert (share(odd), share(odd)) == (1, 0)
    (found,) = runs_elsewhere(ours)
    assert (found.run.id, found.place.path) == (run, f"{tmp_path}/b\\udcffad")


def test_rows_that_lie_on_another_machine_are_said_to_be_there() -> None:
    place = shared.Place(host="gpu-1", path="/home/ada/.harness")
    assert told_places([place, place]) == ["2 runs in gpu-1:/home/ada/.harness: their rows are on that machine"]


@pytest.mark.usefixtures("team_index")
def test_a_history_has_the_points_of_others_and_a_copied_run_once(ours: Store, theirs: Store, builders) -> None:
    copied, own = write(theirs, builders, [1.0, 2.0]), write(theirs, builders, [4.0])
    share(theirs)
    third = Store(theirs.path.with_name("third"))
    shutil.copytree(theirs.path, third.path)
    share(third)
    shutil.copytree(theirs.folder(copied), ours.folder(copied))
    found = [*read([ours], None, Wanted(metric="accuracy"), Decisions())]
    assert [(source.run.id, source.point.value) for source in found] == [(copied, 1.5), (own, 4.0)]
    assert [source.place is not None for source in found] == [False, True]
    assert elsewhere(ours) == [own]


@pytest.mark.usefixtures("team_index")
def test_what_is_published_of_a_store_follows_its_files(ours: Store, theirs: Store, builders) -> None:
    first, second = write(theirs, builders, [1.0]), write(theirs, builders, [2.0])
    assert (share(theirs), share(theirs)) == (2, 0)
    shutil.rmtree(theirs.folder(first))
    (theirs.folder(second) / "name").write_text("mine\n")
    assert share(theirs) == 2
    (left,) = runs_elsewhere(ours)
    assert (left.run.id, left.run.name) == (second, "mine")


def test_a_connection_that_is_lost_midway_leaves_whole_runs_and_the_next_command_goes_on(
    team_index, ours: Store, theirs: Store, builders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = write(theirs, builders, [1.0]), write(theirs, builders, [2.0])
    really = shared.insert

    def insert(db, table: str, records) -> None:
        if table == "points" and records[0]["run"] == second:
            team_index.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        really(db, table, records)

    with monkeypatch.context() as patch:
        patch.setattr(shared, "insert", insert)
        with pytest.raises(TeamLost):
            share(theirs)
    assert not caplog.records  # which a command would print with a traceback
    assert elsewhere(ours) == [first]
    assert share(theirs) == 1
    assert elsewhere(ours) == [first, second]
    assert team_index.run("SELECT run, value FROM harness.points ORDER BY run") == [(first, 1.0), (second, 2.0)]


@pytest.mark.usefixtures("team_index")
def test_one_process_at_a_time_publishes_a_store_and_none_waits_for_ever(
    ours: Store, theirs: Store, builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LOCK_S", 0.2)
    write(theirs, builders, [1.0])
    share(theirs)
    write(theirs, builders, [2.0])
    write(ours, builders, [3.0])
    with shared.connected(address()) as db:
        shared.lock(db, 1)
        with pytest.raises(TeamLost, match="lock timeout"):
            share(theirs)
        assert share(ours) == 1
    assert share(theirs) == 1


def test_a_server_that_is_down_costs_a_line_and_only_the_command_that_publishes_fails(
    team_index, ours: Store, builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write(ours, builders, [1.0])
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    monkeypatch.setenv("HARNESS_INDEX", team_index.address.replace(str(team_index.port), str(closed.getsockname()[1])))
    done = listed(ours)
    closed.close()
    assert run in done.stdout
    (line,) = done.stderr.splitlines()
    assert "cannot be used" in line
    assert "only the runs of" in line
    with pytest.raises(UsageError, match="cannot be used"):
        CliRunner().invoke(store_command, ["share", "--store", str(ours.path)], catch_exceptions=False)


def test_another_service_at_the_address_costs_a_line(ours: Store, builders, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ours, builders, [1.0])
    with closing(socket.create_server(("127.0.0.1", 0))) as service:
        monkeypatch.setenv("HARNESS_INDEX", f"postgresql://u:pw@127.0.0.1:{service.getsockname()[1]}/db")

        def answer() -> None:
            client, _ = service.accept()
            with client:
                client.recv(100)
                client.sendall(b"N" + b"\0" * 20)
                client.recv(100)

        with ThreadPoolExecutor(1) as thread:
            thread.submit(answer)
            with pytest.raises(TeamLost, match="no PostgreSQL server"):
                share(ours)


@pytest.mark.parametrize("password", ["wr%25ng-one", "wr%25ng-one@elsewhere:70"])
def test_no_message_has_the_password(
    team_index, ours: Store, builders, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    write(ours, builders, [1.0])
    monkeypatch.setenv("HARNESS_INDEX", team_index.address.replace(SECRETS[1], password))
    try:
        told = listed(ours).stderr
    except UsageError as error:
        told = str(error)
    assert told
    assert not [part for part in ("wr%", "ng-one") if part in told]


def test_a_password_that_is_missing_costs_a_line(
    team_index, ours: Store, builders, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ours, builders, [1.0])
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("HARNESS_INDEX", team_index.address.replace(f":{SECRETS[1]}", ""))
    with pytest.raises(TeamLost, match="password"):
        share(ours)


def test_tables_of_a_later_version_are_refused_and_stay(team_index, ours: Store, builders) -> None:
    write(ours, builders, [1.0])
    share(ours)
    team_index.run(f"UPDATE harness.version SET version = {VERSION + 1}")
    with pytest.raises(TeamLost, match=f"version {VERSION + 1}, and this harness knows {VERSION}: install the newer"):
        share(ours)
    assert team_index.run("SELECT count(*) FROM harness.runs") == [(1,)]
    team_index.run(f"UPDATE harness.version SET version = {VERSION}")


def test_tables_of_an_earlier_version_are_made_anew(team_index, ours: Store, builders) -> None:
    write(ours, builders, [1.0])
    share(ours)
    team_index.run(f"UPDATE harness.version SET version = {VERSION - 1}; ALTER TABLE harness.points DROP COLUMN value")
    assert share(ours) == 1
    assert team_index.run("SELECT value FROM harness.points") == [(1.0,)]


@pytest.mark.parametrize("table", ["points", "runs", "stores", "version"])
def test_a_table_that_is_missing_is_made_anew_with_the_others(team_index, ours: Store, builders, table: str) -> None:
    write(ours, builders, [1.0])
    share(ours)
    team_index.run(f"DROP TABLE harness.{table} CASCADE")
    assert share(ours) == 1
    assert share(ours) == 0
    assert team_index.run("SELECT value FROM harness.points") == [(1.0,)]


def test_a_version_that_is_no_number_is_told_in_a_line_and_nothing_is_touched(
    team_index, ours: Store, builders
) -> None:
    write(ours, builders, [1.0])
    share(ours)
    team_index.run("ALTER TABLE harness.version ALTER COLUMN version TYPE text USING 'eight'")
    told = "the version of its tables is 'eight', which is no number: DROP SCHEMA harness CASCADE"
    with pytest.raises(TeamLost, match=told):
        share(ours)
    assert team_index.run("SELECT count(*) FROM harness.runs") == [(1,)]
    done = CliRunner().invoke(store_command, ["share", "--store", str(ours.path)])
    assert told in str(done.exception)
    team_index.run("DROP SCHEMA harness CASCADE")


def test_a_run_that_the_database_cannot_hold_is_listed_with_the_reason(
    team_index, ours: Store, theirs: Store, builders
) -> None:
    good = write(theirs, builders, [1.0])
    with theirs.create_run(
        suite=builders.make_suite(title="x\0", id="a\0b"), selection={}, plugins=(), environment={}, planned=1
    ) as writer:
        writer.append(builders.make_row(metrics={"accuracy": 1.0}))
        writer.finish(0)
    assert Index(theirs).runs()[1].suite == "a\0b"
    share(theirs)
    first, second = runs_elsewhere(ours)
    assert (first.run.id, first.run.problem) == (good, "")
    assert second.run.problem.startswith("the team's index cannot hold it: ")
    assert team_index.run("SELECT DISTINCT run FROM harness.points") == [(good,)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "no address of a database"),
        ("postgresql://u:pw@host:port/db", "no address of a database"),
        ("mysql://u:pw@host/db", "begins with 'mysql'"),
        ("postgresql+asyncpg://u:pw@host/db", "begins with 'postgresql.asyncpg'"),
        ("postgresql://host/db", "names no user"),
        ("postgresql://u:pw@host", "names no database"),
        ("postgresql://u:pw@host/db?sslmode=maybe", "sslmode='maybe'"),
        ("postgresql://u:pw@host/db?connect_timeout=3", "has the option 'connect_timeout'"),
        ("postgresql://u:pw@host/db?sslmode=disable&sslmode=require", "more than once the option 'sslmode'"),
        ("postgresql://u:pw@db..org/db", "names the host 'db..org'"),
        ("postgresql://u:pw@host/db?sslmode=require&sslrootcert=/no/file", "cannot be read"),
    ],
)
def test_what_is_no_address_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.setenv("HARNESS_INDEX", text)
    with pytest.raises(UsageError, match=problem) as caught:
        address()
    assert "pw" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_INDEX", "postgresql://u@host/db")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r'pip install "technique-harness\[postgres\]"'):
        address()


@pytest.mark.parametrize(
    ("mode", "checks"),
    [("prefer", None), ("disable", False), ("require", (False, False)), ("verify-ca", (False, True)),
     ("verify-full", (True, True))],
)  # fmt: skip
def test_how_a_connection_is_encrypted_is_as_libpq_says(monkeypatch: pytest.MonkeyPatch, mode: str, checks) -> None:
    monkeypatch.setenv("HARNESS_INDEX", f"postgresql://u@host/db?sslmode={mode}")
    found = address()
    assert found is not None
    context = found.arguments.get("ssl_context")
    assert (context if not context else (context.check_hostname, context.verify_mode.name == "CERT_REQUIRED")) == checks
    assert "sslmode" not in found.url.query
