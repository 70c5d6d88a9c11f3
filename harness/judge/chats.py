"""Writes conversations as the chat template of a user's own model does: each as a prompt and the answer to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from harness.api import UsageError
from harness.judge.conversations import Conversation
from harness.judge.pretrained import first_line, tokenizer_of

DAY: Final = "2024-07-26"
"""The day that is today for a template which asks: the tokens of data must not change from day to day."""

_TODAY: Final = f"{{% macro strftime_now(format) %}}{DAY}{{% endmacro %}}"
"""The beginning of each template; it hides the function of transformers that tells the day."""


class ChatTemplate:
    """The chat template of a model's tokenizer, which transformers renders in a sandbox: it runs no code of a model."""

    def __init__(self, folder: Path) -> None:
        """Read the template. Raises UsageError where the tokenizer has none."""
        self._tokenizer: Any = tokenizer_of(folder)
        try:
            self._template = f"{_TODAY}{self._tokenizer.get_chat_template()}"
        except ValueError as error:
            raise UsageError(
                f"model {str(folder)!r}: its tokenizer has no chat template, by which conversations are written; take "
                "a model that was tuned for chats, or data with a column of prompts and one of completions"
            ) from error

    def __call__(self, conversation: Conversation) -> tuple[str, str]:
        """Return all up to the last turn, with what asks for an answer, and the last turn, which ends the text.

        A template may write the beginning of an answer otherwise than it asks for one, as with thoughts that it opens:
        this beginning is then part of the answer. Raises UsageError where the template cannot write the conversation.
        """
        whole = self._written(conversation, asks=False)
        for asks in (True, False):
            prompt = self._written(conversation[:-1], asks=asks)
            if whole.startswith(prompt) and whole[len(prompt) :].strip():
                return prompt, whole[len(prompt) :]
        raise UsageError(
            "the model's chat template writes what precedes the last answer in another way once the answer is there; "
            "give data with a column of prompts and one of completions"
        )

    def _written(self, conversation: Conversation, *, asks: bool) -> str:
        try:
            written: str = self._tokenizer.apply_chat_template(
                [*conversation], chat_template=self._template, tokenize=False, add_generation_prompt=asks
            )
        except Exception as error:  # of many kinds: a template may do with a conversation what it likes
            raise UsageError(f"the model's chat template refuses the conversation: {first_line(error)}") from error
        return written
