"""Factors of weights: computed once, with the bits that the function gives, and no hiding place for what is learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.api import Incorrect
from harness.judge import factors as judged
from harness.judge.factors import Factors, factorisation

CALLS: list[int] = []
LEARNED: list[Tensor] = []


@factorisation
def triples(weight: Tensor, *, rank: int) -> Sequence[Tensor]:
    CALLS.append(len(weight))
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


@factorisation
def random_start(weight: Tensor) -> Sequence[Tensor]:
    return (torch.randn(weight.shape),)


@factorisation
def smuggled(weight: Tensor) -> Sequence[Tensor]:
    """Return what another case of this process has learned, where there is something."""
    return (LEARNED[0] if LEARNED else weight,)


@factorisation
def changing(weight: Tensor) -> Sequence[Tensor]:
    weight.zero_()
    return (weight,)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    CALLS.clear()
    LEARNED.clear()


@pytest.fixture
def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {f"layer{number}": torch.randn(6, 5, generator=draw) for number in range(4)}


def require_equal(found: dict[str, tuple[Tensor, ...]], expected: dict[str, tuple[Tensor, ...]]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(found[name]) == len(values)
        assert all(map(torch.equal, found[name], values))


def test_kept_factors_have_the_bits_of_computed_ones(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    computed = Factors()(triples, weights, rank=2)
    for factors in (Factors(tmp_path), Factors(tmp_path)):
        require_equal(factors(triples, weights, rank=2), computed)


def test_they_are_computed_once_but_for_one_that_is_compared(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    Factors(tmp_path)(triples, weights, rank=2)
    CALLS.clear()
    Factors(tmp_path)(triples, weights, rank=2)
    assert len(CALLS) == 1
    CALLS.clear()
    Factors(tmp_path, thorough=True)(triples, weights, rank=2)
    assert len(CALLS) == len(weights)


def test_equal_weights_are_factored_once(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    first = weights["layer0"]
    found = Factors(tmp_path)(triples, {"a": first, "b": first.clone()}, rank=1)
    assert len(CALLS) == 2, "once, and once more to compare"
    require_equal(found, Factors()(triples, {"a": first, "b": first}, rank=1))


@pytest.mark.parametrize("change", ["weight", "options", "dtype", "processor"])
def test_what_they_follow_from_names_them(
    change: str, tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    Factors(tmp_path)(triples, weights, rank=2)
    rank = 3 if change == "options" else 2
    if change == "weight":
        weights["layer0"][0, 0] += 2.0**-20
    if change == "dtype":
        weights = {name: weight.double() for name, weight in weights.items()}
    if change == "processor":
        monkeypatch.setattr(judged, "processor", lambda: {"model": "another", "flags": []})
    found = Factors(tmp_path)(triples, weights, rank=rank)
    require_equal(found, Factors()(triples, weights, rank=rank))
    assert len(list((tmp_path / "base-models").glob("factors-*.safetensors"))) == 2


def test_a_change_of_kept_factors_changes_no_others(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    Factors(tmp_path)(triples, weights, rank=2)["layer1"][0].zero_()
    require_equal(Factors(tmp_path, thorough=True)(triples, weights, rank=2), Factors()(triples, weights, rank=2))


def test_random_factors_follow_from_the_weight_and_leave_the_generator_alone(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    before = torch.get_rng_state()
    first = Factors(tmp_path)(random_start, weights)
    torch.rand(3)
    require_equal(Factors()(random_start, weights), first)
    torch.set_rng_state(before)
    Factors(tmp_path)(random_start, weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_another_case_has_learned_is_found(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    LEARNED.append(torch.ones(6, 5))
    Factors(tmp_path)(smuggled, weights)
    LEARNED.clear()
    with pytest.raises(Incorrect, match="expected a function of the weight and its options alone"):
        Factors(tmp_path)(smuggled, weights)


def test_a_function_cannot_change_the_weight(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    before = {name: weight.clone() for name, weight in weights.items()}
    for factors in (Factors(), Factors(tmp_path)):
        factors(changing, weights)
    assert all(torch.equal(weights[name], weight) for name, weight in before.items())


def test_a_function_that_could_remember_is_refused() -> None:
    kept = torch.ones(2)

    def closure(weight: Tensor) -> Sequence[Tensor]:
        return (kept + weight,)

    with pytest.raises(ValueError, match="remembers nothing"):
        factorisation(closure)
    with pytest.raises(ValueError, match="without defaults"):
        factorisation(with_default)


def with_default(weight: Tensor, kept: list[Tensor] = []) -> Sequence[Tensor]:  # noqa: B006  the fault that is planted
    return (weight, *kept)
