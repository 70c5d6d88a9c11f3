"""Decoding by transformers: its generate, with an assistant, with prompt lookup, on the judge's models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import sklearn.metrics  # noqa: F401  else transformers imports it within the first text with a confidence threshold
import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from harness.api import number, one_of, whole_number
from harness.families.decode.contract import Decoder, DecodingSession, LanguageModel, Models, Sampling, Trace
from harness_speculative.base import Technique


class SessionCache(Cache):  # type: ignore[misc]  # transformers is not typed
    """A judge's session where transformers expects its cache of keys and values."""

    def __init__(self, session: DecodingSession) -> None:
        super().__init__(layers=[])
        self.session = session

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the number of tokens read."""
        return self.session.length

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens."""
        self.session.rollback(self.session.length + tokens_to_remove)

    def activate_past_recording(self) -> None:
        """Do nothing: a session can always be rolled back."""

    @property
    def is_compileable(self) -> bool:
        """False: the cache grows."""
        return False


class Wrapped(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A judge's model that transformers can generate with, one text at a time."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, model: LanguageModel, generation: GenerationConfig) -> None:
        super().__init__(PretrainedConfig(vocab_size=model.vocabulary, is_encoder_decoder=False))
        self.begin = model.open
        self.generation_config = generation
        self.anchor = torch.nn.Parameter(torch.zeros(()), requires_grad=False)  # tells the device

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: SessionCache | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Return logits ``(1, m, V)`` of the last ``logits_to_keep`` of the new tokens; 0 keeps all."""
        cache = SessionCache(self.begin()) if past_key_values is None else past_key_values
        tokens = input_ids[0].tolist()
        logits = cache.session.read(tokens, logits_to_keep or len(tokens))
        return CausalLMOutputWithPast(logits=logits[None], past_key_values=cache)

    def _supports_default_dynamic_cache(self) -> bool:
        """Return False: `SessionCache` is passed in, or made by the first forward."""
        return False


_GREEDY: Final = 1e-20
"""The temperature below which transformers, whose quotients of logits would overflow, is told to be greedy."""


def settings(sampling: Sampling, count: int, **more: Any) -> GenerationConfig:
    """Return the configuration of generate; ``top_k`` is set, as its default of 50 is another distribution."""
    greedy = sampling.greedy or sampling.temperature < _GREEDY
    drawn = {} if greedy else {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return GenerationConfig(
        do_sample=not greedy,
        max_new_tokens=count,
        use_cache=True,
        eos_token_id=None,
        pad_token_id=0,
        **drawn,
        **more,
    )


class Generate(Technique):
    """One token a pass, by transformers: what its assisted forms have to be compared with."""

    slow = True  # a call of generate takes milliseconds before it reads anything

    def assistance(self, models: Models) -> Callable[[], dict[str, Any]]:  # noqa: ARG002
        """Return a function that makes further arguments of generate for each text."""
        return dict

    def open(self, models: Models, sampling: Sampling) -> Decoder:
        """Return a decoder that calls generate for each text, which draws from torch's global generator."""
        model = Wrapped(models.target, settings(sampling, 1)).eval()
        assistance = self.assistance(models)

        def decode(prompt: Sequence[int], count: int, generator: torch.Generator, trace: Trace) -> list[int]:  # noqa: ARG001
            cache = SessionCache(models.target.open())
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                found = model.generate(
                    torch.tensor([list(prompt)]),
                    attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                    generation_config=settings(sampling, count),
                    past_key_values=cache,
                    **assistance(),
                )
            return cast("list[int]", found[0, len(prompt) :].tolist())

        return decode


class Assisted(Generate):
    """A smaller model drafts ``gamma`` tokens a round; its settings are those of its own generation config.

    With ``confidence`` a round ends at a token to which the draft gives a lower probability. transformers moves that
    threshold within a text, by how tokens of which probability were accepted.
    """

    def __init__(self, gamma: int, draft: str, confidence: float = 0.0) -> None:
        self.gamma = self.longest = whole_number("gamma", gamma)
        self.draft = draft
        self.confidence = number("confidence", confidence, least=0, most=1)

    def assistance(self, models: Models) -> Callable[[], dict[str, Any]]:
        """Return the assistant, with a constant number of tokens and the threshold of its confidence, if any."""
        one_of("draft", self.draft, list(models.drafts))
        constant = GenerationConfig(
            num_assistant_tokens=self.gamma,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=self.confidence,
        )
        assistant = Wrapped(models.drafts[self.draft], constant).eval()
        return lambda: {"assistant_model": assistant}


class Lookup(Generate):
    """Prompt lookup by transformers."""

    def __init__(self, gamma: int, ngram: int) -> None:
        self.gamma = self.longest = whole_number("gamma", gamma)
        self.ngram = whole_number("ngram", ngram)

    def assistance(self, models: Models) -> Callable[[], dict[str, Any]]:  # noqa: ARG002
        """Return the numbers of tokens to look up and to match."""
        return lambda: {"prompt_lookup_num_tokens": self.gamma, "max_matching_ngram_size": self.ngram}
