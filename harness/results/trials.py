"""Tells the trials of a tuning apart: by a text of the tuned values, in whatever order their names are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_KNOWN: Final = 10_000
"""How many trials are remembered: a run has few, each in many rows."""

_Trial = tuple["Mapping[str, Any]", str]

_by_values: dict[str, _Trial] = {}
_by_identity: dict[int, _Trial] = {}
_text_of = json.JSONEncoder(sort_keys=True).encode


def trial_id(tuned: Mapping[str, Any]) -> str:
    """Return a text that identifies tuned values, whatever the order of their names."""
    known = _by_identity.get(id(tuned))
    return known[1] if known is not None and known[0] is tuned else _trial_of(tuned)[1]


def shared(tuned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return one object for all rows with these tuned values, which `trial_id` knows at sight."""
    return _trial_of(tuned)[0]


def _trial_of(tuned: Mapping[str, Any]) -> _Trial:
    written = repr(tuned)  # which tells 1, 1.0 and true apart, as JSON does
    if (trial := _by_values.get(written)) is None:
        trial = (tuned, _text_of(dict(tuned)))
        if len(_by_values) < _MOST_KNOWN:
            _by_values[written] = _by_identity[id(tuned)] = trial
    return trial
