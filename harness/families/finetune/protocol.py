"""The protocol of fine-tuning, whatever the model and the data: adapt, train, test, time, check."""

from __future__ import annotations

import copy
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from harness.api import CannotStack, CaseContext, Json, NotApplicable, OpenCase, Outcome, Phase, Trial
from harness.families.finetune import checks
from harness.families.finetune.contract import FinetuneTask, FinetuneTechnique
from harness.families.finetune.examples import tokens_in
from harness.families.finetune.keeping import Kept, keep
from harness.families.finetune.problem import Adapted, Material, Problem
from harness.families.finetune.scores import quality_of, scores_of
from harness.families.finetune.serving import Serving
from harness.families.finetune.stacking import RepeatedSteps, Training
from harness.families.finetune.trial import Attempt, counted, tried
from harness.judge import graphs, training
from harness.judge.base_checks import require_packed
from harness.judge.bases import packed_layers, train_in_float32
from harness.judge.checks import TrainingWatch, groups_of, require_groups, require_model
from harness.judge.experts import UsedExperts
from harness.judge.factors import ANEW, Factors
from harness.judge.fresh import FreshBatches
from harness.judge.generators import GlobalGenerators
from harness.judge.perturbation import perturb_start
from harness.judge.replay import Buffers
from harness.judge.seeds import generator, global_seed
from harness.judge.timed import OUTPUTS_DIFFER, RepeatedPrediction, RepeatedStep
from harness.judge.training import Batch, batch_order

HEAD_DEVIATION: Final = 0.02
CHECKED_STEPS: Final = 3
NOTHING_TRAINS: Final = "nothing trains: the model keeps its own output, so there is no new head to train alone"


class FinetuneWorkload(ABC):
    """A `harness.api.Workload`: the protocol, whatever the model and the data, which a subclass provides.

    The seed determines the split, the head's start and the order of batches, for every technique alike: each is drawn
    from a generator of its own. The base model is the same for all seeds.
    """

    @abstractmethod
    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""

    @abstractmethod
    def prepare(self, context: CaseContext) -> None:
        """Make what all cases share and the cache lacks."""

    @abstractmethod
    def material(self, context: CaseContext) -> Material:
        """Return the model and the data of a case, on its device; the head is renewed afterwards."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of a batch, ``(batch, classes)``, or ``(batch, length, classes)`` of sequences."""

    def evaluate(self, technique: FinetuneTechnique, context: CaseContext) -> Outcome:
        """Adapt, train and test. Raises FloatingPointError at the first loss that is not finite."""
        return self._evaluate(technique, context, _fit)

    def trial(self, technique: FinetuneTechnique, context: CaseContext) -> Trial:
        """Return what a technique costs, after a few steps and batches of the test."""
        return tried(Attempt(adapt=partial(self._adapt, technique), predict=self._logits), context)

    def counts(self, context: CaseContext) -> Mapping[str, float]:
        """Return how many steps and batches of the test a case takes."""
        with global_seed(context.seed, context.device):
            return counted(self._problem(context))

    def evaluate_stacked(
        self, techniques: Sequence[FinetuneTechnique], contexts: Sequence[CaseContext]
    ) -> list[Outcome]:
        """Return the outcome of `evaluate` for each technique in its context, trained by repeating a recorded step.

        Raises `harness.api.CannotStack` where that would change a number.
        """
        generators = GlobalGenerators(contexts[0].device)
        buffers = Buffers()
        outcomes = []
        for number, (technique, context) in enumerate(zip(techniques, contexts, strict=True)):
            fit = partial(_fit_repeatedly, technique=technique, buffers=buffers, watched=number == 0)
            outcomes.append(self._evaluate(technique, context, fit))
        generators.require_untouched()
        return outcomes

    def _evaluate(
        self,
        technique: FinetuneTechnique,
        context: CaseContext,
        fit: Callable[[Problem, Adapted], list[float]],
    ) -> Outcome:
        with global_seed(context.seed, context.device):
            problem, adapted = self._adapt(technique, context, Factors(context.cache))
            perturb_start(training.trained(adapted.optimizer), context)
            with context.phase("train"):
                losses = fit(problem, adapted)
            with context.phase("test"):
                measured = self._quality(adapted.model, problem)
            notes = [*problem.material.notes, *self._kept(technique, adapted.model, problem, context)]
        return Outcome(
            metrics={**measured, **_size(adapted.model, problem.head.values())},
            series={"train_loss": [float(f"{value:.6g}") for value in losses]},
            notes=notes,
        )

    def _kept(
        self, technique: FinetuneTechnique, model: nn.Module, problem: Problem, context: CaseContext
    ) -> Sequence[str]:
        """Save the adapter and the head where they are to be kept; return a note of what was not."""
        if context.keep is None:
            return []
        factors = Factors(context.cache)
        base = partial(self._problem, context, factors)
        return keep(technique, model, problem, Kept(folder=context.keep, base=lambda: base().model))

    def open(self, technique: FinetuneTechnique, context: CaseContext) -> OpenCase:
        """Prepare a training step and an inference batch, on examples like those of `Examples.measured` for the lane.

        Inference uses the merged model. The first call of ``infer`` merges: in place if ``train`` has been released by
        then, else in a copy, as both may be called in turns. What it predicts is held against the model before merging.
        """
        with global_seed(context.seed, context.device):
            problem, adapted = self._adapt(technique, context)  # with factors that are computed anew
        shown = problem.train.measured(problem.order, context.lane).batch()
        fresh = FreshBatches(shown)
        loss, max_grad_norm = problem.loss, problem.settings.max_grad_norm  # not the problem, which holds all examples

        def step(trains: Adapted, batch: Batch, _: int) -> None:
            training.step(trains.model, trains.optimizer, batch, loss=loss, max_grad_norm=max_grad_norm)

        captured = graphs.asked(technique, context.device)
        train = RepeatedStep(adapted, fresh, step, captured=captured)
        serving = Serving(technique, train, self.forward, captured=captured)
        infer = RepeatedPrediction(
            fresh,
            serving,
            serving.expected,
            before=serving.before,
            tolerance=max(OUTPUTS_DIFFER, checks.tolerance_of(problem.dtype)),
        )
        samples, tokens = problem.settings.batch_size, tokens_in(shown)
        return OpenCase(
            figures=partial(_token_rates, tokens) if tokens else None,
            phases={
                "train": Phase(run=train, samples=samples, verify=train.verify, refresh=train.refresh),
                "infer": Phase(run=infer, samples=samples, verify=infer.verify, refresh=infer.refresh),
            },
        )

    def check(self, technique: FinetuneTechnique, context: CaseContext) -> None:
        """Adapt, take a few steps and merge. Raises `harness.api.Incorrect` at the first broken invariant."""
        with global_seed(context.seed, context.device):
            problem = self._problem(context, Factors(context.cache, thorough=True))
            batch = problem.train.at(problem.order[0]).batch()
            require_packed(problem.model, context.seed)
            at_base = self._logits(problem.model, batch)
            head = checks.snapshot(problem.head)
            model = require_model(technique.adapt(problem.model, problem.task), "adapt")
            checks.require_head(model, head)
            if technique.exact_at_start:  # before the judge changes dtypes, and so how the model rounds
                checks.require_start(at_base, self._logits(model, batch), problem.dtype)
            _train_in_float32(model, problem)
            optimizer = _optimizer(technique, model, problem)
            frozen, trains, used = checks.frozen(model), TrainingWatch(model), UsedExperts(model)
            model.train()
            loss, max_grad_norm = problem.loss, problem.settings.max_grad_norm
            for of_step in problem.train.at(problem.order[:CHECKED_STEPS]).batches():
                training.step(model, optimizer, of_step, loss=loss, max_grad_norm=max_grad_norm)
            steps = min(CHECKED_STEPS, len(problem.order))
            checks.require_unchanged(frozen, steps)
            trains.require(steps, used.seldom())
            trained = self._logits(model, batch)
            merged = require_model(technique.merge(copy.deepcopy(model)), "merge")
            checks.require_merge(trained, self._logits(merged, batch), problem.dtype)

    def _adapt(
        self, technique: FinetuneTechnique, context: CaseContext, factors: Factors = ANEW
    ) -> tuple[Problem, Adapted]:
        with context.phase("load"):
            problem = self._problem(context, factors)
        with context.phase("init"):
            model = technique.adapt(problem.model, problem.task)
            _train_in_float32(model, problem)
        return problem, Adapted(model=model, optimizer=_optimizer(technique, model, problem))

    def _problem(self, context: CaseContext, factors: Factors = ANEW) -> Problem:
        material = self.material(context)
        model, settings, train = material.model, material.settings, material.train
        _renew_head(model, material.anatomy.head, generator(context.seed, "head"))
        draw = generator(context.seed, "order")
        order = batch_order(len(train), draw, steps=settings.steps, batch_size=settings.batch_size)
        return Problem(
            model=model,
            head={name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad},
            task=replace(self._task(material, context), factors=factors),
            order=train.bucketed(order, draw),
            material=material,
        )

    def _task(self, material: Material, context: CaseContext) -> FinetuneTask:
        anatomy, train = material.anatomy, material.train
        size = min(material.settings.batch_size, len(train))
        order = torch.randperm(len(train), generator=generator(context.seed, "calibration"))
        order = order[: len(train) // size * size].view(-1, size)
        return FinetuneTask(
            linears=anatomy.linears,
            norms=anatomy.norms,
            blocks=anatomy.blocks,
            head=anatomy.head,
            feedforward=anatomy.feedforward,
            keys=anatomy.keys,
            values=anatomy.values,
            fused=anatomy.fused,
            rows=anatomy.rows,
            packed=tuple(packed_layers(material.model)),
            classes=material.classes,
            kind=material.kind,
            calibration=lambda: train.at(order).batches(),
            forward=self.forward,
            loss=training.cross_entropy(self.forward),
            generator=generator(context.seed, "technique"),
        )

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        with _evaluating(model), torch.no_grad():
            return self.forward(model, batch)

    def _quality(self, model: nn.Module, problem: Problem) -> dict[str, float]:
        """Return what `metrics_of` does, and what a model lost of what it could do before."""
        material = problem.material

        def predict(batch: Batch) -> Tensor:
            return self._logits(model, batch)

        measured = self.metrics_of(quality_of(predict, problem.parts, material.test_batch))
        if (retained := material.retained) is not None:
            after = scores_of(predict, retained.examples, material.test_batch).loss
            measured["retention_loss"] = after - retained.before
        return measured

    def metrics_of(self, quality: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics that follow from accuracy and loss on training, validation and test data."""
        return {name: value for name, value in quality.items() if name != "train_loss"}  # its series says more


def _token_rates(tokens: int, seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the tokens a second of each phase."""
    return {f"{phase}_tokens": tokens / statistics.median(taken) for phase, taken in seconds.items()}


def _renew_head(model: nn.Module, head: Sequence[str], draw: torch.Generator) -> None:
    """Freeze the backbone and initialise a new head with small random weights."""
    model.requires_grad_(False)
    for name in head:
        for parameter in model.get_submodule(name).parameters():
            parameter.requires_grad_(True)
            parameter.data = parameter.data.float()  # as all that trains
            with torch.no_grad():
                if parameter.ndim > 1:  # drawn on the CPU, where the generator is
                    parameter.copy_(torch.empty(parameter.shape).normal_(0, HEAD_DEVIATION, generator=draw))
                else:
                    parameter.zero_()


def _train_in_float32(model: nn.Module, problem: Problem) -> None:
    """Make all that trains float32 where the base is not; elsewhere its dtypes are the technique's."""
    if problem.dtype != torch.float32:
        train_in_float32(model)


def _fit(problem: Problem, adapted: Adapted) -> list[float]:
    """Train and return the loss of every step."""
    return training.fit(
        adapted.model,
        adapted.optimizer,
        problem.train.at(problem.order).batches(),
        steps=problem.settings.steps,
        loss=problem.loss,
        max_grad_norm=problem.settings.max_grad_norm,
    )


def _fit_repeatedly(
    problem: Problem, adapted: Adapted, *, technique: FinetuneTechnique, buffers: Buffers, watched: bool
) -> list[float]:
    """Train as `_fit` does, by repeating a recorded step. Raises CannotStack where that is not the same."""
    if problem.settings.micro_batch:
        raise CannotStack("its steps are taken in micro-batches")
    given = Training(
        model=adapted.model.train(),
        optimizer=adapted.optimizer,
        loss=problem.task.loss,
        max_grad_norm=problem.settings.max_grad_norm,
        steps=problem.settings.steps,
        draw=problem.task.generator,
        technique=technique,
    )
    steps = RepeatedSteps(given, buffers, watched=watched)
    try:
        return training.fit_by(
            steps, adapted.optimizer, problem.train.at(problem.order).batches(), steps=problem.settings.steps
        )
    except FloatingPointError as error:  # which is that case's alone
        raise CannotStack(str(error)) from error


def _optimizer(technique: FinetuneTechnique, model: nn.Module, problem: Problem) -> torch.optim.Optimizer:
    """Return the optimiser of head and technique. Raises Incorrect where the groups are not just what trains."""
    settings = problem.settings
    groups = groups_of(technique.parameter_groups(model, settings.lr))
    require_groups(model, list(problem.head.values()), groups)
    if not problem.head and not any(group["params"] for group in groups):
        raise NotApplicable(NOTHING_TRAINS)
    head = [{"params": list(problem.head.values()), "lr": settings.head_lr}] if problem.head else []
    return training.adamw([*head, *groups], settings.weight_decay)


def _size(model: nn.Module, head: Iterable[nn.Parameter]) -> dict[str, float]:
    """Return the numbers of parameters, each counted once, and the bytes of the trainable ones."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in trained)
    packed = sum(layer.in_features * layer.out_features for layer in packed_layers(model).values())
    return {
        "trainable_parameters": count,
        "adapter_parameters": count - sum(parameter.numel() for parameter in head),
        "total_parameters": sum(parameter.numel() for parameter in model.parameters()) + packed,
        "checkpoint_bytes": sum(parameter.numel() * parameter.element_size() for parameter in trained),
    }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep the model in evaluation mode within the context."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
