"""The exactness gate of the contract ``decode``: is the text that comes out the target's own?

Greedy text must be that of plain decoding, token by token. Sampled text is drawn thousands of times from models small
enough to know every probability of, and held against them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.stats import chi2
from torch import Tensor

from harness.api import Incorrect
from harness.families.decode.contract import DecodeTechnique, Models, Sampling, Trace, plain
from harness.families.decode.tables import VOCABULARY, TableModel, probabilities, tables
from harness.judge.seeds import generator

ALPHA: Final = 1e-5
"""Chance that a decoder which is right is called wrong, over all tests of one gate together."""

TIE: Final = 1e-4
"""Nats between two logits below which rounding decides which of them is the larger one."""

APART: Final = {"near": 0.7, "far": 2.5}
"""Two pairs of target and draft, by how far their logits are apart: one where most proposals are accepted, so that
whole rounds are, and one where most are rejected."""

PROMPT: Final = 12
"""Tokens of the gate's prompt: enough for an n-gram to occur again."""

_FEWEST: Final = 5.0
"""Expected draws of a cell below which it is pooled with its like, as the chi-square distribution needs."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate found: the smallest p of its tests, corrected for how many there were, and the total variation.

    ``distance`` is between the joint distribution of the first tokens as drawn and as it should be, over the pooled
    cells; that of a decoder which is right is not 0 but what so many draws give, ``expected``.
    """

    p: float
    tests: int
    distance: float
    expected: float

    @property
    def exact(self) -> bool:
        """Whether nothing speaks against it."""
        return self.p >= ALPHA


def require_greedy(technique: DecodeTechnique, models: Models, prompts: Sequence[Sequence[int]], count: int) -> str:
    """The greedy text of every prompt is that of plain decoding; a note where rounding had to decide, or nothing.

    Raises Incorrect with the gap between the two logits at the first token that differs.
    """
    sampling = Sampling(temperature=0.0)
    decode, reference = technique.open(models, sampling), plain(models.target, sampling)
    draw = torch.Generator().manual_seed(0)
    ties = 0
    for prompt in prompts:
        found, expected = (list(one(prompt, count, draw, Trace())) for one in (decode, reference))
        if len(found) != count:
            raise Incorrect(f"it gave {len(found)} tokens where {count} were asked for")
        at = next((i for i in range(count) if found[i] != expected[i]), None)
        if at is None:
            continue
        logits = models.target.open().read([*prompt, *expected[:at]], 1)[0]
        gap = float(logits[expected[at]] - logits[found[at]])
        if gap > TIE:
            raise Incorrect(
                f"greedy text differs from plain decoding at token {at + 1} of {count}: {found[at]} in place of "
                f"{expected[at]}, whose logit is {gap:.3g} higher"
            )
        ties += 1
    return f"greedy text: {ties} of {len(prompts)} prompts part from plain decoding at a tie of rounding" * bool(ties)


def require_greedy_on_tables(technique: DecodeTechnique, *, prompts: int, count: int, seed: int) -> None:
    """`require_greedy` on the two small models, whose drafts are wrong more often than those of trained ones are.

    Trained models can agree for so long that a rule which is too lenient has nothing to be caught by.
    """
    for name, apart in APART.items():
        models = tables(generator(seed, f"gate {name}"), apart=apart)
        drawn = torch.randint(VOCABULARY, (prompts, PROMPT), generator=generator(seed, f"greedy prompts {name}"))
        require_greedy(technique, models, drawn.tolist(), count)


def examine(technique: DecodeTechnique, sampling: Sampling, *, draws: int, seed: int) -> Verdict:
    """Draw texts of a few tokens ``draws`` times from each of two small models, and test them.

    Texts are longer than the longest round by two tokens: a wrong token after a round that was wholly accepted is
    invisible in shorter ones. Tested are the joint distribution, with cells pooled that are too rare, and at each
    position how tokens follow upon the one before; all by chi-square, with Bonferroni's correction.
    """
    length = technique.longest + 2
    values: list[float] = []
    distances: list[tuple[float, float]] = []
    for name, apart in APART.items():
        models = tables(generator(seed, f"gate {name}"), apart=apart)
        prompt = torch.randint(VOCABULARY, (PROMPT,), generator=generator(seed, f"gate prompt {name}")).tolist()
        decode = technique.open(models, sampling)
        draw = generator(seed, f"gate draws {name}")
        texts = torch.tensor([decode(prompt, length, draw, Trace()) for _ in range(draws)])
        assert isinstance(models.target, TableModel)
        table = probabilities(models.target, sampling)
        values.append(_impossible(texts, prompt, table))
        observed, expected = joint(texts, prompt, table)
        values.append(_p_value(observed, expected))
        distances.append(_distance(observed, expected))
        values += [follow(texts, prompt, table, position) for position in range(length)]
    worst = max(distances)
    return Verdict(
        p=min(1.0, len(values) * min(values)), tests=len(values), distance=100 * worst[0], expected=100 * worst[1]
    )


def joint(texts: Tensor, prompt: Sequence[int], table: Tensor) -> tuple[Tensor, Tensor]:
    """Counts of texts ``(n, L)`` as drawn and as expected, over cells: a text each, or texts that begin alike.

    A beginning is told apart by its next token where that is expected `_FEWEST` times; the rarer next tokens of one
    beginning are a cell together. Cells that are still too rare are one, with the smallest of the others if need be.
    """
    cells: list[tuple[float, float]] = []
    pending = [(texts, (prompt[-2], prompt[-1]), float(len(texts)), 0)]
    while pending:
        among, before, mass, depth = pending.pop()
        if depth == texts.shape[1]:
            cells.append((mass, float(len(among))))
            continue
        rare_mass, rare_count = 0.0, 0
        for token, own in enumerate((mass * table[before]).tolist()):
            chosen = among[among[:, depth] == token]
            if own >= _FEWEST:
                pending.append((chosen, (before[1], token), own, depth + 1))
            else:
                rare_mass += own
                rare_count += len(chosen)
        cells.append((rare_mass, float(rare_count)))
    cells.sort()
    while len(cells) > 1 and cells[0][0] < _FEWEST:
        (mass, count), (more, others), *larger = cells
        cells = sorted([(mass + more, count + others), *larger])
    expected, observed = torch.tensor(cells, dtype=torch.float64).unbind(1)
    return observed, expected


def follow(texts: Tensor, prompt: Sequence[int], table: Tensor, position: int) -> float:
    """The p of how tokens at a position follow upon the one before, given what stands before that in each text."""
    size = len(table)
    whole = torch.cat([torch.tensor([list(prompt[-2:])]).expand(len(texts), 2), texts], 1)
    earlier, before, token = whole[:, position : position + 3].unbind(1)
    observed = torch.bincount(before * size + token, minlength=size * size).view(size, size).double()
    expected = torch.zeros_like(observed).index_add_(0, before, table[earlier, before])
    statistic, freedom = 0.0, 0
    for counts, masses in zip(observed, expected, strict=True):
        rare = masses < _FEWEST
        pooled = [torch.cat([one[~rare], one[rare].sum()[None]]) for one in (counts, masses)]
        solid = pooled[1] >= _FEWEST
        if int(solid.sum()) >= 2:
            statistic += float(((pooled[0] - pooled[1]).square() / pooled[1])[solid].sum())
            freedom += int(solid.sum()) - 1
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def _impossible(texts: Tensor, prompt: Sequence[int], table: Tensor) -> float:
    """0 where a text holds a token that cannot follow, else 1: chi-square knows nothing of what is never expected."""
    whole = torch.cat([torch.tensor([list(prompt[-2:])]).expand(len(texts), 2), texts], 1)
    return float(bool((table[whole[:, :-2], whole[:, 1:-1], whole[:, 2:]] > 0).all()))


def _p_value(observed: Tensor, expected: Tensor) -> float:
    """Of Pearson's chi-square test; 1 where there is but one cell."""
    freedom = len(expected) - 1
    statistic = ((observed - expected).square() / expected).sum()
    return float(chi2.sf(float(statistic), freedom)) if freedom else 1.0


def _distance(observed: Tensor, expected: Tensor) -> tuple[float, float]:
    """The total variation between drawn and true shares, and what sampling alone gives on average.

    A cell's share has the deviation sqrt(p (1 - p) / n), whose mean distance is that times sqrt(2 / pi).
    """
    n = expected.sum()
    found = 0.5 * ((observed - expected).abs() / n).sum()
    shares = expected / n
    chance = 0.5 * (shares * (1 - shares) / n).sqrt().sum() * math.sqrt(2 / math.pi)
    return float(found), float(chance)
