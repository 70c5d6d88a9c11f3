"""A page as a test reads it: its elements, its tables, its charts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Elements(HTMLParser):
    """``tags`` with their attributes, ``tables`` as rows of the cells' text, ``charts`` by what they are called."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.charts: dict[str, dict[str, Any]] = {}
        self._cell = False
        self._label = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "plot" in (attributes.get("class") or "").split():
            self._label = attributes.get("aria-label") or ""
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data.strip()
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "script" and attributes.get("type") == "application/json" and data.startswith("{"):
            self.charts[self._label] = json.loads(data)

    def table(self, column: str) -> dict[str, dict[str, str]]:
        """The first table with a column of that name: its rows by their first cell, then by column."""
        rows = next(rows for rows in self.tables if rows and column in rows[0])
        return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
