"""A folder in which commands are called in this process, watched for every file that they write."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.cli import main

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PLACES: Final = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "sqlite3.connect": (0,),
}  # fmt: skip
"""The audit events that change a file, with the arguments that name the file."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command answered, and the files that it wrote or changed."""

    code: object
    out: str
    err: str
    written: frozenset[Path]


class Watch:
    """Notes which files this process writes, while it is on."""

    def __init__(self) -> None:
        self._written: set[Path] | None = None
        sys.addaudithook(self._note)

    @contextlib.contextmanager
    def on(self) -> Iterator[set[Path]]:
        """Note the files that are written meanwhile."""
        self._written = found = set()
        try:
            yield found
        finally:
            self._written = None

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._written is None:
            return
        if event == "open":
            path, mode, flags = arguments
            names = [path] if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & _WRITES else []
        else:
            names = [arguments[place] for place in _PLACES.get(event, ())]
        for name in names:
            if isinstance(name, str | bytes | os.PathLike) and os.fspath(name) not in (os.devnull, ":memory:", b""):
                self._written.add(Path(os.path.abspath(os.fsdecode(name))))  # noqa: PTH100  no link is followed


class World:
    """A folder with a store, and the commands that are called there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / ".harness"
        self.chosen = folder / "out"
        """Where a command may write what its options ask for."""
        self.chosen.mkdir()
        self._watch = Watch()

    def call(self, *arguments: str) -> Answer:
        """Call the command line, and require that it ends without a fault and leaves all but the store alone."""
        out, err = io.StringIO(), io.StringIO()
        code: object = None
        with self._watch.on() as written, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code
        answer = Answer(code=code, out=out.getvalue(), err=err.getvalue(), written=frozenset(map(self._real, written)))
        self.require_fine(arguments, answer)
        return answer

    def require_fine(self, arguments: tuple[str, ...], answer: Answer) -> None:
        """Require an exit code that a person can use, no traceback, and no file outside of the store."""
        said = f"{arguments}: {answer.code}\n{answer.err}"
        assert answer.code in (0, 1, 2), said
        assert "Traceback" not in answer.err, said
        assert answer.code != 2 or (answer.err + answer.out).strip(), said  # a gate that refuses answers
        outside = [path for path in answer.written if not self._is_ours(path)]
        assert not outside, f"{said}\nwrote {outside}"

    def runs(self) -> dict[str, bytes]:
        """Return the content of every file of the runs."""
        files = sorted(path for path in (self.store / "runs").rglob("*") if path.is_file())
        return {str(path.relative_to(self.store)): path.read_bytes() for path in files}

    def clear(self) -> None:
        """Remove the store, and what was written elsewhere by choice."""
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.rmtree(self.chosen, ignore_errors=True)
        self.chosen.mkdir()

    @staticmethod
    def _real(path: Path) -> Path:
        """Return a path without the links of its folders."""
        return path.parent.resolve() / path.name

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.store) or path.is_relative_to(self.chosen) or "__pycache__" in path.parts
