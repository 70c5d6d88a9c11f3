"""What the plugin declares."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
from harness_lora import HARNESS_API, register_techniques

from harness.api import API_VERSION

TECHNIQUES = register_techniques()


def test_it_speaks_the_hosts_interface() -> None:
    assert HARNESS_API == API_VERSION


def test_declaring_imports_neither_torch_nor_peft() -> None:
    code = "import sys, harness_lora; harness_lora.register_techniques(); print({'torch', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ids_are_unique() -> None:
    ids = [technique.id for technique in TECHNIQUES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.id)
class TestEvery:
    def test_fulfils_its_contract(self, technique) -> None:
        from harness.families.finetune.contract import FinetuneTechnique

        module, _, name = technique.target.partition(":")
        built = getattr(importlib.import_module(module), name)(**technique.params)
        assert technique.contract == "finetune"
        assert isinstance(built, FinetuneTechnique)
        assert isinstance(built.exact_at_start, bool)

    def test_has_as_many_trials_as_every_other(self, technique) -> None:
        assert list(technique.space) in ([], ["lr"])
        assert all(len(values) == 3 and sorted(values) == list(values) for values in technique.space.values())

    def test_survives_json(self, technique) -> None:
        stated = {"params": dict(technique.params), "space": dict(technique.space)}
        assert json.loads(json.dumps(stated)) == stated

    def test_says_where_it_comes_from(self, technique) -> None:
        assert technique.reference.startswith(("arXiv:", "https://")) or technique.id in {"full", "head", "eva-control"}
