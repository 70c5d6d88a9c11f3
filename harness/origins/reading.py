"""What a user says about how a model and data are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a user's model and data are found and read.

    ``columns`` are columns of the data by what they are: ``{"text": "review"}``. ``download`` allows to fetch from a
    hub. ``cache`` is the folder of converted models; the user's cache folder where None.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    download: bool = False
    cache: Path | None = None


OFFLINE: Final = Reading()
"""Columns are guessed, and nothing is downloaded."""
