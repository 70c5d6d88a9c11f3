"""What a user says about how a model and data are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.api import UsageError


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a user's model and data are found and read.

    ``columns`` are columns of the data by what they are: ``{"text": "review"}``. ``download`` allows to fetch from a
    hub. ``cache`` is the folder of converted models; the user's cache folder where None. Raises UsageError for columns
    that are no mapping of texts.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    download: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        columns: object = self.columns  # of any type, from Python
        if not isinstance(columns, Mapping) or not all(isinstance(name, str) for name in columns.values()):
            raise UsageError(f"columns {columns!r}: expected columns by what they are, like {{'text': 'review'}}")


OFFLINE: Final = Reading()
"""Columns are guessed, and nothing is downloaded."""
