"""The base models: what they have seen, and that nothing else makes a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.families.finetune.digits import DigitsWorkload
from harness.families.finetune.workloads.digits_mlp import DigitsMlp
from harness.judge import pretraining
from harness.judge.cache import key_of
from harness.judge.digits import Digits, read_digits, scaled
from harness.judge.pretraining import Pretraining, base, facts, pretrain


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "PRETRAINING", Pretraining(steps=5))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("short")
class TestPretraining:
    def test_never_looks_at_the_digits_of_the_task(self, workload: DigitsWorkload) -> None:
        digits = read_digits()
        later = digits.labels >= 5
        poisoned = torch.where(later[:, None, None], torch.full_like(digits.pixels, 255), digits.pixels)
        scrambled = torch.where(later, 9 - (digits.labels % 5), digits.labels)
        other = Digits(pixels=poisoned, labels=scrambled)
        assert same(pretrain(workload, digits), pretrain(workload, other))

    def test_looks_at_the_others(self, workload: DigitsWorkload) -> None:
        digits = read_digits()
        other = Digits(pixels=16 - digits.pixels, labels=digits.labels)
        assert not same(pretrain(workload, digits), pretrain(workload, other))

    def test_depends_on_no_global_state(self, workload: DigitsWorkload) -> None:
        digits = read_digits()
        torch.manual_seed(1)
        first = pretrain(workload, digits)
        torch.manual_seed(2)
        torch.set_num_threads(2)
        try:
            second = pretrain(workload, digits)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)
        assert same(first, second)

    def test_leaves_the_global_generator_alone(self, mlp: DigitsWorkload) -> None:
        state = torch.get_rng_state()
        pretrain(mlp, read_digits())
        assert torch.equal(torch.get_rng_state(), state)


def test_sums_in_another_order_give_the_same_base_model(mlp: DigitsWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another processor would sum them: in float32, 400 steps make two models of it."""
    digits = read_digits()
    first = pretrain(mlp, digits)
    order = pretraining.batch_order
    monkeypatch.setattr(pretraining, "batch_order", lambda *given, **named: order(*given, **named).flip(1))
    second = pretrain(mlp, digits)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-6


def test_the_base_model_knows_its_digits(workload: DigitsWorkload, cache) -> None:
    found = base(workload, cache)
    model = workload.build(5)
    model.load_state_dict(found.state)
    seen = found.digits.select(0, 4)
    with torch.no_grad():
        logits = workload.forward(model.eval(), workload.inputs(scaled(seen.pixels)))
    assert (logits.argmax(1) == seen.labels).float().mean() > 0.97


def test_the_cached_images_are_the_digits(mlp: DigitsWorkload, cache) -> None:
    found, read = base(mlp, cache).digits, read_digits()
    assert torch.equal(found.pixels, read.pixels)
    assert torch.equal(found.labels, read.labels)


class Wider(DigitsMlp):
    config = {"widths": [64, 256]}  # noqa: RUF012


class Newer(DigitsMlp):
    libraries = {"transformers": "99"}  # noqa: RUF012


def test_another_model_or_library_or_protocol_has_another_name(
    mlp: DigitsWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [key_of(facts(workload)) for workload in (mlp, mlp, Wider(), Newer())]
    monkeypatch.setattr(pretraining, "PRETRAINING", replace(pretraining.PRETRAINING, lr=1e-3))
    names.append(key_of(facts(mlp)))
    monkeypatch.setattr(torch, "__version__", "99.0")
    names.append(key_of(facts(mlp)))
    assert names[0] == names[1]
    assert len(set(names)) == 5
