"""LoRA, its initialisations and its siblings."""

from __future__ import annotations

__version__ = "0.1.0"

HARNESS_API = 1
