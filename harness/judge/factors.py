"""Factorisations of weights, such as singular value decompositions, each computed once and kept in the cache.

A technique that starts from factors of the base model's weights would compute the same ones in every case::

    @factorisation
    def largest_triples(weight: Tensor, *, rank: int) -> tuple[Tensor, ...]:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank]

    found = task.factors(largest_triples, {name: model.get_submodule(name).weight for name in task.linears}, rank=4)

What is kept is named by all that it follows from: the bits of the weights, the sources of the function, the options,
torch, the processor and its threads. So it has the bits that the function gives, in every case.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Incorrect, Json
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.fresh import same_bits
from harness.measure.environment import KERNEL_VARIABLES, THREAD_VARIABLES, processor
from harness.measure.unforeseen import random_bits


@dataclass(frozen=True, kw_only=True)
class Factorisation:
    """A function of a weight, and of options that JSON can hold, that returns tensors; `factorisation` makes it."""

    function: Callable[..., Sequence[Tensor]]
    """What computes the factors, from a copy of the weight."""

    @property
    def name(self) -> str:
        """The module and the name of the function."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    def __call__(self, weight: Tensor, **options: Json) -> tuple[Tensor, ...]:
        """Return the factors of a weight, contiguous, computed now.

        The function gets a copy of the weight and finds torch's generator in the same state at every call.
        """
        with torch.no_grad(), torch.random.fork_rng([]):
            torch.default_generator.manual_seed(0)
            found = self.function(weight.detach().clone(), **options)
            return tuple(factor.detach().contiguous().clone() for factor in found)


def factorisation(function: Callable[..., Sequence[Tensor]]) -> Factorisation:
    """Return a function of a module as a factorisation; the sources that it needs are read now.

    Raises ValueError for a function that could remember something: one made within another, with defaults, or without
    a module that has it.
    """
    if function.__closure__ or "<" in function.__qualname__ or "." in function.__qualname__:
        raise ValueError(f"{function.__qualname__}: expected a function of a module, which remembers nothing")
    if any(entry.default is not entry.empty for entry in signature(function).parameters.values()):
        raise ValueError(f"{function.__qualname__}: expected a function without defaults, which a call could change")
    sources_of(function.__module__)
    return Factorisation(function=function)


class Factors:
    """What a technique may ask for factors: from the ``cache``, or computed anew where there is none.

    Where ``thorough``, what is kept is computed anew for all weights and compared, otherwise for one, which is chosen
    anew in every case: a technique could otherwise keep something there that it has learned in another case.
    """

    def __init__(self, cache: Path | None = None, *, thorough: bool = False) -> None:
        self._cache = cache
        self._thorough = thorough

    def __call__(
        self, compute: Factorisation, weights: Mapping[str, Tensor], **options: Json
    ) -> dict[str, tuple[Tensor, ...]]:
        """Return the factors of each weight by its name, on its device.

        Raises `harness.api.Incorrect` where the function gives others than those that are kept.
        """
        if self._cache is None or not weights:
            return {name: compute(weight, **options) for name, weight in weights.items()}
        digests = {name: _digest(weight) for name, weight in weights.items()}
        different = {digest: weights[name] for name, digest in digests.items()}
        facts = _facts(compute, options, next(iter(weights.values())).device)
        key = key_of({**facts, "weights": sorted(different)})
        made = load_or_make(self._cache, f"factors-{key}", lambda: _computed(compute, different, options))
        kept: dict[str, list[Tensor]] = {digest: [] for digest in different}
        for label in sorted(made, key=lambda label: int(label.partition(".")[2])):
            kept[label.partition(".")[0]].append(made[label])
        self._require_same(compute, different, kept, options)
        return {
            name: tuple(factor.to(weights[name].device, copy=True) for factor in kept[digest])
            for name, digest in digests.items()
        }

    def _require_same(
        self,
        compute: Factorisation,
        weights: Mapping[str, Tensor],
        kept: Mapping[str, Sequence[Tensor]],
        options: Mapping[str, Json],
    ) -> None:
        names = sorted(weights)
        for name in names if self._thorough else [names[random_bits(32) % len(names)]]:
            found = compute(weights[name], **options)
            if len(found) != len(kept[name]) or not all(map(_same, found, kept[name])):
                raise Incorrect(
                    f"{compute.name} gives other factors of the same weight than before, which the cache has kept: "
                    "expected a function of the weight and its options alone"
                )


ANEW: Final = Factors()
"""Computes everything anew, as a user has to once."""


def _computed(compute: Factorisation, weights: Mapping[str, Tensor], options: Mapping[str, Json]) -> dict[str, Tensor]:
    """Return the factors of all weights as the cache keeps them: by the weight's digest and the factor's number."""
    return {
        f"{digest}.{number}": factor.cpu()
        for digest, weight in weights.items()
        for number, factor in enumerate(compute(weight, **options))
    }


def _facts(compute: Factorisation, options: Mapping[str, Json], device: torch.device) -> dict[str, Any]:
    """Return what the bits of factors follow from beside the weights."""
    return {
        "function": compute.name,
        "options": dict(options),
        "sources": sources_of(compute.function.__module__),
        "torch": torch.__version__,
        "machine": [sys.platform, processor(), torch.get_num_threads()],
        "variables": {name: os.environ.get(name) for name in (*THREAD_VARIABLES, *KERNEL_VARIABLES)},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def _digest(weight: Tensor) -> str:
    """Return the SHA-256 of a weight's dtype, shape and bits."""
    value = weight.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    digest.update(value.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _same(found: Tensor, kept: Tensor) -> bool:
    found = found.cpu()
    return found.shape == kept.shape and found.dtype == kept.dtype and same_bits(found, kept)
