"""The workloads of fine-tuning, each by its name."""

from __future__ import annotations

import pytest

from harness.families.finetune.digits import DigitsWorkload
from harness.families.finetune.workloads.digits_mlp import DigitsMlp
from harness.families.finetune.workloads.digits_split import DigitsSplit

CLASSES: dict[str, type[DigitsWorkload]] = {"digits-mlp": DigitsMlp, "digits-split": DigitsSplit}


@pytest.fixture(scope="session", params=sorted(CLASSES))
def name(request: pytest.FixtureRequest) -> str:
    """Each workload."""
    return str(request.param)


@pytest.fixture(scope="session")
def workload(name: str) -> DigitsWorkload:
    return CLASSES[name]()


@pytest.fixture(scope="session")
def mlp() -> DigitsWorkload:
    return DigitsMlp()
