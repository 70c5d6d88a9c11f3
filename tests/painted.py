"""The files of small plugins whose keys the tests of keys read."""

from __future__ import annotations

PAINT = """
from harness.api import Technique, hookimpl
HARNESS_API = 1

@hookimpl
def register_techniques():
    return [Technique(id="late", contract="canvas", target="harness_paint_late:Late", summary="a technique",
                      requires=["needed[fast]>=1; python_version > '3'", "absent; python_version < '3'"])]
"""

LATE = """
import json
from pathlib import Path
import harness_paint_helper
from harness_paint_kit.deep import value
LEVELS = json.loads(Path(__file__).with_name("levels.json").read_text())
EXTRA = [Path(__file__).parent / f"extra-{number}.bin" for number in range(2)]
TABLES = [path.read_text() for path in Path(__file__).with_name("paint_tables").iterdir()]
STORE = "store"
"""

CANVAS = """from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from harness.api import Contract, Technique, Metric, WorkloadSpec, hookimpl
from harness.judge.settings import defaults_of, setting
HARNESS_API = 1

@dataclass(frozen=True, kw_only=True)
class Settings:
    steps: int = setting(1, "steps", above=0)
    model: str = setting("", "a trained model", file=True)

@hookimpl
def register_contracts():
    return [Contract(id="canvas", protocol="harness_canvas:Settings", summary="tests", phases={"train": "a step"})]

@hookimpl
def register_techniques():
    return [Technique(id="base", contract="canvas", target="harness_canvas:Settings", summary="the baseline")]

@hookimpl
def register_workloads():
    return [WorkloadSpec(id="wide", contract="canvas", target="harness_canvas_judge:Wide", summary="a workload",
                         version=1, metrics=("canvas_score",), phases=("train",), settings=defaults_of(Settings),
                         requires=["measured"])]

@hookimpl
def register_metrics():
    return [Metric(id="canvas_score", unit="points", higher_is_better=True, summary="a score", lane="accuracy")]

@hookimpl
def register_suites():
    return [Path(__file__).with_name("canvas.toml")]
"""

SUITE = """
title = "Canvas"
version = 1
contract = "canvas"
baseline = "canvas/base"
workloads = ["wide"]
techniques = ["canvas/base", "paint/late"]
seeds = 1
metrics = ["canvas_score"]
select = "canvas_score"
"""

PAINT_FILES = {
    "harness_paint.py": PAINT,
    "harness_paint_late.py": LATE,
    "harness_paint_helper.py": "a = 1\n",
    "levels.json": "0",
    "extra-0.bin": "x",
    "paint_tables/red.csv": "x",
    "paint_tables/deep/blue.csv": "x",
    "harness_paint_kit/__init__.py": "",
    "harness_paint_kit/deep/__init__.py": "value = 1\n",
    "harness_paint_kit/table.npy": "x",
    "harness_paint_kit/native.so": "x",
    "harness_paint_kit/kernel.h": "x",
    "harness_paint_kit/kernel.cu": "x",
    "harness_paint_kit/settings.toml": "x = 1",
    "harness_paint_kit/weights.safetensors": "x",
    "harness_paint_kit/run.sh": "x",
    "harness_paint_kit/tests/inside.txt": "x",
}

PROJECT_FILES = {
    "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "paint"\ndescription = "a"\n',
    "build_kernel.py": 'FLAGS = ("-O3",)\n',
    "cmake/flags.cmake": "x",
    ".gitignore": "*.so\n__pycache__/\n",
    "README.md": "x",
    "tests/test_paint.py": "x",
    "docs/page.md": "x",
    "CHANGELOG.txt": "x",
}

CANVAS_FILES = {"harness_canvas.py": CANVAS, "harness_canvas_judge.py": "class Wide: ...\n", "canvas.toml": SUITE}
OTHER_FILES = {"harness_other.py": "HARNESS_API = 1\n", "harness_other_kit/__init__.py": "x = 1\n"}

BIAS = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "harness-bias"
version = "0.1.0"
[project.entry-points."harness.plugins"]
bias = "harness_bias"
[tool.hatch.build.targets.wheel]
include = ["harness_bias.py", "harness_bias_late.py"]
[tool.hatch.build.targets.wheel.hooks.custom]
path = "build_kernel.py"
""",
    "build_kernel.py": """
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
FLAGS = "-O3"

class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        path = Path(self.root, "built.bin")
        path.write_text(FLAGS)
        build_data["force_include"][str(path)] = "harness_bias_built.bin"
""",
    "harness_bias.py": """
from harness.api import Technique, hookimpl
HARNESS_API = 1

@hookimpl
def register_techniques():
    return [Technique(id="late", contract="finetune", target="harness_bias_late:Late", summary="biases")]
""",
    "harness_bias_late.py": "class Late: ...\n",
    "README.md": "x",
}

CODE_OF_A_CASE = """
from harness.execution.surroundings import surroundings
from harness.host import load_host
from harness.plan import Plan
from harness.selection import Selection
from harness.suite import read_suite
host = load_host()
plan = Plan(read_suite("peft", host), host, Selection(techniques=("bias/late",)), surroundings(host).identity)
found = next(contestant for contestant in plan.contestants if contestant.technique == "bias/late")
print(plan.case(found, {}, 0).code)
"""
