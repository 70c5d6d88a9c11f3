"""What the plugin says of itself, before torch is anywhere near."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
from harness_moe import register_techniques

from harness.api import Unavailable
from harness.plan import missing_requirements

TECHNIQUES = register_techniques()
DENSE = {"dense-active", "dense-total"}


def test_declaring_imports_no_torch() -> None:
    code = "import sys, harness_moe; harness_moe.register_techniques(); print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ids_are_unique_and_there_are_two_baselines_beside_the_routings() -> None:
    ids = [technique.id for technique in TECHNIQUES]
    assert len(ids) == len(set(ids))
    assert set(ids) > DENSE
    assert len(set(ids) - DENSE) >= 12


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.id)
class TestEvery:
    def test_fulfils_its_contract(self, technique) -> None:
        from harness.families.route.contract import RouteTechnique

        if missing_requirements(technique.requires):
            pytest.skip(f"{technique.requires[0]} is not installed")
        module, _, name = technique.target.partition(":")
        try:
            built = getattr(importlib.import_module(module), name)(**technique.params)
        except Unavailable as problem:
            pytest.skip(str(problem))
        assert technique.contract == "route"
        assert isinstance(built, RouteTechnique)

    def test_survives_json(self, technique) -> None:
        assert json.loads(json.dumps(dict(technique.params))) == dict(technique.params)

    def test_says_where_it_comes_from(self, technique) -> None:
        assert technique.reference.startswith("arXiv:") or technique.id in DENSE
