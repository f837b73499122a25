"""The bundled PostgreSQL: Debian's server under Omnibus's user, socket, maps and roles.

Its major version is Debian's, whatever the GitLab version says; only /opt/gitlab/embedded/postgresql tells it.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from . import paths

USER = "gitlab-psql"
#: The work of initdb, which takes half a second: the base layer has a cluster that was never started.
FRESH_CLUSTER = Path("/usr/lib/lab-cluster")
INITDB = ("-N", "-E", "UTF8", "-U", USER)
HBA = "local all all peer map=gitlab\n"
CLIENTS = (
    "psql",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "createdb",
    "dropdb",
    "createuser",
    "postgres",
    "initdb",
    "pg_ctl",
)
# Sixty seconds are Omnibus's defaults. Durability is switched off: no lab outlives its machine.
CONFIGURATION = """\
listen_addresses = ''
port = {port}
unix_socket_directories = '{directory}'
max_connections = 100
shared_buffers = 32MB
statement_timeout = 60000
idle_in_transaction_session_timeout = 60000
fsync = off
full_page_writes = off
log_timezone = 'UTC'
timezone = 'UTC'
"""
APPLICATIONS = """\
CREATE TABLE users (id serial PRIMARY KEY, email varchar NOT NULL DEFAULT '', username varchar UNIQUE, name varchar,
  state varchar NOT NULL DEFAULT 'active', admin boolean NOT NULL DEFAULT false,
  created_at timestamp without time zone, updated_at timestamp without time zone);
CREATE TABLE oauth_applications ({identifier}, name varchar NOT NULL, uid varchar NOT NULL,
  secret varchar NOT NULL, redirect_uri text NOT NULL, scopes {scopes} DEFAULT ''::character varying NOT NULL,
  created_at timestamp without time zone, updated_at timestamp without time zone,
  owner_id {owner}, owner_type varchar, trusted boolean DEFAULT false NOT NULL{later});
CREATE UNIQUE INDEX index_oauth_applications_on_uid ON oauth_applications (uid);
CREATE INDEX index_oauth_applications_on_owner_id_and_owner_type ON oauth_applications (owner_id, owner_type);
"""
LATER_COLUMNS = """,
  confidential boolean DEFAULT true NOT NULL, expire_access_tokens boolean DEFAULT false NOT NULL,
  ropc_enabled boolean DEFAULT true NOT NULL, dynamic boolean DEFAULT false NOT NULL,
  organization_id bigint DEFAULT 1"""


def debian_programs() -> Path:
    """The folder of the newest PostgreSQL that Debian installed."""
    return max(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda program: int(program.parts[-3]),
    ).parent


def install_programs() -> None:
    """Links as Omnibus has them: bin of the major version, and from there into embedded/bin."""
    programs = debian_programs()
    place = paths.OPT / "embedded/postgresql" / programs.parent.name
    paths.link(place / "bin", programs)
    for name in CLIENTS:
        paths.link(paths.BIN / name, place / "bin" / name)


def data_directory(settings: dict[str, Any]) -> Path:
    """Where the cluster's files are."""
    return Path(settings["dir"]) / "data"


def identity_map(with_mattermost: bool) -> str:
    """pg_ident.conf: Omnibus's three lines."""
    lines = ["gitlab  git  gitlab"]
    if with_mattermost:
        lines.append("gitlab  mattermost  gitlab_mattermost")
    return "\n".join([*lines, r"gitlab  /^(.*)$  \1"]) + "\n"


def make_cluster(settings: dict[str, Any]) -> None:
    """Run initdb as Omnibus does: UTF8, locale of the environment, superuser named like the OS user.

    Where the host has a fresh cluster of that kind, it is copied.
    """
    paths.folder(Path(settings["dir"]), 0o755, USER, USER)
    data = data_directory(settings)
    if (data / "PG_VERSION").exists():
        return
    if FRESH_CLUSTER.is_dir():
        subprocess.run(["cp", "--archive", str(FRESH_CLUSTER), str(data)], check=True)
        subprocess.run(["chown", "--recursive", f"{USER}:{USER}", str(data)], check=True)
    else:
        paths.run_as(USER, str(paths.BIN / "initdb"), *INITDB, "-D", str(data))


def configure(settings: dict[str, Any], with_mattermost: bool) -> bool:
    """Write the three configuration files; tells whether one of them changed."""
    data = data_directory(settings)
    files = {
        "postgresql.conf": CONFIGURATION.format(
            port=settings["port"], directory=settings["unix_socket_directory"]
        ),
        "pg_hba.conf": HBA,
        "pg_ident.conf": identity_map(with_mattermost),
    }
    changes = [paths.write(data / name, text, 0o600, USER, USER) for name, text in files.items()]
    return any(changes)


class Server:
    """The cluster, spoken to as its superuser."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def program(
        self, name: str, *arguments: str, check: bool = True, stdin: str | None = None
    ) -> str:
        """Run one of the clients; gives its output."""
        address = ["-h", self.settings["unix_socket_directory"], "-p", str(self.settings["port"])]
        done = paths.run_as(
            USER, str(paths.BIN / name), *address, *arguments, check=False, stdin=stdin
        )
        if check and done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def sql(self, statements: str, database: str = "postgres") -> list[str]:
        """Run SQL; gives the lines of the answer."""
        options = ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database)
        return self.program("psql", *options, stdin=statements).splitlines()

    def running(self) -> bool:
        """Whether the server answers."""
        return (
            self.program(
                "psql", "-X", "-A", "-t", "-d", "postgres", "-c", "SELECT 1", check=False
            ).strip()
            == "1"
        )

    def control(self, verb: str) -> None:
        """pg_ctl start, stop or reload, for the time before runit watches the server."""
        options = ["-l", f"{paths.LOG}/postgresql/bootstrap.log"] if verb == "start" else []
        data = str(data_directory(self.settings))
        paths.run_as(
            USER, str(paths.BIN / "pg_ctl"), "-D", data, "-s", "-w", "-m", "fast", *options, verb
        )

    def wait(self, seconds: float = 20) -> None:
        """Wait until the server answers; raises TimeoutError."""
        end = time.monotonic() + seconds
        while not self.running():
            if time.monotonic() > end:
                raise TimeoutError("PostgreSQL does not answer")
            time.sleep(0.05)

    def ensure_role(self, name: str) -> None:
        """Create a login role that has no password and no privileges, if it is missing."""
        if not self.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            self.sql(f'CREATE ROLE "{name}" LOGIN')

    def ensure_database(self, name: str, owner: str) -> bool:
        """Create a database with this owner if it is missing; tells whether it was."""
        if self.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            return False
        self.program("createdb", "-O", owner, name)
        return True

    def make_gitlab_database(
        self, name: str, package: paths.Package, users: list[dict[str, Any]]
    ) -> None:
        """GitLab's database with what sign-in needs of its schema, and these users (id, username, name, email)."""
        self.ensure_role("gitlab")
        if not self.ensure_database(name, "gitlab"):
            return
        recent = package.generation.numbers >= (15, 0)
        tables = APPLICATIONS.format(
            identifier="id bigserial PRIMARY KEY" if recent else "id serial PRIMARY KEY",
            owner="bigint" if recent else "integer",
            scopes="text" if recent else "varchar",
            later=LATER_COLUMNS if recent else "",
        )
        rows = ", ".join(
            "({id}, '{username}', '{name}', '{email}', {admin}, now(), now())".format(
                **{"admin": False, **user}
            )
            for user in users
        )
        columns = "id, username, name, email, admin, created_at, updated_at"
        self.sql(f"SET ROLE gitlab; {tables} INSERT INTO users ({columns}) VALUES {rows};", name)
