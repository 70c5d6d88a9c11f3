"""Softmax: four algorithms of the C++ kernel, which differ in their passes over a row, and torch's own."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import Unavailable, one_of
from harness.families.softmax.contract import Passes
from harness_nf4 import kernel, pointers

ALGORITHMS: Final = {
    "three-pass-recompute": Passes(reading=2, copying=1),
    "three-pass-reload": Passes(reading=1, copying=2),
    "two-pass": Passes(reading=1, copying=1),
    "online": Passes(reading=1, copying=1),
}
"""The passes of each algorithm by name, in the order of the library's numbers.

An algorithm of three passes finds the maximum, sums exponentials, and writes results, for which it computes the
exponentials again or scales those that the second pass stored. ``two-pass`` (arXiv:2001.04438) sums exponentials as
pairs of mantissa and exponent, which needs no maximum; ``online`` (arXiv:1805.02867) finds the maximum in the pass
that sums, and rescales the sum whenever the maximum rises.
"""


PATHS: Final = kernel.PATHS[:3]
"""The paths of the algorithms: dot products are of no use to them."""


class Softmax:
    """One of `ALGORITHMS` in C++; ``path`` is one of `PATHS`, or ``auto`` for the processor's fastest.

    Torch's number of threads decides how many share the rows, or the parts of a long row; the bits are those of one.

    Raises `harness.api.Unavailable` where the library was not built, or the processor does not support the path.
    """

    def __init__(self, *, algorithm: str, path: str = "auto") -> None:
        one_of("algorithm", algorithm, list(ALGORITHMS))
        one_of("path", path, ("auto", *PATHS))
        if not kernel.available():
            raise Unavailable("the plugin was installed without its C++ kernel, for want of a compiler")
        supported = [name for name in PATHS if name in kernel.supported_paths()]
        if path not in ("auto", *supported):
            raise Unavailable(f"this processor has no {path}; it supports {', '.join(supported)}")
        self.passes = ALGORITHMS[algorithm]
        self._algorithm = list(ALGORITHMS).index(algorithm)
        self._path = PATHS.index(supported[-1] if path == "auto" else path)
        self._run = _library(kernel.LIBRARY).harness_softmax

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``, both float32 ``(rows, n)``, contiguous and disjoint.

        Raises ValueError for other tensors.
        """
        if x.ndim != 2 or x.shape != out.shape:
            raise ValueError(f"softmax of shape {tuple(x.shape)} to {tuple(out.shape)}: expected (rows, n) of both")
        rows, columns = x.shape
        count = rows * columns
        source = pointers.require("x", x, torch.float32, count)
        target = pointers.require("out", out, torch.float32, count)
        if abs(source - target) < 4 * count:
            raise ValueError("x and out share memory: expected disjoint tensors")
        self._run(self._path, torch.get_num_threads(), self._algorithm, source, rows, columns, target)


class TorchSoftmax:
    """Torch's softmax, which takes four passes: maximum, stored exponentials, their sum, and scaling."""

    passes = Passes(reading=2, copying=2)

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``, float32 ``(rows, n)``."""
        torch.softmax(x, 1, out=out)


@lru_cache
def _library(path: Path) -> ctypes.CDLL:
    library = kernel.loaded(path)
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.harness_softmax.argtypes = (integer, integer, integer, pointer, long, long, pointer)
    library.harness_softmax.restype = None
    return library
