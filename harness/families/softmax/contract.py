"""The contract ``softmax``: the softmax of rows of float32, and how often a technique passes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How often a technique goes over a row of float32, from which the workload derives bytes and limits of time."""

    reading: int
    """Passes that read every number of the row and write none, 0 or more."""

    copying: int
    """Passes that read every number of the row and write as many, 0 or more."""

    @property
    def bytes(self) -> int:
        """Bytes moved for each number of a row that fits into no cache: 4 a reading pass, 8 a copying pass."""
        return 4 * self.reading + 8 * self.copying


@runtime_checkable
class SoftmaxTechnique(Protocol):
    """An implementation of softmax over the last axis, on the CPU.

    The gate compares ``softmax`` with the definition in float64, on rows of 0 to 2^20 numbers: normal, very large, very
    small, equal, masked with -infinity, with NaN. The judge raises `harness.api.Incorrect` where an invariant is
    broken; the technique itself raises nothing on these inputs.
    """

    passes: Passes
    """The passes over memory that the algorithm needs on a row that fits into no cache."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``.

        Both are contiguous float32 ``(rows, n)`` tensors on the CPU without overlap; either axis may have length 0, and
        neither tensor need begin at an aligned address.

        The gate requires each probability to be within 1e-5 of the exact one, relative to it, and each row to sum to 1
        within 1e-5. A constant added to a row may change no probability by more than 1e-5 of it.

        A row with NaN or +infinity, or of -infinity alone, becomes NaN throughout, and -infinity beside finite numbers
        becomes 0, as in ``torch.softmax``.

        ``x`` and the memory around ``out`` must stay unchanged, and a second call must give the same result.
        """
