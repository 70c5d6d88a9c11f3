"""The settings of ``quantize``: the sizes of the matrices, and the dtype of the inputs."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of the matrices that are timed and whose errors are measured.

    With 2048 ``anchored_rows`` the error on normal weights is known to a third of what is allowed.
    """

    rows: int = setting(1024, "rows of the matrix whose products are timed", above=0)
    columns: int = setting(4096, "columns of the matrix whose products are timed", above=0)
    packed_rows: int = setting(128, "rows of that matrix whose packing and unpacking is timed", above=0)
    sample_rows: int = setting(512, "rows of the random weights whose errors are measured", above=0)
    sample_columns: int = setting(1024, "columns of the random weights whose errors are measured", above=0)
    anchored_rows: int = setting(2048, "rows of the normal weights whose error is compared with integration", above=0)
    activations: str = setting("bfloat16", "dtype of the inputs", choices=("float32", "bfloat16", "float16"))
