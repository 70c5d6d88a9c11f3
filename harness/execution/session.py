"""Begins, resumes and carries out runs, for the command line and for ``harness.run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from harness.api import (
    DEVICES,
    LANES,
    Case,
    Executor,
    ExecutorOptions,
    Json,
    Lane,
    Limits,
    Origin,
    Row,
    RunInfo,
    Suite,
    UsageError,
    phase_metrics,
    resolve,
)
from harness.execution.alike import Alike
from harness.execution.destination import Destination, Progress, Stopped
from harness.execution.estimator import Estimator, TooLarge, Unusable
from harness.execution.executors import fulfilled
from harness.execution.forecast import Forecast
from harness.execution.identity import check_same_code
from harness.execution.preflight import check_device, check_values
from harness.execution.reuse import EXECUTOR, Earlier
from harness.execution.room import require_room
from harness.execution.rows import is_kept, left_out, require_storable
from harness.execution.runner import Runner
from harness.execution.surroundings import Surroundings, of_suite
from harness.host import Host, warn
from harness.measure.processors import allowed_cores
from harness.plan import Plan
from harness.results.commands import command, options_of
from harness.results.schema import metric_to_json
from harness.results.store import Store
from harness.selection import Selection

if TYPE_CHECKING:
    from harness.results.writer import RunWriter


INTERRUPTED: Final = 130
"""The exit code of a run that was interrupted and can be resumed."""

TIME_LIMIT_S: Final = 300.0
"""The default hard limit of one case: far more than a suite's cases take, so that only a hung case is ended."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources of a run: the executor, its number of parallel processes, a case's hard limits, the model cache.

    With ``fresh``, no row is taken from an earlier run of the store. With ``fail_fast``, the run ends with the first
    case that fails. ``address`` is the place of the executor's cluster. ``jobs_asked``: ``jobs`` is no default.
    """

    executor: str
    jobs: int
    limits: Limits
    cache: Path
    fresh: bool = False
    fail_fast: bool = False
    address: str = ""
    jobs_asked: bool = False


def cores() -> int:
    """Return the number of processors that this process may use, with the CPU quota of its container."""
    return allowed_cores()


def make_executor(
    host: Host, plan: Plan, resources: Resources, device: str, environment: Mapping[str, Json] | None = None
) -> Executor:
    """Return the executor of an id, ready to take units. Raises UsageError for an unknown id or contract.

    Another machine that computes has to have the code and packages of ``environment``, where that is given.
    """
    contract = host.contracts[host.resolve("contracts", plan.suite.contract)].spec
    spec = host.declared.executors[host.resolve("executors", resources.executor)].spec
    if resources.address and not spec.takes_address:
        raise UsageError(f"--address {resources.address!r}: the executor {spec.id!r} runs on no cluster; leave it out")
    if resources.jobs_asked and spec.takes_address:
        warn(f"--jobs {resources.jobs} is for one machine: on a cluster each runs as many cases as it has slots")
    options = ExecutorOptions(
        jobs=resources.jobs,
        limits=resources.limits,
        cache=resources.cache,
        preload=_judge_modules(plan),
        techniques=_technique_modules(plan),
        rounds=plan.suite.rounds,
        device=device,
        protocol=contract.protocol,
        address=resources.address,
        origin=None if environment is None else _origin(host, plan, environment),
    )
    return fulfilled(resolve(spec.target)(options), resources.executor)


def _origin(host: Host, plan: Plan, environment: Mapping[str, Json]) -> Origin:
    """Return what the run is planned with, for machines that are to have the same."""
    return Origin(
        contract=plan.suite.contract,
        base=str(plan.fixed.get("base", "")),
        plugins=[record.module for record in host.plugins if record.status == "ok"],
        environment=environment,
    )


def _judge_modules(plan: Plan) -> list[str]:
    """Return the modules of the workloads, so that a worker's parent can import them once."""
    workloads = [contestant.problem.spec for contestant in plan.contestants]
    targets = [spec.target.partition(":")[0] for spec in workloads]
    return list(dict.fromkeys([*targets, *(module for spec in workloads for module in spec.preload)]))


def _technique_modules(plan: Plan) -> dict[str, list[str]]:
    """Return the modules of the techniques that can run, by plugin."""
    modules: dict[str, list[str]] = {}
    for contestant in (contestant for contestant in plan.contestants if not contestant.skip):
        own = modules.setdefault(contestant.entrant.id.partition("/")[0], [])
        module = contestant.entrant.spec.target.partition(":")[0]
        own += [] if module in own else [module]
    return modules


class Silent:
    """A progress display that shows nothing. Fulfils `Progress`."""

    def planned(self, rows: int) -> None:
        """Do nothing."""

    def finished(self, row: Row) -> None:
        """Do nothing."""

    def looked(self, seeds: int, undecided: int, of: int) -> None:
        """Do nothing."""

    def running(self, cases: Sequence[tuple[Case, str]]) -> None:
        """Do nothing."""

    def expected(self, forecast: Forecast) -> None:
        """Do nothing."""

    def remaining(self, seconds: float) -> None:
        """Do nothing."""


class Session:
    """A planned run: ``start`` creates its folder in a store, ``carry_out`` runs the cases that have no row yet."""

    def __init__(
        self,
        host: Host,
        plan: Plan,
        executor: Executor,
        around: Surroundings,
        resources: Resources,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.host = host
        self.plan = plan
        self._executor = executor
        self._around = around
        self._resources = resources
        self._retry_failed = retry_failed
        self._earlier: Earlier | None = None
        self.short: Plan | None = None
        """The plan of the suite's quick form, of which an estimate tells too."""

    @property
    def planned_rows(self) -> int:
        """The number of rows that the run leaves if nothing fails."""
        return sum(self.plan.size(contestant) for contestant in self.plan.contestants)

    def tell_of(self, suite: Suite, selection: Selection) -> None:
        """Add a short form of the suite to what the estimate tells of, where that can be run."""
        with suppress(UsageError):
            self.short = Plan(suite, self.host, selection, self._around.identity)

    def start(self, store: Store, selection: Selection, resources: Resources) -> RunWriter:
        """Return the writer of a new run in the store."""
        return store.create_run(
            suite=self.plan.suite,
            selection=selection_json(selection, resources),
            plugins=plugin_list(self.host, self.plan),
            environment=self._around.environment,
            planned=self.planned_rows,
        )

    def earlier(self, store: Store) -> Earlier | None:
        """Return the rows of the store's runs that need not be computed again; None where all is computed.

        Under a limit of memory all is computed, since a limit says something about the cases that run under it.
        """
        resources = self._resources
        if resources.fresh or resources.executor != EXECUTOR or resources.limits.memory_bytes is not None:
            return None
        if self._earlier is None:
            select = self.host.metrics[self.plan.suite.select]
            time_s = resources.limits.time_s
            self._earlier = Earlier(store, self.plan, select, self._around.environment, time_s)
        return self._earlier

    def carry_out(self, writer: RunWriter, progress: Progress) -> RunInfo:
        """Run the cases without a row, notify the plugins, and close the run with its exit code: 130 after Ctrl-C.

        Raises UsageError where stored rows come from other code or packages; the run is then left as it was.
        """
        try:
            offered = {str(entry.spec) for entry in self.host.declared.suites.values()}
            check_same_code(self.plan, writer.info, writer.rows, self._around.environment, offered)
        except UsageError:
            writer.withdraw()
            raise
        writer.go_on_in(self._around.environment, plugin_list(self.host, self.plan))
        destination = Destination(
            run=writer.info.id,
            environment=self._around.environment,
            record=Alike(writer.append, writer.rows),
            stored={row.case.key: row for row in writer.rows if is_kept(row.reply, retry_failed=self._retry_failed)},
            earlier=self.earlier(Store(writer.info.folder.parents[1])),
            fail_fast=self._resources.fail_fast,
        )
        if self.plan.on_source and self._resources.executor != "inline":  # a debugger steps through the case alone
            progress = Estimator(self.plan, self._executor, destination, progress, writer.expect, self.short)
        runner = Runner(self.plan, self.host, self._executor, destination, progress)
        self.host.notify("run_started", run=writer.info)
        stopped = False
        try:
            runner.run()
            self._leave_out(writer, runner.rows)
            if isinstance(progress, Estimator):
                progress.compare(runner.rows)
            code = 1 if any(row.failed for row in runner.rows) else 0
        except (TooLarge, Unusable):
            writer.discard()
            raise
        except Stopped:
            code, stopped = 1, True
        except KeyboardInterrupt:
            code = INTERRUPTED
        info = writer.finish(code, stopped=stopped)
        self.host.notify("run_finished", run=info)
        return info

    def _leave_out(self, writer: RunWriter, ended: Sequence[Row]) -> None:
        """Write down which stored failures do not count any more, as the run has ended without asking for the cases."""
        for row in left_out(writer.rows, ended, retry_failed=self._retry_failed):
            writer.append(row)
            self.host.notify("case_finished", row=row)


def begin(host: Host, suite: Suite, selection: Selection, resources: Resources) -> Session:
    """Return a planned run of a suite; raise UsageError for an invalid choice before anything is written.

    Values that the user fixed are validated by the techniques and the workloads, in a separate process.
    """
    check_device(selection.device, "use --device cpu")
    around = of_suite(host, suite, fixed=selection.params)
    plan = Plan(suite, host, selection, around.identity)
    require_storable(map(plan.first_case, plan.contestants))
    if plan.fixed_by_user or plan.on_source:
        _require_usable(plan)
    executor = make_executor(host, plan, resources, selection.device, around.environment)
    return Session(host, plan, executor, around, resources)


def _require_usable(plan: Plan) -> None:
    """Raise UsageError for values that a technique or a workload refuses, and for a model that does not fit."""
    cases = [
        plan.case(contestant, contestant.trials[0], plan.seeds[0])
        for contestant in plan.contestants
        if not contestant.skip
    ]
    check_values(cases)
    if plan.on_source:
        require_room(cases)


def resume(host: Host, info: RunInfo, resources: Resources, *, retry_failed: bool = False) -> Session:
    """Return a stored run, planned again as it was begun; `Session.carry_out` takes its stored rows from the writer.

    With ``retry_failed``, cases whose row says that they failed are run again, unless their answer was wrong.
    """
    suite, selection = resumed_selection(info)
    resources = replace(resources, fresh=resources.fresh or bool(info.selection.get("fresh", False)))
    for name in (*suite.metrics, suite.select):  # a plugin may have left, or the file was edited
        if name not in host.metrics:
            raise UsageError(host.unknown("metric", name, host.metrics))
    check_device(selection.device, f"resume run {info.id} where there is one")
    around = of_suite(host, suite, info.environment, fixed=selection.params)
    plan = Plan(suite, host, selection, around.identity)
    if plan.on_source:  # the model and the data may be others by now
        _require_usable(plan)
    executor = make_executor(host, plan, resources, selection.device, around.environment)
    return Session(host, plan, executor, around, resources, retry_failed=retry_failed)


def selection_json(selection: Selection, resources: Resources) -> dict[str, Json]:
    """Return the user's choices, as kept in ``run.json`` for a resume."""
    return {
        "techniques": list(selection.techniques),
        "workloads": list(selection.workloads),
        "seeds": list(selection.seeds),
        "params": dict(selection.params),
        "lanes": list(selection.lanes),
        "device": selection.device,
        "stack": selection.stack,
        "until": selection.until.text if selection.until else "",
        "repeatability": selection.repeatability,
        "rounds": selection.rounds,
        "jobs": resources.jobs,
        "executor": resources.executor,
        "fresh": resources.fresh,
        "time_limit_s": resources.limits.time_s,
        "memory_limit_bytes": resources.limits.memory_bytes,
    }


def plugin_list(host: Host, plan: Plan) -> list[Mapping[str, Json]]:
    """Return the plugins of a run, active and broken, each with its metrics that rows of the run may hold.

    They are kept in ``run.json``, so that the run can be read where a plugin is missing.
    """
    metrics = _metrics_by_plugin(host, plan)
    return [
        {
            "name": record.name,
            "module": record.module,
            "distribution": record.distribution,
            "version": record.version,
            "status": record.status,
            "cause": record.cause,
            "metrics": metrics.get(record.name, []) if record.status == "ok" else [],
        }
        for record in host.plugins
    ]


def _metrics_by_plugin(host: Host, plan: Plan) -> dict[str, list[Json]]:
    """Return the declarations of the metrics that rows of a run may hold, by the name of the plugin behind each.

    These are the metrics of the suite and of its workloads, and all metrics of the memory and time lanes that are
    declared or follow from the phases of the suite's contract.
    """
    suite, owner = plan.suite, host.contracts[plan.suite.contract]
    emitted = {name for contestant in plan.contestants for name in contestant.problem.spec.metrics}
    needed = {*emitted, *suite.metrics, suite.select, *suite.costs, *(claim.metric for claim in suite.claims)}
    phases = {metric.id for phase in owner.spec.phases for metric in phase_metrics(phase, "")}
    found: dict[str, list[Json]] = {}
    for name, metric in host.metrics.items():
        declared = host.declared.metrics.get(name)
        if name in needed | phases or (declared is not None and metric.lane != "accuracy"):
            found.setdefault(declared.plugin if declared else owner.plugin, []).append(metric_to_json(metric))
    return found


def resumed_selection(info: RunInfo) -> tuple[Suite, Selection]:
    """Return the suite and selection of a stored run; the suite is narrowed to the selection already."""
    lanes = info.selection.get("lanes")
    valid = {
        "params": isinstance(info.selection.get("params"), dict),
        "lanes": isinstance(lanes, list) and bool(lanes) and all(lane in LANES for lane in lanes),
        "device": info.selection.get("device") in DEVICES,
    }
    if wrong := [name for name, is_valid in valid.items() if not is_valid]:
        raise UsageError(
            f"run {info.id}: its selection has no valid {wrong[0]!r}, so that it cannot be resumed",
            "the file was edited or damaged; start another run: "
            + command(info, f"run --suite {info.suite.id} {options_of(info.suite.settings)}".strip()),
        )
    params = cast(Mapping[str, Json], info.selection["params"])
    chosen = tuple(cast(Sequence[Lane], lanes))
    stack = bool(info.selection.get("stack", False))
    return info.suite, Selection(params=params, lanes=chosen, device=str(info.selection["device"]), stack=stack)
