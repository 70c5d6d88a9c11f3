"""Labelled texts of users: what is read, what is guessed, and what is refused with the place of the mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.judge.conversations import Conversation, conversation_of
from harness.judge.tables import FEWEST, kinds_of, read_conversations, read_labelled, read_pairs, read_texts

TEXTS = [f"text {number}" for number in range(2 * FEWEST)]
LABELS = ["yes", "no"] * FEWEST


def written(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
    table.writeheader()
    table.writerows(rows)
    path.write_text(file.getvalue(), encoding="utf-8")
    return path


def rows(text: str = "text", label: str = "label") -> list[dict[str, object]]:
    return [{"id": n, text: words, label: kind} for n, (words, kind) in enumerate(zip(TEXTS, LABELS, strict=True))]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.CSV"])
@pytest.mark.parametrize(("text", "label"), [("text", "label"), ("Review", "Sentiment"), ("sentence", "category")])
def test_the_usual_columns_are_found(tmp_path: Path, name: str, text: str, label: str) -> None:
    found = read_labelled(written(tmp_path, name, rows(text, label)))
    assert (found.text, found.label) == (text, label)
    assert list(found.texts) == TEXTS
    assert [found.classes[index] for index in found.labels] == LABELS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1))
def test_any_text_survives_every_format(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    texts = list(dict.fromkeys([*words, *TEXTS]))
    table: list[dict[str, object]] = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
    table += table[:3]
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        found = read_labelled(written(folder, name, table))
        assert list(found.texts) == texts
        assert found.repeated == len(table) - len(texts)


MISTAKES = {
    "a label is missing": (
        [*rows(), {"id": 1, "text": "x", "label": ""}],
        {},
        "row 17: expected a text in 'text' and a label",
    ),
    "two labels": (
        [*rows(), {"id": 1, "text": "text 0", "label": "no"}],
        {},
        "row 17: the same text has the labels 'yes' and 'no'",
    ),
    "one class": (
        [{**row, "label": "yes"} for row in rows()],
        {},
        "column 'label' has 1 different values",
    ),
    "numbers": (
        [{"text": f"t {n}", "label": n} for n in range(200)],
        {},
        "column 'label' has 200 different values",
    ),
    "a rare class": (
        [*rows(), {"id": 1, "text": "x", "label": "maybe"}],
        {},
        "label 'maybe' has 1 texts; expected at least 8",
    ),
    "a column that is not there": (
        rows(),
        {"text": "txet"},
        "there is no column 'txet'; did you mean 'text'?",
    ),
    "no usual column": (
        rows("a", "b"),
        {},
        "no column is named like a text; name it with --column text=COLUMN",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, mistake: str, name: str) -> None:
    table, columns, message = MISTAKES[mistake]
    path = written(tmp_path, name, table)
    with pytest.raises(UsageError) as caught:
        read_labelled(path, **columns)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,b,c\n", "line 2: expected 2 fields"),
        ("a.csv", b'text,label\n"a,b\n', "unexpected end of data"),
        ("a.csv", b"\xff\xfe", "is no UTF-8 text"),
        ("a.csv", b"", "has no rows"),
        ("a.csv", b"text,label\n", "has no rows"),
        ("a.jsonl", b'{"text": 1', "line 1: is no JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: is no JSON"),
        ("a.jsonl", b"[1]\n", "line 1: expected an object"),
        ("a.jsonl", b'{"text": "a\\ud800", "label": 1}\n', "line 1: has half of a pair of .u escapes"),
        ("a.csv", b"text,label,text\na,b,c\n", "has several columns 'text'; rename or leave out"),
        ("a.csv", b"text,Text,label\na,b,c\n", "has the columns 'text' and 'Text'; say which with --column"),
        ("a.csv", b"text;label\na, b;c\n", "line 1: is separated by ';'; expected ','"),
        ("a.tsv", b"text,label\na,b\n", "line 1: is separated by ','; expected '.t'"),
        ("a.xlsx", b"", "expected a file that ends in .csv, .tsv, .jsonl"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_labelled(path)


@pytest.mark.parametrize("label", [{"is": "a"}, float("nan"), float("inf"), None, " "])
def test_what_is_no_label_is_refused(tmp_path: Path, label: object) -> None:
    with pytest.raises(UsageError, match="row 17: expected a text in 'text' and a label in 'label'"):
        read_labelled(written(tmp_path, "a.jsonl", [*rows(), {"text": "x", "label": label}]))


@pytest.mark.parametrize("labels", [["a"], ["a", "b"], []])
def test_several_labels_of_a_text_are_refused(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(UsageError, match="row 17: 'label' is a list; expected one label, as each text has one class"):
        read_labelled(written(tmp_path, "a.jsonl", [*rows(), {"text": "x", "label": labels}]))


def test_a_whole_number_is_one_label_however_it_is_written(tmp_path: Path) -> None:
    table = [{**row, "label": (0, 0.0, 1, "1")[number % 4]} for number, row in enumerate(rows())]
    assert read_labelled(written(tmp_path, "a.jsonl", table)).classes == ["0", "1"]


def test_spaces_around_the_names_of_columns_and_labels_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text, label\n" + "".join(f"{n},{' ' * (n % 3)}{'ab'[n % 2]} \n" for n in range(20))
    )
    assert read_labelled(tmp_path / "a.csv").classes == ["a", "b"]


def test_a_text_may_be_as_long_as_a_book(tmp_path: Path) -> None:
    longest = csv.field_size_limit()
    book = "word " * 60_000
    assert book in read_labelled(written(tmp_path, "a.csv", [*rows(), {"id": 1, "text": book, "label": "no"}])).texts
    assert csv.field_size_limit() == longest


def test_the_column_of_a_split_may_be_in_capitals(tmp_path: Path) -> None:
    table = [{**row, "Split": "test" if number < 4 else "train"} for number, row in enumerate(rows())]
    path = written(tmp_path, "a.csv", table)
    assert read_labelled(path).parts == ["test"] * 4 + ["train"] * (len(table) - 4)
    assert kinds_of(path) == ("labelled", "texts")


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()

    def listed(folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(folder / "inner"))

    monkeypatch.setattr(Path, "iterdir", listed)
    with pytest.raises(UsageError, match="inner: cannot be read: Permission denied"):
        kinds_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="cannot be read: expected a file"):
        kinds_of(tmp_path / "a.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_labelled(tmp_path / "a.csv")


def test_parquet_is_read_like_other_tables(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist(rows()), tmp_path / "a.parquet")
    assert list(read_labelled(tmp_path / "a.parquet").texts) == TEXTS
    (tmp_path / "b.parquet").write_bytes(b"no table")
    with pytest.raises(UsageError, match=r"b\.parquet: is no Parquet file that can be read"):
        read_labelled(tmp_path / "b.parquet")


def test_a_damaged_parquet_or_one_with_a_date_beyond_all_calendars_is_one_line(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"text": TEXTS, "label": LABELS}
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table(columns), path)
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\xff" * 60 + content[100:])
    late = arrow.array([2**62] * len(TEXTS), arrow.timestamp("us"))
    parquet.write_table(arrow.table({**columns, "when": late}), tmp_path / "late.parquet")
    twice = arrow.Table.from_arrays([*map(arrow.array, (TEXTS, LABELS, LABELS))], names=["text", "label", "label"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    for name, message in (
        ("a", "is no Parquet file that can be read: (?!None)"),
        ("late", "is no Parquet file that can be read: date value out of range"),
        ("twice", "has several columns 'label'"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            read_labelled(tmp_path / f"{name}.parquet")
        assert len(caught.value.problems) == 1


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install 'technique-harness\[parquet\]'"):
        read_labelled(tmp_path / "a.parquet")


def test_texts_and_pairs_are_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("once upon a time\n")
    assert list(read_texts(tmp_path / "a.txt").texts) == ["once upon a time\n"]
    asked: list[dict[str, object]] = [{"prompt": "a", "completion": str(number % 3)} for number in range(5)]
    found = read_pairs(written(tmp_path, "a.jsonl", asked))
    assert list(zip(found.prompts, found.completions, strict=True)) == [("a", "0"), ("a", "1"), ("a", "2")]
    assert found.repeated == 2
    lone = read_texts(written(tmp_path, "b.csv", [{"words": "a"}, {"words": "b"}, {"words": "a"}]))
    assert (lone.text, list(lone.texts), lone.repeated) == ("words", ["a", "b"], 1)


def turns(*roles: str) -> list[dict[str, object]]:
    return [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles)]


def joined(conversation: Conversation) -> tuple[str, str]:
    """Render a conversation as its texts, the last of which is the answer."""
    *before, last = (turn["content"] for turn in conversation)
    return "|".join(before), last


CHATS: list[dict[str, object]] = [
    {"messages": turns("system", "user", "assistant", "user", "assistant", "user")},
    {"messages": turns("user", "assistant")},
    {"messages": turns("user", "assistant")},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.tsv"])
def test_conversations_are_read_up_to_their_last_answer(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(CHATS), path)
    else:
        in_cells = [{"messages": json.dumps(row["messages"])} for row in CHATS]
        written(tmp_path, name, CHATS if name.endswith(".jsonl") else in_cells)
    assert kinds_of(path) == ("messages",)
    found = read_conversations(path, joined)
    assert list(zip(found.prompts, found.completions, strict=True)) == [
        ("system 0|user 1|assistant 2|user 3", "assistant 4"),
        ("user 0", "assistant 1"),
    ]
    assert (found.prompt, found.repeated, found.rendered) == ("messages", 1, True)


def test_a_key_that_a_table_gives_to_all_turns_is_not_there_for_a_template() -> None:
    turns = [
        {"role": "user", "content": "2 + 2?", "tool_calls": None, "name": "Ada"},
        {"role": "assistant", "content": "4", "tool_calls": None, "name": None},
    ]
    assert conversation_of(turns, "messages") == [
        {"role": "user", "content": "2 + 2?", "name": "Ada"},
        {"role": "assistant", "content": "4"},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "expected a list in 'messages', like"),
        ("[3", 'expected a list in \'messages\', like [{"role": "user", "content": "…"}, …], written as JSON'),
        (str(turns("user", "assistant")), "expected a list in 'messages', like"),  # as Python writes it
        ([], "expected a list in 'messages', like"),
        (["hello"], "message 1 in 'messages': expected role and content, not str: 'hello'"),
        ([{"from": "human", "value": "a"}], "message 1 in 'messages': expected role and content, not dict with the"),
        (turns("user", "asistant"), "message 2 in 'messages': role 'asistant': expected one of system, developer, us"),
        ([*turns("user"), {"role": None, "content": "a"}], "message 2 in 'messages': role None: expected one of"),
        ([{"role": ["user"], "content": "a"}], "message 1 in 'messages': role ['user']: expected one of"),
        ([*turns("user"), {"role": "assistant", "content": None}], "message 2 in 'messages': content is NoneType"),
        (
            [*turns("user"), {"role": "assistant", "content": [{"text": "a"}]}],
            "message 2 in 'messages': content is lis",
        ),
        ([*turns("user"), {"role": "assistant", "content": " "}], "message 2 in 'messages': the last answer is empty"),
        (turns("user", "system"), "no message in 'messages' has the role 'assistant'"),
        (turns("assistant", "user"), "the only answer in 'messages' is the first message"),
    ],
)
def test_a_row_that_is_no_conversation_is_one_line_with_its_number(tmp_path: Path, value: object, message: str) -> None:
    path = written(tmp_path, "a.jsonl", [*CHATS, {"messages": value}])
    with pytest.raises(UsageError) as caught:
        read_conversations(path, joined)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: row 4: {message}")


@pytest.mark.parametrize(
    ("row", "named", "kinds"),
    [
        ({"messages": "a text", "id": 1}, {}, None),
        ({"messages": "a text"}, {}, ("texts",)),
        ({"messages": "[1] a role"}, {}, ("texts",)),
        ({"messages": str(turns("user"))}, {}, ("messages",)),
        ({"chat": "a", "label": 1, "text": "b"}, {}, ("labelled", "texts")),
        ({"Conversations": turns("user"), "text": "b"}, {}, ("messages", "texts")),
        ({"prompt": "a", "response": "b", "messages": turns("user")}, {}, ("pairs", "messages")),
        ({"prompt": "a", "response": "b", "turns": turns("user")}, {"messages": "turns"}, ("messages",)),
    ],
)
def test_a_column_of_lists_tells_conversations(
    tmp_path: Path, row: dict[str, object], named: dict[str, str], kinds: tuple[str, ...] | None
) -> None:
    path = written(tmp_path, "a.jsonl", [row])
    if kinds is None:
        with pytest.raises(UsageError, match="no column is named like a text or a prompt"):
            kinds_of(path, named)
    else:
        assert kinds_of(path, named) == kinds


def test_a_conversation_in_two_parts_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "split": part} for row, part in zip(CHATS, ("train", "train", "test"), strict=True)]
    path = written(tmp_path, "a.jsonl", rows)
    with pytest.raises(UsageError, match="row 3: the parts train and test both have it"):
        read_conversations(path, joined)
