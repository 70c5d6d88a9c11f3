"""What is fixed on a GPU before a case begins: the one device that it sees, and how float32 is multiplied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""The variable by which the driver's library shows a process only some of a machine's GPUs."""


def see_one(card: str = "") -> None:
    """Let this process see one GPU only: a given one, or the first that the user lets it see, else the machine's first.

    Must be called before a context is made. A contestant then cannot compute on a device that nobody watches.
    """
    os.environ[VISIBLE] = card or os.environ.get(VISIBLE, "0").partition(",")[0]


def compute_in_full() -> None:
    """Set float32 products and convolutions to be computed in float32, and sums of half precision, too.

    torch lets cuDNN's convolutions round float32 inputs to TF32, of 10 bits, and cuBLAS round the partial sums of
    products in half precision. A technique's error would then be one of the card's generation.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def settings() -> dict[str, object]:
    """Return what `compute_in_full` sets, by name, and which of cuBLAS, cuDNN and flash attention may be used."""
    import torch

    matmul = torch.backends.cuda.matmul
    return {
        "TF32 in convolutions": told(lambda: torch.backends.cudnn.allow_tf32),
        "TF32 in products": told(lambda: matmul.allow_tf32),
        "reduced precision of sums in bfloat16": matmul.allow_bf16_reduced_precision_reduction,
        "reduced precision of sums in float16": matmul.allow_fp16_reduced_precision_reduction,
        "the use of cuDNN": torch.backends.cudnn.enabled,
        "the kernels of cuDNN": torch.backends.cudnn.deterministic,
        "the current stream": _current_stream(),
    }


def told(ask: Callable[[], object]) -> object:
    """Return what torch tells of a setting; it refuses where the setting was made by torch's older and newer name."""
    try:
        return ask()
    except RuntimeError:
        return "set in two ways"


def in_use() -> bool:
    """Return whether this process has a CUDA context, which a forked process could not use."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


_graphs_are_used = True  # one process, one lane


def graphs_are_used() -> bool:
    """Return whether what techniques ask to have captured in CUDA graphs is captured."""
    return _graphs_are_used


@contextmanager
def without_graphs() -> Iterator[None]:
    """Capture nothing within the context: the allocator does not count what a replay of a graph uses."""
    global _graphs_are_used
    before, _graphs_are_used = _graphs_are_used, False
    try:
        yield
    finally:
        _graphs_are_used = before


def _current_stream() -> int:
    """Return the handle of the current stream; 0, that of the default stream, where there is no context."""
    import torch

    return int(torch.cuda.current_stream().cuda_stream) if in_use() else 0
