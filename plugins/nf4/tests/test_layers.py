"""Layers of every technique that runs here: moved, copied, pickled, saved, and loaded where they belong only."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import pkgutil
from functools import cache
from itertools import permutations

import harness_nf4
import pytest
import torch

from harness.api import Unavailable
from harness.families.quantize.contract import QuantizedLinear, QuantizeTechnique
from harness.plan import missing_requirements


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SPECS = {
    spec.id: spec
    for spec in harness_nf4.register_techniques()
    if spec.contract == "quantize" and not missing_requirements(spec.requires)
}


@cache
def technique(name: str) -> QuantizeTechnique:
    """Return a technique, built where a test first asks for it, as some are compiled then."""
    try:
        built: QuantizeTechnique = pkgutil.resolve_name(SPECS[name].target)(**SPECS[name].params)
    except Unavailable as problem:
        pytest.skip(str(problem))
    return built


WEIGHT, BIAS, X = normal(0, 256, 256), normal(1, 256), normal(2, 3, 256)


def layer(name: str, weight: torch.Tensor = WEIGHT) -> QuantizedLinear:
    return QuantizedLinear(technique(name), technique(name).quantize(weight), BIAS[: len(weight)].clone())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", SPECS)
def test_a_layer_moved_to_another_dtype_gives_the_outputs_it_gave(name, dtype) -> None:
    expected, moved = layer(name)(X), layer(name).to(dtype)
    assert (moved(X) - expected).norm() < 6e-3 * expected.norm()  # of the bias
    found = moved(X.to(dtype))
    assert found.dtype == dtype
    assert (found.double() - expected.double()).norm() < 1e-2 * expected.norm()


@pytest.mark.parametrize("name", SPECS)
def test_a_layer_is_the_same_when_it_is_copied_pickled_saved_or_loaded(name) -> None:
    first = layer(name)
    file, state = io.BytesIO(), io.BytesIO()
    torch.save(first, file)
    torch.save(first.state_dict(), state)
    for stream in (file, state):
        stream.seek(0)
    loaded = layer(name, normal(3, 256, 256))
    loaded.load_state_dict(torch.load(state, weights_only=True))
    again = [
        copy.deepcopy(first), pickle.loads(pickle.dumps(first)), torch.load(file, weights_only=False), loaded
    ]  # fmt: skip
    for other in again:
        assert torch.equal(other(X), first(X))


def test_a_layer_loads_the_state_of_no_other_scheme() -> None:
    layers = {}
    for name in SPECS:
        with contextlib.suppress(pytest.skip.Exception):
            layers[name] = layer(name)
    for name, other in permutations(layers, 2):
        if technique(name).scheme == technique(other).scheme:
            continue
        before = layers[name](X)
        with pytest.raises(RuntimeError, match=r"its state is of|Missing key"):
            layers[name].load_state_dict(layers[other].state_dict())
        assert torch.equal(layers[name](X), before), (name, other)


@pytest.mark.parametrize("name", SPECS)
def test_a_layer_loads_no_weight_of_another_shape_with_as_many_numbers(name) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        layer(name).load_state_dict(layer(name, normal(3, 128, 512)).state_dict())
