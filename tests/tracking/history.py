"""A git history of this project in small: eight commits, each of which plants what a tracker has to show.

The working tree's ``harness/`` is in every commit, so that a commit can be installed and run on its own; the plugins
and the suite are toys, timed by a clock that only their own steps advance: the times of a busy machine are too blurred
to tell anything, and then there would be nothing to find.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import ROOT
from tests.execution.repositories import Folder

COPIED = ("pyproject.toml", "README.md", "LICENSE", "suites/__init__.py", "suites/benchmarks.py")

RELEASE = "v0.1.0"
"""The tag of the first commit."""

CREEP = 1.02
"""By so much the training step of ``toy/creep`` grows with every commit."""

JITTER = 0.003
"""The standard deviation of a step's time, relative to it."""

BROKEN = "sink the ship"
"""The commit that cannot be run: its harness does not start."""

RENAMED = "casualty"
"""What ``toy/victim`` is called after its rename."""

LATE_FROM = "add a plugin"
"""The commit from which on the plugin ``late`` exists."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the toys do at a commit. The defaults are what the first one does."""

    accuracy: float = 90.0
    """Of ``toy/victim``, in percent."""

    mebibytes: int = 16
    """Of tensors alive in a training step of ``toy/victim``."""

    train_ms: float = 30.0
    """A training step of ``toy/victim``."""

    creep_ms: float = 30.0
    """A training step of ``toy/creep``."""

    late: bool = False
    """Whether the plugin ``late``, of one technique ``late/late``, exists."""

    starts: bool = True
    """Whether the harness starts."""

    victim: str = "victim"
    """What ``toy/victim`` is called; another name is told to the history."""

    accepts: str = ""
    """The message of the commit whose peaks of memory are accepted."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A commit: its message, the state it leaves, and the hash it has once it is made."""

    message: str
    state: State
    commit: str = ""


def steps() -> list[Step]:
    """The eight commits, oldest first: what each plants, beside the creep of every one.

    1. the release ``v0.1.0``
    2. nothing but the creep
    3. the training step of ``toy/victim`` takes 30 % longer
    4. the accuracy of ``toy/victim`` drops from 90 to 80 %
    5. the plugin ``late`` appears
    6. the tensors of ``toy/victim`` grow from 16 to 24 MiB
    7. broken: the harness does not start
    8. it starts again, and nothing else
    """
    first = State()
    slower = replace(first, train_ms=39.0)
    worse = replace(slower, accuracy=80.0)
    late = replace(worse, late=True)
    larger = replace(late, mebibytes=24)
    planted = [
        ("release", first),
        ("tidy up", first),
        ("slow down", slower),
        ("drop the accuracy", worse),
        (LATE_FROM, late),
        ("raise the memory", larger),
        (BROKEN, replace(larger, starts=False)),
        ("refloat the ship", larger),
    ]
    return [
        Step(message=message, state=replace(state, creep_ms=first.creep_ms * CREEP**number))
        for number, (message, state) in enumerate(planted)
    ]


def decided_steps() -> list[Step]:
    """The six commits of a history with decisions, oldest first: a rename, and a regression that is accepted.

    1. the release ``v0.1.0``
    2. nothing
    3. ``toy/victim`` becomes ``toy/casualty``
    4. its tensors grow from 16 to 24 MiB
    5. that is accepted
    6. its accuracy drops from 90 to 80 %
    """
    first = State()
    other = replace(first, victim=RENAMED)
    larger = replace(other, mebibytes=24)
    accepted = replace(larger, accepts="raise the memory")
    planted = [
        ("release", first),
        ("tidy up", first),
        ("rename the victim", other),
        ("raise the memory", larger),
        ("accept the memory", accepted),
        ("drop the accuracy", replace(accepted, accuracy=80.0)),
    ]
    return [Step(message=message, state=state) for message, state in planted]


@dataclass(frozen=True, kw_only=True)
class History:
    """The repository, and its commits oldest first, with their hashes."""

    folder: Folder
    steps: list[Step]

    def commit(self, message: str) -> str:
        """The hash of the commit of that message."""
        return next(step.commit for step in self.steps if step.message == message)


def make_history(path: Path, chosen: list[Step] | None = None) -> History:
    """Make the repository in ``path``, which is to be new or empty, and check out its last commit (branch main).

    ``chosen`` are the steps to make, all of `steps` by default.
    """
    folder = Folder(path=path)
    _copy_project(path)
    made = []
    for number, step in enumerate(chosen or steps()):
        _write(folder, step.state)
        _decide(folder, step.state, {one.message: one.commit for one in made})
        if folder.path.joinpath(".git").exists():  # a step may change nothing
            folder.write("steps", f"{number}\n")
        made.append(replace(step, commit=folder.commit(step.message)))
        if number == 0:
            folder.git("tag", RELEASE)
    return History(folder=folder, steps=made)


def _copy_project(path: Path) -> None:
    for folder in ("harness", "examples"):  # which a wheel holds
        shutil.copytree(ROOT / folder, path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, path / name)
    _write_asv(path)
    Folder(path=path).write(".gitignore", ".asv/\n.harness/\n__pycache__/\n")


def _write_asv(path: Path) -> None:
    """The project's configuration, with an environment that borrows the packages of the one the tests run in."""
    from asv.util import load_json

    configuration = load_json(ROOT / "asv.conf.json", js_comments=True)
    changes = {
        "environment_type": "linked",
        "plugins": [".linked"],
        "install_command": configuration["install_command"][1:],
    }
    shutil.copy2(Path(__file__).with_name("linked.py"), path / "linked.py")
    (path / "asv.conf.json").write_text(json.dumps({**configuration, **changes}, indent=4))


def _write(folder: Folder, state: State) -> None:
    broken = "" if state.starts else "raise RuntimeError('the ship is sunk')\n"
    (folder.path / "harness/hookspecs.py").write_text((ROOT / "harness/hookspecs.py").read_text() + broken)
    plain = {"train_ms": State.train_ms}
    victim = {"accuracy": state.accuracy, "mebibytes": state.mebibytes, "train_ms": state.train_ms}
    techniques = {"base": plain, state.victim: victim, "creep": {"train_ms": state.creep_ms}}
    targets = TARGETS.replace("<jitter>", str(JITTER))
    folder.plugin(
        "toy",
        {"__init__.py": declaring(techniques, judge=True), "targets.py": targets, "toy.toml": SUITE},
        "plugins/toy/",
    )
    if state.late:
        folder.plugin("late", {"__init__.py": declaring({"late": plain})}, "plugins/late/")


def _decide(folder: Folder, state: State, commits: dict[str, str]) -> None:
    """Write the decisions on the history that a state has."""
    lines = []
    if state.victim != State.victim:
        lines += ["[[renamed]]", f'technique = "toy/{state.victim}"', f'was = "toy/{State.victim}"']
    if state.accepts:
        lines += ["[[accepted]]", 'metric = "*_peak"', f'commit = "{commits[state.accepts]}"', 'reason = "a cache"']
        lines += ['author = "toy"', f'technique = "toy/{state.victim}"']
    if lines:
        folder.write("harness-history.toml", "\n".join([*lines, ""]))


def declaring(techniques: dict[str, dict], *, judge: bool = False) -> str:
    """The declaring module of a toy plugin: its techniques with their parameters, and the toys' workload."""
    return DECLARING.format(techniques=json.dumps(techniques)) + (JUDGE if judge else "")


SUITE = """
    title = "Toys"
    version = 1
    contract = "toy"
    baseline = "toy/base"
    workloads = ["toy/bench"]
    techniques = ["*"]
    seeds = 3
    metrics = ["accuracy"]
    tuning_seeds = 1
    rounds = 5

    [tuning]
    lr = [0.1, 0.2]

    [margins]
    accuracy = 1.0

    [track]
    seeds = 3
    rounds = 5
    """

DECLARING = """
from pathlib import Path

from harness.api import Contract, Technique, WorkloadSpec, hookimpl

HARNESS_API = 1
__version__ = "1"


@hookimpl
def register_techniques():
    return [
        Technique(id=name, contract="toy", target="harness_toy.targets:Toy", summary="a toy", params=params)
        for name, params in {techniques}.items()
    ]
"""

JUDGE = """

@hookimpl
def register_suites():
    return [Path(__file__).with_name("toy.toml")]


@hookimpl
def register_contracts():
    return [
        Contract(
            id="toy",
            protocol="harness_toy.targets:ToyTechnique",
            summary="a toy",
            phases={"train": "a toy's step", "infer": "a toy's batch"},
        )
    ]


@hookimpl
def register_workloads():
    return [
        WorkloadSpec(
            id="bench",
            contract="toy",
            target="harness_toy.targets:Bench",
            summary="a bench for toys",
            version=1,
            metrics=("accuracy", "val_accuracy", "trainable_parameters"),
            phases=("train", "infer"),
            settings={"lr": 0.1},
        )
    ]
"""

TARGETS = """
import random
import sys
from typing import Protocol

import torch

import harness.measure.clock
from harness.api import Outcome, Phase, OpenCase


class Clock:
    JITTER = random.Random()

    def __init__(self):
        self.ns = 0

    def advance(self, ms):
        self.ns += int(1e6 * ms * self.JITTER.gauss(1, <jitter>))

    def perf_counter_ns(self):
        return self.ns

    process_time_ns = perf_counter_ns

    def perf_counter(self):
        return self.ns / 1e9


CLOCK = Clock()
for name in ("harness.measure.clock", "callers_clock"):
    if name in sys.modules:
        for function in ("perf_counter", "perf_counter_ns", "process_time_ns"):
            setattr(sys.modules[name], function, getattr(CLOCK, function))
        sys.modules[name]._interruptions = lambda: 0


class ToyTechnique(Protocol):
    accuracy: float
    mebibytes: int
    train_ms: float


class Toy:
    def __init__(self, accuracy=90.0, mebibytes=16, train_ms=30.0):
        self.accuracy = accuracy
        self.mebibytes = mebibytes
        self.train_ms = train_ms


class Bench:
    def prepare(self, context):
        pass

    def evaluate(self, technique, context):
        accuracy = technique.accuracy + random.Random(f"{context.seed} {technique.accuracy}").gauss(0, 0.5)
        metrics = {"accuracy": accuracy, "val_accuracy": accuracy - 1, "trainable_parameters": 100}
        return Outcome(metrics=metrics)

    def open(self, technique, context):
        def train():
            weight = torch.ones(technique.mebibytes, 2**18)
            CLOCK.advance(technique.train_ms)
            return weight

        def infer():
            weight = torch.ones(2, 2**18)
            CLOCK.advance(15)
            return weight

        return OpenCase(phases={"train": Phase(run=train, samples=32), "infer": Phase(run=infer, samples=32)})

    def check(self, technique, context):
        pass
"""
