"""Rows of a set's database, read from its names or its dump; no server is needed.

Those of one thing, such as a channel, are gathered as they are printed, to be put back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Optional

from ..container import compose
from ..errors import Failure
from ..mattermost import detect, owned_rows
from ..mattermost.owned_rows import NESTED, OwnedTable
from ..mattermost.staged_rows import DumpedRows
from ..postgresql.names import NAMED
from ..store.manifest import NAMES
from ..store.sets import BackupSet
from ..system import files, process, progress
from ..system.process import DECOMPRESS, Command
from ..version import numbers

# pg_restore of Omnibus, and of Debian's packages.
_OMNIBUS = Path("/opt/gitlab/embedded/bin/pg_restore")
_DEBIAN = Path("/usr/lib/postgresql")
_BUFFER = 1 << 20  # bytes: of a pipe Python reads 4 KiB at once, which takes longer
#: Values of the columns that were asked for; None for NULL, or where the table lacks the column.
Row = Sequence[Optional[str]]
# PostgreSQL's names of encodings -> Python's, where they differ in more than - and _.
_CODECS = {
    "SQL_ASCII": "utf-8",
    "UNICODE": "utf-8",
    "EUC_JIS_2004": "euc_jis_2004",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "SJIS": "cp932",
    "UHC": "cp949",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    **{f"LATIN{number}": f"latin{number}" for number in range(1, 11)},
    **{f"WIN{number}": f"cp{number}" for number in (866, 874, *range(1250, 1259))},
}
_COPY = re.compile(
    rb'COPY (?:"(?:[^"]|"")+"|[^".]+)\.("(?:[^"]|"")+"|[^" ]+) \((.*)\) FROM stdin;\n'
)
_COLUMN = re.compile(rb'"((?:[^"]|"")+)"|([^", ]+)')
# COPY's text format (PostgreSQL's documentation of COPY, "Text Format").
_ESCAPE = re.compile(rb"\\(.)", re.S)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True)
class Table:
    """A table to read, and who takes its rows.

    ``keeps`` sees each line as pg_restore prints it: a quick look at a million rows that drops
    those that cannot be wanted, before they are split and decoded. ``begin`` gets the names of all
    columns of the table, in the order of such a line.
    """

    name: str
    columns: Sequence[str]
    take: Callable[[Row], object]
    keeps: Callable[[bytes], object] | None = None  # None: all lines
    begin: Callable[[Sequence[str]], object] | None = None


def read(set_: BackupSet, tables: Sequence[Table]) -> None:
    """Read ``tables`` of a set: from its names where they have what is wanted, else from its dump.

    Those of either come in one pass, in the order of the dump. A table that the set does not have
    has no rows. Raises Failure where a part cannot be read.
    """
    encoding = codec(set_.manifest.database.encoding)
    named = [table for table in tables if has_names(set_) and _is_named(table)]
    if named:
        with _names_of(set_) as lines:
            parse(lines, named, encoding)
    rest = [table for table in tables if table not in named]
    if rest:
        with printed(set_, "--data-only", *(f"--table={table.name}" for table in rest)) as lines:
            parse(lines, rest, encoding)


def has_names(set_: BackupSet) -> bool:
    """Tell whether teams, channels, users and uploads are found without the dump."""
    return NAMES in set_.manifest.parts


def _is_named(table: Table) -> bool:
    """Tell whether the names have all that is wanted; without columns that is the whole line."""
    there = NAMED.get(table.name, ())
    return bool(table.columns) and table.begin is None and set(table.columns) <= set(there)


@contextlib.contextmanager
def _names_of(set_: BackupSet) -> Iterator[IO[bytes]]:
    """Yield the names of a set, which look as what pg_restore prints."""
    packed = set_.manifest.parts[NAMES].file.endswith(".zst")
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(set_.open(NAMES))
        if packed:
            stream, _ = opened.enter_context(process.output(DECOMPRESS, stdin=stream))
        yield opened.enter_context(_buffered(stream))


def _buffered(stream: IO[bytes]) -> IO[bytes]:
    return open(stream.fileno(), "rb", buffering=_BUFFER, closefd=False)


def schema(set_: BackupSet) -> str:
    """Return the schema in which Mattermost's tables are."""
    properties = set_.manifest.properties
    return properties.tables.get("systems", "public") if properties else "public"


@contextlib.contextmanager
def printed(set_: BackupSet, *options: str) -> Iterator[IO[bytes]]:
    """Yield what pg_restore prints, with ``options``, of Mattermost's schema in a set's dump."""
    words = [str(_program(set_)), *options, f"--schema={schema(set_)}", "--file=-"]
    with (
        _printed(set_, Command(words, account="nobody")) as stream,
        _buffered(stream) as lines,
    ):
        yield lines


@contextlib.contextmanager
def _printed(set_: BackupSet, restore: Command) -> Iterator[IO[bytes]]:
    """Yield what ``restore`` prints of the dump, which is on this host or in a repository."""
    if set_.source is not None:
        with process.output(set_.source.dump(), restore) as (stream, _):
            yield stream
        return
    with (
        files.open_regular(set_.file("database"), links=True) as packed,
        progress.of_file("database", packed),
        process.output(DECOMPRESS, restore, stdin=packed) as (stream, _),
    ):
        yield stream


def codec(encoding: str) -> str:
    """Return Python's name of an encoding of PostgreSQL; UTF-8 for one that Python does not have."""
    name = _CODECS.get(encoding, encoding.replace("_", "-"))
    try:
        "".encode(name)
    except LookupError:
        return "utf-8"
    return name


def parse(stream: IO[bytes], tables: Sequence[Table], encoding: str) -> None:
    """Give the rows in pg_restore's script to those who take them."""
    wanted = {table.name: table for table in tables}
    for name, columns, lines in tables_in(stream):
        if name in wanted:
            _give(lines, columns, wanted[name], encoding)


def tables_in(stream: IO[bytes]) -> Iterator[tuple[str, list[str], Iterator[bytes]]]:
    """Yield the tables in pg_restore's script: name, names of the columns, and the lines of rows.

    The lines end with the table's, and what of them is not read is passed over.
    """
    for line in stream:
        found = _COPY.fullmatch(line)
        if found is None:
            continue
        lines = _rows(stream)
        yield _unquoted(found[1]).decode(errors="replace"), names(found[2]), lines
        for _ in lines:
            pass


def _rows(stream: IO[bytes]) -> Iterator[bytes]:
    for line in stream:
        if line == b"\\.\n":
            return
        yield line


def names(quoted: bytes) -> list[str]:
    """Return the names in a list of columns."""
    return [
        (name.replace(b'""', b'"') or plain).decode(errors="replace")
        for name, plain in _COLUMN.findall(quoted)
    ]


def _give(lines: Iterable[bytes], names: Sequence[str], table: Table, encoding: str) -> None:
    """Give the rows up to the end of a COPY to ``table``."""
    there = [name for name in table.columns if name in names]
    places = [names.index(name) for name in there]
    order = [there.index(name) if name in there else None for name in table.columns]
    needed, tabs = max(places, default=-1) + 1, len(names) - 1
    keeps, take = table.keeps, table.take
    if table.begin is not None:
        table.begin(names)
    for line in lines:
        if keeps is not None and not keeps(line):
            continue
        found = line.count(b"\t")
        if found != tabs:
            raise odd(table.name, found + 1, len(names))
        fields = line[:-1].split(b"\t", needed)
        values = _values([fields[place] for place in places], encoding)
        if len(there) < len(order):
            values = [None if place is None else values[place] for place in order]
        take(values)


def odd(table: str, values: int, columns: int) -> Failure:
    """Return the failure for a row with another number of values than its table has columns."""
    return Failure(
        "The dump of the set has a row that does not fit its table",
        f"table {table}: {values} values for {columns} columns",
        "The set is damaged or not one of ours; choose another one.",
    )


def _values(fields: list[bytes], encoding: str) -> Row:
    """Return the texts of fields; bytes that the encoding does not have come as surrogates."""
    joined = b"\t".join(fields)
    if fields and b"\\" not in joined:  # the most, and at a third of the time
        return joined.decode(encoding, "surrogateescape").split("\t")
    return [_value(field, encoding) for field in fields]


def _value(field: bytes, encoding: str) -> str | None:
    if field == b"\\N":
        return None
    plain = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), field)
    return plain.decode(encoding, "surrogateescape")


def _unquoted(name: bytes) -> bytes:
    return name[1:-1].replace(b'""', b'"') if name.startswith(b'"') else name


def _program(set_: BackupSet) -> Path:
    """Return a pg_restore that reads a set's dump.

    Omnibus's, else the oldest suitable of Debian's, else that of PostgreSQL's container.
    """
    server = set_.manifest.database.server
    debian = {numbers(path.parent.parent.name): path for path in _DEBIAN.glob("*/bin/pg_restore")}
    fitting = [
        path for version, path in sorted(debian.items()) if version[:1] >= numbers(server)[:1]
    ]
    for program in (_OMNIBUS, *fitting):
        if program.exists():
            return program
    site = detect.find_any() if compose.server() is not None else None
    if site is not None:
        return site.client_programs / "pg_restore"
    raise Failure(
        "No pg_restore was found that reads this set",
        f"PostgreSQL {server} or newer is needed",
        "Install Debian's postgresql-client package of that version, or newer.",
    )


@dataclass
class Gathered:
    """The rows of a set that belong to a thing."""

    ids: dict[str, set[bytes]]
    rows: list[DumpedRows] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)  # table in no list -> rows with its ids
    missed: dict[str, int] = field(default_factory=dict)  # table that stays out -> rows


class _Picker:
    """Picks the rows of a table that belong to things, from lines as pg_restore prints them."""

    def __init__(
        self, table: OwnedTable, ids: dict[str, set[bytes]], file: IO[bytes] | None
    ) -> None:
        self._owned, self._ids, self.file = table, ids, file
        self.columns: Sequence[str] = ()
        self._places: list[tuple[int, set[bytes]]] = []
        self.rows = 0

    @property
    def table(self) -> Table:
        return Table(self._owned.name, (), lambda _: None, self._line, self._begin)

    def _begin(self, names: Sequence[str]) -> None:
        self.columns = names
        owners = {column: kinds for column, kinds in self._owned.belongs.items() if column in names}
        if self._owned.kind in self._ids and "id" in names:
            owners = {**owners, "id": (*owners.get("id", ()), self._owned.kind)}
        self._places = [
            (names.index(column), self._ids[kind]) for column in owners for kind in owners[column]
        ]

    def _line(self, line: bytes) -> bool:
        fields = line[:-1].split(b"\t")
        if len(fields) != len(self.columns):
            raise odd(self._owned.name, len(fields), len(self.columns))
        if any(fields[place] in ids for place, ids in self._places):
            self.rows += 1
            if self.file is not None:
                self.file.write(line)
            if self._owned.kind in NESTED:
                self._ids[self._owned.kind].add(fields[self.columns.index("id")])
        return False


def gather(
    set_: BackupSet,
    kind: str,
    id_: str,
    tables: Sequence[OwnedTable],
    files: Callable[[], IO[bytes]],
) -> Gathered:
    """Read the rows of ``tables`` that belong to a thing, and to what belongs to it.

    ``files`` makes a file for the rows of a table. The dump is read at least twice: a thing may be
    named in a table that comes before its own. Raises Failure where it cannot be read.
    """
    ids: dict[str, set[bytes]] = {name: set() for name in owned_rows.KINDS}
    ids[kind].add(id_.encode())
    nested = [table for table in tables if table.kind in (owned_rows.CHANNEL, owned_rows.POST)]
    before = 0
    while kind != owned_rows.FILE and nested and before != (before := _many(ids)):
        read(set_, [_Picker(table, ids, None).table for table in nested])
    found, pickers = Gathered(ids), [(table, _Picker(table, ids, files())) for table in tables]
    others = _others(set_, tables, found)
    read(set_, [*(picker.table for _, picker in pickers), *others])
    found.rows = [
        DumpedRows(table, picker.columns, picker.file, picker.rows)
        for table, picker in pickers
        if picker.rows and picker.file is not None
    ]
    return found


def _many(ids: Mapping[str, set[bytes]]) -> int:
    return sum(map(len, ids.values()))


def _others(set_: BackupSet, tables: Sequence[OwnedTable], found: Gathered) -> list[Table]:
    """Return the tables of the set whose rows stay out and have to be counted."""
    names = {
        name.partition(".")[2]
        for name, rows in set_.manifest.database.rows.items()
        if rows and name.startswith(f"{schema(set_)}.")
    }
    reviewed = {table.name for table in owned_rows.tables(set_.manifest.mattermost)}
    unknown = sorted(names - reviewed - set(owned_rows.LEFT_OUT))
    every = set().union(*found.ids.values())

    def counting(name: str, counts: dict[str, int]) -> Table:
        def count(line: bytes) -> bool:
            if not every.isdisjoint(line[:-1].split(b"\t")):
                counts[name] = counts.get(name, 0) + 1
            return False

        return Table(name, (), lambda _: None, count)

    missed = [name for name in owned_rows.MISSED if name in names]
    return [
        *(counting(name, found.unknown) for name in unknown),
        *(counting(name, found.missed) for name in missed),
    ]
