"""Headless Chromium without a network, for tests that look at pages as a reader would."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
REQUIRED = "HARNESS_REQUIRE_BROWSER"
"""Set to 1 where a missing browser is a failure rather than a test left out."""


def chromium() -> str:
    """The browser's path; skips the test where there is none, fails it where one is required."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        reason = f"no browser is here ({', '.join(NAMES)})"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def browse(address: str, folder: Path, *arguments: str, wait_ms: int = 10_000) -> subprocess.CompletedProcess[str]:
    """Open an address with a fresh profile in ``folder``; nothing but this machine can be reached.

    ``wait_ms`` is virtual: the page's timers run ahead while it has nothing to load. With 0 time is the real one.
    """
    profile = folder / "profile"
    command = [
        chromium(),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}",
        *([f"--virtual-time-budget={wait_ms}"] if wait_ms else []),
        *arguments,
        address,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)


def dom(address: str, folder: Path) -> str:
    """The page's elements as HTML once its scripts have run."""
    return browse(address, folder, "--dump-dom").stdout


def screenshot(address: str, folder: Path, name: str, *, width: int = 1280, height: int = 900) -> Path:
    """A picture of the page, ``folder/name``."""
    path = folder / name
    browse(address, folder, f"--screenshot={path}", f"--window-size={width},{height}", "--hide-scrollbars")
    return path


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, and puts a script into every page of HTML, which the page's own policy then allows."""

    script = ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not self.script or path.suffix != ".html" or not path.is_file():
            super().do_GET()
            return
        digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
        body = path.read_bytes().replace(b"; script-src ", f"; script-src 'sha256-{digest}' ".encode(), 1)
        body = body.replace(b"</body>", f"<script>{self.script}</script></body>".encode())
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serve(folder: Path, script: str = "") -> Iterator[str]:
    """Serve a folder on this machine and yield its address; ``script`` is run at the end of each page."""
    handler = type("Handler", (_Handler,), {"script": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
