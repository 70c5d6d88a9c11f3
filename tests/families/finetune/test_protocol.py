"""The protocol of fine-tuning: what the seed settles, what is counted, what is measured."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.api import Incorrect, NotApplicable, UsageError
from harness.families.finetune.contract import FinetuneTechnique
from harness.families.finetune.digits import DigitsWorkload
from harness.families.finetune.problem import Problem
from harness.judge import timed
from tests.families.conftest import Context
from tests.families.finetune.techniques import Exactly, Honest, LeavesOut, NotExactAndSaysSo, Nothing, Poisoned
from tests.families.timed import found_in_time

BACKBONE = {"digits-mlp": 41_344, "digits-split": 68_544}
HEAD = {"digits-mlp": 128 * 5 + 5, "digits-split": 64 * 5 + 5}
SHORT = {"steps": 6}


class TestTheSeed:
    def test_settles_every_number_to_the_bit(self, workload: DigitsWorkload, name: str, context: Context) -> None:
        torch.manual_seed(1)
        first = workload.evaluate(Honest(), context(name, 3, **SHORT))
        torch.manual_seed(2)
        assert workload.evaluate(Honest(), context(name, 3, **SHORT)) == first

    def test_makes_a_difference(self, mlp: DigitsWorkload, context: Context) -> None:
        first, second = (mlp.evaluate(Honest(), context(seed=seed, **SHORT)) for seed in (1, 2))
        assert first.series["train_loss"] != second.series["train_loss"]

    def test_settles_batches_and_head_whatever_a_technique_draws(
        self, workload: DigitsWorkload, name: str, context: Context
    ) -> None:
        calm, greedy = Nothing(), Nothing(draws=1000)
        assert workload.evaluate(calm, context(name, **SHORT)) == workload.evaluate(greedy, context(name, **SHORT))
        assert len(calm.seen) == 6
        assert all(torch.equal(one, other) for one, other in zip(calm.seen, greedy.seen, strict=True))
        assert all(torch.equal(calm.start[key], greedy.start[key]) for key in calm.start)

    def test_moves_the_head_and_leaves_the_backbone(
        self, workload: DigitsWorkload, name: str, context: Context
    ) -> None:
        first, second = Nothing(), Nothing()
        workload.evaluate(first, context(name, 1, **SHORT))
        workload.evaluate(second, context(name, 2, **SHORT))
        moved = {key for key in first.start if not torch.equal(first.start[key], second.start[key])}
        assert moved == {f"{first.task.head[0]}.weight"}

    def test_settles_the_split_the_order_and_the_techniques_own_generator(
        self, mlp: DigitsWorkload, context: Context
    ) -> None:
        one, again, other = (mlp._problem(context(seed=seed)) for seed in (1, 1, 2))

        def drawn(problem: Problem) -> list[torch.Tensor]:
            images = [part.inputs["features"] for part in (problem.train, problem.validation, problem.test)]
            return [*images, problem.order, torch.rand(3, generator=problem.task.generator)]

        ones = drawn(one)
        assert all(torch.equal(*pair) for pair in zip(ones, drawn(again), strict=True))
        assert not any(torch.equal(*pair) for pair in zip(ones, drawn(other), strict=True))

    def test_leaves_the_global_generator_alone(self, mlp: DigitsWorkload, context: Context) -> None:
        state = torch.get_rng_state()
        mlp.evaluate(Honest(), context(**SHORT))
        mlp.check(Honest(), context())
        mlp.open(Honest(), context())
        assert torch.equal(torch.get_rng_state(), state)


class TestTheSettings:
    @pytest.fixture
    def curve(self, mlp: DigitsWorkload, context: Context):
        def run(technique: FinetuneTechnique, **settings: float) -> Sequence[float]:
            return mlp.evaluate(technique, context(**SHORT, **settings)).series["train_loss"]

        return run

    def test_train_the_head_at_its_own_rate(self, curve) -> None:
        assert curve(Nothing(), lr=0.5) == curve(Nothing(), lr=1e-3)
        assert curve(Nothing(), head_lr=0.5) != curve(Nothing(), head_lr=1e-3)

    def test_train_the_technique_at_the_rate_that_is_tuned(self, curve) -> None:
        assert curve(Honest(), lr=0.5) != curve(Honest(), lr=1e-3)

    @pytest.mark.parametrize("name", ["max_grad_norm", "weight_decay"])
    def test_reach_the_optimiser(self, curve, name: str) -> None:
        assert curve(Honest(), **{name: 0.5}) != curve(Honest(), **{name: 1e-6})

    def test_say_how_many_images_serve_for_what(self, mlp: DigitsWorkload, context: Context) -> None:
        problem = mlp._problem(context(steps=7, batch_size=5, train_images=40, validation_images=30))
        assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [40, 30, 826]
        assert problem.order.shape == (7, 5)


class TestWhatATechniqueIsTold:
    @pytest.fixture
    def told(self, workload: DigitsWorkload, name: str, context: Context) -> Nothing:
        technique = Nothing()
        workload.evaluate(technique, context(name, steps=40))
        return technique

    def test_only_the_head_trains_at_first(self, told: Nothing, workload: DigitsWorkload, context: Context) -> None:
        trains: list[str] = []

        class Asking(Nothing):
            def adapt(self, model, task):
                trains.extend(name for name, parameter in model.named_parameters() if parameter.requires_grad)
                return super().adapt(model, task)

        workload.evaluate(Asking(), context(workload.name, **SHORT))
        assert trains == [f"{told.task.head[0]}.weight", f"{told.task.head[0]}.bias"]

    def test_the_named_parts_are_what_they_are_called(self, told: Nothing, workload: DigitsWorkload) -> None:
        model = workload.build(5)
        kinds = {kind: {type(model.get_submodule(name)) for name in getattr(told.task, kind)} for kind in (
            "linears", "feedforward", "norms", "head",
        )}  # fmt: skip
        assert kinds["linears"] == kinds["feedforward"] == kinds["head"] == {nn.Linear}
        assert kinds["norms"] <= {nn.LayerNorm}
        assert set(told.task.feedforward) < set(told.task.linears)
        assert not set(told.task.head) & set(told.task.linears)

    def test_a_block_gives_a_tensor_of_the_models_width(self, told: Nothing, workload: DigitsWorkload) -> None:
        model = workload.build(5)
        shapes = []
        for name in told.task.blocks:
            model.get_submodule(name).register_forward_hook(lambda _, __, output: shapes.append(output.shape))
        workload.forward(model, next(told.task.calibration()))
        assert len(shapes) == len(told.task.blocks) > 0
        assert {shape[-1] for shape in shapes} == {model.get_submodule(told.task.head[0]).in_features}

    def test_calibration_shows_training_images_only_and_the_same_each_time(self, told: Nothing) -> None:
        batches = [list(told.task.calibration()) for _ in range(2)]
        shown = [{name: value for name, value in batch.items() if name != "labels"} for batch in batches[0]]
        images = {tuple(row.flatten().tolist()) for batch in shown for value in batch.values() for row in value}
        again = [value for batch in batches[1] for name, value in batch.items() if name != "labels"]
        assert all(torch.equal(*pair) for pair in zip((v for b in shown for v in b.values()), again, strict=True))
        (size,) = {len(batch["labels"]) for batch in batches[0]}
        assert size in (16, 32)
        assert len(batches[0]) == 300 // size
        if told.task.linears[0].startswith("layers.0"):  # the perceptron's first linear sees the images themselves
            trained = {tuple(row.tolist()) for batch in told.seen for row in batch}
            assert len(images) == 288
            assert images <= trained

    def test_its_loss_is_the_cross_entropy_of_its_logits(self, told: Nothing, workload: DigitsWorkload) -> None:
        model = workload.build(5)
        batch = next(told.task.calibration())
        logits = told.task.forward(model, batch).double()
        expected = -torch.log_softmax(logits, 1)[torch.arange(len(logits)), batch["labels"]].mean()
        assert told.task.loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


class TestWhatIsCounted:
    @pytest.mark.parametrize("count", [0, 1, 977, 123_457])
    def test_exactly_the_numbers_that_train(
        self, workload: DigitsWorkload, name: str, context: Context, count: int
    ) -> None:
        metrics = workload.evaluate(Exactly(count), context(name, steps=2)).metrics
        assert metrics["adapter_parameters"] == count
        assert metrics["trainable_parameters"] == count + HEAD[name]
        assert metrics["total_parameters"] == count + HEAD[name] + BACKBONE[name]
        assert metrics["checkpoint_bytes"] == 4 * (count + HEAD[name])

    def test_a_shared_parameter_once(self, mlp: DigitsWorkload, context: Context) -> None:
        class Tied(Exactly):
            def adapt(self, model, task):
                model = super().adapt(model, task)
                model.get_submodule(task.linears[1]).numbers = self.layer.numbers
                return model

        assert mlp.evaluate(Tied(50), context(steps=2)).metrics["adapter_parameters"] == 50

    def test_half_the_bytes_in_half_precision(self, mlp: DigitsWorkload, context: Context) -> None:
        class Half(Exactly):
            def adapt(self, model, task):
                model = super().adapt(model, task)
                self.layer.numbers = nn.Parameter(self.layer.numbers.bfloat16())
                return model

        assert mlp.evaluate(Half(100), context(steps=2)).metrics["checkpoint_bytes"] == 4 * HEAD["digits-mlp"] + 200


class TestQuality:
    def test_is_what_a_plain_loop_finds(self, workload: DigitsWorkload, name: str, context: Context) -> None:
        """Accuracy and loss again, image by image in float64, from the model that was trained."""
        kept: list[nn.Module] = []

        class Keeps(Nothing):
            def adapt(self, model, task):
                kept.append(model)
                return super().adapt(model, task)

        case = context(name, steps=30)
        metrics = workload.evaluate(Keeps(), case).metrics
        problem = workload._problem(case)
        model = kept[0].double().eval()
        for prefix, part in (("", problem.test), ("val_", problem.validation), ("train_", problem.train)):
            right, loss = 0, 0.0
            for batch in part.at(torch.arange(len(part)).view(-1, 1)).batches():
                inputs = {key: value.double() for key, value in batch.items() if key != "labels"}
                chances = torch.softmax(self.logits(model, inputs), 1)[0]
                right += int(chances.argmax() == batch["labels"][0])
                loss -= math.log(chances[batch["labels"][0]])
            assert metrics[f"{prefix}accuracy"] == pytest.approx(100 * right / len(part), abs=0.21)
            if prefix != "train_":
                assert metrics[f"{prefix}loss"] == pytest.approx(loss / len(part), rel=1e-4)

    @staticmethod
    def logits(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            found = model(**inputs)
        return found if isinstance(found, torch.Tensor) else found.logits

    def test_the_seed_keeps_test_images_from_training(self, mlp: DigitsWorkload, context: Context) -> None:
        problem = mlp._problem(context())
        parts = [
            {tuple(row.tolist()) for row in part.inputs["features"]}
            for part in (problem.train, problem.validation, problem.test)
        ]
        assert [len(part) for part in parts] == [300, 200, 396]
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]

    def test_the_curve_has_a_loss_for_every_step(self, mlp: DigitsWorkload, context: Context) -> None:
        curve = mlp.evaluate(Honest(), context(steps=25)).series["train_loss"]
        assert len(curve) == 25
        assert all(value == float(f"{value:.6g}") for value in curve)
        assert curve[0] == pytest.approx(math.log(5), abs=0.2)
        assert curve[-1] < curve[0]

    def test_a_loss_that_is_no_number_ends_the_case(
        self, workload: DigitsWorkload, name: str, context: Context
    ) -> None:
        with pytest.raises(FloatingPointError, match=r"^loss is nan at step 4$"):
            workload.evaluate(Poisoned(steps=3), context(name, **SHORT))

    def test_groups_that_leave_something_out_are_refused(self, mlp: DigitsWorkload, context: Context) -> None:
        with pytest.raises(Incorrect, match="leave out"):
            mlp.evaluate(LeavesOut(), context(**SHORT))

    def test_not_applicable_passes_through(self, mlp: DigitsWorkload, context: Context) -> None:
        class Refuses(Nothing):
            def adapt(self, model, task):
                raise NotApplicable("nothing to act on")

        for act in (mlp.evaluate, mlp.open, mlp.check):
            with pytest.raises(NotApplicable):
                act(Refuses(), context(**SHORT))

    def test_settings_that_make_no_sense_are_refused(self, mlp: DigitsWorkload, context: Context) -> None:
        with pytest.raises(UsageError, match="setting steps"):
            mlp.evaluate(Honest(), context(steps=0))

    def test_phases_are_timed_in_their_order(self, mlp: DigitsWorkload, context: Context) -> None:
        entered: list[str] = []

        @contextmanager
        def phase(name: str):
            entered.append(name)
            yield

        mlp.evaluate(Honest(), replace(context(**SHORT), phase=phase))
        assert entered == ["load", "init", "train", "test"]


class TestTrial:
    def test_names_its_phases_and_samples(self, workload: DigitsWorkload, name: str, context: Context) -> None:
        trial = workload.open(Honest(), context(name, batch_size=16))
        assert {name: phase.samples for name, phase in trial.phases.items()} == {"train": 16, "infer": 16}

    def test_a_step_updates_the_optimiser_and_stays_near_where_it_is(
        self, mlp: DigitsWorkload, context: Context
    ) -> None:
        train = mlp.open(Honest(), context()).phases["train"].run
        model, optimizer = train.trains.model, train.trains.optimizer
        before = [parameter.detach().clone() for parameter in model.parameters()]
        for _ in range(3):
            train()
        assert {int(state["step"]) for state in optimizer.state.values()} == {3}
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
        for old, parameter in zip(before, model.parameters(), strict=True):
            assert torch.equal(old, parameter) is not parameter.requires_grad
            assert torch.allclose(old, parameter, rtol=0, atol=1e-5)

    def test_a_merge_is_held_against_the_weights_that_were_merged(
        self, mlp: DigitsWorkload, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timed, "OF_THE_RATE", 0.1)  # steps in the warm-up move the weights visibly
        assert found_in_time(mlp, Honest(), context()) == ""

    @pytest.mark.parametrize(
        "technique", [Honest, NotExactAndSaysSo, Nothing], ids=lambda technique: technique.__name__
    )
    def test_inference_is_that_of_the_model_as_merged(
        self, workload: DigitsWorkload, name: str, context: Context, technique: type[FinetuneTechnique]
    ) -> None:
        trial = workload.open(technique(), context(name))
        train, infer = trial.phases["train"].run, trial.phases["infer"].run
        batch, logits = infer()
        with torch.no_grad():
            expected = workload.forward(train.trains.model.eval(), batch)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        assert not logits.requires_grad
        assert not any("added" in key for key in infer.predict._model.state_dict())

    def test_phases_may_be_called_in_turns(self, workload: DigitsWorkload, name: str, context: Context) -> None:
        trial = workload.open(Honest(), context(name))
        train, infer = trial.phases["train"].run, trial.phases["infer"].run
        batch, logits = infer()
        first = logits.clone()
        batch = {name: value.clone() for name, value in batch.items()}
        train()
        infer()
        train()
        assert torch.equal(infer.predict(batch), first)
        assert any("added" in key for key, _ in train.trains.model.named_parameters())

    def test_inference_holds_nothing_of_a_training_let_go(self, mlp: DigitsWorkload, context: Context) -> None:
        phases = dict(mlp.open(Honest(), context()).phases)
        phases["train"].run()
        trains = phases["train"].run.trains
        weights = [weakref.ref(parameter) for parameter in trains.model.parameters()]
        optimizer = weakref.ref(trains.optimizer)
        del trains
        del phases["train"]
        gc.collect()
        assert optimizer() is None
        served = phases["infer"].run
        served()
        gc.collect()
        alive = [weight() for weight in weights if weight() is not None]
        kept = list(served.predict._model.parameters())
        assert len(alive) == len(weights) - 1  # what was added is folded into the weight
        assert {id(parameter) for parameter in alive} == {id(parameter) for parameter in kept}
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in kept)
