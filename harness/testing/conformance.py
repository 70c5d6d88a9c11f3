"""The tests that every plugin has to pass, as a class to inherit from in a plugin's own tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

import pytest

from harness.api import Incorrect, Reply, Technique, nearest
from harness.execution.isolation.global_state import CHANGED
from harness.host import Host
from harness.requirements import install_hint, missing_requirements
from harness.testing.declaring import Declares, cache_folder, fail, installed, one_thread
from harness.testing.isolated import ENDED, Isolated, isolated
from harness.testing.smoke import Bench, Ended, kept_settings, live_tensors, newer_objects

_BENCHES: Final = pytest.StashKey[dict[str, Bench]]()
"""The bench of each technique, kept for the session because finding the workload runs a check."""

_PROCESSES: Final = pytest.StashKey[dict[str, Isolated]]()
"""The processes by plugin and contract, kept for the session because they import torch."""


class PluginConformance(Declares):
    """The conformance tests of a plugin's techniques, to inherit from: one test for each technique and property.

    .. code-block:: python

        class TestConformance(harness.testing.PluginConformance):
            plugin = "my-lora"

    ``plugin`` is the name of the entry point, so the plugin has to be installed (``pip install -e .``). A technique
    is tried on the first workload of its contract that accepts it, in that workload's small form
    (`harness.api.WorkloadSpec.small`). Base models are kept in pytest's cache folder.

    Techniques are checked and evaluated in processes of their own, so that one that ends its process, or changes
    settings of torch, fails its own tests only. A case that takes more than ``limit_s`` seconds is ended.
    """

    limit_s: ClassVar[float] = 300.0

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize the tests with the techniques of the plugin."""
        if "technique" in metafunc.fixturenames:
            mine = [full for full, entry in installed().techniques.items() if entry.plugin == self.plugin]
            metafunc.parametrize("technique", mine, ids=[full.rpartition("/")[2] for full in mine])

    @pytest.fixture
    def spec(self, host: Host, technique: str) -> Technique:
        """Return the technique's declaration; skip the test where a requirement is not installed."""
        spec = host.techniques[technique].spec
        if missing := missing_requirements(spec.requires):
            pytest.skip(install_hint(missing))
        return spec

    @pytest.fixture
    def bench(
        self,
        host: Host,
        spec: Technique,
        technique: str,
        request: pytest.FixtureRequest,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Bench]:
        """Yield the technique on the first workload that accepts it; skip the test where it cannot run here."""
        benches = request.config.stash.setdefault(_BENCHES, {})
        with one_thread():
            if technique not in benches:
                folder = cache_folder(request.config, tmp_path_factory)
                processes = self._processes(host, spec.contract, request.config, folder)
                benches[technique] = self._first_that_accepts(host, spec, technique, folder, processes)
            reply = benches[technique].examined()
            if reply.status == "unavailable":
                pytest.skip(reply.reason)
            if reply.status in ENDED:
                fail(f"the check of {technique} ended as {reply.status}: {reply.reason}", reply.detail)
            yield benches[technique]

    def test_describes_itself(self, spec: Technique) -> None:
        """Check that params and space survive JSON, the summary is one line, and values of the space differ."""
        if not spec.summary.strip() or "\n" in spec.summary:
            fail(f"summary {spec.summary!r}: expected one line that says what the technique does")
        for what, value in (("params", spec.params), ("space", spec.space)):
            if json.loads(json.dumps(value)) != _plain(value):
                fail(f"{what} {value!r} change in a JSON round trip")
        for name, values in spec.space.items():
            if not values or len({json.dumps(value) for value in values}) < len(values):
                fail(f"space of {name!r} {list(values)!r}: expected values, each once")

    def test_can_be_built(self, spec: Technique, bench: Bench) -> None:
        """Check that the target takes the declared params and every value of the space."""
        trials = [{name: value} for name in spec.space if name in spec.params for value in spec.space[name]]
        for trial in ({}, *trials):
            try:
                bench.build(**trial)
            except Exception as error:
                raise AssertionError(f"{spec.target} does not take { ({**spec.params, **trial})!r}: {error}") from error

    def test_keeps_the_invariants_of_its_contract(self, bench: Bench) -> None:
        """Check the technique by `harness.api.Workload.check`, which precedes every measurement."""
        try:
            bench.check()
        except Incorrect as error:
            fail(f"{bench.technique} on {bench.workload_id} breaks the contract {bench.spec.contract!r}: {error}")
        except Ended as error:
            fail(f"the check of {bench.technique} on {bench.workload_id} {error.args[0]}", error.args[1])

    def test_emits_the_declared_metrics(self, bench: Bench) -> None:
        """Check that a short case on the CPU emits the workload's declared metrics, but for optional ones."""
        reply = bench.first()
        if reply.status != "ok":
            fail(f"{bench.technique} on {bench.workload_id} ended as {reply.status}: {reply.reason}", reply.detail)
        emitted, declared = set(reply.metrics), set(bench.workload.metrics)
        if not declared - {*bench.workload.optional} <= emitted <= declared:
            fail(
                f"{bench.workload_id} emits {sorted(emitted - declared)} without declaring them, "
                f"and declares {sorted(declared - emitted)} without emitting them"
            )

    def test_repeats_itself(self, bench: Bench) -> None:
        """Check that the same seed gives bitwise identical numbers."""
        first, second = _completed(bench.first()), _completed(bench.run())
        differing = [
            f"{name}: {first.metrics[name]!r}, then {second.metrics.get(name)!r}"
            for name in first.metrics
            if first.metrics[name] != second.metrics.get(name)
        ]
        differing += [
            f"{name}: another curve" for name in first.series if first.series[name] != second.series.get(name)
        ]
        if differing:
            fail(
                f"{bench.technique} gives other numbers for the same seed; draw only from the generator it is handed",
                *differing,
            )

    def test_frees_its_memory(self, bench: Bench) -> None:
        """Check that no tensor of a case is alive after the case."""
        _completed(bench.first())  # what ends its process must not do so here
        with newer_objects(), kept_settings():
            _completed(bench.run_here())  # creates what is kept for all cases, such as a table
            before = live_tensors()
            _completed(bench.run_here())
            left = sorted((live_tensors() - before).elements())
        if left:
            fail(
                f"{len(left)} tensors of {bench.technique} outlive its case; keep none in a module, a class or a cache",
                *left,
            )

    def test_leaves_the_process_as_it_is(self, bench: Bench) -> None:
        """Check that a case changes no setting of the process, such as torch's default dtype."""
        if changed := [note for note in bench.first().notes if note.startswith(CHANGED)]:
            fail(f"{bench.technique} changes what others share; set it back", *changed)

    def _processes(self, host: Host, contract: str, config: pytest.Config, folder: Path) -> Isolated:
        """Return the processes for the plugin's techniques of a contract, which end with the session."""
        kept = config.stash.setdefault(_PROCESSES, {})
        key = f"{self.plugin} {contract} {self.limit_s}"
        if key not in kept:
            kept[key] = isolated(host, self.plugin, contract, folder, self.limit_s)
            config.add_cleanup(kept[key].close)
        return kept[key]

    def _first_that_accepts(
        self, host: Host, spec: Technique, technique: str, folder: Path, processes: Isolated
    ) -> Bench:
        served = [entry for entry in host.workloads.values() if entry.spec.contract == spec.contract]
        workloads = [entry for entry in served if not entry.spec.task]  # others need a model of one's own
        if not workloads:
            known = sorted({entry.spec.contract for entry in host.workloads.values()})
            fail(f"contract {spec.contract!r} of {technique}: no workload has it{nearest(spec.contract, known)}")
        refusals = []
        for workload in workloads:
            if missing := missing_requirements(workload.spec.requires):
                refusals.append(f"{workload.id}: {install_hint(missing)}")
                continue
            bench = Bench(
                technique=technique,
                spec=spec,
                workload_id=workload.id,
                workload=workload.spec,
                settings={**workload.spec.settings, **workload.spec.small},
                cache=folder,
                protocol=host.contracts[spec.contract].spec.protocol,
                processes=processes,
            )
            reply = bench.examined()
            if reply.status != "skipped":
                return bench
            refusals.append(f"{workload.id}: {reply.reason}")
        return fail(f"{technique} can run on no workload of its contract", *refusals)


def _completed(reply: Reply) -> Reply:
    """Return the reply of a case that ended well; skip the test otherwise, as another test reports the failure."""
    if reply.status != "ok":
        pytest.skip(f"the case ended as {reply.status}: see test_emits_the_declared_metrics")
    return reply


def _plain(value: object) -> object:
    """Return a value as a lossless JSON round trip returns it, with dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
