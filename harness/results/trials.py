"""Tells the trials of a tuning apart: by a text of the tuned values, in whatever order their names are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

_MOST_KNOWN: Final = 10_000
"""How many texts are remembered: a run has few trials in many rows."""

_known: dict[str, str] = {}
_text_of = json.JSONEncoder(sort_keys=True).encode


def trial_id(tuned: Mapping[str, Any]) -> str:
    """Return a text that identifies tuned values, whatever the order of their names."""
    written = repr(tuned)  # which tells 1, 1.0 and true apart, as JSON does
    if (text := _known.get(written)) is None:
        text = _text_of(dict(tuned))
        if len(_known) < _MOST_KNOWN:
            _known[written] = text
    return text
