"""The house: who may import whom, and what a command may cost before it does anything."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from harness.api import LANES, Form
from harness.builtin import register_metrics
from harness.host import load_host
from harness.judge.metrics import METRICS
from tests.conftest import ROOT

# A room may import itself and the rooms named here. cli and the package itself may import all.
ALLOWED = {
    "api": set(),
    "streams": set(),
    "collecting": set(),
    "digest": set(),
    "foreign": {"api"},
    "hookspecs": {"api"},
    "observers": {"api", "discovery", "foreign", "host"},
    "measure": {"api"},
    "judge": {"api", "measure"},
    "families": {"api", "judge", "measure"},
    "builtin": {"api", "judge"},
    "declared": {"api"},
    "discovery": {"api", "foreign"},
    "checked": {"api"},
    "implemented": {"api", "checked", "hookspecs"},
    "host": {"api", "checked", "declared", "discovery", "foreign", "hookspecs", "implemented", "streams"},
    "entrants": {"api", "host"},
    "bounded": {"api", "entrants"},
    "until": {"api"},
    "grid": {"api"},
    "requirements": set(),
    "targets": {"api", "foreign"},
    "suite_comparison": {"api"},
    "suite_rules": {"api", "suite_comparison", "until"},
    "origins": {"api", "measure", "results"},
    "source": {"api", "host", "judge", "origins", "suite_rules"},
    "suite_claims": {"api", "suite_rules"},
    "suite_files": {"api", "host"},
    "suite": {
        "api",
        "host",
        "entrants",
        "origins",
        "source",
        "suite_claims",
        "suite_comparison",
        "suite_files",
        "suite_rules",
    },
    "selection": {"api", "host", "entrants", "until"},
    "plan": {
        "api",
        "bounded",
        "digest",
        "entrants",
        "grid",
        "host",
        "measure",
        "requirements",
        "selection",
        "source",
        "targets",
        "until",
    },
    "results": {"api", "collecting", "digest", "measure"},
    "analysis": {"api", "results", "until"},
    "history": {"api", "results", "analysis", "measure"},
    "report": {"api", "results", "analysis", "history"},
    "execution": {
        "api",
        "declared",
        "discovery",
        "foreign",
        "host",
        "entrants",
        "grid",
        "suite",
        "plan",
        "selection",
        "measure",
        "results",
        "analysis",
        "streams",
        "until",
    },
    "revisions": {
        "api",
        "host",
        "entrants",
        "requirements",
        "suite",
        "plan",
        "measure",
        "results",
        "analysis",
        "execution",
    },
    "tracking": {
        "api",
        "host",
        "measure",
        "entrants",
        "plan",
        "selection",
        "suite",
        "suite_files",
        "results",
        "analysis",
        "report",
        "history",
        "streams",
    },
    "starting": {"api", "host"},
    "testing": {
        "api",
        "declared",
        "discovery",
        "foreign",
        "hookspecs",
        "host",
        "plan",
        "requirements",
        "suite",
        "suite_files",
        "execution",
        "measure",
        "judge",
        "targets",
    },
}
TORCH_ROOMS = {"families", "judge", "measure", "execution", "revisions", "testing"}
FREE_OF_TORCH = (
    "families/__init__.py",
    "families/*/__init__.py",
    "families/*/settings.py",
    "judge/settings.py",
    "judge/rows.py",
    "judge/tables.py",
)
ROOMS_OF_A_FAMILY = {"__init__", "settings", "contract", "checks", "workloads"}
WITHOUT_SETTINGS = {"quantize_activations"}  # its workloads have none
MOST_LINES = 400
HEAVY = {"torch", "numpy", "scipy", "transformers", "peft", "sklearn", "rich", "hypothesis", "pytest"}
OWN_WORDS = {*LANES, *get_args(Form), "none", "head"}
"""Words of the host that a metric or a technique happens to be called, too: lanes, forms, no correction, a commit."""

QUOTED = re.compile(r"""['"`]([a-z0-9_/.+-]+)['"`]""")
WORD = re.compile(r"[a-z0-9_/.+-]*[a-z0-9]")
HARNESS = ROOT / "harness"


def room_of(path: Path) -> str:
    return path.relative_to(HARNESS).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path} imports relatively, which hides from this test where it leads"
            found = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= found
            if not found <= MODULES.keys():  # something of the module itself, not modules of a package alone
                names.add(node.module)
    return names


SOURCES = sorted(HARNESS.rglob("*.py"))
MODULES = {module_of(path): path for path in SOURCES}
FAMILIES = sorted(path.name for path in (HARNESS / "families").iterdir() if (path / "__init__.py").is_file())


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the project that a file imports, under `TYPE_CHECKING` and inside functions too."""
    return {name for name in imports(path) if name in MODULES and name != module_of(path)}


def upward_imports() -> list[str]:
    found = []
    for path in SOURCES:
        room = room_of(path)
        if room in ALLOWED:
            rooms = {room_of(MODULES[name]) for name in imported_modules(path)} - {"__init__"}
            found += [f"{path.relative_to(ROOT)} imports {other}" for other in rooms - ALLOWED[room] - {room}]
    return found


def imports_between_families() -> list[str]:
    found = []
    for path in SOURCES:
        parts = path.relative_to(HARNESS).parts
        if parts[0] == "families" and len(parts) > 2:
            reached = {name.split(".")[2] for name in imported_modules(path) if name.startswith("harness.families.")}
            found += [f"{path.relative_to(ROOT)} imports {other}" for other in reached - {parts[1]}]
    return found


def circles() -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan 1972)."""
    graph = {name: imported_modules(path) for name, path in MODULES.items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return found


def long_modules() -> list[str]:
    files = [*SOURCES, *sorted((ROOT / "plugins").glob("*/harness_*/**/*.py"))]
    counted = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    return [f"{path.relative_to(ROOT)}: {count} lines" for path, count in counted.items() if count > MOST_LINES]


def test_the_house_is_in_order(record_property: Callable[[str, object], None]) -> None:
    found = {
        "imports between families": imports_between_families(),
        "circles": circles(),
        "imports upwards": upward_imports(),
        f"modules over {MOST_LINES} lines": long_modules(),
    }
    for what, cases in found.items():
        print(f"{len(cases)} {what}")  # noqa: T201  this is what the test is for
        record_property(what, len(cases))
    assert not any(found.values()), found


def test_the_rule_covers_every_room() -> None:
    assert {room_of(path) for path in SOURCES} == {*ALLOWED, "cli", "__init__", "__main__"}


def test_a_circle_and_an_import_of_a_neighbour_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = MODULES["harness.families.decode.checks"], MODULES["harness.families.route.checks"]
    planted = {one: {"harness.families.route.checks"}, other: {"harness.families.decode.checks"}}
    monkeypatch.setattr(sys.modules[__name__], "imports", lambda path: planted.get(path, set()))
    assert len(imports_between_families()) == 2
    assert circles() == [["harness.families.decode.checks", "harness.families.route.checks"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_rooms_of_every_family(family: str) -> None:
    folder = HARNESS / "families" / family
    rooms = {path.stem for path in folder.iterdir()}
    assert ROOMS_OF_A_FAMILY - ({"settings"} if family in WITHOUT_SETTINGS else set()) <= rooms
    assert (ROOT / "suites" / family).is_dir()
    assert (ROOT / "tests" / "families" / family).is_dir()


def test_only_the_worker_side_imports_torch() -> None:
    free = {path for pattern in FREE_OF_TORCH for path in HARNESS.glob(pattern)}
    for path in SOURCES:
        if room_of(path) not in TORCH_ROOMS or path in free:
            assert not {name for name in imports(path) if name.split(".")[0] == "torch"}, path


def test_one_module_alone_calls_git() -> None:
    callers = [path for path in SOURCES if re.search(r"""\[\s*"git",""", path.read_text(encoding="utf-8"))]
    assert [path.relative_to(HARNESS).as_posix() for path in callers] == ["measure/git.py"]


def names_of_plugins() -> dict[str, str]:
    """Return what the host must not name, with its kind: all that families, the judge and the plugins declare."""
    host = load_host()
    own_metrics = {metric.id for metric in register_metrics()} - {metric.id for metric in METRICS}
    names = {**dict.fromkeys(host.metrics.keys() - own_metrics, "metric"), **dict.fromkeys(FAMILIES, "family")}
    for name, contract in host.contracts.items():
        names |= {**dict.fromkeys(contract.spec.phases, "phase"), **dict.fromkeys((name, contract.plugin), "contract")}
    for full in host.techniques:
        names |= {full: "technique", full.rpartition("/")[2]: "technique"}
    return {name: kind for name, kind in names.items() if name not in OWN_WORDS}


def literals(source: str) -> Iterator[ast.Constant]:
    """Return the strings of a module that it computes with: all but docstrings and those below an attribute."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node


def named_in(source: str, names: dict[str, str]) -> list[str]:
    """Return the names that a module's strings are, quote, or hold where a name is no plain word of English."""
    found = []
    for node in literals(source):
        words = {node.value, *QUOTED.findall(node.value)}
        words |= {word for word in WORD.findall(node.value) if "_" in word or "/" in word}
        found += [f"line {node.lineno}: {names[word]} {word}" for word in sorted(words & names.keys())]
    return found


def test_the_host_names_nothing_of_a_family_or_a_technique() -> None:
    names = names_of_plugins()
    assert {"contract", "family", "metric", "phase", "technique"} == {*names.values()}
    found = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if room_of(path) not in {"families", "judge"} and (lines := named_in(path.read_text(encoding="utf-8"), names))
    }
    assert not found


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ('COSTS = ("adapter_parameters",)', "metric"),
        ('peak = metrics["train_tensor_peak"]', "metric"),
        ("raise ValueError(f\"{name}: expected a name like 'loss'\")", "metric"),
        ('print(f"{count} of trainable_parameters")', "metric"),
        ('def told(phase="infer"): ...', "phase"),
        ('words = {"linear64": "a product"}', "phase"),
        ('if contract == "finetune": ...', "contract"),
        ('folder = "quantize_activations"', "family"),
        ('baseline = "lora/full"', "technique"),
        ('HELP = "for example lora/pissa on digits"', "technique"),
        ('match name:\n    case "pissa": ...', "technique"),
    ],
)
def test_a_name_of_a_plugin_in_the_host_would_be_found(planted: str, kind: str) -> None:
    (found,) = named_in(f'"""A module."""\n{planted}\n', names_of_plugins())
    assert f" {kind} " in found


def test_a_docstring_may_use_a_name_as_an_example() -> None:
    source = '"""Like ``"infer"``."""\nX = 1\n"""As "lora/lora"."""\ndef f():\n    """Return "loss"."""\n'
    assert not named_in(source, names_of_plugins())


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
