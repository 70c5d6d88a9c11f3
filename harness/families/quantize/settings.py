"""The settings of ``quantize``: the sizes of the matrices, or a user's model and data, and the dtype of the inputs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of the matrices that are timed and whose errors are measured.

    With 2048 ``anchored_rows`` the error on normal weights is known to a third of what is allowed.
    """

    rows: int = setting(1024, "rows of the matrix whose products are timed", above=0)
    columns: int = setting(4096, "columns of the matrix whose products are timed", above=0)
    packed_rows: int = setting(128, "rows of that matrix whose packing and unpacking is timed", above=0)
    sample_rows: int = setting(512, "rows of the random weights whose errors are measured", above=0)
    sample_columns: int = setting(1024, "columns of the random weights whose errors are measured", above=0)
    anchored_rows: int = setting(2048, "rows of the normal weights whose error is compared with integration", above=0)
    activations: str = setting("bfloat16", "dtype of the inputs", choices=("float32", "bfloat16", "float16"))


@dataclass(frozen=True, kw_only=True)
class OnModel:
    """What is said of a user's own model, whatever it does.

    By ``auto`` the model is in bfloat16, but in float32 for weights that are kept in float32.
    """

    model: str = setting("", "folder of the model: config.json, weights and tokenizer", file=True)
    data: str = setting("", "file of the texts", file=True)
    activations: str = setting(
        "auto",
        "dtype of all that is not quantised; auto for float32 with float32 weights and else bfloat16",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    head: str = setting(
        "kept", "whether the output head is quantised, too, where it is a linear layer", choices=("kept", "quantized")
    )


@dataclass(frozen=True, kw_only=True)
class CausalSettings(OnModel):
    """The protocol on a language model and texts."""

    text: str = setting("", "column of the texts; guessed where empty")
    prompt: str = setting("", "column of prompts, which completions follow; guessed where empty")
    completion: str = setting("", "column of completions; guessed where empty")
    messages: str = setting("", "column of conversations, lists of role and content; guessed where empty")
    context: int = setting(512, "tokens of a block of text whose perplexity is measured", above=1)
    blocks: int = setting(8, "most blocks, drawn by the seed", above=0)
    prompt_tokens: int = setting(256, "tokens of a timed prompt", above=0)
    before: int = setting(32, "tokens in the cache before the decoded ones", above=0)
    decoded: int = setting(8, "tokens that a timed call decodes one by one", above=0)


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(OnModel):
    """The protocol on a trained classifier and labelled texts."""

    text: str = setting("", "column of the texts; guessed where empty")
    label: str = setting("", "column of the labels; guessed where empty")
    test_examples: int = setting(500, "most texts, drawn by the seed", above=0)
    max_length: int = setting(128, "most tokens of a text", above=0)
    batch_size: int = setting(8, "texts of a timed batch", above=0)
