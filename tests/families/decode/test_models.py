"""Text models: however a text is read, in one go, by pieces, with detours or as a tree, the logits are the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from harness.families.decode.models import PAIRS, Shape, TextModel, active, gram_rows, normal
from harness.families.decode.training import averaged

VOCABULARY = 7
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def model(kv_heads=4, layers=3, width=16, **more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"exit_layer": 1, "extra_heads": 2, **more} if layers else {}
        made = TextModel(Shape(vocabulary=VOCABULARY, width=width, layers=layers, kv_heads=kv_heads, **shape))
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.requires_grad_(False).eval()


MODELS = {heads: model(heads) for heads in (4, 2, 1)}
SEQUENCE = torch.randint(VOCABULARY, (20,), generator=torch.Generator().manual_seed(1))
TOKENS = SEQUENCE.tolist()


def whole(one, tokens):
    """Logits ``(T, V)`` of the training forward, and those of the exit."""
    found, early, extra = one(torch.tensor([tokens]))
    return found[0], None if early is None else early[0], None if extra is None else extra[0]


@pytest.mark.parametrize("heads", MODELS)
def test_reading_one_by_one_is_the_training_forward(heads):
    session = MODELS[heads].open()
    found = torch.cat([session.read([token], 1) for token in TOKENS])
    torch.testing.assert_close(found, whole(MODELS[heads], TOKENS)[0], **TOLERANCE)


def test_a_model_without_layers_reads_the_same_way():
    tiny = model(layers=0)
    session = tiny.open()
    found = torch.cat([session.read([token], 1) for token in TOKENS])
    torch.testing.assert_close(found, whole(tiny, TOKENS)[0], **TOLERANCE)
    assert session.bytes_per_token == 0


@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=5)), max_size=6)
)
@settings(max_examples=30)
def test_rolling_back_is_as_if_it_had_not_been_read(detours):
    session = MODELS[2].open()
    text: list[int] = []
    for back, tokens in detours:
        text = text[: max(0, len(text) - back)]
        session.rollback(len(text))
        text += tokens
        found = session.read(tokens, len(tokens))
        assert session.length == len(text)
        torch.testing.assert_close(found, whole(MODELS[2], text)[0][-len(tokens) :], **TOLERANCE)


@st.composite
def trees(draw):
    """Tokens and parents of a tree whose root is node 0."""
    parents = [-1, *(draw(st.integers(0, node)) for node in range(draw(st.integers(0, 7))))]
    return [draw(st.integers(0, VOCABULARY - 1)) for _ in parents], parents


def line_of(node, parents):
    line = [node]
    while parents[line[0]] >= 0:
        line.insert(0, parents[line[0]])
    return line


@given(trees(), st.integers(0, 6), st.data())
@settings(max_examples=30)
def test_a_tree_is_each_of_its_lines_read_alone(tree, before, data):
    tokens, parents = tree
    session = MODELS[2].open()
    if before:
        session.read(TOKENS[:before], 0)
    found = session.read_tree(tokens, parents)
    for node in range(len(tokens)):
        line = [tokens[place] for place in line_of(node, parents)]
        alone = MODELS[2].open().read([*TOKENS[:before], *line], 1)[0]
        torch.testing.assert_close(found[node], alone, **TOLERANCE)
    path = line_of(data.draw(st.integers(0, len(tokens) - 1)), parents)
    session.keep(path)
    kept = [*TOKENS[:before], *(tokens[place] for place in path)]
    assert session.length == len(kept)
    following = session.read([3], 1)[0]
    torch.testing.assert_close(following, MODELS[2].open().read([*kept, 3], 1)[0], **TOLERANCE)


@pytest.mark.parametrize("heads", MODELS)
def test_the_exit_and_what_is_above_it_are_the_model(heads):
    one = MODELS[heads]
    session = one.open()
    session.read(TOKENS[:5], 0)
    early = torch.stack([session.exit(token) for token in TOKENS[5:9]])
    session.exit(TOKENS[9], logits=False)
    late = session.resolve()
    logits, exits, _ = whole(one, TOKENS[:10])
    torch.testing.assert_close(early, exits[5:9], **TOLERANCE)
    torch.testing.assert_close(late, logits[5:10], **TOLERANCE)
    session.rollback(7)
    torch.testing.assert_close(session.read(TOKENS[7:9], 2), logits[7:9], **TOLERANCE)


def test_extra_heads_see_the_hidden_state_of_the_position():
    one = MODELS[4]
    session = one.open()
    session.read(TOKENS[:6], 3)
    _, _, extra = whole(one, TOKENS[:6])
    torch.testing.assert_close(session.heads(-1), extra[5], **TOLERANCE)
    torch.testing.assert_close(session.heads(0), extra[3], **TOLERANCE)


@pytest.mark.parametrize("heads", MODELS)
def test_attention_is_softmax_of_scaled_products_in_float64(heads):
    """The equations written out: GQA repeats each head of keys and values for its group of queries."""
    one = MODELS[heads].double()
    try:
        x = one.grams[gram_rows(SEQUENCE, VOCABULARY)].sum(1) + one.places[: len(SEQUENCE)]
        width = one.shape.head_width
        for layer in one.layers:
            mixed = normal(x) @ layer.inputs.weight.T
            queries, keys, values = mixed.split([4 * width, heads * width, heads * width], 1)
            outputs = []
            for head in range(4):
                served = head * heads // 4
                q = queries[:, head * width : (head + 1) * width]
                k, v = (part[:, served * width : (served + 1) * width] for part in (keys, values))
                scores = q @ k.T / math.sqrt(width)
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
                outputs.append(scores.softmax(1) @ v)
            x = x + torch.cat(outputs, 1) @ layer.outputs.weight.T
            hidden = normal(x) @ layer.up.weight.T
            x = x + hidden.clamp(min=0) ** 2 @ layer.down.weight.T
        written_out = normal(x) @ one.head.T
        torch.testing.assert_close(whole(one, TOKENS)[0], written_out, rtol=1e-9, atol=1e-9)
    finally:
        one.float()


def test_as_many_heads_of_keys_as_of_queries_is_torchs_multi_head_attention():
    one = MODELS[4]
    layer = one.layers[0]
    x = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = layer.inputs(normal(x)).view(1, 9, 3, 4, 4).permute(2, 0, 3, 1, 4)
    found = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(1, 9, 16)
    session = one.open()
    session._cache.zero_()
    expected = (x + layer.outputs(found))[0]
    expected = expected + layer.down(active(layer.up(normal(expected))))
    mask = torch.full((9, 9), -torch.inf).triu(1)
    torch.testing.assert_close(session._through(x[0], 0, 1, 0, mask), expected, **TOLERANCE)


def test_averaged_heads_of_keys_that_were_equal_change_nothing():
    one = model(4)
    for layer in one.layers:
        queries, keys, values = layer.inputs.weight.data.split([16, 16, 16])
        keys[:] = keys[:4].repeat(4, 1)
        values[:] = values[:4].repeat(4, 1)
        assert queries.shape == (16, 16)
    for heads in (2, 1):
        fewer = TextModel(Shape(vocabulary=VOCABULARY, width=16, layers=3, kv_heads=heads, exit_layer=1, extra_heads=2))
        fewer.load_state_dict(averaged(one, fewer.shape))
        torch.testing.assert_close(whole(fewer, TOKENS)[0], whole(one, TOKENS)[0], **TOLERANCE)


def test_fewer_heads_of_keys_take_as_much_less_room():
    assert [MODELS[heads].open().bytes_per_token for heads in (4, 2, 1)] == [4 * 3 * 2 * n * 4 for n in (4, 2, 1)]


def test_the_embedding_knows_two_characters_back_and_no_more():
    rows = gram_rows(torch.tensor([5, 1, 2, 3]), VOCABULARY)
    other = gram_rows(torch.tensor([6, 1, 2, 3]), VOCABULARY)
    assert rows[3].equal(other[3])
    assert not rows[2].equal(other[2])
    assert rows[3].tolist() == [3, VOCABULARY + 2 * 7 + 3, VOCABULARY + PAIRS + 1 * 49 + 2 * 7 + 3]


def test_a_text_longer_than_the_context_is_refused():
    session = MODELS[4].open()
    with pytest.raises(ValueError, match="257 tokens: the model reads at most 256"):
        session.read([0] * 257, 1)
