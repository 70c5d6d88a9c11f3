"""Our use of transformers beside plain calls of transformers, which ``docs/peers.md`` lists."""

from __future__ import annotations

import pytest
import torch

from harness.families.decode.contract import Sampling, Trace
from harness.testing import require_parity

pytest.importorskip("transformers")

PROMPT = [1, 2, 3, 1, 2]
COUNT = 6
"""The number of new tokens in the page's scripts."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["hf-generate", "hf-assisted", "hf-assisted-default", "hf-lookup"])
def test_decoding_takes_the_time_of_plain_calls(name, build, text_models, plain_calls) -> None:
    from harness_speculative.library import SessionCache, Wrapped, settings

    greedy = Sampling(temperature=0.0)

    def make():
        decode = build(name).open(text_models, greedy)
        plain = plain_calls(
            f"`{name}`",
            model=Wrapped(text_models.target, settings(greedy, 1)).eval(),
            assistant=Wrapped(text_models.drafts["tiny"], settings(greedy, 1)).eval(),
            ids=torch.tensor([PROMPT]),
            cache=lambda: SessionCache(text_models.target.open()),
        )
        draw = torch.Generator().manual_seed(0)
        assert decode(PROMPT, COUNT, draw, Trace()) == plain()[0, len(PROMPT) :].tolist()
        return lambda: decode(PROMPT, COUNT, draw, Trace()), plain

    with torch.inference_mode():
        print(require_parity(make))  # noqa: T201  shown where it fails
