"""What the plugin says of itself, before torch is anywhere near."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import pytest
from harness_dropout import register_techniques

TECHNIQUES = register_techniques()


def test_declaring_imports_no_torch() -> None:
    code = (
        "import sys, harness_dropout; harness_dropout.register_techniques(); print({'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ids_are_unique() -> None:
    ids = [technique.id for technique in TECHNIQUES]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.id)
class TestEvery:
    def test_fulfils_its_contract(self, technique) -> None:
        from harness.families.regularize.contract import RegularizeTechnique

        built = _target(technique)(**technique.params)
        assert technique.contract == "regularize"
        assert isinstance(built, RegularizeTechnique)

    def test_declares_the_defaults_that_its_code_has(self, technique) -> None:
        parameters = inspect.signature(_target(technique)).parameters
        assert {name: parameter.default for name, parameter in parameters.items()} == dict(technique.params)

    def test_has_four_trials_in_order_the_default_not_at_an_end(self, technique) -> None:
        if technique.id == "none":
            assert not technique.space
            return
        ((name, values),) = technique.space.items()
        assert len(values) == 4
        assert sorted(set(values)) == list(values)
        assert technique.params[name] in values
        assert values[0] < technique.params[name] < values[-1]

    def test_takes_every_value_of_its_space(self, technique) -> None:
        for name, values in technique.space.items():
            for value in values:
                _target(technique)(**{**technique.params, name: value})

    def test_survives_json(self, technique) -> None:
        stated = {"params": dict(technique.params), "space": dict(technique.space)}
        assert json.loads(json.dumps(stated)) == stated

    def test_says_where_it_comes_from(self, technique) -> None:
        assert technique.reference.startswith(("arXiv:", "https://")) or technique.id == "none"


def _target(technique):
    module, _, name = technique.target.partition(":")
    return getattr(importlib.import_module(module), name)
