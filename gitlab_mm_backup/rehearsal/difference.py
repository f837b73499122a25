"""What differs between two states of Mattermost's database: of two sets, or of a set and the live one.

Each row becomes its key and a digest, in files without names below the scratch directory, parted by
the key. So the memory does not grow with the rows, and nothing is left whatever happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from ..errors import Failure, reason
from ..mattermost.site import Site
from ..postgresql import catalog, clients, connection, scratch
from ..postgresql.catalog import Unread
from ..store.sets import BackupSet
from ..system import process
from . import described, dump_rows, search
from .described import Described
from .directory import Channel, Directory, Team, User
from .dump_rows import Table
from .search import Message, Upload

LIVE = "live"
MOST_NAMED = 1000  # changes of each kind that are described
_PARTS = 64  # files of each state
_ROW_BYTES = 100  # of a row in them, about
_DIGEST_BYTES = 12
_KEY = re.compile(
    rb"^ALTER TABLE (?:ONLY )?(?:[^\s.]+\.)?(\S+)\n +ADD CONSTRAINT .* PRIMARY KEY \((.*)\);$", re.M
)
#: Tables of what people know -> its name in the output.
THINGS = {
    "teams": "teams",
    "channels": "channels",
    "users": "users",
    "posts": "posts",
    "fileinfo": "uploads",
}
_DELETED = "deleteat"  # column of a row that may be marked as deleted

Keys = Mapping[str, Sequence[str]]  # columns of the primary keys, by table


@dataclass(frozen=True)
class State:
    """A state of the database that can be read, as often as it is opened."""

    name: str  # of the set, or LIVE
    encoding: str  # Python's name
    rows: int  # about
    opened: Callable[[], AbstractContextManager[IO[bytes]]]  # COPY in text form
    unread: Sequence[Unread] = ()  # what Mattermost's role may not read


@dataclass
class Changes:
    """Keys of the rows that are only in the later state, differ, or are only in the earlier one."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass
class TableDifference:
    """How many rows of a table differ."""

    added: int = 0
    changed: int = 0  # 0 where the columns differ: not all values can be compared
    removed: int = 0
    columns: Sequence[str] = ()  # that only one of the states has

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.columns)


@dataclass
class Difference:
    """What differs, by table; a thing that is marked as deleted counts as removed."""

    tables: dict[str, TableDifference] = field(default_factory=dict)
    things: dict[str, Changes] = field(default_factory=lambda: {name: Changes() for name in THINGS})


class Change(NamedTuple):
    """What became of one thing."""

    way: str  # added, changed or removed
    thing: Described


def of_set(set_: BackupSet) -> State:
    """Return the state that a set holds."""
    database = set_.manifest.database
    codec, rows = dump_rows.codec(database.encoding), set_.manifest.rows
    return State(set_.name, codec, rows, lambda: dump_rows.printed(set_, "--data-only"))


def of_live(site: Site, set_: BackupSet) -> State:
    """Return the live state, of the schema that ``set_`` has; raises Failure where none answers."""
    endpoint = site.database
    with connection.within(endpoint) as session:
        row = session.execute("SELECT current_setting('server_encoding')").fetchone()
        unread = catalog.unread(session)
    encoding = str(row[0]) if row else "UTF8"
    command = clients.print_rows(
        endpoint,
        site.client_programs,
        dump_rows.schema(set_),
        encoding,
        [(table.schema, table.name) for table in unread],
    )

    @contextlib.contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with process.output(command) as (stream, _):
            yield stream

    return State(LIVE, dump_rows.codec(encoding), set_.manifest.rows, opened, unread)


def keys(set_: BackupSet) -> Keys:
    """Return the primary keys in a set's dump; raises Failure."""
    with dump_rows.printed(set_, "--schema-only") as stream:
        return parse_keys(stream.read())


def parse_keys(script: bytes) -> Keys:
    """Return the primary keys in a script of pg_restore."""
    return {
        name.strip(b'"').decode(errors="replace"): dump_rows.names(columns)
        for name, columns in _KEY.findall(script)
    }


def compare(before: State, after: State, keys: Keys, parent: Path) -> Difference:
    """Return what differs; ``parent`` is the directory for files that have no names.

    Tables that ``after`` cannot read are passed over. Rows of a table without a primary key are
    added or removed, and equal ones count once. Raises Failure where a state cannot be read, or
    the disk is full.
    """
    room = (before.rows + after.rows) * _ROW_BYTES
    scratch.refuse_without_room(parent, room, "a comparison")
    try:
        with ExitStack() as opened:
            earlier, later = (_Rows(opened, parent, keys) for _ in range(2))
            hidden = {table.name for table in after.unread}
            earlier.read(before, hidden)
            later.read(after, hidden)
            return _compared(earlier, later)
    except OSError as error:
        raise Failure(f"{parent} cannot be written", reason(error), scratch.WAYS) from error


class _Rows:
    """The keys and digests of a state's rows, in files."""

    def __init__(self, opened: ExitStack, parent: Path, keys: Keys) -> None:
        self.columns: dict[str, list[str]] = {}
        self._keys = keys
        files = (tempfile.TemporaryFile(dir=parent) for _ in range(_PARTS))  # noqa: SIM115
        self._parts = [opened.enter_context(file) for file in files]

    def read(self, state: State, hidden: Collection[str]) -> None:
        with state.opened() as stream:
            for name, columns, lines in dump_rows.tables_in(stream):
                if name not in hidden:
                    self.columns[name] = columns
                    self._add(name, columns, lines)

    def _add(self, name: str, columns: list[str], lines: Iterator[bytes]) -> None:
        """Write a record for each row: table, key, whether it is marked as deleted, digest."""
        places = [columns.index(key) for key in self._keys.get(name, ()) if key in columns]
        mark = columns.index(_DELETED) if _DELETED in columns and name in THINGS else None
        table, parts = name.encode(errors="replace"), self._parts
        for line in lines:
            digest = hashlib.blake2b(line, digest_size=_DIGEST_BYTES).hexdigest().encode()
            fields = line[:-1].split(b"\t")
            key = b"\t".join([table, *(fields[place] for place in places or ())])
            key = key if places else b"%s\t%s" % (table, digest)
            deleted = mark is not None and fields[mark] not in (b"0", b"\\N")
            parts[zlib.crc32(key) % _PARTS].write(b"%s\t%d%s\n" % (key, deleted, digest))

    def part(self, number: int) -> dict[bytes, bytes]:
        """Return key -> mark and digest of one part."""
        file = self._parts[number]
        file.seek(0)
        split = (line[:-1].rpartition(b"\t") for line in file)
        return {key: value for key, _, value in split}


def _compared(earlier: _Rows, later: _Rows) -> Difference:
    made = Difference()
    for name in sorted({*earlier.columns, *later.columns}):
        alone = set(earlier.columns.get(name, ())) ^ set(later.columns.get(name, ()))
        both = name in earlier.columns and name in later.columns
        made.tables[name] = TableDifference(columns=sorted(alone) if both else ())
    for number in range(_PARTS):
        old, new = earlier.part(number), later.part(number)
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                _note(made, key, old.get(key), new.get(key))
    made.tables = {name: table for name, table in made.tables.items() if table}
    for things in made.things.values():
        for ids in (things.added, things.changed, things.removed):
            ids.sort()
    return made


def _note(made: Difference, key: bytes, old: bytes | None, new: bytes | None) -> None:
    name, _, rest = key.decode(errors="replace").partition("\t")
    table = made.tables[name]
    comparable = not table.columns
    if old is None:
        table.added += 1
    elif new is None:
        table.removed += 1
    elif comparable:
        table.changed += 1
    if name not in THINGS:
        return
    was_live, is_live = old is not None and old[:1] == b"0", new is not None and new[:1] == b"0"
    changes = made.things[name]
    if is_live and not was_live:
        changes.added.append(rest)
    elif was_live and not is_live:
        changes.removed.append(rest)
    elif is_live and comparable:
        changes.changed.append(rest)


def described_changes(found: Difference, before: State, after: State) -> dict[str, list[Change]]:
    """Return the changes of each kind of things, by table, those of MOST_NAMED at most."""
    now = {
        name: [*things.added, *things.changed][:MOST_NAMED] for name, things in found.things.items()
    }
    then = {name: things.removed[:MOST_NAMED] for name, things in found.things.items()}
    new, old = _described(after, now), _described(before, then)
    changes: dict[str, list[Change]] = {}
    for name, things in found.things.items():
        ways = {
            "added": (things.added, new),
            "changed": (things.changed, new),
            "removed": (things.removed, old),
        }
        changes[name] = [
            Change(way, there[name][id_])
            for way, (ids, there) in ways.items()
            for id_ in ids
            if id_ in there[name]
        ]
    return changes


def _described(
    state: State, wanted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Described]]:
    """Describe the rows of a state, by table and id; a state of which none is wanted is not read."""
    found: dict[str, dict[str, Described]] = {name: {} for name in wanted}
    if not any(wanted.values()):
        return found
    directory, messages, uploads = Directory(), list[Message](), list[Upload]()
    tables = [
        *directory.tables(),
        Table(
            "posts",
            search.MESSAGE,
            lambda row: messages.append(search.message_of(row)),
            _with(wanted["posts"]),
        ),
        Table(
            "fileinfo",
            search.UPLOAD,
            lambda row: uploads.append(search.upload_of(row)),
            _with(wanted["fileinfo"]),
        ),
    ]
    with state.opened() as stream:
        dump_rows.parse(stream, tables, state.encoding)
    found["posts"] = {message.id: described.message(message, directory) for message in messages}
    found["fileinfo"] = {upload.id: described.upload(upload, directory) for upload in uploads}
    found["teams"] = _places(directory.teams, wanted["teams"], directory)
    found["channels"] = _places(directory.channels, wanted["channels"], directory)
    found["users"] = _places(directory.users, wanted["users"], directory)
    return found


def _places(
    rows: Mapping[str, Team | Channel | User], wanted: Sequence[str], directory: Directory
) -> dict[str, Described]:
    return {id_: described.place(rows[id_], directory) for id_ in wanted if id_ in rows}


def _with(ids: Sequence[str]) -> Callable[[bytes], object]:
    """Return a test for a line that begins with one of ``ids``, which are the first column."""
    wanted = {id_.encode(errors="replace") for id_ in ids}
    return lambda line: line[: line.find(b"\t")] in wanted
