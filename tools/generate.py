"""Writes the generated parts of the documentation: whole pages, and parts of pages between markers.

Run ``python tools/generate.py`` after a change; a test fails while a page differs from what this tool writes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
from packaging.requirements import Requirement
from verdicts import counted, of_all_pages

from harness import hookspecs
from harness.api import PROJECT, Claim
from harness.cli import cli
from harness.host import load_host
from harness.report.contracts import show_contract
from harness.report.findings import claimed
from harness.report.naming import address_of, short
from harness.report.published import schema
from harness.report.reference import Described, description_of, reference_of
from harness.starting import named, own_template, technique_files
from harness.suite import read_suite

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs"
PACKAGE = ROOT / PROJECT
NOTE = "<!-- Written by tools/generate.py; edit the code it is read from. -->\n"


def commands() -> str:
    """Return the help of every command, as the program itself prints it."""
    program = click.Context(cli, info_name=PROJECT, terminal_width=100, **cli.context_settings)
    parts = [f"## `{context.command_path}`\n\n```text\n{context.get_help()}\n```\n" for context in _contexts(program)]
    return "\n".join([f"# Commands\n\n{NOTE}", *parts])


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of a command and of its subcommands, which inherit the settings of help."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from _contexts(click.Context(child, info_name=name, parent=context))


def hooks() -> str:
    """Return the signature and docstring of every hook, in the order of the module."""
    parts = [f"# Hooks\n\n{NOTE}", inspect.getdoc(hookspecs) or "", ""]
    specs = [value for value in vars(hookspecs).values() if hasattr(value, f"{PROJECT}_spec")]
    for hook in sorted(specs, key=lambda spec: inspect.getsourcelines(spec)[1]):
        first = " (the first answer counts)" if getattr(hook, f"{PROJECT}_spec")["firstresult"] else ""
        signature = str(inspect.signature(hook)).replace("'", "")
        parts.append(f"## `{hook.__name__}`{first}\n\n```python\ndef {hook.__name__}{signature}\n```\n")
        parts.append(f"{inspect.getdoc(hook)}\n")
    return "\n".join(parts)


def catalogue() -> str:
    """Return tables of the techniques, workloads and metrics that are installed."""
    host = load_host()
    parts = [f"# Techniques, workloads and metrics\n\n{NOTE}"]
    parts.append("## Techniques\n\n| technique | contract | what it does | reference |\n|---|---|---|---|")
    parts += [
        f"| `{full}` | {entry.spec.contract} | {entry.spec.summary} | {entry.spec.reference} |"
        for full, entry in sorted(host.techniques.items())
    ]
    parts.append("\n## Workloads\n\n| workload | contract | what it is | settings |\n|---|---|---|---|")
    for full, entry in sorted(host.workloads.items()):
        settings = ", ".join(f"`{key}` {value}" for key, value in entry.spec.settings.items())
        parts.append(f"| `{full}` | {entry.spec.contract} | {entry.spec.summary} | {settings} |")
    parts.append("\n## Bases of users' own models\n\n| base | what it is |\n|---|---|")
    parts += [f"| `{name}` | {entry.spec.summary} |" for name, entry in sorted(host.declared.bases.items())]
    parts.append("\n## Metrics\n\n| metric | unit | better | lane | what it is |\n|---|---|---|---|---|")
    for name, metric in sorted(host.metrics.items()):
        better = "higher" if metric.higher_is_better else "lower"
        parts.append(f"| `{name}` | {metric.unit} | {better} | {metric.lane} | {metric.summary} |")
    return "\n".join(parts) + "\n"


def claims() -> str:
    """Return a list of the claims of the suites that ship, by paper."""
    host = load_host()
    parts = [f"# Claims\n\n{NOTE}\n{_OF_CLAIMS}"]
    found = of_all_pages()
    papers: dict[str, list[tuple[str, Claim]]] = {}
    for name in sorted(host.declared.suites):
        for claim in read_suite(name, host).claims:
            papers.setdefault(claim.source, []).append((name, claim))
    for source in sorted(papers, key=str.lower):
        address = address_of(source)
        parts.append(f"\n## {f'[{source}]({address})' if address else source}\n")
        parts.append("| claim | what is said | what is tested | suite | verdict |\n|---|---|---|---|---|")
        for name, claim in papers[source]:
            said = (short(name), f"{claim.says} ({claim.source})".replace("|", "/"))
            verdict = counted(each for each in found if (each.suite, each.said) == said) or "not tested yet"
            parts.append(f"| {claim.id} | {claim.says} | {claimed(claim)} | `{name}` | {verdict} |")
    return "\n".join(parts) + "\n"


_OF_CLAIMS = """What papers say and the suites test. `harness claims` lists all of them with the verdict of the latest
stored run, its interval, the scale it was tested at, and how many more seeds or rounds would decide. `harness claims
--run` runs the suites of those that no stored run tests; `harness claims --output claims.html` writes a page.
[Suite files](suites.md#claims) describes the kinds of claims, [How verdicts are made](statistics.md#claims) how each
is decided. A verdict below is that of a run of the suite, on each workload that the claim is tested on; the pages of
the [families](catalogue.md) have the intervals, with the run that each is of."""


def contracts() -> str:
    """Return what `harness show contract` prints for each built-in contract."""
    host = load_host(entry_points=False)
    title = "What a technique of each contract must have, as `harness show contract ID` prints it."
    parts = [f"# Contracts\n\n{NOTE}\n{title}\n"]
    for name, entry in sorted(host.contracts.items()):
        workloads = {
            full: workload.spec for full, workload in sorted(host.workloads.items()) if workload.spec.contract == name
        }
        text = show_contract(entry.spec, reference_of(entry.spec.protocol), workloads)
        parts.append(f"## `{name}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------------- the API

_AUDIENCE = re.compile(r"(?ms)^- ([^:]+):(.*?)(?=^- |\Z)")
"""An item of a module's docstring: an audience, and the names that it needs in backticks."""

_FIELDS = (
    "Import each name from the package itself. The fields of a dataclass are its arguments, given by keyword; one "
    "without a default has to be given."
)


def api(package: str = f"{PROJECT}.api") -> str:
    """Return the reference of a package's public names by audience, in the order of the package's docstring.

    Raises SystemExit with a line for each name, field or method that lacks documentation or an audience.
    """
    module = importlib.import_module(package)
    introduction, _, items = (inspect.getdoc(module) or "").partition("\n\n")
    audiences = {audience: re.findall(r"`(\w+)`", names) for audience, names in _AUDIENCE.findall(items)}
    described = {name: description_of(f"{package}:{name}") for name in module.__all__}
    listed = [name for names in audiences.values() for name in names]
    if problems := [*_misplaced(listed, module.__all__), *_undocumented(described)]:
        raise SystemExit("\n".join([f"{package}:", *problems]))
    parts = [f"# API\n\n{NOTE}\n{introduction}\n\n{_FIELDS}\n"]
    for audience, names in audiences.items():
        parts.append(f"## {audience[0].upper()}{audience[1:]}\n")
        for name in names:
            found = described[name]
            assert found is not None
            parts.append(_entry(found, getattr(module, name), frozenset(described)))
    return "\n".join(parts)


def _misplaced(listed: Sequence[str], public: Sequence[str]) -> Iterator[str]:
    """Yield a line for each public name that does not stand under one audience, and for each that is none."""
    yield from (f"{name}: stands under {listed.count(name)} audiences" for name in public if listed.count(name) != 1)
    yield from (f"{name}: stands under an audience, and is no public name" for name in listed if name not in public)


def _undocumented(described: Mapping[str, Described | None]) -> Iterator[str]:
    """Yield a line for each name, and each of its fields and methods, that has no docstring."""
    for name, found in described.items():
        if found is None or not found.text:
            yield f"{name}: has no docstring"
        else:
            yield from (f"{name}.{member.name}: has no docstring" for member in found.members if not member.text)


def _entry(found: Described, value: object, known: frozenset[str]) -> str:
    """Return a name's section: its signature or value, its docstring, a table of its fields, and its methods."""
    parts = [f"### `{found.name}`\n\n{_block(found, value)}", f"{_linked(found.text, found.name, known)}\n"]
    fields = [member for member in found.members if member.annotation]
    if fields:
        parts.append("| field | type | default | what it is |\n|---|---|---|---|")
        for member in fields:
            default = f"`{member.default}`" if member.default else ""
            text = _linked(" ".join(member.text.split()), found.name, known)
            cells = (f"`{member.name}`", f"`{member.annotation}`", default, text)
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("")
    methods = [member for member in found.members if not member.annotation]
    parts += [f"`{member.signature}`\n\n{_linked(member.text, found.name, known)}\n" for member in methods]
    return "\n".join(parts)


def _block(found: Described, value: object) -> str:
    """Return a signature as code, or a constant with its value as text: ruff would format that as a module."""
    if not found.signature.startswith(f"{found.name} = "):
        return f"```python\n{found.signature}\n```\n"
    shown = found.signature
    if isinstance(value, frozenset):
        shown = f"{found.name} = frozenset({{{', '.join(map(repr, sorted(value)))}}})"
    elif isinstance(value, str | int | tuple | dict):
        shown = f"{found.name} = {value!r}"
    return f"```text\n{shown}\n```\n"


def _linked(text: str, own: str, known: frozenset[str]) -> str:
    """Return a docstring as Markdown, in which other names of the package are links to their sections."""

    def link(match: re.Match[str]) -> str:
        name = match[1].partition(".")[0]
        return f"[`{match[1]}`](#{name.lower()})" if name in known and name != own else f"`{match[1]}`"

    return re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, text).replace("``", "`")


# ---------------------------------------------------------------------------------------- the picture of the rooms

Graph = Mapping[str, frozenset[str]]
"""The rooms that each room imports; a room is a top-level module or subpackage."""


def architecture() -> str:
    """Return docs/architecture.md with the current picture of the rooms between its markers.

    Raises SystemExit where the file lacks a marker.
    """
    return _between("architecture.md", "rooms", picture(room_imports(PACKAGE), _purposes(PACKAGE)))


def _between(page: str, what: str, text: str) -> str:
    """Return a page of docs/ with ``text`` between its two markers; raises SystemExit where it lacks one."""
    first, last = f"<!-- {what}, written by tools/generate.py -->\n", f"<!-- end of {what} -->\n"
    before, begin, rest = (FOLDER / page).read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise SystemExit(f"docs/{page}: expected the lines {first.strip()} and {last.strip()}")
    return f"{before}{first}\n{text}\n{last}{after}"


def room_imports(package: Path) -> Graph:
    """Return which of a package's top-level modules and subpackages each of them imports, inside functions too.

    The package's own ``__init__`` and ``__main__`` are not rooms.
    """
    rooms = _rooms(package)
    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room in rooms:
            imports[room] |= {name for name in _imported(path, package.name) if name in rooms} - {room}
    return {room: frozenset(others) for room, others in imports.items()}


def _rooms(package: Path) -> set[str]:
    """Return the names of a package's rooms."""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    return modules | {path.parent.name for path in package.glob("*/__init__.py")}


def _imported(path: Path, package: str) -> Iterator[str]:
    """Yield the room of each name that a file imports from the package with an absolute import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                yield parts[1]


def reached(graph: Graph, start: str) -> frozenset[str]:
    """Return the rooms that a room imports directly or indirectly; the room itself only where imports form a cycle."""
    rooms: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        room = waiting.pop()
        if room not in rooms:
            rooms.add(room)
            waiting += graph[room]
    return frozenset(rooms)


def arrows(graph: Graph) -> list[tuple[str, str]]:
    """Return the transitive reduction of the imports; all imports within a cycle are kept."""
    lower = {room: reached(graph, room) for room in graph}

    def follows(room: str, other: str) -> bool:
        between = graph[room] - {other}
        return any(other in lower[step] and step not in lower[other] and room not in lower[step] for step in between)

    return [(room, other) for room in sorted(graph) for other in sorted(graph[room]) if not follows(room, other)]


def picture(graph: Graph, purposes: Mapping[str, str]) -> str:
    """Return a Mermaid diagram of the rooms, and a table with the purpose and all imports of each."""
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"    {room}" for room in sorted(graph)]
    lines += [f"    {room} --> {other}" for room, other in arrows(graph)]
    lines += ["```", "", "| room | what it is for | what it imports |", "|---|---|---|"]
    for room in sorted(graph, key=lambda room: (len(reached(graph, room)), room)):
        imports = ", ".join(f"`{other}`" for other in sorted(graph[room])) or "nothing of the project"
        lines.append(f"| `{room}` | {purposes[room] or '—'} | {imports} |")
    return "\n".join(lines) + "\n"


def _purposes(package: Path) -> dict[str, str]:
    """Return the first paragraph of each room's docstring, empty where the room has none."""
    purposes = {}
    for room in _rooms(package):
        folder = package / room / "__init__.py"
        path = folder if folder.is_file() else package / f"{room}.py"
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraph = " ".join(text.partition("\n\n")[0].split())
        purposes[room] = paragraph.replace("``", "`").replace("|", "\\|")
    return purposes


# ------------------------------------------------------------------------------------- the versions of the peers

PEERS = ("bitsandbytes", "peft", "torch", "torchao", "transformers", "triton")


def peers() -> str:
    """Return docs/peers.md with the versions that a checkout pins, and those that techniques ask for."""
    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    asked: dict[str, set[str]] = {name: set() for name in PEERS}
    for entry in load_host().techniques.values():
        for requirement in map(Requirement, entry.spec.requires):
            if requirement.name in asked:
                asked[requirement.name].add(str(requirement.specifier))
    lines = [
        "| package | version of a checkout | what techniques ask for beyond the project's own requirements |",
        "|---|---|---|",
    ]
    for name in PEERS:
        ranges = ", ".join(f"`{text}`" for text in sorted(asked[name])) or "nothing"
        lines.append(f"| {name} | {pinned.get(name, 'not installed')} | {ranges} |")
    return _between("peers.md", "versions", "\n".join(lines) + "\n")


# ------------------------------------------------------------------------------------------- the files of a plugin

_FILE = re.compile(r"(?ms)^(```(?:python|toml) file=(\S+)\n).*?^```$")
"""A block of code with the name of the file that it is."""


def plugin() -> str:
    """Return docs/writing-a-plugin.md with the files that ``harness new`` writes; a change of one is no such block."""
    host = load_host(entry_points=False)
    files = technique_files(named("bias"), "finetune", own_template(host, "finetune"), reference="")
    page = (FOLDER / "writing-a-plugin.md").read_text(encoding="utf-8")
    return _FILE.sub(lambda block: f"{block[1]}{files[Path(block[2])]}```", page)


def run_schema() -> str:
    """Return the JSON schema of stored runs, as `harness export schema` prints it."""
    return json.dumps(schema(), indent=2) + "\n"


PAGES = {
    "commands.md": commands,
    "hooks.md": hooks,
    "api.md": api,
    "catalogue.md": catalogue,
    "claims.md": claims,
    "contracts.md": contracts,
    "architecture.md": architecture,
    "peers.md": peers,
    "run.schema.json": run_schema,
    "writing-a-plugin.md": plugin,
}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write(), encoding="utf-8")
