"""The house: who may import whom, and what a command may cost before it does anything."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A room may import itself and the rooms named here. cli may import all.
ALLOWED = {
    "api": set(),
    "hookspecs": {"api"},
    "workloads": {"api", "measure"},
    "builtin": {"api", "workloads"},
    "host": {"api", "hookspecs"},
    "pins": {"api", "host"},
    "suite": {"api", "host", "pins"},
    "plan": {"api", "host", "pins", "suite"},
    "measure": {"api"},
    "results": {"api"},
    "analysis": {"api", "results"},
    "report": {"api", "results", "analysis"},
    "execution": {"api", "host", "pins", "suite", "plan", "measure", "results", "analysis"},
    "tracking": {"api", "host", "measure", "pins", "plan", "suite", "results", "analysis", "report"},
    "testing": {"api", "hookspecs", "host", "plan", "execution", "measure", "workloads"},
}
TORCH_ROOMS = {"workloads", "measure", "execution", "testing"}
HEAVY = {"torch", "numpy", "scipy", "transformers", "peft", "sklearn", "rich", "hypothesis", "pytest"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


SOURCES = sorted((ROOT / "harness").rglob("*.py"))


def test_the_rule_covers_every_room() -> None:
    assert {room_of(path) for path in SOURCES} == {*ALLOWED, "cli", "__init__", "__main__"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_run_one_way(room: str) -> None:
    for path in SOURCES:
        if room_of(path) != room:
            continue
        reached = {name.split(".")[1] for name in imports(path) if name.startswith("harness.") and name.count(".")}
        rooms = {
            name for name in reached if (ROOT / "harness" / name).is_dir() or (ROOT / f"harness/{name}.py").is_file()
        }
        assert rooms <= ALLOWED[room] | {room}, f"{path.relative_to(ROOT)} imports {rooms - ALLOWED[room] - {room}}"


def test_only_the_worker_side_imports_torch() -> None:
    for path in SOURCES:
        if room_of(path) not in TORCH_ROOMS:
            assert not {name for name in imports(path) if name.split(".")[0] == "torch"}, path


def test_the_host_names_no_technique() -> None:
    from harness.host import load_host

    names = {full for full in load_host().techniques if not full.startswith("core/")}
    assert names
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not [full for full in names if f'"{full}"' in text], path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "techniques"],
        ["list", "suites"],
        ["plugins"],
        ["runs"],
        ["run", "--help"],
        ["compare", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_computes_nothing_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from harness.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    exit_code, modules = json.loads(done.stdout.splitlines()[-1])
    assert exit_code == 0
    assert not HEAVY & set(modules)
