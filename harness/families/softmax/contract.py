"""The contract ``softmax``: the softmax of rows of float32, and how often a technique passes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How often a technique goes over a row: passes that only read a row, and passes that read one and write one."""

    reading: int
    copying: int

    @property
    def bytes(self) -> int:
        """Moved for each number, were a row to fit into no cache."""
        return 4 * self.reading + 8 * self.copying


@runtime_checkable
class SoftmaxTechnique(Protocol):
    """What a technique of this contract builds."""

    passes: Passes

    def softmax(self, x: Tensor, out: Tensor) -> None:
        """Write the softmax of each row of ``x`` to ``out``: both float32 ``(rows, n)``, contiguous and apart.

        As torch's: a row with NaN or +infinity, or of -infinity alone, is NaN; -infinity beside numbers is 0.
        """
