"""Converts a causal language model of a ``.gguf`` file to float32 safetensors with its tokenizer."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def convert(path: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a file into a folder, as ``save_pretrained`` does."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
    )
    plain(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def plain(model: Any) -> Any:
    """Return a model that was read from a ``.gguf`` file without its marks of that.

    With them ``save_pretrained`` refuses the model as quantised, although its weights are plain float32 by then.
    """
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def main() -> None:
    """Convert the file that the first argument names into the folder that the second does."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        convert(*map(Path, sys.argv[1:]))
    except struct.error as error:
        sys.exit(f"the file is cut off, damaged or no GGUF: {error}")
