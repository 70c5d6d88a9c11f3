"""The list of runs, as the command prints it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.runs import runs
from harness.results.store import Store
from harness.results.writer import ROWS_FILE, RUN_FILE


@pytest.fixture
def store(tmp_path: Path, builders) -> Store:
    place = Store(tmp_path)
    for score in (1.0, 2.0):
        with place.create_run(
            suite=builders.make_suite(), selection={}, plugins=(), environment={}, planned=1
        ) as writer:
            writer.append(builders.make_row(metrics={"accuracy": score}))
            writer.finish(0)
    return place


def lines(store: Store) -> list[str]:
    done = CliRunner().invoke(runs, ["--store", str(store.path)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.splitlines()[2:]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        (ROWS_FILE, None, "cannot read"),
        (RUN_FILE, None, "cannot read"),
        (ROWS_FILE, '{"schema": 99}\n{}\n', "written with schema 99"),
        (ROWS_FILE, '{"schema": 2, "seed": "x"}\n{}\n', "is missing"),
        (RUN_FILE, "{", "not JSON"),
        (RUN_FILE, "[" * 100_000, "not JSON"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line_with_its_problem(
    store: Store, file: str, content: str | None, problem: str
) -> None:
    bad, good = store.ids()
    path = store.folder(bad) / file
    path.unlink() if content is None else path.write_text(content)
    first, second, _, named, *reason = lines(store)
    assert first.startswith(bad)
    assert "unreadable" in first
    assert named == f"{bad}:"
    assert problem in " ".join(line.strip() for line in reason)
    assert second.startswith(good)
    assert second.split()[-2:] == ["1", "ok"]


def test_an_empty_folder_beside_the_runs_is_one_line(store: Store) -> None:
    (store.path / "runs" / "zz").mkdir()
    assert [line.split()[0] for line in lines(store)[:3]] == [*store.ids()[:2], "zz"]
