"""The inputs themselves: what one of them is damaged with is not in the next."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import confused


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(drawn=st.lists(confused, min_size=4, max_size=4))
def test_what_an_input_gets_is_its_own(drawn: list) -> None:
    for value in drawn:
        assert "added" not in (value if isinstance(value, list | dict) else ())
        if isinstance(value, list):
            value.append("added")
        elif isinstance(value, dict):
            value["added"] = value
