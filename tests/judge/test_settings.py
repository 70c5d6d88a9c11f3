"""Every workload of the judge takes its own settings, and refuses what is none of their kind."""

from __future__ import annotations

import importlib

import pytest

from harness.api import UsageError, WorkloadSpec
from tests.declared import specs

WITH_SETTINGS = [spec for spec in specs().values() if spec.settings]
COMPLETE = [spec for spec in WITH_SETTINGS if not spec.task]
"""Those whose settings name no model and data of a user's own, without which the others refuse to run."""


def refuses(spec: WorkloadSpec, **changed: object) -> str:
    """What the workload has against its settings with these values."""
    module, _, name = spec.target.partition(":")
    workload = getattr(importlib.import_module(module), name)()
    try:
        workload.check_settings({**spec.settings, **changed})
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("spec", COMPLETE, ids=lambda spec: spec.id)
def test_its_own_settings_are_taken(spec: WorkloadSpec) -> None:
    assert refuses(spec) == ""


@pytest.mark.parametrize(
    ("spec", "name"),
    [(spec, name) for spec in WITH_SETTINGS for name in spec.settings],
    ids=lambda value: getattr(value, "id", value),
)
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_setting(spec: WorkloadSpec, name: str) -> None:
    assert name in refuses(spec, **{name: ["of no kind"]})
