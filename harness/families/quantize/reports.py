"""Code that reproduces a failure of a quantiser without this project: the second half of a report.

It consists of the technique's own script, code that creates the weight, and a few lines that print the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.api import Incorrect
from harness.families.quantize.contract import QuantizeTechnique

_HEAD: Final = "# shows it without this project\nimport torch\n"

_WEIGHT: Final = """
weight = {weight}
shape, dtype = tuple(weight.shape), weight.dtype
packed = quantize(weight)
"""

VALUE: Final = (
    "print(dequantize(packed, shape, dtype).flatten()[{at}].item(), 'where the definition has', {expected!r})"
)
SHAPE: Final = "found = dequantize(packed, shape, dtype)\nprint(tuple(found.shape), found.dtype, 'for', shape, dtype)"
CHANGED: Final = "print((weight != {weight}).sum().item(), 'of', weight.numel(), 'weights were changed by quantising')"
ROW: Final = (
    "errors = (dequantize(packed, shape, dtype) - weight).square().mean(1).sqrt()\n"
    "print('off by', errors[{row}].item(), 'in row {row}, where half of the rows are off by no more than', {usual!r})"
)
RMS: Final = (
    "error = (dequantize(packed, shape, dtype).double() - weight.double()).square().mean().sqrt()\n"
    "print('off by', error.item(), 'where {name}', {allowed!r})"
)
LEVELS: Final = (
    "blocks = dequantize(packed, shape, dtype).reshape(-1, {block})\n"
    "print(max(len(block.unique()) for block in blocks), 'different values in a block, where there may be', {most})"
)

PRODUCT_SHAPE: Final = (
    "x = {x}\n"
    "found = linear(x, packed, shape, dtype)\n"
    "print(tuple(found.shape), found.dtype, 'for', (len(x), shape[0]), x.dtype)"
)
PRODUCT: Final = """\
x = {x}
exact = dequantize(packed, shape, dtype).double()
expected = x.double() @ exact.T
size = torch.maximum(expected.norm(dim=1), x.double().norm(dim=1) * exact.norm() / shape[1] ** 0.5)
{poison}found = linear(x, packed, shape, dtype).double()
error = (found - expected).norm(dim=1) / size
print('off by', error[{inputs}].max().item(), 'of the exact product, where', {allowed!r}, 'is allowed')
"""
POISON: Final = "x[1, 0] = torch.nan\n"
INPUT_CHANGED: Final = (
    "x, same = {x}, {x}\n"
    "linear(x, packed, shape, dtype)\n"
    "print((x != same).sum().item(), 'of', x.numel(), 'numbers of the input were changed')"
)
ELSEWHERE: Final = """\
def elsewhere(tensor):  # a copy that begins one number after an aligned address
    return torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:].view(tensor.shape).copy_(tensor)

before = dequantize(packed, shape, dtype)
packed = {name: elsewhere(tensor) for name, tensor in packed.items()}
"""
MOVED_VALUE: Final = (
    f"{ELSEWHERE}"
    "wrong = (dequantize(packed, shape, dtype) - before).nan_to_num(nan=torch.inf).abs()\n"
    "print('off by', wrong.max().item(), 'where the packed tensors begin at another address')"
)
SWALLOWED: Final = (
    "x = {x}\n"
    f"{POISON}"
    "found = linear(x, packed, shape, dtype)[1]\n"
    "print(found.isfinite().sum().item(), 'of', len(found), 'outputs of the input with a NaN are finite')"
)

_MODULE: Final = """
class Linear(torch.nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.shape, self.dtype = tuple(weight.shape), weight.dtype
        self.names = []
        for name, tensor in quantize(weight).items():
            self.names.append(name)
            self.register_buffer('weight_' + name, tensor)
        self.register_buffer('bias', bias)

    def packed(self):
        return {{name: self.get_buffer('weight_' + name) for name in self.names}}

    def forward(self, x):
        product = linear(x.reshape(-1, x.shape[-1]), self.packed(), self.shape, self.dtype)
        return (product + self.bias.to(product.dtype)).reshape(*x.shape[:-1], -1)

first, second = (Linear(weight, bias).eval() for weight, bias in ({layers}))
x = {x}
"""
_FIRST: Final = "found = first(x)\n"
MODULE_PRODUCT: Final = """\
expected = x.double() @ dequantize(first.packed(), first.shape, first.dtype).double().T + first.bias.double()
error = (found.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
print('off by', error.max().item(), 'of the exact output, where', {allowed!r}, 'is allowed')
"""
MODULE_AGAIN: Final = "print('off by', (first(x) - found).abs().max().item(), 'when it is asked again')"
MODULE_COPIED: Final = """\
import copy
print('off by', (copy.deepcopy(first)(x) - found).abs().max().item(), 'in a copy of the module')
"""
MODULE_MOVED: Final = """\
import copy
moved = copy.deepcopy(first)
moved.bias = moved.bias.to({dtype})
expected = x.double() @ dequantize(first.packed(), first.shape, first.dtype).double().T + first.bias.double()
error = (moved(x).double() - expected).norm(dim=-1) / expected.norm(dim=-1)
print('off by', error.max().item(), 'of the exact output, where', {allowed!r}, 'is allowed')
"""
MODULE_LOADED: Final = """\
second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
print('off by', (second(x) - found).abs().max().item(), 'in a module that loaded the state_dict')
"""
MODULE_STATE: Final = """\
before = {name: value.clone() for name, value in first.state_dict().items()}
first(x)
for name, value in first.state_dict().items():
    if str(before[name].tolist()) != str(value.tolist()):  # as text a NaN is like another
        print(name, 'of the state_dict has other bits than before the first evaluation')
"""
OUTER: Final = """\
outer = {outer}

def gradient():
    given = x.clone().requires_grad_()
    outputs = first.train()(given)
    if outputs.requires_grad:
        outputs.backward(outer)
    return given.grad

def evaluate():
    with torch.no_grad():
        first.eval()(x)

"""
EVALUATED: Final = "evaluate()\n"
GRADIENT: Final = """\
{evaluated}found = gradient().double()
expected = outer.double() @ dequantize(first.packed(), first.shape, first.dtype).double()
error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
print('off by', error.max().item(), 'of the exact gradient, where', {allowed!r}, 'is allowed')
"""
GRADIENT_LOST: Final = """\
print('the gradient has a norm of', gradient().norm().item())
evaluate()
print('after an evaluation it is', gradient())
"""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A tensor: its description in a report, and the code that creates it."""

    what: str
    code: str

    def made(self) -> Tensor:
        """Return the tensor as the code lays it out, a new one in each call, which the caller may change."""
        made: Tensor = eval(self.code, {"torch": torch})  # the judge's own constants
        return made


def wrong(technique: QuantizeTechnique, text: str, weight: Given, body: str) -> Incorrect:
    """Return the error with a script, whose ``body`` uses ``weight``, its ``shape`` and ``dtype``, and ``packed``."""
    return _incorrect(technique, text, _WEIGHT.format(weight=weight.code) + body)


def wrong_module(
    technique: QuantizeTechnique, text: str, layers: str, x: Given, body: str, *, evaluated: bool = True
) -> Incorrect:
    """Return the error with a script about modules.

    ``layers`` is the code of two pairs of weight and bias. ``body`` uses the modules ``first`` and ``second`` made of
    them, the inputs ``x``, and where they are ``evaluated`` already, ``found``, the output of ``first``.
    """
    return _incorrect(technique, text, _MODULE.format(layers=layers, x=x.code) + _FIRST * evaluated + body)


def _incorrect(technique: QuantizeTechnique, text: str, code: str) -> Incorrect:
    script = technique.script.strip()
    return Incorrect(f"{text}\n\n{_HEAD}{script}\n{code}" if script else text)
