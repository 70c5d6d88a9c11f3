"""Trees of proposals: exact where tokens are drawn from the target, and typical acceptance as its paper has it."""

from __future__ import annotations

import math

import pytest
import torch
from harness_speculative.trees import grown

from harness.api import NotApplicable, UsageError
from harness.families.decode.checks import examine
from harness.families.decode.clocks import Watch
from harness.families.decode.contract import Models, Sampling
from harness.families.decode.tables import TableModel


@pytest.mark.parametrize("name", ["medusa", "medusa-typical"])
def test_greedy_text_is_that_of_plain_decoding(name, build, decode, text_models):
    expected = decode(build("autoregressive"), text_models, count=30, temperature=0.0)
    assert decode(build(name), text_models, count=30, temperature=0.0) == expected


@pytest.mark.parametrize("tops", [[1], [2, 1], [3, 2, 1]], ids=str)
def test_drawing_from_the_target_is_exact_for_any_tree(tops, build):
    verdict = examine(build("medusa", tops=tops), Sampling(), draws=400, seed=0)
    assert verdict.exact, verdict


def test_typical_acceptance_is_another_distribution_and_says_so(build):
    technique = build("medusa-typical")
    assert not examine(technique, Sampling(), draws=600, seed=0).exact
    assert not technique.exact(Sampling())
    assert technique.exact(Sampling(temperature=0.0))


def test_a_tree_holds_the_best_of_each_head_below_every_node_above():
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0], [9.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 5.0]])
    tree = grown(7, logits, [2, 1])
    assert tree.tokens == [7, 1, 2, 0, 0]
    assert tree.parents == [-1, 0, 0, 1, 2]
    assert tree.children == [[1, 2], [3], [4], [], []]


def test_a_tree_of_no_heads_is_its_root():
    assert grown(3, torch.zeros(2, 4), []).tokens == [3]


def test_typical_is_what_exceeds_a_share_of_the_exponential_of_the_entropy(build):
    p = torch.tensor([[0.6, 0.25, 0.1, 0.05], [0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]])
    technique = build("medusa-typical", tops=[2, 1], epsilon=0.3, delta=0.5)
    tree = grown(3, torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]]), [2, 1])
    entropy = -sum(float(chance) * math.log(chance) for chance in p[0])
    assert 0.25 > min(0.3, 0.5 * math.exp(-entropy)) > 0.1
    rows = p[[0, 2, 1, 2, 2]]  # root; token 1, whose child 2 has 0.25; token 0, whose child 2 has 0.01
    path, _ = technique.path(tree, rows, Sampling(), torch.Generator().manual_seed(0))
    assert [tree.tokens[node] for node in path] == [3, 1, 2]
    rows = p[[0, 1, 1, 2, 2]]
    path, _ = technique.path(tree, rows, Sampling(), torch.Generator().manual_seed(0))
    assert [tree.tokens[node] for node in path] == [3, 1]


def counting(size=5):
    """A target that counts round and round, and heads that know it."""
    after = torch.arange(size)

    def sure(ahead):
        return 50.0 * torch.eye(size)[(after + ahead) % size].expand(size, size, size)

    heads = torch.stack([sure(2), sure(3), sure(4)])
    return Models(target=TableModel(logits=sure(1), exit_logits=sure(1), head_logits=heads), drafts={})


@pytest.mark.parametrize("name", ["medusa", "medusa-typical"])
@pytest.mark.parametrize("tops", [[1, 1, 1], [2, 2, 1]], ids=str)
def test_heads_that_know_the_future_have_all_they_propose_accepted(name, tops, build, decode):
    watch = Watch(counting())
    text = decode(build(name, tops=tops), watch.models, prompt=(0, 1, 2), count=17)
    assert text == [(3 + place) % 5 for place in range(17)]
    assert watch.log.proposals(3 + 17) == [(3, 3)] * 4


def test_what_makes_no_sense_is_refused(build, text_models):
    with pytest.raises(UsageError, match="tops"):
        build("medusa", tops=[])
    with pytest.raises(UsageError, match="epsilon"):
        build("medusa-typical", epsilon=0)
    with pytest.raises(NotApplicable, match="0 extra heads, fewer than 3"):
        build("medusa").open(Models(target=text_models.drafts["small"], drafts={}), Sampling())
