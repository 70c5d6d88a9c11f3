"""The settings of ``softmax``: the sizes of the rows whose errors and times are measured."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes, in numbers. The errors of one case are measured on the sample and on a single long row."""

    sample_rows: int = setting(64, "rows of the sample whose errors are measured", above=0)
    sample_columns: int = setting(4096, "numbers of a row of the sample", above=0)
    long_columns: int = setting(1 << 21, "numbers of the long row whose errors are measured", above=0)
    cached_columns: int = setting(1 << 15, "numbers of the timed row that stays in the cache", above=0)
    rows: int = setting(256, "timed rows that are read from memory", above=0)
    columns: int = setting(4096, "numbers of a timed row that is read from memory", above=0)
    times_cache: int = setting(4, "size of the timed long row, in sizes of the last-level cache", above=0)
