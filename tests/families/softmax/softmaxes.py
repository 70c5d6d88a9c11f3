"""Softmaxes for tests of the judge: a right one, and ones with a fault each."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.families.softmax.contract import Passes


class Right:
    """The definition, in float64."""

    passes = Passes(reading=2, copying=1)

    def softmax(self, x: Tensor, out: Tensor) -> None:
        out.copy_(self.of(x.double()))

    def of(self, x: Tensor) -> Tensor:
        return torch.softmax(x, 1)


class WithoutMaximum(Right):
    """The textbook's: exponentials overflow, or vanish all."""

    def of(self, x: Tensor) -> Tensor:
        powers = x.float().exp()
        return powers / powers.sum(1, keepdim=True)


class Clamped(Right):
    """Keeps exponentials from overflowing by not looking at what is large."""

    def of(self, x: Tensor) -> Tensor:
        return torch.softmax(x.clamp(-500, 500), 1)


class WrongTail(Right):
    """Forgets what does not fill a vector of eight, in rows that fill one."""

    def of(self, x: Tensor) -> Tensor:
        found = super().of(x)
        rest = x.shape[1] % 8
        if x.shape[1] > 8 and rest:
            found[:, -rest:] = 0
        return found


class WrongOnLongRows(Right):
    def of(self, x: Tensor) -> Tensor:
        found = super().of(x)
        return found if x.shape[1] <= 8192 else found * 1.0001


class Coarse(Right):
    """An exponential of 13 bits."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(x) * (1 + 1e-4 * x.nan_to_num(0, 0, 0).sin())


class Half(Right):
    """Results in bfloat16."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(x).bfloat16()


class Unnormalised(Right):
    """Sums to a little more than 1."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(x) * (1 + 3e-5)


class StagnatingSum(Right):
    """One running sum in float32, which small terms no longer move once it is large."""

    def of(self, x: Tensor) -> Tensor:
        numbers = x.float()
        if not numbers.numel():
            return numbers
        powers = (numbers - numbers.amax(1, keepdim=True)).exp()
        return powers / torch.from_numpy(powers.numpy().cumsum(1, dtype="float32"))[:, -1:]


class Uniform(Right):
    """Equal probabilities where there is nothing to choose from."""

    def of(self, x: Tensor) -> Tensor:
        found = super().of(x)
        return torch.where((x == -torch.inf).all(1, keepdim=True), 1 / max(x.shape[1], 1), found)


class SwallowingNan(Right):
    def of(self, x: Tensor) -> Tensor:
        return super().of(torch.where(x.isnan(), -torch.inf, x))


class SwallowingInfinity(Right):
    """All of the probability for the infinite one."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(torch.where(x == torch.inf, 3e38, x))


class MaskedBecomesNan(Right):
    """-infinity times 0."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(x) + 0 * x


class LeakingNan(Right):
    """A NaN of one row reaches the others."""

    def of(self, x: Tensor) -> Tensor:
        return super().of(x) + 0 * x.nan_to_num(nan=torch.nan, posinf=0, neginf=0).sum()


class OverOtherDimension(Right):
    def of(self, x: Tensor) -> Tensor:
        return torch.softmax(x, 0)


class InPlace(Right):
    def softmax(self, x: Tensor, out: Tensor) -> None:
        super().softmax(x, out)
        if x.numel():
            x -= x.max()


class Overrunning(Right):
    """Writes a float more than it may."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        super().softmax(x, out)
        out.as_strided((1,), (1,), out.storage_offset() + out.numel()).zero_()


class Lazy(Right):
    """Leaves the last probability of a row unwritten."""

    def softmax(self, x: Tensor, out: Tensor) -> None:
        out[:, :-1] = self.of(x.double())[:, :-1]


class Changing(Right):
    """Another result when it is asked again."""

    calls = 0

    def of(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().of(x) * (1 + 1e-6 * (self.calls % 2))
