"""Stored runs that somebody damaged or forged are shown, or refused in lines that say what is wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.inputs import damaged, fuzzed, texts, torn
from tests.fuzz.world import World

EARLIER = "20000101-000000-aaaa"
"""The id of a run that is not damaged, to compare the last one with."""

READING = (
    ("runs",),
    ("runs", "--json"),
    ("show", "run"),
    ("show", "run", "--details"),
    ("show", "run", "--format", "json"),
    ("show", "run", "--format", "github"),
    ("show", "run", "--format", "latex"),
    ("show", "row", "last/good"),
    ("show", "row", "last/good@formula", "--json"),
    ("show", "tuning"),
    ("show", "tuning", "--technique", "good"),
    ("report",),
    ("store", "check"),
    ("export", "csv"),
    ("export", "json"),
    ("export", "parquet", "-o", ".harness/rows.parquet"),
    ("export", "asv", "-o", ".harness/asv"),
    ("compare", EARLIER, "last"),
    ("compare", EARLIER, "last", "--gate", "--format", "markdown"),
)
commands = st.sampled_from(READING)


def put(world: World, run_files: dict[str, Any], header: object, rows: list[object], name: str = "") -> None:
    """Store a run of this header and these rows, after one that is whole."""
    world.clear()
    whole = (EARLIER, run_files["run.json"], run_files["rows.jsonl"])
    for run, top, lines in (whole, (name or run_files["name"], header, rows)):
        folder = world.store / "runs" / run
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(top))
        (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in lines))


def read(world: World, command: tuple[str, ...]) -> None:
    """Call a command that reads, which must leave the runs as they are; so must one that lists them."""
    before = world.runs()
    world.call(*command)
    assert world.call("runs").code == 0
    assert world.runs() == before


@fuzzed(10)
@given(data=st.data(), command=commands)
def test_a_header_of_any_values_is_shown_or_refused(world: World, run_files: Any, data: Any, command: Any) -> None:
    put(world, run_files, data.draw(damaged(run_files["run.json"])), run_files["rows.jsonl"])
    read(world, command)


@fuzzed(10)
@given(data=st.data(), command=commands)
def test_rows_of_any_values_are_shown_or_refused(world: World, run_files: Any, data: Any, command: Any) -> None:
    rows = [*run_files["rows.jsonl"]]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(rows) - 1))
        rows[place] = data.draw(damaged(rows[place]))
    put(world, run_files, run_files["run.json"], rows)
    read(world, command)


@fuzzed(6)
@given(data=st.data(), file=st.sampled_from(("run.json", "rows.jsonl")), command=commands)
def test_files_of_any_bytes_are_shown_or_refused(
    world: World, run_files: Any, data: Any, file: str, command: Any
) -> None:
    put(world, run_files, run_files["run.json"], run_files["rows.jsonl"][:4])
    path = world.store / "runs" / run_files["name"] / file
    path.write_bytes(data.draw(torn(path.read_bytes())))
    read(world, command)


@fuzzed(5)
@given(data=st.data())
def test_a_damaged_run_is_resumed_or_refused_and_keeps_its_rows(world: World, run_files: Any, data: Any) -> None:
    rows = run_files["rows.jsonl"][: data.draw(st.integers(1, 6))]
    header = run_files["run.json"]
    if data.draw(st.booleans()):
        header = data.draw(damaged(header))
    else:
        place = data.draw(st.integers(0, len(rows) - 1))
        rows[place] = data.draw(damaged(rows[place]))
    put(world, run_files, header, rows)
    path = world.store / "runs" / run_files["name"] / "rows.jsonl"
    before, all_before = path.read_bytes(), world.runs()
    answer = world.call("run", "--resume", "--executor", "recorded", "--quiet")
    assert path.read_bytes().startswith(before)
    if answer.code == 2:
        assert world.runs() == all_before


@fuzzed(4)
@given(data=st.data(), part=st.sampled_from(("run.json", "rows.jsonl")))
def test_a_damaged_run_is_compacted_or_left_as_it_is(world: World, run_files: Any, data: Any, part: str) -> None:
    header, rows = run_files["run.json"], run_files["rows.jsonl"][:4]
    if part == "run.json":
        header = data.draw(damaged(header))
    else:
        rows = [data.draw(damaged(rows[0])), *rows[1:]]
    put(world, run_files, header, rows)
    before = world.runs()
    answer = world.call("store", "compact")
    if answer.code == 1:
        assert world.runs() == before or EARLIER in answer.out
    assert world.call("store", "check").code == answer.code


@fuzzed(2)
@given(
    name=texts.filter(lambda text: "/" not in text and text not in ("", ".", "..") and "\0" not in text),
    command=commands,
)
def test_folders_of_any_name_beside_the_runs_are_left_alone(
    world: World, run_files: Any, name: str, command: Any
) -> None:
    put(world, run_files, run_files["run.json"], run_files["rows.jsonl"][:4])
    try:
        (world.store / "runs" / name).mkdir(exist_ok=True)
    except (OSError, UnicodeEncodeError):  # no name of a folder
        return
    read(world, command)
