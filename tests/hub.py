"""A hub on this machine: answers as the API of huggingface.co does, for the files of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34


class Hub(ThreadingHTTPServer):
    """Serves the repositories below a folder: ``models/ORG/NAME`` and ``datasets/ORG/NAME``; notes what is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, kind: str, repo: str) -> list[str]:
        folder = self.folder / kind / repo
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        if path.startswith("api/"):
            kind, org, name, *rest = [*path.removeprefix("api/").split("/"), "", ""]
            files = self.server.files(kind, f"{org}/{name}") if name else []
            if not files:
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if rest[:1] == ["tree"]:
                folder = self.server.folder / kind / org / name
                answer: object = [
                    {"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": "0" * 40}
                    for file in files
                ]
            else:
                repo = f"{org}/{name}"
                answer = {"id": repo, "sha": COMMIT, "private": False, "siblings": [{"rfilename": f} for f in files]}
            return self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        path = path if path.startswith("datasets/") else f"models/{path}"
        repo, _, file = path.partition(f"/resolve/{COMMIT}/")
        if not file:
            repo, _, file = path.partition("/resolve/main/")
        place = self.server.folder / repo / file
        if not file or not place.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = place.read_bytes()
        etag = hashlib.sha1(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """Run a hub of a folder's repositories until the context ends."""
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
