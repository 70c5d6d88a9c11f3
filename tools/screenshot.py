"""Writes docs/peft.svg, a picture of the table that a terminal shows of the last stored run.

Run ``harness run --suite peft`` first, then ``python tools/screenshot.py``.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.analysis.view import RunView
from harness.host import load_host
from harness.report import render
from harness.results.places import default_store_path
from harness.results.store import Store

FILE = Path(__file__).parents[1] / "docs/peft.svg"
WIDTH = 140


def main() -> None:
    """Render the last run as an SVG with colours."""
    stored = Store(default_store_path()).read("last")
    view = RunView.build(stored.info, stored.rows, load_host().metrics)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(render(view, "table", color=True, width=WIDTH)))
    image = console.export_svg(title=f"harness run --suite {stored.info.suite.id}")
    image = re.sub(r"@font-face \{.*?\}", "", image, flags=re.DOTALL)  # a page shown offline cannot fetch a font
    FILE.write_text(image, encoding="utf-8")


if __name__ == "__main__":
    main()
