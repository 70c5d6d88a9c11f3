"""Training of the text models of the contract ``decode``: the target, its variants and the drafts."""

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
    """The training protocol of a model: ``steps`` of ``batch`` windows, with linear warm-up (a tenth) and decay to 0.

    Matrices are trained by Muon at ``matrix_lr``, all else by AdamW at ``lr``. ``code`` and ``repetitive`` are shares
    of the windows; ``exit_weight`` and ``extra_weight`` are the weights of the losses of exit and extra heads. The loss
    of the trained model is measured on ``held_out`` windows of each category.
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
    held_out: int = 64

    def shortened(self, share: float) -> Training:
        """Return the protocol with a share of its steps and of the windows that the loss is measured on."""
        steps, held_out = (max(1, round(share * count)) for count in (self.steps, self.held_out))
        return replace(self, steps=steps, held_out=held_out)


TARGET: Final = Shape(vocabulary=len(ALPHABET), width=128, layers=8, exit_layer=1, extra_heads=3)
DRAFTS: Final = {
    "tiny": Shape(vocabulary=len(ALPHABET), width=64, layers=0),
    "small": Shape(vocabulary=len(ALPHABET), width=64, layers=1),
}
KV_HEADS: Final = (4, 2, 1)
"""Heads of keys and values of the target's variants: as many as queries (MHA), half as many (GQA), one (MQA)."""

TARGET_TRAINING: Final = Training(steps=75)
DRAFT_TRAINING: Final = Training(steps=120)
UPTRAINING: Final = Training(steps=12, matrix_lr=0.01, lr=0.003, seed=1)
"""Training of a variant, after its keys and values were averaged from the target's (arXiv:2305.13245)."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model, its mean held-out loss in nats a character, and the SHA-256 of its parameters."""

    model: TextModel
    loss: float
    sha256: str


def target(kv_heads: int, cache: Path, found: Texts, share: float = 1.0) -> Trained:
    """Return the target with this many heads of keys and values, from the cache or trained now (half a minute).

    ``share`` is that of the whole training. Raises UsageError for a number of heads that is not in `KV_HEADS`.
    """
    if kv_heads not in KV_HEADS:
        raise UsageError(f"kv_heads {kv_heads!r}: expected {', '.join(map(str, KV_HEADS[:-1]))} or {KV_HEADS[-1]}")
    if kv_heads == TARGET.kv_heads:
        return _cached("target", TARGET, TARGET_TRAINING.shortened(share), found, cache, None)
    shape = replace(TARGET, kv_heads=kv_heads)
    whole = target(TARGET.kv_heads, cache, found, share)
    return _cached(f"target-{kv_heads}", shape, UPTRAINING.shortened(share), found, cache, whole)


def draft(name: str, cache: Path, found: Texts, share: float = 1.0) -> Trained:
    """Return a draft by its name in `DRAFTS`, from the cache or trained now (seconds), by a share of the training."""
    return _cached(name, DRAFTS[name], DRAFT_TRAINING.shortened(share), found, cache, None)


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
            loss = held_out_loss(model, found, training.held_out)
        return {"loss": torch.tensor(loss), **{f"model.{key}": value for key, value in model.state_dict().items()}}

    tensors = load_or_make(cache, f"decode-{name}-{key_of(facts)}", make)
    state = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    with torch.device("meta"):
        model = TextModel(shape)
    model.load_state_dict(state, assign=True)
    digest = hashlib.sha256(b"".join(state[key].numpy().tobytes() for key in sorted(state)))
    return Trained(model=model.requires_grad_(False).eval(), loss=float(tensors["loss"]), sha256=digest.hexdigest())


def averaged(model: TextModel, shape: Shape) -> Mapping[str, Tensor]:
    """Return the parameters of a model with fewer heads of keys and values, each the mean of those it replaces."""
    state = dict(model.state_dict())
    whole = model.shape
    for depth in range(shape.layers):
        name = f"layers.{depth}.inputs.weight"
        queries, pairs = state[name].split([whole.queries, 2 * whole.kv_heads * whole.head_width])
        pairs = pairs.view(2, shape.kv_heads, whole.kv_heads // shape.kv_heads, whole.head_width, whole.width).mean(2)
        state[name] = torch.cat([queries, pairs.reshape(-1, whole.width)])
    return state


def fit(model: TextModel, training: Training, found: Texts) -> list[float]:
    """Train on windows of the whole context and return the loss of each step, in nats.

    Raises FloatingPointError at the first loss that is not finite.
    """
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("layers.")]
    layers = [[matrix for _, matrix in layer.named_parameters()] for layer in model.layers]
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
    """The optimiser Muon: steps along the momentum with all singular values brought near 1.

    Jordan et al., https://kellerjordan.github.io/posts/muon. Computes in float32, on all matrices of one shape at
    once; torch's own computes in bfloat16, one by one, which takes a processor ten times as long.
    """

    MOMENTUM: Final = 0.95
    COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
    ITERATIONS: Final = 5

    def __init__(self, alike: Sequence[Sequence[nn.Parameter]]) -> None:
        self._alike = alike
        self._momenta = [torch.zeros(len(matrices), *matrices[0].shape) for matrices in alike]

    def step(self, lr: float) -> None:
        """Update the parameters from their gradients, with Nesterov's momentum; tall matrices take longer steps."""
        for matrices, momentum in zip(self._alike, self._momenta, strict=True):
            gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
            momentum.lerp_(gradients, 1 - self.MOMENTUM)
            update = orthogonal(gradients.lerp(momentum, self.MOMENTUM), self.COEFFICIENTS, self.ITERATIONS)
            rows, columns = update.shape[1:]
            for matrix, change in zip(matrices, update, strict=True):
                matrix.data.add_(change, alpha=-lr * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], iterations: int) -> Tensor:
    """Bring all singular values of matrices ``(n, r, c)`` near 1, by a quintic Newton-Schulz iteration."""
    x: Tensor = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    first, third, fifth = coefficients
    for _ in range(iterations):
        gram = x @ x.mT
        x = first * x + (third * gram + fifth * gram @ gram) @ x
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


def held_out_loss(model: TextModel, found: Texts, count: int) -> float:
    """Return the mean cross-entropy in nats over ``count`` held-out windows each of prose and of code."""
    totals = []
    with torch.inference_mode():
        for name in sorted(found.held_out):
            text = found.held_out[name]
            windows = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)[:count]
            logits = model(windows[:, :-1])[0]
            totals.append(float(functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())))
    return sum(totals) / len(totals)


def _share(number: int, steps: int) -> float:
    """Return the share of the peak rate at a step (from 0): linear warm-up, then linear decay."""
    warm = max(1, steps // 10)
    return min((number + 1) / warm, (steps - number) / max(1, steps - warm))


def _windows(training: Training, found: Texts) -> Iterator[Tensor]:
    """Yield batches ``(batch, CONTEXT + 1)`` of characters, drawn from a separate generator."""
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
    """Return the cross-entropy of the next token, plus the weighted losses of the exit and of the heads."""
    tokens, targets = windows[:, :-1], windows[:, 1:]
    logits, early, extra = model(tokens)
    loss: Tensor = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    if early is not None:
        loss = loss + training.exit_weight * functional.cross_entropy(early.flatten(0, 1), targets.flatten())
    if extra is not None:
        for ahead, head in enumerate(extra.unbind(2), start=1):
            further = functional.cross_entropy(head[:, :-ahead].flatten(0, 1), targets[:, ahead:].flatten())
            loss = loss + training.extra_weight * further
    return loss


sources_of(__name__)  # at import, so that no case has to wait for it
