"""A cache of base models that these tests share, and contexts as the worker makes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from harness.api import CaseContext, Json
from harness.testing import cache_folder
from tests.declared import specs

SETTINGS = {spec.id: spec.settings for spec in specs().values()}

Context = Callable[..., CaseContext]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache_folder(request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def context(cache: Path) -> Context:
    """A case's context: settings of the workload, these excepted."""

    def make(name: str = "digits-mlp", seed: int = 0, **settings: Json) -> CaseContext:
        return CaseContext(
            seed=seed,
            device="cpu",
            settings={**SETTINGS[name], **settings},
            cache=cache,
            phase=lambda _: nullcontext(),
        )

    return make
