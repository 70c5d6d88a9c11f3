"""The family ``quantize``: weights in few bits, by error, bytes, and how near products come to the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.quantize.settings import CausalSettings, ClassifierSettings, Settings
from harness.judge.metrics import higher, lower, share
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {
    "linear1": "a product with 1 input",
    "linear8": "a product with 8 inputs",
    "linear64": "a product with 64 inputs",
    "quantize": "packing a part of a matrix",
    "dequantize": "unpacking a part of a matrix",
    "prompt": "reading a prompt, a token a sample",
    "decode": "decoding tokens one by one with a cache, a token a sample",
    "predict": "classifying a batch of texts",
}
_OF_WEIGHTS: Final = ("linear1", "linear8", "linear64", "quantize", "dequantize")
_PRELOAD: Final = (
    "torch._dynamo", "torch.distributed.checkpoint", "huggingface_hub.serialization", "transformers.loss.loss_utils",
    "transformers.quantizers",
)  # fmt: skip
_BYTES: Final = ("linear_bytes", "model_bytes", "quantized_share")

_WORKLOADS: Final = (
    WorkloadSpec(
        id="weights",
        contract="quantize",
        target="harness.families.quantize.workloads.weights:Weights",
        summary="random and trained weights in few bits: error, bytes, and how near the limits of the machine",
        version=2,
        metrics=(
            "weight_error",
            "weight_error_laplace",
            "weight_error_t4",
            "weight_error_outliers",
            "weight_error_trained",
            "output_error",
            "accuracy",
            "accuracy_drop",
            "bits_stored",
            "bits_live",
        ),
        phases=_OF_WEIGHTS,
        settings=defaults_of(Settings),
        small={
            "rows": 128,
            "columns": 128,
            "packed_rows": 64,
            "sample_rows": 64,
            "sample_columns": 256,
            "anchored_rows": 8,
        },
        stacks=True,
        preload=(
            "torch._dynamo",
            "torch.utils.serialization",
            "torch.fx.experimental.symbolic_shapes",
            "numpy.ctypeslib",
        ),
    ),
    WorkloadSpec(
        id="quantized-causal-lm",
        contract="quantize",
        target="harness.families.quantize.workloads.causal_lm:CausalLm",
        summary="a language model of one's own in few bits: perplexity, bytes, and tokens a second",
        version=1,
        metrics=("perplexity", "loss", *_BYTES),
        phases=("prompt", "decode"),
        settings=defaults_of(CausalSettings),
        preload=_PRELOAD,
        small={"context": 16, "blocks": 2, "prompt_tokens": 16, "before": 8, "decoded": 2},
        task="causal-lm",
        reads=("texts", "pairs", "messages"),
    ),
    WorkloadSpec(
        id="quantized-classifier",
        contract="quantize",
        target="harness.families.quantize.workloads.text_classification:TextClassification",
        summary="a trained classifier of one's own in few bits: accuracy, agreement, bytes, and texts a second",
        version=1,
        metrics=("accuracy", "agreement", "kl", *_BYTES),
        phases=("predict",),
        settings=defaults_of(ClassifierSettings),
        preload=_PRELOAD,
        small={"test_examples": 16, "batch_size": 4},
        task="text-classification",
        reads=("labelled",),
    ),
)

_METRICS: Final = (
    lower("linear_bytes", "B", "bytes of the packed weights of linear layers, scales included"),
    lower("model_bytes", "B", "bytes of all weights of a model in memory, packed or not"),
    higher("quantized_share", "%", "share of the weights in a model's repeated layers that are quantised"),
    higher("agreement", "%", "share of predictions that are those of the model as it was, in float32"),
    lower("kl", "nats", "divergence of predictions from those of the model as it was, in float32"),
    lower("weight_error", "", "root mean square error on N(0, 1)"),
    lower("weight_error_laplace", "", "root mean square error on Laplace weights of variance 1"),
    lower("weight_error_t4", "", "root mean square error on weights of Student's t, 4 degrees of freedom, variance 1"),
    lower(
        "weight_error_outliers",
        "",
        "root mean square error on normal weights of variance 1, 1 in 1000 of them 20 times as large",
    ),
    lower("weight_error_trained", "", "error of a trained model's weights, relative to their norm"),
    lower("bits_stored", "bit", "bits a weight takes in a file, scales included"),
    lower("bits_live", "bit", "bits a weight takes in memory while in use"),
    higher("quantize_rate", "GB/s", "float32 weights read and packed bytes written", "time"),
    higher("dequantize_rate", "GB/s", "packed bytes read and float32 weights written", "time"),
    share("quantize_share", "quantize_rate as a share of the rate of copying"),
    share("dequantize_share", "dequantize_rate as a share of the rate of copying"),
    higher("linear1_rate", "GB/s", "packed bytes read in a product with 1 input, on one thread", "time"),
    share("linear1_share", "linear1_rate as a share of the rate of reading"),
    higher("linear1_all_rate", "GB/s", "packed bytes read in a product with 1 input, on all threads", "time"),
    share("linear1_all_share", "linear1_all_rate as a share of the rate of reading on all threads"),
    higher("linear8_rate", "GFLOP/s", "operations of a product with 8 inputs", "time"),
    share("linear8_share", "linear8_rate as a share of the rate of the faster of float32 and bfloat16 products"),
    higher("linear64_rate", "GFLOP/s", "operations of a product with 64 inputs", "time"),
    share("linear64_share", "linear64_rate as a share of the rate of the faster of float32 and bfloat16 products"),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="quantize",
            protocol="harness.families.quantize.contract:QuantizeTechnique",
            summary="how weights are packed into few bits, unpacked, and multiplied",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return _WORKLOADS


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Declare what this family measures beyond the metrics that are shared."""
    return _METRICS


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return suites_of("quantize")
