"""Tells what users' data hold, and reads labelled texts, pairs, conversations and texts from them. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Final

from harness.api import UsageError, nearest
from harness.judge.conversations import Render, conversation_of, looks_like_one
from harness.judge.rows import HEAD, PARTS, Table, read_table

TEXT_COLUMNS: Final = ("text", "sentence", "review", "content", "body", "comment", "tweet", "document", "question")
LABEL_COLUMNS: Final = ("label", "labels", "class", "category", "sentiment", "target", "intent", "topic")
PROMPT_COLUMNS: Final = ("prompt", "instruction", "question", "query", "input")
COMPLETION_COLUMNS: Final = ("completion", "response", "answer", "output")
MESSAGES_COLUMNS: Final = ("messages", "conversation", "conversations", "chat")
"""The names by which a column is taken for one of the `ROLES`, in this order."""

ROLES: Final[Mapping[str, Sequence[str]]] = {
    "text": TEXT_COLUMNS,
    "label": LABEL_COLUMNS,
    "prompt": PROMPT_COLUMNS,
    "completion": COMPLETION_COLUMNS,
    "messages": MESSAGES_COLUMNS,
}
"""What a column may be, by the names of the settings that say which column is it."""

_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    "pairs": ("prompt", "completion"),
    "messages": ("messages",),
    "labelled": ("text", "label"),
    "texts": ("text",),
}
"""The columns that each kind of table has, the kinds in the order in which a table is taken for one."""

IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
"""Suffixes of images."""

MOST_CLASSES: Final = 100
"""The most labels of a classification: more are numbers to predict, or the wrong column."""

FEWEST: Final = 8
"""The fewest examples of each class, so that each part of a division can have some."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts, each once, of the column ``text``; ``parts`` as in `Table`, ``repeated`` counts the rows left out."""

    texts: Sequence[str]
    text: str
    parts: Sequence[str] = ()
    repeated: int = 0


@dataclass(frozen=True, kw_only=True)
class Labelled(Texts):
    """Labelled texts, each text once: ``labels[i]`` is the index of the text's class in ``classes``.

    ``label`` is the column of the labels.
    """

    labels: Sequence[int]
    classes: Sequence[str]
    label: str


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Prompts, each with its completion, each pair once; ``prompt`` and ``completion`` are the columns.

    ``rendered`` says that a chat template has made them of conversations, with all special tokens written out.
    """

    prompts: Sequence[str]
    completions: Sequence[str]
    prompt: str
    completion: str
    parts: Sequence[str] = ()
    repeated: int = 0
    rendered: bool = False


def kinds_of(path: Path, columns: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return what data can be read as, of `harness.api.DATA_KINDS`, the likeliest first.

    ``columns`` are those that the user named, by their `ROLES`. A table is told by its columns, which the first rows
    have, and a folder by its content. Raises UsageError where the data cannot be read, a named column is not there, or
    no column is named like a text or a prompt.
    """
    named = {role: name for role, name in (columns or {}).items() if name}
    if path.is_dir() and holds_images(path):
        if named:
            raise UsageError(f"{path}: holds images, which have no columns: leave out --column")
        return ("images",)
    table = read_table(path, head=HEAD)
    there = table.columns
    roles = {role: _found(table, there, named.get(role, ""), role) for role in ROLES}
    if "messages" not in named and not any(looks_like_one(row.get(roles["messages"])) for row in table.rows):
        roles["messages"] = ""  # a column of texts may have such a name, too
    roles["text"] = roles["text"] or (there[0] if len(there) == 1 and not roles["messages"] else "")
    able = [kind for kind, needed in _NEEDED.items() if len({roles[role] for role in needed} - {""}) == len(needed)]
    kinds = tuple(kind for kind in able if {*named} <= {*_NEEDED[kind]})  # what the user has named is meant
    if not kinds:
        raise UsageError(f"{path}: {_missing(roles, named)}; it has: {', '.join(there)}")
    return kinds


def _missing(roles: Mapping[str, str], named: Collection[str]) -> str:
    """Return which column is missing, of those that go with the named ones, and what to do."""
    needed = next((needed for needed in _NEEDED.values() if {*named} <= {*needed}), None)
    if needed is None:
        return f"--column {' and '.join(sorted(named))}: no data have both; leave one of them out"
    missing = [role for role in needed if not roles[role]] if named else ["text or a prompt"]
    if not missing:
        return f"--column {' and '.join(needed)}: expected two different columns"
    return f"no column is named like a {missing[0]}; name it with --column {missing[0].partition(' ')[0]}=COLUMN"


def holds_images(folder: Path) -> bool:
    """Return whether a folder has a folder of images for each class, or has such folders for the parts of a split."""
    try:
        return _holds_images(folder)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from error


def _holds_images(folder: Path) -> bool:
    inner = [path for path in folder.iterdir() if path.is_dir()]
    parts = [path for path in inner if path.name.lower() in PARTS]
    classes = [path for part in parts for path in part.iterdir() if path.is_dir()] if parts else inner
    return any(file.suffix.lower() in IMAGES for path in classes for file in path.iterdir())


def read_labelled(path: Path, *, text: str = "", label: str = "", learned: bool = True) -> Labelled:
    """Return labelled texts; columns that are not named are guessed by their names.

    A text that occurs twice is taken once, so that no text is both trained on and tested. Raises UsageError for data
    that cannot be read, for columns that are missing or cannot be guessed, for labels that are no classes, and for a
    text that two parts of the data's own split have. Where nothing is ``learned``, the split needs no part train.
    """
    table = read_table(path, learned=learned)
    text = _column(table, table.columns, text, "text")
    label = _column(table, [name for name in table.columns if name != text], label, "label")
    kept: dict[str, tuple[str, str]] = {}
    for index, row in enumerate(table.rows):
        words, kind = row.get(text), _label(row.get(label))
        if isinstance(row.get(label), list):
            raise UsageError(
                f"{table.place(index)}: {label!r} is a list; expected one label, as each text has one class"
            )
        if not isinstance(words, str) or not words.strip() or not kind:
            raise UsageError(f"{table.place(index)}: expected a text in {text!r} and a label in {label!r}")
        found, part = kept.setdefault(words, (kind, _part(table, index)))
        if found != kind:
            other = f"{found!r} and {kind!r}"
            raise UsageError(f"{table.place(index)}: the same text has the labels {other}; leave one of them out")
        _require_one_part(table, index, part)
    parts = [part for _, part in kept.values()] if table.parts else []
    classes = _classes(table, label, [kind for kind, _ in kept.values()], parts if learned else [])
    numbers = {name: number for number, name in enumerate(classes)}
    return Labelled(
        texts=list(kept),
        labels=[numbers[kind] for kind, _ in kept.values()],
        classes=classes,
        text=text,
        label=label,
        parts=parts,
        repeated=len(table.rows) - len(kept),
    )


def _label(value: object) -> str:
    """Return the name of a class: a text without spaces around it, 1 for 1.0; empty for no label, as NaN or a list."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return (str(int(value)) if value.is_integer() else str(value)) if isfinite(value) else ""
    return str(value) if isinstance(value, bool | int) else ""


def read_pairs(path: Path, *, prompt: str = "", completion: str = "", learned: bool = True) -> Pairs:
    """Return prompts with their completions; columns that are not named are guessed by their names.

    A pair that occurs twice is taken once. Raises UsageError as `read_labelled` does, which tells of ``learned``, too.
    """
    table = read_table(path, learned=learned)
    prompt = _column(table, table.columns, prompt, "prompt")
    completion = _column(table, [name for name in table.columns if name != prompt], completion, "completion")
    pairs: list[tuple[str, str]] = []
    for index, row in enumerate(table.rows):
        asked, answered = row.get(prompt), row.get(completion)
        if not isinstance(asked, str) or not isinstance(answered, str) or not asked.strip() or not answered.strip():
            raise UsageError(f"{table.place(index)}: expected texts in {prompt!r} and in {completion!r}")
        pairs.append((asked, answered))
    return _once(table, pairs, prompt, completion)


def read_conversations(path: Path, render: Render, *, messages: str = "", learned: bool = True) -> Pairs:
    """Return each conversation as a pair: all up to its last answer, and that answer, as ``render`` writes them.

    A column that is not named is guessed by its name. Raises UsageError as `read_pairs` does, and with the place of a
    row that is no conversation, has no answer, or that ``render`` refuses.
    """
    table = read_table(path, learned=learned)
    messages = _column(table, table.columns, messages, "messages")
    pairs: list[tuple[str, str]] = []
    for index, row in enumerate(table.rows):
        try:
            pairs.append(render(conversation_of(row.get(messages), messages)))
        except UsageError as error:
            raise UsageError(*(f"{table.place(index)}: {problem}" for problem in error.problems)) from error
    return replace(_once(table, pairs, messages, messages), rendered=True)


def _once(table: Table, pairs: Sequence[tuple[str, str]], prompt: str, completion: str) -> Pairs:
    """Return the pairs of a table's rows, each once. Raises UsageError for one that two parts have."""
    kept: dict[tuple[str, str], str] = {}
    for index, pair in enumerate(pairs):
        _require_one_part(table, index, kept.setdefault(pair, _part(table, index)))
    return Pairs(
        prompts=[asked for asked, _ in kept],
        completions=[answered for _, answered in kept],
        prompt=prompt,
        completion=completion,
        parts=list(kept.values()) if table.parts else [],
        repeated=len(table.rows) - len(kept),
    )


def read_texts(path: Path, *, text: str = "", learned: bool = True) -> Texts:
    """Return texts, each once; a ``.txt`` file is one text. Raises UsageError as `read_labelled` does."""
    table = read_table(path, learned=learned)
    columns = table.columns
    text = columns[0] if len(columns) == 1 and not text else _column(table, columns, text, "text")
    kept: dict[str, str] = {}
    for index, row in enumerate(table.rows):
        words = row.get(text)
        if not isinstance(words, str) or not words.strip():
            raise UsageError(f"{table.place(index)}: expected a text in {text!r}")
        _require_one_part(table, index, kept.setdefault(words, _part(table, index)))
    parts = list(kept.values()) if table.parts else []
    return Texts(texts=list(kept), text=text, parts=parts, repeated=len(table.rows) - len(kept))


def _part(table: Table, index: int) -> str:
    return table.parts[index] if table.parts else ""


def _require_one_part(table: Table, index: int, first: str) -> None:
    """Raise UsageError where a row repeats one of another part: what is tested would be trained on."""
    if (part := _part(table, index)) != first:
        raise UsageError(
            f"{table.place(index)}: the parts {first} and {part} both have it; leave it out of one of them"
        )


def _classes(table: Table, label: str, kinds: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Return the classes in order. Raises UsageError for too few or too many, and for a class that is rare."""
    counts = Counter(kinds)
    if not 2 <= len(counts) <= MOST_CLASSES:
        raise UsageError(
            f"{table.path}: column {label!r} has {len(counts)} different values; expected 2 to {MOST_CLASSES} classes"
        )
    rarest, count = min(counts.items(), key=lambda item: item[1])
    if count < FEWEST:
        raise UsageError(f"{table.path}: label {rarest!r} has {count} texts; expected at least {FEWEST} for each label")
    learned = {kind for kind, part in zip(kinds, parts, strict=True) if part == "train"} if parts else {*kinds}
    if unknown := sorted({*kinds} - learned):
        raise UsageError(f"{table.path}: label {unknown[0]!r} is not in the part train, and so cannot be learned")
    return sorted(counts)


def _column(table: Table, columns: Iterable[str], given: str, role: str) -> str:
    """Return the column that was named, or the first usual one. Raises UsageError where there is none."""
    columns = list(columns)
    if found := _found(table, columns, given, role):
        return found
    known = ", ".join(columns)
    raise UsageError(
        f"{table.path}: no column is named like a {role}; name it with --column {role}=COLUMN; it has: {known}"
    )


def _found(table: Table, columns: Sequence[str], given: str, role: str) -> str:
    """Return the column that was named, or the first usual one, which may be in capitals; empty where there is none."""
    if given and given not in columns:
        known = ", ".join(columns)
        raise UsageError(f"{table.path}: there is no column {given!r}{nearest(given, columns)}; it has: {known}")
    if given:
        return given
    lower = {name.lower(): name for name in reversed(columns)}
    found = next((lower[name] for name in ROLES[role] if name in lower), "")
    if other := next((name for name in columns if name != found and found and name.lower() == found.lower()), ""):
        raise UsageError(
            f"{table.path}: has the columns {found!r} and {other!r}; say which with --column {role}=COLUMN"
        )
    return found
