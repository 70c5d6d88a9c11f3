"""Quality under its standard names: accuracy and mean loss on training, validation and test examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss, in nats, of outputs ``(n, classes)`` and int64 targets ``(n,)``."""


def quality(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], loss: Loss) -> dict[str, float]:
    """Return the metrics of predictions by part: ``train``, ``val`` and ``test``.

    Args:
        outputs: logits or log-probabilities ``(n, classes)`` of each part; the class of the largest is the prediction.
        targets: the int64 classes ``(n,)`` of each part.
        loss: the mean loss of a part's outputs.

    Returns:
        ``accuracy`` in per cent and ``loss`` in nats of the test part; those of the others under
        ``train_accuracy``, ``train_loss``, ``val_accuracy`` and ``val_loss``.

    """
    measured: dict[str, float] = {}
    for part in sorted(outputs, key=lambda part: part != "test"):
        predicted = outputs[part]
        prefix = "" if part == "test" else f"{part}_"
        right = int((predicted.argmax(1) == targets[part]).sum())
        measured[f"{prefix}accuracy"] = 100 * right / len(targets[part])
        measured[f"{prefix}loss"] = loss(predicted, targets[part]).item()
    return measured
