"""The tests that every family of techniques has to pass, as a class to inherit from in the family's own tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, get_args

import pytest
import torch

from harness.api import (
    Contract,
    Defaults,
    Form,
    HarnessError,
    Incorrect,
    Json,
    NotApplicable,
    Reply,
    Suite,
    Technique,
    UsageError,
    WorkloadSpec,
    resolve,
)
from harness.declared import Registered, SpecT
from harness.execution.replies import Malformed
from harness.host import Host
from harness.judge import perturbation
from harness.requirements import install_hint, missing_requirements
from harness.suite import read_suite
from harness.suite_files import has_form
from harness.testing.declaring import Declares, cache_folder, fail, installed, one_thread
from harness.testing.drawing import Draws
from harness.testing.making import cached_content, cached_files, cached_names, edited
from harness.testing.refusing import check_settings, require_refused, values_refused
from harness.testing.smoke import Bench, in_small

METHODS: Final = ("prepare", "evaluate", "open", "check")
"""The methods of a workload that the worker calls; see `harness.api.Workload`."""

OTHER_SEEDS: Final = (1, 2, 3)
"""Seeds of which at least one must give other numbers than the first; a coarse metric may agree by chance."""

UNKNOWN: Final = "no-such-setting"

_FIRST: Final = pytest.StashKey[dict[str, Reply]]()
"""The first reply of each bench, kept for the session because it takes a training."""


class FamilyConformance(Declares):
    """The conformance tests of a family, to inherit from.

    .. code-block:: python

        class TestFamily(harness.testing.FamilyConformance):
            plugin = "my-family"
            technique = "my-family/exact"
            faults = {"my_package.faults:Wrong": "words of the reason"}

    ``technique`` is the full id of an installed technique, or a target ``package.module:attribute``. ``faults`` map
    the target of each technique with a planted fault to a part of the reason with which the gate has to refuse it;
    faults are tried on the family's first workload that can run here. Every workload runs in its small form.
    """

    technique: ClassVar[str]
    faults: ClassVar[Mapping[str, str]] = {}
    remakes: ClassVar[bool] = True
    """Whether cached content is made once more in an empty folder and compared; False where that takes long."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize the tests with the contracts, workloads, suites and planted faults of the family."""
        host = installed()
        declared: dict[str, Mapping[str, object]] = {
            "contract_id": _of(host.contracts, self.plugin),
            "workload_id": _of(host.workloads, self.plugin),
            "suite_id": _of(host.declared.suites, self.plugin),
            "fault": dict.fromkeys(self.faults),
        }
        for argument, names in declared.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(names), ids=[name.rpartition("/")[2] for name in names])

    @pytest.fixture
    def contract(self, host: Host, contract_id: str) -> Contract:
        """Return the declaration of one contract of the family."""
        return host.contracts[contract_id].spec

    @pytest.fixture
    def workload(self, host: Host, workload_id: str, folder: Path) -> WorkloadSpec:
        """Return the declaration of one workload; skip the test where a requirement is not installed."""
        spec = host.workloads[workload_id].spec
        if missing := missing_requirements(spec.requires):
            pytest.skip(install_hint(missing))
        return self._on_source(spec, folder) if spec.task else spec

    def source(self, task: str, folder: Path) -> Mapping[str, Json]:
        """Return the settings that name a small model and data for a workload with a task, made in an empty folder.

        Without any, the tests of such a workload are skipped.
        """
        del task, folder
        return {}

    def _on_source(self, spec: WorkloadSpec, folder: Path) -> WorkloadSpec:
        """Return a workload with a task as if the family's `source` were its default."""
        place = folder / f"{self.plugin}-{spec.id}"
        place.mkdir(exist_ok=True)
        source = self.source(spec.task, place)
        if not source:
            pytest.skip(f"workload {spec.id!r} runs on a model of one's own: give one by the method source")
        assert isinstance(spec.settings, Defaults)
        knobs = [replace(knob, default=source.get(knob.name, knob.default)) for knob in spec.settings.knobs]
        return replace(spec, settings=Defaults(knobs))

    @pytest.fixture
    def folder(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return the folder of cached content, which persists between sessions."""
        return cache_folder(request.config, tmp_path_factory)

    @pytest.fixture
    def bench(self, host: Host, workload: WorkloadSpec, workload_id: str, folder: Path) -> Iterator[Bench]:
        """Yield the technique that keeps the contract, on one workload in its small form."""
        with one_thread():
            yield self._bench(host, self.technique, workload_id, workload, folder)

    def test_has_a_contract_and_workloads(self, host: Host) -> None:
        """Check that the family owns a contract and that each contract has a workload."""
        contracts = _of(host.contracts, self.plugin)
        if not contracts:
            fail(f"plugin {self.plugin!r} declares no contract: implement the hook register_contracts")
        served = {entry.spec.contract for entry in host.workloads.values()}
        if idle := sorted(contracts.keys() - served):
            fail(f"no workload has the contract {', '.join(idle)}: declare one by the hook register_workloads")

    def test_the_contract_names_a_protocol(self, contract: Contract) -> None:
        """Check that the contract's protocol can be imported and is a `typing.Protocol`."""
        try:
            protocol = resolve(contract.protocol)
        except (ImportError, AttributeError) as error:
            fail(f"contract {contract.id!r}: {contract.protocol} cannot be imported: {error}")
        if not getattr(protocol, "_is_protocol", False):
            fail(f"contract {contract.id!r}: {contract.protocol} is {protocol!r}; expected a class of typing.Protocol")

    def test_the_judge_has_its_methods(self, workload: WorkloadSpec) -> None:
        """Check that the target takes no arguments and has the methods of `harness.api.Workload`."""
        judge = resolve(workload.target)()
        if missing := [name for name in METHODS if not callable(getattr(judge, name, None))]:
            fail(f"{workload.target} lacks {', '.join(missing)} of harness.api.Workload")

    def test_the_small_form_exists_and_is_valid(self, workload: WorkloadSpec) -> None:
        """Check that the judge accepts the settings of the full form and of the small one."""
        for form, values in (("full", {}), ("small", workload.small)):
            try:
                check_settings(workload, {**workload.settings, **values})
            except UsageError as error:
                fail(f"workload {workload.id!r} refuses its own {form} settings", str(error))

    def test_wrong_settings_are_refused_by_name(self, workload: WorkloadSpec) -> None:
        """Check that a missing, out-of-range or wrongly typed value raises UsageError with the setting's name."""
        if not workload.settings:
            return
        if not isinstance(workload.settings, Defaults):
            fail(f"the settings of {workload.id!r} have no ranges: make them by harness.judge.settings.defaults_of")
        for knob in workload.settings.knobs:
            absent = {name: value for name, value in workload.settings.items() if name != knob.name}
            for wrong in (absent, *({**workload.settings, knob.name: value} for value in values_refused(knob))):
                require_refused(workload, wrong, knob.name)

    def test_an_unknown_setting_is_refused_by_name(
        self, workload: WorkloadSpec, workload_id: str, host: Host, tmp_path: Path
    ) -> None:
        """Check that a suite with a setting that no workload has is refused with the setting's name."""
        file = tmp_path / "unknown.toml"
        file.write_text(
            f'title = "unknown"\nversion = 1\ncontract = "{workload.contract}"\nbaseline = "none"\n'
            f'workloads = ["{workload_id}"]\ntechniques = ["*"]\nseeds = 1\nmetrics = ["{workload.metrics[0]}"]\n'
            f"[settings]\n{UNKNOWN} = 1\n"
        )
        with pytest.raises(UsageError) as caught:
            read_suite(str(file), host)
        if f"settings.{UNKNOWN}" not in str(caught.value):
            fail(f"the setting {UNKNOWN!r} of {workload_id} is not refused by name", str(caught.value))

    def test_the_gate_passes_what_keeps_the_contract(self, bench: Bench) -> None:
        """Check that the technique that keeps the contract passes the gate of each applicable workload."""
        try:
            bench.check()
        except NotApplicable as reason:
            pytest.skip(str(reason))
        except Incorrect as error:
            fail(f"the gate of {bench.workload_id} refuses {bench.technique}, which keeps the contract: {error}")
        except Malformed as error:
            fail(f"{bench.workload_id}: {error}")

    def test_the_gate_catches_a_planted_fault(self, fault: str, host: Host, folder: Path) -> None:
        """Check that a technique with a planted fault is `Incorrect` for the reason given in ``faults``."""
        workload_id, workload = self._first_workload(host)
        with one_thread():
            bench = self._bench(host, fault, workload_id, workload, folder)
            try:
                bench.check()
            except Incorrect as error:
                if self.faults[fault] not in str(error):
                    fail(f"{fault} is refused for another reason than {self.faults[fault]!r}: {error}")
                return
        fail(f"the gate of {workload_id} lets {fault} pass; expected Incorrect with {self.faults[fault]!r}")

    def test_emits_the_declared_metrics(self, bench: Bench, request: pytest.FixtureRequest) -> None:
        """Check that a small case emits the declared metrics, all of them finite, but for optional ones."""
        reply = _first(bench, request.config)
        emitted, declared = set(reply.metrics), set(bench.workload.metrics)
        if not declared - {*bench.workload.optional} <= emitted <= declared:
            fail(
                f"{bench.workload_id} emits {sorted(emitted - declared)} without declaring them, "
                f"and declares {sorted(declared - emitted)} without emitting them"
            )
        if endless := [name for name, value in reply.metrics.items() if not math.isfinite(value)]:
            fail(f"{bench.workload_id} emits values that are not finite: {', '.join(endless)}")

    def test_opens_the_declared_phases(self, bench: Bench, host: Host) -> None:
        """Check that an opened case has exactly the declared phases, which run, and figures that are time metrics."""
        try:
            case = bench.open()
        except Malformed as error:
            fail(f"{bench.workload_id}: {error}")
        if tuple(case.phases) != tuple(bench.workload.phases):
            fail(f"{bench.workload_id} opens {list(case.phases)}; declared are {list(bench.workload.phases)}, in order")
        for phase in (*case.phases.values(), *case.probes.values()):
            phase.run()
        if case.figures is None:
            return
        seconds = {name: [1.0, 2.0] for name in case.phases}  # long beside the machine's limits, so that shares are low
        figures = case.figures({**seconds, **{name: [0.01, 0.02] for name in case.probes}})
        timed = {name for name, metric in host.metrics.items() if metric.lane == "time"}
        if not isinstance(figures, Mapping):
            fail(f"{bench.workload_id}: what figures returned is {figures!r}, expected a mapping of names to numbers")
        if unknown := sorted(figures.keys() - timed):
            fail(f"{bench.workload_id} figures {', '.join(unknown)}: declare a metric of the lane 'time' for each")

    def test_follows_the_seed(self, bench: Bench, request: pytest.FixtureRequest) -> None:
        """Check that the same seed gives bitwise identical numbers, and another seed other numbers.

        The numbers of a technique that makes no error, say a recall of 100 %, are the same whatever is drawn: there it
        is enough that torch's generators gave other values.
        """
        first, again = _first(bench, request.config), completed(bench)
        if _numbers(first) != _numbers(again):
            fail(f"{bench.workload_id} gives other numbers for the same seed: draw from harness.judge.seeds.generator")
        others = (completed(replace(bench, seed=seed)) for seed in OTHER_SEEDS)
        if all(_numbers(other) == _numbers(first) for other in others) and not _draws_differ(bench):
            fail(f"{bench.workload_id} gives the same numbers for every seed: nothing is drawn from the case's seed")

    def test_a_perturbed_training_starts_from_perturbed_weights(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Check that a workload which declares ``perturbs`` calls `perturb_start`; its numbers need not show that."""
        if not bench.workload.perturbs:
            return
        asked: list[str] = []

        def noted(seed: int, purpose: str) -> torch.Generator:
            asked.append(purpose)
            raise RuntimeError(f"the training of seed {seed} need not go on")

        monkeypatch.setattr(perturbation, "generator", noted)
        reply = replace(bench, perturbed=True).run_here()
        if not asked:
            _require_completed(bench, reply)
            fail(
                f"{bench.workload_id} declares perturbs, and trains from the same weights as ever: call "
                "harness.judge.perturbation.perturb_start before the first step, or leave perturbs out"
            )

    def test_a_second_preparation_makes_nothing_anew(self, bench: Bench) -> None:
        """Check that a second preparation leaves the cache unchanged."""
        bench.prepare()
        before = cached_files(bench.cache)
        bench.prepare()
        after = cached_files(bench.cache)  # other tests may add files of their own meanwhile
        if any(after.get(name) != file for name, file in before.items()):
            fail(f"{bench.workload_id} changes the cache when it is prepared again: make content by load_or_make")

    def test_cached_content_can_be_made_again(self, bench: Bench, tmp_path: Path) -> None:
        """Check that cached content made again in an empty folder is bitwise identical."""
        names = cached_names(bench, tmp_path / "names")
        if not names or not self.remakes:
            return
        bench.prepare()
        replace(bench, cache=tmp_path / "anew").prepare()
        anew = cached_content(tmp_path / "anew", [*cached_files(tmp_path / "anew")])
        kept = cached_content(bench.cache, [*anew])
        if differing := [name for name, digest in anew.items() if kept.get(name, digest) != digest]:
            fail(f"{bench.workload_id} makes {', '.join(differing)} anew with other content under the same name")

    def test_an_edit_renames_cached_content(self, bench: Bench, tmp_path: Path) -> None:
        """Check that the name of cached content changes with each source module that makes the content."""
        names = cached_names(bench, tmp_path / "names")
        sources: list[str] = []
        with edited("", sources):
            cached_names(bench, tmp_path / "sources")
        if names and not sources:
            fail(f"{bench.workload_id} caches {', '.join(names)}, whatever made it: name it by sources_of(...)")
        for module in dict.fromkeys(sources):
            with edited(module):
                if cached_names(bench, tmp_path / module) == names:
                    fail(f"an edit of {module} leaves the names {', '.join(names)} of cached content as they are")

    def test_the_suite_can_be_read(self, suite_id: str, host: Host) -> None:
        """Check that every form of the suite is well-formed and refers to existing names."""
        for form in get_args(Form):
            if not has_form(suite_id, host, form):
                continue
            try:
                suite = read_suite(suite_id, host, form=form)
            except HarnessError as error:
                fail(f"the {form} form of suite {suite_id!r} cannot be read", str(error))
            _require_resolved(suite, host)

    def _first_workload(self, host: Host) -> tuple[str, WorkloadSpec]:
        for workload_id, entry in _of(host.workloads, self.plugin).items():
            if not missing_requirements(entry.requires) and not entry.task:
                return workload_id, entry
        return pytest.skip("no workload of the family can run here")

    def _bench(self, host: Host, technique: str, workload_id: str, workload: WorkloadSpec, folder: Path) -> Bench:
        bench = in_small(host, workload_id, technique, _technique(host, technique, workload.contract), folder)
        settings = {**workload.settings, **workload.small}  # a family's tests may give it a model and data of their own
        return replace(bench, workload=workload, settings=settings)


def completed(bench: Bench) -> Reply:
    """Return the reply of a case that ended well; skip or fail the test with the reason otherwise."""
    reply = bench.run()
    _require_completed(bench, reply)
    return reply


def _draws_differ(bench: Bench) -> bool:
    """Tell whether the case draws other values from torch's generators for another seed."""
    digests = set()
    for seed in (bench.seed, *OTHER_SEEDS):
        with Draws() as draws:
            completed(replace(bench, seed=seed))
        digests.add(draws.digest())
    return len(digests) > 1


def _require_completed(bench: Bench, reply: Reply) -> None:
    if reply.status in ("skipped", "unavailable"):
        pytest.skip(reply.reason)
    if reply.status != "ok":
        fail(f"{bench.technique} on {bench.workload_id} ended as {reply.status}: {reply.reason}", reply.detail)


def _first(bench: Bench, config: pytest.Config) -> Reply:
    """Return the reply of a bench's case, which is run once in a session."""
    kept = config.stash.setdefault(_FIRST, {})
    key = f"{bench.technique} on {bench.workload_id}"
    if key not in kept:
        kept[key] = completed(bench)
    return kept[key]


def _technique(host: Host, name: str, contract: str) -> Technique:
    """Return an installed technique by its full id, or a technique made from a target."""
    if "/" in name:
        return host.techniques[host.resolve("techniques", name)].spec
    return Technique(id="planted", contract=contract, target=name, summary="of a family's tests")


def _of(declared: Mapping[str, Registered[SpecT]], plugin: str) -> dict[str, SpecT]:
    """Return a plugin's declarations of one kind, by full id."""
    return {full: entry.spec for full, entry in declared.items() if entry.plugin == plugin}


def _numbers(reply: Reply) -> tuple[object, object]:
    return dict(reply.metrics), {name: list(values) for name, values in reply.series.items()}


def _require_resolved(suite: Suite, host: Host) -> None:
    costs: tuple[str, ...] = getattr(suite, "costs", ())
    if suite.contract not in host.contracts:
        fail(f"suite {suite.id!r} has contract {suite.contract!r}, which no plugin declares")
    if unknown := [name for name in (*suite.metrics, *suite.margins, *costs) if name not in host.metrics]:
        fail(f"suite {suite.id!r} names {', '.join(unknown)}, which is no metric")
