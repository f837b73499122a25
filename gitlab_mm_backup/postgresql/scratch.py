"""Scratch: temporary directories and a temporary PostgreSQL, for a rehearsal or salvage.

Both are removed at the end, even after kill -9.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Failure
from ..store.manifest import Database
from ..system import disk_space, humanize, lock, process, progress
from ..system.private_files import InMemory
from ..system.process import Command, Finished
from ..system.redaction import Secret
from ..system.sandbox import INSIDE, Sandbox
from ..version import numbers
from . import connection
from .endpoint import Endpoint, Login

if TYPE_CHECKING:
    import psycopg

_GROWTH_GLANCE = 2.0  # seconds between two looks
# After a load, tables and indexes are smaller than in a server in use.
_GROWTH_SPARE = 512 << 20
_SIZE = """
    SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database
    WHERE datname OPERATOR(pg_catalog.=) %s"""
# Created by the package; owns nothing else on the host, and has no login.
ACCOUNT = "gitlab-mm"
SOCKET = INSIDE / "socket"  # of the scratch server, as its own programs and Mattermost see it
_MARK = "gitlab-mm-rehearsal-"
_SOCKETS = Path("/run")  # a socket's whole path may have 107 bytes (unix(7))
_DATA = INSIDE / "postgresql"
_DEBIAN = Path("/usr/lib/postgresql")
_SUPERUSER = "scratch"
_PORT = 5432
_PATIENCE = 60  # seconds for the server to take connections
# Nothing here must survive a crash, and a nightly rehearsal shares the memory with GitLab:
# 64 MB shared, and 64 MB for each of the few that build an index at a time.
_CONFIGURATION = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "64MB",
    "max_connections": "40",
    "log_min_messages": "fatal",  # a set's functions can say as much as they like
    "dynamic_shared_memory_type": "mmap",
}
# Files in a copied data directory that tie it to its former server.
_NOT_OURS = ("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal")
# Memory for the server, Mattermost and our own programs, with a margin.
_MEMORY = 768 << 20
_MOST_TEMPORARY = (1 << 31) - 1  # kB that the server understands
_LOCALE = "If a locale is missing, generate it: dpkg-reconfigure locales."
_PROGRAMS = ("initdb", "postgres", "pg_restore", "psql")
WAYS = "Free some space, or give another place: scratch_dir in /etc/gitlab-mm-backup/config.yml."
_SPARE = 256 << 20  # bytes of disk, for the server's log and catalogs


class Outgrown(Failure):
    """A load grows larger than its set says."""


def growth_limit(was: Database) -> int:
    """Return the largest size of a database loaded from the dump of ``was``."""
    return was.bytes * 3 // 2 + _GROWTH_SPARE


def refuse_growth(session: psycopg.Connection[Any], name: str, most: int) -> None:
    """Raise Outgrown where the database ``name`` has more than ``most`` bytes."""
    row = session.execute(_SIZE, (name,)).fetchone()
    if row is not None and row[0] > most:
        raise Outgrown(
            "Loading was stopped: the database becomes larger than its set says",
            f"it has {humanize.size(row[0])}; at most {humanize.size(most)} are expected",
            "Do not use this set; find out where it comes from.",
        )


def watch_growth(
    session: psycopg.Connection[Any], name: str, was: Database, over: threading.Event
) -> None:
    """Raise Outgrown when ``name``, loaded from the dump of ``was``, grows too large.

    Returns when ``over``. If the server stops answering, the load itself fails and reports it.
    """
    import psycopg

    with contextlib.suppress(psycopg.OperationalError, psycopg.InterfaceError):
        while not over.wait(_GROWTH_GLANCE):
            refuse_growth(session, name, growth_limit(was))


@dataclass(frozen=True)
class Place:
    """The private directories of one rehearsal."""

    folder: Path  # root's alone
    socket: Path  # of the scratch server: for its account and the account nobody, with a password

    @property
    def data(self) -> Path:
        return self.folder / "postgresql"

    @property
    def token(self) -> str:
        return self.folder.name[-8:]


@contextlib.contextmanager
def place(parent: Path) -> Iterator[Place]:
    """Create private directories in ``parent``, after removing those of killed rehearsals.

    Raises Failure when they cannot be created, or at the end when they cannot be removed.
    """
    entry = _account()
    name = f"{_MARK}{secrets.token_hex(4)}"
    made = Place(parent / f".{name}", _SOCKETS / name)
    with process.temporary_folders(made.folder, made.socket), contextlib.ExitStack() as held:
        try:
            with lock.making_scratch():
                _clear(parent)
                made.folder.mkdir(mode=0o700)
                # Clients with a password run as nobody; other accounts could use up its connections.
                clients = pwd.getpwnam("nobody").pw_gid
                for folder, group, mode in (
                    (made.data, entry.pw_gid, 0o700),
                    (made.socket, clients, 0o710),
                ):
                    folder.mkdir(mode=0o700)
                    os.chown(folder, entry.pw_uid, group)
                    folder.chmod(mode)
                held.enter_context(lock.in_use([made.socket]))
        except OSError as error:
            raise _unusable(parent, error) from error
        yield made


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise Failure(
            f"There is no account {ACCOUNT} on this host, which rehearsals need",
            hint="Create it: dpkg-reconfigure gitlab-mm-backup.",
        ) from None


def _unusable(parent: Path, error: OSError) -> Failure:
    return Failure(
        f"The scratch directory {parent} cannot be used",
        str(error.strerror),
        "scratch_dir in /etc/gitlab-mm-backup/config.yml names another place.",
    )


def _clear(parent: Path) -> None:
    """Remove marked directories that are not in use: the lock is on their socket directory."""
    ours = re.compile(rf"\.?{_MARK}[0-9a-f]{{8}}")
    for folder in (parent, _SOCKETS):
        for left in folder.glob(f"*{_MARK}*") if folder.is_dir() else ():
            with lock.unused(_SOCKETS / left.name.lstrip(".")) as unused:
                if unused and ours.fullmatch(left.name):
                    shutil.rmtree(left, ignore_errors=True)


def refuse_without_room(parent: Path, wanted: int, what: str = "a rehearsal") -> None:
    """Raise Failure where the disk (``wanted`` bytes) or memory is too small for this."""
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(parent, error) from error
    disk_space.refuse_without(parent, wanted + _SPARE, what, WAYS)
    memory = _available_memory()
    if memory < _MEMORY:
        raise Failure(
            f"There is not enough memory for {what}",
            f"{humanize.size(_MEMORY)} needed, {humanize.size(memory)} available",
            "Try again at another hour. rehearse in /etc/gitlab-mm-backup/config.yml switches nightly "
            "rehearsals off.",
        )


def _available_memory() -> int:
    """Return the memory available without swapping (proc(5), meminfo)."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) << 10 if found else _MEMORY


def server_programs(clients: Path, at_least: str) -> Path:
    """Return the folder of server programs that can load a dump of that version.

    The bundled ones, or the oldest suitable ones of Debian. Raises Failure without any.
    """
    wanted = numbers(at_least)[:1]
    bundled = Path(os.path.realpath(clients / "pg_restore")).parent
    debian = {numbers(path.parent.name): path for path in _DEBIAN.glob("*/bin")}
    for folder in (bundled, *(path for version, path in sorted(debian.items()))):
        if all((folder / name).exists() for name in _PROGRAMS):
            told = process.run(Command([str(folder / "postgres"), "--version"])).out
            if numbers(told.split()[-1].split("(")[0])[:1] >= wanted:
                return folder
    raise Failure(
        "No suitable PostgreSQL server program was found",
        f"version {at_least} or newer is needed, with {', '.join(_PROGRAMS)}",
        "Install Debian's postgresql package of that version, or newer.",
    )


@contextlib.contextmanager
def cluster(
    made: Place, programs: Path, name: str, role: str, session: Mapping[str, str], was: Database
) -> Iterator[Endpoint]:
    """Run a temporary server on a private socket; it is removed with its data after the block.

    Its sessions' temporary files are limited to the expected size of the database of ``was``.
    Yields the endpoint of the database ``name``, which does not exist yet, for ``role``.
    """
    passwords = [Secret(secrets.token_urlsafe(24)) for _ in range(2)]
    sandbox = Sandbox({_DATA: made.data, SOCKET: made.socket})
    process.run(_initdb(programs, sandbox, passwords[0]))
    endpoint = Endpoint(
        host=str(made.socket),
        port=_PORT,
        name=name,
        owner=Login(role, password=passwords[1]),
        admin=Login(_SUPERUSER, password=passwords[0]),
        session=session,
    )
    limits = {"temp_file_limit": f"{min(growth_limit(was) >> 10, _MOST_TEMPORARY)}kB"}
    with process.background(_postgres(programs, sandbox, limits)) as ended:
        _wait(endpoint, ended)
        _create_role(endpoint)
        yield endpoint


def server_of(clients: Path, major: str) -> Path:
    """Return the folder with the PostgreSQL of exactly that major version.

    One that GitLab bundles, or Debian's. Raises Failure without any.
    """
    bundled = clients.parent / "postgresql"
    for folder in (*bundled.glob(f"{major}*/bin"), _DEBIAN / major / "bin"):
        if all((folder / name).exists() for name in ("postgres", "pg_dump", "pg_restore")):
            told = process.run(Command([str(folder / "postgres"), "--version"])).out
            if told.split()[-1].split("(")[0].split(".")[0] == major:
                return folder
    raise Failure(
        f"PostgreSQL {major}, which wrote these data, is not installed",
        f"neither below {bundled} nor in {_DEBIAN / major}",
        f"Install it: apt install postgresql-{major} (from apt.postgresql.org where Debian has "
        "another one).",
    )


@contextlib.contextmanager
def cluster_on_copy(
    made: Place, programs: Path, superuser: str, owners: Iterable[str]
) -> Iterator[Endpoint]:
    """Run a server on a copied data directory in ``made.data``/data, on a private socket.

    The copy gets our configuration, without a port, that admits only our account, as ``superuser``
    or one of the ``owners`` of databases. Yields the endpoint of its database postgres.
    """
    data, entry = made.data / "data", _account()
    texts = {
        "postgresql.conf": "",
        "postgresql.auto.conf": "",
        "pg_hba.conf": "local all all peer map=ours\n",
        "pg_ident.conf": "".join(_mapped(role) for role in dict.fromkeys((superuser, *owners))),
    }
    for name in (*_NOT_OURS, *texts):
        (data / name).unlink(missing_ok=True)
    for name, content in texts.items():
        (data / name).write_text(content)
    owner = f"{entry.pw_uid}:{entry.pw_gid}"
    process.run(Command(["chown", "--recursive", "--no-dereference", owner, str(data)]))
    data.chmod(0o700)
    login = Login(superuser, ACCOUNT)
    endpoint = Endpoint(str(made.socket), _PORT, "postgres", login, login)
    sandbox = Sandbox({_DATA: made.data, SOCKET: made.socket})
    with process.background(_postgres(programs, sandbox, {})) as ended:
        _wait(endpoint, ended)
        yield endpoint


def _mapped(role: str) -> str:
    """Return a line of pg_ident.conf that admits our account as ``role``."""
    if not role.isprintable():
        raise Failure("The name of a role cannot be used", repr(role))
    quoted = role.replace('"', '""')
    return f'ours {ACCOUNT} "{quoted}"\n'


def _initdb(programs: Path, sandbox: Sandbox, password: Secret) -> Command:
    """Return the initdb command, from PostgreSQL 9.6 on.

    9.6 has neither scram-sha-256 nor --no-sync under that name, and Mattermost before 5.14 does
    not support scram-sha-256. The password goes over a private socket.
    """
    return Command(
        [
            str(programs / "initdb"),
            f"--pgdata={_DATA}/data",
            f"--username={_SUPERUSER}",
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C",
            "-N",
            "--pwfile",
            InMemory(Secret(f"{password.reveal()}\n")),
        ],
        account=ACCOUNT,
        sandbox=sandbox,
    )


def _postgres(programs: Path, sandbox: Sandbox, limits: Mapping[str, str]) -> Command:
    settings = {
        **_CONFIGURATION,
        **limits,
        "unix_socket_directories": str(SOCKET),
        "port": str(_PORT),
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    return Command(
        [str(programs / "postgres"), "-D", f"{_DATA}/data", *options],
        account=ACCOUNT,
        sandbox=sandbox,
    )


@progress.waiting("PostgreSQL")
def _wait(endpoint: Endpoint, ended: Callable[[], Finished | None]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with connection.administering(endpoint):
                return
        except Failure as failure:
            over = ended()
            if over is not None or time.monotonic() > deadline:
                words = over.err if over else str(failure)
                raise Failure("The scratch PostgreSQL does not start", words, _LOCALE) from None
        time.sleep(0.05)


def _create_role(endpoint: Endpoint) -> None:
    from psycopg import sql

    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
        sql.Identifier(endpoint.owner.role),
        sql.Literal(endpoint.owner.password.reveal() if endpoint.owner.password else ""),
    )
    with connection.administering(endpoint) as session:
        session.execute(create)
