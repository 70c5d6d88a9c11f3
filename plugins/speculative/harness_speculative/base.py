"""The base class of this plugin's decoders."""

from __future__ import annotations

from harness.families.decode.contract import Decoder, Models, Sampling


class Technique:
    """The base class of techniques; the target keeps all its heads, and samples are exact."""

    kv_heads: int = 4
    longest: int = 0
    slow: bool = False

    def exact(self, sampling: Sampling) -> bool:  # noqa: ARG002
        """Return True: samples follow the target's distribution; inexact techniques override the method."""
        return True

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return the decoder."""
        raise NotImplementedError
