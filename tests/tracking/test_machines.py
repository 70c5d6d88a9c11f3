"""A run that is exported has the machine that asv knows, whoever was first, and an unlike machine has none of it."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
from asv.machine import Machine

from harness.measure.environment import environment
from harness.results.store import StoredRun
from harness.tracking.asv import ensure_machine, make_site
from harness.tracking.machines import machine_of, recorded_here
from harness.tracking.results import write_asv
from tests.conftest import ROOT
from tests.execution.repositories import Folder
from tests.results.builders import METRICS, scored
from tests.tracking.test_results import run_of

FACTS = {"cpu": {"model": "A Chip @ 2 GHz"}, "cores": 2, "machine": "x86_64", "memory": 2**34,
         "platform": "Linux-6.1.0-13-amd64-x86_64-with-glibc2.36"}  # fmt: skip
OWN = {"arch": "x86_64", "cpu": "A Chip @ 2 GHz", "machine": "A_Chip_2_GHz", "num_cpu": "2",
       "os": "Linux 6.1.0-13-amd64", "ram": str(2**34)}  # fmt: skip
GPU = {"gpu": [{"name": "NVIDIA H200"}], "selection": {"device": "cuda"}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which asv has no record of this machine."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def made(facts: dict[str, Any] | None = None, commit: str = "1" * 40, **changes: Any) -> StoredRun:
    run = run_of(scored("toys/a", [90.0, 91.0]), commit=commit, selection=changes.pop("selection", {}))
    run.info.environment.update({**(FACTS if facts is None else facts), **changes})  # type: ignore[attr-defined]
    return run


def record(home: Path, **changes: str) -> dict[str, str]:
    """Let asv know this host, as `asv machine --yes` does."""
    facts = {**OWN, "machine": platform.node(), "os": "Linux 6.1.0", **changes}
    (home / ".asv-machine.json").write_text(json.dumps({platform.node(): facts, "version": 1}))
    return facts


def describe(results: Path, **changes: str) -> dict[str, str]:
    """Describe a machine in a results directory, as asv run does."""
    facts = {**OWN, "machine": "tracker", "os": "Linux 5.0", **changes}
    (results / facts["machine"]).mkdir(parents=True)
    (results / facts["machine"] / "machine.json").write_text(json.dumps({**facts, "version": 1}))
    return facts


def test_a_machine_that_nobody_knows_is_named_by_its_processor(tmp_path: Path) -> None:
    assert machine_of(made().info, tmp_path) == OWN


def test_what_asv_recorded_of_this_machine_comes_first(home: Path, tmp_path: Path) -> None:
    known = record(home)
    describe(tmp_path)
    assert machine_of(made().info, tmp_path) == known
    assert machine_of(made(cores=4).info, tmp_path)["machine"] == "A_Chip_2_GHz"


def test_a_run_joins_the_machine_of_a_results_directory(tmp_path: Path) -> None:
    known = describe(tmp_path)
    describe(tmp_path, machine="other", cpu="B Chip")
    describe(tmp_path, machine="A_Chip_2_GHz", os="Linux-6.1.0-13-amd64-x86_64-with-glibc2.36")  # an older export's
    assert machine_of(made().info, tmp_path) == known


def test_of_two_like_machines_the_one_with_as_much_memory_counts_and_else_none(tmp_path: Path) -> None:
    describe(tmp_path, machine="small", ram="1")
    describe(tmp_path, machine="large")
    assert machine_of(made().info, tmp_path)["machine"] == "large"
    assert machine_of(made(memory=5).info, tmp_path)["machine"] == "A_Chip_2_GHz"


def test_a_gpu_is_a_machine_of_its_own_and_its_host_does_not_join_it(home: Path, tmp_path: Path) -> None:
    record(home)
    run = made(**GPU)
    assert machine_of(run.info, tmp_path) == {**OWN, "machine": "NVIDIA_H200", "gpu": "NVIDIA H200"}
    (home / ".asv-machine.json").unlink()
    (file,) = write_asv([run], METRICS, {}, tmp_path, {})
    assert "gpu" not in json.loads(file.read_text())["params"]
    assert machine_of(made().info, tmp_path) == OWN
    old = describe(tmp_path, machine="NVIDIA_H100")
    (tmp_path / old["machine"] / "12345678-harness.json").write_text('{"params": {"device": "cuda"}}')
    assert machine_of(made().info, tmp_path) == OWN


def test_a_processor_of_which_asv_does_not_know_the_model_is_the_same(home: Path, tmp_path: Path) -> None:
    known = record(home, cpu="")
    assert machine_of(made().info, tmp_path) == known


# ------------------------------------------------------------------------------------------- with asv itself


def measured(results: Path, exported: Path, commit: str) -> None:
    """Write what a file of results has, of another commit, as asv run does on the machine that asv has recorded."""
    here = Machine.load(use_defaults=True)
    here.save(str(results))
    content = json.loads(exported.read_text())
    params = {**here.__dict__, "python": "3.11"}
    file = results / here.machine / f"{commit[:8]}-uv-py3.11.json"
    file.write_text(json.dumps({**content, "commit_hash": commit, "env_name": "uv-py3.11", "params": params}))


def machines_of(project: Path, site: Path) -> tuple[list[str], int]:
    """The machines of a site that asv makes, and the number of kinds of lines: one of each set of parameters."""
    make_site(project, site)
    index = json.loads((site / "index.json").read_text())
    return [*index["machines"]], len(index["graph_param_list"])


@pytest.mark.parametrize("first", ["asv", "export"])
def test_a_site_has_one_machine_of_what_was_measured_and_exported_on_one(first: str, tmp_path: Path) -> None:
    folder = Folder(path=tmp_path / "project")
    folder.path.mkdir()
    (folder.path / "asv.conf.json").write_bytes((ROOT / "asv.conf.json").read_bytes())
    folder.write(".gitignore", ".asv/\n")
    commits = []
    for number in range(2):
        folder.write("number", str(number))
        commits.append(folder.commit(f"commit {number}"))
    results = folder.path / ".asv/results"
    if first == "asv":
        ensure_machine(folder.path)
    (exported,) = write_asv([made(environment(), commits[0], python="3.11.4")], METRICS, {}, results, {})
    ensure_machine(folder.path)
    measured(results, exported, commits[1])
    known = recorded_here()
    assert known is not None
    assert (known["machine"] == platform.node()) == (first == "asv")
    assert machines_of(folder.path, tmp_path / "site") == ([known["machine"]], 1)
    ensure_machine(folder.path)
    assert recorded_here() == known


@pytest.mark.parametrize("cores", [1, 3])
def test_a_machine_of_which_a_process_may_use_some_processors_is_recorded_with_these(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracking.machines.environment", lambda: {"cores": cores})
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    ensure_machine(tmp_path)
    assert recorded_here() == {**Machine.get_defaults(), "num_cpu": str(cores)}
    assert Machine.load().machine == platform.node(), "asv finds it"
