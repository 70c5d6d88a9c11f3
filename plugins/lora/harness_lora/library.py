"""Imports what the plugin uses of peft, and leaves out bitsandbytes, which peft imports wherever it is installed.

bitsandbytes takes longer to import than peft itself, and every process of a run would carry it. It is for quantised
layers; those of this contract are plain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let no import find a package within the context, unless it has been imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # which Python takes as "there is none"
    try:
        yield
    finally:
        del sys.modules[package]


with _hidden("bitsandbytes"):
    from peft import (
        EvaConfig,
        IA3Config,
        LoraConfig,
        MissConfig,
        PeftConfig,
        VeraConfig,
        get_eva_state_dict,
        import_utils,
        inject_adapter_in_model,
    )
    from peft.tuners.lora import Linear as LoraLinear
    from peft.tuners.lora.dora import DoraLinearLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.tuners.vera import VeraModel

    import_utils.is_bnb_available()  # peft asks when it injects, too, and then remembers this answer
    import_utils.is_bnb_4bit_available()

__all__ = [
    "BaseTunerLayer",
    "DoraLinearLayer",
    "EvaConfig",
    "IA3Config",
    "LoraConfig",
    "LoraLinear",
    "MissConfig",
    "PeftConfig",
    "VeraConfig",
    "VeraModel",
    "get_eva_state_dict",
    "inject_adapter_in_model",
]
