"""What the gate found of pairs of commits is merged after the runs, and what keeps it from coming is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import UsageError
from harness.results import merging
from harness.results.merging import bring
from harness.results.store import Store
from tests.results.test_merging import row, write


def test_comparisons_come_too_and_unlike_ones_are_told(store: Store, other: Store, builders) -> None:
    for place, text in ((store, "ours"), (other, "theirs")):
        write(place, builders, [row(builders, 0)])
        (place.path / "comparisons").mkdir()
        (place.path / "comparisons" / "a-b.json").write_text(text)
    (other.path / "comparisons" / "c-d.json").write_text("new")
    *_, told = bring(other, store)
    assert (told.run, list(told.problems)) == (
        "comparisons/a-b.json",
        ["differs from what is here, which is kept"],
    )
    assert (store.path / "comparisons" / "a-b.json").read_text() == "ours"
    assert (store.path / "comparisons" / "c-d.json").read_text() == "new"


@pytest.mark.parametrize("kind", ["a file in the place of our folder", "a damaged one of theirs"])
def test_a_comparison_that_cannot_be_brought_is_told_and_the_rest_comes(
    store: Store, other: Store, builders, kind: str
) -> None:
    write(other, builders, [row(builders, 0)])
    (other.path / "comparisons").mkdir()
    (other.path / "comparisons" / "b.json").write_text("theirs")
    if kind == "a damaged one of theirs":
        (other.path / "comparisons" / "a.json").mkdir()
    else:
        store.path.mkdir()
        (store.path / "comparisons").touch()
    new, *told = bring(other, store)
    assert new.is_new
    if kind == "a damaged one of theirs":
        assert [done.run for done in told] == ["comparisons/a.json"]
        assert (store.path / "comparisons" / "b.json").read_text() == "theirs"
    else:
        assert [(done.run, *done.problems) for done in told] == [
            ("comparisons/b.json", "cannot be copied: File exists")
        ]


def test_a_disk_that_is_full_at_the_comparisons_ends_a_merge(store: Store, other: Store, builders, monkeypatch) -> None:
    write(other, builders, [row(builders, 0)])
    (other.path / "comparisons").mkdir()
    (other.path / "comparisons" / "a.json").write_text("theirs")
    really = merging.replace_file

    def full(folder: Path, name: str, data: bytes) -> None:
        if name == "a.json":
            raise OSError(28, "No space left on device")
        really(folder, name, data)

    monkeypatch.setattr(merging, "replace_file", full)
    with pytest.raises(UsageError, match=r"No space left on device; comparisons/a\.json and what comes after it"):
        list(bring(other, store))
