"""Rows of a dump as pg_restore prints them."""

from __future__ import annotations

import io
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.container import compose
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import detect
from gitlab_mm_backup.postgresql.names import NAMED
from gitlab_mm_backup.rehearsal import dump_rows, search
from gitlab_mm_backup.rehearsal.directory import Directory
from gitlab_mm_backup.rehearsal.dump_rows import Row, Table

SCRIPT = (
    "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
    'COPY public.teams (id, name, "order") FROM stdin;\nt1\tblue\t1\n\\.\n\n\n'
    'COPY "Odd, schema".posts (id, message, "a, ""b""", pinned) FROM stdin;\n'
    "p1\tfirst\\nsecond\\ttab\\\\end\t\\N\tt\np2\t\tx\tf\n\\.\n\n\n"
)


def read(script: bytes, *tables: tuple[str, tuple[str, ...]], encoding: str = "utf-8") -> list[Row]:
    taken: list[Row] = []
    dump_rows.parse(
        io.BytesIO(script),
        [Table(name, columns, lambda row: taken.append(tuple(row))) for name, columns in tables],
        encoding,
    )
    return taken


def test_names_have_what_finds_places_people_and_uploads() -> None:
    wanted = {table.name: table.columns for table in Directory().tables()} | {
        "fileinfo": search.UPLOAD
    }
    assert {name: set(columns) for name, columns in NAMED.items()} == {
        name: set(columns) for name, columns in wanted.items()
    }


def test_only_the_wanted_columns_come_in_the_wanted_order() -> None:
    assert read(SCRIPT.encode(), ("teams", ("order", "id"))) == [("1", "t1")]


def test_escapes_nulls_and_missing_columns() -> None:
    assert read(SCRIPT.encode(), ("posts", ("message", 'a, "b"', "rootid"))) == [
        ("first\nsecond\ttab\\end", None, None),
        ("", "x", None),
    ]


def test_several_tables_in_one_pass() -> None:
    assert len(read(SCRIPT.encode(), ("teams", ("id",)), ("posts", ("id",)))) == 3


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Failure, match="does not fit"):
        read(SCRIPT.replace("t1\tblue\t1", "t1\tblue").encode(), ("teams", ("id",)))


@pytest.mark.parametrize(
    ("encoding", "text", "stored"),
    [
        ("UTF8", "é日", "é日".encode()),
        ("LATIN1", "é", b"\xe9"),
        ("LATIN9", "€", b"\xa4"),
        ("WIN1252", "€", b"\x80"),
        ("EUC_JP", "日", "日".encode("euc_jp")),
        ("SQL_ASCII", "é\udcff", b"\xc3\xa9\xff"),
        ("MULE_INTERNAL", "a", b"a"),
    ],
)
def test_text_is_read_in_the_encoding_of_the_database(
    encoding: str, text: str, stored: bytes
) -> None:
    script = SCRIPT.encode().replace(b"blue", stored)
    assert read(script, ("teams", ("name",)), encoding=dump_rows.codec(encoding)) == [(text,)]


def test_a_line_that_is_not_kept_is_not_even_counted() -> None:
    taken: list[Row] = []
    table = Table("posts", ("id",), taken.append, lambda line: b"p2" in line)
    dump_rows.parse(io.BytesIO(SCRIPT.replace("p1\t", "p1").encode()), [table], "utf-8")
    assert taken == [["p2"]]


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    escaped = text
    for letter, plain in (
        ("\\", "\\"),
        ("b", "\b"),
        ("f", "\f"),
        ("n", "\n"),
        ("r", "\r"),
        ("t", "\t"),
        ("v", "\v"),
    ):
        escaped = escaped.replace(plain, f"\\{letter}")
    script = SCRIPT.replace("blue", escaped)
    assert read(script.encode(), ("teams", ("name",))) == [(text,)]


def test_pg_restore_of_postgresqls_container_where_the_host_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database = types.SimpleNamespace(server="17.2")
    set_: Any = types.SimpleNamespace(manifest=types.SimpleNamespace(database=database))
    monkeypatch.setattr(dump_rows, "_OMNIBUS", tmp_path / "none")
    monkeypatch.setattr(dump_rows, "_DEBIAN", tmp_path)
    monkeypatch.setattr(compose, "server", lambda: object())
    found = types.SimpleNamespace(client_programs=tmp_path / "container")
    monkeypatch.setattr(detect, "find_any", lambda: found)
    assert dump_rows._program(set_) == tmp_path / "container/pg_restore"
    monkeypatch.setattr(detect, "find_any", lambda: None)
    with pytest.raises(Failure, match="No pg_restore was found"):
        dump_rows._program(set_)
