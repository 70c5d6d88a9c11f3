"""Small models with every kind of place, a task for each, and a way to train on it."""

from __future__ import annotations

import functools
import importlib
from dataclasses import asdict, dataclass, field

import pytest
import torch
from harness_dropout import register_techniques
from hypothesis import settings

from harness.families.regularize.contract import RegularizeTask
from harness.families.regularize.models import ConvNet, Mlp, SequenceClassifier

settings.load_profile("quick")


TECHNIQUES = {technique.id: technique for technique in register_techniques()}
CLASSES, EXAMPLES, BATCH, EPOCHS = 4, 24, 12, 4
STEPS = EPOCHS * EXAMPLES // BATCH
LR = 1e-2

MODELS = {
    "mlp": (lambda: Mlp([6, 12, 8], CLASSES), (6,)),
    "conv": (lambda: ConvNet(8, 4, CLASSES, blocks=2, width=8), (1, 8, 8)),
    "rnn": (lambda: SequenceClassifier(5, 7, CLASSES), (6, 5)),
}


def forward(model, inputs):
    return model(inputs)


@dataclass
class Problem:
    """A model at its start, and batches."""

    kind: str
    seed: int = 3
    model: torch.nn.Module = field(init=False)
    task: RegularizeTask = field(init=False)

    def __post_init__(self):
        build, shape = MODELS[self.kind]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.model = build()
            self.inputs = torch.randn(EXAMPLES, *shape)
            self.targets = torch.randint(CLASSES, (EXAMPLES,))
        self.task = RegularizeTask(
            **asdict(self.model.places()),
            classes=CLASSES,
            examples=EXAMPLES,
            batch_size=BATCH,
            epochs=EPOCHS,
            steps=STEPS,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def attached(self, technique):
        self.model = technique.attach(self.model, self.task).train()
        return self.model

    def train(self, technique, steps=STEPS):
        """Attach and train as the judge does; the losses."""
        model = self.attached(technique)
        optimizer = torch.optim.AdamW(technique.parameter_groups(model, LR), weight_decay=0.0)
        losses = []
        for step in range(steps):
            at = slice((step * BATCH) % EXAMPLES, (step * BATCH) % EXAMPLES + BATCH)
            inputs, targets = technique.batch(self.inputs[at], self.targets[at])
            optimizer.zero_grad()
            loss = technique.loss(model, inputs, targets, forward)
            loss.backward()
            technique.before_update(model, step)
            optimizer.step()
            technique.after_update(model, step)
            losses.append(loss.item())
        with torch.no_grad():
            technique.finish(model)
        model.eval()
        return losses

    def predicted(self, technique):
        with torch.no_grad():
            return technique.predict(self.model.eval(), self.inputs, forward)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def problem():
    return Problem


@pytest.fixture(scope="session")
def build():
    """A technique by id, with parameters other than its own defaults where named."""

    def make(name, **params):
        declared = TECHNIQUES[name]
        module, _, attribute = declared.target.partition(":")
        return getattr(importlib.import_module(module), attribute)(**{**declared.params, **params})

    return make


@pytest.fixture(scope="session")
def trained(problem, build):
    """A technique and the problem it was trained on, once for all tests that only look."""

    @functools.cache
    def train(name, kind):
        one, technique = problem(kind), build(name)
        global_state = torch.get_rng_state()
        one.losses = one.train(technique)
        one.prediction = one.predicted(technique)
        one.drew_elsewhere = not torch.equal(torch.get_rng_state(), global_state)
        return one, technique

    return train
