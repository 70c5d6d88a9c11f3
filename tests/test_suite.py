"""Suite files: what is right is read, what is wrong is named, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import Suite, UsageError
from harness.cli.chosen import parse_seeds
from harness.entrants import techniques_of
from harness.host import Host, load_host
from harness.suite import read_suite

TOYS = Path(__file__).parent / "toy"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.syspath_prepend(TOYS)
    return load_host(["harness_toy"], entry_points=False)


def write(tmp_path: Path, *changes: tuple[str, str], extra: str = "") -> str:
    text = (TOYS / "toys.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.toml"
    path.write_text(text + extra)
    return str(path)


def names(suite: Suite, host: Host) -> list[str]:
    return [technique.name for technique in techniques_of(suite, host)]


def problems(path: str, host: Host) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read_suite(path, host)
    return list(caught.value.problems)


def test_a_suite_is_found_by_id_by_short_name_and_by_file(host: Host, tmp_path: Path) -> None:
    by_name = read_suite("toys", host)
    assert read_suite("toy/toys", host) == by_name
    mine = read_suite(write(tmp_path), host)
    assert mine.id == "mine"
    assert mine.seeds == (0, 1, 2, 3)
    assert mine.tuning == {"lr": (0.1, 0.2, 0.3)}
    assert mine.quality == "toy_score"
    assert names(mine, host) == ["toy/base", "toy/good", "toy/twin"]


def test_a_glob_may_leave_out_what_others_choose(host: Host, tmp_path: Path) -> None:
    mine = read_suite(write(tmp_path, ('["base", "good", "twin"]', '["*", "!toy/t*"]')), host)
    every = names(read_suite(write(tmp_path, ('["base", "good", "twin"]', '["*"]')), host), host)
    assert "toy/twin" in every
    assert names(mine, host) == [name for name in every if not name.startswith("toy/t")]


def test_quick_overrides_and_is_labelled(host: Host) -> None:
    quick = read_suite("toys", host, form="quick")
    assert quick.form == "quick"
    assert quick.seeds == (0, 1)
    assert quick.tuning_seeds == 1


def test_costs_are_those_named_or_the_live_tensors_of_the_first_phase(host: Host, tmp_path: Path) -> None:
    assert read_suite("toys", host).costs == ("train_tensor_peak",)
    named = write(tmp_path, ("rounds = 5", 'costs = ["toy_val_score", "infer_time"]'))
    assert read_suite(named, host).costs == ("toy_val_score", "infer_time")
    assert read_suite(write(tmp_path, ("rounds = 5", "costs = []")), host).costs == ()


@pytest.mark.parametrize("text", [f"x = {'[' * 3000}{']' * 3000}", f"version = {'9' * 5000}", "x = [", "x"])
def test_a_file_that_no_parser_takes_is_one_line(host: Host, tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    (line,) = problems(str(path), host)
    assert line.startswith(f"{path}: not valid TOML: ")
    assert len(line) < 300


CLAIM = """
[[claims]]
id = "a"
source = "a book"
says = "better"
test = { metric = "toy_score", better = "toy/good", than = "toy/base" }
"""

FORMS = [
    ("[quick]\nseeds = 2", "[quick]\nseedz = 2", "quick.seedz: unknown key; did you mean 'seeds'"),
    ("[quick]\nseeds = 2", '[quick]\nseeds = "two"', "quick: seeds: 'two': expected a whole number"),
    ("[track]\nseeds = 2", '[track]\ntechniques = ["gud"]', "track: techniques: "),
]


@pytest.mark.parametrize(("old", "new", "text"), FORMS)
def test_a_mistake_in_another_form_is_named_whatever_form_is_run(
    host: Host, tmp_path: Path, old: str, new: str, text: str
) -> None:
    path = write(tmp_path, (old, new))
    found = problems(path, host)
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: {text}")


def test_all_errors_come_at_once_with_file_key_and_nearest_name(host: Host, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ('"good", "twin"', '"gud", "twin"'),
        ('workloads = ["formula"]', 'workloads = ["formla"]'),
        ("title", "titel"),
        ("seeds = 4", 'seeds = "four"'),
        ("version = 1", "version = 0"),
    )
    found = problems(path, host)
    assert all(line.startswith(f"{path}: ") for line in found)
    expected = [
        ("titel", "did you mean 'title'"),
        ("title", "missing; expected a string"),
        ("seeds", "'four': expected a whole number or a list"),
        ("techniques", "did you mean 'toy/good'"),
        ("workloads", "did you mean 'toy/formula'"),
        ("version", "expected 1 or more"),
    ]
    for key, text in expected:
        assert any(f": {key}: " in line and text in line for line in found), (key, text, found)


@pytest.mark.parametrize("first", ["roundz = 3", "rounds = inf", "costs = [1]", "version = 0", "title = 3"])
def test_a_mistake_hides_none_of_another_kind(host: Host, tmp_path: Path, first: str) -> None:
    key = first.partition(" ")[0]
    replaced = {"version": "version = 1", "title": 'title = "Toys"', "rounds": "rounds = 5"}.get(key, "rounds = 5")
    path = write(
        tmp_path,
        (replaced, first),
        ('metrics = ["toy_score"]', 'metrics = ["toy_score", "losss"]'),
        ("toy_score = 1.0", "toy_score = -1"),
        ("lr = [0.1, 0.2, 0.3]", "lr = []"),
        extra=CLAIM.replace("toy/good", "toy/gud"),
    )
    found = problems(path, host)
    expected = [key, "metrics", "margins.toy_score", "tuning.lr", "claims[0].test.better"]
    assert sorted(line.removeprefix(f"{path}: ").partition(": ")[0] for line in found) == sorted(expected), found


def test_an_unknown_workload_accuses_no_setting_and_no_metric(host: Host, tmp_path: Path) -> None:
    changes = ('workloads = ["formula"]', 'workloads = ["formul*"]'), ("rounds = 5", "settings = { sleep_s = 0.1 }")
    found = problems(write(tmp_path, *changes), host)
    assert len(found) == 1, found
    assert ": workloads: " in found[0]


@pytest.mark.parametrize(
    ("old", "new", "key", "text"),
    [
        ('"toy_score"]', '"toy_scor"]', "metrics", "did you mean 'toy_score'"),
        ('title = "Toys"', 'title = " "', "title", "a line to show above the table"),
        ('["base", "good", "twin"]', '["!toy/base", "!toy/t*"]', "techniques", "only leaves out (!toy/base, !toy/t*)"),
        ("rounds = 5", 'costs = ["train_tensor_peek"]', "costs", "did you mean 'train_tensor_peak'"),
        ("rounds = 5", "costs = [1]", "costs", "a list of strings"),
        ("rounds = 5", 'costs = "train_time"', "costs", "a list"),
        ('select = "toy_val_score"', 'select = "nothing"', "select", "unknown metric"),
        ("lr = [0.1", "rl = [0.1", "tuning.rl", "did you mean 'lr'"),
        ("lr = [0.1, 0.2, 0.3]", "lr = []", "tuning.lr", "at least one value"),
        ("lr = [0.1, 0.2, 0.3]", "lr = [0.1, 1e999]", "tuning.lr", "inf: expected a finite number"),
        ("lr = [0.1, 0.2, 0.3]", "lr = [0.1, nan]", "tuning.lr", "nan: expected a finite number"),
        ("lr = [0.1, 0.2, 0.3]", 'lr = [0.1, "x"]', "tuning.lr", "lr=x: expected a number, like 0.1"),
        ("lr = [0.1, 0.2, 0.3]", f"lr = [0.1, {10**400}]", "tuning.lr", "expected a finite number"),
        ("rounds = 5", "settings = { sleep_s = -inf }", "settings.sleep_s", "-inf: expected a finite number"),
        ("rounds = 5", "settings = { sleep_s = true }", "settings.sleep_s", "expected a number, like 0.0"),
        ("toy_score = 1.0", "toy_score = inf", "margins.toy_score", "inf: expected a number, 0 or more"),
        ("toy_score = 1.0", "toy_score = nan", "margins.toy_score", "nan: expected a number, 0 or more"),
        ('contract = "toy"', 'contract = "tay"', "contract", "did you mean 'toy'"),
        ("toy_score = 1.0", "toy_score = -1", "margins.toy_score", "0 or more"),
        ("seeds = 4", "seeds = [1, 1]", "seeds", "twice"),
        ("seeds = 4", "seeds = [-1]", "seeds", "from 0"),
        ("rounds = 5", "rounds = true", "rounds", "a whole number"),
        ('["base", "good", "twin"]', '["*x*y"]', "techniques", "matches no technique"),
        ('["base", "good", "twin"]', '["*", "!twim"]', "techniques", "'!twim' matches no technique"),
        ('baseline = "toy/base"', 'baseline = "toy/bas"', "baseline", "did you mean 'toy/base'"),
        ('workloads = ["formula"]', 'workloads = ["formula", "toy/formula"]', "workloads", "is listed twice"),
        ('metrics = ["toy_score"]', 'metrics = ["toy_score", "toy_score"]', "metrics", "is listed twice"),
        (
            'metrics = ["toy_score"]',
            'metrics = ["toy_score", "loss"]',
            "metrics",
            "no workload of the suite emits 'loss'",
        ),
        ('metrics = ["toy_score"]', 'metrics = ["loss"]', "metrics", "toy/formula emits no 'loss'; it emits toy_score"),
        ('select = "toy_val_score"', 'select = "toy_score"', "select", "not computed on validation data"),
        ("toy_score = 1.0", "accuracy = 1.0", "margins", "no workload of the suite emits 'accuracy'"),
    ],
)
def test_each_kind_of_mistake_is_named(host: Host, tmp_path: Path, old: str, new: str, key: str, text: str) -> None:
    found = problems(write(tmp_path, (old, new)), host)
    assert len(found) == 1, found
    assert f": {key}: " in found[0]
    assert text in found[0]


def test_a_value_out_of_a_setting_s_range_is_refused_for_each_workload_that_has_it(tmp_path: Path) -> None:
    everything = load_host()
    text = Path(read_suite("peft", everything).source).read_text()
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}\n[settings]\nbatch_size = 0\n")
    assert problems(str(path), everything) == [
        f"{path}: settings.batch_size: setting batch_size = 0: expected a whole number, more than 0"
    ]


def test_claims_are_checked(host: Host, tmp_path: Path) -> None:
    claim = (
        '[[claims]]\nid = "c"\nsource = "s"\nsays = "x"\ntest = {metric = "toy_score", better = "gd", thn = "base"}\n'
    )
    found = problems(write(tmp_path, extra=claim), host)
    assert any("claims[0].test.thn" in line and "did you mean 'than'" in line for line in found)
    assert any("claims[0].test.than: missing" in line for line in found)


def test_what_is_not_toml_or_not_there_is_one_clear_line(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("title = ")
    assert "not valid TOML" in problems(str(path), host)[0]
    assert "no suite file" in problems(str(tmp_path / "none.toml"), host)[0]
    assert "did you mean 'toy/toys'" in problems("toyz", host)[0]
    path.write_bytes(b"\xff\xfe")
    assert "cannot be read" in problems(str(path), host)[0]


def test_the_tracked_form_is_not_tuned_unless_its_table_says_so(host: Host, tmp_path: Path) -> None:
    tracked = read_suite("toys", host, form="track")
    assert (tracked.form, tracked.seeds, dict(tracked.tuning)) == ("track", (0, 1), {})
    path = write(tmp_path, ("[track]\nseeds = 2\n", "[track]\nseeds = 2\ntuning = { lr = [0.1, 0.2] }\n"))
    assert dict(read_suite(path, host, form="track").tuning) == {"lr": (0.1, 0.2)}


def test_a_claim_may_be_of_sameness_or_of_a_larger_gain(host: Host, tmp_path: Path) -> None:
    head = '[[claims]]\nid = "{}"\nsource = "s"\nsays = "x"\ntest = {{ metric = "toy_score", {} }}\n'
    extra = head.format("a", 'same = "good", as = "base", workload = "formula", margin = 0.5')
    extra += head.format("b", 'gain_of = "good", over = "base", more_on = "formula", than_on = "formula:lr=0.2"')
    same, gain = read_suite(write(tmp_path, extra=extra), host).claims
    assert (same.kind, same.better, same.than, same.workload, same.margin) == (
        "same", "toy/good", "toy/base", "toy/formula", 0.5,
    )  # fmt: skip
    assert (gain.kind, gain.workload, gain.less_on, gain.margin) == ("gain", "toy/formula", "toy/formula:lr=0.2", None)


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ('same = "good"', "claims[0].test.as: missing"),
        ('same = "good", as = "base", better = "base"', "claims[0].test.better: unknown key"),
        ('gain_of = "good", over = "base", more_on = "formula", than_on = "formla"', "did you mean 'toy/formula'"),
        ('better = "good", than = "base", margin = "wide"', "claims[0].test.margin: 'wide': expected a number"),
        ('better = "good", than = "base", margin = 1e999', "claims[0].test.margin: inf: expected a number"),
    ],
)
def test_a_claim_of_any_kind_is_checked(host: Host, tmp_path: Path, test: str, text: str) -> None:
    claim = f'[[claims]]\nid = "c"\nsource = "s"\nsays = "x"\ntest = {{ metric = "toy_score", {test} }}\n'
    assert any(text in line for line in problems(write(tmp_path, extra=claim), host))


def test_quick_needs_a_quick_table(host: Host, tmp_path: Path) -> None:
    path = write(tmp_path, ("[quick]\nseeds = 2\ntuning_seeds = 1\n", ""))
    with pytest.raises(UsageError, match="no \\[quick\\] table"):
        read_suite(path, host, form="quick")


def test_seeds_are_a_count_or_a_list() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("7,3") == (7, 3)
    assert parse_seeds("7,") == (7,)
    for text in ("", "x", "0", "-1", "1,1", "1.5", ",", "1" + "0" * 20, "0,-1", f"0,{2**63}"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20251126", "for the one seed write 20251126,$"),
        (f"{2**63},", "whole numbers from 0 to 2.63 - 1$"),
        ("1,1", "twice$"),
    ],
)
def test_seeds_that_are_refused_are_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_seeds(text)


def test_every_suite_that_ships_is_right() -> None:
    everything = load_host()
    for full in everything.declared.suites:
        assert read_suite(full, everything).claims is not None


def test_a_suite_with_a_byte_order_mark_is_read(host: Host, tmp_path: Path) -> None:
    path = Path(write(tmp_path))
    plain = read_suite(str(path), host)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_suite(str(path), host) == plain


@pytest.mark.parametrize(
    ("test", "kind", "direction"),
    [
        ('gain_of = "good", over = "base", than_gain_of = "twin", than_over = "base"', "interaction", "more"),
        ('ratio_of = "good", to = "base", at_least = 1.5', "ratio", "more"),
        ('ratio_of = "good", to = "base", at_most = 0.5', "ratio", "less"),
        ('sooner = "good", than = "base", target = 0.5', "steps", "more"),
        ('rises_with = "lr", of = "good"', "trend", "more"),
        ('falls_with = "lr", of = "good", over = "base"', "trend", "less"),
        ('best = "lr", larger_for = "good", than = "base"', "best", "more"),
        ('best = "lr", smaller_for = "good", than = "base"', "best", "less"),
        ('correlates_with = "toy_val_score", at_least = 0.3', "correlation", "more"),
        ('opposed_to = "toy_val_score", among = ["good"]', "correlation", "less"),
    ],
)
def test_each_form_of_a_claim_is_read(host: Host, tmp_path: Path, test: str, kind: str, direction: str) -> None:
    claim = f'[[claims]]\nid = "c"\nsource = "s"\nsays = "x"\ntest = {{ metric = "toy_score", {test} }}\n'
    (found,) = read_suite(write(tmp_path, extra=claim), host).claims
    assert (found.kind, found.direction, found.metric) == (kind, direction, "toy_score")
    assert (found.better == "toy/good") == (kind != "correlation")


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ('ratio_of = "good", to = "base", at_least = 0', "claims[0].test.at_least: 0: expected a ratio above 0"),
        ('ratio_of = "good", to = "base", at_leest = 2', "at_leest: unknown key; did you mean 'at_least'"),
        ('sonner = "good", then = "base", target = 1', "sonner: unknown key; did you mean 'sooner'"),
        ('sooner = "good", than = "base", target = 1, phase = "trane"', "no workload has the phase 'trane'"),
        ('rises_with = "rl", of = "good"', "did you mean 'lr'"),
        ('falls_with = "lr", of = "good", margin = -1', "margin: -1: expected 0 or more"),
        ('rises_with = "sleep_s", of = "good"', "no two values of 'sleep_s' are compared"),
        ('correlates_with = "toy_scor"', "claims[0].test.correlates_with: unknown metric"),
        ('correlates_with = "toy_val_score", at_least = 1.5', "expected the size of a correlation"),
        ('correlates_with = "toy_val_score", among = []', "expected a list of names or globs"),
    ],
)
def test_each_mistake_in_a_form_of_a_claim_is_told(host: Host, tmp_path: Path, test: str, text: str) -> None:
    claim = f'[[claims]]\nid = "c"\nsource = "s"\nsays = "x"\ntest = {{ metric = "toy_score", {test} }}\n'
    found = problems(write(tmp_path, extra=claim), host)
    assert any(text in line for line in found), found
