from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def builders() -> ModuleType:
    spec = importlib.util.spec_from_file_location("builders", Path(__file__).parents[1] / "results" / "builders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
