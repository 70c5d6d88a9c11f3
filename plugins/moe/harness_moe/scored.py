"""Top-k of a score, balanced by a bias that follows the load or by auxiliary losses."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.api import number, one_of, whole_number
from harness.families.route.contract import Layout, Router, RouteTask, Sparse, Tokens
from harness_moe.base import Gate, Technique, assignments, balance_loss, highest, shares, z_loss

SCORES = ("softmax", "sigmoid")


class Scored(Technique):
    """The ``k`` experts with the best score of a token, weighted by their scores, which are made to sum to 1.

    With ``u`` above 0, a bias is added to the scores for the choice, never for the weights; after each step the bias
    of an expert with more than the mean load falls by ``u``, that of one with less rises by it (arXiv:2408.15664,
    algorithm 1). ``alpha`` weighs `balance_loss`, with scores divided by their sum, and ``z`` weighs `z_loss`.
    """

    def __init__(self, k: int = 2, score: str = "softmax", u: float = 0.0, alpha: float = 0.0, z: float = 0.0) -> None:
        self.k = whole_number("k", k)
        self.score: str = one_of("score", score, SCORES)
        self.u = number("u", u, least=0)
        self.alpha = number("alpha", alpha, least=0)
        self.z = number("z", z, least=0)

    def router(self, task: RouteTask, layout: Layout) -> Router:
        """Return a router with a bias for each expert."""
        return ScoredRouter(self, task, layout)


class ScoredRouter(Gate):
    """Scores every expert. ``bias`` is ``(experts,)``."""

    bias: Tensor

    def __init__(self, technique: Scored, task: RouteTask, layout: Layout) -> None:
        super().__init__(task, layout)
        self._technique = technique
        self.register_buffer("bias", torch.zeros(layout.experts))

    def forward(self, tokens: Tokens) -> Sparse:
        """Assign every token to the k best experts by score plus bias, weighted by the score alone."""
        logits = self.gate(tokens.features)
        scores = logits.softmax(1) if self._technique.score == "softmax" else logits.sigmoid()
        expert = highest(scores.detach() + self.bias, self._technique.k)[1]
        weight = scores.gather(1, expert)
        return assignments(expert, weight / weight.sum(1, keepdim=True), loss=self._loss(logits, scores, expert))

    def after_step(self, load: Tensor) -> None:
        """Move the bias of every expert by ``u`` towards the mean load."""
        if self._technique.u:
            self.bias += self._technique.u * torch.sign(load.mean() - load)

    def _loss(self, logits: Tensor, scores: Tensor, expert: Tensor) -> Tensor | None:
        technique = self._technique
        if not self.training or not (technique.alpha or technique.z):
            return None
        loss = logits.new_zeros(())
        if technique.alpha:
            probabilities = scores / scores.sum(1, keepdim=True)
            loss = loss + technique.alpha * balance_loss(probabilities, shares(expert, self.experts))
        if technique.z:
            loss = loss + technique.z * z_loss(logits)
        return loss
