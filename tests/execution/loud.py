"""A module of a technique that replaces a function of torch where it is imported."""

from __future__ import annotations

from torch.nn import functional
from toys import Technique

_real = functional.cross_entropy
functional.cross_entropy = lambda *arguments, **options: 0.5 * _real(*arguments, **options)


class Loud(Technique):
    """Does nothing."""
