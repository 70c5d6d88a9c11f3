"""Models of regularisers: slots that do nothing, where they're said to be, and an LSTM that is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.families.regularize.contract import Carry, Recurrent, Residual, StepSlot
from harness.families.regularize.models import CharacterMlp, ConvNet, Mlp, SequenceClassifier, Slotted

MODELS: dict[str, tuple[Slotted, Tensor]] = {
    "mlp": (Mlp([6, 5, 4], 3), torch.randn(2, 6)),
    "characters": (CharacterMlp(7, 4, embedding=3, widths=[5]), torch.randint(0, 7, (2, 4))),
    "images": (ConvNet(8, 4, 3, blocks=2, width=5), torch.randn(2, 1, 8, 8)),
    "sequences": (SequenceClassifier(6, 5, 3), torch.randn(2, 4, 6)),
}

each_model = pytest.mark.parametrize("name", MODELS)


@each_model
def test_places_are_of_the_kinds_that_the_contract_names(name: str) -> None:
    model, _ = MODELS[name]
    places = model.places()
    for slot in (*places.inputs, *places.preactivations, *places.hidden):
        assert type(model.get_submodule(slot)) is nn.Identity
    assert all(type(model.get_submodule(place)) is nn.ReLU for place in places.activations)
    assert all(type(model.get_submodule(place)) is nn.Linear for place in (*places.linears, places.output))
    assert all(type(model.get_submodule(place)) is Residual for place in places.branches)
    assert all(type(model.get_submodule(place)) is Recurrent for place in places.recurrent)
    assert len(places.activations) == len(places.preactivations)
    assert set(places.maps) <= set(places.hidden)


@each_model
def test_every_place_is_on_the_way_to_the_logits(name: str) -> None:
    model, inputs = MODELS[name]
    visited = set()
    hooks = [
        model.get_submodule(place).register_forward_hook(lambda *_, place=place: visited.add(place))
        for place in model.places().names()
    ]
    logits = model(inputs)
    for hook in hooks:
        hook.remove()
    assert visited == set(model.places().names())
    assert logits.shape == (2, 7 if name == "characters" else 3)


def test_slots_for_maps_see_maps() -> None:
    model, images = MODELS["images"]
    shapes = []
    hooks = [
        model.get_submodule(place).register_forward_hook(lambda _, __, out: shapes.append(out.shape))
        for place in model.places().maps
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    assert shapes == [(2, 4, 8, 8)] * 3


def test_the_recurrence_is_torch_s_lstm() -> None:
    recurrent = Recurrent(3, 5)
    reference = nn.LSTM(3, 5, batch_first=True)
    reference.load_state_dict({f"{name}_l0": value for name, value in recurrent.cell.state_dict().items()})
    sequences = torch.randn(4, 7, 3)
    torch.testing.assert_close(recurrent(sequences), reference(sequences)[0])


def test_slots_of_a_recurrence_know_the_step_and_the_state_before() -> None:
    steps: list[tuple[str, int]] = []

    class Noted(StepSlot):
        def forward(self, x: Tensor, step: int) -> Tensor:
            steps.append(("slot", step))
            return x

    class Stuck(Carry):
        def forward(self, previous: Tensor, new: Tensor, step: int) -> Tensor:
            steps.append(("carry", step))
            return previous

    recurrent = Recurrent(3, 5)
    recurrent.on_input, recurrent.carry_hidden = Noted(), Stuck()
    assert not recurrent(torch.randn(2, 3, 3)).any()
    assert steps == [(what, step) for step in range(3) for what in ("slot", "carry")]


def test_a_residual_adds_what_its_slot_lets_through() -> None:
    residual = Residual(nn.Linear(3, 3))
    x = torch.randn(2, 3)
    torch.testing.assert_close(residual(x), x + residual.body(x))
    residual.slot = nn.Dropout(1.0)
    assert torch.equal(residual(x), x)
