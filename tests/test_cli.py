"""The command line where it does not run cases: listing, showing, exporting, completing, the cache."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import click
import pytest

from harness import __version__
from harness.api import UsageError
from harness.cli import _MEANT, cli, main
from harness.cli.runs import _line, _table
from harness.results.index import RunSummary
from tests.conftest import ROOT, Harness, copy_of_the_run

KINDS = ("suites", "techniques", "workloads", "metrics", "bases")


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_fits_80_columns_for_a_person_and_is_objects_for_a_program(kind: str, harness: Harness) -> None:
    entries = json.loads(harness("list", kind, "--json").stdout)
    assert entries
    for entry in entries:
        assert {"id", "plugin", "contract", "available", "reason"} <= set(entry)
        assert entry["available"] == (entry["reason"] == "")
    text = harness("list", kind).stdout
    assert all(entry["id"] in text for entry in entries)
    assert max(map(len, text.splitlines())) <= 80


def test_bases_are_listed_by_plugin_and_by_the_suite_that_chooses_techniques_by_them(harness: Harness) -> None:
    listed = {
        (entry["id"], entry["plugin"], entry["suite"])
        for entry in json.loads(harness("list", "bases", "--json").stdout)
    }
    assert {("float32", "core", ""), ("nf4", "nf4", ""), ("int8", "quantize", "quantize/quantization")} <= listed
    text = harness("list", "bases").stdout
    assert re.search(r"^plugin nf4\n(.+\n)*  nf4 +linear layers in NF4", text, re.MULTILINE)
    assert re.search(r"^suite quantize/quantization\n(.+\n)*  int8 +compares nf4/fp32", text, re.MULTILINE)


def test_a_technique_is_shown_with_its_paper_and_parameters(harness: Harness) -> None:
    text = harness("show", "technique", "pissa").stdout
    assert "lora/pissa" in text
    assert "2404.02948" in text
    assert "rank" in text
    shown = json.loads(harness("show", "technique", "lora/pissa", "--json").stdout)
    assert shown["id"] == "lora/pissa"
    assert shown["available"] is True


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rnu"], "did you mean 'run'"),
        (["baseline", "last", "main"], "no command 'baseline'; what does that: harness runs name RUN NAME"),
        (["baselin"], "no command 'baselin'; harness --help lists them"),
        (["quantise"], "no command 'quantise'; harness --help lists them"),
        (["list", "technique"], "harness: error: 'technique' is not one of 'suites', 'techniques', "),
        (["show", "technique", "pisa"], "did you mean 'lora/pissa'"),
        (["show", "run", "nothing"], "no runs"),
        (["show", "row", "last/lora/eva"], "no runs"),
        (["export", "cvs"], "csv"),
        (["export", "csv"], "no runs"),
        (["run", "--no-such-option"], "no option '--no-such-option'"),
        (["run", "--sed", "3"], "no option '--sed'; did you mean '--seeds'?"),
        (["claims", "--suite", "petf"], "unknown suite 'petf'; did you mean 'finetune/peft'?"),
        (["claims", "--paper", "2406.0844"], "no claim of any suite has this source; did you mean '2406.08447'?"),
        (["run", "--store"], "option '--store' requires an argument"),
        (["run", "--lane", "speed"], "'speed' is not one of 'accuracy', 'memory', 'time'; see: harness run --help"),
        (["run", "--jobs", "many"], "invalid value for '--jobs'"),
        (["show", "rwo"], "no such command 'rwo'; did you mean 'row'?"),
        (["show", "technique"], "missing argument 'NAME'; see: harness show technique --help"),
        (["plugins", "more"], "unexpected extra argument (more); see: harness plugins --help"),
        (["track", "--bogus"], "no option '--bogus'"),
        (["--strict-plugins", "-p", "no_such_module", "list", "suites"], "no_such_module"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(arguments: list[str], text: str, called: Harness) -> None:
    done = called(*arguments)
    assert done.returncode == 2, done.stdout
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("harness: ") for line in done.stderr.splitlines()), done.stderr
    assert any(line.startswith("harness: error: ") for line in done.stderr.splitlines())


@pytest.mark.parametrize("arguments", [["list", "suites"], ["history"], ["run", "--suite", "peft"]], ids=" ".join)
def test_a_folder_that_was_removed_is_told(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)  # which is gone back to
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "harness: error: this folder is no longer there: No such file or directory"
    assert second == "harness: error: go to one that is: cd"


@pytest.mark.parametrize("word", sorted(_MEANT))
def test_a_word_of_other_programs_is_no_command_and_leads_to_one_with_the_options_that_are_told(word: str) -> None:
    context = click.Context(cli, info_name="harness")
    assert word not in cli.list_commands(context)
    group: click.Command = cli
    for part in _MEANT[word].split():
        if part.startswith("--"):
            assert part in {name for option in group.get_params(context) for name in option.opts}
        elif isinstance(group, click.Group):
            found = group.get_command(context, part)
            assert found is not None
            group = found


@pytest.fixture(scope="module")
def uninstalled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with everything that is installed here but this project and its plugins, found by PYTHONPATH."""
    libraries = tmp_path_factory.mktemp("libraries")
    ours = re.compile(r"technique_harness|harness|__editable__|_editable_impl")
    for folder in {Path(str(dist.locate_file(""))).resolve() for dist in metadata.distributions()} - {ROOT}:
        for entry in folder.iterdir():
            if not ours.match(entry.name) and not (libraries / entry.name).exists():
                (libraries / entry.name).symlink_to(entry)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HARNESS"))}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(libraries)])}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "Usage: harness"),
        (["--version"], f"harness, version {__version__}"),
        (["--strict-plugins", "plugins"], "finetune"),
        (["--strict-plugins", "list", "suites"], "peft"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_checkout_that_is_not_installed_answers(
    arguments: list[str], text: str, uninstalled: dict[str, str], tmp_path: Path
) -> None:
    # without the module site nothing but PYTHONPATH is looked through
    command = [sys.executable, "-S", "-m", "harness", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=uninstalled)
    assert done.returncode == 0, done.stderr
    assert text in done.stdout
    assert not done.stderr
    asked = "from importlib import metadata; metadata.version('technique-harness')"
    found = subprocess.run([sys.executable, "-S", "-c", asked], capture_output=True, check=False, env=uninstalled)
    assert b"PackageNotFoundError" in found.stderr


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m harness list metrics --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 2
    assert not done.stderr


def test_runs_and_export_of_a_stored_run(harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "toy"))
    toy = ("-p", "harness_toy", "--no-plugins")
    assert "no runs" in harness("runs").stdout
    run = ("run", *toy, "--suite", "toys", "--quiet", "--executor", "inline", "--technique", "good")
    assert harness(*run, "--format", "github").stdout.count("| toy/good") == 1
    (run_entry,) = json.loads(harness("runs", "--json").stdout)
    assert run_entry["suite"] == "toys"
    assert run_entry["id"] in harness("runs").stdout
    lines = list(csv.DictReader(io.StringIO(harness("export", "csv").stdout)))
    rows = json.loads(harness("export", "json", run_entry["id"]).stdout)
    assert {line["key"] for line in lines} == {row["key"] for row in rows}
    scores = [line for line in lines if line["technique"] == "toy/good" and line["metric"] == "toy_score"]
    assert len(scores) == 3 * 2 + 2
    done = harness("export", "parquet", "-o", "rows.parquet")
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(tmp_path / "cwd/rows.parquet").num_rows == len(lines)
    figures = json.loads(harness("show", "run", *toy, "--format", "json").stdout)
    assert figures["run"] == run_entry["id"] or run_entry["id"] in json.dumps(figures)
    assert "*" in harness("show", "tuning", *toy).stdout
    details = harness("show", "run", "--details", "--no-plugins")
    assert (details.returncode, details.stderr) == (0, "")
    assert "-p harness_toy  ok" in details.stdout
    assert "10 ok" in harness("show", "row", "last/toy/good").stdout
    key = rows[0]["key"]
    assert json.loads(harness("show", "row", f"last/{key}", "--json").stdout)[0]["key"] == key
    other = harness("runs", "--store", str(tmp_path / "elsewhere"))
    assert "no runs" in other.stdout
    assert run_entry["id"] in harness("runs", HARNESS_STORE=str(tmp_path / "cwd/.harness")).stdout
    unread = harness("compare", copy_of_the_run(tmp_path / "cwd/.harness"), run_entry["id"], "--no-plugins")
    assert (unread.returncode, unread.stderr) == (0, "")


def test_the_cases_of_a_run_that_ended_are_counted_and_a_narrow_terminal_has_no_column_of_starts() -> None:
    done = RunSummary(
        id="20260101-000000-abcd",
        suite="s" * 40,
        started="2026-01-01T00:00",
        finished="2026-01-01T00:01",
        exit_code=0,
        planned=9,
        rows=7,
    )
    open_ = replace(done, finished="", exit_code=None)
    lines = [_line(done), _line(open_)]
    assert [line["cases"] for line in lines] == [7, "7 of 9"]
    assert "2026-01-01 00:00" in _table(lines, 200)
    assert "started" not in _table(lines, 100)
    assert _table(lines, 100).count("20260101-000000-abcd") == 2


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")])
def test_completion_scripts(shell: str, mark: str, harness: Harness) -> None:
    assert mark in harness("completion", shell).stdout


def test_suites_and_techniques_complete() -> None:
    def completed(words: str) -> list[str]:
        count = str(len(words.split(" ")) - 1)
        code = "import sys; sys.argv[0] = 'harness'; from harness.cli import cli; cli(prog_name='harness')"
        environment = {**os.environ, "_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "peft" in completed("harness run --suite pe")
    assert "lora/pissa" in completed("harness run --technique lora/pi")
    assert "run" in completed("harness ru")


def test_the_cache_is_shown_and_cleared_of_its_own_files_only(harness: Harness, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    models = cache / "base-models"
    models.mkdir(parents=True)
    (models / "a-model.pt").write_bytes(b"0" * 2048)
    converted = models / "converted" / "tiny-0123"
    converted.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (converted / name).write_bytes(b"0" * 1536)
    (cache / "not-ours.txt").write_text("keep me")
    shown = harness("cache", "show", HARNESS_CACHE=str(cache))
    assert "2.0 KiB" in shown.stdout
    assert "a-model.pt" in shown.stdout
    assert "3.0 KiB  base-models/converted/tiny-0123\n" in shown.stdout
    assert "not-ours" not in shown.stdout
    refused = harness("cache", "clear", HARNESS_CACHE=str(cache))
    assert refused.returncode != 0
    assert (models / "a-model.pt").exists()
    assert harness("cache", "clear", "--yes", HARNESS_CACHE=str(cache)).returncode == 0
    assert not (models / "a-model.pt").exists()
    assert not converted.exists()
    assert (cache / "not-ours.txt").exists()
    assert "nothing to clear" in harness("cache", "clear", HARNESS_CACHE=str(cache)).stdout


def test_a_plugin_that_is_not_there_is_told_once(harness: Harness) -> None:
    done = harness("run", "-p", "no_such_module", "--no-plugins", "--suite", "peft", "--dry-run")
    assert done.returncode == 2
    assert done.stderr.count("No module named 'no_such_module'") == 1


def test_the_table_of_a_dry_run_fits_the_terminal(harness: Harness) -> None:
    done = harness("run", "--suite", "dropout", "--dry-run", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80


def test_a_damaged_run_is_listed_with_its_problem(harness: Harness, tmp_path: Path) -> None:
    for name, text in (("20260101-000000-aaaa", "{"), ("20260102-000000-bbbb", None)):
        folder = tmp_path / "cwd/.harness/runs" / name
        folder.mkdir(parents=True)
        if text is not None:
            (folder / "run.json").write_text(text)
    done = harness("runs")
    assert done.returncode == 0, done.stderr
    table, _, problems = done.stdout.partition("\n\n")
    for line in table.splitlines()[2:]:
        assert "unreadable" in line
    assert "None" not in done.stdout
    for name in ("20260101-000000-aaaa", "20260102-000000-bbbb"):
        assert name in table
        assert f"{name}:\n" in problems
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_why_a_plugin_is_broken_fits_into_80_columns(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir(exist_ok=True)
    (tmp_path / "cwd/harness_long.py").write_text(f"raise RuntimeError({'a long reason ' * 20!r})\n")
    done = harness("-p", "harness_long", "plugins")
    assert "long:\n  RuntimeError: a long reason a long reason" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.api import UsageError
    from harness.results.places import default_cache_path

    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    with pytest.raises(UsageError, match="HARNESS_CACHE"):
        default_cache_path()


def test_a_plugin_that_was_asked_for_and_is_not_there_stops_a_run_in_one_line(harness: Harness) -> None:
    done = harness("run", "-p", "harness_nope", "--suite", "peft", "--dry-run")
    assert done.returncode == 2
    assert "plugin harness_nope: " in done.stderr
    assert "Traceback" not in done.stderr
    assert harness("plugins", "-p", "harness_nope").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [["report", "-o", "page.html"], ["site", "page.html"], ["track", "publish", "-o", "page.html"]],
    ids=" ".join,
)
def test_a_page_s_name_is_no_folder_of_pages(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match=r"'page\.html' is the name of a page; expected a folder"):
        cli.main(args=arguments, standalone_mode=False)
    assert not [*tmp_path.iterdir()]
    (tmp_path / "page.html").mkdir()
    with pytest.raises(UsageError, match=r"no runs|no store|asv\.conf\.json"):
        cli.main(args=arguments, standalone_mode=False)


def test_an_output_is_short_o_in_every_command() -> None:
    found = {
        f"{name} {option.name}": option.opts
        for name in cli.list_commands(click.Context(cli))
        if (command := cli.get_command(click.Context(cli), name)) is not None
        for option in command.params
        if "--output" in option.opts
    }
    assert {"report output", "claims output", "history output", "export output"} <= found.keys()
    assert all("-o" in names for names in found.values()), found
