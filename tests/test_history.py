"""``harness history`` and ``harness accept``: what a user types, reads and gets wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from harness.cli import _run
from harness.history.decisions import FILE
from harness.results.store import Store
from tests.history.test_following import SLOW, World, write
from tests.results.builders import make_row, scored

OUTSIDE = ("--no-plugins",)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("history"))


@pytest.fixture
def world(made: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(made.folder.path)
    monkeypatch.setenv("HARNESS_STORE", str(made.store.path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "A. Person")
    (made.folder.path / FILE).unlink(missing_ok=True)
    return made


@pytest.fixture
def ask(world: World, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        assert world.store.path.is_dir()
        code = _run([*OUTSIDE, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run
    for name in ("history", "accept", "compare"):  # click keeps in a command how it was called first
        sys.modules.pop(f"harness.cli.{name}", None)


def test_a_history_says_what_got_worse_and_where(world: World, ask) -> None:
    code, out, err = ask("history")
    assert (code, err) == (0, "")
    assert out.startswith("Worse: 2 of 4 series\n")
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(rf"a +▁+█+ +x1\.\d\d +\+\d\d\.\d %.*worse at {world.commits[SLOW][:9]}", out)
    assert f"(commit {SLOW})" in re.sub(r"\s+", " ", out)


def test_a_metric_and_names_narrow_it(ask) -> None:
    found = json.loads(ask("history", "*_ratio", "--technique", "a", "--json")[1])
    assert [one["metric"] for one in found["series"]] == ["train_ratio"]
    code, _, err = ask("history", "accuracy", "--suite", "toy", "--since", "2999-01-01")
    assert code == 2
    assert "no results of metric 'accuracy', suite 'toy' since '2999-01-01' in" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("acuracy",), "no metric 'acuracy'; did you mean 'accuracy'?; see all: harness history"),
        (("--technique", "bsae"), "no technique 'bsae'; did you mean 'toys/base'?; see all: harness history"),
        (("--suite", "toi"), "no suite 'toi'; did you mean 'toy'?; see all: harness history"),
        (("--workload", "alhpa"), "no workload 'alhpa'; did you mean 'core/alpha'?; see all: harness history"),
        (("qqq",), "no metric 'qqq'; there are: accuracy, train_ratio, train_tensor_peak; see all: harness history"),
    ],
)
def test_a_misspelt_name_leads_to_the_nearest_that_was_measured(ask, options: tuple[str, ...], said: str) -> None:
    assert ask("history", *options) == (2, "", f"harness: error: {said}\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--metric", "train_rato"), "--metric: no metric 'train_rato'; did you mean 'train_ratio'?"),
        (("--metric", "qqq"), "--metric: no metric 'qqq'; there are: accuracy, "),
        (("--metric", "accuracy", "--technique", "bsae"), "--technique: no technique 'bsae'; did you mean 'toys/base'"),
        (("--metric", "accuracy", "--suite", "toi"), "--suite: no suite 'toi'; did you mean 'toy'?"),
        (("--metric", "accuracy", "--workload", "alhpa"), "--workload: no workload 'alhpa'; did you mean 'core/alpha'"),
    ],
)
def test_a_misspelt_name_is_not_accepted(world: World, ask, options: tuple[str, ...], said: str) -> None:
    code, out, err = ask("accept", "HEAD", "--reason", "r", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"harness: error: {said}")
    assert len(err.splitlines()) == 1
    assert not [*world.folder.path.glob(f"*{FILE}*")]


def test_a_name_that_nothing_here_is_near_to_is_accepted_and_told(world: World, ask) -> None:
    names = ("--metric", "accuracy", "--technique", "other:depth=3")
    code, _, err = ask("accept", "HEAD", "--reason", "r", "--limit", "1", *names)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("harness: --technique: no technique 'other:depth=3'; there are: ")
    assert 'technique = "other:depth=3"' in (world.folder.path / FILE).read_text()


def test_a_page_is_written(ask, tmp_path: Path) -> None:
    page = tmp_path / "history.html"
    assert ask("history", "--output", str(page))[:2] == (0, f"{page}\n")
    assert page.read_text().startswith("<!DOCTYPE html>")
    code, _, err = ask("history", "--output", str(page / "history.html"))
    assert code == 2
    assert "cannot write" in err


def test_runs_that_cannot_be_read_are_told(world: World, ask) -> None:
    damaged = world.store.path / "runs" / "20260101-000000-dead"
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    try:
        assert "without 1 run that is in" in ask("history")[1]
    finally:
        shutil.rmtree(damaged)
    assert "without" not in ask("history")[1]


def test_a_store_of_nothing_but_damaged_runs_says_so(ask, tmp_path: Path) -> None:
    damaged = tmp_path / "store" / "runs" / "20260101-000000-dead"
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{")
    code, _, err = ask("history", "--store", str(tmp_path / "store"))
    assert code == 2
    assert "no results in" in err
    assert "without 1 run that is in" in err


def test_an_accepted_change_is_written_down_with_its_size(world: World, ask) -> None:
    commit = world.commits[SLOW]
    code, out, err = ask(
        "accept", commit[:10], "--metric", "train_ratio", "--technique", "toys/a", "--reason", "a  check"
    )
    assert (code, err) == (0, "")
    assert f"accepted train_ratio at {commit[:9]}, up to 0." in out
    text = (world.folder.path / FILE).read_text()
    assert f'commit = "{commit}"\nreason = "a check"\nauthor = "A. Person"\nlimit = 0.' in text
    out = ask("history")[1]
    assert out.startswith("Worse: 1 of 4 series; 1 change accepted\n")
    assert "a check (A. Person)" in re.sub(r"\s+", " ", out)
    code, _, err = ask("accept", commit, "--metric", "train_ratio", "--technique", "toys/a", "--reason", "again")
    assert code == 2
    assert "accepted already" in err


def test_an_entry_for_a_change_that_no_history_shows_is_told(world: World, ask) -> None:
    given = ("--metric", "train_ratio", "--technique", "toys/a", "--limit", "0.1")
    code, out, err = ask("accept", world.commits[SLOW - 5], "--reason", "a check", *given)
    assert (code, "accepted" in out) == (0, True)
    assert "no history here has this change (metric train_ratio, technique toys/a)" in err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ('metric = "train_rato"', "no metric 'train_rato'; did you mean 'train_ratio'?"),
        ('metric = "qqq"', "no metric 'qqq'; there are: accuracy, "),
        ('metric = "train_ratio"\ntechnique = "bsae"', "no technique 'bsae'; did you mean 'toys/base'?"),
        ('metric = "train_*"\ntechnique = "toys/a:rank=4"\nsuite = "toy"', None),
        ('metric = "accuracy"\nworkload = "elsewhere"', None),
    ],
)
def test_an_entry_written_by_hand_with_a_slip_is_told(world: World, ask, names: str, said: str | None) -> None:
    entry = f'[[accepted]]\n{names}\ncommit = "{world.commits[SLOW]}"\nreason = "r"\nauthor = "a"\n'
    world.decide(entry)
    code, out, _ = ask("history", "--technique", "base", "--json")
    notes = json.loads(out)["notes"]
    assert (code, len(notes)) == (0, int(said is not None))
    assert said is None or notes[0].startswith(f"accepted for a name that nothing here has: {FILE} entry 1: {said}")


def test_entries_of_former_names_are_told_by_the_present_one_and_of_many_the_first(world: World, ask) -> None:
    renamed = '[[renamed]]\ntechnique = "toys/b"\nwas = "toys/bee"\n'
    entry = f'[[accepted]]\nmetric = "accuracy"\ntechnique = "toys/bee"\ncommit = "{world.commits[SLOW]}"\n'
    world.decide(renamed + 8 * f'{entry}reason = "r"\nauthor = "a"\n')
    notes = json.loads(ask("history", "--json")[1])["notes"]
    told = "accepted for a name that nothing here has: "
    former = [f"{told}{FILE} entry {number}: technique 'toys/bee' is 'toys/b' now" for number in range(1, 6)]
    assert notes == [*former, f"{told}and 3 more"]


def test_what_was_measured_is_not_read_again_for_entries_of_what_is_shown(world: World, ask, monkeypatch) -> None:
    world.decide(
        f'[[accepted]]\nmetric = "train_ratio"\ntechnique = "toys/a"\ncommit = "{world.commits[SLOW]}"\n'
        'reason = "r"\nauthor = "a"\n'
    )
    monkeypatch.setattr("harness.history.asked.measured_names", lambda _: pytest.fail("all was read again"))
    assert ask("history")[0] == 0


def test_what_grew_from_nothing_is_accepted_at_any_size(world: World, ask, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for commit, peak in zip(world.commits, (0.0, 4096.0), strict=False):
        write(store, [make_row(technique="toys/a", lane="memory", metrics={"train_tensor_peak": peak})], commit)
    place = ("--store", str(store.path))
    code, out, err = ask("accept", world.commits[1], "--metric", "train_tensor_peak", "--reason", "kept", *place)
    assert (code, err) == (0, "")
    assert "of any size" in out
    assert "accepted at" in ask("history", *place)[1]


def test_seeds_that_the_newest_point_lacks_are_told(world: World, ask, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for commit, last in zip(world.commits, (90.0, 90.0, float("nan")), strict=False):
        names = [f"toys/{letter}" for letter in "abcdefg"]
        write(store, [row for name in names for row in scored(name, [91.0, 92.0, last])], commit)
        notes = json.loads(ask("history", "--store", str(store.path), "--json")[1])["notes"]
        lacking = [note for note in notes if "lacks seeds" in note]
        assert bool(lacking) == (last != 90.0)
    assert lacking[0].endswith("toys/a, accuracy; toys/b, accuracy; toys/c, accuracy; toys/d, accuracy; "
                               "toys/e, accuracy and 2 more")  # fmt: skip


def test_spaces_around_names_and_in_them_do_not_count(world: World, ask) -> None:
    commit = world.commits[SLOW]
    names = ("--metric", " train_ratio ", "--technique", "a  b")
    assert ask("accept", commit, *names, "--reason", "r", "--limit", "0.1")[0] == 0
    assert 'technique = "a b"\nmetric = "train_ratio"\n' in (world.folder.path / FILE).read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nonsense", "--reason", "r"), "'nonsense' is no commit, tag or branch"),
        (("HEAD", "--reason", " "), "--reason is empty"),
        (("HEAD", "--reason", "r", "--until", "soon"), "--until 'soon': expected a day"),
        (("HEAD", "--reason", "r", "--until", "2020-01-01"), "this day is over"),
        (("HEAD", "--reason", "r", "--limit", "0"), "0"),
        (("HEAD", "--reason", "r", "--limit", "inf"), "inf is no size"),
        (("HEAD", "--reason", "r", "--limit", "nan"), "nan is no size"),
        (("HEAD", "--reason", "caf\udce9"), "--reason 'caf\\udce9' has bytes that are no text"),
        (("HEAD", "--reason", "r", "--suite", ""), "--suite is empty"),
        (("^HEAD", "--reason", "r"), "'^HEAD' is no commit, tag or branch"),
    ],
)
def test_a_wrong_acceptance_writes_nothing(world: World, ask, options: tuple[str, ...], said: str) -> None:
    code, _, err = ask("accept", *options, "--metric", "train_ratio")
    assert code == 2
    assert said in err
    assert not [*world.folder.path.glob(f"*{FILE}*")]


def test_outside_of_a_repository_there_is_nowhere_to_accept(
    ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = ask("accept", "HEAD", "--metric", "m", "--reason", "r")
    assert code == 2
    assert "there is nowhere to write the entry" in err


def test_mistakes_in_the_file_are_all_told(world: World, ask) -> None:
    world.decide('[[accepted]]\nmetric = "m"\n[[renamed]]\nwas = "x"\n')
    code, out, err = ask("history")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 4
    assert all(line.startswith("harness: error: ") for line in err.splitlines())
    assert ask("compare", "HEAD^", "HEAD")[0] == 2
