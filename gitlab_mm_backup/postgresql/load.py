"""Load a set's database next to the live one, in parallel passes, and compare it with the set.

Used by a restore and by a rehearsal.
"""

from __future__ import annotations

import functools
import itertools
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import checks
from ..errors import Failure
from ..store.manifest import Manifest
from ..store.sets import BackupSet
from ..system import parallel, progress
from ..version import numbers
from . import catalog, clients, connection, dump_contents, provisions, swap
from .dump_contents import DumpList, Index, Key
from .endpoint import Endpoint
from .index_builds import IndexBuilds, counted
from .provisions import Provision

_INDEX_LINE = re.compile(r"^\d+; \d+ \d+ INDEX (\S+) (\S+) ")
_CONSTRAINT_LINE = re.compile(r"^\d+; \d+ \d+ CONSTRAINT (\S+) (\S+) (\S+) ")
_ROWS_LINE = re.compile(r"^\d+; \d+ \d+ TABLE DATA (\S+) (\S+) ")
_VIEW_LINE = re.compile(r"^\d+; \d+ \d+ MATERIALIZED VIEW (DATA )?")
# From 6.0 on migrations create Mattermost's indexes, once; before, each start created a missing
# search index, and sign-in was not possible until that was done.
_KEEPS_INDEXES = (6,)
# PostgreSQL's errors for a missing privilege, or an object that is not in the dump.
_BEYOND_OWNER = re.compile(
    r"ERROR: .*(?:permission denied|[Mm]ust be (?:a )?superuser|must be owner|does not exist"
    r"|could not (?:open|access|load|create locale)|not available|only superuser)"
)
_BROKEN_ROWS = re.compile(
    r"ERROR: .*(?:violates .* constraint|is violated by some row|could not create unique)"
)
_MEND = (
    "Rows of the database that was backed up violate this constraint. Fix them there, or drop the "
    "constraint, then make a new set."
)
_WAY_OUT = (
    "The set is loaded as Mattermost's role, which cannot create this object. Provide it on this "
    "server (install its package, create the role), or drop it from the live database. "
    "docs/what-a-backup-contains.md lists what a restore cannot create."
)


@dataclass(frozen=True)
class Passes:
    """The lines of a dump in load passes, and the keys that the load creates itself.

    ``long`` lines can begin after the first pass; ``beside`` lines need all rows.
    """

    first: Sequence[str]  # tables, functions, and rows as far as a long one needs them
    long: Sequence[str]  # search indexes, each created in a separate session
    rows: Sequence[str]  # all other rows
    beside: Sequence[Sequence[str]]  # one group for each session; none is empty
    keys: Sequence[Key]  # their indexes are created in parallel, the constraints last
    last: Sequence[str]  # what locks whole tables, or relies on what came before

    @property
    def indexes(self) -> int:
        """The number of indexes that the load builds, those of constraints too."""
        lines = [*self.long, *itertools.chain(*self.beside), *self.last]
        return counted(lines) + len(self.keys)


def plan_passes(
    contents: DumpList, rows: Mapping[str, int], sessions: int, without: Collection[str] = ()
) -> Passes:
    """Return the passes that load ``contents`` in ``sessions`` parallel sessions.

    The search indexes of the largest table are the long ones: one of them takes longer than
    everything else together. CREATE INDEX takes a lock that other CREATE INDEX share, ALTER TABLE
    an exclusive one (PostgreSQL manual, 13.3.1). So for tables with other long work, the indexes
    of keys are created in parallel, and the constraints in the last pass. Materialized views are
    filled in parallel, because they only read. ``rows`` (schema.table -> rows) weigh the tables;
    ``without`` names indexes to leave out (schema.index).
    """
    lines = [_explained_line(line, contents, rows) for line in contents.after]
    lines = [line for line in lines if line.index is None or line.index.full_name not in without]
    search = [line for line in lines if line.index and line.index.of_the_search]
    largest = max(lines, key=lambda line: line.rows, default=_ListLine(""))
    busy = {line.table for line in (largest, *search)}
    keys = [line for line in lines if line.key and line.table in busy]
    beside = [
        line
        for line in lines
        if line.table and line not in search and (line.index or line.table not in busy)
    ]
    views = _views(contents)
    most = max((line.rows for line in search), default=0)
    long = [line for line in search if line.rows == most]
    others = [line.text for line in search if line not in long]
    first, rest = _cut(contents.first, {line.table for line in long})
    taken = {*views, *(line.text for line in (*search, *keys, *beside))}
    return Passes(
        first,
        [line.text for line in long],
        rest,
        [group for group in (views, *_spread(beside, 2 * sessions), others) if group],
        [line.key for line in keys if line.key],
        [line.text for line in lines if line.text not in taken],
    )


@dataclass(frozen=True)
class _ListLine:
    """A line of the list, and its meaning."""

    text: str
    table: str = ""  # schema.table of an index or a plain constraint, "" for anything else
    rows: int = 0  # of the table
    index: Index | None = None
    key: Key | None = None  # where it is a plain one


def _explained_line(line: str, contents: DumpList, rows: Mapping[str, int]) -> _ListLine:
    found = _INDEX_LINE.match(line)
    if found:
        index = contents.indexes.get(f"{found[1]}.{found[2]}")
        table = index.full_table if index else ""
        return _ListLine(line, table, rows.get(table, 0), index)
    found = _CONSTRAINT_LINE.match(line)
    if found:
        table = f"{found[1]}.{found[2]}"
        # Only ordinary tables have row counts; a partitioned one cannot get a key this way.
        key = contents.keys.get(f"{found[1]}.{found[3]}") if table in rows else None
        return _ListLine(line, table, rows.get(table, 0), None, key)
    return _ListLine(line)


def _cut(lines: Sequence[str], tables: Collection[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Cut ``lines`` after the last one with rows of one of ``tables``; at the end without any."""
    found = [_ROWS_LINE.match(line) for line in lines]
    ends = [at for at, match in enumerate(found, 1) if match and f"{match[1]}.{match[2]}" in tables]
    end = max(ends, default=len(lines))
    return lines[:end], lines[end:]


def _views(contents: DumpList) -> list[str]:
    """Return the lines that fill views, in order; none where a view itself comes late.

    pg_dump postpones a view that groups by a primary key, because the key comes last.
    """
    found = [(line, _VIEW_LINE.match(line)) for line in contents.after]
    if any(match and not match[1] for _, match in found):
        return []
    return [line for line, match in found if match]


def _spread(lines: Iterable[_ListLine], into: int) -> list[list[str]]:
    """Distribute ``lines``, the heaviest first, each to the group with the least work.

    Within a group constraints come first and large tables last: a primary key blocks all other
    work on its table, so it is created while the other groups are at other tables.
    """

    def load(group: list[_ListLine]) -> int:
        return sum(line.rows for line in group)

    groups: list[list[_ListLine]] = [[] for _ in range(into)]
    for line in sorted(lines, key=lambda line: -line.rows):
        min(groups, key=load).append(line)
    groups.sort(key=load, reverse=True)
    return [
        [item.text for item in sorted(group, key=lambda line: (line.index is not None, line.rows))]
        for group in groups
    ]


@dataclass(frozen=True)
class Filled:
    """The result of loading a dump."""

    left_out: list[Index]  # of the search, to be built later or not at all
    extensions: list[str]  # that the dump was made with
    told: list[str]  # in words, what could not be put back


def plan(set_: BackupSet, endpoint: Endpoint, programs: Path) -> Provision:
    """Return what the set's database gets at ``endpoint``; changes nothing."""
    lines = dump_contents.read(programs, set_.file("database")).lines
    return provisions.plan(lines, set_.manifest.properties, endpoint)


def create(set_: BackupSet, endpoint: Endpoint, name: str, provision: Provision) -> list[str]:
    """Create the empty database ``name`` at ``endpoint`` for the set's dump; return warnings."""
    return swap.create_beside(endpoint, name, set_.manifest.database, provision)


def fill(
    set_: BackupSet,
    endpoint: Endpoint,
    programs: Path,
    name: str,
    sessions: int,
    provision: Provision,
    *,
    search: bool = True,
) -> Filled:
    """Load the set's dump into the empty database ``name``, in ``sessions`` parallel sessions.

    Opens no connection in this process, so it may run while other threads work on files. Without
    ``search`` the search indexes are left out where Mattermost can start without them. Raises
    Failure when the dump cannot be loaded completely.
    """
    archive, manifest = set_.file("database"), set_.manifest
    contents = dump_contents.read(programs, archive)
    extensions = contents.extensions
    contents = contents.only(set(provision.contents.lines))
    left_out = [] if search or not bears_no_search(manifest) else contents.search
    without = [index.full_name for index in left_out]
    planned = plan_passes(contents, manifest.database.rows, sessions, without)
    builds = IndexBuilds()
    load = functools.partial(clients.load, endpoint, programs, name, archive, builds)
    execute = functools.partial(clients.execute, endpoint, programs, name)
    try:
        with builds.shown(planned.indexes):
            _run_passes(planned, load, execute, builds, sessions)
    except Failure as failure:
        raise _explained(failure) from None
    told = _grant(endpoint, programs, name, archive, contents, provision)
    return Filled(left_out, extensions, told)


def _run_passes(
    planned: Passes,
    load: Callable[..., None],
    execute: Callable[[list[str]], None],
    builds: IndexBuilds,
    sessions: int,
) -> None:
    def build(statements: list[str]) -> None:
        execute(statements)
        builds.add(len(statements))

    load(planned.first, rows=True)
    parallel.run_all(*middle(planned, load, build), at_a_time=sessions)
    if planned.keys:
        execute([key.constraint for key in planned.keys])
    if planned.last:
        load(planned.last)


def _explained(failure: Failure) -> Failure:
    """Return the failure of a load, with a hint where the dump itself is intact."""
    if failure.hint:
        return failure
    if _BROKEN_ROWS.search(failure.detail):
        return Failure(failure.message, failure.detail, f"{checks.LASTING}. {_MEND}")
    if not _BEYOND_OWNER.search(failure.detail):
        return failure
    return Failure(failure.message, failure.detail, f"{checks.LASTING}. {_WAY_OUT}")


def _grant(
    endpoint: Endpoint,
    programs: Path,
    name: str,
    archive: Path,
    contents: DumpList,
    provision: Provision,
) -> list[str]:
    """Restore the privileges of this server's roles; return the refused ones."""
    found = dump_contents.grants(programs, archive, contents.lines)
    statements = provisions.granted(found, provision.roles, provision.owner, endpoint.owner.role)
    complaints = clients.try_each(endpoint, programs, name, statements)
    return [f"A privilege could not be put back: {complaint}" for complaint in complaints]


def middle(
    planned: Passes, load: Callable[..., None], execute: Callable[[list[str]], None]
) -> Iterator[Callable[[], None]]:
    """Yield the parallel tasks, in the order of their start."""
    there = threading.Event()

    def fill_tables() -> None:
        try:
            if planned.rows:
                load(planned.rows, rows=True)
        finally:
            there.set()  # also after a failure: the others must not wait

    def when_filled(task: Callable[[], None]) -> None:
        there.wait()
        task()

    for line in planned.long:
        yield functools.partial(load, [line])
    yield fill_tables
    if planned.keys:
        indexes = [key.index for key in planned.keys]
        yield functools.partial(when_filled, functools.partial(execute, indexes))
    for lines in planned.beside:
        yield functools.partial(when_filled, functools.partial(load, lines))


def bears_no_search(manifest: Manifest) -> bool:
    """Tell whether the set's Mattermost can start without the search indexes."""
    return numbers(manifest.mattermost) >= _KEEPS_INDEXES


@progress.waiting("row counts")
def prove(endpoint: Endpoint, name: str, manifest: Manifest) -> None:
    """Analyze the loaded database, and compare it with the set.

    Raises Failure where rows are missing, or where Mattermost's sessions do not find its tables.
    """
    # Opened before any thread starts: it needs another effective user id for a moment.
    with connection.within(endpoint, name) as first, connection.within(endpoint, name) as second:
        _, rows = parallel.run_all(
            lambda: connection.analyze(first),
            lambda: connection.count_rows(second),
            cancel=lambda: connection.cancel(first, second),
        )
        compare_rows(rows, manifest.database.rows)
        compare_seen(catalog.seen(second), manifest)


def compare_seen(found: Mapping[str, str], manifest: Manifest) -> None:
    """Raise Failure where a session of Mattermost ``find``s its tables in other schemas."""
    wanted = manifest.properties.tables if manifest.properties else {}
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other and manifest.properties:
        raise Failure(
            "Mattermost's tables are not where it looks for them in the restored database",
            "; ".join(
                f"{name}: {found.get(name, 'none')}, not {wanted[name]}.{name}" for name in other
            ),
            f"The search_path of its sessions was {manifest.properties.search_path}: set it so for "
            "Mattermost's role (ALTER ROLE ... SET search_path) or in its DataSource, then try again.",
        )


def compare_rows(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise Failure naming each table with another row count than the backup."""
    if found == wanted:
        return
    tables = [table for table in sorted({*found, *wanted}) if found.get(table) != wanted.get(table)]
    raise Failure(
        "The row counts of the restored database differ from the backup",
        "; ".join(f"{table}: {found.get(table)}, not {wanted.get(table)}" for table in tables),
        "The set's dump is incomplete; choose another set.",
    )
