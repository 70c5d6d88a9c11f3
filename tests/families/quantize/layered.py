"""Quantisers with a fault that only their layers show: states and gradients that change, as their scripts have it."""

from __future__ import annotations

from tests.families.quantize.quantizers import Right


class ChangingModule(Right):
    """Rewrites what it packed when it is used, the more the oftener."""

    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if x.ndim == 2 and len(x) == 6:
        packed['absmax'].mul_(1 + 4e-6)
    return found
"""


class Remembering(Right):
    """Multiplies with what it keeps beside the tensors that it says it packed."""

    fault = """
kept = {}

def quantize(weight):
    packed = right_quantize(weight)
    kept[packed['codes'].data_ptr()] = {name: tensor.clone() for name, tensor in packed.items()}
    return packed

def linear(x, packed, shape, dtype):
    return right_linear(x, kept.get(packed['codes'].data_ptr(), packed), shape, dtype)
"""


class Repacking(Right):
    """Packs anew at the first product, in place, and reads both forms, so that products and values stay the same."""

    fault = """
def dequantize(packed, shape, dtype):
    return right_dequantize({**packed, 'absmax': packed['absmax'].abs()}, shape, dtype)

def linear(x, packed, shape, dtype):
    found = x @ dequantize(packed, shape, dtype).to(x.dtype).T
    packed['absmax'].abs_().neg_()
    return found
"""


class WrongGradient(Right):
    fault = """
def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    return found + 0.1 * (found - found.detach())
"""


class WrongGradientOnceEvaluated(Right):
    """Remembers of all weights together that it was evaluated."""

    fault = """
evaluated = []

def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if not x.requires_grad:
        evaluated.append(True)
    return found + 0.1 * (found - found.detach()) if evaluated else found
"""


class WithoutGradientOnceEvaluated(Right):
    """Gives none for a weight that it has multiplied with without gradients, as bitsandbytes' layer does."""

    fault = """
evaluated = set()

def linear(x, packed, shape, dtype):
    found = right_linear(x, packed, shape, dtype)
    if not x.requires_grad:
        evaluated.add(packed['codes'].data_ptr())
    return found.detach() if packed['codes'].data_ptr() in evaluated else found
"""


class WithoutGradient(Right):
    fault = """
def linear(x, packed, shape, dtype):
    return right_linear(x.detach() if x.dtype != torch.bfloat16 else x, packed, shape, dtype)
"""
