"""Which rows a run takes from earlier runs of its store, and which it computes again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.analysis.states import remarks_on
from harness.analysis.view import RunView
from harness.api import Case, Executor, Json, Limits, Reply, Unit
from harness.execution import session, surroundings
from harness.execution.estimate import estimate
from harness.execution.session import Resources, Silent, begin, resume
from harness.host import Host, load_host
from harness.results.export import to_csv
from harness.results.store import Store, StoredRun
from harness.selection import Selection
from harness.suite import read_suite

TOYS = Path(__file__).parents[1] / "toy"
PEAKS = ("build_tensor_peak", "train_tensor_peak", "infer_tensor_peak", "train_process_peak")
FIXED = Selection(params={"lr": 0.2}, lanes=("accuracy",))
"""A selection without a tuning."""


class Formulas(Executor):
    """Answers accuracy and memory with figures of the case, keeps the units, and fails or stops where it is told to."""

    def __init__(self, failing: str = "", most: int = 10**6) -> None:
        self.slots, self.stacks = 1, False
        self.units: list[Unit] = []
        self._failing, self._most = failing, most
        self._open: list[Unit] = []

    def submit(self, unit: Unit) -> None:
        self.units.append(unit)
        self._open.append(unit)

    def wait(self, timeout_s: float | None = None) -> list[tuple[Unit, list[Reply]]]:
        if len(self.computed) > self._most:
            raise KeyboardInterrupt
        done, self._open = self._open, []
        return [(unit, [self._reply(case, unit) for case in unit.cases]) for unit in done]

    def _reply(self, case: Case, unit: Unit) -> Reply:
        if unit.prepare or unit.check:
            return Reply(status="ok")
        if case.technique == self._failing:
            return Reply(status="error", reason="for now")
        value = case.seed + len(case.technique) + 10 * float(str(case.settings["lr"]))
        names = {"accuracy": ("toy_score", "toy_val_score"), "memory": PEAKS, "time": ()}[case.lane]
        times = {f"{phase}_{kind}": 1.0 for phase in ("train", "infer") for kind in ("time", "throughput")}
        metrics = dict.fromkeys(names, value) if names else times
        return Reply(status="ok", metrics=metrics, wall_s=0.5, cpu_s=0.5)

    @property
    def computed(self) -> list[Case]:
        """The cases that were measured, in order."""
        return [case for unit in self.units for case in unit.cases if not (unit.prepare or unit.check)]

    def running(self) -> list[tuple[Case, str]]:
        return []

    def free_memory(self) -> int:
        return 1 << 40

    def environment(self, unit: Unit) -> Mapping[str, Json]:
        return {}

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Done:
    """A run that has ended, and the cases that it computed."""

    stored: StoredRun
    computed: list[Case]
    units: list[Unit]
    host: Host

    @property
    def figures(self) -> dict[str, Mapping[str, float]]:
        return {row.case.key: row.reply.metrics for row in self.stored.rows}


@dataclass(kw_only=True)
class World:
    """A store, and what runs in it."""

    folder: Path
    patch: pytest.MonkeyPatch
    plugins: list[str] = field(default_factory=lambda: ["harness_toy"])
    suite: str = "toys"
    before: Callable[[Host], None] = lambda _: None

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def resources(self, **changes: Any) -> Resources:
        made = Resources(executor="local", jobs=1, limits=Limits(time_s=60.0), cache=self.folder)
        return replace(made, **changes)

    def run(self, selection: Selection = FIXED, by: Formulas | None = None, **changes: Any) -> Done:
        executor = by or Formulas()
        self.patch.setattr(session, "make_executor", lambda *_: executor)
        host, resources = load_host(self.plugins, entry_points=False), self.resources(**changes)
        self.before(host)
        begun = begin(host, read_suite(self.suite, host), selection, resources)
        return self._carried_out(begun, begun.start(self.store, selection, resources), executor)

    def go_on(self, run: str, **changes: Any) -> Done:
        executor = Formulas()
        self.patch.setattr(session, "make_executor", lambda *_: executor)
        with self.store.open_run(run) as writer:
            begun = resume(load_host(self.plugins, entry_points=False), writer.info, self.resources(**changes))
            return self._carried_out(begun, writer, executor)

    def _carried_out(self, begun: Any, writer: Any, executor: Formulas) -> Done:
        with writer:
            info = begun.carry_out(writer, Silent())
        return Done(stored=self.store.read(info.id), computed=executor.computed, units=executor.units, host=begun.host)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setattr(session, "check_values", lambda _: None)  # values are checked in a process of their own
    return World(folder=tmp_path, patch=monkeypatch)


def test_a_second_run_computes_times_only_and_has_the_same_figures_and_provenance(world: World) -> None:
    first, second = world.run(Selection()), world.run(Selection())
    assert {case.lane for case in first.computed} == {"accuracy", "memory", "time"}
    assert {case.lane for case in second.computed} == {"time"}
    assert second.figures == first.figures
    assert len(second.stored.rows) == len(first.stored.rows)
    origins = {row.case.key: row for row in first.stored.rows}
    for row in second.stored.rows:
        assert row.run == second.stored.info.id
        assert row.reused_from == ("" if row.case.lane == "time" else first.stored.info.id)
        if row.reused_from:
            origin = origins[row.case.key]
            assert replace(row, run=origin.run, reused_from="") == origin
    views = [RunView.build(done.stored.info, done.stored.rows, done.host.metrics) for done in (first, second)]
    assert views[1].workloads == views[0].workloads
    assert (views[0].reused, views[1].reused) == (0, 27)
    assert "27 of 30 rows are not computed again" in " ".join(views[1].remarks)


def test_the_techniques_are_checked_again_before_times_are_taken(world: World) -> None:
    world.run(Selection())
    second = world.run(Selection())
    assert {unit.cases[0].technique for unit in second.units if unit.check} == {"toy/base", "toy/good", "toy/twin"}


def test_a_run_of_which_everything_is_stored_starts_no_process(world: World) -> None:
    tuned = Selection(lanes=("accuracy", "memory"))
    world.run(tuned)
    assert not world.run(tuned).units
    seeds = world.run(replace(tuned, seeds=(0, 1, 2, 3, 4)))
    assert {case.seed for case in seeds.computed} == {4}
    assert seeds.units[0].prepare


def test_a_fresh_run_computes_everything_and_stays_fresh_when_it_is_resumed(world: World) -> None:
    first = world.run()
    fresh = world.run(fresh=True)
    assert len(fresh.computed) == len(first.computed)
    assert remarks_on(fresh.stored.rows) == ()
    broken_off = world.run(by=Formulas(most=2), fresh=True)
    assert broken_off.stored.info.exit_code == 130
    resumed = world.go_on(broken_off.stored.info.id)
    assert len(resumed.computed) == len(first.computed) - len(broken_off.stored.rows)


def test_rows_of_an_interrupted_run_are_taken_by_the_next_one_and_by_a_resumed_one(world: World) -> None:
    broken_off = world.run(by=Formulas(most=4))
    kept = len(broken_off.stored.rows)
    assert 0 < kept < 12
    second = world.run()
    assert len(second.computed) == 12 - kept
    assert not world.go_on(broken_off.stored.info.id).computed


def test_the_run_that_computed_a_row_is_named_however_often_the_row_is_taken(world: World) -> None:
    first = world.run()
    world.run()
    third = world.run()
    assert {row.reused_from for row in third.stored.rows} == {first.stored.info.id}


def test_more_seeds_compute_the_new_seeds_only(world: World) -> None:
    world.run(replace(FIXED, seeds=(0, 1)))
    more = world.run(replace(FIXED, seeds=(0, 1, 2)))
    assert [case.seed for case in more.computed] == [2, 2, 2]


def test_a_trial_of_a_tuning_is_the_result_of_a_run_that_fixes_its_value(world: World) -> None:
    world.run(Selection(lanes=("accuracy",), seeds=(0, 1)))
    fixed = world.run(replace(FIXED, seeds=(0, 1)))
    assert not fixed.computed
    assert {(row.case.stage, *row.case.tuned) for row in fixed.stored.rows} == {("final",)}


def test_what_failed_is_tried_again(world: World) -> None:
    assert world.run(by=Formulas(failing="toy/good")).stored.info.exit_code == 1
    again = world.run()
    assert {case.technique for case in again.computed} == {"toy/good"}
    assert again.stored.info.exit_code == 0


def test_an_edited_plugin_computes_its_own_techniques_only(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    world.patch.syspath_prepend(folder)
    (folder / "harness_edited.py").write_text(
        dedent("""
            from harness.api import Technique, hookimpl
            HARNESS_API = 1
            @hookimpl
            def register_techniques():
                return [Technique(id="own", contract="toy", target="mine_targets:Own", summary="own", params={})]
            """)
    )
    (folder / "mine_targets.py").write_text("class Own: shift = 1.0\n")
    suite = tmp_path / "both.toml"
    suite.write_text((TOYS / "toys.toml").read_text().replace('"twin"]', '"edited/own"]'))
    world.plugins, world.suite = ["harness_toy", "harness_edited"], str(suite)
    first = world.run()
    assert not world.run().computed
    (folder / "mine_targets.py").write_text("class Own: shift = 2.0\n")
    edited = world.run()
    assert [case.technique for case in edited.computed] == ["edited/own"] * 4
    (folder / "mine_targets.py").write_text("class Own: shift = 1.0\n")
    assert {row.reused_from for row in world.run().stored.rows} == {first.stored.info.id}


def test_an_edited_suite_computes_what_it_changes(world: World, tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    world.suite, text = str(suite), (TOYS / "toys.toml").read_text()
    suite.write_text(text)
    world.run(Selection(lanes=("accuracy",), seeds=(0,)))
    suite.write_text(text.replace("toy_score = 1.0", "toy_score = 2.0").replace("0.3]", "0.4]"))
    wider = world.run(Selection(lanes=("accuracy",), seeds=(0,)))
    assert {case.settings["lr"] for case in wider.computed} == {0.4}
    suite.write_text(text.replace("version = 1", "version = 2"))
    assert len(world.run(Selection(lanes=("accuracy",), seeds=(0,))).computed) == 9


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("packages", {"torch": "0.1"}),
        ("packages", {"safetensors": "0.1"}),
        ("cpu", {"model": "other", "flags": []}),
        ("threads", {"OMP_NUM_THREADS": "64"}),
        ("variables", {"ATEN_CPU_CAPABILITY": "default"}),
        ("platform", "Linux-0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_environment_computes_everything(world: World, fact: str, value: Json) -> None:
    first = world.run()
    known = surroundings.environment()
    known[fact] = {**known[fact], **value} if fact == "packages" else value  # type: ignore[dict-item]
    world.patch.setattr(surroundings, "environment", lambda: dict(known))
    assert len(world.run().computed) == len(first.computed)


def test_another_version_of_the_harness_alone_computes_nothing(world: World) -> None:
    world.run()
    known = surroundings.environment()
    known["packages"] = {**known["packages"], "technique-harness": "99"}  # type: ignore[dict-item]
    world.patch.setattr(surroundings, "environment", lambda: dict(known))
    assert not world.run().computed


@pytest.mark.parametrize(
    "changes",
    [{"limits": Limits(time_s=60.0, memory_bytes=1 << 30)}, {"limits": Limits(time_s=0.4)}, {"executor": "inline"}],
    ids=["a limit of memory", "a limit of time that the rows exceed", "another executor"],
)
def test_limits_that_might_end_a_case_and_other_executors_compute_everything(world: World, changes: Any) -> None:
    first = world.run()
    assert len(world.run(**changes).computed) == len(first.computed)


def test_rows_of_another_executor_are_not_taken(world: World) -> None:
    first = world.run()
    header = first.stored.info.folder / "run.json"
    header.write_text(header.read_text().replace('"executor": "local"', '"executor": "elsewhere"'))
    assert len(world.run().computed) == len(first.computed)


def test_a_plugin_that_refuses_a_case_is_asked_before_a_row_is_taken(world: World) -> None:
    from harness.api import Skip

    world.run()
    told: list[str] = []

    def refuse(host: Host) -> None:
        notify = host.notify

        def answer(hook: str, **facts: Any) -> list[tuple[str, Any]]:
            if hook == "check_case" and facts["case"].technique == "toy/twin":
                return [("watcher", Skip(reason="not today"))]
            told.extend([facts["row"].case.technique] if hook == "case_finished" else [])
            return notify(hook, **facts)

        world.patch.setattr(host, "notify", answer)

    world.before = refuse
    second = world.run()
    assert {row.reply.status for row in second.stored.rows if row.case.technique == "toy/twin"} == {"skipped"}
    assert len(told) == len(second.stored.rows)  # observers hear of the rows that were taken, too


def test_a_row_whose_key_belongs_to_another_case_is_computed(world: World) -> None:
    first = world.run()
    file = first.stored.info.folder / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["seed"] = 99
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [case.key for case in world.run().computed] == [rows[0]["key"]]


def test_a_damaged_run_is_one_line_and_costs_only_its_rows(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    first = world.run()
    (first.stored.info.folder / "rows.jsonl").write_text("{}\nnothing\n")
    capsys.readouterr()
    second = world.run()
    assert len(second.computed) == len(first.computed)
    assert second.stored.info.exit_code == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"no row of run {first.stored.info.id} is taken" in said
    assert not world.run().computed


def test_a_foreign_file_in_place_of_the_index_costs_nothing(world: World) -> None:
    world.run()
    (world.store.path / "index.sqlite").write_text("no database\n" * 100)
    assert not world.run().computed


def test_only_the_store_in_use_is_looked_at(world: World, tmp_path: Path) -> None:
    first = world.run()
    world.folder = tmp_path / "elsewhere"
    world.folder.mkdir()
    assert len(world.run().computed) == len(first.computed)


def test_an_estimate_leaves_out_what_is_stored(world: World) -> None:
    first = world.run(Selection())
    host = load_host(world.plugins, entry_points=False)
    begun = begin(host, read_suite("toys", host), Selection(), world.resources())
    whole, rest = (estimate(begun.plan, world.store, 1, known) for known in (None, begun.earlier(world.store)))
    assert (whole, rest) == (pytest.approx(0.5 * len(first.stored.rows)), pytest.approx(0.5 * 3))


def test_an_export_names_the_run_that_computed_a_value(world: World) -> None:
    first, second = world.run(), world.run()
    header, line = to_csv(second.stored.rows).splitlines()[:2]
    assert first.stored.info.id in line
    assert "reused_from" in header.split(",")
