"""The contract ``quantize``: weights in few bits, and the product with them.

A technique packs a weight once, and unpacks it or multiplies with it as often as required. A packed weight consists of
tensors only, so that the judge can count their bytes, keep them as a module's buffers, write them to a file and read
them back.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.families.quantize.schemes import Scheme


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed weight: the tensors that represent it, and the shape and dtype that it had."""

    tensors: Mapping[str, Tensor]
    """The tensors by name, on the technique's device. Names are identifiers: a module keeps them as buffers.

    Everything that belongs to this weight lies here: `dequantize` and `linear` work from copies of these tensors too.
    """

    shape: tuple[int, ...]
    """The shape of the weight before it was packed."""

    dtype: torch.dtype
    """The dtype of the weight before it was packed: float32, bfloat16 or float16."""


@runtime_checkable
class QuantizeTechnique(Protocol):
    """An implementation of a quantisation scheme for weights.

    The gate compares the technique with the scheme's definition in float64, on weights of all three dtypes and on
    difficult values (zeros, denormal numbers, an outlier, NaN, infinity), on the shape that is timed, and on shapes
    that are drawn anew for every seed, with every remainder of a row's length divided by 64, of the number of rows by
    32 and of the number of inputs by 16. It raises
    `harness.api.Incorrect` with a script that reproduces the failure. A method raises `harness.api.NotApplicable` for a
    shape or dtype that the technique does not support, which becomes a note; float32 ``(256, 64)`` has to be supported.
    """

    scheme: Scheme
    """The definition that the technique claims to follow, a `harness.families.quantize.schemes.Scheme`.

    Built by ``schemes.nf4``, ``schemes.fp4``, ``schemes.codebook(id, levels, bits, block)`` or ``schemes.Scheme``, with
    ``kind`` (codebook, affine, learned or cast), ``bits``, ``block`` (numbers of a block of the flattened weight, 0 for
    a row), ``levels``, ``scale_dtype``, ``double`` and ``slack``. Dequantised values have to be those of
    the definition, or as near to the weight, up to the rounding that the scheme allows. Those of a ``learned`` codebook
    have to make at most 1.03 times the RMS error of the ``2 ** bits`` levels of `schemes.normal_levels`, with at most
    ``2 ** bits`` values a block.
    """

    computes_in: torch.dtype | None
    """The dtype that `linear` multiplies in whatever the input's dtype; None where it is the input's dtype."""

    script: str
    """Python code for error reports that does what the technique does without this project, given ``torch``.

    It defines ``quantize(weight)``, which returns tensors by name, ``dequantize(packed, shape, dtype)`` and
    ``linear(x, packed, shape, dtype)``, with the weight's shape and dtype. Where it is empty, reports show no code.
    """

    def quantize(self, weight: Tensor) -> Packed:
        """Pack a contiguous weight ``(out, in)``, or of any other shape, of float32, bfloat16 or float16.

        The weight need not begin at an aligned address, and may have fewer numbers than a block. The gate requires that
        ``weight`` is left unchanged, and that a NaN or an infinity affects its own block only.
        Raises `harness.api.NotApplicable` where the technique does not support the shape or the dtype.
        """

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight in the shape and dtype that it was packed from, in memory of its own."""

    def sized(self, block: int) -> QuantizeTechnique | None:
        """Return the same technique with blocks of ``block`` numbers, or None where the block length is fixed.

        The gate and the measurement ask for blocks of 32, 64, 128 and 256.
        """

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product of ``x`` ``(n, in)`` and the transposed weight: ``(n, out)``, in the dtype of ``x``.

        ``x`` is float32, bfloat16 or float16, whatever the weight's dtype. It may be a view of any strides, and neither
        ``x`` nor a tensor of ``packed`` need begin at an aligned address.

        The gate requires, for 1 to 64 inputs, the product with the dequantised weight up to an error of 1e-5 (float32),
        6e-3 (bfloat16) or 2e-3 (float16) of an output's norm, times ``1 + 1 / sqrt(out)``, for the coarsest dtype of
        input, weight and ``computes_in``; that a NaN in one input makes its own output NaN and no other; that ``x``
        stays unchanged; and the same bits in every call, also in a layer that was copied, pickled or loaded from a
        ``state_dict``, whose own ``state_dict`` no call may change. A gradient that reaches ``x`` has to be that of
        this product, up to the same error, and has to reach ``x`` after an evaluation too, where it does before; a
        technique that gives none gets a note.
        While it is timed, pieces of the largest packed tensor are exchanged for others between calls, in place; where a
        product does not follow that, since tensors depend on each other, other weights are packed instead.
        Raises `harness.api.NotApplicable` where the technique does not support the shape or the dtype.
        """


class OnDevice:
    """A technique whose packed weights lie on a device, for a judge whose own tensors lie on the CPU."""

    def __init__(self, technique: QuantizeTechnique, device: str) -> None:
        self._technique = technique
        self._device = device
        self.scheme = technique.scheme
        self.computes_in = technique.computes_in
        self.script = technique.script

    def quantize(self, weight: Tensor) -> Packed:
        """Pack the weight on the device."""
        return self._technique.quantize(weight.to(self._device))

    def dequantize(self, packed: Packed) -> Tensor:
        """Return the weight on the CPU."""
        return self._technique.dequantize(packed).cpu()

    def sized(self, block: int) -> QuantizeTechnique | None:
        """Return the same technique with blocks of ``block`` numbers, or None where the block length is fixed."""
        resized = self._technique.sized(block)
        return None if resized is None else OnDevice(resized, self._device)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        """Return the product on the CPU of an ``x`` on the CPU."""
        return self._technique.linear(x.to(self._device), packed).cpu()


class QuantizedLinear(nn.Module):
    """A linear layer with a packed weight, whose tensors are buffers, so that ``state_dict`` holds them.

    The ``state_dict`` also says of which scheme, shape and dtype the weight is, and a layer loads no other's. The
    packed tensors move to other devices with the layer, and keep their dtypes. A copy of a layer shares its technique.
    """

    def __init__(self, technique: QuantizeTechnique, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self._technique = technique
        self._shape, self._dtype = tuple(packed.shape), packed.dtype
        self._names = {name: f"{_PREFIX}{name}" for name in packed.tensors}
        for name, tensor in packed.tensors.items():
            self.register_buffer(self._names[name], tensor)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.bias: Tensor | None

    @property
    def packed(self) -> Packed:
        """The packed weight with the tensors that the buffers hold now."""
        own = self.__dict__  # an attribute of a module takes five times as long, and `get_buffer` as a small product
        held = own["_buffers"]
        tensors = {name: tensor for name, buffer in own["_names"].items() if (tensor := held[buffer]) is not None}
        return Packed(tensors=tensors, shape=own["_shape"], dtype=own["_dtype"])

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs ``(..., out)`` of inputs ``(..., in)``, in their dtype; float64 is computed in float32."""
        *lead, columns = x.shape
        dtype = x.dtype
        inputs = x.float() if dtype is torch.float64 else x
        product = self._technique.linear(inputs.reshape(-1, columns) if len(lead) != 1 else inputs, self.packed)
        product = product if product.dtype is dtype else product.to(dtype)
        bias = self._buffers["bias"]  # an attribute that is a buffer takes as long as a small product
        if bias is not None:
            product = product + bias.to(dtype)
        return product if len(lead) == 1 else product.reshape(*lead, product.shape[-1])

    def get_extra_state(self) -> Tensor:
        """Return what the packed tensors do not say of themselves, as JSON in bytes: a state holds tensors only."""
        text = json.dumps(_identity(self._technique.scheme, self._shape, self._dtype))
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Raise ValueError where the state is that of a weight of another scheme, shape or dtype."""
        if problem := self._problem_of(state):
            raise ValueError(problem)

    def _problem_of(self, state: object) -> str:
        """Return why a weight with this extra state cannot be loaded; an empty text where it can."""
        mine = _identity(self._technique.scheme, self._shape, self._dtype)
        advice = "quantise the weight again with the technique of this layer"
        try:
            theirs = json.loads(bytes(state.tolist()))  # type: ignore[attr-defined]
            told = _told(theirs)
        except (AttributeError, KeyError, TypeError, ValueError):
            return f"its state does not say how the weight was packed, and this layer holds {_told(mine)}; {advice}"
        if theirs == json.loads(json.dumps(mine)):
            return ""
        different = sorted(name for name in mine if theirs.get(name) != json.loads(json.dumps(mine[name])))
        return (
            f"its state is of {told}, and this layer holds {_told(mine)} (different: {', '.join(different)}); {advice}"
        )

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, strict: bool, *lists: Any
    ) -> None:
        """Load the state of such a weight; report any other state in the errors, and load nothing of it."""
        found = {name: state_dict.get(f"{prefix}{buffer}") for name, buffer in self._names.items()}
        extra = state_dict.get(f"{prefix}_extra_state")
        some = extra is not None or any(tensor is not None for tensor in found.values())
        problem = self._problem_of(extra) if some else ""
        for name, tensor in found.items():
            expected = self.get_buffer(self._names[name])
            if tensor is not None and not problem and (tensor.dtype, tensor.shape) != (expected.dtype, expected.shape):
                problem = (
                    f"{_PREFIX}{name} is {tuple(tensor.shape)} of {tensor.dtype}, "
                    f"expected {tuple(expected.shape)} of {expected.dtype}"
                )
        if problem:
            lists[-1].append(f"{prefix.rstrip('.') or type(self).__name__}: {problem}")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Apply a move to the buffers; packed tensors keep their dtypes, since their bits are not numbers to round."""
        before = {buffer: self.get_buffer(buffer) for buffer in self._names.values()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            moved = self.get_buffer(name)
            if moved.dtype != tensor.dtype:
                self._buffers[name] = tensor.to(moved.device)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> QuantizedLinear:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        memo[id(self._technique)] = self._technique  # nothing in it belongs to this weight
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        try:
            pickle.dumps(self._technique)
        except Exception as error:
            raise pickle.PicklingError(
                f"a layer of {self._technique.scheme.id} cannot be pickled, as its technique cannot ({error}); "
                "keep its state_dict, and load it into a new layer"
            ) from error
        return super().__reduce_ex__(protocol)


_PREFIX: Final = "weight_"
"""What the names of the buffers of packed tensors begin with."""


def _identity(scheme: Scheme, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    """Return, as JSON can keep it, all that packed tensors do not say of themselves."""
    fields = {name: str(value) if isinstance(value, torch.dtype) else value for name, value in asdict(scheme).items()}
    return {"scheme": fields, "shape": list(shape), "dtype": str(dtype)}


def _told(identity: Mapping[str, Any]) -> str:
    """Return scheme, block length and shape of an identity as a message shows them."""
    block = identity["scheme"]["block"]
    scales = f"blocks of {block}" if block else "rows"
    return f"{identity['scheme']['id']} in {scales}, shape {tuple(identity['shape'])}, {identity['dtype']}"


def stored_bytes(packed: Packed) -> int:
    """Return the bytes of a checkpoint of the weight: those of all its tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in packed.tensors.values())


def live_bytes(technique: QuantizeTechnique, packed: Packed) -> int:
    """Return the bytes of memory that a weight in use takes: its tensors, and those that the technique itself keeps."""
    return kept_bytes(technique, packed.tensors.values())


def kept_bytes(technique: QuantizeTechnique, tensors: Iterable[Tensor]) -> int:
    """Return the bytes of memory that tensors take, and those that the technique itself keeps; each storage once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors([vars(technique), *tensors])
    }
    return sum(storages.values())


def quantized_(model: nn.Module, names: Iterable[str], technique: QuantizeTechnique) -> nn.Module:
    """Quantise the ``nn.Linear`` modules of these names in place, and return the model."""
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        bias = None if linear.bias is None else linear.bias.detach()
        packed = technique.quantize(linear.weight.detach().contiguous())
        model.set_submodule(name, QuantizedLinear(technique, packed, bias))
    return model


def _tensors(roots: Iterable[object]) -> Iterable[Tensor]:
    """Yield the tensors reachable through containers and attributes; modules, callables and classes are passed over."""
    waiting, seen = list(roots), set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple | set):
            waiting.extend(value.values() if isinstance(value, dict) else value)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            waiting.extend(vars(value).values())
