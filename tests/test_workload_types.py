"""Every workload is assigned to the protocol that it fulfils where mypy sees it, and mypy notices what it does not."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.declared import host

SPECS = {full: entry.spec for full, entry in host().workloads.items()}


def assigned(path: Path) -> dict[str, set[str]]:
    """Return the classes that a module lists below ``if TYPE_CHECKING``, by the protocol that each list is of."""
    found: dict[str, set[str]] = {}
    for block in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                    protocol = ast.unparse(node.annotation).removeprefix("tuple[type[").removesuffix("], ...]")
                    found.setdefault(protocol, set()).update(ast.unparse(element) for element in node.value.elts)
    return found


@pytest.mark.parametrize("full", SPECS)
def test_a_workload_is_held_against_its_protocol_by_mypy(full: str) -> None:
    spec = SPECS[full]
    module, _, name = spec.target.partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    lists = assigned(Path(found.origin))
    assert name in lists.get("CheckingWorkload" if spec.settings else "Workload", set())
    assert not spec.stacks or name in lists.get("StackingWorkload", set())


WORKLOADS = """
from collections.abc import Mapping
from harness.api import CaseContext, CheckingWorkload, Json, OpenCase, Outcome

class Sound:
    def check_settings(self, settings: Mapping[str, Json]) -> None: ...
    def prepare(self, context: CaseContext) -> None: ...
    def check(self, technique: str, context: CaseContext) -> None: ...
    def evaluate(self, technique: str, context: CaseContext) -> Outcome:
        return Outcome(metrics={})
    def open(self, technique: str, context: CaseContext) -> OpenCase:
        return OpenCase(phases={})

class Renamed(Sound):
    open = None  # type: ignore[assignment]

class Changed(Sound):
    def check(self, technique: str) -> None: ...  # type: ignore[override]

FULFILS: tuple[type[CheckingWorkload], ...] = (Sound,)
LACKS: tuple[type[CheckingWorkload], ...] = (Renamed,)
DIFFERS: tuple[type[CheckingWorkload], ...] = (Changed,)
"""


def test_mypy_refuses_a_workload_whose_signature_differs(tmp_path: Path) -> None:
    path = tmp_path / "workloads.py"
    path.write_text(WORKLOADS)
    lines = WORKLOADS.splitlines()
    options = ["--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert [lines[int(error.split(":")[1]) - 1].partition(":")[0] for error in errors] == ["LACKS", "DIFFERS"]
