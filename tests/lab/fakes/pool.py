"""A few connections that are kept open, as a real server keeps them: they stand in the way of dropping its database."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

Connection = psycopg.Connection[dict[str, Any]]
GO_ONLY = ("binary_parameters",)


def clean(data_source: str) -> str:
    """A DataSource (keywords or URL) without the parameters that only Go's driver knows."""
    head, mark, query = data_source.partition("?")
    if mark:
        data_source = (
            head + "?" + "&".join(part for part in query.split("&") if not part.startswith(GO_ONLY))
        )
    else:
        data_source = " ".join(word for word in data_source.split() if not word.startswith(GO_ONLY))
    parameters: dict[str, Any] = dict(conninfo_to_dict(data_source))
    return make_conninfo(**parameters)


def method(data_source: str) -> int:
    """How a server asks for the password, as its protocol counts: 3 in clear, 5 MD5, 10 SCRAM; 0 not at all.

    Mattermost before 5.14 has a lib/pq that knows neither 10 nor more.
    """
    parameters = conninfo_to_dict(clean(data_source))
    host, port = str(parameters.get("host") or "127.0.0.1"), int(parameters.get("port") or 5432)
    unix = host.startswith("/")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as asking:
        asking.settimeout(5)
        asking.connect(f"{host}/.s.PGSQL.{port}" if unix else (host, port))
        names = ("user", str(parameters["user"]), "database", str(parameters["dbname"]))
        words = b"".join(name.encode() + b"\0" for name in names) + b"\0"
        asking.sendall(struct.pack("!ii", 8 + len(words), 3 << 16) + words)
        answer = asking.recv(9)
    return int(struct.unpack("!i", answer[5:9])[0]) if answer[:1] == b"R" else 0


class Pool:
    """Connections to one database, for many threads."""

    def __init__(self, data_source: str, keep: int = 3) -> None:
        self._conninfo = clean(data_source)
        self._keep = keep
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def open(self) -> Connection:
        """A new connection, in UTF-8 as Go's driver has them; raises psycopg.OperationalError."""
        return psycopg.connect(
            self._conninfo,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=5,
            client_encoding="UTF8",
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a block in a transaction, on a kept connection if there is one that still lives."""
        connection = self._take()
        try:
            with connection.transaction():
                yield connection
        finally:
            with self._lock:
                if not connection.closed and len(self._idle) < self._keep:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _take(self) -> Connection:
        with self._lock:
            waiting, self._idle = self._idle[-1:], self._idle[:-1]
        for connection in waiting:
            try:
                connection.execute("SELECT 1")
                return connection
            except psycopg.Error:
                connection.close()
                self._drop_idle()
        return self.open()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
