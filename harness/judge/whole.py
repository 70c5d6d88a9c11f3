"""Checks that the files of a user's own model hold what its configuration says, before any weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModel
from transformers.utils import logging

from harness.api import UsageError
from harness.judge.pretrained import LOCAL, NUMBERED, configured, first_line

WEIGHTS: Final = {**LOCAL, "use_safetensors": True}
"""Pickled weights are not loaded, also where they lie beside other safetensors."""


_SAFE: Final = (".safetensors", ".safetensors.index.json")

_BLOBS: Final = "blobs"
"""The folder of a hub's cache in which the files lie that its models link to."""


def require_whole(kind: Any, folder: Path, fresh: tuple[str, ...] = ()) -> None:
    """Raise UsageError where a class of transformers would not find each weight in the files of a model.

    It would draw what is missing at random, without a word. Weights whose names begin as one of ``fresh`` are not
    needed. Only the headers of the files are read; without accelerate, which does that, loading says what is wrong.
    """
    require_inside(folder)
    if find_spec("accelerate") is None:
        return
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, found = kind.from_pretrained(
            folder,
            config=configured(folder),
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **WEIGHTS,
        )
    except Exception as error:  # of many kinds: of the files' format, or of any line of a model's constructor
        raise UsageError(f"model {str(folder)!r}: transformers cannot load it: {first_line(error)}") from error
    require_found(folder, model, found, fresh)


def require_inside(folder: Path) -> None:
    """Raise UsageError where a model's files of weights lie elsewhere than in its folder or in the cache of a hub.

    The digest of the folder has to tell what is loaded, and a model from elsewhere must not choose what is read here.
    """
    for named in _named(folder):
        if not isinstance(named, str) or Path(named).name != named or not named.endswith(_SAFE):
            raise UsageError(f"model {str(folder)!r}: names weights {named!r}; expected a *.safetensors in its folder")
    for path in folder.glob("*.safetensors"):
        if (target := path.resolve().parent) != folder.resolve() and target.name != _BLOBS:
            raise UsageError(f"model {str(folder)!r}: {path.name} is a link to {target}; expected the file itself")


def _named(folder: Path) -> Iterator[Any]:
    """Yield what the files of a model name as files of its weights."""
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors.index.json"))):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = [*(content["weight_map"].values() if path.name != "config.json" else [])]
            named = content.get("transformers_weights")
        except (OSError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
            raise UsageError(f"model {str(folder)!r}: its {path.name} cannot be read: {first_line(error)}") from error
        yield from names if named is None else [*names, named]


def require_found(
    folder: Path, model: nn.Module, found: Mapping[str, Iterable[Any]], fresh: tuple[str, ...] = ()
) -> None:
    """Raise UsageError where the report of a load tells of weights missing, of another shape, or without a place."""
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith(fresh)):
        raise UsageError(f"model {str(folder)!r}: its files lack {missing[0]}; expected a whole model")
    for name, stored, expected in found["mismatched_keys"]:
        if not name.startswith(fresh):
            shapes = f"{name} has the shape {tuple(stored)} in its files, and {tuple(expected)} by its config.json"
            raise UsageError(f"model {str(folder)!r}: {shapes}")
    if unused := _unused(model, sorted(found["unexpected_keys"])):
        raise UsageError(
            f"model {str(folder)!r}: its files hold {unused[0]}, for which the model has no place by its config.json"
        )


def _unused(model: nn.Module, unexpected: Sequence[str]) -> list[str]:
    """Return the weights in the files that a model leaves out of its repeated layers: those are another model's.

    Outside of the layers it may leave out heads, poolings and other parts that a task does not need, and layers of
    other names, such as those of CLIP's texts. What is a weight or the bias of one counts, as some files hold buffers:
    GPT-2's have a mask ``attn.bias`` in a layer ``attn`` that has no weight.
    """
    own = {_repeated(name) for name in model.state_dict()} - {""}
    known = {*model.state_dict(), *unexpected}

    def is_left_out(name: str) -> bool:
        place, _, kind = name.rpartition(".")
        layers = _repeated(name)
        weighs = kind == "weight" or (kind == "bias" and any(_same(f"{place}.weight", other) for other in known))
        return bool(layers) and weighs and any(_same(layers, other) for other in own)

    return [name for name in unexpected if is_left_out(name)]


def _repeated(name: str) -> str:
    """Return the name of the list of layers that a weight is in, such as ``encoder.layer``; an empty text for none."""
    found = NUMBERED.match(name)
    return found[1].rpartition(".")[0] if found else ""


def _same(name: str, other: str) -> bool:
    """Return whether two names are the same but for the name of the model around, as in ``bert.encoder.layer``."""
    return f".{name}".endswith(f".{other}") or f".{other}".endswith(f".{name}")


def require_finite(folder: Path, model: nn.Module) -> None:
    """Raise UsageError for weights that are NaN or infinite, with which nothing can be learned or measured."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel():
            least, most = torch.aminmax(weight.detach())
            if not bool(torch.isfinite(least) & torch.isfinite(most)):
                raise UsageError(f"model {str(folder)!r}: {name} has values that are no finite numbers")


def positions(folder: Path) -> int | None:
    """Return how many tokens a model has positions for; None where its configuration does not say.

    Models such as RoBERTa count from the place after that of the padding, so that they have fewer than it says.
    """
    config = configured(folder)
    most: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not most:
        return None
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return most


def require_embedded(folder: Path, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> None:
    """Raise UsageError for a text that has no tokens, and for tokens that the model has no embedding for."""
    if (empty := next((text for text, own in zip(texts, tokens, strict=True) if not own), None)) is not None:
        raise UsageError(f"model {str(folder)!r}: its tokenizer makes no tokens of the text {empty[:60]!r}")
    require_known(folder, max(map(max, tokens), default=0))


def require_known(folder: Path, token: int) -> None:
    """Raise UsageError where the largest token of a text has no embedding in the model."""
    vocabulary = getattr(configured(folder).get_text_config(), "vocab_size", None)
    if vocabulary is not None and token >= vocabulary:
        raise UsageError(f"model {str(folder)!r}: its tokenizer makes tokens that the model has no embedding for")


def padding_of(folder: Path, tokenizer: Any) -> int:
    """Return the token that fills short texts: the model's, the tokenizer's, or 0; one that the model can embed."""
    config = configured(folder)
    vocabulary = getattr(config.get_text_config(), "vocab_size", None) or torch.inf
    known = (getattr(config, "pad_token_id", None), tokenizer.pad_token_id)
    return next((value for value in known if value is not None and 0 <= value < vocabulary), 0)
