"""Randomness of the judge: a generator for each purpose of a seed, and the global seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of a seed, independent of all others: what one draws moves no other."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def global_seed(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators, for what draws from them, and leave them as they were."""
    accelerators = [] if device == "cpu" else [device]
    with torch.random.fork_rng(accelerators, device_type=device.partition(":")[0] if accelerators else "cuda"):
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, purpose: str) -> int:
    """Return the seed of torch's global generator for one purpose of a case's seed."""
    return generator(seed, purpose).initial_seed()
