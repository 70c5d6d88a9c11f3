"""Runs on clusters of real processes: the rows of a run on one machine, also where machines and drivers die."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
from pathlib import Path

import pytest

import harness
from harness.api import UsageError
from harness.execution.executors.cluster import Cluster, ClusterLost
from harness.results.store import Store
from tests.clusters import ENGINES, ClusterOfTest, cluster_of, until
from tests.conftest import ROOT
from tests.kills import Place, Reference, by_key, check_equal, reference_of


def inline_rows(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: float) -> Reference:
    """The rows of quality that this process computes, which no machine and no driver disturbs."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "toy"))
    harness.run(
        "toys", executor="inline", plugins=["harness_toy"], form="quick", lanes=["accuracy"], params=settings,
        store=folder / "store", cache=folder / "cache",
    )  # fmt: skip
    (stored,) = (folder / "store").glob("runs/*/rows.jsonl")
    return Reference(rows=by_key([json.loads(line) for line in stored.read_text().splitlines()]), seconds=0.0)


def test_a_number_of_jobs_is_told_to_be_for_one_machine(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "toy"))
    with pytest.raises(UsageError, match="no Ray cluster answers there"):
        harness.run(
            "toys", executor="ray", address="127.0.0.1:9", jobs=3, plugins=["harness_toy", "harness_ray"], form="quick",
            store=tmp_path,
        )  # fmt: skip
    assert capsys.readouterr().err == (
        "harness: --jobs 3 is for one machine: on a cluster each runs as many cases as it has slots\n"
    )


def test_a_dask_client_that_gave_up_a_dead_scheduler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_dask import cluster as dask_cluster

    with cluster_of("dask", tmp_path / "cluster", workers=0) as cluster:
        until(lambda: _listens(cluster.port))
        monkeypatch.setattr(dask_cluster, "CONNECT_S", 3.0)
        connected = cluster.connected()
        assert connected.machines() == {}
        cluster.head.kill()
        until(lambda: _lost(connected))
        with pytest.raises(ClusterLost, match=r"^no scheduler has answered for 3 s$"):
            connected.machines()
        connected.start(0, "tcp://127.0.0.1:9", "an order")
        with pytest.raises(OSError, match="does not answer"):
            connected.ask("tcp://127.0.0.1:9", bool, 1)
        connected.forget(0)
        connected.close("a run")


def _listens(port: str) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", int(port))).close()
        return True
    return False


def _lost(connected: Cluster) -> bool:
    """Return whether a cluster says that it is lost; any other error fails the test."""
    try:
        connected.machines()
    except ClusterLost:
        return True
    return False


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_loses_a_machine_and_its_driver_equals_the_undisturbed_run(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster_of(engine, tmp_path / "cluster", workers=2) as cluster:
        reference = inline_rows(tmp_path, monkeypatch, sleep_s=0.1)
        place = Place(tmp_path / "place", *cluster.options)
        driver = place.start("--lane", "accuracy", "--param", "sleep_s=0.1")
        until(lambda: len(place.rows()) >= 2)
        cluster.kill(cluster.workers[0])
        until(lambda: len(place.rows()) >= 5)
        driver.kill()
        driver.wait()
        stored = place.rows()
        assert 5 <= len(stored) < len(reference.rows)
        place.finish()
        assert place.rows()[: len(stored)] == stored
        check_equal(reference, place)
        assert all(row.environment["hostname"] for row in Store(place.folder / ".harness").read("last").rows)
        assert "Traceback" not in place.output()
    until(lambda: not cluster.computing())


def disturb(place: Place, cluster: ClusterOfTest, draw: random.Random, seconds: float) -> list[str]:
    """Let a run lose a machine, then its driver, at moments drawn at random; return what was done when.

    Three of four runs are left alone until they have a row: connecting takes as long as all cases.
    """
    log = []
    driver = place.start()
    if draw.random() < 0.75:
        until(lambda: place.rows() or driver.poll() is not None)
    for victim in ("machine", "driver"):
        after = draw.uniform(0.0, 0.5) * seconds
        log.append(f"{place.folder.name}: {victim} after {after:.2f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(after)
        if victim == "machine":
            cluster.kill(draw.choice(cluster.workers))
            cluster.join()
        else:
            driver.kill()
            driver.wait()
    return log


@pytest.mark.exhaustive
@pytest.mark.parametrize("engine", ENGINES)
def test_runs_that_lose_machines_and_drivers_twenty_times_equal_the_undisturbed_run(
    engine: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("HARNESS_SEED") or random.randrange(1 << 32))
    draw, log = random.Random(seed), [f"{engine}, seed {seed}"]
    reference = reference_of(tmp_path / "undisturbed")
    with cluster_of(engine, tmp_path / "cluster", workers=2) as cluster:
        for number in range(20):
            place = Place(tmp_path / f"place-{number}", *cluster.options)
            log += disturb(place, cluster, draw, reference.seconds)
            before = place.rows()
            place.finish()
            assert place.rows()[: len(before)] == before, log
            check_equal(reference, place)
            assert "Traceback" not in place.output(), "\n".join([*log, place.output()])
            log[-1] += f"; {len(before)} of {len(reference.rows)} rows were there"
    print("\n".join(log))  # noqa: T201  what a person sees of it
