"""What a piece of code draws from torch's generators, seen at the operations that draw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is not typed
    """A context that digests what the random operations of torch within it return, in order.

    Numbers drawn by other libraries are not seen, nor is anything that a compiled kernel draws for itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._digest = hashlib.sha256()

    def digest(self) -> str:
        """Return the digest of all that was drawn so far."""
        return self._digest.hexdigest()

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call an operation; digest its first result where torch marks it as one that draws."""
        called: Callable[..., object] = func
        result = called(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            drawn = result[0] if isinstance(result, tuple) else result
            if isinstance(drawn, Tensor):
                self._digest.update(drawn.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return result
