"""What every technique of this plugin shares."""

from __future__ import annotations

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
