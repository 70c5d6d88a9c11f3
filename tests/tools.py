"""Imports the programs in tools/, which belong to no package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.conftest import ROOT


def load_tool(name: str) -> ModuleType:
    """Return the module ``tools/NAME.py``."""
    if str(ROOT / "tools") not in sys.path:  # where they import each other, as scripts do
        sys.path.append(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location(f"tools.{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module
