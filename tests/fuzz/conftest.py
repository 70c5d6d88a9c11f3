"""A world for the commands, in which no case computes and no other process is asked."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import host as host_module
from harness.execution import session, surroundings
from harness.host import Host
from tests.conftest import ROOT
from tests.fuzz.world import World

PLUGINS = ("harness_toy", "harness_recorded")


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """The host with the toys and the executor that computes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "toy"))
        patch.syspath_prepend(str(Path(__file__).parent))
        yield host_module.load_host(PLUGINS, entry_points=False)


@pytest.fixture(scope="module")
def world(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A folder to call commands in. Plugins and machine are looked at once; no value is asked about in torch."""
    folder = tmp_path_factory.mktemp("world").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("HARNESS_STORE", raising=False)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        patch.setattr(host_module, "load_host", lambda *_, **__: host)
        patch.setattr(surroundings, "surroundings", functools.cache(surroundings.surroundings))
        patch.setattr(session, "check_values", lambda cases: list(cases))
        yield World(folder)


@pytest.fixture(scope="module")
def run_files(world: World) -> dict[str, str | list[dict]]:
    """The header of a finished run and its rows, as JSON."""
    world.clear()
    assert world.call("run", "--suite", "toys", "--executor", "recorded", "--quiet").code == 0
    (folder,) = (world.store / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    header = json.loads((folder / "run.json").read_text())
    for state in header["environment"]["code"].values():
        state.update(commit="0123456789" * 4, dirty=False)  # so that the run can be exported for asv
    header["environment"]["suite"] = {**next(iter(header["environment"]["code"].values()))}
    return {"name": folder.name, "run.json": header, "rows.jsonl": rows}
