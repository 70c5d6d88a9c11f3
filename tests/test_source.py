"""A suite on a user's own model and data: what is replaced, what stays, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import Form, UsageError
from harness.host import Host, load_host
from harness.origins.reading import Reading
from harness.plan import Identity, Plan
from harness.results.commands import options_of
from harness.selection import Selection
from harness.source import Source, scaled, source_of
from harness.suite import read_suite
from harness.suite_files import has_form
from tests.conftest import Harness

FORMS: tuple[Form, Form] = ("full", "quick")
ROWS = "".join(f"words {number},{number % 2}\n" for number in range(16))
SOURCE = Source(model="/models/m", data="/data/d.csv")
"""The source of tests that do not come to read the data."""


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    data = tmp_path_factory.mktemp("data") / "d.csv"
    data.write_text("text,label\n" + ROWS)
    return Source(model="/models/m", data=str(data))


def test_the_workload_is_that_of_the_task_and_the_settings_name_the_source(host: Host, source: Source) -> None:
    suite = read_suite("peft", host, source=source)
    assert suite.workloads == ("finetune/text-classification",)
    assert suite.settings == {"model": source.model, "data": source.data}
    assert suite.looks == ()
    assert suite.repeatability == 0
    assert suite.form == "full"


def test_rates_are_scaled_and_margins_stay(host: Host, source: Source) -> None:
    full, own = read_suite("peft", host), read_suite("peft", host, source=source)
    factor = own.scale["lr"]
    assert own.tuning["lr"] == tuple(pytest.approx(rate * factor, rel=5e-3) for rate in full.tuning["lr"])
    assert own.margins == full.margins
    assert set(own.techniques) < {
        f"lora/{name}" for name in ("full", "head", "bitfit", "ia3", "lora", "dora", "pissa", "rslora")
    } | {"*"}


@pytest.mark.parametrize(
    ("task", "judged", "margin", "beside"),
    [
        ("text-classification", "accuracy", 1.0, ["trainable_parameters"]),
        ("image-classification", "accuracy", 1.0, ["trainable_parameters"]),
        ("causal-lm", "loss", 0.02, ["retention_loss", "trainable_parameters"]),
    ],
)
def test_each_task_is_judged_by_what_it_learns(
    task: str, judged: str, margin: float, beside: list[str], host: Host, tmp_path: Path
) -> None:
    data = {"text-classification": "d.csv", "image-classification": "images", "causal-lm": "d.txt"}[task]
    (tmp_path / "d.csv").write_text("text,label\n" + ROWS)
    (tmp_path / "d.txt").write_text("words")
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.png").touch()
    for form in FORMS:
        suite = read_suite("peft", host, form=form, source=replace(SOURCE, data=str(tmp_path / data)))
        assert suite.workloads == (f"finetune/{task}",)
        assert suite.metrics[0] == judged
        assert suite.margins[judged] == margin
        assert [*suite.beside] == beside
        assert ("lora/head" in suite.techniques) == (task != "causal-lm")


def test_the_quick_form_has_its_own_table(host: Host, source: Source) -> None:
    suite = read_suite("peft", host, form="quick", source=source)
    assert len(suite.techniques) == 3
    assert suite.settings["steps"] == 20
    assert suite.form == "quick"


def test_the_task_that_the_data_tell_is_the_first_thing_that_a_run_says(host: Host, source: Source) -> None:
    suite = read_suite("peft", host, source=replace(source, model=str(Path(source.data).parent)))
    plan = Plan(suite, host, Selection(techniques=("lora/lora",)), Identity(code={}, packages={}))
    first, baseline = plan.notes
    assert first == (
        "the task is text-classification: d.csv has a column of texts and one of labels; --task NAME chooses another"
    )
    assert baseline.startswith("lora/full runs too")


@pytest.mark.parametrize(
    ("value", "factor", "expected"), [(4e-3, 0.075, 3e-4), (2, 0.5, 1.0), ("a", 2, "a"), (True, 2, True), (3, 1, 3)]
)
def test_numbers_are_scaled_to_three_digits(value: object, factor: float, expected: object) -> None:
    assert scaled(value, factor) == expected


SUITE = """
title = "t"
version = 1
contract = "finetune"
baseline = "lora/full"
workloads = ["digits-mlp"]
techniques = ["lora/lora"]
seeds = 2
metrics = ["accuracy"]
"""

MISTAKES = {
    "[own]\ntechniqes = []": "own.techniqes: unknown key; did you mean 'techniques'?",
    "[own]\nscale = 3": "own.scale: 3: expected a table of factors",
    "[own]\nscale = { lr = -1 }": "expected a table of factors, more than 0",
    "[own.text-clasification]\nseeds = 3": "own.text-clasification: unknown key; did you mean 'text-classification'?",
    "[own.text-classification]\nmetric = 3": "own.text-classification.metric: unknown key; did you mean 'metrics'?",
    "[own]\ntext-classification = 3": "own.text-classification: 3: expected a table",
    "[own]\nsettings = 3": "own.settings: 3: expected a table",
    "[own.quick]\nscale = { lr = 1 }": "own.quick.scale: unknown key",
    "[own]\nquick = 1": "own.quick: 1: expected a table",
    "own = 1": "own: 1: expected a table",
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("source", [None, SOURCE])
def test_mistakes_of_the_tables_are_named(mistake: str, source: Source | None, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((mistake + SUITE) if mistake.startswith("own") else SUITE + mistake)
    with pytest.raises(
        UsageError, match=MISTAKES[mistake].replace("(", r"\(").replace("[", r"\[")[:40].replace("?", r"\?")
    ):
        read_suite(str(path), host, source=source)


OF_A_TASK = """
[own]
seeds = 3
settings = { steps = 7, batch_size = 2 }
scale = { lr = 0.5 }
[own.quick]
settings = { steps = 5 }
[own.text-classification]
metrics = ["loss", "accuracy"]
margins = { loss = 0.02 }
scale = { lr = 0.25 }
[own.text-classification.quick]
seeds = 1
settings = { batch_size = 3 }
[tuning]
lr = [0.4]
"""


def test_the_table_of_a_task_wins_over_that_of_all(host: Host, source: Source, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE.replace("seeds = 2", 'seeds = 2\nselect = "val_loss"') + OF_A_TASK)
    full, quick = (read_suite(str(tmp_path / "mine.toml"), host, form=form, source=source) for form in FORMS)
    assert full.metrics == quick.metrics == ("loss", "accuracy")
    assert full.margins == quick.margins == {"loss": 0.02}
    assert full.tuning == quick.tuning == {"lr": (0.1,)}
    assert (len(full.seeds), len(quick.seeds)) == (3, 1)
    assert [(suite.settings["steps"], suite.settings["batch_size"]) for suite in (full, quick)] == [(7, 2), (5, 3)]


def test_a_base_names_techniques_where_the_suite_says_so(host: Host, source: Source, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE + "[own.bases]\nsmall = ['lora/lora', 'lora/ia3']\n")
    suite = read_suite(str(tmp_path / "mine.toml"), host, source=replace(source, base="small"))
    assert suite.techniques == ("lora/lora", "lora/ia3")
    assert "base" not in suite.settings
    with pytest.raises(UsageError, match="--base 'smal': expected one of small; did you mean 'small'"):
        read_suite(str(tmp_path / "mine.toml"), host, source=replace(source, base="smal"))


def test_a_whole_model_is_compared_in_one_form_by_its_name(host: Host, source: Source) -> None:
    own = read_suite("quantization", host, source=replace(source, base="nf4"))
    assert own.baseline == "nf4/bf16"
    assert (
        {"nf4/fp32", "nf4/kernel"}
        < set(own.techniques)
        < set(read_suite("quantization", host, source=source).techniques)
    )


def test_a_file_may_name_its_source_by_paths_from_its_folder(host: Host, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "d.csv").write_text("text,label\n" + ROWS)
    path = tmp_path / "mine.toml"
    path.write_text(SUITE + '[source]\nmodel = "m"\ndata = "d.csv"\n')
    assert read_suite(str(path), host).settings == {"model": str(tmp_path / "m"), "data": str(tmp_path / "d.csv")}
    path.write_text(SUITE + '[source]\nmodel = "m"\ndata = "e.csv"\n')
    with pytest.raises(UsageError, match=r"e\.csv': there is no such file or folder"):
        read_suite(str(path), host)


def test_a_file_with_a_source_is_not_tracked(host: Host, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "d.csv").write_text("text,label\n" + ROWS)
    path = tmp_path / "mine.toml"
    path.write_text(SUITE + "[track]\nseeds = 1\n")
    assert has_form(str(path), host, "track")
    path.write_text(path.read_text() + '[source]\nmodel = "m"\ndata = "d.csv"\n')
    assert not has_form(str(path), host, "track")
    with pytest.raises(UsageError, match=r"over commits: leave \[source\] of .*mine\.toml out"):
        read_suite(str(path), host, form="track")


def test_a_file_names_its_source_as_the_options_do(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "ships_tiny" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "bert"}')
    (model / "model.safetensors").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "d.csv").write_text("words,remark,label\n" + ROWS.replace(",", ",x,"))
    path = tmp_path / "mine.toml"
    source = '[source]\nmodel = "package:ships_tiny"\ndata = "d.csv"\n'
    path.write_text(SUITE + source + 'columns = { text = "words" }\n')
    expected = {"model": str(model), "data": str(tmp_path / "d.csv"), "text": "words"}
    assert read_suite(str(path), host).settings == expected
    told = Reading(columns={"text": "remark"})  # by an option, which wins
    assert read_suite(str(path), host, reading=told).settings == {**expected, "text": "remark"}
    path.write_text(SUITE + source + 'columns = "words"\n')
    with pytest.raises(UsageError, match=r"source\.columns: 'words': expected a table of columns"):
        read_suite(str(path), host)
    with pytest.raises(UsageError, match="--column and --download go with a model and data of one's own"):
        read_suite("peft", host, reading=told)


def test_a_suite_whose_contract_has_no_such_workload_says_so(host: Host) -> None:
    with pytest.raises(UsageError, match="no workload of the contract 'softmax' runs on a model of one's own yet"):
        read_suite("softmax", host, source=SOURCE)
    with pytest.raises(UsageError, match="--task 'text-clasification': expected one of causal-lm, "):
        read_suite("peft", host, source=Source(model="m", data="d", task="text-clasification"))


def test_a_source_is_named_by_options_that_can_be_pasted() -> None:
    settings = {"model": "/m", "data": "/d d.csv", "base": "nf4", "steps": 3}
    given = options_of(settings, "causal-lm")
    assert given == "--model /m --data '/d d.csv' --task causal-lm --base nf4"
    assert options_of({"steps": 3}) == ""


def test_a_model_and_data_come_together(tmp_path: Path) -> None:
    assert source_of(None, None, None) is None
    with pytest.raises(UsageError, match=r"columns \['text'\]: expected columns by what they are"):
        Reading(columns=["text"])  # type: ignore[arg-type]
    for given in (("m", None, None), (None, "d", None), (None, None, "t")):
        with pytest.raises(UsageError, match="is missing: a model and data of one's own come together"):
            source_of(*given)
    with pytest.raises(UsageError) as caught:
        source_of(tmp_path / "a", tmp_path / "b", None)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "."), "--data is missing"),
        (("--model", "package:no_such", "--data", "d.csv", "--column", "text=a"), "no package 'no_such' is installed"),
        (("--model", ".", "--data", "d.csv"), "model '{here}': its config.json cannot be read"),
        (("--model", "m", "--data", "d.csv"), "model '{here}/m': needs code of its own, which is not run"),
        (("--model", "p", "--data", "d.csv"), "model '{here}/p': has no *.safetensors"),
        (("--model", ".", "--data", "d.csv", "--track"), "--track follows a suite's own workloads over commits"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_nothing_is_written(
    options: tuple[str, ...], message: str, called: Harness, tmp_path: Path
) -> None:
    here = tmp_path / "cwd"
    (here / "d.csv").write_text("text,label\na,b\n")
    for name, config in (("m", '{"auto_map": {}}'), ("p", '{"model_type": "bert"}')):
        (here / name).mkdir()
        (here / name / "config.json").write_text(config)
    done = called("run", "--suite", "peft", *options)
    assert done.returncode == 2
    assert message.format(here=here) in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (here / ".harness").exists()
