"""Training the text models: the optimiser against its definition, and that something is learnt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import UsageError
from harness.families.decode import training as decode_training
from harness.families.decode.data import texts
from harness.families.decode.models import Shape, TextModel
from harness.families.decode.settings import CONTEXT
from harness.families.decode.training import DRAFT_TRAINING, Muon, Training, fit, held_out_loss, orthogonal


@given(st.integers(0, 2**31), st.sampled_from([(8, 8), (4, 12), (12, 4)]))
@settings(max_examples=15)
def test_the_iteration_brings_all_singular_values_near_one(seed, shape):
    matrices = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    found = orthogonal(matrices, Muon.COEFFICIENTS, 8)
    values = torch.linalg.svdvals(found)
    assert float(values.max()) < 1.3
    left, sizes, right = torch.linalg.svd(matrices, full_matrices=False)
    solid = sizes > 0.05 * sizes[:, :1]
    assert float(torch.linalg.svdvals(found)[solid].min()) > 0.6
    assert float((left.mT @ found @ right.mT - torch.diag_embed(values)).abs().max()) < 0.7


def test_a_step_is_torchs_own_up_to_its_bfloat16():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = [torch.nn.Parameter(torch.randn(12, 6)) for _ in range(2)]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    muon, reference = Muon([ours]), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0)
    draw = torch.Generator().manual_seed(1)
    before = [parameter.detach().clone() for parameter in ours]
    for _ in range(3):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn(12, 6, generator=draw)
            other.grad = own.grad.clone()
        muon.step(0.1)
        reference.step()
    for own, other, start in zip(ours, theirs, before, strict=True):
        assert float(((own - other).norm() / (other - start).norm()).detach()) < 0.05


@pytest.mark.parametrize(("share", "steps", "held_out"), [(1.0, 120, 64), (0.2, 24, 13), (1e-9, 1, 1)])
def test_a_share_of_a_training_has_as_many_steps_and_never_none(share, steps, held_out):
    assert DRAFT_TRAINING.shortened(share) == replace(DRAFT_TRAINING, steps=steps, held_out=held_out)


def test_a_few_steps_learn_more_than_how_often_characters_are(cache):
    found = texts(cache)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TextModel(decode_training.DRAFTS["tiny"])
    before = held_out_loss(model, found, 64)
    losses = fit(model, replace(DRAFT_TRAINING, steps=40), found)
    assert losses[-1] < losses[0]
    counts = torch.bincount(found.train["prose"], minlength=96).double()
    entropy = -float(torch.special.xlogy(counts / counts.sum(), counts / counts.sum()).sum())
    assert held_out_loss(model, found, 64) < entropy < before


def test_a_model_comes_from_the_cache_as_it_was_trained(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(decode_training.DRAFTS, "tiny", Shape(vocabulary=96, width=8, layers=1))
    monkeypatch.setattr(decode_training, "DRAFT_TRAINING", Training(steps=2, batch=1))
    found = texts(cache)
    first = decode_training.draft("tiny", tmp_path, found)
    monkeypatch.setattr(decode_training, "fit", lambda *_: pytest.fail("it was trained again"))
    again = decode_training.draft("tiny", tmp_path, found)
    assert (first.sha256, first.loss) == (again.sha256, again.loss)
    assert math.isfinite(first.loss)
    text = found.held_out["code"][None, :CONTEXT]
    assert torch.equal(first.model(text)[0], again.model(text)[0])


def test_there_is_no_target_with_three_heads_of_keys(tmp_path, cache):
    with pytest.raises(UsageError, match="kv_heads 3: expected 4, 2 or 1"):
        decode_training.target(3, tmp_path, texts(cache))
