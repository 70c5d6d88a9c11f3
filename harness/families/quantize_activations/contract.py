"""The contract ``quantize-activations``: linear layers that round their inputs as well as their weights."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class ActivationTechnique(Protocol):
    """A way to replace linear layers by layers that round weights and inputs.

    The judge replaces every ``nn.Linear`` of a trained model, in order of depth, and may call both methods more than
    once for a layer. No gradients are needed. The judge raises `harness.api.Incorrect` where an invariant is broken.
    """

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """Return the module that takes the place of ``linear``.

        ``linear`` has a weight ``(out, in)`` and mostly a bias ``(out,)``; ``inputs`` ``(n, in)``, of the weight's
        dtype, are what it sees in the calibration examples (64, none of which is a test example). The module maps
        ``(n, in)`` to ``(n, out)`` for any ``n``, whatever the strides and the address of its inputs. The gate requires
        that it gives the same bits for the same inputs, also when it was copied, pickled or loaded from a
        ``state_dict``, and that ``linear.weight`` is left unchanged: a technique that rescales weights works on a copy.
        """

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        """Return the module that `layer` gives, with every rounding left out.

        The arguments are those of `layer`. The gate requires that its outputs for ``inputs`` differ from those of
        ``linear`` by at most 1e-5 of their norm: scaling, rotating or splitting alone must not change the function.
        """
