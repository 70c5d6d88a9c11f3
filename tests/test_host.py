"""The host: plugins are found, broken ones harm nobody, names resolve."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.host import Host, load_host, matches
from tests.conftest import Harness, Site

HEALTHY = """
    from harness.api import Technique, hookimpl
    HARNESS_API = 1
    @hookimpl
    def register_techniques():
        return [Technique(id="one", contract="finetune", target="harness_healthy:One", summary="s", params={"rank": 2})]
"""

BROKEN = {
    "import-error": ("import does_not_exist_anywhere", "ModuleNotFoundError"),
    "syntax-error": ("def broken(:\n    pass", "SyntaxError"),
    "old-api": ("HARNESS_API = 0", "plugin interface 0"),
    "no-api": ("x = 1", "states no HARNESS_API"),
    "misspelled": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_technique(): return []",
        "did you mean 'register_techniques'?",
    ),
    "bad-argument": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef case_started(casse): pass",
        "casse",
    ),
    "twice": (
        """
        from harness.api import Technique, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_techniques():
            return [Technique(id="same", contract="finetune", target="a:b", summary="s")] * 2
        """,
        "declares technique 'same' twice",
    ),
    "exits": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques(): raise SystemExit(3)",
        "SystemExit: 3",
    ),
    "exits-at-import": ("raise SystemExit('bye')", "SystemExit: bye"),
    "wrong-type": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques(): return ['lora']",
        "expected Technique objects",
    ),
    "not-a-list": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques(): return 3",
        "expected a list",
    ),
    "no-json": (
        """
        from harness.api import Technique, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_techniques():
            return [Technique(id="t", contract="finetune", target="a:b", summary="s", params={"x": object()})]
        """,
        "cannot be written as JSON",
    ),
    "int-keys": (
        """
        from harness.api import Technique, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_techniques():
            return [Technique(id="t", contract="finetune", target="a:b", summary="s", params={"x": {1: 2}})]
        """,
        "JSON round trip",
    ),
    "bad-id": (
        """
        from harness.api import Technique, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_techniques():
            return [Technique(id="Not An Id", contract="finetune", target="a:b", summary="s")]
        """,
        "expected lower-case words",
    ),
}


def record(host: Host, name: str):
    return next(plugin for plugin in host.plugins if plugin.name == name)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_with_its_first_cause_and_the_others_work(site: Site, name: str) -> None:
    text, cause = BROKEN[name]
    site.plugin(name, text)
    site.plugin("healthy", HEALTHY)
    host = load_host()
    assert record(host, name).status == "broken"
    assert cause in record(host, name).cause
    assert "\n" not in record(host, name).cause
    assert "healthy/one" in host.techniques
    assert not [full for full in host.techniques if full.startswith(f"{name}/")]


def test_a_plugin_that_works_may_say_what_it_does_without(site: Site) -> None:
    site.plugin("frugal", 'HARNESS_API = 1\nHARNESS_NOTE = "without its compiler"')
    found = record(load_host(), "frugal")
    assert (found.status, found.cause) == ("ok", "without its compiler")


def test_a_broken_plugin_is_no_longer_called(site: Site) -> None:
    site.plugin(
        "half",
        """
        from harness.api import hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_techniques(): raise ValueError("no")
        @hookimpl
        def environment_info(): raise AssertionError("called all the same")
        """,
    )
    assert load_host().notify("environment_info") == []


def test_two_distributions_of_one_plugin_name_are_both_named_and_neither_is_loaded(site: Site) -> None:
    site.install("first", {"same": "harness_first"}, {"harness_first": HEALTHY})
    site.install("second", {"same": "harness_second"}, {"harness_second": HEALTHY})
    found = record(load_host(), "same")
    assert found.status == "broken"
    assert "first" in found.cause
    assert "second" in found.cause
    assert found.cause.endswith("uninstall one")


def test_a_plugin_cannot_take_the_name_of_the_host(site: Site) -> None:
    site.install("impostor", {"core": "harness_impostor"}, {"harness_impostor": HEALTHY})
    host = load_host()
    assert [plugin.status for plugin in host.plugins if plugin.name == "core"] == ["ok", "broken"]
    assert "core/one" not in host.techniques


def test_a_metric_id_is_global_and_the_second_plugin_that_claims_it_is_broken(site: Site) -> None:
    text = """
        from harness.api import Metric, hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_metrics():
            return [Metric(id="joy", unit="", higher_is_better=True, summary="s", lane="accuracy")]
    """
    site.plugin("aa", text)
    site.plugin("bb", text.replace('unit=""', 'unit="%"'))
    site.plugin("cc", text)
    host = load_host()
    assert record(host, "aa").status == "ok"
    assert record(host, "cc").status == "ok", "it says the same of the metric"
    assert "'aa' declares already; choose another id" in record(host, "bb").cause


def test_harness_raise_lets_the_plugin_s_own_error_through(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin("import-error", BROKEN["import-error"][0])
    monkeypatch.setenv("HARNESS_RAISE", "1")
    with pytest.raises(ModuleNotFoundError):
        load_host()


def test_disabling_and_loading_without_plugins(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    assert "healthy/one" in load_host().techniques
    off = load_host(disable=["healthy"])
    assert "healthy/one" not in off.techniques
    assert record(off, "healthy").status == "disabled"
    assert load_host(entry_points=False).techniques == {}


def test_an_uninstalled_module_is_a_plugin_by_its_name(site: Site) -> None:
    (site.folder / "harness_mine.py").write_text(
        "from harness.api import Technique, hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques():\n"
        "    return [Technique(id='one', contract='finetune', target='a:b', summary='s')]\n"
    )
    assert "mine/one" in load_host(["harness_mine"]).techniques
    assert "ModuleNotFoundError" in record(load_host(["no_such_module"]), "no-such-module").cause


def test_a_short_name_works_where_it_is_unique_and_lists_candidates_where_not(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    host = load_host(disable=["lora"])
    assert host.resolve("techniques", "one") == "healthy/one"
    site.plugin("other", HEALTHY)
    with pytest.raises(UsageError, match="healthy/one or other/one"):
        load_host(disable=["lora"]).resolve("techniques", "one")


def test_an_unknown_name_gets_the_nearest_and_a_failed_plugin_s_cause(site: Site) -> None:
    site.plugin("healthy", HEALTHY)
    site.plugin("import-error", BROKEN["import-error"][0])
    host = load_host()
    with pytest.raises(UsageError, match="did you mean 'healthy/one'"):
        host.resolve("techniques", "healthy/on")
    with pytest.raises(UsageError, match="does_not_exist_anywhere"):
        host.resolve("techniques", "import-error/any")


def test_an_unknown_name_with_none_near_leads_to_where_names_are_listed() -> None:
    host = load_host(entry_points=False)
    assert host.unknown("workload", "zzz", host.workloads) == "unknown workload 'zzz'; see: harness list workloads"
    executors = host.declared.executors
    assert host.unknown("executor", "zzz", executors) == "unknown executor 'zzz'; there are: inline, local"
    assert host.unknown("executor", "zzz", []) == "unknown executor 'zzz'; no plugin offers any executor"


def test_an_observer_that_raises_is_reported_once_and_dropped(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.plugin(
        "noisy",
        """
        from harness.api import hookimpl
        HARNESS_API = 1
        @hookimpl
        def environment_info(): raise ValueError("too loud")
        """,
    )
    site.plugin(
        "zz-quiet",
        """
        from harness.api import hookimpl
        HARNESS_API = 1
        @hookimpl
        def environment_info(): return {"room": "cold"}
        """,
    )
    host = load_host()
    for _ in range(3):
        assert host.notify("environment_info") == [("zz-quiet", {"room": "cold"})]
    told = capfd.readouterr().err
    assert told.count("too loud") == 1
    assert "plugin 'noisy' failed in environment_info and is left out from here on" in told


def test_with_every_kind_of_broken_plugin_installed_the_commands_work_with_one_line_each(
    site: Site, harness: Harness
) -> None:
    for name, (text, _) in BROKEN.items():
        site.plugin(name, text)
    site.install("a-dist", {"dup": "harness_dup_a"}, {"harness_dup_a": HEALTHY})
    site.install("b-dist", {"dup": "harness_dup_b"}, {"harness_dup_b": HEALTHY})
    site.plugin("healthy", HEALTHY)
    expected = {*BROKEN, "dup"}
    for arguments in (["--help"], ["plugins", "--json"], ["list", "techniques", "--json"]):
        done = harness(*arguments)
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert {line.split("'")[1] for line in lines} == expected
        assert len(lines) == len(expected)
    listed = json.loads(harness("list", "techniques", "--json").stdout)
    assert "healthy/one" in [entry["id"] for entry in listed]
    plugins = {entry["name"]: entry for entry in json.loads(harness("plugins", "--json").stdout)}
    assert {name for name, entry in plugins.items() if entry["status"] == "broken"} == expected
    assert plugins["healthy"]["techniques"] == ["healthy/one"]


def test_strict_plugins_makes_a_broken_one_fatal(site: Site, harness: Harness) -> None:
    site.plugin("import-error", BROKEN["import-error"][0])
    done = harness("--strict-plugins", "list", "techniques")
    assert done.returncode == 2
    assert "import-error" in done.stderr
    assert "Traceback" not in done.stderr
    assert harness("--strict-plugins", "-p", "no:import-error", "list", "techniques").returncode == 0


def test_a_plugin_adds_a_command(site: Site, harness: Harness) -> None:
    site.plugin(
        "greeter",
        """
        import click
        from harness.api import hookimpl
        HARNESS_API = 1
        @hookimpl
        def register_commands(cli):
            @cli.command()
            def greet():
                "Say hello."
                click.echo("hello from a plugin")
        """,
    )
    assert harness("greet").stdout == "hello from a plugin\n"
    assert "Say hello." in harness("--help").stdout


@given(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.from_regex(r"[a-z]{1,5}", fullmatch=True))
def test_a_glob_without_a_slash_means_the_short_name_too(plugin: str, name: str) -> None:
    full = f"{plugin}/{name}"
    assert matches(name, full)
    assert matches(full, full)
    assert matches(f"{plugin}/*", full)
    assert matches("*", full)
    assert not matches(f"x{name}", f"{plugin}/{name}")
