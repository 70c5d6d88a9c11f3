"""Scripts that reproduce a technique in three functions, for error reports, without the harness.

``quantize(weight)`` returns tensors by name, ``dequantize(packed, shape, dtype)`` the weight of this shape and dtype,
and ``linear(x, packed, shape, dtype)`` the product of ``x`` and the weight. The scripts load modules of this plugin
that need torch alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

_FOLDER: Final = str(Path(__file__).parent)

_MULTIPLY: Final = """
def linear(x, packed, shape, dtype):
    return torch.nn.functional.linear(x.float(), dequantize(packed, shape, torch.float32)).to(x.dtype)
"""

_PLAIN: Final = """
def quantize(weight):
    return {{'weight': weight.to({dtype}, copy=True)}}

def dequantize(packed, shape, dtype):
    return packed['weight'].to(dtype, copy=True)

def linear(x, packed, shape, dtype):
    return torch.nn.functional.linear(x.to({dtype}), packed['weight']).to(x.dtype)
"""

_CODE: Final = """
def quantize(weight):
    return coder.quantize(weight)

def dequantize(packed, shape, dtype):
    return coder.dequantize(packed, shape, dtype)
"""

_KERNEL: Final = """
codebook = kernel.Codebook({levels!r})

def together(shape):
    return {interleaved} and kernel.interleaves(shape, {block})

def quantize(weight):
    codes, absmax = codebook.quantize(weight.float().contiguous(), {block})
    if not together(weight.shape):
        return {{'codes': codes, **packing.kept_scales(absmax, 'absmax', double={double})}}
    if {block} == kernel.PIECE and not {double}:
        absmax = kernel.interleave(absmax, len(weight))
    codes = kernel.interleave(codes, len(weight))
    return {{'interleaved_codes': codes, **packing.kept_scales(absmax, 'absmax', double={double})}}

def matrix(packed, rows, columns):
    codes = packed['interleaved_codes' if 'interleaved_codes' in packed else 'codes']
    made = dict(codebook=codebook, codes=codes, rows=rows, columns=columns, block={block})
    made['interleaved'] = 'interleaved_codes' in packed
    if not {double}:
        return kernel.Matrix(**made, absmax=packed['absmax'])
    return kernel.Matrix(
        **made, small_absmax=packed['absmax'], group_scale=packed['absmax_scale'],
        mean=float(packed['absmax_mean']), group=packing.DOUBLE_GROUP,
    )

def dequantize(packed, shape, dtype):
    rows = shape if together(shape) else (1, torch.Size(shape).numel())
    return matrix(packed, *rows).dequantize().view(shape).to(dtype)

def linear(x, packed, shape, dtype):
    return matrix(packed, *shape).product(x, {precision!r})
"""

_INDUCTOR: Final = """
coder = inductor.Compiled(codebook=packing.{codebook!r})
{quantize}
def linear(x, packed, shape, dtype):
    return coder.linear(x, packed, shape)
"""

_TRITON: Final = """
coder = packing.{codebook!r}
device = 'cuda' if triton_kernels.runs_compiled() else 'cpu'

def quantize(weight):
    return coder.quantize(weight.to(device))

def known(packed):
    return packed['codes'], packing.read_scales(packed, 'absmax'), coder.table.to(device)

def dequantize(packed, shape, dtype):
    count = torch.Size(shape).numel()
    return triton_kernels.dequantize(*known(packed), count, coder.block).view(shape).to(dtype).cpu()

def linear(x, packed, shape, dtype):
    return triton_kernels.multiply(x.to(device), *known(packed), shape[0], coder.block).cpu()
"""

_ALIGNED: Final = """
def aligned(tensor):  # torch's products read views and odd addresses wrongly, or end the process
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
"""

_INT4PACK: Final = """
def quantize(weight):
    filled = torch.nn.functional.pad(weight.float(), (0, 0, 0, -len(weight) % 16))
    groups = filled.reshape(-1, {block})
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((high - low) / 15).clamp_min(torch.finfo({kept}).smallest_normal).to({kept})
    zero = (low + 8 * scale.float()).to({kept})
    codes = ((groups - zero.float()) / scale.float() + 8).round().nan_to_num(0).clamp(0, 15).to(torch.int32)
    both = torch.stack([values.view(len(filled), -1) for values in (scale, zero)], 2).transpose(0, 1).contiguous()
    return {{'codes': torch._convert_weight_to_int4pack_for_cpu(codes.view(filled.shape), 1), 'scales': both}}

def dequantize(packed, shape, dtype):  # group by group, by products with parts of the identity
    found = []
    for group, scales in enumerate(packed['scales']):
        alone = torch.zeros_like(packed['scales'])
        alone[group] = scales
        part = torch.eye(shape[1], dtype={kept})[group * {block} : (group + 1) * {block}]
        found.append(torch._weight_int4pack_mm_for_cpu(part, aligned(packed['codes']), {block}, alone).T[: shape[0]])
    return torch.cat(found, 1).to(dtype)

def linear(x, packed, shape, dtype):
    codes, scales = aligned(packed['codes']), aligned(packed['scales'])
    found = torch._weight_int4pack_mm_for_cpu(aligned(x.to({kept})), codes, {block}, scales)
    return found[:, : shape[0]].to(x.dtype)
"""

_ROWS: Final = """
def quantize(weight):
    rows = weight.reshape(-1, weight.shape[-1]).double()
    absmax = rows.abs().amax(-1, keepdim=True)
    places = torch.where(absmax > 0, rows / absmax * 127, 0.0)
    codes = torch.ceil(places - 0.5).nan_to_num(0).clamp(-127, 127).to(torch.int8)
    return {'codes': codes, 'scale': (absmax[:, 0] / 127).float()}

def dequantize(packed, shape, dtype):
    return (packed['codes'].float() * packed['scale'][:, None]).view(shape).to(dtype)
"""

_INT8PACK: Final = """
def linear(x, packed, shape, dtype):
    if shape[1] % 16 or shape[0] % 4 or x.dtype == torch.float64:
        return torch.nn.functional.linear(x.float(), dequantize(packed, shape, torch.float32)).to(x.dtype)
    return torch._weight_int8pack_mm(aligned(x), aligned(packed['codes']), aligned(packed['scale'].to(x.dtype)))
"""

_INT8CAST: Final = """
def linear(x, packed, shape, dtype):
    return torch.nn.functional.linear(x, packed['codes'].to(x.dtype)) * packed['scale'].to(x.dtype)
"""

_BYTES: Final = """
coder = packing.Rows()

def linear(x, packed, shape, dtype):
    return byte_kernel.multiply(x, packed['codes'], packed['scale']).to(x.dtype)
"""

_BITSANDBYTES: Final = """
import bitsandbytes.functional as F
from bitsandbytes import matmul_4bit

def quantize(weight):
    codes, state = F.quantize_4bit(weight, blocksize={block}, compress_statistics={double}, quant_type={levels!r})
    packed = {{'codes': codes, 'absmax': state.absmax, 'code': state.code}}
    if state.nested:
        packed |= {{'offset': state.offset, 'nested_absmax': state.state2.absmax, 'nested_code': state.state2.code}}
    return packed

def state(packed, shape, dtype):
    nested = None
    if 'offset' in packed:
        nested = F.QuantState(
            absmax=packed['nested_absmax'], blocksize=256, code=packed['nested_code'], dtype=torch.float32
        )
    return F.QuantState(
        absmax=packed['absmax'], shape=torch.Size(shape), code=packed['code'], blocksize={block},
        quant_type={levels!r}, dtype=dtype, offset=packed.get('offset'), state2=nested,
    )

def dequantize(packed, shape, dtype):
    return F.dequantize_4bit(packed['codes'], state(packed, shape, dtype))

def linear(x, packed, shape, dtype):
    return matmul_4bit(x, packed['codes'].t(), state(packed, shape, x.dtype))
"""

_BITSANDBYTES_EVALUATED: Final = """
import bitsandbytes.functional as F
from bitsandbytes import matmul_4bit

def quantize(weight):  # what a Linear4bit holds after its first call in evaluation, with AVX512-BF16
    filled = torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % 32))
    codes, state = F.quantize_4bit(filled, blocksize={block}, compress_statistics={double}, quant_type={levels!r})
    codes, state = F._convert_weight_packed_for_cpu(codes, state)
    return {{'codes': codes, 'absmax': state.absmax, 'code': state.code}}

def state(packed, shape, dtype):
    made = F.QuantState(
        absmax=packed['absmax'], shape=torch.Size((shape[0] + -shape[0] % 32, shape[1])), code=packed['code'],
        blocksize={block}, quant_type={levels!r}, dtype=torch.bfloat16,
    )
    made.packing_format_for_cpu = True
    made.original_dtype, made.original_nested = dtype, False
    return made

def dequantize(packed, shape, dtype):
    made = state(packed, shape, dtype)
    made.original_qshape = (packed['codes'].numel(), 1)
    codes, made = F._convert_weight_packed_for_cpu_inverse(packed['codes'], made)
    made.absmax = made.absmax.T.float().reshape(-1)
    return F.dequantize_4bit(codes, made)[: shape[0]]

def linear(x, packed, shape, dtype):
    inputs = x{contiguous}.bfloat16()
    return matmul_4bit(inputs, packed['codes'], state(packed, shape, dtype))[:, : shape[0]].to(x.dtype)
"""

_TORCHAO: Final = """
import math
from torchao.quantization import NF4Tensor, to_nf4
from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import SubclassTensorArgs

def quantize(weight):  # filled up to whole groups of blocks
    group = {block} * 256
    count = -(-weight.numel() // group) * group
    packed = to_nf4(weight.reshape(-1).repeat(count // weight.numel() + 1)[:count], {block}, 256)
    return {{name: getattr(packed, name) for name in packed.__tensor_flatten__()[0]}}

def dequantize(packed, shape, dtype):
    count = 2 * packed['quantized_data'].numel()
    meta = SubclassTensorArgs(torch.Size([count]), (1,), 0, dtype, torch.device('cpu'), False)
    known = {{'block_size': {block}, 'n_blocks': count // {block}, 'scaler_block_size': 256, 'tensor_meta': meta}}
    found = NF4Tensor.__tensor_unflatten__(packed, known, meta.original_shape, None).get_original_weight()
    return found.reshape(-1)[: math.prod(shape)].view(shape)

def linear(x, packed, shape, dtype):
    return torch.nn.functional.linear(x, dequantize(packed, shape, dtype).to(x.dtype))
"""


def plain(dtype: torch.dtype) -> str:
    """Return the script of a weight that is stored in a float dtype."""
    return _PLAIN.format(dtype=dtype)


def coder(of: object) -> str:
    """Return the script of a coder of `packing`."""
    return f"{_loading('packing')}\n\ncoder = packing.{of!r}\n{_CODE}{_MULTIPLY}"


def inductor(codebook: object) -> str:
    """Return the script of a codebook of `packing` that runs through `inductor`."""
    return f"{_loading('inductor', 'packing')}\n{_INDUCTOR.format(codebook=codebook, quantize=_CODE)}"


def kernel(*, levels: tuple[float, ...], block: int, double: bool, precision: str, interleaved: bool) -> str:
    """Return the script of the C++ kernel, which `kernel.Matrix` calls."""
    code = _KERNEL.format(levels=levels, block=block, double=double, precision=precision, interleaved=interleaved)
    return f"{_loading('kernel', 'packing')}\n{code}"


def byte_kernel() -> str:
    """Return the script of the C++ kernel for 8 bits, which `byte_kernel.multiply` calls."""
    return f"{_loading('byte_kernel', 'packing')}\n{_BYTES}{_CODE}"


def triton(codebook: object) -> str:
    """Return the script of a codebook of `packing` that runs through `triton_kernels`."""
    return f"{_loading('packing', 'triton_kernels')}\n{_TRITON.format(codebook=codebook)}"


def int4pack(*, block: int, kept: torch.dtype) -> str:
    """Return the script of torch's packed INT4 product."""
    return _ALIGNED + _INT4PACK.format(block=block, kept=kept)


def int8pack() -> str:
    """Return the script of torch's product with INT8 weights."""
    return _ALIGNED + _ROWS + _INT8PACK


def int8cast() -> str:
    """Return the script of a product with INT8 weights that are cast to the inputs' dtype."""
    return _ROWS + _INT8CAST


def bitsandbytes(*, levels: str, block: int, double: bool) -> str:
    """Return the script of a codebook of bitsandbytes."""
    return _BITSANDBYTES.format(levels=levels, block=block, double=double)


def bitsandbytes_evaluated(*, levels: str, block: int, double: bool, contiguous: bool) -> str:
    """Return the script of a codebook of bitsandbytes as its layer computes in evaluation."""
    called = ".contiguous()" if contiguous else ""
    return _BITSANDBYTES_EVALUATED.format(levels=levels, block=block, double=double, contiguous=called)


def torchao(*, block: int) -> str:
    """Return the script of torchao's NF4."""
    return _TORCHAO.format(block=block)


def _loading(*names: str) -> str:
    """Return code that imports modules of this package without its ``__init__``, which imports the harness."""
    return (
        "import sys, types\n"
        "package = sys.modules['harness_nf4'] = types.ModuleType('harness_nf4')\n"
        f"package.__path__ = [{_FOLDER!r}]\n"
        f"from harness_nf4 import {', '.join(names)}"
    )
