"""The file of decisions is read as written, its mistakes are told together, and adding to it keeps what is there."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import stat
import tomllib
from pathlib import Path

import pytest

from harness.api import UsageError
from harness.history.accepting import accept
from harness.history.decisions import FILE, Accepted, Decisions, find, parse, read

COMMIT = "1234567890" * 4
GOOD = f"""
# ours
[[accepted]]
suite = "peft"
technique = "lora/*"
metric = "train_ratio"   # a glob
commit = "{COMMIT}"
reason = "the mask is checked"
author = "A. Person"
until = 2027-06-30
limit = 0.12

[[renamed]]
technique = "lora/new"
was = "lora/old"

[[renamed]]
technique = "lora/old"
was = "lora/oldest"
"""


def entry(**changes: object) -> Accepted:
    given = {"metric": "train_ratio", "commit": COMMIT, "reason": "meant", "author": "me"}
    return Accepted(**{**given, **changes})  # type: ignore[arg-type]


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(text, FILE)
    return list(caught.value.problems)


def test_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(GOOD)
    decisions = read(find(tmp_path))
    (accepted,) = decisions.accepted
    assert (accepted.suite, accepted.workload, accepted.limit) == ("peft", "*", 0.12)
    assert accepted.until == dt.date(2027, 6, 30)
    assert decisions.present("technique", "lora/oldest") == "lora/new"
    assert decisions.present("technique", "lora/other") == "lora/other"
    assert decisions.present("workload", "lora/oldest") == "lora/oldest"


def test_an_entry_is_for_what_its_globs_name() -> None:
    names = {"suite": "peft", "technique": "lora/dora", "workload": "finetune/digits", "metric": "train_ratio"}
    assert entry().is_for(names)
    assert entry(technique="dora", workload="digits", suite="p*").is_for(names)
    assert not entry(technique="lora/lora").is_for(names)
    assert not entry(metric="infer_ratio").is_for(names)
    assert entry(until=dt.date(2027, 1, 1)).counts_on(dt.date(2027, 1, 1))
    assert not entry(until=dt.date(2027, 1, 1)).counts_on(dt.date(2027, 1, 2))


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(f"""
        [acepted]
        [[accepted]]
        metric = "train_ratio"
        commit = "HEAD"
        resaon = "because"
        author = ""
        until = "soon"
        limit = -1
        [[accepted]]
        metric = 5
        commit = "{COMMIT}"
        reason = "r"
        author = "a"
        [[renamed]]
        technique = "a"
        workload = "b"
        was = "c"
        [[renamed]]
        suite = "x"
        was = "y"
        [[renamed]]
        suite = "y"
        was = "x"
    """)
    expected = [
        "unknown table 'acepted'; did you mean 'accepted'",
        "[[accepted]] 1: unknown key 'resaon'",
        "[[accepted]] 1: commit is 'HEAD'; expected 7 to 40 hexadecimal digits",
        "[[accepted]] 1: reason is missing",
        "[[accepted]] 1: author is ''",
        "[[accepted]] 1: until is 'soon'",
        "[[accepted]] 1: limit is -1",
        "[[accepted]] 2: metric is 5",
        "[[renamed]] 1: it has technique and workload of suite, technique and workload; expected one",
        "[[renamed]]: suite 'y' leads back to itself",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"{FILE}: {start}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accepted = 3", "accepted is 3; expected tables [[accepted]]"),
        ("accepted = [3]", "[[accepted]] 1 is 3; expected a table"),
        ("[[accepted", "not valid TOML"),
        ('[[renamed]]\nsuite = "b"\nwas = "a"\n[[renamed]]\nsuite = "c"\nwas = "a"', "became both 'b' and 'c'"),
        ("[[renamed]]\nwas = 'a'", "it has none of suite, technique and workload"),
    ],
)
def test_what_is_no_entry_is_told(text: str, said: str) -> None:
    assert said in problems(text)[0]


def test_the_search_ends_at_the_top_of_a_repository(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("")
    inner = tmp_path / "repository/folder"
    inner.mkdir(parents=True)
    assert find(inner) == tmp_path / FILE
    (tmp_path / "repository/.git").mkdir()
    assert find(inner) is None
    assert read(None) == Decisions()


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        read(tmp_path / FILE)


def test_an_accepted_change_is_appended_and_nothing_else_changes(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(GOOD.rstrip("\n"))
    file.chmod(0o640)
    odd = 'says "no\\pe"\x7f, größer'
    accept(tmp_path, entry(reason=odd, technique="lora/x", until=dt.date(2030, 1, 2), limit=0.051234))
    text = file.read_text()
    assert text.startswith(GOOD.rstrip("\n"))
    added = tomllib.loads(text)["accepted"][1]
    assert added == {
        "technique": "lora/x", "metric": "train_ratio", "commit": COMMIT, "reason": odd, "author": "me",
        "until": dt.date(2030, 1, 2), "limit": 0.05123,
    }  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_new_file_says_what_it_is(tmp_path: Path) -> None:
    accept(tmp_path, entry())
    assert (tmp_path / FILE).read_text().startswith("# What this project decided")
    assert len(read(tmp_path / FILE).accepted) == 1


def test_an_entry_that_is_there_already_is_refused(tmp_path: Path) -> None:
    accept(tmp_path, entry())
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UsageError, match="accepted already: meant"):
        accept(tmp_path, entry(reason="again"))
    assert (tmp_path / FILE).read_bytes() == before


def test_entries_of_two_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    begin = multiprocessing.get_context("fork")
    writers = [begin.Process(target=_accept_many, args=(tmp_path, f"{number}")) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(read(tmp_path / FILE).accepted) == 4 * 8


def _accept_many(folder: Path, name: str) -> None:
    for number in range(8):
        accept(folder, entry(metric=f"{name}_{number}"))


def test_lines_end_as_they_did(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(GOOD.replace("\n", "\r\n").encode())
    accept(tmp_path, entry(technique="lora/x"))
    data = (tmp_path / FILE).read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n")


def test_entries_of_another_form_are_kept_by_a_refusal(tmp_path: Path) -> None:
    inline = f'accepted = [{{metric = "m", commit = "{COMMIT}", reason = "r", author = "a"}}]\n'
    (tmp_path / FILE).write_text(inline)
    with pytest.raises(UsageError, match="cannot be appended"):
        accept(tmp_path, entry())
    assert (tmp_path / FILE).read_text() == inline


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(tmp_path, entry())
    before = (tmp_path / FILE).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        accept(tmp_path, entry(technique="other"))
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_byte_order_mark_is_read_and_kept(tmp_path: Path) -> None:
    before = b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
    (tmp_path / FILE).write_bytes(before)
    accept(tmp_path, entry(technique="lora/x"))
    assert (tmp_path / FILE).read_bytes().startswith(before)
    assert [entry.technique for entry in read(tmp_path / FILE).accepted] == ["lora/*", "lora/x"]


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        read(find(tmp_path))
