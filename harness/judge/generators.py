"""The global generators of random numbers, which cases that share a process would share, too."""

from __future__ import annotations

import pickle
import random

import numpy as np
import torch

from harness.api import CannotStack


class GlobalGenerators:
    """The streams that all seeds would share, which none may therefore draw from."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = self._states()

    def require_untouched(self) -> None:
        """Raise CannotStack where anything has been drawn since."""
        for name, before, now in zip(("torch", "random", "numpy"), self._before, self._states(), strict=True):
            if before != now:
                raise CannotStack(f"it draws from {name}'s global generator")

    def _states(self) -> tuple[object, ...]:
        streams = [torch.get_rng_state()]
        if self._device.startswith("cuda"):
            streams.append(torch.cuda.get_rng_state(self._device))
        legacy = np.random.get_state(legacy=False)
        return [stream.numpy().tobytes() for stream in streams], random.getstate(), pickle.dumps(legacy)
