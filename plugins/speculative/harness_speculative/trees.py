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
    """The tree of the most likely tokens: each node of depth ``k`` has the ``tops[k]`` best of head ``k`` below it.

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
        if not isinstance(tops, list | tuple) or not tops:
            raise UsageError(f"tops = {tops!r}: expected a list of how many tokens each head proposes, like [2, 1]")
        self.tops = [whole_number("tops", top) for top in tops]
        self.longest = len(self.tops)

    def path(self, tree: Tree, found: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[list[int], int]:
        """The accepted nodes, from the root on, and the token that follows the last; ``found`` ``(n, V)``."""
        path = [0]
        while True:
            token = sampling.draw(found[path[-1]], generator)
            below = next((one for one in tree.children[path[-1]] if tree.tokens[one] == token), None)
            if below is None:
                return path, token
            path.append(below)

    def tell(self, trace: Trace, tree: Tree, found: Tensor, path: Sequence[int]) -> None:
        """The chance that a token drawn is among those proposed, at each node that was reached and has any below."""
        if asked := [node for node in path if tree.children[node]]:
            trace.listed(found[asked], [[tree.tokens[one] for one in tree.children[node]] for node in asked])

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Rounds of growing a tree, reading it, choosing a path and keeping that."""
        if models.target.extra_heads < self.longest:
            raise NotApplicable(f"the target has {models.target.extra_heads} extra heads, fewer than {self.longest}")

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:
            target = models.target.open()
            text = [*prompt, sampling.draw(sampling.probabilities(target.read(prompt, 1))[0], generator)]
            end, last = len(prompt) + count, 0
            while len(text) < end:
                tops = self.tops[: end - len(text) - 1]
                tree = grown(text[-1], target.heads(last), tops)
                found = sampling.probabilities(target.read_tree(tree.tokens, tree.parents))
                path, token = self.path(tree, found, sampling, generator)
                self.tell(trace, tree, found, path)
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
        """Only where nothing is sampled."""
        return sampling.greedy

    def path(self, tree: Tree, found: Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[list[int], int]:
        """The deepest node all of whose line is typical, the most likely proposals first."""
        if sampling.greedy:
            return super().path(tree, found, sampling, generator)
        entropy = -torch.special.xlogy(found, found).sum(-1)
        least = (self.delta * (-entropy).exp()).clamp(max=self.epsilon)
        typical = (found > least[:, None]).tolist()
        lines: list[list[int]] = [[0]]
        for node in range(1, len(tree.tokens)):
            parent = tree.parents[node]
            fits = bool(lines[parent]) and typical[parent][tree.tokens[node]]
            lines.append([*lines[parent], node] if fits else [])
        path = max(lines, key=len)
        return path, sampling.draw(found[path[-1]], generator)

    def tell(self, trace: Trace, tree: Tree, found: Tensor, path: Sequence[int]) -> None:
        """Nothing: what is typical is accepted for sure, so only counting says how often it is."""
