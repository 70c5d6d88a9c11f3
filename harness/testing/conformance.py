"""The tests that every plugin has to pass, as a class to inherit from in a plugin's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import pytest

from harness.api import Limits, Technique
from harness.host import Host
from harness.testing import techniques
from harness.testing.declaring import Declares, cache_folder, installed, one_thread, told
from harness.testing.isolated import Isolated, isolated
from harness.testing.smoke import Bench

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
        with told():
            techniques.require_able(spec)
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
        with one_thread(), told():
            if technique not in benches:
                folder = cache_folder(request.config, tmp_path_factory)
                processes = self._processes(host, spec.contract, request.config, folder)
                benches[technique] = techniques.first_that_accepts(host, technique, folder, processes)
            techniques.require_tried(benches[technique])
        with one_thread():
            yield benches[technique]

    def test_describes_itself(self, spec: Technique) -> None:
        """Check that params and space survive JSON, the summary is one line, and values of the space differ."""
        with told():
            techniques.describes_itself(spec)

    def test_can_be_built(self, bench: Bench) -> None:
        """Check that the target takes the declared params and every value of the space."""
        with told():
            techniques.can_be_built(bench)

    def test_keeps_the_invariants_of_its_contract(self, bench: Bench) -> None:
        """Check the technique by `harness.api.Workload.check`, which precedes every measurement."""
        with told():
            techniques.keeps_the_invariants_of_its_contract(bench)

    def test_emits_the_declared_metrics(self, bench: Bench) -> None:
        """Check that a short case on the CPU emits the workload's declared metrics, but for optional ones."""
        with told():
            techniques.emits_the_declared_metrics(bench)

    def test_repeats_itself(self, bench: Bench) -> None:
        """Check that the same seed gives bitwise identical numbers."""
        with told():
            techniques.repeats_itself(bench)

    def test_frees_its_memory(self, bench: Bench) -> None:
        """Check that no tensor of a case is alive after the case."""
        with told():
            techniques.frees_its_memory(bench)

    def test_leaves_the_process_as_it_is(self, bench: Bench) -> None:
        """Check that a case changes no setting of the process, such as torch's default dtype."""
        with told():
            techniques.leaves_the_process_as_it_is(bench)

    def _processes(self, host: Host, contract: str, config: pytest.Config, folder: Path) -> Isolated:
        """Return the processes for the plugin's techniques of a contract, which end with the session."""
        kept = config.stash.setdefault(_PROCESSES, {})
        key = f"{self.plugin} {contract} {self.limit_s}"
        if key not in kept:
            kept[key] = isolated(host, self.plugin, contract, folder, Limits(time_s=self.limit_s))
            config.add_cleanup(kept[key].close)
        return kept[key]
