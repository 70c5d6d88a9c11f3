"""Options and names of any text are taken, or refused with exit code 2 before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.inputs import NASTY, NUMBERS, fuzzed
from tests.fuzz.world import World

# No argument holds NUL, and a byte that is no text becomes a surrogate of the upper half alone.
words = (st.sampled_from(NASTY) | st.text(max_size=20)).map(
    lambda text: text.replace("\0", "").replace("\ud800", "\udc80")
)
numbers = st.sampled_from([*map(repr, NUMBERS[:-1]), "nan", "inf", "-inf", "1e400", "0x10", "1_0", "٣", "1e-400"])
names = words | st.sampled_from(["good", "toy/good", "goood", "good:shift=5", "good:shift=", "formula:lr=0.1", "toy/*"])
pairs = st.tuples(st.sampled_from(["lr", "shift", "sleep_s", "behaviour", "", "x"]) | words, numbers | words)
formats = words | st.sampled_from(["json", "table", "github", "latex", "tsv", "csv", "parquet", "html"])
RUN_OPTIONS = st.one_of(
    st.tuples(st.sampled_from(["--technique", "--workload"]), names),
    st.tuples(st.just("--seeds"), words | st.sampled_from(["0", "2", "3,", "0,1,7", "-1", "1e3", "9" * 20, "2,2"])),
    st.tuples(st.just("--param"), pairs.map("=".join) | words),
    st.tuples(st.sampled_from(["--time-limit", "--memory-limit", "--jobs"]), numbers | words),
    st.tuples(st.just("--memory-limit"), numbers.map("{}GiB".format)),
    st.tuples(st.just("--lane"), st.sampled_from(["accuracy", "memory", "time"]) | words),
    st.tuples(st.just("--format"), formats),
    st.tuples(st.sampled_from(["--quick", "--track", "--stack", "--no-stack"])),
    st.tuples(st.sampled_from(["--device", "--executor", "--suite", "--resume", "--lane", "--jobs"]), words),
    st.tuples(words),
)
runs = st.sampled_from(["last", "last/", "last/good", "last/good@formula", "2"]) | words
files = words.map(lambda text: "out/" + text.replace("/", "_").replace("..", "_"))
ASKING = st.one_of(
    st.tuples(st.just("export"), st.sampled_from(["csv", "json", "parquet", "asv"]), st.just("-o"), files),
    st.tuples(st.just("report"), st.just("--output"), files),
    st.tuples(st.just("show"), st.sampled_from(["technique", "contract", "workload"]), names),
    st.tuples(st.just("show"), st.sampled_from(["run", "row", "tuning"]), runs),
    st.tuples(st.just("show"), st.just("row"), names.map("last/{}".format)),
    st.tuples(st.just("show"), st.just("tuning"), st.just("--technique"), names),
    st.tuples(st.just("show"), st.just("run"), st.just("--format"), formats),
    st.tuples(st.sampled_from(["runs", "report"]), st.just("--store"), words),
    st.tuples(st.just("export"), st.sampled_from(["csv", "json", "asv"]) | words, runs),
    st.tuples(st.sampled_from(["report", "list", "completion", "cache", "plugins", "runs"]), runs),
    st.tuples(st.just("compare"), runs, runs),
    st.tuples(st.just("compare"), st.just("last"), runs, st.sampled_from(["--gate", "--format"]) | words),
    st.lists(words, min_size=1, max_size=3).map(tuple),
)


@fuzzed(13)
@given(chosen=st.lists(RUN_OPTIONS, min_size=1, max_size=3), dry=st.booleans())
def test_a_run_with_any_options_is_done_or_refused_and_leaves_nothing(
    world: World, chosen: list[tuple[str, ...]], dry: bool
) -> None:
    options = [word for option in chosen for word in option]
    before = world.runs()
    answer = world.call(
        "run", "--suite", "toys", "--executor", "recorded", "--quiet", *(["--dry-run"] if dry else []), *options
    )
    if dry or answer.code == 2:
        assert world.runs() == before
    elif answer.code == 0:
        world.call("runs")
        world.clear()


@pytest.fixture(scope="module")
def stored(world: World, run_files: dict[str, Any]) -> dict[str, bytes]:
    """The files of the only run."""
    assert run_files
    return world.runs()


@fuzzed(9)
@given(command=ASKING)
def test_a_command_with_any_name_answers_or_refuses_and_changes_no_run(
    world: World, stored: dict[str, bytes], command: tuple[str, ...]
) -> None:
    world.call(*command)
    assert world.runs() == stored
