"""The tests that every plugin has to pass, as a class to inherit from in a plugin's own tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from harness.api import Incorrect, Reply, Technique, nearest
from harness.host import Host
from harness.plan import install_hint, missing_requirements
from harness.testing.declaring import Declares, cache_folder, fail, installed, one_thread
from harness.testing.smoke import Bench, live_tensors, newer_objects

_BENCHES: Final = pytest.StashKey[dict[str, Bench]]()
"""By technique, for the whole session: finding the workload costs a check."""


class PluginConformance(Declares):
    """Inherit, name the plugin, and pytest does the rest: one test a technique and property.

    .. code-block:: python

        class TestConformance(harness.testing.PluginConformance):
            plugin = "my-lora"

    ``plugin`` is the name of the entry point, so the plugin has to be installed (``pip install -e .``). A technique
    is tried on the first workload of its contract that accepts it, in that workload's small form
    (`harness.api.WorkloadSpec.small`): nothing is learnt here. Base models are kept in pytest's cache folder.
    """

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each technique the plugin declares."""
        if "technique" in metafunc.fixturenames:
            mine = [full for full, one in installed().techniques.items() if one.plugin == self.plugin]
            metafunc.parametrize("technique", mine, ids=[full.rpartition("/")[2] for full in mine])

    @pytest.fixture
    def spec(self, host: Host, technique: str) -> Technique:
        """The technique's declaration; its test is skipped where its requirements are not installed."""
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
        """The technique on the first workload that accepts it; its test is skipped where it cannot run here."""
        found = request.config.stash.setdefault(_BENCHES, {})
        with one_thread():
            if technique not in found:
                folder = cache_folder(request.config, tmp_path_factory)
                found[technique] = self._first_that_accepts(host, spec, technique, folder)
            if reason := found[technique].unavailable():
                pytest.skip(reason)
            yield found[technique]

    def test_describes_itself(self, spec: Technique, host: Host) -> None:
        """Params and space survive JSON, the summary is one line, and what the space varies exists."""
        if not spec.summary.strip() or "\n" in spec.summary:
            fail(f"summary {spec.summary!r}: expected one line that says what the technique does")
        for what, value in (("params", spec.params), ("space", spec.space)):
            if json.loads(json.dumps(value)) != _plain(value):
                fail(f"{what} {value!r} change in a JSON round trip")
        settings = {
            name for one in host.workloads.values() if one.spec.contract == spec.contract for name in one.spec.settings
        }
        for name, values in spec.space.items():
            if name not in {*spec.params, *settings}:
                fail(f"space varies {name!r}, which is no param and no setting of the contract's workloads")
            if not values or len({json.dumps(value) for value in values}) < len(values):
                fail(f"space of {name!r} {list(values)!r}: expected values, each once")

    def test_can_be_built(self, spec: Technique, bench: Bench) -> None:
        """The target leads to something that takes the declared params, and every value of the space."""
        trials = [{name: value} for name in spec.space if name in spec.params for value in spec.space[name]]
        for trial in ({}, *trials):
            try:
                bench.build(**trial)
            except Exception as error:
                raise AssertionError(f"{spec.target} does not take { ({**spec.params, **trial})!r}: {error}") from error

    def test_keeps_the_invariants_of_its_contract(self, bench: Bench) -> None:
        """What `harness.api.Workload.check` asks: the gate before anything is timed."""
        try:
            bench.check()
        except Incorrect as error:
            fail(f"{bench.technique} on {bench.workload_id} breaks the contract {bench.spec.contract!r}: {error}")

    def test_emits_the_declared_metrics(self, bench: Bench) -> None:
        """A short case on the CPU ends well: exactly the workload's metrics, all of them finite numbers."""
        reply = bench.run()
        if reply.status != "ok":
            fail(f"{bench.technique} on {bench.workload_id} ended as {reply.status}: {reply.reason}", reply.detail)
        found, declared = set(reply.metrics), set(bench.workload.metrics)
        if found != declared:
            fail(
                f"{bench.workload_id} emits {sorted(found - declared)} without declaring them, "
                f"and declares {sorted(declared - found)} without emitting them"
            )

    def test_repeats_itself(self, bench: Bench) -> None:
        """The same seed gives the same numbers, to the last bit."""
        first, second = _completed(bench), _completed(bench)
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
        """When a case is over, no tensor of it is left."""
        with newer_objects():
            _completed(bench)  # what is made once and kept for all cases, such as a table, is there from here on
            before = live_tensors()
            _completed(bench)
            left = sorted((live_tensors() - before).elements())
        if left:
            fail(
                f"{len(left)} tensors of {bench.technique} outlive its case; keep none in a module, a class or a cache",
                *left,
            )

    def _first_that_accepts(self, host: Host, spec: Technique, technique: str, folder: Path) -> Bench:
        workloads = [one for one in host.workloads.values() if one.spec.contract == spec.contract]
        if not workloads:
            known = sorted({one.spec.contract for one in host.workloads.values()})
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
            )
            if not (refusal := bench.refusal()):
                return bench
            refusals.append(f"{workload.id}: {refusal}")
        return fail(f"{technique} can run on no workload of its contract", *refusals)


def _completed(bench: Bench) -> Reply:
    """A case that has numbers; what to say of one that has none is the matter of another test."""
    reply = bench.run()
    if reply.status != "ok":
        pytest.skip(f"the case ended as {reply.status}: see test_emits_the_declared_metrics")
    return reply


def _plain(value: object) -> object:
    """The value as JSON gives it back where nothing is lost: mappings are dicts, sequences lists."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
