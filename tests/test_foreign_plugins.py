"""Plugins as strangers write and install them: whatever one holds, its line says so and nothing else changes."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from harness.analysis import RunView
from harness.api import UsageError
from harness.cli.app import App
from harness.cli.output import show_view
from harness.host import Host, load_host
from tests.conftest import Harness, Site
from tests.results.builders import METRICS, make_run
from tests.test_host import HEALTHY, record

OK = "HARNESS_API = 1\n"
IMPORTS = "from harness.api import *\nfrom harness.api import hookimpl\nHARNESS_API = 1\n"


def metadata(site: Site, name: str, *, points: bytes = b"", text: str | None = None, folder: str = "") -> Path:
    """Write a dist-info folder by hand."""
    info = site.folder / folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    if text is None:
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    if text:
        (info / "METADATA").write_text(text)
    (info / "entry_points.txt").write_bytes(points)
    return info


@pytest.mark.parametrize(
    "line",
    [
        b"bias = harness-bias",
        b"bias =",
        b"bias",
        b"bias = harness_bias :",
        b"bias = harness_bias:",
        b"bias = harness\x07bias",
        b"bias = harness\xe9bias",
        b"MyPlugin = harness_healthy",
        b"my:plugin = harness_healthy",
        b"x* = harness_healthy",
        b"-p = harness_healthy",
        b"a/b = harness_healthy",
    ],
)
def test_a_malformed_entry_point_is_one_broken_plugin(site: Site, line: bytes) -> None:
    site.plugin("healthy", HEALTHY)
    metadata(site, "evil", points=b"[harness.plugins]\n" + line)
    host = load_host()
    (broken,) = host.broken
    assert broken.distribution == "evil"
    assert broken.cause
    assert "\n" not in broken.cause
    assert "healthy/one" in host.techniques


def test_a_malformed_entry_point_is_fatal_to_strict_plugins_alone(site: Site, harness: Harness) -> None:
    metadata(site, "evil", points=b"[harness.plugins]\nbias = harness-bias")
    done = harness("plugins")
    assert done.returncode == 0
    assert "broken" in done.stdout
    assert "harness-bias" in done.stdout
    assert harness("--strict-plugins", "plugins").returncode == 2


def test_bytes_that_are_no_text_in_another_group_concern_nobody(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    metadata(site, "other", points=b"[console_scripts]\nna\xefve = a:b\n")
    host = load_host()
    assert not host.broken
    assert "healthy/one" in host.techniques


@pytest.mark.parametrize("text", ["Metadata-Version: 2.1\nName: harness-healthy\n", ""])
def test_a_distribution_without_a_version_has_an_empty_one(site: Site, text: str) -> None:
    site.plugin("healthy", HEALTHY)
    (site.folder / "harness_healthy-1.0.dist-info" / "METADATA").write_text(text)
    host = load_host()
    assert record(host, "healthy").status == "ok"
    assert host.version_of("healthy") == ""


def test_a_distribution_without_metadata_is_named_by_its_folder(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    (site.folder / "harness_healthy-1.0.dist-info" / "METADATA").unlink()
    assert record(load_host(), "healthy").distribution == "harness_healthy"


def test_of_two_installs_the_imported_one_counts_and_the_other_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.plugin("twofold", HEALTHY)
    old = "Metadata-Version: 2.1\nName: harness-twofold\nVersion: 0.0.9\n"
    metadata(site, "harness_twofold", folder="left", text=old, points=b"[harness.plugins]\ntwofold = harness_twofold")
    monkeypatch.syspath_prepend(site.folder / "left")
    host = load_host()
    assert host.version_of("twofold") == "1.0"
    assert "harness-twofold 0.0.9" in record(host, "twofold").cause


def test_a_leftover_without_entry_points_hides_no_plugin(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin("healthy", HEALTHY)
    metadata(site, "harness_healthy", folder="left")
    monkeypatch.syspath_prepend(site.folder / "left")
    assert "healthy/one" in load_host().techniques


def test_an_installed_plugin_that_is_named_too_is_loaded_once(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    host = load_host(["harness_healthy", "harness_healthy"])
    assert record(host, "healthy").status == "ok"
    assert "healthy/one" in host.techniques


@pytest.mark.parametrize(
    "top",
    [
        "from unittest.mock import call",
        "from ctypes import cdll",
        "class Any_:\n    def __getattr__(self, name): return self\nops = Any_()",
        "class Lazy:\n    def __getattr__(self, name): raise SystemExit(name)\ntorch = Lazy()",
    ],
)
def test_looking_at_a_plugin_runs_none_of_its_attributes(site: Site, top: str) -> None:
    site.plugin("lazy", f"{OK}{top}\n")
    assert record(load_host(), "lazy").status == "ok"


def test_a_hook_without_its_mark_is_named(site: Site) -> None:
    site.plugin("bare", f"{OK}def register_techniques(): return []\n")
    assert "register_techniques without a mark" in record(load_host(), "bare").cause


def test_what_a_plugin_prints_is_no_output_of_a_command(site: Site, harness: Harness) -> None:
    site.plugin("loud", f"{OK}print('hello')\n")
    done = harness("plugins", "--json")
    assert json.loads(done.stdout)
    assert "hello" in done.stderr


TECHNIQUE = 'Technique(**{{**dict(id="t", contract="finetune", target="a:b", summary="s"), {}}})'
WORKLOAD = (
    'WorkloadSpec(**{{**dict(id="w", contract="finetune", target="a:b", summary="s", version=1, metrics=["accuracy"], '
    'phases=["train"]), {}}})'
)
METRIC = 'Metric(**{{**dict(id="joy", unit="", higher_is_better=True, summary="s", lane="accuracy"), {}}})'
CONTRACT = 'Contract(**{{**dict(id="c", protocol="a:B", summary="s", phases={{}}), {}}})'
REPORTER = 'Reporter(**{{**dict(id="r", target="a:b", summary="s"), {}}})'
EXECUTOR = 'ExecutorSpec(**{{**dict(id="e", target="a:b", summary="s"), {}}})'

WRONG = [
    ("techniques", TECHNIQUE, field, value)
    for field, value in {
        "id": "None",
        "contract": "3",
        "target": "None",
        "summary": "None",
        "reference": "'two\\nlines'",
        "requires": "'einops'",
    }.items()
]
WRONG += [("techniques", TECHNIQUE, "target", value) for value in ("'a b:c'", "'a:'", "'a.b'", "'a:b-c'")]
WRONG += [("techniques", TECHNIQUE, "params", value) for value in ("None", "['rank']", "{'x': float('inf')}")]
WRONG += [
    ("techniques", TECHNIQUE, "space", value)
    for value in (
        "{'lr': 0.1}",
        "{'lr': '0.1'}",
        "{'lr': []}",
        "{'lr': [None]}",
        "['lr']",
        "None",
        "{'learning_rate': [0.01, 0.1]}",
        "{'lr': [-1.0, 0.1]}",
        "{'lr': [1.0, 0.1, 1]}",
        "{'lr': [0.1, 0.1]}",
    )
]
WRONG += [
    ("techniques", TECHNIQUE, "requires", value)
    for value in ("['einops >>> 3']", "['torch>=2 <3 !!']", "['']", "['-r requirements.txt']", "[3]")
]
WRONG += [
    ("workloads", WORKLOAD, field, value)
    for field, value in {
        "metrics": "'accuracy'",
        "phases": "'train'",
        "version": "True",
        "settings": "None",
        "small": "{'stepps': 3}",
        "stacks": "1",
        "fewest_stacked": "0",
        "preload": "'torch'",
        "processes": "0",
        "requires": "'x'",
        "summary": "'two\\nlines'",
        "optional": "3",
        "reads": "3",
        "task": "3",
    }.items()
]
WRONG += [("workloads", WORKLOAD, field, value) for field in ("optional", "metrics") for value in ("None", "[3]")]
WRONG += [
    ("metrics", METRIC, field, value)
    for field, value in {
        "id": "None",
        "lane": "'acuracy'",
        "higher_is_better": "'lower'",
        "unit": "None",
        "selects": "'no'",
        "limit": "'100'",
    }.items()
]
WRONG += [("metrics", METRIC, "limit", value) for value in ("True", "float('nan')")]
WRONG += [("contracts", CONTRACT, "phases", value) for value in ("['train']", "{'train': 1}", "None")]
WRONG += [("reporters", REPORTER, "id", "'Two Words'"), ("reporters", REPORTER, "target", "3")]
WRONG += [("executors", EXECUTOR, "summary", "None")]


@pytest.mark.parametrize(("kind", "template", "field", "value"), WRONG)
def test_a_field_that_is_not_well_formed_breaks_its_plugin_and_no_other(
    site: Site, kind: str, template: str, field: str, value: str
) -> None:
    made = template.format(f"{field!r}: {value}")
    site.plugin("bad", f"{IMPORTS}@hookimpl\ndef register_{kind}(): return [{made}]\n")
    site.plugin("healthy", HEALTHY)
    host = load_host()
    (broken,) = host.broken
    assert broken.name == "bad"
    assert "expected" in broken.cause or "cannot be written" in broken.cause or "did you mean" in broken.cause
    assert field in broken.cause, broken.cause
    assert not broken.cause.startswith(("TypeError", "AttributeError")), broken.cause
    assert "healthy/one" in host.techniques


def test_an_unknown_name_in_a_space_is_told_with_the_known_ones(site: Site) -> None:
    made = TECHNIQUE.format("'space': {'learning_rate': [0.01, 0.1]}")
    site.plugin("bad", f"{IMPORTS}@hookimpl\ndef register_techniques(): return [{made}]\n")
    assert "'learning_rate'" in record(load_host(), "bad").cause
    assert "known: base, batch_size, completion, data, head_lr, label, lr," in record(load_host(), "bad").cause


def test_a_suite_file_that_does_not_exist_breaks_its_plugin(site: Site) -> None:
    text = f"{IMPORTS}from pathlib import Path\n@hookimpl\ndef register_suites(): return [Path('peft.toml')]\n"
    site.plugin("bad", text)
    host = load_host()
    assert "no such file" in record(host, "bad").cause


def test_a_suite_of_the_host_keeps_its_short_name(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    (site.folder / "peft.toml").write_text("")
    path = str(site.folder / "peft.toml")
    site.plugin(
        "more", f"{IMPORTS}from pathlib import Path\n@hookimpl\ndef register_suites(): return [Path({path!r})]\n"
    )
    host = load_host()
    own = host.resolve("suites", "peft")
    assert not own.startswith("more/")
    assert host.resolve("suites", "more/peft") == "more/peft"
    assert capfd.readouterr().err.count("more/peft") == 1


def test_a_reporter_takes_no_format_of_the_host_and_a_wrong_target_is_one_line(site: Site, harness: Harness) -> None:
    made = [REPORTER.format(f"'id': {name!r}") for name in ("json", "mine")]
    site.plugin("bad", f"{IMPORTS}@hookimpl\ndef register_reporters(): return [{', '.join(made)}]\n")
    done = harness("run", "--suite", "peft", "--format", "mine", "--dry-run")
    assert done.returncode == 2
    assert "format 'mine' of plugin 'bad' cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert harness("run", "--suite", "peft", "--format", "json", "--dry-run").returncode == 0


@pytest.mark.parametrize("raised", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_reporter_that_raises_is_told_in_a_line(site: Site, raised: str) -> None:
    made = REPORTER.format("'id': 'mine'").replace("a:b", "harness_bad:report")
    text = f"{IMPORTS}@hookimpl\ndef register_reporters(): return [{made}]\ndef report(view): raise {raised}('bye')\n"
    site.plugin("bad", text)
    view = RunView.build(make_run(), [], METRICS)
    with pytest.raises(UsageError, match=f"format 'mine' of plugin 'bad' fails: {raised}: bye"):
        show_view(view, "mine", App())


ANSWERS = {
    "environment_info()": ["3", "object()", "{1: 2}", "{'x': float('nan')}", "{'x': object()}"],
    "check_case(case)": ["'no'", "[1]", "Skip(reason=3)", "Skip(reason='x', status='ok')"],
    "modify_cases(cases)": [
        "cases.append('x')",
        "cases.append(cases[0])",
        "cases.__setitem__(0, 3)",
        "cases[0].params.update(a=1)",
    ],
}


@pytest.mark.parametrize(
    ("hook", "answer"), [(hook, answer) for hook, answers in ANSWERS.items() for answer in answers]
)
def test_a_wrong_answer_of_a_hook_is_told_once_and_drops_the_plugin(
    site: Site, capfd: pytest.CaptureFixture[str], hook: str, answer: str
) -> None:
    from harness.plan import Identity, Plan
    from harness.suite import read_suite

    site.plugin("odd", f"{IMPORTS}@hookimpl\ndef {hook}: return {answer}\n")
    host: Host = load_host()
    plan = Plan(read_suite("peft", host), host, _selection(), Identity(code={}, packages={}))
    cases = [plan.first_case(contestant) for contestant in plan.contestants][:2]
    before = list(cases)
    name = hook.partition("(")[0]
    arguments = {
        "environment_info": {},
        "check_case": {"case": cases[0], "environment": {}},
        "modify_cases": {"cases": cases},
    }[name]
    for _ in range(2):
        assert [found for found in host.notify(name, **arguments) if found[0] == "odd"] == []
    assert cases == before
    assert capfd.readouterr().err.count("plugin 'odd' failed in") == 1


def _selection():
    from harness.selection import Selection

    return Selection()


def test_what_a_hook_alters_stays_with_it(site: Site) -> None:
    from harness.plan import Identity, Plan
    from harness.suite import read_suite

    site.plugin(
        "odd",
        f"{IMPORTS}@hookimpl\ndef check_case(case, environment):\n"
        "    case.params['rank'] = environment['cpu']['model'] = 'another'\n"
        "@hookimpl\ndef modify_cases(cases): cases.reverse()\n",
    )
    host = load_host()
    plan = Plan(read_suite("peft", host), host, _selection(), Identity(code={}, packages={}))
    cases = [plan.first_case(contestant) for contestant in plan.contestants][:2]
    before = deepcopy(cases)
    environment = {"cpu": {"model": "this"}}
    host.notify("check_case", case=cases[0], environment=environment)
    assert (cases, environment) == (before, {"cpu": {"model": "this"}})
    first, second = cases
    host.notify("modify_cases", cases=cases)
    assert cases[0] is second
    assert cases[1] is first


@pytest.mark.parametrize("fact", ["packages", "cpu", "code", "gpu"])
def test_a_plugin_named_like_a_fact_of_the_run_does_not_replace_it(site: Site, fact: str) -> None:
    from harness.execution.surroundings import surroundings

    before = surroundings(load_host()).environment[fact]
    site.plugin(fact, f"{IMPORTS}@hookimpl\ndef environment_info(): return {{'torch': '9.9.9'}}\n")
    around = surroundings(load_host())
    assert around.environment[fact] == before
    assert "9.9.9" not in str(around.identity.packages)
