"""Native code is given only what it can read: other dtypes, strides, addresses and lengths are copied or refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from harness_nf4 import kernel, pointers
from harness_nf4.native_technique import Kernel
from harness_nf4.packs import Int4Pack, Int8Pack
from harness_nf4.reference import KMeans
from harness_nf4.softmax import Softmax

NATIVE = pytest.mark.skipif(not kernel.available(), reason="the plugin was installed without a compiler")

VIEWS = """
import torch
from harness_nf4.native_technique import Kernel
from harness_nf4.packs import Int4Pack, Int8Pack
torch.set_num_threads(1)
numbers = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(1)).bfloat16()
views = {
    'columns of a wider matrix': numbers(8, 257)[:, 1:],
    'an odd address': numbers(2049)[1:].view(8, 256),
    'transposed': numbers(256, 8).T,
    'every second column': numbers(8, 512)[:, ::2],
    'one row repeated': numbers(1, 256).expand(8, 256),
    'no input': numbers(0, 256),
}
for technique in (Int8Pack(), Int4Pack(), Kernel(levels='nf4'), Kernel(levels='nf4', precision='exact')):
    packed = technique.quantize(numbers(64, 256).float())
    for name, x in views.items():
        same = torch.empty(x.shape, dtype=x.dtype).copy_(x)
        assert torch.equal(technique.linear(x, packed), technique.linear(same, packed)), (technique, name)
print('all the same')
"""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_products_with_views_are_those_with_copies_and_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", VIEWS], capture_output=True, text=True, check=False)
    assert done.stdout == "all the same\n", (done.returncode, done.stderr)


@pytest.mark.parametrize(
    "make", [Int8Pack, Int4Pack, lambda: Kernel(levels="nf4")], ids=["int8pack", "int4pack", "nf4"]
)
def test_packed_tensors_may_begin_anywhere(make) -> None:
    technique, x = make(), normal(1, 3, 256)
    packed = technique.quantize(normal(0, 64, 256))
    for offset in (1, 3):
        moved = {
            name: torch.empty(value.numel() + offset, dtype=value.dtype)[offset:].view(value.shape).copy_(value)
            for name, value in packed.tensors.items()
        }
        elsewhere = replace(packed, tensors=moved)
        assert torch.equal(technique.dequantize(elsewhere), technique.dequantize(packed))
        assert torch.equal(technique.linear(x, elsewhere), technique.linear(x, packed))


def test_an_address_is_aligned_by_a_copy_and_only_where_it_has_to_be() -> None:
    whole = normal(0, 8, 16)
    assert pointers.aligned(whole) is whole
    for view in (normal(0, 129)[1:].view(8, 16), normal(0, 16, 8).T, normal(0, 1, 16).expand(8, 16)):
        made = pointers.aligned(view)
        assert made.data_ptr() % pointers.ALIGNMENT == 0
        assert made.is_contiguous()
        assert torch.equal(made, view)
        assert torch.equal(pointers.readable("x", view, torch.float32, view.numel()), view)
    assert pointers.readable("x", whole, torch.float32, 128) is whole
    assert pointers.cast(whole, torch.float32) is whole


@NATIVE
@pytest.mark.parametrize(
    "weight",
    [
        normal(0, 8, 64).bfloat16(),
        normal(0, 8, 64).double(),
        normal(0, 64, 8).T,
        normal(0, 8, 128)[:, ::2],
        torch.empty(8, 64, device="meta"),
    ],
    ids=["bfloat16", "float64", "transposed", "strided", "of no device"],
)
def test_packing_refuses_what_is_no_contiguous_float32(weight) -> None:
    with pytest.raises(ValueError, match=r"the weight has 512 numbers .* expected 512 of torch.float32, contiguous"):
        kernel.Codebook([-1.0, 0.0, 1.0]).quantize(weight, 64)


@NATIVE
@pytest.mark.parametrize("double", [False, True])
def test_a_kernel_refuses_packed_tensors_of_other_dtypes_and_lengths(double) -> None:
    technique = Kernel(levels="nf4", double=double)
    packed, x = technique.quantize(normal(0, 128, 256)), normal(1, 3, 256)  # two groups of scales
    for name, tensor in packed.tensors.items():
        if tensor.ndim == 0:
            continue
        for wrong in (tensor.half(), tensor.double(), tensor[:-1], tensor.repeat(2), tensor.repeat(2)[::2]):
            changed = replace(packed, tensors={**packed.tensors, name: wrong})
            for inputs in (x, x.bfloat16(), x[:1]):
                with pytest.raises(ValueError, match="contiguous, on the CPU"):
                    technique.linear(inputs, changed)
            with pytest.raises(ValueError, match="contiguous, on the CPU"):
                technique.dequantize(changed)


@pytest.mark.parametrize(
    "make", [pytest.param(lambda: Kernel(levels="nf4"), marks=NATIVE, id="kernel"), Int8Pack, Int4Pack]
)
@pytest.mark.parametrize("shape", [(3, 128), (3, 512), (256,), (2, 3, 256)])
def test_inputs_of_another_shape_are_refused(make, shape) -> None:
    technique = make()
    packed = technique.quantize(normal(0, 64, 256))
    with pytest.raises(ValueError, match=r"the input has shape .*: expected \(n, 256\)"):
        technique.linear(normal(1, *shape), packed)


@pytest.mark.parametrize("make", [Int8Pack, Int4Pack])
def test_torch_s_products_are_not_given_packed_tensors_of_another_length(make) -> None:
    technique = make()
    packed, small = technique.quantize(normal(0, 64, 256)), technique.quantize(normal(0, 32, 256))
    with pytest.raises(ValueError, match="expected"):
        technique.linear(normal(1, 3, 256), replace(packed, tensors=small.tensors))


@pytest.mark.parametrize("make", [lambda: Kernel(levels="nf4"), Int8Pack, Int4Pack], ids=["kernel", "int8pack", "int4"])
def test_inputs_in_float64_are_multiplied_no_worse_than_in_float32(make) -> None:
    technique = make()
    packed, x = technique.quantize(normal(0, 64, 256)), normal(1, 3, 256)
    found = technique.linear(x.double(), packed)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, technique.linear(x, packed).double(), rtol=0, atol=1e-4)


@NATIVE
@pytest.mark.parametrize(
    ("x", "out", "problem"),
    [
        (normal(0, 4, 8).double(), torch.empty(4, 8), "x has 32 numbers of torch.float64"),
        (normal(0, 4, 8), torch.empty(4, 8).half(), "out has 32 numbers of torch.float16"),
        (normal(0, 8, 4).T, torch.empty(4, 8), r"x has 32 numbers .* strides \(1, 4\)"),
        (normal(0, 4, 8), torch.empty(4, 16)[:, ::2], r"out has 32 numbers .* strides \(16, 2\)"),
        (normal(0, 4, 8), torch.empty(4, 4), r"softmax of shape \(4, 8\) to \(4, 4\)"),
        (normal(0, 8), torch.empty(8), r"softmax of shape \(8,\)"),
    ],
)
def test_softmax_refuses_what_its_contract_excludes(x, out, problem) -> None:
    with pytest.raises(ValueError, match=problem):
        Softmax(algorithm="online").softmax(x, out)


@NATIVE
@pytest.mark.parametrize("shift", [0, 5, 31])
def test_softmax_refuses_an_output_that_overlaps_its_input(shift) -> None:
    memory = normal(0, 64)
    x, out = memory[:32].view(4, 8), memory[shift : shift + 32].view(4, 8)
    with pytest.raises(ValueError, match="share memory"):
        Softmax(algorithm="online").softmax(x, out)
    Softmax(algorithm="online").softmax(x, memory[32:].view(4, 8))


@pytest.mark.parametrize("levels", ["nf4", "fp4"])
def test_a_block_that_is_longer_than_the_weight_is_cut_to_it(levels) -> None:
    weight = normal(0, 6, 35)
    long, whole = (Kernel(levels=levels, block=block) for block in (1 << 16, 210))
    packed, expected = long.quantize(weight), whole.quantize(weight)
    for name, tensor in expected.tensors.items():
        assert torch.equal(packed.tensors[name], tensor)
    assert torch.equal(long.dequantize(packed), whole.dequantize(expected))
    x = normal(1, 3, 35)
    assert torch.equal(long.linear(x, packed), whole.linear(x, expected))


@NATIVE
def test_a_block_that_no_integer_of_the_library_holds_is_cut_too() -> None:
    codebook = kernel.Codebook([-1.0, 0.0, 1.0])
    for found, expected in zip(
        codebook.quantize(normal(0, 64), 1 << 80), codebook.quantize(normal(0, 64), 64), strict=True
    ):
        assert torch.equal(found, expected)


def test_levels_are_fitted_to_a_weight_and_not_to_the_rest_of_a_block() -> None:
    weight = normal(0, 6, 35)
    long, whole = (KMeans(block=block).quantize(weight).tensors for block in (1 << 16, 210))
    assert torch.equal(long["levels"], whole["levels"])
