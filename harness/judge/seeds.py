"""Randomness: a generator for each purpose of a case's seed, and torch's global generators."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for one purpose of a seed, independent of the generators of all other purposes."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def global_seed(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators within the context, on the CPU and ``device``, and restore them afterwards."""
    accelerators = [] if device == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=device.partition(":")[0] if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, purpose: str) -> int:
    """Return the seed of torch's global generator for one purpose of a case's seed."""
    return generator(seed, purpose).initial_seed()
