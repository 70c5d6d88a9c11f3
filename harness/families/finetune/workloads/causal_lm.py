"""Workload ``causal-lm``: a user's own language model of transformers learns completions, answers, or texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import transformers
from torch import Tensor, nn

from harness.api import WARNING, CaseContext, Json, UsageError
from harness.api.text import source_name
from harness.families.finetune.anatomy import anatomy_of, coverage
from harness.families.finetune.bases import based, computing_as_loaded
from harness.families.finetune.pretrained import language_model, require_language_model
from harness.families.finetune.problem import Material, Retained
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.scores import scores_of
from harness.families.finetune.sequences import Sequences, passages_of, sequences, sequences_key
from harness.families.finetune.settings import CausalSettings
from harness.families.finetune.splits import PARTS, parted
from harness.judge.base_checks import require_base
from harness.judge.bases import base_of, pack
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.pretrained import repeated_linears
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.tables import Pairs, Texts
from harness.judge.training import Batch
from harness.measure.sources import content_digest

FEWEST: Final = 20
"""The fewest examples that can be divided."""

TOLD: Final = 0.05
"""A warning tells where more than this share of the pairs is cut."""

LEAST_COVERAGE: Final = 0.95


class CausalLm(FinetuneWorkload):
    """The protocol on a user's language model, which keeps its own output, and pairs, conversations, or texts.

    No more than one training batch's logits exist at a time: those of a large vocabulary fill gigabytes.
    """

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are out of range, and for a model or data that cannot be used."""
        read = read_settings(CausalSettings, settings)
        if not read.model or not read.data:
            raise UsageError("causal-lm runs on a model and data of one's own: add --model and --data")
        require_language_model(Path(read.model))
        require_base(read.base)
        passages = passages_of(Path(read.data), read)
        if read.max_length == 1:
            raise UsageError("max_length 1: expected 0 or at least 2: a token is predicted from those before it")
        if isinstance(passages, Pairs):
            learned = [part for part in passages.parts if part == "train"] if passages.parts else passages.prompts
            _require_enough(len(learned), "conversations" if passages.rendered else "pairs")
        if read.retain:
            _require_others(read, passages, passages_of(Path(read.retain), read))

    def prepare(self, context: CaseContext) -> None:
        """Tokenise the data, and measure the base model on the texts that are to be retained, if the cache lacks it."""
        settings = read_settings(CausalSettings, context.settings)
        made = sequences(settings.data, settings, context.cache)
        learned = int((made.parts <= PARTS.index("train")).sum())
        _require_enough(learned, "pairs" if made.paired else f"blocks of {made.limit} tokens")
        if settings.retain:
            self._retained(settings, context)

    def material(self, context: CaseContext) -> Material:
        """Return the model and the sequences, divided by the seed."""
        settings = read_settings(CausalSettings, context.settings)
        made = sequences(settings.data, settings, context.cache)
        retained = self._retained(settings, context) if settings.retain else None
        base = base_of(settings.base)
        model = language_model(Path(settings.model), base.dtype).to(context.device)
        examples = made.examples(context.device)
        parts = divided(made, settings, generator(context.seed, "split"))
        train, validation, test = (examples.at(indices) for indices in parts)
        shown = train.at(torch.arange(2)).batch()
        anatomy = anatomy_of(model, (), lambda probed: self.forward(probed, shown))
        of_model = _notes(settings, made, coverage(model, anatomy), model)
        of_base = based(model, anatomy.linears, base)
        return Material(
            model=model,
            anatomy=anatomy,
            train=train,
            validation=validation,
            test=test,
            classes=model.config.vocab_size,
            settings=settings,
            notes=[
                *of_model,
                *of_base,
                *_retention_notes(settings, retained),
                f"{int((test.labels >= 0).sum())} tokens are predicted in the test",
            ],
            shown=len(validation),
            kind="causal-lm",
            pretrained="",
            test_batch=settings.batch_size,
            retained=retained,
            base=base,
        )

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, length, vocabulary)`` of a batch."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}
        with computing_as_loaded(model, batch["input_ids"].device.type):
            logits: Tensor = model(**inputs, use_cache=False).logits
        return logits.float()

    def metrics_of(self, quality: Mapping[str, float]) -> dict[str, float]:
        """Return accuracies and losses, and the perplexity of the test."""
        measured = super().metrics_of(quality)
        return {**measured, "perplexity": math.exp(min(measured["loss"], 700.0))}  # more is no float

    def _retained(self, settings: CausalSettings, context: CaseContext) -> Retained:
        """Return evenly spaced sequences of the file to retain, and the base model's loss on them."""
        made = sequences(settings.retain, settings, context.cache)
        if not len(made):
            raise UsageError(f"{settings.retain}: has fewer than {made.limit} tokens")
        count = min(settings.retain_examples, len(made))
        examples = made.examples(context.device).at((torch.arange(count) * len(made)).div(count, rounding_mode="floor"))
        facts: dict[str, Json] = {
            "model": content_digest(Path(settings.model)),
            "base": settings.base,
            "retain": sequences_key(settings.retain, settings),
            "examples": [count, settings.batch_size],
            "device": context.device,
            "libraries": {"torch": torch.__version__, "transformers": transformers.__version__},
            "sources": sources_of(__name__),
        }

        def measured() -> dict[str, Tensor]:
            base = base_of(settings.base)
            model = language_model(Path(settings.model), base.dtype).to(context.device)
            pack(model, repeated_linears(model), base)
            scores = scores_of(lambda batch: self._logits(model, batch), examples, settings.batch_size)
            return {"loss": torch.tensor(scores.loss, dtype=torch.float64)}

        before = load_or_make(context.cache, f"before-{key_of(facts)}", measured)["loss"]
        return Retained(examples=examples, before=float(before))


def divided(made: Sequences, settings: CausalSettings, draw: torch.Generator) -> list[Tensor]:
    """Return disjoint indices of the examples to train on, to choose by and to test on.

    Pairs are drawn one by one. Blocks of texts stay in their order, from a place that is drawn, so that the parts are
    stretches of text that hardly touch.
    """
    wanted = {
        "train": settings.train_examples,
        "validation": settings.validation_examples,
        "test": settings.test_examples,
    }

    def divide(members: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
        order = torch.randperm(len(members), generator=draw)
        if not made.paired and len(order):
            order = (torch.arange(len(members)) + order[0]) % len(members)
        return members[order[: sum(counts)]].split_with_sizes([*counts])

    return parted(made.parts, wanted, divide)


def _require_enough(count: int, what: str) -> None:
    if count < FEWEST:
        raise UsageError(f"the data have {count} different {what} to learn from; expected at least {FEWEST}")


def _require_others(settings: CausalSettings, learned: Pairs | Texts, retained: Pairs | Texts) -> None:
    """Raise UsageError where what is to be retained is in the data: its loss would tell nothing of forgetting."""
    known = {*_items(learned)}
    if (same := next((item for item in _items(retained) if item in known), None)) is not None:
        raise UsageError(
            f"--param retain={settings.retain}: has {str(same)[:60]!r} of {settings.data}, too; "
            "expected texts that are not in the data"
        )


def _items(passages: Pairs | Texts) -> Sequence[object]:
    """Return what data are made of, each once."""
    if isinstance(passages, Pairs):
        return list(zip(passages.prompts, passages.completions, strict=True))
    return passages.texts


def _notes(settings: CausalSettings, made: Sequences, covered: float, model: Any) -> list[str]:
    model_path, data = Path(settings.model), Path(settings.data)
    what = "different pairs" if made.paired else f"blocks of {made.limit} tokens"
    notes = [
        f"model: {source_name(settings.model)}, SHA-256 {content_digest(model_path)}",
        f"data: {source_name(settings.data)}, {len(made)} {what}, SHA-256 {content_digest(data)}",
        f"{100 * covered:.1f} % of the weights in the model's layers are in linear layers that may be adapted",
    ]
    if made.parts.any():
        notes[1] += "; their own split is kept"
    if covered < LEAST_COVERAGE:
        notes[-1] = f"{WARNING}only {notes[-1]}"
    notes.append(_ends(model))
    if made.paired:
        cut = f"{100 * made.cut:.1f} % of the pairs are longer than {made.limit} tokens, and cut"
        notes.append(f"{WARNING}{cut}" if made.cut > TOLD else cut)
    return notes


def _ends(model: Any) -> str:
    """Return what share of a model its embedding and output are, which no adapter of linear layers reaches."""
    ends = {id(end.weight): end.weight.numel() for end in (model.get_input_embeddings(), model.get_output_embeddings())}
    share = sum(ends.values()) / sum(parameter.numel() for parameter in model.parameters())
    kind = "which are one" if len(ends) == 1 else "each its own"
    return f"{100 * share:.1f} % of all weights are the embedding and the output, {kind}; these are not adapted"


def _retention_notes(settings: CausalSettings, retained: Retained | None) -> list[str]:
    if retained is None:
        return []
    path = Path(settings.retain)
    return [
        f"retain: {source_name(settings.retain)}, {len(retained.examples)} examples, SHA-256 {content_digest(path)}; "
        f"loss before {retained.before:.6g} nats"
    ]


sources_of(__name__)  # at import, so that no case has to wait for it

if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, EstimatingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (CausalLm,)
    _ESTIMATES: tuple[type[EstimatingWorkload], ...] = (CausalLm,)
