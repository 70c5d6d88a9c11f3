"""``harness compare`` on stored runs, and what it refuses; commits are compared in tests/tracking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Harness
from tests.nursery import run_harness

TOYS = Path(__file__).parent / "toy"
TOY_PLUGIN = ("-p", "harness_toy", "--no-plugins")


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the toys."""
    place = tmp_path_factory.mktemp("stored")
    environment = {**os.environ, "PYTHONPATH": str(TOYS), "HARNESS_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    done = run_harness(
        ("run", *TOY_PLUGIN, "--suite", "toys", "--quick", "--quiet"), place=place, environment=environment
    )
    assert done.returncode == 0, done.stderr
    return next((place / ".harness/runs").iterdir())


@pytest.fixture
def two_runs(stored: Path, tmp_path: Path) -> list[Path]:
    """The folders of that run and of a copy of it under another id, in the store of the folder one stands in."""
    folders = [tmp_path / "cwd/.harness/runs" / name for name in (stored.name, "20990101-000000-ffff")]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("run.json", "rows.jsonl"):
            (folder / name).write_text((stored / name).read_text().replace(stored.name, folder.name))
    return folders


def edit_rows(folder: Path, change: Callable[[dict], None]) -> None:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        change(row)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_two_stored_runs_are_compared_and_a_gate_set_on_them(harness: Harness, two_runs: list[Path]) -> None:
    names = [folder.name for folder in two_runs]
    same = harness("compare", *TOY_PLUGIN, *names, "--gate")
    assert same.returncode == 0, same.stderr
    assert same.stdout.startswith(f"No change from run {names[0]} to run {names[1]}")
    assert "measured apart" in same.stdout

    def more_memory(row: dict) -> None:
        if row["technique"] == "toy/good" and row["lane"] == "memory":
            row["metrics"]["train_tensor_peak"] *= 2

    edit_rows(two_runs[1], more_memory)
    worse = harness("compare", *TOY_PLUGIN, *names, "--gate", "--format", "markdown")
    assert worse.returncode == 1, worse.stderr
    assert worse.stdout.startswith("**Worse: 1 change since")
    assert "train_tensor_peak" in worse.stdout
    assert harness("compare", *TOY_PLUGIN, *names).returncode == 0
    assert harness("compare", *TOY_PLUGIN, *names, "--gate", "--technique", "twin").returncode == 0
    assert harness("compare", *TOY_PLUGIN, *reversed(names), "--gate").returncode == 0
    found = json.loads(harness("compare", *TOY_PLUGIN, *names, "--format", "json").stdout)
    worse_ones = [change for change in found["changes"] if change["verdict"] == "worse"]
    assert [(change["place"]["technique"], change["metric"]) for change in worse_ones] == [
        ("toy/good", "train_tensor_peak")
    ]


def test_a_run_is_not_compared_with_itself(harness: Harness, two_runs: list[Path]) -> None:
    done = harness("compare", *TOY_PLUGIN, "last", two_runs[1].name, "--gate")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"last and {two_runs[1].name} are one run" in done.stderr.splitlines()[0]


def test_a_name_stands_for_a_run_wherever_a_command_takes_one(called: Harness, two_runs: list[Path]) -> None:
    run = two_runs[0].name
    assert called("runs", "name", run, "paper-1").returncode == 0
    compared = called("compare", *TOY_PLUGIN, "paper-1", "last")
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.startswith(f"No change from run paper-1 ({run}) to run {two_runs[1].name}")
    beside = called("report", *TOY_PLUGIN, "paper-1", "last", "--output", "pages")
    assert beside.returncode == 0, beside.stderr
    assert "paper-1" in Path(beside.stdout.strip()).read_text()
    own = called("report", *TOY_PLUGIN, "paper-1", "--output", "page")
    assert own.returncode == 0, own.stderr
    assert "paper-1" in Path(own.stdout.strip()).read_text()
    for command in (
        ("show", "run", "{}"), ("show", "run", "{}", "--details"), ("show", "row", "{}/toy/good", "--json"),
        ("show", "tuning", "{}"), ("export", "csv", "{}"),
    ):  # fmt: skip
        named, full = (called(*(word.format(name) for word in command)) for name in ("paper-1", run))
        assert (named.returncode, named.stdout) == (0, full.stdout), named.stderr
        assert named.stdout
    site = called("site", "site", *TOY_PLUGIN)
    assert site.returncode == 0, site.stderr
    assert "paper-1" in Path("site/index.html").read_text()


def test_seeds_that_only_one_run_has_are_told_in_every_form(called: Harness, two_runs: list[Path]) -> None:
    kept = [line for line in (two_runs[1] / "rows.jsonl").read_text().splitlines() if json.loads(line)["seed"] < 1]
    (two_runs[1] / "rows.jsonl").write_text("".join(f"{line}\n" for line in kept))
    names = [folder.name for folder in two_runs]
    line = "quality is compared on the 1 seed of both sides, without seed 1 of base"
    for format_ in ("table", "markdown", "json"):
        printed = called("compare", *TOY_PLUGIN, *names, "--format", format_).stdout
        assert line in " ".join(printed.split()), format_
    assert line in Path(called("report", *TOY_PLUGIN, *names, "--output", "pages").stdout.strip()).read_text()


def test_a_lost_value_reaches_the_forms_of_ci_systems_and_only_of_the_metric_that_is_judged(
    called: Harness, two_runs: list[Path]
) -> None:
    def without_score(row: dict) -> None:
        if row["technique"] == "toy/good":
            row["metrics"].pop("toy_score", None)

    edit_rows(two_runs[1], without_score)
    names = [folder.name for folder in two_runs]

    def message(*options: str) -> str:
        return str(json.loads(called("compare", *TOY_PLUGIN, *names, "--format", "badge", *options).stdout)["message"])

    assert message() == "no change, 1 without a value"
    assert message("--metric", "toy_score") == "no change, 1 without a value"
    assert message("--metric", "train_tensor_peak") == "no change"
    printed = called("compare", *TOY_PLUGIN, *names, "--format", "junit").stdout
    assert 'name="toy/good: toy_score"' in printed


Compared = Callable[..., tuple[int, str]]


@pytest.fixture
def compared(called: Harness) -> Compared:
    """Compare in this process; return the exit code and what was printed."""

    def compare(*arguments: str) -> tuple[int, str]:
        done = called("compare", *TOY_PLUGIN, *arguments)
        return done.returncode, done.stdout + done.stderr

    return compare


def test_a_gate_on_one_metric_has_an_exit_code_for_worse_for_not_worse_and_for_what_cannot_be_told(
    compared: Compared, two_runs: list[Path]
) -> None:
    def worse(row: dict) -> None:
        if row["technique"] == "toy/good" and row["lane"] == "memory":
            row["metrics"]["train_tensor_peak"] *= 2
        if row["technique"] == "toy/good" and row["lane"] == "accuracy":
            row["metrics"]["toy_score"] -= 1.0 + row["seed"]

    edit_rows(two_runs[1], worse)
    names = [folder.name for folder in two_runs]
    good = (*names, "--gate", "--technique", "good")
    assert compared(*good, "--metric", "train_tensor_peak")[0] == 1
    assert compared(*good, "--metric", "infer_tensor_peak")[0] == 0
    assert compared(*names, "--gate", "--metric", "toy_score", "--technique", "twin")[0] == 0
    for metric in ("train_time", "toy_score"):
        code, text = compared(*good, "--metric", metric)
        assert code == 125, text
        assert text.startswith("Cannot be told")
        assert "cannot be told: toy/good: " in text
    assert compared(*names, "--metric", "train_time")[0] == 0, "without a gate, it is only shown"
    assert compared(*good)[0] == 1
    code, text = compared(*good, "--metric", "train_tme")
    assert (code, "--metric: unknown metric 'train_tme'; did you mean 'train_time'?" in text) == (2, True)


def test_what_one_side_does_not_have_cannot_be_told_and_what_neither_has_is_wrong_usage(
    compared: Compared, two_runs: list[Path]
) -> None:
    rows = (two_runs[1] / "rows.jsonl").read_text().splitlines()
    (two_runs[1] / "rows.jsonl").write_text("".join(f"{row}\n" for row in rows if '"toy/good"' not in row))
    names = [folder.name for folder in two_runs]
    good = ("--technique", "good", "--gate")
    code, text = compared(*names, *good, "--metric", "toy_score")
    assert code == 125
    assert "toy/good is gone: head does not have it" in text
    code, text = compared(*names, *good)
    assert code == 2
    assert "only the baseline was compared" in text
    assert "removed: toy/good" in text
    code, text = compared(*reversed(names), *good, "--metric", "toy_score")
    assert code == 125
    assert "toy/good is new: base does not have it" in text
    assert compared(*names, "--technique", "nobody", "--gate", "--metric", "toy_score")[0] == 2


def test_a_technique_that_may_have_been_renamed_is_told(compared: Compared, two_runs: list[Path]) -> None:
    def other_name(row: dict) -> None:
        row["technique"] = row["technique"].replace("toy/good", "toy/fine")

    edit_rows(two_runs[1], other_name)
    code, text = compared(*(folder.name for folder in two_runs), "--technique", "*o*d", "--technique", "fine", "--gate")
    assert code == 2, text
    assert "toy/good is gone, and toy/fine is new, with the same code and parameters" in " ".join(text.split())
    assert '[[renamed]] technique = "toy/fine", was = "toy/good"' in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "are stored runs; --bisect expects two commits"),
        (("--gate",), "leave out --gate"),
        (("--metric", "toy_score"), "leave out --metric"),
        (("--format", "badge"), "--format badge: what --bisect finds is a table or json"),
    ],
)
def test_a_search_refuses_stored_runs_and_options_of_a_comparison(
    compared: Compared, two_runs: list[Path], options: tuple[str, ...], text: str
) -> None:
    code, printed = compared(*(folder.name for folder in two_runs), "--bisect", "toy_score", *options)
    assert code == 2
    assert text in printed.splitlines()[0]


def test_unlike_runs_are_not_judged_and_the_gate_says_so(harness: Harness, two_runs: list[Path]) -> None:
    header = json.loads((two_runs[1] / "run.json").read_text())
    header["environment"]["packages"]["torch"] = "1.0"
    (two_runs[1] / "run.json").write_text(json.dumps(header))
    names = [folder.name for folder in two_runs]
    done = harness("compare", *TOY_PLUGIN, *names, "--gate")
    assert done.returncode == 2
    assert done.stdout.startswith("Not comparable")
    assert "torch: " in done.stdout
    assert " and 1.0" in done.stdout
    assert harness("compare", *TOY_PLUGIN, *names).returncode == 0


def test_runs_of_suites_that_differ_say_so(harness: Harness, two_runs: list[Path]) -> None:
    names = [folder.name for folder in two_runs]
    assert "files of the two suites differ" not in harness("compare", *TOY_PLUGIN, *names).stdout
    header = json.loads((two_runs[1] / "run.json").read_text())
    header["environment"]["suite"]["digest"] = "another"
    (two_runs[1] / "run.json").write_text(json.dumps(header))
    assert "the files of the two suites differ" in harness("compare", *TOY_PLUGIN, *names).stdout


def test_options_of_commits_are_refused_for_stored_runs(harness: Harness, two_runs: list[Path]) -> None:
    done = harness("compare", *TOY_PLUGIN, *(folder.name for folder in two_runs), "--rounds", "5")
    assert done.returncode == 2
    assert "--rounds applies to commits only" in done.stderr


def test_comparing_stored_runs_imports_no_torch(two_runs: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, "compare", *TOY_PLUGIN, *(folder.name for folder in two_runs)]
    done = subprocess.run(command, cwd=tmp_path / "cwd", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["one", "two"], "one and two are not both stored runs, and this folder is in no git repository"),
        (["one", "two", "--format", "tabel"], "tabel"),
        (["one", "two", "--rounds", "2"], "2 is not in the range"),
        ([], "missing argument 'BASE'"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_refused_with_exit_code_2(arguments: list[str], text: str, harness: Harness) -> None:
    done = harness("compare", *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def in_repository(tmp_path: Path, harness: Harness) -> Harness:
    """The command, in the folder of a git repository with two commits in which there is nothing to install."""
    folder = tmp_path / "cwd"
    (folder / "README.md").touch()
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    empty = ["commit", "-q", "--allow-empty", "-m", "second"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
        ["tag", "here"],
        empty,
    ):
        subprocess.run(["git", "-C", str(folder), *who, *command], check=True)
    return harness


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "'nowhere' is no commit, tag or branch"),
        (["here", "--release", "v9"], "--release 'v9': no such tag or commit"),
        (["HEAD", "here"], "has nothing to install"),
        (["HEAD", "main", "--gate"], "there is nothing to compare"),
        (["HEAD"], "there is nothing to compare"),
        (["HEAD", "here", "--bisect", "accuracy"], "--bisect expects the older one first"),
    ],
    ids=" ".join,
)
def test_wrong_commits_are_refused_with_exit_code_2(arguments: list[str], text: str, in_repository: Harness) -> None:
    done = in_repository("compare", *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (["clone", "-q", "--depth=1"], ": the clone is shallow: git fetch --unshallow --tags"),
        (["init", "-q"], ": the repository has no commit yet"),
        (["clone", "-q", "--bare"], "has no working tree to compare"),
    ],
    ids=["shallow", "new", "bare"],
)
@pytest.mark.usefixtures("in_repository")
def test_an_odd_repository_says_in_one_line_what_it_lacks(make: list[str], text: str, tmp_path: Path) -> None:
    source = [] if make[0] == "init" else [f"file://{tmp_path}/cwd"]
    subprocess.run(["git", *make, *source, str(tmp_path / "odd")], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "compare", "here" if "--bare" in make else "HEAD^"],
        cwd=tmp_path / "odd", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert text in next(iter(done.stderr.splitlines()))
    assert "Traceback" not in done.stderr
