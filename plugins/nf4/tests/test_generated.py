"""What is compiled at run time: torch.compile's loops, and Triton's in its interpreter, which needs no GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from harness_nf4 import inductor
from harness_nf4.compiled import Compiled
from harness_nf4.reference import Eager
from torch._dynamo.utils import counters

from harness.api import Unavailable, UsageError

WIDTH = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [False, True])
def test_compiled_codes_scales_and_values_are_the_reference_s_bit_for_bit(levels, double) -> None:
    mine, plain = (kind(levels=levels, double=double) for kind in (Compiled, Eager))
    for shape in ((64, 64), (6, 200), (5, 7), (37,), (0, 64)):
        weight = normal(0, *shape)
        found, expected = mine.quantize(weight), plain.quantize(weight)
        for name, tensor in expected.tensors.items():
            assert torch.equal(found.tensors[name], tensor), (shape, name)
        assert torch.equal(mine.dequantize(found), plain.dequantize(expected))


def test_code_is_compiled_once_for_weights_of_all_sizes() -> None:
    technique = Compiled(levels="nf4")  # which compiles it
    before = counters["stats"]["unique_graphs"]
    for block in (32, 128):
        for rows, columns in ((16, 512), (48, 1024)):
            sized = technique.sized(block)
            packed = sized.quantize(normal(0, rows, columns))
            sized.linear(normal(1, 1, columns), packed)
            sized.linear(normal(1, 5, columns), packed)
            sized.dequantize(packed)
    assert counters["stats"]["unique_graphs"] == before


def test_gradients_reach_the_inputs_of_a_compiled_product(require_product) -> None:
    technique = Compiled(levels="nf4")
    packed = technique.quantize(normal(0, 64, 128))
    x = normal(1, 1, 128).requires_grad_()
    technique.linear(x, packed).sum().backward()
    require_product(x.grad, torch.ones(1, 64), technique.dequantize(packed).T)


def test_codes_of_a_byte_are_not_for_it() -> None:
    with pytest.raises(UsageError, match="levels = 'int8': expected one of 'nf4'"):
        Compiled(levels="int8")


@pytest.mark.parametrize(
    ("set_to", "expected"), [(None, f"{{cache}}/harness-nf4/inductor-{WIDTH}"), ("{own}", "{own}")]
)
def test_what_is_compiled_is_kept_in_the_user_s_cache_or_where_the_user_says(
    set_to, expected, tmp_path, monkeypatch
) -> None:
    known = {"cache": str(tmp_path / "cache"), "own": str(tmp_path / "own")}
    monkeypatch.setenv("XDG_CACHE_HOME", known["cache"])
    if set_to is None:
        monkeypatch.delenv(inductor.CACHE, raising=False)
    else:
        monkeypatch.setenv(inductor.CACHE, set_to.format(**known))
    inductor.place_cache()
    assert os.environ[inductor.CACHE] == expected.format(**known)


def test_where_no_compiler_works_it_is_unavailable_in_torch_s_words(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(inductor, "_compiled", lambda _: refuse)
    with pytest.raises(Unavailable, match="No working C\\+\\+ compiler found"):
        Compiled(levels="nf4")


INTERPRETED = """
import dataclasses
import torch
from harness.families.quantize.modules import require_module
from harness.families.quantize.products import require_layouts, require_products
from harness.families.quantize.reports import Given
from harness_nf4.reference import Eager
from harness_nf4.triton_technique import Triton
for params in ({'levels': 'nf4'}, {'levels': 'fp4', 'block': 32}, {'levels': 'nf4', 'double': True}):
    mine, plain = Triton(**params), Eager(**params)
    for shape in ((6, 200), (70, 130), (5, 7), (37,), (0, 64)):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        packed = mine.quantize(weight)
        assert torch.equal(mine.dequantize(packed), plain.dequantize(packed)), shape
    require_products(mine, Given(what='', code='torch.randn(6, 200, generator=torch.Generator().manual_seed(0))'))
require_layouts(mine, Given(what='', code='torch.randn(6, 200, generator=torch.Generator().manual_seed(0))'))
assert not require_module(mine)
packed = mine.quantize(torch.randn(5, 64))
for wrong in (packed.tensors['codes'][:-1], packed.tensors['codes'].float(), packed.tensors['codes'].repeat(2)[::2]):
    changed = dataclasses.replace(packed, tensors={**packed.tensors, 'codes': wrong})
    for use in (lambda: mine.dequantize(changed), lambda: mine.linear(torch.randn(3, 64), changed)):
        try:
            use()
        except ValueError as error:
            assert str(error).startswith('codes '), error
        else:
            raise AssertionError('packed tensors of another kind were read')
try:
    mine.linear(torch.randn(3, 32), packed)
except ValueError as error:
    assert str(error) == 'the input has shape (3, 32): expected (n, 64)', error
else:
    raise AssertionError('an input of another shape was read')
x = torch.randn(3, 64).requires_grad_()
packed = mine.quantize(torch.randn(5, 64))
mine.linear(x, packed).sum().backward()
assert torch.allclose(x.grad, mine.dequantize(packed).sum(0).expand(3, 64))
"""
TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@TRITON
@pytest.mark.slow
def test_triton_s_kernels_are_right_in_its_interpreter() -> None:
    done = run_alone(INTERPRETED, TRITON_INTERPRET="1")
    assert not done.returncode, done.stderr


@TRITON
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_triton_without_a_gpu_is_unavailable_in_its_own_words() -> None:
    done = run_alone("from harness_nf4.triton_technique import Triton; Triton(levels='nf4')")
    assert "Unavailable: RuntimeError: 0 active drivers" in done.stderr


def run_alone(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
    )
