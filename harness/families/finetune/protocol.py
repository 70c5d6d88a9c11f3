"""Fine-tuning on handwritten digits: from a base model of 0-4 to 5-9, whatever the architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import CannotStack, CaseContext, Json, OpenCase, Outcome, Phase
from harness.families.finetune import checks
from harness.families.finetune.contract import FinetuneTask, FinetuneTechnique
from harness.families.finetune.serving import Serving
from harness.families.finetune.settings import Settings
from harness.families.finetune.stacking import RepeatedSteps, Training
from harness.judge import training
from harness.judge.architectures import Architecture
from harness.judge.checks import TrainingWatch, require_groups, require_model
from harness.judge.datasets import split
from harness.judge.digits import scaled
from harness.judge.fresh import FreshBatches
from harness.judge.generators import GlobalGenerators
from harness.judge.perturbation import perturb_start
from harness.judge.pretraining import CLASSES, base
from harness.judge.quality import quality
from harness.judge.replay import Buffers
from harness.judge.seeds import generator, global_seed
from harness.judge.settings import read_settings
from harness.judge.timed import RepeatedPrediction, RepeatedStep
from harness.judge.training import Batch, batch_order

LOWEST: Final = 5
HIGHEST: Final = 9
"""The digits of the task."""

HEAD_DEVIATION: Final = 0.02
CHECKED_STEPS: Final = 3
TEST_BATCH: Final = 128


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images: inputs of the model by name, ``(n, ...)``, and int64 ``labels`` ``(n,)``, on the case's device."""

    inputs: Mapping[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Tensor) -> Images:
        """Return the images at ``indices``; a matrix of indices adds an axis of batches in front."""
        return Images(inputs={name: value[indices] for name, value in self.inputs.items()}, labels=self.labels[indices])

    def batches(self) -> Iterator[Batch]:
        """Yield the entries of the first axis as batches."""
        for index in range(len(self)):
            yield {**{name: value[index] for name, value in self.inputs.items()}, "labels": self.labels[index]}

    def batch(self) -> Batch:
        """Return all images as one batch."""
        return {**self.inputs, "labels": self.labels}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The model, task and data of a case; images for validation and test are withheld from the technique."""

    model: nn.Module
    head: Mapping[str, nn.Parameter]
    task: FinetuneTask
    settings: Settings
    train: Images
    validation: Images
    test: Images
    order: Tensor


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A model that a technique has adapted, and the optimiser of all that trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


class DigitsWorkload(Architecture):
    """A `harness.api.Workload`: the protocol for one architecture.

    The seed determines the split, the head's start and the order of batches, for every technique alike: each is drawn
    from a generator of its own. The base model is the same for all seeds.
    """

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are unknown or out of range."""
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Train the base model if the cache lacks it."""
        base(self, context.cache)

    def evaluate(self, technique: FinetuneTechnique, context: CaseContext) -> Outcome:
        """Adapt, train and test. Raises FloatingPointError at the first loss that is not finite."""
        return self._evaluate(technique, context, _fit)

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
            problem, adapted = self._adapt(technique, context)
            perturb_start(training.trained(adapted.optimizer), context)
            with context.phase("train"):
                losses = fit(problem, adapted)
            with context.phase("test"):
                measured = self._quality(adapted.model, problem)
        return Outcome(
            metrics={**measured, **_size(adapted.model, problem.head.values())},
            series={"train_loss": [float(f"{value:.6g}") for value in losses]},
        )

    def open(self, technique: FinetuneTechnique, context: CaseContext) -> OpenCase:
        """Prepare a training step and an inference batch, on images like the first ``batch_size`` of the training.

        Inference uses the merged model. The first call of ``infer`` merges: in place if ``train`` has been released by
        then, else in a copy, as both may be called in turns. What it predicts is held against the model before merging.
        """
        with global_seed(context.seed, context.device):
            problem, adapted = self._adapt(technique, context)
        fresh = FreshBatches(problem.train.at(problem.order[0]).batch())
        loss, max_grad_norm = (
            problem.task.loss,
            problem.settings.max_grad_norm,
        )  # not the problem, which holds all images

        def step(trains: Adapted, images: Batch, _: int) -> None:
            training.step(trains.model, trains.optimizer, images, loss=loss, max_grad_norm=max_grad_norm)

        train = RepeatedStep(adapted, fresh, step)
        serving = Serving(technique, train, self.forward)
        infer = RepeatedPrediction(fresh, serving, serving.expected, before=serving.before)
        samples = problem.settings.batch_size
        return OpenCase(
            phases={
                "train": Phase(run=train, samples=samples, verify=train.verify, refresh=train.refresh),
                "infer": Phase(run=infer, samples=samples, verify=infer.verify, refresh=infer.refresh),
            }
        )

    def check(self, technique: FinetuneTechnique, context: CaseContext) -> None:
        """Adapt, take a few steps and merge. Raises `harness.api.Incorrect` at the first broken invariant."""
        with global_seed(context.seed, context.device):
            problem = self._problem(context)
            batch = problem.train.at(problem.order[0]).batch()
            at_base = self._logits(problem.model, batch)
            head = checks.snapshot(problem.head)
            model = require_model(technique.adapt(problem.model, problem.task), "adapt")
            checks.require_head(model, head)
            if technique.exact_at_start:
                checks.require_start(at_base, self._logits(model, batch))
            optimizer = _optimizer(technique, model, problem)
            frozen, trains = checks.frozen(model), TrainingWatch(model)
            model.train()
            for images in problem.train.at(problem.order[:CHECKED_STEPS]).batches():
                training.step(
                    model, optimizer, images, loss=problem.task.loss, max_grad_norm=problem.settings.max_grad_norm
                )
            steps = min(CHECKED_STEPS, len(problem.order))
            checks.require_unchanged(frozen, steps)
            trains.require(steps)
            trained = self._logits(model, batch)
            merged = require_model(technique.merge(copy.deepcopy(model)), "merge")
            checks.require_merge(trained, self._logits(merged, batch))

    def _adapt(self, technique: FinetuneTechnique, context: CaseContext) -> tuple[Problem, Adapted]:
        with context.phase("load"):
            problem = self._problem(context)
        with context.phase("init"):
            model = technique.adapt(problem.model, problem.task)
        return problem, Adapted(model=model, optimizer=_optimizer(technique, model, problem))

    def _problem(self, context: CaseContext) -> Problem:
        settings = read_settings(Settings, context.settings)
        pretrained = base(self, context.cache)
        digits = pretrained.digits.select(LOWEST, HIGHEST)
        model = self.build(CLASSES)
        model.load_state_dict(pretrained.state)
        self._renew_head(model, generator(context.seed, "head"))
        images = Images(
            inputs={name: value.to(context.device) for name, value in self.inputs(scaled(digits.pixels)).items()},
            labels=(digits.labels.long() - LOWEST).to(context.device),
        )
        parts = split(
            len(images),
            generator(context.seed, "split"),
            train=settings.train_images,
            validation=settings.validation_images,
        )
        train = images.at(parts.train)
        model.to(context.device)
        return Problem(
            model=model,
            head={name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad},
            task=self._task(model, train, settings, context),
            settings=settings,
            train=train,
            validation=images.at(parts.validation),
            test=images.at(parts.test),
            order=batch_order(
                len(train),
                generator(context.seed, "order"),
                steps=settings.steps,
                batch_size=settings.batch_size,
            ),
        )

    def _renew_head(self, model: nn.Module, draw: torch.Generator) -> None:
        """Freeze the backbone and initialise a new head with small random weights."""
        model.requires_grad_(False)
        for name in self.anatomy(model).head:
            for parameter in model.get_submodule(name).parameters():
                parameter.requires_grad_(True)
                with torch.no_grad():
                    if parameter.ndim > 1:
                        parameter.normal_(0, HEAD_DEVIATION, generator=draw)
                    else:
                        parameter.zero_()

    def _task(self, model: nn.Module, train: Images, settings: Settings, context: CaseContext) -> FinetuneTask:
        anatomy = self.anatomy(model)
        size = min(settings.batch_size, len(train))
        order = torch.randperm(len(train), generator=generator(context.seed, "calibration"))
        order = order[: len(train) // size * size].view(-1, size)
        return FinetuneTask(
            linears=anatomy.linears,
            norms=anatomy.norms,
            blocks=anatomy.blocks,
            head=anatomy.head,
            feedforward=anatomy.feedforward,
            classes=CLASSES,
            calibration=lambda: train.at(order).batches(),
            forward=self.forward,
            loss=training.cross_entropy(self.forward),
            generator=generator(context.seed, "technique"),
        )

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        with _evaluating(model), torch.no_grad():
            return self.forward(model, batch)

    def _quality(self, model: nn.Module, problem: Problem) -> dict[str, float]:
        """Return losses and accuracies on train, validation and test images, in batches that fit into the cache."""
        parts = {"train": problem.train, "val": problem.validation, "test": problem.test}
        inputs = {name: torch.cat([part.inputs[name] for part in parts.values()]) for name in problem.train.inputs}
        sizes = [len(part) for part in parts.values()]
        logits = torch.cat(
            [
                self._logits(model, {name: value[start : start + TEST_BATCH] for name, value in inputs.items()})
                for start in range(0, sum(sizes), TEST_BATCH)
            ]
        ).split_with_sizes(sizes)
        targets = {name: part.labels for name, part in parts.items()}
        measured = quality(dict(zip(parts, logits, strict=True)), targets, functional.cross_entropy)
        del measured["train_loss"]  # the series of training losses says more
        return measured


def _fit(problem: Problem, adapted: Adapted) -> list[float]:
    """Train and return the loss of every step."""
    return training.fit(
        adapted.model,
        adapted.optimizer,
        problem.train.at(problem.order).batches(),
        steps=problem.settings.steps,
        loss=problem.task.loss,
        max_grad_norm=problem.settings.max_grad_norm,
    )


def _fit_repeatedly(
    problem: Problem, adapted: Adapted, *, technique: FinetuneTechnique, buffers: Buffers, watched: bool
) -> list[float]:
    """Train as `_fit` does, by repeating a recorded step. Raises CannotStack where that is not the same."""
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
    groups = [{**group, "params": list(group["params"])} for group in technique.parameter_groups(model, settings.lr)]
    require_groups(model, list(problem.head.values()), groups)
    head = {"params": list(problem.head.values()), "lr": settings.head_lr}
    return training.adamw([head, *groups], settings.weight_decay)


def _size(model: nn.Module, head: Iterable[nn.Parameter]) -> dict[str, float]:
    """Return the numbers of parameters, each counted once, and the bytes of the trainable ones."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in trained)
    return {
        "trainable_parameters": count,
        "adapter_parameters": count - sum(parameter.numel() for parameter in head),
        "total_parameters": sum(parameter.numel() for parameter in model.parameters()),
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
