"""The C++ kernel, called through ctypes: it packs, unpacks and multiplies with codebooks of 4 bits.

Products have three precisions: float32 throughout; 16-bit fixed point, which is finer than bfloat16; or bfloat16 levels
and inputs, whose products are summed in float32. The path is the fastest that the processor supports, or the one that
`use_path` sets.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from harness_nf4 import pointers

LIBRARY: Final = Path(__file__).parent / "native" / "libkernel.so"

PATHS: Final = ("portable", "avx2", "avx512", "avx512-bf16", "avx512-amx")
"""The paths by the library's numbers: the last but one has dot products of bfloat16, the last one tiles, too."""

INTERLEAVED: Final = 16
"""Rows whose codes are interleaved, where they are: a word of eight columns of each row after another."""

PIECE: Final = 64
"""The number of columns and the block length must be multiples of this for products without unpacking."""

PRECISIONS: Final = ("auto", "exact", "fixed")
"""The precisions of products.

``exact`` is float32 throughout, ``fixed`` is 16-bit fixed point. ``auto`` is float32 for float32 inputs, fixed point
for float16 inputs, and for bfloat16 inputs the faster one of fixed point and bfloat16.
"""

FEW: Final = 2
"""Up to so many inputs, the product in fixed point is the faster one of long rows; with more, that in bfloat16."""

LONG: Final = 1024
"""With two inputs, rows from this length on are multiplied faster in fixed point, shorter ones in bfloat16.

The rule is fixed for every processor, and not measured where the plugin runs: the two products differ in their last
bits, so a rule that is measured would let a result differ from one run to the next. ``pytest --benchmark-only
plugins/nf4 -k crossover`` shows what it costs.
"""

MANY: Final = 128
"""Up to so many inputs, the product in fixed point is the faster one of interleaved codes, else that in bfloat16.

On Intel's processors without tiles the product in fixed point is the faster one of any number of inputs.
"""

FEW_BESIDE_TILES: Final = 4
MANY_BESIDE_TILES: Final = 12
"""The same numbers of inputs where the path has tiles of bfloat16."""

_TILE: Final = 1 << 20
"""Weights unpacked at a time, where products need unpacking."""

_path: int | None = None


_WEIGHTS: Final = struct.Struct("@4Pd4q64s")
"""HarnessWeights of kernel.cpp: addresses, the mean of scales, lengths, levels. A ctypes.Structure takes four times as
long to fill, which a small product notices."""


class _Rounding(ctypes.Structure):
    _fields_ = (("bounds", ctypes.c_double * 15), ("names", ctypes.c_int32 * 16), ("zero", ctypes.c_int32))


class Codebook:
    """A codebook of up to 16 levels by code, of which the largest in absolute value is 1; levels need not ascend.

    Where a level has two codes, as 0 has in FP4, the first code is used.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)
        table = torch.tensor(levels, dtype=torch.float32)
        first = [code for code, level in enumerate(levels) if list(levels).index(level) == code]
        names = sorted(first, key=lambda code: levels[code])
        ordered = table[names].double()
        bounds = ((ordered[1:] + ordered[:-1]) / 2).tolist()
        self._levels = struct.pack("16f", *table.tolist(), *[0.0] * (16 - len(table)))
        self._rounding = _Rounding()
        self._rounding.bounds[:] = [*bounds, *[float("inf")] * (15 - len(bounds))]
        self._rounding.names[:] = [*names, *[0] * (16 - len(names))]
        self._rounding.zero = names[sum(bound < 0 for bound in bounds)]

    def quantize(self, weight: Tensor, block: int) -> tuple[Tensor, Tensor]:
        """Return codes uint8 ``((n + 1) // 2,)``, the first of two in the high half, and absmax float32 ``(blocks,)``.

        ``weight`` must be float32 and contiguous. The absmax of a block with NaN or infinity is NaN or infinity.
        Raises ValueError where ``weight`` is anything else, or ``block`` is not even.
        """
        count = weight.numel()
        address = pointers.require("the weight", weight, torch.float32, count)
        block = _cut(block, count)
        codes = torch.empty((count + 1) // 2, dtype=torch.uint8)
        absmax = torch.empty(-(-count // block), dtype=torch.float32)
        _library().harness_quantize(
            chosen_path(), torch.get_num_threads(), ctypes.byref(self._rounding), address, count, block,
            codes.data_ptr(), absmax.data_ptr(),
        )  # fmt: skip
        return codes, absmax

    def __reduce__(self) -> tuple[type[Codebook], tuple[tuple[float, ...]]]:
        return Codebook, (self.levels,)

    def weights(self, matrix: Matrix) -> bytes:
        """Return a matrix as the library takes it; the matrix's tensors must outlive what is returned.

        Raises ValueError where a tensor is not what the library reads for the matrix's shape and blocks.
        """
        _, packed, rows, columns, block, absmax, small_absmax, group_scale, mean, group, _ = matrix
        count = rows * columns
        block = _cut(block, count)
        blocks = -(-count // block)
        codes = pointers.require("codes", packed, torch.uint8, (count + 1) // 2)
        scale = small = large = 0
        if absmax is not None:
            scale = pointers.require("absmax", absmax, torch.float32, blocks)
        elif small_absmax is not None and group_scale is not None:
            small = pointers.require("absmax", small_absmax, torch.int8, blocks)
            large = pointers.require("the scales of absmax", group_scale, torch.float32, -(-blocks // group))
        else:
            raise ValueError("a matrix without scales: expected absmax, or small_absmax and group_scale")
        return _WEIGHTS.pack(codes, scale, small, large, mean, group, rows, columns, block, self._levels)


def _cut(block: int, count: int) -> int:
    """Return a block length, cut to the even length that holds ``count`` weights; raise ValueError where it is odd."""
    if block < 2 or block % 2:
        raise ValueError(f"block {block}: expected an even number")
    return min(block, max(2, count + count % 2))


class Matrix(NamedTuple):
    """A packed matrix with float32 ``absmax`` for each block, or with an absmax in 8 bits.

    In 8 bits, absmax is ``mean + small_absmax * group_scale``, with one ``group_scale`` for ``group`` blocks.
    ``interleaved`` says that `interleave` wrote the codes, and ``absmax`` where that has a scale for every 64 weights.
    """

    codebook: Codebook
    codes: Tensor
    rows: int
    columns: int
    block: int
    absmax: Tensor | None = None
    small_absmax: Tensor | None = None
    group_scale: Tensor | None = None
    mean: float = 0.0
    group: int = 1
    interleaved: bool = False

    @property
    def whole(self) -> bool:
        """Whether products can be computed without unpacking: each row begins with a block."""
        return self.columns > 0 and self.columns % PIECE == 0 and self.block % PIECE == 0

    def in_rows(self) -> Matrix:
        """Return the matrix with its codes in rows."""
        if not self.interleaved:
            return self
        codes, absmax = interleave(self.codes, self.rows, back=True), self.absmax
        if absmax is not None and self.block == PIECE:
            absmax = interleave(absmax, self.rows, back=True)
        return self._replace(codes=codes, absmax=absmax, interleaved=False)

    def dequantize(self) -> Tensor:
        """Return all weights, float32 ``(rows, columns)``."""
        return self.in_rows()._unpacked(0, self.rows, torch.empty(self.rows, self.columns))

    def product(self, x: Tensor, precision: str) -> Tensor:
        """Return ``x`` ``(n, columns)`` times the transposed matrix, ``(n, rows)``, in the dtype of ``x``.

        ``precision`` is one of `PRECISIONS`. Raises ValueError where ``x`` or a packed tensor is of another shape.
        """
        dtype, auto = x.dtype, precision == "auto"
        exact = precision == "exact" or (auto and (dtype is torch.float32 or dtype is torch.float64))
        if auto and dtype is torch.bfloat16 and self._prefers_halves(x.shape[0]):
            product = self.multiply_halves(x)
            if product is not None:
                return product
        if self.interleaved:
            together = None if exact else self.multiply_interleaved(x)
            return self.in_rows().product(x, precision) if together is None else together
        return self.multiply(x, exact=exact)

    def _prefers_halves(self, inputs: int) -> bool:
        """Return whether the path has the product in bfloat16, and it is the faster one."""
        path = chosen_path()
        if path < PATHS.index("avx512-bf16"):
            return False
        if path == PATHS.index("avx512-amx"):
            return inputs > (MANY_BESIDE_TILES if self.interleaved else FEW_BESIDE_TILES)
        if self.interleaved:
            return inputs > MANY and not _library().harness_prefers_integers()
        return inputs > FEW or (inputs > 1 and self.columns < LONG)

    def multiply(self, x: Tensor, *, exact: bool) -> Tensor:
        """Return ``x`` ``(n, columns)`` times the transposed matrix, ``(n, rows)``, in the dtype of ``x``.

        Products are computed in float32 if ``exact``, else in 16-bit fixed point. Inputs that fixed point cannot
        represent (values that are not finite, or 64 neighbours all below 1e-30) are multiplied in float32.
        Raises ValueError where ``x`` or a packed tensor is of another dtype or shape.
        """
        inputs = pointers.require_matrix("the input", x, self.columns)
        if inputs and not exact and self.whole:
            found = self._in_fixed_point(x, inputs)
            if found is not None:
                return found
        given = pointers.cast(x, torch.float32).contiguous()
        address = pointers.require("the input", given, torch.float32, inputs * self.columns)
        if inputs == 1 and self.whole:
            return pointers.cast(self._exact_row(address), x.dtype)
        out = torch.empty(inputs, self.rows)
        step = min(self.rows, max(1, _TILE // max(1, self.columns)))
        tile = torch.empty(step, self.columns)
        for begin in range(0, self.rows, step):
            end = min(self.rows, begin + step)
            torch.mm(given, self._unpacked(begin, end, tile[: end - begin]).T, out=out[:, begin:end])
        return pointers.cast(out, x.dtype)

    def _in_fixed_point(self, x: Tensor, inputs: int) -> Tensor | None:
        """Return the product in the dtype of ``x``, or None where fixed point cannot represent ``x``."""
        given, address, out = self._given(x, inputs)
        weights = self.codebook.weights(self)
        failed = _library().harness_multiply(
            chosen_path(), torch.get_num_threads(), weights, out.dtype is torch.bfloat16, address, inputs,
            out.data_ptr(),
        )  # fmt: skip
        del given  # which lives as long as its address is used
        return None if failed else pointers.cast(out, x.dtype)

    def _given(self, x: Tensor, inputs: int) -> tuple[Tensor, int, Tensor]:
        """Return inputs as the products in fixed point read them, their address, and room for the products."""
        dtype = x.dtype if x.dtype is torch.bfloat16 else torch.float32
        given = pointers.cast(x, dtype).contiguous()
        address = pointers.require("the input", given, dtype, inputs * self.columns)
        return given, address, given.new_empty(inputs, self.rows)

    def multiply_interleaved(self, x: Tensor) -> Tensor | None:
        """Return ``x`` ``(n, columns)`` times the transposed matrix, in the dtype of ``x``, from interleaved codes.

        Products are computed in fixed point of 13 bits and a sign. None where the path has no such product, or fixed
        point cannot represent the inputs. Raises ValueError where ``x`` or a packed tensor has another dtype or shape.
        """
        inputs = pointers.require_matrix("the input", x, self.columns)
        given, address, out = self._given(x, inputs)
        if inputs:
            weights = self.codebook.weights(self)
            if _library().harness_multiply_interleaved(
                chosen_path(), torch.get_num_threads(), weights, out.dtype is torch.bfloat16, address, inputs,
                out.data_ptr(),
            ):  # fmt: skip
                return None
        del given  # which lives as long as its address is used
        return pointers.cast(out, x.dtype)

    def multiply_halves(self, x: Tensor) -> Tensor | None:
        """Return ``x`` bfloat16 ``(n, columns)`` times the transposed matrix, bfloat16 ``(n, rows)``.

        Weights are rounded to bfloat16, or, without tiles, levels for up to 16 inputs of codes in rows and up to 8 left
        over from vectors of 16; products are summed in float32. With interleaved codes those left over are multiplied
        in fixed point, if that holds them. None where the path has no such product, products need unpacking, or weights
        are rounded and a scale is neither 0 nor between 1e-30 and 1e38.
        Raises ValueError where ``x`` or a packed tensor is of another dtype or shape.
        """
        inputs = pointers.require_matrix("the input", x, self.columns)
        if not self.whole:
            return None
        x = x.contiguous()
        address = pointers.require("the input", x, torch.bfloat16, inputs * self.columns)
        out = x.new_empty(inputs, self.rows)
        weights = self.codebook.weights(self)
        failed = _library().harness_multiply_halves(
            chosen_path(), torch.get_num_threads(), weights, self.interleaved, address, inputs,
            out.data_ptr(),
        )  # fmt: skip
        return None if failed else out

    def _exact_row(self, address: int) -> Tensor:
        """Return the product of the contiguous float32 input at an address, ``(1, rows)``."""
        out = torch.empty(1, self.rows)
        weights = self.codebook.weights(self)
        _library().harness_multiply_exact(chosen_path(), torch.get_num_threads(), weights, address, out.data_ptr())
        return out

    def _unpacked(self, begin: int, end: int, out: Tensor) -> Tensor:
        """Write the rows from ``begin`` to ``end`` to ``out``, contiguous float32 of as many rows, and return it."""
        weights = self.codebook.weights(self)
        _library().harness_dequantize(
            chosen_path(), torch.get_num_threads(), weights, begin * self.columns, end * self.columns,
            out.data_ptr(),
        )  # fmt: skip
        return out


def interleaves(shape: Sequence[int], block: int) -> bool:
    """Return whether products of a weight are computed from interleaved codes: on paths with AVX-512, by its shape.

    Elsewhere such codes would be put in rows before each product.
    """
    by_shape = len(shape) == 2 and shape[0] >= INTERLEAVED and shape[1] > 0 and not (shape[1] % PIECE or block % PIECE)
    return by_shape and chosen_path() >= PATHS.index("avx512")


def interleave(tensor: Tensor, rows: int, *, back: bool = False) -> Tensor:
    """Return the words of 32 bits of rows with those of every `INTERLEAVED` rows interleaved, or such words in rows.

    Raises ValueError where the tensor is not contiguous, or is not of rows of whole words.
    """
    words, rest = divmod(tensor.nbytes, 4 * rows)
    if rest:
        raise ValueError(f"{tensor.nbytes} bytes in {rows} rows: expected rows of whole words of 4 bytes")
    address = pointers.require("what is interleaved", tensor, tensor.dtype, tensor.numel())
    out = torch.empty_like(tensor)
    _library().harness_interleave(address, rows, words, back, out.data_ptr())
    return out


def available() -> bool:
    """Return whether the library was built when the plugin was installed."""
    return LIBRARY.is_file()


def supported_paths() -> tuple[str, ...]:
    """Return the paths that this processor supports, the slowest first."""
    return tuple(name for number, name in enumerate(PATHS) if _library().harness_supported(number))


@contextmanager
def use_path(name: str) -> Iterator[None]:
    """Use this path inside the block; raise ValueError where the processor does not support it."""
    global _path
    if name not in supported_paths():
        raise ValueError(f"path {name!r}: this processor supports {', '.join(supported_paths())}")
    before, _path = _path, PATHS.index(name)
    try:
        yield
    finally:
        _path = before


def chosen_path() -> int:
    """Return the number of the path that products take: the forced one, or the processor's fastest."""
    return _best_path(LIBRARY) if _path is None else _path


@lru_cache
def _best_path(_: Path) -> int:
    return PATHS.index(supported_paths()[-1])


def _library() -> ctypes.CDLL:
    return loaded(LIBRARY)


@lru_cache
def loaded(path: Path) -> ctypes.CDLL:
    """Return the library of a file, which shares its work among the threads of torch."""
    library = ctypes.CDLL(str(path))
    pointer, integer, long, packed = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p
    library.harness_supported.argtypes = (integer,)
    library.harness_use_pool.argtypes = (pointer,)
    library.harness_quantize.argtypes = (integer, integer, pointer, pointer, long, long, pointer, pointer)
    library.harness_dequantize.argtypes = (integer, integer, packed, long, long, pointer)
    library.harness_multiply.argtypes = (integer, integer, packed, integer, pointer, long, pointer)
    library.harness_multiply_halves.argtypes = (integer, integer, packed, integer, pointer, long, pointer)
    library.harness_multiply_interleaved.argtypes = (integer, integer, packed, integer, pointer, long, pointer)
    library.harness_interleave.argtypes = (pointer, long, long, integer, pointer)
    library.harness_multiply_exact.argtypes = (integer, integer, packed, pointer, pointer)
    for name in ("use_pool", "quantize", "dequantize", "interleave", "multiply_exact"):
        getattr(library, f"harness_{name}").restype = None
    library.harness_use_pool(pool())
    return library


def pool() -> int | None:
    """Return the address of ``GOMP_parallel`` in the OpenMP runtime that torch uses; None where torch uses none.

    The threads of a second runtime would compete with torch's threads for the processors.
    """
    folder = Path(torch.__file__).parent
    libraries = [*(folder / "lib").glob("lib*omp*.so*"), *(folder.parent / "torch.libs").glob("lib*omp*.so*")]
    for path in libraries:
        runtime = ctypes.CDLL(str(path))
        if hasattr(runtime, "GOMP_parallel"):
            return ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p).value
    return None
