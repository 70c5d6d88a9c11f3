"""The standard streams: foreign prints, colours, and outputs that are closed, full or left by their reader."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from harness import streams
from harness.cli import BUG, READER_LEFT, main
from tests.conftest import Harness, Site, copy_of_the_run

TOY = ("-p", "harness_toy", "--no-plugins")
RUN = (*TOY, "run", "--suite", "toys", "--lane", "accuracy", "--executor", "inline", "--technique", "base")

LOUD = """
    import os
    import sys
    from harness.api import Technique, hookimpl

    HARNESS_API = 1
    print("printed")
    os.write(1, b"written\\n")
    os.system("echo started")

    @hookimpl
    def register_techniques():
        print("hooked")
        os.write(1, b"hooked\\n")
        return [Technique(id="late", contract="finetune", target="harness_loud:X", summary="prints")]
"""


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "toy"))


def shell(command: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``$H`` with redirections in bash."""
    return subprocess.run(
        ["bash", "-c", command.replace("$H", f"{sys.executable} -m harness")],
        capture_output=True, text=True, cwd=place, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [("list", "techniques"), ("plugins",), ("show", "technique", "loud/late"), ("list", "suites")]
)
def test_what_a_plugin_prints_stays_out_of_json(arguments: tuple[str, ...], site: Site, harness: Harness) -> None:
    site.plugin("loud", LOUD)
    done = harness(*arguments, "--json")
    assert json.loads(done.stdout)
    for words in ("printed", "written", "started", "hooked"):
        assert words in done.stderr


def test_what_c_code_prints_later_stays_out_of_json(site: Site, harness: Harness) -> None:
    source = 'import ctypes\nHARNESS_API = 1\nctypes.CDLL(None).printf(b"from C\\\\n")\n'
    site.plugin("native", source)
    done = harness("plugins", "--json")
    assert json.loads(done.stdout)
    assert "from C" in done.stderr


@pytest.mark.usefixtures("toys")
def test_what_a_case_in_the_same_process_prints_stays_out_of_a_result(harness: Harness, tmp_path: Path) -> None:
    target = tmp_path / "loud_toy.py"
    target.write_text(
        "from toy_targets import Toy\n\n\nclass Loud(Toy):\n"
        "    def apply(self):\n        print('loud')\n        return 0\n"
    )
    (tmp_path / "harness_loudtoy.py").write_text(
        "from harness.api import Technique, hookimpl\nHARNESS_API = 1\n\n\n@hookimpl\ndef register_techniques():\n"
        "    return [Technique(id='loud', contract='toy', target='loud_toy:Loud', summary='prints')]\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent / "toy")])
    suite = tmp_path / "loud.toml"
    suite.write_text((Path(__file__).parent / "toy/toys.toml").read_text().replace('"twin"', '"loudtoy/loud"'))
    options = ("--suite", str(suite), "--technique", "loudtoy/loud", "--track", "--format", "json")
    done = harness("-p", "harness_loudtoy", *RUN, *options, PYTHONPATH=path)
    assert json.loads(done.stdout)
    assert "loud" in done.stderr


LOUD_TARGET = """
    import atexit
    import os
    from toy_targets import Toy

    os.write(1, b"imported")
    atexit.register(print, "the end")

    class Loud(Toy):
        def __init__(self, shift=0.0):
            print("built", end="")
            super().__init__("loud", shift)
"""
LOUD_TOY = """
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    @hookimpl
    def register_techniques():
        loud = Technique(id="loud", contract="toy", target="loud_toy:Loud", summary="prints", params={"shift": 0.0})
        return [loud]
"""


def test_what_modules_print_does_not_hide_that_they_refuse_a_value(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "loud_toy.py").write_text(dedent(LOUD_TARGET))
    (tmp_path / "harness_loudtoy.py").write_text(dedent(LOUD_TOY))
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent / "toy")])
    options = ("--technique", "loudtoy/loud:shift=200", "--track", "--format", "json")
    done = harness("-p", "harness_loudtoy", *RUN[:-2], *options, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "harness: error: shift 200: expected -100 to 100 (loudtoy/loud:shift=200)\n"


@pytest.mark.parametrize("command", ["list techniques", "list metrics --json", "completion bash", "--help", "plugins"])
def test_a_full_output_is_one_line_and_exit_code_2(command: str, tmp_path: Path) -> None:
    done = shell(f"$H {command} > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "harness: error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["list techniques", "list metrics --json", "--help", "no-such-command"])
def test_closed_and_full_error_streams_are_silent(command: str, tmp_path: Path) -> None:
    for redirection in ("2>&-", "2>/dev/full", ">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = shell(f"$H {command} {redirection}", tmp_path)
        assert done.returncode == (2 if command.startswith("no-") else 0), redirection
        assert "Traceback" not in done.stderr


def test_a_reader_that_left_is_no_failure(tmp_path: Path) -> None:
    # the reader closes before the first line is written
    done = shell("$H list metrics --json | exec 0<&-; exit ${PIPESTATUS[0]}", tmp_path)
    assert done.returncode in (0, READER_LEFT)
    assert not done.stderr


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", "|& exec 0<&-"])
def test_a_run_without_streams_computes_everything(redirection: str, tmp_path: Path) -> None:
    done = shell(f"$H {' '.join(RUN)} --store S {redirection}; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode in (0, READER_LEFT)
    assert "Traceback" not in done.stderr
    (stored,) = json.loads(shell("$H runs --store S --json", tmp_path).stdout)
    assert stored["rows"] == stored["planned"] > 0
    assert stored["exit_code"] == 0


@pytest.mark.usefixtures("toys")
def test_a_comparison_of_runs_needs_no_plugin_as_runs_keep_what_their_metrics_are(
    harness: Harness, tmp_path: Path
) -> None:
    assert harness(*RUN, "--quiet").returncode == 0
    earlier = copy_of_the_run(tmp_path / "cwd/.harness")
    for gate, code in (((), 0), (("--gate",), 2)):  # a gate that compares nothing but a baseline with itself is none
        done = harness("--no-plugins", "compare", earlier, "last", *gate)
        assert done.returncode == code
        assert "only the baseline was compared: toy/base" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_fault_of_the_harness_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.results.index.Index.runs", lambda _: 1 / 0)
    with pytest.raises(SystemExit) as left:
        main(["runs"])
    assert left.value.code == BUG
    assert BUG not in (0, 1, 2, READER_LEFT)
    assert "ZeroDivisionError" in (errors := capsys.readouterr().err)
    assert "please report it" in errors


def test_the_command_runs_twice_in_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for arguments in (["list", "metrics"], ["--help"], ["list", "metrics"], ["--help"], ["track", "--help"]):
        before = sys.stdout
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        assert sys.stdout is before
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[2]
    assert texts[1] == texts[3] != ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "on_terminal", "in_a_file"),
    [
        ({}, True, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"CLICOLOR_FORCE": "1", "CLICOLOR": "0"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours_follow_the_conventions(environment: dict[str, str], on_terminal: bool, in_a_file: bool) -> None:
    assert streams.is_coloured(_Terminal(), environment) is on_terminal
    assert streams.is_coloured(io.StringIO(), environment) is in_a_file
    closed = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it is closed in the next line
    closed.close()
    assert streams.is_coloured(None, {}) is False
    assert streams.is_coloured(closed, {}) is False


def on_a_terminal(arguments: list[str], place: Path, **environment: str) -> bytes:
    """Return what a command writes where both of its streams are a terminal."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", **environment}
    kept = {name: value for name, value in os.environ.items() if "COLOR" not in name}
    command = [sys.executable, "-m", "harness", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=place, env={**kept, **environment}) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal has no other end any more
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written
    return written


@pytest.mark.usefixtures("toys")
def test_a_table_on_a_terminal_has_colours_unless_they_are_forbidden(tmp_path: Path) -> None:
    arguments = [*RUN, "--quiet", "--store", "S"]
    assert b"\x1b[" in on_a_terminal(arguments, tmp_path)
    shown = [*TOY, "compare", copy_of_the_run(tmp_path / "S"), "last", "--store", "S"]
    assert b"\x1b[" in on_a_terminal(shown, tmp_path)
    for forbidden in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert b"\x1b" not in on_a_terminal(shown, tmp_path, **forbidden)
    assert "\x1b[" in shell(f"$H {' '.join(shown)}", tmp_path, FORCE_COLOR="1").stdout


@pytest.mark.usefixtures("toys")
def test_a_name_with_markup_or_control_characters_is_shown_as_text(tmp_path: Path) -> None:
    # with the bar of progress, the table and its notes, on one terminal
    name = "[/b][red]x\x1b[2J\x1b]0;title\x07\u202egnp"
    arguments = [*RUN[:-1], f"toy/base:behaviour={name}", "--track", "--store", "S"]
    written = on_a_terminal(arguments, tmp_path, COLUMNS="200").decode()
    assert not [sign for sign in ("\x1b[2J", "\x1b]0", "\x07", "\u202e") if sign in written]
    assert "[/b][red]" in written
