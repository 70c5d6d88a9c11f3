"""Our wrappers of other libraries beside plain calls of these libraries, which ``docs/peers.md`` lists."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness_nf4
import pytest
import torch

from harness.api import Unavailable
from harness.families.quantize.checks import require_correct
from harness.plan import missing_requirements
from harness.testing import require_parity

TECHNIQUES = {technique.id: technique for technique in harness_nf4.register_techniques()}
PEERS = ("bf16", "bitsandbytes", "bitsandbytes-eval", "torchao", "int4pack", "int8pack", "int8cast")
COLUMNS = 1536
PAGE = Path(__file__).parents[3] / "docs/peers.md"

Made = Callable[[], tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]]


def built(name: str) -> Any:
    spec = TECHNIQUES[name]
    if missing := missing_requirements(spec.requires):
        pytest.skip(f"{', '.join(missing)} is not installed")
    try:
        return pkgutil.resolve_name(spec.target)(**spec.params)
    except Unavailable as problem:
        pytest.skip(str(problem))


def product(plain_calls: Callable[..., Any], name: str, inputs: int) -> Made:
    """Return what makes the product of a technique and that of plain calls, on new memory each time."""
    technique = built(name)

    def make() -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
        draw = torch.Generator().manual_seed(0)
        weight = (torch.randn(COLUMNS, COLUMNS, generator=draw) / 64).bfloat16()
        x = torch.randn(inputs, COLUMNS, generator=draw).bfloat16()
        packed = technique.quantize(weight)
        plain = plain_calls(f"`{name}`", weight=weight.clone(), x=x)
        return lambda: technique.linear(x, packed), plain

    return make


@pytest.mark.parametrize("name", PEERS)
def test_a_wrapper_returns_what_plain_calls_return(name, plain_calls) -> None:
    wrapped, plain = product(plain_calls, name, inputs=3)()
    with torch.no_grad():
        assert torch.equal(wrapped(), plain())


def test_the_page_tells_of_every_technique_that_another_library_computes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    ours = ("reference:", "native_technique:", "activations:", "softmax:Softmax")
    peers = {name for name, spec in TECHNIQUES.items() if not spec.target.removeprefix("harness_nf4.").startswith(ours)}
    assert peers - set(PEERS) == {"bitsandbytes-fp4", "compiled", "triton", "torch-softmax"}
    assert [name for name in sorted(peers) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", ["int4pack", "int8pack"])
def test_what_torch_has_no_derivative_of_gets_a_note(name) -> None:
    assert "gives its inputs no gradient" in require_correct(built(name))


@pytest.mark.thorough
@pytest.mark.parametrize("inputs", [1, 64])
@pytest.mark.parametrize("name", PEERS)
def test_a_wrapper_takes_the_time_of_plain_calls(name, inputs, plain_calls) -> None:
    with torch.no_grad():
        print(name, inputs, require_parity(product(plain_calls, name, inputs)))  # noqa: T201  shown where it fails


@pytest.mark.thorough
def test_the_softmax_of_torch_takes_the_time_of_plain_calls(plain_calls) -> None:
    technique = built("torch-softmax")

    def make() -> tuple[Callable[[], object], Callable[[], object]]:
        x = torch.randn(4, 1 << 15, generator=torch.Generator().manual_seed(0))
        out = torch.empty_like(x)
        return lambda: technique.softmax(x, out), plain_calls("`torch-softmax`", x=x)

    wrapped, plain = make()
    wrapped_out = torch.empty(4, 1 << 15)
    technique.softmax(torch.randn(4, 1 << 15, generator=torch.Generator().manual_seed(0)), wrapped_out)
    assert torch.equal(plain(), wrapped_out)
    wrapped()
    print(require_parity(make))  # noqa: T201
