"""The architecture, held against every module's syntax tree."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping

import pytest

from tests.unit.helpers.builders import PACKAGE

TOP = "gitlab_mm_backup"
# One line, the highest step first: a module imports from its own folder and from folders further down.
# Folders on one step do not import each other; "" is what lies beside the folders.
LINE = (
    ("cli",),
    ("health", "rehearsal"),
    ("restore",),
    ("backup",),
    ("offsite", "sso"),
    ("mattermost",),
    ("postgresql",),
    ("store",),
    ("config",),
    ("container",),
    ("system",),
    ("",),
)
STEPS = {folder: step for step, folders in enumerate(LINE) for folder in folders}
# Separate programs: no module of the package is in their memory.
PROGRAMS = {"system.cleanup", "system.nolinks", "postgresql.search_path_filter"}
STARTERS = {"subprocess", "pty", "multiprocessing"}
OS_STARTERS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
LONGEST_FUNCTION = 40
LONGEST_MODULE = 400
MOST_NAMES = 18  # of modules in a folder

Sources = Mapping[str, str]  # module below the package, "" and "store" for __init__ -> text


def read_sources() -> dict[str, str]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path.read_text(encoding="utf-8")
    return found


SOURCES = read_sources()
PACKAGES = {name for name in SOURCES if name == "" or (PACKAGE / name.replace(".", "/")).is_dir()}
MODULES = sorted(set(SOURCES) - PACKAGES)


@functools.lru_cache(None)
def nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def absolute(module: str, node: ast.ImportFrom) -> str:
    """Return the full name that a ``from`` of ``module`` (no package) means."""
    if not node.level:
        return node.module or ""
    parts = [TOP, *module.split(".")][: -node.level]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imports(module: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, full name) of all that ``module`` imports, wherever in the file."""
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def folder(module: str) -> str:
    return module.rpartition(".")[0]


def target(name: str) -> str | None:
    """Return the module of ours that the imported ``name`` leads to, None for foreign ones."""
    if name != TOP and not name.startswith(f"{TOP}."):
        return None
    inner = name[len(TOP) + 1 :]
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner or name


def upward(sources: Sources) -> list[str]:
    """Return each import that does not point down, in words."""
    found = []
    for module in sorted(set(sources) - PACKAGES):
        here = STEPS[folder(module)]
        for line, name in imports(module, sources[module]):
            leads_to = target(name)
            if leads_to is None:
                continue
            known = leads_to in MODULES and leads_to != module
            beside = known and folder(leads_to) == folder(module)
            if not (beside or (known and STEPS[folder(leads_to)] > here)):
                found.append(f"{module}:{line} imports {leads_to}")
    return found


def circles(sources: Sources) -> list[list[str]]:
    """Return the modules that import each other in circles, folder by folder."""
    wanted = {
        module: {target(name) for _, name in imports(module, sources[module])} - {module}
        for module in sources
    }
    found = []
    for name in STEPS:
        left = {module for module in sources if module not in PACKAGES and folder(module) == name}
        while ends := {module for module in left if not wanted[module] & left}:
            left -= ends
        if left:
            found.append(sorted(left))
    return found


def dotted(node: ast.AST) -> str:
    """Return a.b.c for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def mentioned(module: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything imported or named in an expression."""
    yield from imports(module, text)
    for node in nodes(text):
        name = dotted(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        if name:
            yield getattr(node, "lineno", 0), name


def starts_programs(name: str) -> bool:
    first, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    if first == "os":
        return second in OS_STARTERS or second.startswith(("exec", "spawn"))
    if first == "asyncio":
        return second.startswith(("create_subprocess", "subprocess"))
    return first in STARTERS


def prints(name: str) -> bool:
    names = ("print", "input", "rich", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.exit")
    if name.startswith("click."):
        return name.partition(".")[2].startswith(("echo", "secho", "confirm", "prompt", "style"))
    return any(name == word or name.startswith(f"{word}.") for word in names)


def breaches(sources: Sources, test: object, *allowed: str) -> list[str]:
    assert callable(test)
    return [
        f"{module}:{line} {name}"
        for module in sorted(sources)
        if module not in allowed
        for line, name in mentioned(module, sources[module])
        if test(name)
    ]


def test_every_folder_has_its_step() -> None:
    assert {folder(module) for module in MODULES} == set(STEPS)


def test_every_import_points_down() -> None:
    assert upward(SOURCES) == []


def test_no_two_modules_of_a_folder_import_each_other() -> None:
    assert circles(SOURCES) == []
    late = "def late():\n    from .lock import x"
    ring = {"system.lock": "from . import signals", "system.signals": late}
    assert circles(ring) == [["system.lock", "system.signals"]]


@pytest.mark.parametrize(
    "text",
    [
        "from .cli.main import main",
        "from .cli import main",
        "from . import cli as edge",
        "import gitlab_mm_backup.cli.main",
        "import gitlab_mm_backup.cli.main as edge",
        "from gitlab_mm_backup import cli",
        "from gitlab_mm_backup.cli import main",
        "def late():\n    from . import cli",
        "if TYPE_CHECKING:\n    from .cli import Manner",
        "try:\n    pass\nexcept OSError:\n    from .cli import main",
        "from .store.local import LocalStore",
        "from . import errors",  # itself
        "import gitlab_mm_backup",
        "from . import __doc__",
    ],
)
def test_an_import_that_does_not_point_down_is_seen_however_it_is_written(text: str) -> None:
    assert len(upward({"errors": text})) == 1


@pytest.mark.parametrize("text", ["from ..cli.main import main", "from ..cli import main"])
def test_an_upward_import_out_of_a_package_within_is_seen(text: str) -> None:
    assert upward({"store.local": text}) == ["store.local:1 imports cli.main"]


def test_a_job_has_all_modules_in_memory_before_it_begins() -> None:
    """Beside them a job reads version_rules.yml and programs of their own, kept by preload."""
    loaded = {target(name) for _, name in imports("cli.preload", SOURCES["cli.preload"])}
    below = {module for module in MODULES if folder(module) != "cli"}
    assert below - loaded == PROGRAMS, "which process and clients keep"


def test_nothing_is_imported_by_a_computed_name() -> None:
    """But a command, by the table of commands; each is asked for below."""
    dynamic = {"importlib.import_module", "__import__", "importlib.util", "runpy", "exec", "eval"}
    assert breaches(SOURCES, lambda name: name in dynamic, "cli.main") == []


def test_json_and_yaml_of_others_come_through_one_door() -> None:
    """Those named read what is found in the middle of a remote's answer, with limits, or our own files."""

    def parses(name: str) -> bool:
        loads = {"json.loads", "json.load", "json.JSONDecoder", "yaml.SafeLoader"}
        return name in loads or name.startswith(("yaml.load", "yaml.safe_load", "yaml.compose"))

    ours = ("config.config_file", "store.inventory")
    doors = ("system.validation", "mattermost.json_text", "offsite.bound", *ours)
    assert breaches(SOURCES, parses, *doors) == []
    assert breaches({"x": "import json\njson.loads(text)"}, parses) == ["x:2 json.loads"]


def test_only_process_starts_programs() -> None:
    """What it starts may become another program."""
    assert breaches(SOURCES, starts_programs, "system.process", "system.nolinks") == []


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "import os\nos.system('x')",
        "from os import popen",
        "import os\nos.execvp('x', [])",
        "import os\nos.spawnl(0, 'x')",
        "import os\nrun = os.posix_spawn",
        "def late():\n    import pty",
        "import multiprocessing.pool",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
    ],
)
def test_every_way_to_start_a_program_is_seen(text: str) -> None:
    assert breaches({"errors": text}, starts_programs, "system.process")


def test_only_the_console_prints_asks_and_exits() -> None:
    """And what exits where the program that replaces it cannot start."""
    assert (
        breaches(
            SOURCES,
            prints,
            "streams",
            "cli.terminal",
            "cli.output",
            "cli.common",
            "system.nolinks",
        )
        == []
    )


def test_only_the_edge_knows_the_command_line() -> None:
    inner = {name: text for name, text in SOURCES.items() if folder(name) != "cli"}
    assert breaches(inner, lambda name: name.partition(".")[0] == "click") == []


def test_the_command_line_is_typed() -> None:
    edge = {name: text for name, text in SOURCES.items() if folder(name) == "cli"}
    assert breaches(edge, lambda name: name in {"Any", "typing.Any"}) == []
    assert breaches({"x": "from typing import Any"}, lambda name: name == "typing.Any")


@pytest.mark.parametrize(
    "text",
    [
        "print('x')",
        "import click\nclick.echo('x')",
        "from click import secho",
        "import sys\nsys.stdout.write('x')",
        "import sys\nwrite = sys.stderr.write",
        "from sys import stderr",
        "from rich import print",
    ],
)
def test_every_way_to_print_is_seen(text: str) -> None:
    assert breaches({"errors": text}, prints, "cli.common")


def test_no_shell_ever_sees_a_command() -> None:
    found = [
        f"{module}:{node.value.lineno}"
        for module in MODULES
        for node in nodes(SOURCES[module])
        if isinstance(node, ast.keyword) and node.arg == "shell"
    ]
    assert found == []


def test_packages_hold_nothing_but_a_docstring() -> None:
    for package in PACKAGES:
        body = ast.parse(SOURCES[package]).body
        assert len(body) == 1, f"{package or TOP}/__init__.py"
        assert isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        assert isinstance(body[0].value.value, str)


def test_functions_are_short() -> None:
    lengths = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in MODULES
        for node in nodes(SOURCES[module])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


def test_modules_are_short() -> None:
    lengths = {module: len(SOURCES[module].splitlines()) for module in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_folders_hold_few_names() -> None:
    names = {name: sum(folder(module) == name for module in MODULES) for name in STEPS}
    assert len(STEPS) - 1 <= 13
    assert {name: number for name, number in names.items() if number > MOST_NAMES} == {}


def pythons_words(text: str) -> list[int]:
    """Return the lines that put the text of what the system refused into words of ours."""
    found = []
    for handler in nodes(text):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        caught = {
            dotted(node).rpartition(".")[2] for node in ast.walk(handler.type or ast.Tuple(elts=[]))
        }
        if not caught & {"OSError", "FileNotFoundError", "URLError", "KeyError", "TypeError"}:
            continue
        for node in ast.walk(handler):
            told = node.value if isinstance(node, ast.FormattedValue) else None
            if isinstance(node, ast.Call) and dotted(node.func) == "str" and node.args:
                told = node.args[0]
            if isinstance(told, ast.Name) and told.id == handler.name:
                found.append(getattr(node, "lineno", 0))
    return found


def test_nobody_is_told_in_pythons_words_what_the_system_refused() -> None:
    """As "[Errno 2] No such file or directory: 'x'"; errors.reason has the words."""
    found = {module: lines for module, text in SOURCES.items() if (lines := pythons_words(text))}
    assert found == {}
    assert pythons_words("try: pass\nexcept OSError as error: tell(f'{error}')") == [2]
    assert pythons_words("try: pass\nexcept (A, OSError) as error: tell(str(error))") == [2]
