"""Trains the text models of the contract ``decode``, once: the judge's target, its variants and its drafts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import Json, UsageError
from harness.families.decode.data import Texts, repetitive
from harness.families.decode.models import Shape, TextModel
from harness.families.decode.settings import CONTEXT
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.seeds import generator, global_seed
from harness.judge.texts import ALPHABET


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained: ``steps`` of ``batch`` windows, rates that rise for a tenth of them and then fall to 0.

    Matrices learn by Muon at ``matrix_lr``, all else by AdamW at ``lr``. A share of the windows is ``code``, another
    is ``repetitive``. The losses of exit and extra heads weigh as stated.
    """

    steps: int
    batch: int = 8
    matrix_lr: float = 0.03
    lr: float = 0.01
    code: float = 0.3
    repetitive: float = 0.15
    exit_weight: float = 0.5
    extra_weight: float = 0.2
    seed: int = 0


TARGET: Final = Shape(vocabulary=len(ALPHABET), width=128, layers=8, exit_layer=1, extra_heads=3)
DRAFTS: Final = {
    "tiny": Shape(vocabulary=len(ALPHABET), width=64, layers=0),
    "small": Shape(vocabulary=len(ALPHABET), width=64, layers=1),
}
KV_HEADS: Final = (4, 2, 1)
"""Of the target's variants: as many as queries (MHA), half of them (GQA), one (MQA)."""

TARGET_TRAINING: Final = Training(steps=75)
DRAFT_TRAINING: Final = Training(steps=120)
UPTRAINING: Final = Training(steps=12, matrix_lr=0.01, lr=0.003, seed=1)
"""Of a variant, after its keys and values were averaged from the target's (Ainslie et al., arXiv:2305.13245)."""

_WINDOWS: Final = 64
"""Held-out windows of each category that the loss of a model is measured on."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model ready to read, its mean held-out loss in nats a character, and the digest of its numbers."""

    model: TextModel
    loss: float
    sha256: str


def target(kv_heads: int, cache: Path, found: Texts) -> Trained:
    """The target with this many heads of keys and values, from the cache or trained now (half a minute).

    Raises UsageError for a number of heads that there is no target of.
    """
    if kv_heads not in KV_HEADS:
        raise UsageError(f"kv_heads {kv_heads!r}: expected {', '.join(map(str, KV_HEADS[:-1]))} or {KV_HEADS[-1]}")
    if kv_heads == TARGET.kv_heads:
        return _cached("target", TARGET, TARGET_TRAINING, found, cache, None)
    shape = replace(TARGET, kv_heads=kv_heads)
    whole = target(TARGET.kv_heads, cache, found)
    return _cached(f"target-{kv_heads}", shape, UPTRAINING, found, cache, whole)


def draft(name: str, cache: Path, found: Texts) -> Trained:
    """A draft by its name in `DRAFTS`, from the cache or trained now (seconds)."""
    return _cached(name, DRAFTS[name], DRAFT_TRAINING, found, cache, None)


def _cached(name: str, shape: Shape, training: Training, found: Texts, cache: Path, parent: Trained | None) -> Trained:
    facts: dict[str, Json] = {
        "shape": asdict(shape),
        "training": asdict(training),
        "parent": parent.sha256 if parent else "",
        "texts": found.sha256,
        "torch": torch.__version__,
        "sources": sources_of(__name__),
    }

    def make() -> dict[str, Tensor]:
        with global_seed(training.seed):
            model = TextModel(shape)
            if parent:
                model.load_state_dict(averaged(parent.model, shape))
            fit(model, training, found)
            loss = held_out_loss(model, found)
        return {"loss": torch.tensor(loss), **{f"model.{key}": one for key, one in model.state_dict().items()}}

    tensors = load_or_make(cache, f"decode-{name}-{key_of(facts)}", make)
    state = {key.removeprefix("model."): one for key, one in tensors.items() if key.startswith("model.")}
    with torch.device("meta"):
        model = TextModel(shape)
    model.load_state_dict(state, assign=True)
    digest = hashlib.sha256(b"".join(state[key].numpy().tobytes() for key in sorted(state)))
    return Trained(model=model.requires_grad_(False).eval(), loss=float(tensors["loss"]), sha256=digest.hexdigest())


def averaged(model: TextModel, shape: Shape) -> Mapping[str, Tensor]:
    """The parameters of a model with fewer heads of keys and values: each the mean of the heads it stands for."""
    state = dict(model.state_dict())
    whole = model.shape
    for depth in range(shape.layers):
        name = f"layers.{depth}.inputs.weight"
        queries, pairs = state[name].split([whole.queries, 2 * whole.kv_heads * whole.head_width])
        pairs = pairs.view(2, shape.kv_heads, whole.kv_heads // shape.kv_heads, whole.head_width, whole.width).mean(2)
        state[name] = torch.cat([queries, pairs.reshape(-1, whole.width)])
    return state


def fit(model: TextModel, training: Training, found: Texts) -> list[float]:
    """Train on windows of the whole context; the loss of each step. Raises FloatingPointError if one is not finite."""
    others = [one for name, one in model.named_parameters() if not name.startswith("layers.")]
    layers = [[one for _, one in layer.named_parameters()] for layer in model.layers]
    muon = Muon([list(alike) for alike in zip(*layers, strict=True)])
    adam = torch.optim.AdamW(others, lr=training.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    losses = []
    for number, windows in enumerate(_windows(training, found)):
        model.zero_grad(set_to_none=True)
        loss = _loss(model, windows, training)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(others, 1.0)
        share = _share(number, training.steps)
        adam.param_groups[0]["lr"] = share * training.lr
        adam.step()
        muon.step(share * training.matrix_lr)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"loss is {losses[-1]} at step {number + 1}")
    return losses


class Muon:
    """Steps of equal length in all directions of a matrix: the momentum's singular values are all brought near 1.

    Jordan et al., https://kellerjordan.github.io/posts/muon. In float32, and matrices of the same shape at once, as
    torch's own works in bfloat16 one by one, which takes a processor ten times as long.
    """

    MOMENTUM: Final = 0.95
    COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
    ITERATIONS: Final = 5

    def __init__(self, alike: Sequence[Sequence[nn.Parameter]]) -> None:
        self._alike = alike
        self._momenta = [torch.zeros(len(some), *some[0].shape) for some in alike]

    def step(self, lr: float) -> None:
        """By the gradients in place, with Nesterov's momentum; tall matrices take longer steps."""
        for some, momentum in zip(self._alike, self._momenta, strict=True):
            gradients = torch.stack([one.grad for one in some if one.grad is not None])
            momentum.lerp_(gradients, 1 - self.MOMENTUM)
            update = orthogonal(gradients.lerp(momentum, self.MOMENTUM), self.COEFFICIENTS, self.ITERATIONS)
            rows, columns = update.shape[1:]
            for one, change in zip(some, update, strict=True):
                one.data.add_(change, alpha=-lr * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], iterations: int) -> Tensor:
    """Matrices ``(n, r, c)`` with all singular values near 1, by Newton and Schulz's iteration of a quintic."""
    x: Tensor = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    first, third, fifth = coefficients
    for _ in range(iterations):
        gram = x @ x.mT
        x = first * x + (third * gram + fifth * gram @ gram) @ x
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


def held_out_loss(model: TextModel, found: Texts) -> float:
    """Mean cross-entropy in nats over the same held-out windows for every model, prose and code in equal parts."""
    totals = []
    with torch.inference_mode():
        for name in sorted(found.held_out):
            text = found.held_out[name]
            windows = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)[:_WINDOWS]
            logits = model(windows[:, :-1])[0]
            totals.append(float(functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())))
    return sum(totals) / len(totals)


def _share(number: int, steps: int) -> float:
    """Of the rates, at a step from 0: rising, then falling, on straight lines."""
    warm = max(1, steps // 10)
    return min((number + 1) / warm, (steps - number) / max(1, steps - warm))


def _windows(training: Training, found: Texts) -> Iterator[Tensor]:
    """Batches ``(batch, CONTEXT + 1)`` of characters, from a generator of their own."""
    draw = generator(training.seed, "decode windows")
    for _ in range(training.steps):
        kinds = torch.rand(training.batch, generator=draw).tolist()
        yield torch.stack([_window(kind, training, found, draw) for kind in kinds])


def _window(kind: float, training: Training, found: Texts, draw: torch.Generator) -> Tensor:
    text = found.train["code" if kind < training.code else "prose"]
    begin = int(torch.randint(0, len(text) - CONTEXT, (), generator=draw))
    window: Tensor = text[begin : begin + CONTEXT + 1]
    return repetitive(window, CONTEXT + 1, draw) if kind > 1 - training.repetitive else window


def _loss(model: TextModel, windows: Tensor, training: Training) -> Tensor:
    """Cross-entropy of what follows; of the exit and of the heads, which look further ahead, added at their weights."""
    tokens, targets = windows[:, :-1], windows[:, 1:]
    logits, early, extra = model(tokens)
    loss: Tensor = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    if early is not None:
        loss = loss + training.exit_weight * functional.cross_entropy(early.flatten(0, 1), targets.flatten())
    if extra is not None:
        for ahead, one in enumerate(extra.unbind(2), start=1):
            further = functional.cross_entropy(one[:, :-ahead].flatten(0, 1), targets[:, ahead:].flatten())
            loss = loss + training.extra_weight * further
    return loss


sources_of(__name__)  # at import, so that no case has to wait for it
