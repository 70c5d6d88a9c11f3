"""A language model whose linears are packed: its logits, and beside its peers ``-k smollm --benchmark-only -s``."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.native_technique import Bytes, Kernel
from torch import Tensor, nn

from harness.families.quantize.contract import QuantizedLinear, quantized_
from harness.judge import machine

TOY: Final = {
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 192, "vocab_size": 101,
}  # fmt: skip
SMOLLM: Final = {
    "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49_152,
}  # fmt: skip
"""The shapes of SmolLM2-135M; the weights are random, on which no time depends."""

ROUNDS: Final = 11  # the second least and the second largest of 11 are an interval of 98.8 % for a median
BEFORE, TOKENS, PROMPT = 32, 8, 256


def language_model(shapes: Mapping[str, int], seed: int = 0) -> nn.Module:
    """A model of transformers in float32, whose head and embeddings are one weight."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(**shapes, tie_word_embeddings=True, max_position_embeddings=512)
        model: nn.Module = transformers.LlamaForCausalLM(config)
    return model.eval()


def linears(model: nn.Module) -> list[str]:
    """The names of the linears of the blocks."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]


def with_kernel(model: nn.Module, *, head: bool, interleaved: bool = False, precision: str = "auto") -> nn.Module:
    quantized_(model, linears(model), Kernel(levels="nf4", interleaved=interleaved, precision=precision))
    return quantized_(model, ["lm_head"], Bytes()) if head else model


@pytest.mark.parametrize("inputs", [1, 7])
def test_logits_are_those_of_dequantised_weights_but_for_the_rounding_of_products(require_product, inputs) -> None:
    """Each product is within its bound, and the rest of the model, given these products, has the same bits."""
    if not kernel.available():
        pytest.skip("the plugin was installed without a compiler")
    packed, plain = with_kernel(language_model(TOY), head=True), language_model(TOY)
    embeddings = plain.get_input_embeddings().weight
    assert torch.equal(packed.get_input_embeddings().weight, embeddings)
    outputs: dict[str, Tensor] = {}
    for name in [*linears(plain), "lm_head"]:
        layer, linear = packed.get_submodule(name), plain.get_submodule(name)
        assert isinstance(layer, QuantizedLinear)
        linear.weight = nn.Parameter(layer._technique.dequantize(layer.packed))
        layer.register_forward_hook(lambda _, __, found, name=name: outputs.__setitem__(name, found))

        def checked(linear: nn.Module, given: tuple[Tensor], _: Tensor, name: str = name) -> Tensor:
            x, weight = given[0].flatten(0, -2), linear.weight
            assert isinstance(weight, Tensor)
            require_product(outputs[name].flatten(0, -2), x, weight, roundings=2 * x.shape[1])
            return outputs[name]

        linear.register_forward_hook(checked)
    tokens = torch.randint(101, (2, inputs), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = packed(tokens).logits, plain(tokens).logits
    assert len(outputs) == 15
    assert torch.equal(found, expected)
    assert found.abs().max() > 0


def with_bitsandbytes(model: nn.Module) -> nn.Module:
    """The library's own layers, as its users put them into a model in bfloat16 for evaluation."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    for name in linears(model):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        layer = bitsandbytes.nn.Linear4bit(
            weight.shape[1], weight.shape[0], bias=False, compute_dtype=torch.bfloat16, quant_type="nf4",
            compress_statistics=False,
        )  # fmt: skip
        layer.load_state_dict({"weight": weight.detach()})
        model.set_submodule(name, layer.to("cpu").eval())
    return model


@pytest.mark.parametrize("inputs", [1, 7])
def test_the_peer_in_a_model_computes_what_the_librarys_own_layers_do(inputs) -> None:
    bits_and_bytes = pytest.importorskip("harness_nf4.bits_and_bytes")
    evaluated = bits_and_bytes.functional.has_avx512bf16()
    technique = (bits_and_bytes.Evaluated if evaluated else bits_and_bytes.BitsAndBytes)(levels="nf4")
    base = language_model(TOY).bfloat16()
    theirs, ours = with_bitsandbytes(copy.deepcopy(base)), quantized_(base, linears(base), technique)
    tokens = torch.randint(101, (1, inputs), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs(tokens)  # at its first call in evaluation a layer packs its weight anew
        assert torch.equal(theirs(tokens).logits, ours(tokens).logits)


def contestants() -> dict[str, nn.Module]:
    """Each in the dtype in which it is fastest, and the kernel in that of the baseline, too."""
    base = language_model(SMOLLM)
    halves = copy.deepcopy(base).bfloat16()
    bits = with_bitsandbytes(copy.deepcopy(halves))
    made: dict[str, nn.Module] = {"float32": base, "bfloat16": halves, "bitsandbytes, bfloat16": bits}
    for what, model in (("float32", base), ("bfloat16", halves)):
        packed = with_kernel(copy.deepcopy(model), head=False)
        made[f"kernel, {what}"] = packed
        made[f"kernel, {what}, 8-bit head"] = quantized_(copy.deepcopy(packed), ["lm_head"], Bytes())
    fixed = with_kernel(copy.deepcopy(base), head=True, precision="fixed")
    made["kernel, float32, fixed point, 8-bit head"] = fixed  # which is finer than bfloat16
    if kernel.interleaves((SMOLLM["hidden_size"], SMOLLM["hidden_size"]), kernel.PIECE):
        made["kernel, interleaved, bfloat16, 8-bit head"] = with_kernel(
            copy.deepcopy(halves), head=True, interleaved=True
        )
    made["bitsandbytes, bfloat16, our 8-bit head"] = quantized_(
        with_bitsandbytes(copy.deepcopy(halves)), ["lm_head"], Bytes()
    )
    return made


def decoding_seconds(model: Any, tokens: Tensor) -> float:
    """Seconds a token of greedy decoding at batch 1 with a cache of keys and values, after a short prompt."""
    with torch.no_grad():
        out = model(tokens[:, :BEFORE], use_cache=True, logits_to_keep=1)
        for count in range(TOKENS + 1):
            if count == 1:  # the first token of a turn finds the caches of the processor full of the others' weights
                start = time.perf_counter()
            last = out.logits[:, -1:].argmax(-1)
            out = model(last, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
    return (time.perf_counter() - start) / TOKENS


def prompt_seconds(model: Any, tokens: Tensor) -> float:
    """Seconds of a prompt, of which generation needs the last logits only."""
    with torch.no_grad():
        start = time.perf_counter()
        model(tokens[:, :PROMPT], use_cache=True, logits_to_keep=1)
    return time.perf_counter() - start


def told(seconds: Mapping[str, list[float]], peers: list[str]) -> tuple[list[str], dict[str, float]]:
    """A line for each contestant, with ratios to peers turn by turn, and the median ratios to the first peer."""
    lines, ratios = [], {}
    for name, values in seconds.items():
        parts = [f"{name:40} {1e3 * statistics.median(values):8.1f} ms"]
        for peer in peers:
            each = sorted(other / value for other, value in zip(seconds[peer], values, strict=True))
            parts.append(f"{statistics.median(each):.2f} [{each[1]:.2f}, {each[-2]:.2f}] times {peer}")
        ratios[name] = statistics.median(o / v for o, v in zip(seconds[peers[0]], values, strict=True))
        lines.append("; ".join(parts))
    return lines, ratios


@pytest.mark.parametrize("threads", [1, 2])
def test_smollm(benchmark, request, in_random_order, threads) -> None:
    """Decoding at batch 1 and a prompt, in turns of random order: ms a token and a prompt, and ratios of turns."""
    if not request.config.getoption("benchmark_only"):
        pytest.skip("asked for with --benchmark-only")
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip(f"this machine has not {threads} processors")
    models = contestants()
    tokens = torch.randint(SMOLLM["vocab_size"], (1, PROMPT), generator=torch.Generator().manual_seed(1))
    measures: dict[str, Callable[[Any, Tensor], float]] = {
        f"decoding, ms a token after {BEFORE}": decoding_seconds,
        f"a prompt of {PROMPT} tokens": prompt_seconds,
    }
    peers = ["float32", "bitsandbytes, bfloat16"]
    found: dict[str, dict[str, float]] = {}
    with machine.threads(threads):
        for what, measure in measures.items():
            seconds: dict[str, list[float]] = {name: [] for name in models}
            for turn in range(ROUNDS + 1):  # the first warms up
                for name in in_random_order(models):
                    spent = measure(models[name], tokens)
                    if turn:
                        seconds[name].append(spent)
            lines, found[what] = told(seconds, peers)
            print(f"\n{what}, {threads} threads, median and interval of {ROUNDS} turns")  # noqa: T201
            print("\n".join(lines))  # noqa: T201  the figures are what the test is for
            benchmark.extra_info[what] = lines
        benchmark.group = "a language model"
        benchmark.pedantic(partial(decoding_seconds, models["kernel, bfloat16, 8-bit head"], tokens), rounds=3)
    decoding, prompt = found.values()
    best = max(value for name, value in decoding.items() if name.startswith("kernel"))
    assert best > 2
    assert best > decoding["bitsandbytes, bfloat16"]
    assert max(value for name, value in prompt.items() if name.startswith("kernel")) > 1
