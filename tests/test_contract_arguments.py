"""A technique's methods are held against the arguments that its contract gives."""

from __future__ import annotations

import pytest

from harness.api import Incorrect, require_members
from tests.test_contracts import GreetsTwice, Silent

FITS = ["self, loudly", "self, volume", "self, *given", "self, loudly, often=False", "self, **named", "self, *, loudly"]
DIFFERS = ["self", "self, loudly, often", "loudly", "self, *, volume", ""]


def with_greeting(parameters: str) -> object:
    """Return a technique whose method has these parameters."""
    made: dict[str, object] = {}
    exec(f"def greet({parameters}): return 'hello'", made)  # the signature is what the test is about
    return type("Made", (Silent,), {"greet": made["greet"]})()


@pytest.mark.parametrize("parameters", FITS)
def test_a_method_that_takes_what_its_contract_gives_passes(parameters: str) -> None:
    require_members(with_greeting(parameters), GreetsTwice, "polite")


@pytest.mark.parametrize("parameters", DIFFERS)
def test_a_method_with_other_arguments_is_told_those_of_its_contract(parameters: str) -> None:
    with pytest.raises(Incorrect) as told:
        require_members(with_greeting(parameters), GreetsTwice, "polite")
    expected = f"it defines greet({parameters}), expected greet(self, loudly); see: harness show contract polite"
    assert str(told.value) == expected


def test_a_method_that_the_object_itself_has_is_taken_as_it_is() -> None:
    technique = with_greeting("self")
    vars(technique)["greet"] = str
    require_members(technique, GreetsTwice, "polite")
