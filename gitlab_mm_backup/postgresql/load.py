"""Loading a set's database beside whatever is live, in a restore and in a rehearsal alike."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import checks
from ..errors import Failure
from ..store.manifest import Manifest
from ..store.sets import BackupSet
from ..system import parallel
from ..version import numbers
from . import catalog, clients, connection, dump_contents, passes, provisions, swap
from .dump_contents import DumpList
from .endpoint import Endpoint
from .index import Index
from .passes import Passes
from .provisions import Provision

# From 6.0 on Mattermost leaves its indexes to migrations, which it does once; before, it makes
# a search index that is missing each time it starts, and lets nobody in until it is done.
_KEEPS_INDEXES = (6,)

# What PostgreSQL says where the database's owner lacks a right, or something that is not in the dump.
_BEYOND_OWNER = re.compile(
    r"ERROR: .*(?:permission denied|[Mm]ust be (?:a )?superuser|must be owner|does not exist"
    r"|could not (?:open|access|load|create locale)|not available|only superuser)"
)
_BROKEN_ROWS = re.compile(
    r"ERROR: .*(?:violates .* constraint|is violated by some row|could not create unique)"
)
_MEND = (
    "The rows of the database that was backed up break the constraint that the message names. Mend them "
    "there, or drop the constraint, then make a new set."
)
_WAY_OUT = (
    "It is loaded as Mattermost's role, which cannot create what the message names. Have this server "
    "provide it (install its package, create the role), or drop it from the live database. The "
    "page what-a-backup-contains tells what a restore cannot create."
)


@dataclass(frozen=True)
class Filled:
    """What came of loading a dump."""

    left_out: list[Index]  # of the search, to be built later or not at all
    extensions: list[str]  # that the dump was made with
    told: list[str]  # in words, what could not be put back


def plan(set_: BackupSet, endpoint: Endpoint, programs: Path) -> Provision:
    """Return what becomes of the set's database at ``endpoint``; changes nothing."""
    lines = dump_contents.read(programs, set_.file("database")).lines
    return provisions.plan(lines, set_.manifest.properties, endpoint)


def create(set_: BackupSet, endpoint: Endpoint, name: str, provision: Provision) -> list[str]:
    """Make the empty database ``name`` at ``endpoint`` for the set's dump; return warnings."""
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
    """Load the set's dump into the empty database ``name``, in ``sessions`` at a time.

    Opens no connection of this process's own, so it may run beside work on files.  Without
    ``search`` the indexes of the search are left out where Mattermost bears that.
    Raises Failure when the dump cannot be loaded whole.
    """
    archive, manifest = set_.file("database"), set_.manifest
    contents = dump_contents.read(programs, archive)
    extensions = contents.extensions
    contents = contents.only(set(provision.contents.lines))
    left_out = [] if search or not bears_no_search(manifest) else contents.search
    without = [index.full_name for index in left_out]
    planned = passes.plan(contents, manifest.database.rows, sessions, without)
    load = functools.partial(clients.load, endpoint, programs, name, archive)
    execute = functools.partial(clients.execute, endpoint, programs, name)
    try:
        load(planned.first, rows=True)
        parallel.together(*middle(planned, load, execute), at_a_time=sessions)
        if planned.keys:
            execute([key.constraint for key in planned.keys])
        if planned.last:
            load(planned.last)
    except Failure as failure:
        raise _explained(failure) from None
    told = _grant(endpoint, programs, name, archive, contents, provision)
    return Filled(left_out, extensions, told)


def _explained(failure: Failure) -> Failure:
    """Return the failure of a load; with its way out where the dump is as whole as it can be."""
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
    """Give the roles of this server the privileges that they had; return what was refused."""
    found = dump_contents.grants(programs, archive, contents.lines)
    statements = provisions.granted(found, provision.roles, provision.owner, endpoint.owner.role)
    complaints = clients.try_each(endpoint, programs, name, statements)
    return [f"A privilege could not be put back: {one}" for one in complaints]


def middle(
    planned: Passes, load: Callable[..., None], execute: Callable[[list[str]], None]
) -> Iterator[Callable[[], None]]:
    """Yield what is done side by side, in the order in which it is begun."""
    there = threading.Event()

    def fill_tables() -> None:
        try:
            if planned.rows:
                load(planned.rows, rows=True)
        finally:
            there.set()  # also where that failed: then nobody may wait

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
    """Tell whether the set's Mattermost starts at once without the indexes of the search."""
    return numbers(manifest.mattermost) >= _KEEPS_INDEXES


def prove(endpoint: Endpoint, name: str, manifest: Manifest) -> None:
    """Give the loaded database its statistics, and hold it against the set.

    Raises Failure where rows are missing, or where Mattermost's sessions do not find its tables.
    """
    # Opened one after the other, before any thread: for that we act as another account.
    with connection.within(endpoint, name) as first, connection.within(endpoint, name) as second:
        _, rows = parallel.together(
            lambda: connection.analyze(first),
            lambda: connection.count_rows(second),
            cancel=lambda: connection.cancel(first, second),
        )
        compare_rows(rows, manifest.database.rows)
        compare_seen(catalog.seen(second), manifest)


def compare_seen(found: Mapping[str, str], manifest: Manifest) -> None:
    """Raise Failure where a session of Mattermost's does not ``find`` its tables as it did."""
    wanted = manifest.properties.tables if manifest.properties else {}
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other and manifest.properties:
        raise Failure(
            "Mattermost would not find its tables in the restored database",
            "; ".join(
                f"{name}: {found.get(name, 'none')}, not {wanted[name]}.{name}" for name in other
            ),
            f"The search_path of its sessions was {manifest.properties.search_path}: set it so for "
            "Mattermost's role (ALTER ROLE ... SET search_path) or in its DataSource, then try again.",
        )


def compare_rows(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise Failure naming each table that has not the rows that were backed up."""
    if found == wanted:
        return
    tables = [one for one in sorted({*found, *wanted}) if found.get(one) != wanted.get(one)]
    raise Failure(
        "The restored database does not have the rows that were backed up",
        "; ".join(f"{one}: {found.get(one)}, not {wanted.get(one)}" for one in tables),
        "The set's dump is not whole; choose another set.",
    )
