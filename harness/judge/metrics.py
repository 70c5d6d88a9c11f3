"""Metrics that several families emit, so that a name means the same in all of them. Imports no torch."""

from __future__ import annotations

from typing import Final

from harness.api import Lane, Metric


def lower(id_: str, unit: str, summary: str, lane: Lane = "accuracy", *, selects: bool = False) -> Metric:
    """Return a metric of which less is better; ``selects`` where it is computed on validation data."""
    return Metric(id=id_, unit=unit, higher_is_better=False, lane=lane, summary=summary, selects=selects)


def higher(id_: str, unit: str, summary: str, lane: Lane = "accuracy", *, selects: bool = False) -> Metric:
    """Return a metric of which more is better; ``selects`` where it is computed on validation data."""
    return Metric(id=id_, unit=unit, higher_is_better=True, lane=lane, summary=summary, selects=selects)


def share(id_: str, summary: str) -> Metric:
    """Return a metric of the time lane, in per cent of a limit of the machine that is measured in the same rounds."""
    return Metric(id=id_, unit="%", higher_is_better=True, lane="time", summary=summary, limit=100.0)


SIZES: Final = ("trainable_parameters", "adapter_parameters", "total_parameters", "checkpoint_bytes")
"""The sizes of a model of which a part trains."""

METRICS: Final = (
    higher("accuracy", "%", "share of held-out test examples classified right"),
    lower("loss", "nats", "mean cross-entropy on held-out test examples"),
    higher("train_accuracy", "%", "share of training examples classified right, at the end"),
    lower("train_loss", "nats", "mean cross-entropy on training examples, at the end"),
    higher("val_accuracy", "%", "share of validation examples classified right", selects=True),
    lower("val_loss", "nats", "mean cross-entropy on validation examples", selects=True),
    lower("trainable_parameters", "parameters", "parameters that train, the head included"),
    lower("adapter_parameters", "parameters", "parameters that train, the head excepted"),
    lower("total_parameters", "parameters", "all parameters of the model"),
    lower("checkpoint_bytes", "B", "bytes of all trained tensors: what one saves a task"),
    lower("accuracy_drop", "points", "accuracy that a trained model loses"),
    lower("perplexity", "", "exponential of the mean cross-entropy on held-out test examples"),
    lower("retention_loss", "nats", "rise of the mean cross-entropy on texts of before, by the training"),
    lower("output_error", "", "error of a trained model's logits, relative to their norm"),
    higher("train_tokens", "tokens/s", "tokens that are trained on, without padding", "time"),
    higher("infer_tokens", "tokens/s", "tokens that are read in a prediction, without padding", "time"),
    higher("read_rate", "GB/s", "the machine reads cold memory, on one thread", "time"),
    higher("read_all_rate", "GB/s", "the machine reads cold memory, on all threads", "time"),
    higher("copy_rate", "GB/s", "the machine copies, bytes read and written", "time"),
    higher("matmul_rate", "GFLOP/s", "the machine multiplies matrices, in float32 or bfloat16", "time"),
)
