"""Decoders that want to win the time lane without decoding are found; those that decode are not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
import torch

from harness.api import Incorrect
from harness.families.decode.clocks import Watch
from harness.families.decode.contract import Sampling, Trace, plain
from harness.families.decode.passes import UNSEEN_PROMPTS, PassAudit, Passes
from harness.families.decode.tables import VOCABULARY, tables
from tests.mutants.mutant_decoders import Speculating

COUNT = 12
PROMPT = 8


class Plain(Speculating):
    """Decodes one token a read."""

    def open(self, models, sampling):
        return plain(models.target, sampling)


class Slow(Plain):
    """Computes for some milliseconds a text, so that what a text takes can be told."""

    def open(self, models, sampling):
        decode = super().open(models, sampling)

        def slowly(*arguments):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                pass
            return decode(*arguments)

        return slowly


class KeptText(Slow):
    """Gives the text of a prompt again, whatever the draws."""

    def open(self, models, sampling):
        decode, kept = super().open(models, sampling), {}

        def from_store(prompt, count, draw, trace):
            key = tuple(prompt)
            if key not in kept:
                kept[key] = decode(prompt, count, draw, trace)
            return kept[key]

        return from_store


class KeptByAll(Slow):
    """Keeps texts outside of the decoder, where one that is opened anew finds them."""

    kept: dict = {}  # noqa: RUF012  # shared on purpose

    def open(self, models, sampling):
        decode = super().open(models, sampling)

        def from_store(prompt, count, draw, trace):
            key = tuple(prompt)
            models.target.open().read([*prompt, *[0] * count], count)  # is seen to read
            if key not in self.kept:
                self.kept[key] = decode(prompt, count, draw, trace)
            return self.kept[key]

        return from_store


class AroundTheWatch(Plain):
    """Reads the model that is below the watched one."""

    def open(self, models, sampling):
        return plain(models.target._model, sampling)


class OnlyTheFirst(Plain):
    """Draws the first token from the target, and the others from nowhere once it was asked often."""

    calls = 0

    def open(self, models, sampling):
        decode = super().open(models, sampling)

        def often(prompt, count, draw, trace):
            self.calls += 1
            if self.calls < 4:
                return decode(prompt, count, draw, trace)
            return [*decode(prompt, 1, draw, trace), *torch.randint(VOCABULARY, (count - 1,), generator=draw).tolist()]

        return often


class Short(Plain):
    """Gives two tokens once it was asked often."""

    calls = 0

    def open(self, models, sampling):
        decode = super().open(models, sampling)

        def often(prompt, count, draw, trace):
            self.calls += 1
            return decode(prompt, count if self.calls < 4 else 2, draw, trace)

        return often


class CountOfItsClass(Plain):
    """Decodes by the draft once all decoders were asked often, and reads the target once, to be seen to read."""

    calls = 0

    def open(self, models, sampling):
        decode, cheap = super().open(models, sampling), plain(models.drafts["tiny"], sampling)

        def often(prompt, count, draw, trace):
            CountOfItsClass.calls += 1
            if self.calls < 4:
                return decode(prompt, count, draw, trace)
            models.target.open().read([*prompt, *[0] * count], count)
            return cheap(prompt, count, draw, trace)

        return often


def drawn_prompts() -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts to time, and prompts that are not timed."""
    drawn = torch.randint(VOCABULARY, (2 + UNSEEN_PROMPTS, PROMPT), generator=torch.Generator().manual_seed(1))
    return drawn[:2].tolist(), drawn[2:].tolist()


def found_in(technique: Speculating, sampling: Sampling, passes: int = 4) -> str:
    """Return what is found wrong with some timed passes, or an empty text."""
    models = tables(torch.Generator().manual_seed(0), apart=0.7)
    given, unseen = drawn_prompts()
    watch = Watch(models)
    timed = Passes(technique.open(watch.models, sampling), watch, given, COUNT)
    audit = PassAudit(technique, models, sampling, timed, unseen)
    try:
        audit.refresh()
        for _ in range(passes):
            timed()
            timed()
            audit(timed())
    except Incorrect as error:
        return str(error)
    return ""


SAMPLINGS = [Sampling(), Sampling(temperature=0.0)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["sampled", "greedy"])
@pytest.mark.parametrize("technique", [Plain, Slow, Speculating])
def test_decoders_that_decode_pass(technique: Callable[[], Speculating], sampling: Sampling) -> None:
    assert found_in(technique(), sampling) == ""


CHEATS = [
    (KeptText, "another text|never read"),
    (KeptByAll, "other draws give the same texts|that was never decoded takes"),
    (AroundTheWatch, "the target was never read at"),
    (OnlyTheFirst, "the target was never read at"),
    (Short, "gave 2 tokens where 12 were asked for"),
    (CountOfItsClass, "than such a decoder gave before all timed ones"),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["sampled", "greedy"])
@pytest.mark.parametrize(("cheat", "words"), CHEATS)
def test_texts_that_were_not_decoded_are_found(
    cheat: Callable[[], Speculating], words: str, sampling: Sampling
) -> None:
    KeptByAll.kept.clear()
    CountOfItsClass.calls = 0
    found = found_in(cheat(), sampling)
    assert any(word in found for word in words.split("|")), found


def test_a_greedy_token_that_the_target_finds_unlikely_is_found() -> None:
    models = tables(torch.Generator().manual_seed(0), apart=0.7)
    given, unseen = drawn_prompts()
    watch = Watch(models)
    cheap = plain(models.drafts["tiny"], Sampling(temperature=0.0))
    audit = PassAudit(Plain(), models, Sampling(temperature=0.0), Passes(cheap, watch, given, COUNT), unseen)
    draw = torch.Generator()
    audit._require_likeliest([Plain().open(models, audit._sampling)(prompt, COUNT, draw, Trace()) for prompt in given])
    with pytest.raises(Incorrect, match="is not the one that the target finds likeliest"):
        audit._require_likeliest([cheap(prompt, COUNT, draw, Trace()) for prompt in given])


class StalledWhereUnseen(Plain):
    """Waits, where a prompt was never timed, as long as another process may hold the processor."""

    def open(self, models, sampling):
        decode, timed = super().open(models, sampling), drawn_prompts()[0]

        def stalled(prompt, *arguments):
            time.sleep(0.05 * (list(prompt) not in timed))
            return decode(prompt, *arguments)

        return stalled


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["sampled", "greedy"])
def test_texts_that_were_held_up_by_others_are_no_fault(sampling: Sampling) -> None:
    assert found_in(StalledWhereUnseen(), sampling) == ""


def test_texts_that_are_alike_because_they_are_likely_are_no_fault() -> None:
    assert found_in(Plain(), Sampling(temperature=0.02), passes=12) == ""


def test_unseen_prompts_are_not_the_timed_ones() -> None:
    given, unseen = drawn_prompts()
    assert not any(first == second for first, second in itertools.product(given, unseen))
