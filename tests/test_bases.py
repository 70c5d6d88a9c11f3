"""Bases of users' own models: plugins offer them by name, and a case has what the name stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.api import Case, UsageError
from harness.host import load_host
from harness.plan import Identity, Plan
from harness.selection import Selection
from harness.source import Source
from harness.suite import read_suite
from tests.conftest import Harness
from tests.families.finetune.tiny import save_model, save_texts

PLUGIN = """
    from harness.api import BaseSpec, hookimpl
    HARNESS_API = 1
    @hookimpl
    def register_bases():
        return [
            BaseSpec(id="halves", target="halves_targets:halves", summary="linear layers in float16"),
            BaseSpec(id="forgetful", target="halves_targets:forgetful", summary="loses its gradient"),
            BaseSpec(id="lacking", target="halves_targets:halves", summary="s", requires=["no-such-package>=1"]),
        ]
"""

TARGETS = """
    import torch
    from torch import nn

    class Halves(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.register_buffer("halves", weight.half())
        def forward(self, x):
            return x @ self.halves.to(x.dtype).T
        def weight_of(self):
            return self.halves.float()

    class Forgetful(Halves):
        seen = False
        def forward(self, x):
            self.seen = self.seen or not self.training
            return super().forward(x.detach() if self.seen else x)

    class Base:
        dtype = torch.float32
        def __init__(self, make):
            self.packed = make

    def halves():
        return Base(Halves)

    def forgetful():
        return Base(Forgetful)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plugin of bases, a tiny model and labelled texts."""
    from textwrap import dedent

    (tmp_path / "harness_halves.py").write_text(dedent(PLUGIN))
    (tmp_path / "halves_targets.py").write_text(dedent(TARGETS))
    save_model(tmp_path / "model")
    save_texts(tmp_path / "texts.csv")
    return tmp_path


def planned(folder: Path, base: str, code: str = "") -> Plan:
    host = load_host(("harness_halves",))
    source = Source(model=str(folder / "model"), data=str(folder / "texts.csv"), base=base)
    suite = read_suite("peft", host, form="quick", source=source)
    return Plan(suite, host, Selection(techniques=("lora/lora",)), Identity(code={f"base {base}": code}, packages={}))


def first(folder: Path, base: str, code: str = "") -> Case:
    plan = planned(folder, base, code)
    return plan.first_case(plan.contestants[0])


def test_a_case_has_what_its_base_stands_for_and_its_key_the_code_of_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    original, changed, usual = (first(folder, *given) for given in (["halves"], ["halves", "changed"], [""]))
    assert original.settings["base"] == "halves_targets:halves"
    assert usual.settings["base"] == "harness.judge.bases:float32"
    assert len({original.key, changed.key, usual.key}) == 3
    assert replace(original, key="", code="") == replace(changed, key="", code="")


@pytest.mark.parametrize(
    ("base", "match"),
    [
        ("halve", "unknown base 'halve'; did you mean 'halves'?"),
        ("lacking", "base 'lacking' .*no-such-package"),
    ],
)
def test_a_base_that_there_is_not_is_named(
    base: str, match: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UsageError, match=match.replace("?", r"\?")):
        first(folder, base)


def run(harness: Harness, folder: Path, *more: str) -> Any:
    own = ("--model", str(folder / "model"), "--data", str(folder / "texts.csv"), "--technique", "lora", "--quiet")
    small = [f"--param={value}" for value in ("train_examples=24", "validation_examples=12", "steps=2")]
    form = ("--suite", "peft", "--quick", "--lane", "accuracy", "--seeds", "1")
    return harness("-p", "harness_halves", "run", *form, *own, *small, *more, PYTHONPATH=str(folder))


def test_a_wrong_base_is_refused_before_the_first_case(called: Harness, folder: Path) -> None:
    refused = run(called, folder, "--base", "forgetful")
    assert refused.returncode == 2
    assert "gives no gradient to its input in training after an evaluation" in refused.stderr


@pytest.mark.thorough
def test_a_plugins_base_is_trained_on(harness: Harness, folder: Path) -> None:
    done = run(harness, folder, "--base", "halves")
    assert done.returncode == 0, done.stderr
    assert "lora/lora" in done.stdout
