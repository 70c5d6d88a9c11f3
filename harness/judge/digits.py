"""The data of the judge's workloads: real, small, shipped with the libraries, and identified by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.api import HarnessError

DIGITS_SHA256: Final = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Of the pixels and labels of scikit-learn's digits, one byte each. Other data would be another workload."""

LEVELS: Final = 16
"""The digits' pixels are integers from 0 to this."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Images of handwritten digits: ``pixels`` uint8 ``(n, 8, 8)`` from 0 to 16, ``labels`` uint8 ``(n,)``."""

    pixels: Tensor
    labels: Tensor

    def select(self, low: int, high: int) -> Digits:
        """The images of the digits from ``low`` to ``high``, both included."""
        wanted = (self.labels >= low) & (self.labels <= high)
        return Digits(pixels=self.pixels[wanted], labels=self.labels[wanted])


def read_digits() -> Digits:
    """The 1797 digits that scikit-learn ships (UCI, Alpaydin and Kaynak 1998); raises HarnessError if they changed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.from_numpy(found.images).to(torch.uint8)
    labels = torch.from_numpy(found.target).to(torch.uint8)
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise HarnessError(
            f"scikit-learn's digits have the SHA-256 {digest[:12]}…; expected {DIGITS_SHA256[:12]}…; "
            "install a release of scikit-learn whose digits are the same, like 1.9"
        )
    return Digits(pixels=pixels, labels=labels)


def scaled(pixels: Tensor) -> Tensor:
    """Pixels as the models see them: float32 of the same shape, from -1 to 1."""
    return pixels.float() / LEVELS * 2 - 1
