"""Trees of proposals by extra heads of the target, verified in one pass with an attention mask (Medusa)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.api import NotApplicable, UsageError, number, whole_number
from harness.families.decode.contract import Decoder, Models, Sampling, Trace
from harness_speculative.base import Technique


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Nodes in order of depth; node 0 is the root. ``parents`` are -1 for it, ``children`` by node."""

    tokens: list[int]
    parents: list[int]
    children: list[list[int]]


def grown(root: int, logits: Tensor, tops: Sequence[int]) -> Tree:
    """Return a tree: each node of depth ``k`` has the ``tops[k]`` likeliest tokens of head ``k`` below it.

    ``logits`` ``(K, V)`` with K at least the length of ``tops``.
    """
    tokens, parents, children = [root], [-1], [[]]  # type: list[int], list[int], list[list[int]]
    level = [0]
    for head, top in zip(logits, tops, strict=False):
        best: list[int] = head.topk(top).indices.tolist()
        below = []
        for parent in level:
            for token in best:
                children[parent].append(len(tokens))
                below.append(len(tokens))
                tokens.append(token)
                parents.append(parent)
                children.append([])
        level = below
    return Tree(tokens=tokens, parents=parents, children=children)


class Medusa(Technique):
    """Head ``k`` proposes its ``tops[k]`` best; a token drawn from the target chooses among them or ends the round.

    Exact: every token is a draw from the target, the tree only says which are known in time. Cai et al.,
    arXiv:2401.10774, for the heads and the tree.
    """

    def __init__(self, tops: Sequence[int]) -> None:
        if not tops:
            raise UsageError("tops []: expected a list of how many tokens each head proposes, like [2, 1]")
        self.tops = [whole_number("tops", top) for top in tops]
        self.longest = len(self.tops)

    def path(self, tree: Tree, target: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[list[int], int]:
        """Return the accepted nodes from the root on, and the next token; ``target`` ``(n, V)`` are probabilities."""
        path = [0]
        while True:
            token = sampling.draw(target[path[-1]], generator)
            below = next((child for child in tree.children[path[-1]] if tree.tokens[child] == token), None)
            if below is None:
                return path, token
            path.append(below)

    def record(self, trace: Trace, tree: Tree, target: Tensor, path: Sequence[int]) -> None:
        """Record the chance that a drawn token is among those proposed, at each node reached that has children."""
        if asked := [node for node in path if tree.children[node]]:
            trace.listed(target[asked], [[tree.tokens[child] for child in tree.children[node]] for node in asked])

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder whose rounds grow a tree, read it, choose a path and keep the path."""
        if models.target.extra_heads < self.longest:
            raise NotApplicable(f"the target has {models.target.extra_heads} extra heads, fewer than {self.longest}")

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:
            target = models.target.open()
            text = [*prompt, sampling.draw(sampling.probabilities(target.read(prompt, 1))[0], generator)]
            end, last = len(prompt) + count, 0
            while len(text) < end:
                tops = self.tops[: end - len(text) - 1]
                tree = grown(text[-1], target.heads(last), tops)
                chances = sampling.probabilities(target.read_tree(tree.tokens, tree.parents))
                path, token = self.path(tree, chances, sampling, generator)
                self.record(trace, tree, chances, path)
                target.keep(path)
                last = path[-1]
                text += [*(tree.tokens[node] for node in path[1:]), token]
            return text[len(prompt) :]

        return decode


class MedusaTypical(Medusa):
    """A proposal is accepted where p > min(epsilon, delta exp(-H(p))), and the longest accepted path is taken.

    Not the target's distribution unless greedy, where it is exact matching. Cai et al., section 2.3.1.
    """

    def __init__(self, tops: Sequence[int], epsilon: float, delta: float) -> None:
        super().__init__(tops)
        self.epsilon = number("epsilon", epsilon, above=0, most=1)
        self.delta = number("delta", delta, above=0, most=1)

    def exact(self, sampling: Sampling) -> bool:
        """Return True where decoding is greedy."""
        return sampling.greedy

    def path(self, tree: Tree, target: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[list[int], int]:
        """Return the longest path of typical tokens, the most likely proposals first, and the next token."""
        if sampling.greedy:
            return super().path(tree, target, sampling, generator)
        entropy = -torch.special.xlogy(target, target).sum(-1)
        least = (self.delta * (-entropy).exp()).clamp(max=self.epsilon)
        typical = (target > least[:, None]).tolist()
        lines: list[list[int]] = [[0]]
        for node in range(1, len(tree.tokens)):
            parent = tree.parents[node]
            fits = bool(lines[parent]) and typical[parent][tree.tokens[node]]
            lines.append([*lines[parent], node] if fits else [])
        path = max(lines, key=len)
        return path, sampling.draw(target[path[-1]], generator)

    def record(self, trace: Trace, tree: Tree, target: Tensor, path: Sequence[int]) -> None:
        """Record nothing: typical tokens are accepted with certainty, so acceptance has no chance to record."""
