"""Checks of tensors before native code is given their addresses, which trusts them.

This module needs nothing of the harness, so that a report of a wrong result can load the file alone.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

ALIGNMENT: Final = 64
"""Torch's own products load vectors that may need an address which is a multiple of this; torch allocates so."""


def require(name: str, tensor: Tensor, dtype: torch.dtype, count: int) -> int:
    """Return the address of a tensor; raise ValueError where it is not a contiguous one of this dtype and length."""
    address = tensor.data_ptr()
    if not (
        tensor.dtype is dtype
        and tensor.numel() == count
        and tensor.is_cpu
        and tensor.is_contiguous()
        and not address % dtype.itemsize
    ):
        raise ValueError(
            f"{name} has {tensor.numel()} numbers of {tensor.dtype} on {tensor.device}, strides {tensor.stride()}: "
            f"expected {count} of {dtype}, contiguous, on the CPU"
        )
    return address


def require_beside(name: str, tensor: Tensor, dtype: torch.dtype, count: int, device: torch.device) -> None:
    """Raise ValueError where a tensor is not a contiguous one of this dtype, length and device."""
    if not (tensor.dtype is dtype and tensor.numel() == count and tensor.device == device and tensor.is_contiguous()):
        raise ValueError(
            f"{name} has {tensor.numel()} numbers of {tensor.dtype} on {tensor.device}, strides {tensor.stride()}: "
            f"expected {count} of {dtype}, contiguous, on {device}"
        )


def require_matrix(name: str, tensor: Tensor, columns: int) -> int:
    """Return the number of rows of a matrix; raise ValueError where a tensor is none of so many columns."""
    shape = tensor.shape
    if len(shape) != 2 or shape[1] != columns:
        raise ValueError(f"{name} has shape {tuple(shape)}: expected (n, {columns})")
    return shape[0]


def aligned(tensor: Tensor) -> Tensor:
    """Return a tensor that is contiguous and begins at an aligned address: itself, or else a copy."""
    if tensor.is_contiguous() and not tensor.data_ptr() % ALIGNMENT:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def readable(name: str, tensor: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    """Return a tensor as torch's own products read it: itself where it is aligned and contiguous, or else a copy.

    Raises ValueError where it has another dtype or length.
    """
    if (
        tensor.dtype is dtype
        and tensor.numel() == count
        and tensor.is_cpu
        and tensor.is_contiguous()
        and not tensor.data_ptr() % ALIGNMENT
    ):
        return tensor
    copied = aligned(tensor)
    require(name, copied, dtype, count)
    return copied


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in a dtype: itself where it has it, without torch's own call, which costs microseconds."""
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
