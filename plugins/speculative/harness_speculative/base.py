"""What every technique of this plugin shares, and how parameters are checked."""

from __future__ import annotations

from harness.api import UsageError
from harness.families.decode.contract import Decoder, Models, Sampling


class Technique:
    """The common part of a `DecodeTechnique`: it keeps all of the target's heads, and its samples are exact."""

    kv_heads: int = 4
    longest: int = 0
    slow: bool = False

    def exact(self, sampling: Sampling) -> bool:  # noqa: ARG002
        """Yes; who says no overrides this."""
        return True

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """The decoder."""
        raise NotImplementedError


def whole_number(name: str, value: int, low: int) -> int:
    """Return the value if it is an integer of at least ``low``; raise UsageError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"{name} {value!r}: expected a whole number of at least {low}")
    return value
