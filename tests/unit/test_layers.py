"""The architecture, held against every module's syntax tree."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping

import pytest

from tests.unit.builders import PACKAGE

TOP = "gitlab_mm_backup"
# Lowest first; a module may import only what is listed before it.
LAYERS = {
    "0 values": (
        "errors",
        "system.clock",
        "system.dates",
        "config.hostname",
        "system.run_id",
        "system.bug",
        "system.signals",
        "system.redaction",
        "system.environment",
        "version",
        "mattermost.effective_config",
        "mattermost.site",
        "system.validation",
        "system.documents",
        "config.origin",
        "store.properties",
        "store.manifest",
        "store.retention",
        "config.remote",
        "offsite.gitlab_upload",
        "offsite.copies",
        "system.files",
        "system.reading",
        "system.memory",
        "restore.undo_log",
        "sso.stored_secret",
        "result",
        "system.humanize",
        "rehearsal.limits",
        "store.caveats",
        "system.progress",
        "config.options",
        "config.schema",
        "config.option_text",
        "health.charts",
        "restore.plan",
        "checks",
        "store.check_records",
        "system.discreet",
        "system.sandbox",
        "system.confinement",
        "system.privileges",
        "system.endings",
        "store.forward",
        "system.cleanup",
        "postgresql.search_path_filter",
        "system.nolinks",
        "store.throttle",
        "postgresql.index",
    ),
    "1 one outside thing each": (
        "system.private_files",
        "system.process",
        "system.parallel",
        "system.namespaces",
        "system.disk_space",
        "config.config_file",
        "mattermost.omnibus_files",
        "config.settings",
        "mattermost.json_text",
        "mattermost.json_file",
        "mattermost.settings_part",
        "mattermost.gitlab_rb",
        "system.lock",
        "restore.journal",
        "mattermost.trust",
        "store.places",
        "system.traces",
        "config.identity",
        "config.keys",
        "store.accepted",
        "store.pruned",
        "offsite.ledger",
        "backup.schedule",
        "health.scheduler",
        "system.log",
        "store.restic",
        "store.source",
        "store.part",
        "store.ground",
        "store.local",
        "store.sets",
        "store.restic_set",
        "store.restic_store",
        "store.lineage",
        "store.inventory",
        "store.records",
        "store.soundness",
        "health.remarks",
        "store.hosts",
        "health.runs",
        "health.monitoring",
        "health.pages",
        "offsite.rclone",
        "offsite.age",
        "offsite.bound",
        "offsite.remote_store",
        "health.metrics",
        "health.notify",
        "system.isolation",
    ),
    "2 what a Mattermost is": (
        "config.hooks",
        "restore.folder_swap",
        "system.fstab",
        "store.archive_writer",
        "mattermost.targets",
        "backup.attributes",
        "store.archive_reader",
        "store.file_list",
        "store.verify",  # of a set alone; beside takes a name from it
        "mattermost.systemd",
        "mattermost.listener",
        "mattermost.service_log",
        "mattermost.service",
        "postgresql.contents",
        "postgresql.encodings",
        "postgresql.catalog",
        "postgresql.answers",
        "postgresql.sequences",
        "postgresql.unkept",
        "postgresql.connection",
        "postgresql.clients",
        "postgresql.growth",
        "postgresql.dump",
        "postgresql.dump_contents",
        "postgresql.restorable",
        "postgresql.passes",
        "postgresql.provisions",
        "postgresql.swap",
        "postgresql.data_source",
        "mattermost.omnibus",
        "mattermost.standalone",
        "mattermost.detect",
        "sso.oauth",
        "sso.credentials",
        "restore.unpacking",
        "restore.config_merge",
        "restore.unpack",
        "postgresql.scratch",
        "postgresql.guest",
        "rehearsal.warden",
        "postgresql.load",
        "restore.version_rules",
        "restore.fitness",
        "rehearsal.integrity",
        "rehearsal.boot",
    ),
    "3 jobs": (
        "sso.check",
        "sso.candidates",
        "sso.repair",
        "restore.rollback",
        "backup.shrinkage",
        "store.prune",
        "backup.live",
        "restore.choice",
        "restore.search_index",
        "backup.incremental",
        "backup.parts",
        "backup.absence",
        "backup.description",
        "backup.baseline",
        "restore.offered",
        "offsite.upload",
        "offsite.sync",
        "offsite.download",
        "restore.elsewhere",
        "backup.room",
        "backup.job",
        "backup.salvage",
        "backup.sites",
        "backup.from_disk",
        "restore.vacancy",
        "restore.suitable",
        "restore.replacing",
        "restore.preflight",
        "restore.source",
        "restore.to_standalone",
        "restore.preview",
        "restore.job",
        "rehearsal.checks",
        "rehearsal.job",
        "health.rating",
        "health.report",
        "health.html",
        "offsite.recovery_kit",
        "cli.kit_outcomes",
        "health.doctor",
        "health.status",
        "health.upgrade_gate",
        "health.upgrade_check",
        "health.aftermath",
        "health.alerts",
        "cli.config",
        "cli.search_outcomes",
        "cli.restore_outcomes",
        "cli.outcomes",
        "cli.sign_in_outcomes",
        "cli.status_outcomes",
        "cli.offsite_outcomes",
        "cli.hosts_outcomes",
        "sso.accounts",
        "cli.accounts_outcomes",
        "cli.notify_outcomes",
    ),
    "4 edge": (
        "cli.streams",
        *(
            "cli.terminal",
            "cli.preload",
            "cli.manner",
            "cli.output",
            "cli.consent",
            "cli.common",
            "cli.config_verbs",
            "cli.health",
            "cli.look_verbs",
        ),
        *("cli.account_verbs", "cli.notify_verb", "cli.place_verbs", "cli.sso"),
        "cli.offsite",
        "cli.hosts",
        "cli.restore",
        "cli.main",
        "cli.start",
    ),
}
ORDER = [module for layer in LAYERS.values() for module in layer]
STARTERS = {"subprocess", "pty", "multiprocessing"}
OS_STARTERS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile"}
LONGEST_FUNCTION = 50
LONGEST_MODULE = 400

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


def target(name: str) -> str | None:
    """Return the module of ours that the imported ``name`` leads to, None for foreign ones."""
    if name != TOP and not name.startswith(f"{TOP}."):
        return None
    inner = name[len(TOP) + 1 :]
    while inner and inner not in ORDER:
        inner = inner.rpartition(".")[0]
    return inner or name


def upward(sources: Sources) -> list[str]:
    """Return each import that does not point down, in words."""
    found = []
    for module in sorted(set(sources) - PACKAGES):
        below = ORDER[: ORDER.index(module)] if module in ORDER else []
        for line, name in imports(module, sources[module]):
            leads_to = target(name)
            if leads_to is not None and leads_to not in below:
                found.append(f"{module}:{line} imports {leads_to}")
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
    return any(name == one or name.startswith(f"{one}.") for one in names)


def breaches(sources: Sources, test: object, *allowed: str) -> list[str]:
    assert callable(test)
    return [
        f"{module}:{line} {name}"
        for module in sorted(sources)
        if module not in allowed
        for line, name in mentioned(module, sources[module])
        if test(name)
    ]


def test_every_module_is_in_the_table_once() -> None:
    assert sorted(ORDER) == MODULES


def test_every_import_points_down() -> None:
    assert upward(SOURCES) == []


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
    below = {module for module in MODULES if module not in LAYERS["4 edge"]}
    own = {"system.cleanup", "system.nolinks", "postgresql.search_path_filter"}
    assert below - loaded == own, "which process and clients keep"


def test_nothing_is_imported_by_a_computed_name() -> None:
    dynamic = {"importlib.import_module", "__import__", "importlib.util", "runpy", "exec", "eval"}
    assert breaches(SOURCES, lambda name: name in dynamic) == []


def test_json_and_yaml_of_others_come_through_one_door() -> None:
    """Those named read what is found in the middle of a remote's answer, with limits, or our own file."""

    def parses(name: str) -> bool:
        loads = {"json.loads", "json.load", "json.JSONDecoder", "yaml.SafeLoader"}
        return name in loads or name.startswith(("yaml.load", "yaml.safe_load", "yaml.compose"))

    doors = ("system.documents", "mattermost.json_text", "offsite.bound", "config.config_file")
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
    """And what ends with an exit code of its own where the program cannot begin that it becomes."""
    assert (
        breaches(
            SOURCES,
            prints,
            "cli.streams",
            "cli.terminal",
            "cli.output",
            "cli.common",
            "system.nolinks",
        )
        == []
    )


def test_only_the_edge_knows_the_command_line() -> None:
    inner = {name: text for name, text in SOURCES.items() if name not in LAYERS["4 edge"]}
    assert breaches(inner, lambda name: name.partition(".")[0] == "click") == []


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


def pythons_words(text: str) -> list[int]:
    """Return the lines that put the text of what the system refused into words of ours."""
    found = []
    for handler in nodes(text):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        caught = {
            dotted(one).rpartition(".")[2] for one in ast.walk(handler.type or ast.Tuple(elts=[]))
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
