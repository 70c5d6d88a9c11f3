"""Small models of both kinds, techniques by name, and decoding on them."""

from __future__ import annotations

import importlib

import pytest
import torch
from harness_speculative import register_techniques
from hypothesis import settings

from harness.families.decode.contract import Models, Sampling, Trace
from harness.families.decode.models import Shape, TextModel
from harness.families.decode.tables import tables

settings.load_profile("quick")


TECHNIQUES = {technique.id: technique for technique in register_techniques()}
VOCABULARY = 11


def text_model(layers=3, width=16, seed=0, **shape):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape = {"heads": 4, "kv_heads": 4, "exit_layer": 1, "extra_heads": 3, **shape}
        model = TextModel(Shape(vocabulary=VOCABULARY, width=width, layers=layers, **shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model.requires_grad_(False).eval()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def table_models():
    """Tables whose drafts are near the target or far from it."""

    def make(apart=0.7, seed=0):
        return tables(torch.Generator().manual_seed(seed), apart=apart)

    return make


@pytest.fixture(scope="session")
def text_models():
    """Untrained transformers with sharp opinions."""
    draft = {"exit_layer": 0, "extra_heads": 0}
    drafts = {"tiny": text_model(layers=0, seed=1, **draft), "small": text_model(layers=1, seed=2, **draft)}
    return Models(target=text_model(), drafts=drafts)


@pytest.fixture(scope="session")
def build():
    """A technique by id, with parameters other than its own defaults where named."""

    def make(name, **params):
        declared = TECHNIQUES[name]
        module, _, attribute = declared.target.partition(":")
        return getattr(importlib.import_module(module), attribute)(**{**declared.params, **params})

    return make


@pytest.fixture(scope="session")
def decode():
    """The text of a technique, on some models."""

    def run(technique, models, prompt=(1, 2, 3, 1, 2), count=12, seed=0, trace=None, **sampling):
        decoder = technique.open(models, Sampling(**sampling))
        with torch.inference_mode():
            return decoder(list(prompt), count, torch.Generator().manual_seed(seed), trace or Trace())

    return run
