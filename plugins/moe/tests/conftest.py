"""Routers by the id of their technique, and tokens to route."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import pytest
import torch
from harness_moe import register_techniques
from hypothesis import settings

from harness.api import Unavailable
from harness.families.route.contract import Layout, Router, RouteTask, RouteTechnique, Tokens
from harness.families.route.experts import RoutedLayer, make_experts
from harness.plan import missing_requirements

settings.load_profile("quick")


TECHNIQUES = {technique.id: technique for technique in register_techniques()}
WIDTH, EXPERTS, HIDDEN, VOCABULARY = 6, 4, 5, 20


def _task(layers, seed):
    return RouteTask(
        width=WIDTH,
        vocabulary=VOCABULARY,
        layers=layers,
        experts=EXPERTS,
        hidden=HIDDEN,
        active=2,
        tokens=32,
        generator=torch.Generator().manual_seed(seed),
    )


def _tokens(count=32, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return Tokens(
        features=scale * torch.randn(count, WIDTH, generator=draw),
        ids=torch.randint(VOCABULARY, (count,), generator=draw),
    )


@dataclass
class Built:
    """A technique, and a layer of it whose gate is sharp enough for loads to be uneven."""

    technique: RouteTechnique
    task: RouteTask
    layout: Layout
    router: Router
    layer: RoutedLayer


def _made(declared, params):
    """The technique, or a skipped test where the machine lacks what it needs."""
    if missing := missing_requirements(declared.requires):
        pytest.skip(f"{', '.join(missing)} is not installed")
    module, _, attribute = declared.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(**{**declared.params, **params})
    except Unavailable as problem:
        pytest.skip(str(problem))


def _build(name, *, seed=0, layers=2, sharp=4.0, **params):
    declared = TECHNIQUES[name]
    technique = _made(declared, params)
    one = _task(layers, seed)
    layout = technique.layout(one)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = technique.router(one, layout)
        layer = RoutedLayer(make_experts(layout, WIDTH), router, layout)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter *= sharp
    return Built(technique, one, layout, router, layer)


def _dense(routing, count, experts=EXPERTS):
    """The weights as a table ``(tokens, experts)``, 0 where a token is not sent."""
    table = routing.weight.new_zeros(count, experts)
    return table.index_put((routing.token, routing.expert), routing.weight)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokens():
    """Tokens by count and seed."""
    return _tokens


@pytest.fixture(scope="session")
def build():
    """A layer by the id of its technique, its gate as sharp as asked, with parameters other than the defaults."""
    return _build


@pytest.fixture(scope="session")
def dense():
    """A routing's weights as a table."""
    return _dense
