"""``harness claims``: each claim with the run that tests it, in text, as JSON and as a page; nothing is run unasked."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.claim_runs import entries_of
from harness.api import UsageError
from harness.cli import cli
from harness.host import load_host
from harness.report.claims import claims_json, claims_page, show_claims
from harness.report.folder import write_alone
from harness.results.store import Store
from harness.suite import read_suite
from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("builders", ROOT / "tests/results/builders.py")
assert spec is not None
assert spec.loader is not None
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)

NOISE = [0.1, -0.2, 0.3, 0.0, -0.1]
CLAIM = builders.make_claim(source="arXiv:2406.08447")
OTHER = builders.make_claim(id="same", kind="same", than="toys/c", source="a book")
SUITE = builders.make_suite(claims=(CLAIM, OTHER), tuning={})


def run(store: Store, gains, form="full", code=0, suite=SUITE) -> str:
    """Store a run in which toys/a gains so much over toys/b on each seed."""
    own = [90 + gain for gain in gains]
    suite = replace(suite, form=form, claims=())
    settings = {"steps": 100, "text": ""}
    figures = {"trainable_parameters": 3461.0}
    rows = [
        *builders.scored("toys/a", own, settings=settings, metrics=figures),
        *builders.scored("toys/b", [90.0] * len(own)),
    ]
    with store.create_run(suite=suite, selection={}, plugins=[], environment={}, planned=len(rows)) as writer:
        for row in rows:
            writer.append(row)
        return writer.finish(code).id


def entries(store: Store, suite=SUITE):
    return {entry.claim.id: entry for entry in entries_of({"core/toy": suite}, store, builders.METRICS)}


def test_a_claim_is_tested_on_the_latest_full_run_and_told_with_its_scale(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, [9 + noise for noise in NOISE])
    latest = run(store, [-4 + noise for noise in NOISE])
    run(store, [9 + noise for noise in NOISE], form="quick")
    found = entries(store)
    claim = found[CLAIM.id]
    assert (claim.run.id, claim.verdict) == (latest, "contradicted"), "today's claims are tested, not the run's"
    assert claim.scales["core/alpha"] == {"trainable parameters": 3461, "steps": 100, "device": "cpu"}
    assert (found["same"].verdict, found["same"].reason) == ("not tested", "toys/c has no accuracy here")


def test_a_short_form_is_taken_where_no_full_run_tests_a_claim(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, [], form="full")
    quick = run(store, [9 + noise for noise in NOISE[:3]], form="quick")
    assert entries(store)[CLAIM.id].run.id == quick
    assert "(quick)" in show_claims([*entries(store).values()], 80)


def test_a_run_of_another_version_or_of_another_suite_tests_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, NOISE, suite=replace(SUITE, version=2))
    run(store, NOISE, suite=replace(SUITE, baseline="others/base"))
    assert entries(store)[CLAIM.id].verdict == "not tested"
    assert not entries(store)[CLAIM.id].run


def test_an_undecided_claim_says_how_many_more_seeds_would_decide(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, [9.0, -7.0, 3.0, -2.0, 6.0])
    entry = entries(store)[CLAIM.id]
    (result,) = entry.results
    text = show_claims([entry], 80)
    assert f"{result.needed - 5} more seeds would decide" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    (told,) = claims_json([entry])
    assert told["results"][0]["more"] == result.needed - 5
    assert told["results"][0]["low"] < told["results"][0]["value"] < told["results"][0]["high"]


def test_the_page_loads_nothing_and_names_are_inert(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, [9 + noise for noise in NOISE])
    evil = replace(CLAIM, says="<script>alert(1)</script>", source="<img>")
    page = claims_page([*entries(store, replace(SUITE, claims=(evil, OTHER))).values()])
    assert "<script>alert" not in page
    assert "<img>" not in page
    assert not any(mark in page for mark in (" src=", "@import", "url("))
    assert "reproduced" in page
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_alone(claims_page([]), blocked / "page.html")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        cli.main(args=["claims", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return call


def test_every_claim_of_every_suite_is_listed_by_paper(told) -> None:
    host = load_host()
    declared = {claim.id for name in host.declared.suites for claim in read_suite(name, host).claims}
    listed = json.loads(told("--json"))
    assert {entry["id"] for entry in listed} == declared
    assert all(entry["verdict"] == "not tested" for entry in listed)
    text = told("--paper", "2406.08447")
    assert text.startswith("arXiv:2406.08447\n  init-a-beats-init-b")
    with pytest.raises(UsageError, match=r"did you mean '2406.08447'"):
        told("--paper", "arXiv:2406.0844")
    with pytest.raises(UsageError, match=r"no claim of moe has this source"):
        told("--paper", "2406.08447", "--suite", "moe")


def test_a_run_that_cannot_be_read_is_told_where_its_claims_are_not_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / ".harness" / "runs" / "20260101-000000-dead"
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{")
    cli.main(args=["claims", "--suite", "peft"], standalone_mode=False)
    said = capsys.readouterr()
    assert "not tested" in said.out
    assert "without 1 run that is in" in said.err


def test_run_runs_the_suites_that_no_full_run_tests(told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("harness.cli.run.execute", lambda _, options: asked.append(options) or 0)
    told("--suite", "peft", "--suite", "softmax", "--run", "--store", "kept")
    assert [(options.suite, options.store.name) for options in asked] == [
        ("finetune/peft", "kept"),
        ("softmax/softmax", "kept"),
    ]
    assert asked[0].time_limit == 300.0, "the other options have the defaults of harness run"


def test_neither_claims_nor_doctor_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        "for arguments in (['claims', '--output', 'page.html'], ['doctor', '--json']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.partition("\n")[2])["machine"]) == 11
    assert (tmp_path / "page.html").read_text().count("<h2>") > 10
