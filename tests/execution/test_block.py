"""The turns of a timed block, and the figures made of them, with answers made up in place of processes."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Reply
from harness.execution import block

from .conftest import make_case

OPENED = {"build": [3.0, 1.0, 2.0], "init": [0.3, 0.1, 0.2], "batches": {"train": 8}, "probes": [], "turn_s": 0.2}


def play(contestants, rounds, answer, turn_s=0.2):
    """Run a block; ``answer(contestant, number of its round)`` is a sample or a reply. The replies and the turns."""
    turns = []
    taken = [0] * contestants
    cases = [replace(make_case("Technique", "time"), key=f"contestant {i}") for i in range(contestants)]
    running = block.run(cases, rounds)
    turn = next(running)
    while True:
        turns.append(turn)
        if turn.act == "open":
            given = {**OPENED, "turn_s": turn_s}
        elif turn.act == "round":
            given = answer(turn.contestant, taken[turn.contestant])
            taken[turn.contestant] += 1
        else:
            given = Reply(status="ok")
        try:
            turn = running.send(given if isinstance(given, Reply | dict) else {"train": given})
        except StopIteration as end:
            return end.value, turns


def noisy(contestant, number):
    """Seconds that never settle, so that no block ends early: 1, 2, 3, 1, 2, 3... times the contestant's own."""
    return (contestant + 1) * (1.0 + number % 3)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.01, 0.2]))
def test_every_contestant_takes_one_turn_in_every_round(contestants, rounds, turn_s):
    _, turns = play(contestants, rounds, lambda i, n: (noisy(i, n), False), turn_s)
    order = [turn.contestant for turn in turns if turn.act == "round" and turn.contestant != 0]
    assert len(order) == (contestants - 1) * rounds
    for start in range(0, len(order), max(1, contestants - 1)):
        assert sorted(order[start : start + contestants - 1]) == list(range(1, contestants))


@given(st.integers(2, 12), st.integers(1, 9))
def test_the_baseline_s_turns_are_never_far_and_each_is_compared_with_the_mean_of_two(contestants, rounds):
    replies, turns = play(contestants, rounds, lambda i, n: (noisy(i, n), False), turn_s=0.01)
    order = [turn.contestant for turn in turns if turn.act == "round"]
    assert order[0] == order[-1] == 0
    taken = -1
    beside = {i: [] for i in range(1, contestants)}
    for start in [at for at, one in enumerate(order) if one == 0]:
        taken += 1
        group = order[start + 1 :][: [*order, 0].index(0, start + 1) - start - 1]
        assert len(group) <= block.NEIGHBOURS
        for i in group:
            beside[i].append(math.sqrt(noisy(0, taken) * noisy(0, taken + 1)))
    assert all(replies[i].samples["baseline.train"] == beside[i] for i in beside)


@given(st.integers(2, 12), st.integers(1, 9))
def test_a_baseline_of_long_turns_takes_one_a_round(contestants, rounds):
    _, turns = play(contestants, rounds, lambda i, n: (noisy(i, n), False), turn_s=0.2)
    order = [turn.contestant for turn in turns if turn.act == "round"]
    assert [at for at, one in enumerate(order) if one == 0] == list(range(0, len(order), contestants))
    assert order.count(0) == rounds + 1


def test_the_order_within_rounds_is_random():
    _, turns = play(4, 60, lambda i, n: (noisy(i, n), False))
    order = [turn.contestant for turn in turns if turn.act == "round" and turn.contestant != 0]
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert len(set(rounds)) == 6


@given(st.integers(0, 8), st.integers(0, 2), st.sampled_from([0.01, 0.2]))
def test_whoever_dies_the_others_are_timed_to_the_end(when, victim, turn_s):
    gone = Reply(status="crash", reason="SIGSEGV")
    replies, _ = play(3, 10, lambda i, n: gone if (i, n) == (victim, when) else (noisy(i, n), False), turn_s)
    for i in {0, 1, 2} - {victim}:
        own, its = (replies[i].samples.get(name) for name in ("train", "baseline.train"))
        assert len(own) >= 10
        assert (its is None) if 0 in (i, victim) else len(its) == len(own)


def test_a_settled_block_ends_after_the_fewest_rounds():
    replies, _ = play(2, 40, lambda _, n: (1.0 + 0.001 * (n % 2), False))
    assert [len(reply.samples["train"]) for reply in replies] == [block.FEWEST_ROUNDS + 1, block.FEWEST_ROUNDS]


def test_a_contestant_whose_ratio_is_known_leaves_and_the_others_go_on():
    def answer(i, n):
        return (1.0 + 0.618 * n % 1 if i == 2 else 1.0 + 0.001 * (n % 2), False)

    replies, _ = play(3, 40, answer)
    assert len(replies[1].samples["train"]) == len(replies[1].samples["baseline.train"]) == block.FEWEST_ROUNDS
    assert len(replies[2].samples["train"]) == len(replies[2].samples["baseline.train"]) == 40


def test_a_ratio_is_known_where_both_sides_drift_together():
    replies, _ = play(2, 40, lambda i, n: ((1 + i) * 1.01**n, False))
    assert len(replies[1].samples["train"]) == block.FEWEST_ROUNDS


def test_interrupted_turns_are_made_up_for_and_dropped_in_pairs():
    replies, turns = play(2, 12, lambda i, n: (noisy(i, n), i == 1 and n in (0, 5)))
    baseline, other = replies
    assert len(turns) == 2 + 1 + 2 * 14 + 2
    assert len(baseline.samples["train"]) == 15
    kept = [n for n in range(14) if n not in (0, 5)]
    assert other.samples["train"] == [noisy(1, n) for n in kept]
    assert other.samples["baseline.train"] == [math.sqrt(noisy(0, n) * noisy(0, n + 1)) for n in kept]


def test_a_sample_beside_which_the_baseline_was_interrupted_is_dropped_too():
    replies, _ = play(2, 12, lambda i, n: (noisy(i, n), i == 0 and n == 3))
    assert replies[1].samples["train"] == [noisy(1, n) for n in range(14) if n not in (2, 3)]


def test_where_most_rounds_were_interrupted_all_are_kept_with_a_note():
    replies, _ = play(1, 12, lambda i, n: (noisy(i, n), n % 4 != 0))
    assert len(replies[0].samples["train"]) == 24
    assert "train: 18 of 24 turns were interrupted" in replies[0].notes


@given(st.lists(st.floats(1e-6, 1e3), min_size=10, max_size=10))
def test_figures_are_medians_of_the_samples(seconds):
    [reply], _ = play(1, 10, lambda _, n: (seconds[n], False))
    assert reply.metrics["train_time"] == statistics.median(reply.samples["train"])
    assert reply.metrics["train_throughput"] == pytest.approx(8 / reply.metrics["train_time"])
    assert (reply.metrics["build_time"], reply.metrics["init_time"]) == (2.0, 0.2)


def test_probes_leave_their_samples_and_figures_join_those_of_the_phases():
    running = block.run([make_case("Technique", "time")], 2)
    next(running)
    running.send({**OPENED, "probes": ["part"]})
    for _ in range(2):
        running.send({"train": (2.0, False), "part": (0.5, True)})
    with pytest.raises(StopIteration) as end:
        running.send(Reply(status="ok", metrics={"share": 0.25}))
    [reply] = end.value.value
    assert reply.samples["part"] == [0.5, 0.5]
    assert reply.metrics["share"] == 0.25
    assert reply.metrics["train_time"] == 2.0
    assert not any("part" in name for name in reply.metrics)


def test_a_spread_past_a_tenth_is_noted():
    [steady], _ = play(1, 10, lambda _, n: (1.0 + 0.01 * n, False))
    [wild], _ = play(1, 10, lambda _, n: (1.0 + 0.05 * n, False))
    assert steady.notes == []
    assert wild.notes == ["unstable: train spread 18 %"]


@given(st.integers(0, 9), st.integers(2, 4))
def test_who_dies_in_a_round_is_asked_no_more_and_takes_nobody_along(when, contestants):
    gone = Reply(status="crash", reason="SIGSEGV")
    victim = contestants - 1
    replies, turns = play(contestants, 10, lambda i, n: gone if (i, n) == (victim, when) else (noisy(i, n), False))
    assert replies[victim] is gone
    assert [turn.act for turn in turns if turn.contestant == victim] == ["open"] + ["round"] * (when + 1)
    assert [len(reply.samples["train"]) for reply in replies[:victim]] == [11] + [10] * (victim - 1)


def test_when_the_baseline_dies_the_others_are_timed_without_it():
    replies, _ = play(2, 10, lambda i, n: Reply(status="oom") if (i, n) == (0, 4) else (noisy(i, n), False))
    assert replies[0].status == "oom"
    assert set(replies[1].samples) == {"build", "init", "train"}
