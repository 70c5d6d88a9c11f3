"""Techniques that factor a weight, freeze the factors and train their scales: SVFit and LoLDU."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import number, whole_number
from harness.families.finetune.contract import FinetuneTask
from harness.judge.bases import PackedLinear
from harness.judge.factors import Factorisation
from harness_lora.adaptation import Adaptation, linears
from harness_lora.factorings import pivots, principal_values
from harness_lora.residual import Less


class Rescaled(nn.Module):
    """A linear layer of weight R + c L diag(z) Q: L (o x r) and Q (r x i) frozen, z (r) trained, c trained or absent.

    ``base_layer`` is the linear layer that this module replaces. Its weight becomes the residual R, so that the
    effective weight starts equal to the original, whatever the factors are. A packed weight keeps beside it the factors
    of what is taken out.
    """

    left: Tensor
    right: Tensor

    def __init__(self, linear: nn.Linear, left: Tensor, values: Tensor, right: Tensor, scale: float | None) -> None:
        super().__init__()
        self.base_layer = linear
        self.register_buffer("left", left.contiguous())
        self.register_buffer("right", right.contiguous())
        self.values = nn.Parameter(values.clone())
        self.scale = None if scale is None else nn.Parameter(torch.tensor(scale, device=values.device))
        start = self.diagonal().detach().clone()
        if isinstance(linear, PackedLinear):
            linear.inner = Less(linear.inner, self.left * start, self.right)
            return
        with torch.no_grad():
            linear.weight.sub_((self.left * start) @ self.right)

    def diagonal(self) -> Tensor:
        """Return the factors (r) of the columns of L: z, or c z."""
        return self.values if self.scale is None else self.scale * self.values

    def weight(self) -> Tensor:
        """Return the effective weight, o x i."""
        return torch.addmm(self.base_layer.weight.to(self.left.dtype), self.left * self.diagonal(), self.right)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the effective weight and the bias: (..., i) to (..., o)."""
        if isinstance(self.base_layer, PackedLinear):
            inner = functional.linear(x, self.right) * self.diagonal()
            rest: Tensor = self.base_layer(x)
            return rest + functional.linear(inner, self.left)
        return functional.linear(x, self.weight(), self.base_layer.bias)

    @torch.no_grad()
    def fold(self) -> nn.Linear:
        """Return the original linear layer, its weight set to the effective one."""
        self.base_layer.weight.copy_(self.weight())
        return self.base_layer


class Spectral(Adaptation):
    """Base class: every linear becomes a `Rescaled` one; layers with fewer than ``rank`` values use all of them."""

    def __init__(self, *, rank: int) -> None:
        super().__init__()
        self.rank = whole_number("rank", rank)

    @property
    @abstractmethod
    def compute(self) -> Factorisation:
        """How a weight is factored: into L, the values and Q."""

    @property
    def scale(self) -> float | None:
        """The start of the trained scale c; None where there is none."""
        return None

    def insert(self, model: nn.Module, task: FinetuneTask) -> None:
        """Factor every linear of the backbone."""
        modules = linears(model, task.linears)
        weights = {name: linear.weight for name, linear in modules.items()}
        found = task.factors(self.compute, weights, rank=self.rank)
        for name, linear in modules.items():
            left, values, right = found[name]
            model.set_submodule(name, Rescaled(linear, left, values, right, scale=self.scale))

    def merge(self, model: nn.Module) -> nn.Module:
        """Multiply the factors out, in place, but beside packed weights; return the model with its original modules."""
        for name, module in list(model.named_modules()):
            if isinstance(module, Rescaled) and not isinstance(module.base_layer, PackedLinear):
                model.set_submodule(name, module.fold())
        return model


class SVFit(Spectral):
    """SVFit (Sun 2024, arXiv:2409.05926): W = R + U_r diag(sigma) V_r^T, only sigma trains.

    r parameters a layer. The paper takes r so large that the values hold 99 % of the weight, hence a large default.
    """

    @property
    def compute(self) -> Factorisation:
        """How a weight is factored: by its largest singular triples."""
        return principal_values


class LoLDU(Spectral):
    """LoLDU (Shi 2024, arXiv:2410.13618): W = P L D U, of which r entries of D and a scale train.

    P, L, U = lu(W), d = diag U, U <- U / d, then W = R + c P L_r diag(z) U_r with z = d_r and c = alpha / r, whose
    residual R is the rest of W: r + 1 parameters a layer. A layer of fewer than r pivots uses them
    all.
    """

    def __init__(self, *, rank: int, alpha: float) -> None:
        super().__init__(rank=rank)
        self.alpha = number("alpha", alpha, above=0)

    @property
    def compute(self) -> Factorisation:
        """How a weight is factored: by its first pivots."""
        return pivots

    @property
    def scale(self) -> float:
        """The start of c."""
        return self.alpha / self.rank
