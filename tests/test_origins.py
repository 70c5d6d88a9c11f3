"""Where users' models and data are found: folders, packages, a hub's local cache, a hub, and converted files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.api import CONVERTED, UsageError
from harness.api.text import source_name
from harness.origins import converted as conversion
from harness.origins.finding import data_path, from_folder, model_path
from harness.origins.reading import OFFLINE, Reading
from harness.source import source_of
from tests.hub import COMMIT, hub

CONFIG = '{"model_type": "bert"}'


def model(folder: Path, config: str = CONFIG, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    (folder / weights).write_bytes(b"weights")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ships_a_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('the code of a package must not run')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_package_s_model_is_found_and_its_code_does_not_run(package: Path) -> None:
    (package / "config.json").write_text("{}")  # of the package, not of a model
    found = model(package / "deep" / "model")
    assert model_path("package:ships_a_model", OFFLINE) == found
    assert source_name(str(found)) == "deep/model"


def test_a_package_s_gguf_is_found_where_there_is_no_folder_of_a_model(package: Path) -> None:
    (package / "m.gguf").touch()
    assert model_path("package:ships_a_model", OFFLINE) == package / "m.gguf"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package", "no package 'no_such_package' is installed for this Python"),
        ("package:a.b", "expected the name of a package, as it is imported"),
        ("package:ships_a_model", "has no folder with config.json and"),
        ("./nowhere", "there is no such file or folder; expected a folder, FILE.gguf, package:NAME, or REPO@REV"),
        ("nowhere.gguf", "there is no such file or folder"),
        ("~nobody-of-this-name/model", "there is no such file or folder"),
        ("x" * 5000 + "/..", "there is no such file or folder"),
        (__file__, "is a file; expected a folder, FILE.gguf"),
    ],
)
@pytest.mark.usefixtures("package")
def test_a_model_that_is_not_there_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        model_path(name, OFFLINE)
    assert len(caught.value.problems) == 1


def test_of_several_models_in_a_package_none_is_guessed(package: Path) -> None:
    places = [model(package / name) for name in ("a", "b")]
    with pytest.raises(UsageError, match="has several models; name the path of one of them") as caught:
        model_path("package:ships_a_model", OFFLINE)
    assert all(str(place) in str(caught.value) for place in places)


def test_a_path_wins_over_an_id_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = model(tmp_path / "org" / "name")
    assert model_path("org/name", OFFLINE) == folder
    assert from_folder(tmp_path, "org/name") == str(tmp_path / "org" / "name")
    assert from_folder(tmp_path, "org/other@main") == "org/other@main"
    assert from_folder(tmp_path, "package:a") == "package:a"
    assert from_folder(tmp_path, "d.csv") == str(tmp_path / "d.csv")


ASK = """
import sys
from pathlib import Path
from harness.api import UsageError
from harness.origins.finding import data_path, model_path
from harness.origins.reading import Reading
for line in sys.argv[1:]:
    kind, name, download = line.split()
    try:
        found = {"model": model_path, "data": data_path}[kind](name, Reading(download=download == "yes"))
        print(found, *sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()))
    except UsageError as error:
        print(error)
print("torch" in sys.modules)
"""


def asked(cache: Path, *questions: str, endpoint: str = "http://127.0.0.1:9") -> list[str]:
    """Return what is found in a process of its own, as the hub's library reads its environment at import."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**around, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *questions], capture_output=True, text=True, check=True, env=environment
    )
    *answers, torch = done.stdout.splitlines()
    assert torch == "False"
    return answers


def test_ids_are_looked_up_in_the_local_cache_of_the_hub(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    place = model(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    *found, other = asked(
        tmp_path, "model org/name no", f"model org/name@{COMMIT} no", f"model org/name@{COMMIT} yes", "model org/b no"
    )
    assert found == [f"{place} config.json model.safetensors"] * 3  # a commit that is there is not asked for
    assert "'org/b@main': there is no such file or folder here, and the hub's local cache" in other
    assert other.endswith("--download fetches it")
    assert source_name(str(place)) == f"org/name@{COMMIT}"


def test_download_fetches_what_is_safe_and_nothing_else(tmp_path: Path) -> None:
    served, cache = tmp_path / "served", tmp_path / "cache"
    tiny = model(served / "models" / "org" / "tiny")
    for name in ("pytorch_model.bin", "code.py", "onnx/config.json"):
        (tiny / name).parent.mkdir(exist_ok=True)
        (tiny / name).write_text("{}")
    model(served / "models" / "org" / "code", '{"auto_map": {}}')
    model(served / "models" / "org" / "pickled", weights="pytorch_model.bin")
    table = served / "datasets" / "org" / "data" / "data" / "train-00000-of-00001.csv"
    table.parent.mkdir(parents=True)
    table.write_text("text,label\na,b\n")
    with hub(served) as there:
        names = ("model org/tiny yes", "data org/data yes", "model org/code yes", "model org/pickled yes")
        fetched, data, code, pickled, none = asked(cache, *names, "model org/none yes", endpoint=there.address)
        assert not any(name.endswith((".bin", ".py")) or "onnx/" in name for name in there.asked)
        assert not any("/code/" in name and "safetensors" in name for name in there.asked)
    assert fetched == f"{cache}/models--org--tiny/snapshots/{COMMIT} config.json model.safetensors"
    assert data == f"{cache}/datasets--org--data/snapshots/{COMMIT} data/train-00000-of-00001.csv"
    assert "'org/code@main': needs code of its own, which is not run" in code
    assert "'org/pickled@main': has no *.safetensors; pickled weights can run code" in pickled
    assert "'org/none@main': cannot be downloaded: 404" in none
    assert asked(cache, "model org/tiny no", "data org/data no") == [fetched, data]  # without the hub


def test_a_gguf_is_converted_once_and_only_where_the_data_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def convert(path: Path, folder: Path) -> None:
        calls.append(path)
        (folder / "config.json").write_text(CONFIG)

    monkeypatch.setattr(conversion, "_convert", convert)
    monkeypatch.setattr(conversion, "find_spec", lambda _: object())
    file, data, reading = tmp_path / "m.gguf", tmp_path / "d.csv", Reading(cache=tmp_path / "cache")
    file.write_bytes(b"one")
    with pytest.raises(UsageError, match=r"d\.csv': there is no such file"):
        source_of(file, data, None, reading)
    assert not calls
    data.touch()
    first, again = (source_of(file, data, None, reading) for _ in range(2))
    file.write_bytes(b"two")
    other = source_of(file, data, None, reading)
    assert first is not None
    assert other is not None
    assert first == again
    assert calls == [file, file]
    assert first.model != other.model
    folder = tmp_path / "cache" / "base-models" / CONVERTED
    assert sorted(map(str, folder.iterdir())) == sorted([first.model, other.model])


def test_a_gguf_that_cannot_be_converted_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the extra gguf")
    (tmp_path / "m.gguf").write_bytes(b"no such thing")
    with pytest.raises(UsageError, match=r"m\.gguf': cannot be converted: ") as caught:
        conversion.converted(tmp_path / "m.gguf", tmp_path / "cache")
    assert len(str(caught.value).splitlines()) == 1
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_without_its_package_a_gguf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").touch()
    monkeypatch.setattr(conversion, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs the package gguf: pip install 'technique-harness\[gguf\]'"):
        conversion.converted(tmp_path / "m.gguf", tmp_path / "cache")


def test_data_are_no_package(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a package gives a model only; expected a file"):
        data_path("package:a", OFFLINE)
    assert data_path(str(tmp_path), OFFLINE) == tmp_path
