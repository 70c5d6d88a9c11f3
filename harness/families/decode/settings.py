"""The settings of ``decode``: which prompts are continued, how tokens are drawn, and how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.api import UsageError
from harness.judge.settings import setting

CONTEXT: Final = 256
"""The most tokens that the judge's models read."""

CATEGORIES: Final = ("prose", "code", "repetitive")
"""Kinds of prompt. A repetitive one is a piece of prose of 16 to 40 characters, repeated."""

MIXED: Final = "mixed"
"""The category that takes prompts of each kind in turn."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a decoding. Timed and traced texts are shorter than those whose quality is measured.

    Raises UsageError where a prompt and its continuation are longer than the models read.
    """

    category: str = setting(MIXED, "kind of prompt", choices=(MIXED, *CATEGORIES))
    temperature: float = setting(1.0, "softmax temperature; 0 takes the most probable token", least=0, most=100)
    top_k: int = setting(0, "most probable tokens that may be drawn; 0 for all", least=0)
    top_p: float = setting(1.0, "probability mass of the most probable tokens that may be drawn", above=0, most=1)
    prompts: int = setting(6, "prompts that are continued", least=1)
    prompt_tokens: int = setting(96, "tokens of a prompt", least=2)
    tokens: int = setting(64, "tokens that follow a prompt", least=2)
    timed_prompts: int = setting(3, "prompts that are continued under the clock", least=1)
    timed_tokens: int = setting(32, "tokens that follow a prompt under the clock", least=2)
    training: float = setting(1.0, "share of the training of the judge's models; less is for tests", above=0, most=1)
    draws: int = setting(800, "texts that the gate draws to test the distribution", least=1)

    def __post_init__(self) -> None:
        longest = max(self.tokens, self.timed_tokens)
        if self.prompt_tokens + longest > CONTEXT:
            raise UsageError(
                f"prompt_tokens {self.prompt_tokens} and {longest} more: the models read at most {CONTEXT}"
            )
