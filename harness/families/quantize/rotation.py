"""Copies of a packed weight used in rotation, so that each is out of the cache when it is read again."""

from __future__ import annotations

from dataclasses import replace

from harness.families.quantize.contract import Packed, stored_bytes
from harness.judge.machine import Rotation


def rotated(packed: Packed) -> Rotation[Packed]:
    """Return a rotation over a packed weight and its copies."""
    device = next(iter(packed.tensors.values())).device
    return Rotation(packed, stored_bytes(packed), _copied, str(device))


def _copied(packed: Packed) -> Packed:
    return replace(packed, tensors={name: tensor.clone() for name, tensor in packed.tensors.items()})
