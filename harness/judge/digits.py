"""Scikit-learn's handwritten digits, identified by their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from harness.api import HarnessError

DIGITS_SHA256: Final = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""The SHA-256 of the pixels and labels, one byte each. Other data would make another workload."""

LEVELS: Final = 16
"""The largest value of a pixel."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Images of handwritten digits: ``pixels`` uint8 ``(n, 8, 8)`` from 0 to 16, ``labels`` uint8 ``(n,)``."""

    pixels: Tensor
    labels: Tensor

    def select(self, low: int, high: int) -> Digits:
        """Return the images of the digits from ``low`` to ``high``, both included."""
        wanted = (self.labels >= low) & (self.labels <= high)
        return Digits(pixels=self.pixels[wanted], labels=self.labels[wanted])


def read_digits() -> Digits:
    """Return the 1797 digits of scikit-learn (UCI, Alpaydin and Kaynak 1998).

    Raises HarnessError where their SHA-256 is not `DIGITS_SHA256`.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = torch.from_numpy(bundle.images).to(torch.uint8)
    labels = torch.from_numpy(bundle.target).to(torch.uint8)
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise HarnessError(
            f"scikit-learn's digits have the SHA-256 {digest[:12]}…; expected {DIGITS_SHA256[:12]}…; "
            "install a release of scikit-learn whose digits are the same, like 1.9"
        )
    return Digits(pixels=pixels, labels=labels)


def scaled(pixels: Tensor) -> Tensor:
    """Return pixels as the models' inputs: float32 of the same shape, from -1 to 1."""
    return pixels.float() / LEVELS * 2 - 1
