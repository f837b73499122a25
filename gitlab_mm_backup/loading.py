"""Loading a set's database beside whatever is live, in a restore and in a rehearsal alike."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import clients, database, dump_list, exchange, passes, tasks
from .errors import Failure
from .index import Index
from .manifest import Manifest
from .passes import Passes
from .site import Endpoint
from .store.local import BackupSet
from .version import numbers

# From 6.0 on Mattermost leaves its indexes to migrations, which it does once; before, it makes
# a search index that is missing each time it starts, and lets nobody in until it is done.
_KEEPS_INDEXES = (6,)


@dataclass(frozen=True)
class Filled:
    """What came of loading a dump."""

    left_out: list[Index]  # of the search, to be built later or not at all
    extensions: list[str]  # that the dump was made with


def create(set_: BackupSet, endpoint: Endpoint, name: str) -> list[str]:
    """Make the empty database ``name`` at ``endpoint`` for the set's dump; return warnings."""
    return exchange.create_beside(endpoint, name, set_.manifest.database)


def fill(
    set_: BackupSet,
    endpoint: Endpoint,
    programs: Path,
    name: str,
    sessions: int,
    *,
    search: bool = True,
) -> Filled:
    """Load the set's dump into the empty database ``name``, in ``sessions`` at a time.

    Opens no connection of this process's own, so it may run beside work on files.  Without
    ``search`` the indexes of the search are left out where Mattermost bears that.
    Raises Failure when the dump cannot be loaded whole.
    """
    archive, manifest = set_.file("database"), set_.manifest
    contents = dump_list.read(programs, archive)
    left_out = [] if search or not bears_no_search(manifest) else contents.search
    without = [index.full_name for index in left_out]
    planned = passes.plan(contents, manifest.database.rows, sessions, without)
    load = functools.partial(clients.load, endpoint, programs, name, archive)
    execute = functools.partial(clients.execute, endpoint, programs, name)
    load(planned.first, rows=True)
    tasks.together(*middle(planned, load, execute), at_a_time=sessions)
    if planned.keys:
        execute([key.constraint for key in planned.keys])
    if planned.last:
        load(planned.last)
    return Filled(left_out, contents.extensions)


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


def count(endpoint: Endpoint, name: str) -> dict[str, int]:
    """Give the loaded database its statistics, and return the rows of its tables."""
    # Opened one after the other, before any thread: for that we act as another account.
    with database.within(endpoint, name) as first, database.within(endpoint, name) as second:
        _, rows = tasks.together(
            lambda: database.analyze(first),
            lambda: database.count_rows(second),
            cancel=lambda: database.cancel(first, second),
        )
        return dict(rows)


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
