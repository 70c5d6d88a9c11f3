"""A technique of the contract ``control``, and the plain one that it is compared with."""

from __future__ import annotations

import torch

from harness.api import number
from harness.families.control.contract import ControlTask, Population, Text


class Plain:
    """Texts that know nothing of each other: tokens are drawn from those that are allowed, and texts are weighted."""

    weighted = True

    def generate(self, task: ControlTask, generator: torch.Generator) -> Population:
        """Return a population whose texts grow side by side."""
        texts: list[Text] = [()] * task.particles
        weights = [1.0] * task.particles
        for _ in range(task.length):
            for place, weight in enumerate(weights):
                if weight > 0:
                    texts[place], factor = extended(task, texts[place], generator)
                    weights[place] *= factor
            texts, weights = self.chosen(texts, weights, generator)
        scored = [weight * task.score(text) if weight > 0 else 0.0 for text, weight in zip(texts, weights, strict=True)]
        return Population(texts=texts, weights=scored)

    def chosen(
        self, texts: list[Text], weights: list[float], generator: torch.Generator
    ) -> tuple[list[Text], list[float]]:
        """Return the texts that go on, all of them, with their weights."""
        del generator
        return texts, weights


class Resampled(Plain):
    """Texts of high weight replace those of low weight, where few texts have most of the weight.

    That is where (sum w)^2 / sum w^2 falls below ``share`` of the number of texts.
    """

    def __init__(self, share: float = 0.5) -> None:
        self.share = number("share", share, least=0, most=1)

    def chosen(
        self, texts: list[Text], weights: list[float], generator: torch.Generator
    ) -> tuple[list[Text], list[float]]:
        """Draw the texts that go on in proportion to their weights; each then has the mean weight."""
        total, squares = sum(weights), sum(weight**2 for weight in weights)
        if total <= 0 or total**2 >= self.share * len(texts) * squares:
            return texts, weights
        drawn = torch.multinomial(
            torch.tensor(weights, dtype=torch.float64), len(texts), replacement=True, generator=generator
        )
        return [texts[place] for place in drawn.tolist()], [total / len(texts)] * len(texts)


def extended(task: ControlTask, text: Text, generator: torch.Generator) -> tuple[Text, float]:
    """Return the text with one more allowed token, and the model's probability of all allowed ones."""
    chances = task.chances(text)
    allowed = [chance if chance > 0 and task.allowed(text, token) else 0.0 for token, chance in enumerate(chances)]
    mass = sum(allowed)
    if mass <= 0:
        return text, 0.0
    drawn = torch.multinomial(torch.tensor(allowed, dtype=torch.float64), 1, generator=generator)
    return (*text, int(drawn)), mass
