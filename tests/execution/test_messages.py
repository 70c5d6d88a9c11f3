"""What is sent arrives, however the stream is cut."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Limits, Reply
from harness.execution.isolation.messages import Lines, encode, encode_reply, read_reply
from harness.execution.job import Job

from .conftest import make_case

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=3), leaves, max_size=2)
mappings = st.dictionaries(st.text(max_size=3), values, max_size=3)


@settings(max_examples=50)
@given(st.lists(mappings, max_size=4), st.data())
def test_messages_survive_any_cut_of_the_stream(messages, data):
    stream = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    lines = Lines()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += lines.feed(stream[start:end])
    assert received == messages


@settings(max_examples=50)
@given(mappings, st.integers(0, 2**64))
def test_a_job_survives_the_way_to_its_worker(params, seed):
    case = make_case("Technique", seed=seed, **{f"_{name}": value for name, value in params.items()})
    job = Job(case=case, task="evaluate", cache=Path("/c"), limits=Limits(time_s=1.5, memory_bytes=7))
    [message] = Lines().feed(encode(job.message()))
    assert Job.read(message) == job


@given(st.text(), st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_reply_survives_the_way_back(reason, metrics):
    reply = Reply(status="error", reason=reason, metrics=metrics, notes=["a"], samples={"train": [1.0, 2.5]})
    [message] = Lines().feed(encode_reply(reply))
    assert read_reply(message["reply"]) == reply
