"""What the judge of ``quantize`` offers, declared without importing torch."""

from __future__ import annotations

from typing import Final

from harness.api import Lane, Metric, WorkloadSpec

_PHASES: Final = {
    "linear1": "a product with 1 input",
    "linear8": "a product with 8 inputs",
    "linear64": "a product with 64 inputs",
    "quantize": "packing a part of a matrix",
    "dequantize": "unpacking a part of a matrix",
}

QUANTIZE_WORKLOADS: Final = (
    WorkloadSpec(
        id="weights",
        contract="quantize",
        target="harness.workloads.quantize_weights:Weights",
        summary="random and trained weights in few bits: error, bytes, and how near the limits of the machine",
        version=1,
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
        phases=tuple(_PHASES),
        settings={
            "rows": 1024,
            "columns": 4096,
            "packed_rows": 128,
            "sample_rows": 512,
            "sample_columns": 1024,
            "anchored_rows": 2048,
            "activations": "bfloat16",
        },
        stacks=True,
        preload=(),
    ),
    *(
        WorkloadSpec(
            id=id_,
            contract="quantize-activations",
            target=f"harness.workloads.quantize_activations:{target}",
            summary=summary,
            version=1,
            metrics=("accuracy", "accuracy_drop", "output_error", "activation_kurtosis", "weight_kurtosis"),
            phases=("infer",),
            preload=(),
        )
        for id_, target, summary in (
            ("outlier-channels", "OutlierChannels", "the digits' perceptron, a few channels a hundred times as large"),
            ("residual-adam", "ResidualAdam", "a residual network for digits: AdamW, norms with a gain a channel"),
            ("residual-muon", "ResidualMuon", "the same trained to have no outliers: Muon, norms with one gain"),
        )
    ),
)


def _metric(id_: str, unit: str, summary: str, *, higher: bool = False, lane: Lane = "accuracy") -> Metric:
    return Metric(id=id_, unit=unit, higher_is_better=higher, lane=lane, summary=summary)


def _rate(id_: str, unit: str, summary: str) -> Metric:
    return _metric(id_, unit, summary, higher=True, lane="time")


QUANTIZE_METRICS: Final = (
    _metric("weight_error", "", "root mean square error on N(0, 1)"),
    _metric("weight_error_laplace", "", "the same on Laplace weights of variance 1"),
    _metric("weight_error_t4", "", "the same on weights of Student's t with 4 degrees of freedom, of variance 1"),
    _metric("weight_error_outliers", "", "the same on normal weights, one in 1000 20 times as large, of variance 1"),
    _metric("weight_error_trained", "", "error of a trained model's weights, relative to their norm"),
    _metric("output_error", "", "error of a trained model's logits, relative to their norm"),
    _metric("accuracy_drop", "points", "accuracy that the trained model loses"),
    _metric("activation_kurtosis", "", "mean kurtosis of what linear layers see; 3 without outliers"),
    _metric("weight_kurtosis", "", "mean kurtosis of linear layers' weights; 3 without outliers"),
    _metric("bits_stored", "bit", "bits a weight takes in a file, scales included"),
    _metric("bits_live", "bit", "bits a weight takes in memory while in use"),
    *(
        metric
        for phase, what in _PHASES.items()
        for metric in (
            _metric(f"{phase}_time", "s", f"median of {what}", lane="time"),
            _rate(f"{phase}_throughput", "samples/s", f"weights or inputs a second of {what}"),
            _metric(f"{phase}_tensor_peak", "B", f"bytes of live tensors at the peak of {what}", lane="memory"),
            _metric(f"{phase}_process_peak", "B", f"bytes taken from the system at the peak of {what}", lane="memory"),
        )
    ),
    _rate("quantize_rate", "GB/s", "float32 weights read and packed bytes written"),
    _rate("dequantize_rate", "GB/s", "packed bytes read and float32 weights written"),
    _rate("quantize_share", "%", "the same of the rate of copying"),
    _rate("dequantize_share", "%", "the same of the rate of copying"),
    _rate("linear1_rate", "GB/s", "packed bytes read in a product with 1 input, on one thread"),
    _rate("linear1_share", "%", "the same of the rate of reading"),
    _rate("linear1_all_rate", "GB/s", "packed bytes read in a product with 1 input, on all threads"),
    _rate("linear1_all_share", "%", "the same of the rate of reading on all threads"),
    _rate("linear8_rate", "GFLOP/s", "operations of a product with 8 inputs"),
    _rate("linear8_share", "%", "the same of the rate of the faster of float32 and bfloat16 products"),
    _rate("linear64_rate", "GFLOP/s", "operations of a product with 64 inputs"),
    _rate("linear64_share", "%", "the same of the rate of the faster of float32 and bfloat16 products"),
    _rate("read_rate", "GB/s", "the machine reads cold memory, on one thread"),
    _rate("read_all_rate", "GB/s", "the machine reads cold memory, on all threads"),
    _rate("copy_rate", "GB/s", "the machine copies, bytes read and written"),
    _rate("matmul_rate", "GFLOP/s", "the machine multiplies matrices, in float32 or bfloat16"),
)
