"""The names of runs."""

from __future__ import annotations

import datetime as dt

import pytest

from harness.results.names import is_id, is_safe, new_id

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 500_000, dt.UTC)


def test_an_id_names_its_time() -> None:
    run = new_id(NOW, [])
    assert run.startswith("20260102-030405-")
    assert int(run[-4:], 16) >> 6 == 512
    assert is_id(run)


@pytest.mark.parametrize("newest", ["20260102-030405-fa00", "20260102-050000-ffff", "20991231-235959-ffff"])
@pytest.mark.parametrize("attempt", [0, 1, 2000])
def test_an_id_sorts_after_the_newest_also_where_the_clock_was_set_back(newest: str, attempt: int) -> None:
    assert new_id(NOW, ["20250101-000000-0000", newest, "zz-backup"], attempt) > newest


def test_the_last_second_of_all_still_gives_an_id() -> None:
    assert is_id(new_id(NOW, ["99991231-235959-ffff"]))


@pytest.mark.parametrize(
    "name", ["copy", "zz-backup", "20260102-030405", "99999999-999999-0000", "20260102-030405-fa00x"]
)
def test_other_names_are_no_ids(name: str) -> None:
    assert not is_id(name)


@pytest.mark.parametrize("name", ["../victim", "a/b", "javascript:alert(1)", "-o", "a\nb", "a b", "", ".", "\udcff"])
def test_a_name_that_needs_escaping_is_not_safe(name: str) -> None:
    assert not is_safe(name)
