"""Plugins whose metadata or declarations hold anything are loaded, or are one broken plugin and harm no other."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Contract, Metric, Technique, WorkloadSpec, hookimpl
from harness.discovery import Candidate, entry_point_candidates
from harness.host import Host, load_host
from tests.fuzz.inputs import fuzzed, texts, torn, values
from tests.fuzz.world import Watch

POINTS = (
    b"[console_scripts]\nf = harness_fuzzed:main\n\n[harness.plugins]\nfuzzed = harness_fuzzed\nother = a.b:c [x]\n"
)
METADATA = (
    b"Metadata-Version: 2.1\nName: fuzzed\nVersion: 1.0\nRequires-Dist: torch>=2; extra == 'x'\nRequires-Dist: numpy\n"
)
URL = b'{"url": "file:///tmp/fuzzed", "vcs_info": {"vcs": "git", "commit_id": "0123"}}'
PARTS = {"entry_points.txt": POINTS, "METADATA": METADATA, "direct_url.json": URL, "RECORD": b"harness_fuzzed.py,,\n"}
HEALTHY = "HARNESS_API = 1\n"

DECLARED = {
    "techniques": Technique(
        id="t", contract="fuzzed", target="a:b", summary="s", params={"rank": 1}, requires=["numpy"]
    ),
    "contracts": Contract(id="fuzzed", protocol="a:B", summary="s", phases={"train": "a step"}),
    "workloads": WorkloadSpec(
        id="w", contract="fuzzed", target="a:b", summary="s", version=1, metrics=["joy"], phases=["train"],
        settings={"lr": 0.1}, small={"lr": 0.2},
    ),
    "metrics": Metric(id="joy", unit="", higher_is_better=True, summary="s", lane="accuracy"),
}  # fmt: skip
FIELDS = [(kind, field) for kind, item in DECLARED.items() for field in vars(item)]
numbers = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of installed distributions, one of them healthy."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "harness_fuzzed.py").write_text(HEALTHY)
    (folder / "harness_healthy.py").write_text(HEALTHY)
    info = folder / "harness_healthy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-healthy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.plugins]\nhealthy = harness_healthy\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("harness_fuzzed", "harness_healthy"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@fuzzed(7)
@given(
    data=st.data(), damaged=st.sets(st.sampled_from([*PARTS]), min_size=1), folder=st.sampled_from(["fuzzed-1.0", "x"])
)
def test_metadata_of_any_bytes_harm_no_other_plugin(
    site: Path, watch: Watch, data: st.DataObject, damaged: set[str], folder: str
) -> None:
    info = site / f"{folder}.dist-info"
    info.mkdir(exist_ok=True)
    for name, content in PARTS.items():
        (info / name).write_bytes(data.draw(torn(content)) if name in damaged else content)
    with watch.on() as written:
        host = load_host()
    assert [record.status for record in host.plugins if record.name == "healthy"] == ["ok"]
    require_told(host)
    assert not [path for path in written if "__pycache__" not in path.parts]


@fuzzed(6)
@given(name=texts, target=texts, data=st.data())
def test_entry_points_of_any_names_harm_no_other_plugin(site: Path, name: str, target: str, data: Any) -> None:
    info = site / "x.dist-info"
    info.mkdir(exist_ok=True)
    line = data.draw(st.sampled_from(["{} = {}", "{}={}", "{} {}", "{}:{}"])).format(name, target)
    (info / "entry_points.txt").write_text(f"[harness.plugins]\n{line}\n", "utf-8", "replace")
    (info / "METADATA").write_bytes(METADATA)
    assert "healthy" in {candidate.name for candidate in entry_point_candidates()}
    host = load_host()
    assert [record.status for record in host.plugins if record.name == "healthy"] == ["ok"]
    require_told(host)


@fuzzed(9)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3))
def test_declarations_of_any_values_are_taken_or_break_their_plugin_alone(changes: dict[tuple[str, str], Any]) -> None:
    module = ModuleType(f"harness_fuzzed_{next(numbers)}")
    vars(module)["HARNESS_API"] = 1

    for kind in DECLARED:
        vars(module)[f"register_{kind}"] = hookimpl(lister(kind, changes), specname=f"register_{kind}")
    known = Host()
    known.load(Candidate(name="fuzzed", module=module.__name__, distribution="", version="", load=lambda: module))
    known.settle()
    (record,) = known.plugins
    assert record.status in ("ok", "broken")
    assert record.status == "ok" or (record.cause and "\n" not in record.cause)
    if record.status == "ok":
        for name in (*known.techniques, *known.workloads, *known.contracts, *known.metrics):
            assert isinstance(name, str)
        assert known.unknown("technique", "nothing", known.techniques)


@fuzzed(3)
@given(enabled=st.lists(texts, max_size=2), disabled=st.lists(texts, max_size=2))
def test_plugins_named_by_any_text_are_loaded_or_broken(enabled: list[str], disabled: list[str]) -> None:
    host = load_host(enabled, disabled, entry_points=False)
    require_told(host)
    assert [record.status for record in host.plugins if record.name == "core"][:1] == ["ok"]


def lister(kind: str, changes: dict[tuple[str, str], Any]) -> Any:
    """Return a hook that declares an item, with these fields changed when it is asked."""

    def declare() -> list[Any]:
        return [replace(DECLARED[kind], **{field: value for (of, field), value in changes.items() if of == kind})]

    return declare


def require_told(host: Host) -> None:
    """Require that each broken plugin says why, in one line."""
    for record in host.broken:
        assert record.cause
        assert "\n" not in record.cause
