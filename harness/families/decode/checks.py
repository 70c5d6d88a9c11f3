"""The exactness gate of the contract ``decode``: does the decoded text have the target's distribution?

Greedy text must equal that of plain decoding, token by token. Sampled text is drawn thousands of times from models
whose every probability is known, and tested against these.
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
from harness.families.decode import power
from harness.families.decode.contract import DecodeTechnique, Models, Sampling, Trace, plain
from harness.families.decode.tables import VOCABULARY, TableModel, probabilities, tables
from harness.judge.seeds import generator

ALPHA: Final = 1e-5
"""Chance that a correct decoder is rejected, over all tests of one gate together."""

TIE: Final = 1e-4
"""Difference of two logits, in nats, below which rounding decides which is larger."""

APART: Final = {"near": 0.7, "far": 2.5}
"""Two pairs of target and draft, by the distance of their logits: most proposals are accepted with one, so that whole
rounds are, and rejected with the other."""

PROMPT: Final = 12
"""Tokens of the gate's prompt: enough for an n-gram to recur."""

_FEWEST: Final = 5.0
"""Expected draws of a cell below which rare cells are pooled, as the chi-square distribution requires."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of the gate: the smallest p of its tests, with Bonferroni's correction, and the total variation.

    ``distance`` is the total variation, in per cent, between the joint distribution of the first tokens as drawn and
    the target's, over the pooled cells. ``expected`` is that of a correct decoder with as many draws. A decoder whose
    true total variation is ``detectable`` per cent or more, with either pair of models, is found with the chance
    `power.POWER`; where that is 100, there are too few draws to find any.
    """

    p: float
    tests: int
    distance: float
    expected: float
    detectable: float

    @property
    def exact(self) -> bool:
        """Whether no test rejects the decoder."""
        return self.p >= ALPHA


def require_greedy(technique: DecodeTechnique, models: Models, prompts: Sequence[Sequence[int]], count: int) -> str:
    """Require the greedy text of plain decoding for every prompt; return a note on ties of rounding, or "".

    Raises Incorrect with the gap between the two logits at the first token that differs.
    """
    sampling = Sampling(temperature=0.0)
    decode, reference = technique.open(models, sampling), plain(models.target, sampling)
    draw = torch.Generator().manual_seed(0)
    ties = 0
    for prompt in prompts:
        found, expected = (list(decoder(prompt, count, draw, Trace())) for decoder in (decode, reference))
        exactly(found, count)
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
    return (
        f"greedy text: {ties} of {len(prompts)} prompts differ from plain decoding after a tie within rounding"
        * bool(ties)
    )


def require_greedy_on_tables(technique: DecodeTechnique, *, prompts: int, count: int, seed: int) -> None:
    """Apply `require_greedy` to the two small models, whose drafts are wrong more often than trained drafts.

    Trained models can agree for so long that an acceptance rule which is too lenient is never exercised.
    """
    for name, apart in APART.items():
        models = tables(generator(seed, f"gate {name}"), apart=apart)
        drawn = torch.randint(VOCABULARY, (prompts, PROMPT), generator=generator(seed, f"greedy prompts {name}"))
        require_greedy(technique, models, drawn.tolist(), count)


def examine(technique: DecodeTechnique, sampling: Sampling, *, draws: int, seed: int) -> Verdict:
    """Draw ``draws`` short texts from each of two small models and test their distribution.

    Texts are longer than the longest round by two tokens: shorter ones would hide a wrong token after a round that was
    accepted as a whole. The joint distribution, with rare cells pooled, and at each position the transition from the
    token before are tested by chi-square, with Bonferroni's correction.
    """
    length = technique.longest + 2
    values: list[float] = []
    distances: list[tuple[float, float]] = []
    tested: list[tuple[Tensor, Tensor]] = []
    for name, apart in APART.items():
        models = tables(generator(seed, f"gate {name}"), apart=apart)
        prompt = torch.randint(VOCABULARY, (PROMPT,), generator=generator(seed, f"gate prompt {name}")).tolist()
        decode = technique.open(models, sampling)
        draw = generator(seed, f"gate draws {name}")
        texts = torch.tensor([exactly(decode(prompt, length, draw, Trace()), length) for _ in range(draws)])
        assert isinstance(models.target, TableModel)
        table = probabilities(models.target, sampling)
        values.append(_impossible(texts, prompt, table))
        observed, expected = joint(texts, prompt, table)
        values.append(_p_value(observed, expected))
        distances.append(_distance(observed, expected))
        tested.append((expected, table))
        values += [follow(texts, prompt, table, position) for position in range(length)]
    worst = max(distances)
    return Verdict(
        p=min(1.0, len(values) * min(values)),
        tests=len(values),
        distance=100 * worst[0],
        expected=100 * worst[1],
        detectable=100 * max(_detectable(*cells, ALPHA / len(values)) for cells in tested),
    )


def exactly(text: Sequence[int], count: int) -> Sequence[int]:
    """Return a text; raise Incorrect where it has another number of tokens than ``count``."""
    if len(text) != count:
        raise Incorrect(f"the decoder gave {len(text)} tokens where {count} were asked for")
    return text


def joint(texts: Tensor, prompt: Sequence[int], table: Tensor) -> tuple[Tensor, Tensor]:
    """Return observed and expected counts of texts ``(n, L)`` by cell, float64 ``(cells,)`` each.

    A cell is one text or all texts with one prefix. A prefix is split by its next token where that is expected
    `_FEWEST` times; its rarer next tokens share a cell. Cells that are still too rare are merged, with the smallest of
    the others if need be.
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
    """Return the p of the transitions from the token before a position, given the token before that in each text."""
    size = len(table)
    whole = torch.cat([torch.tensor([list(prompt[-2:])]).expand(len(texts), 2), texts], 1)
    earlier, before, token = whole[:, position : position + 3].unbind(1)
    observed = torch.bincount(before * size + token, minlength=size * size).view(size, size).double()
    expected = torch.zeros_like(observed).index_add_(0, before, table[earlier, before])
    statistic, freedom = 0.0, 0
    for counts, masses in zip(observed, expected, strict=True):
        rare = masses < _FEWEST
        pooled = [torch.cat([row[~rare], row[rare].sum()[None]]) for row in (counts, masses)]
        solid = pooled[1] >= _FEWEST
        if int(solid.sum()) >= 2:
            statistic += float(((pooled[0] - pooled[1]).square() / pooled[1])[solid].sum())
            freedom += int(solid.sum()) - 1
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def _detectable(expected: Tensor, table: Tensor, level: float) -> float:
    """Return the total variation that the test of the joint distribution finds; of a single text, by what is wrong."""
    if bool((table.amax(-1) == 1).all()):  # whatever else is drawn has probability 0
        return power.always_found(round(float(expected.sum())))
    return power.detectable(expected, level)


def _impossible(texts: Tensor, prompt: Sequence[int], table: Tensor) -> float:
    """Return the p of tokens of probability 0: 0 where a text has one, else 1. Chi-square ignores empty cells."""
    whole = torch.cat([torch.tensor([list(prompt[-2:])]).expand(len(texts), 2), texts], 1)
    return float(bool((table[whole[:, :-2], whole[:, 1:-1], whole[:, 2:]] > 0).all()))


def _p_value(observed: Tensor, expected: Tensor) -> float:
    """Return the p of Pearson's chi-square test, 1 where there is only one cell."""
    freedom = len(expected) - 1
    statistic = ((observed - expected).square() / expected).sum()
    return float(chi2.sf(float(statistic), freedom)) if freedom else 1.0


def _distance(observed: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the total variation between drawn and true shares, and its mean for a correct decoder.

    A cell's share has the deviation sqrt(p (1 - p) / n), whose mean distance is that times sqrt(2 / pi).
    """
    n = expected.sum()
    distance = 0.5 * ((observed - expected).abs() / n).sum()
    shares = expected / n
    chance = 0.5 * (shares * (1 - shares) / n).sqrt().sum() * math.sqrt(2 / math.pi)
    return float(distance), float(chance)
