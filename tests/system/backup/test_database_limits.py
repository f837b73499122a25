"""Poolers, replicas and limits are named, with what helps, while Mattermost still runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.base import apt_environment, apt_install
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.backup.test_database_properties import DATABASE, as_superuser

CONFIG = "/etc/gitlab-mm-backup/config.yml"
DATA = "/var/opt/gitlab/postgresql/data"
SOURCE = "/opt/gitlab/etc/mattermost/env/MM_SQLSETTINGS_DATASOURCE"
ROLE = "gitlab_mattermost"
POOLER = """\
[databases]
* = host=127.0.0.1 port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = plain
auth_file = /etc/pgbouncer/users.txt
pool_mode = transaction
ignore_startup_parameters = {ignored}
logfile = /tmp/pgbouncer.log
pidfile = /tmp/pgbouncer.pid
unix_socket_dir =
"""


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[tuple[Lab, Omnibus, Product]]:
    with Lab(base=base, network=True) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        product.backup()
        yield lab, gitlab, product


def process(gitlab: Omnibus) -> str:
    """Return the process of Mattermost."""
    told = gitlab.gitlab_ctl("status", "mattermost", check=False).stdout
    found = re.search(r"run: mattermost: \(pid (\d+)\)", told)
    assert found, told
    return found[1]


def refused(house: tuple[Lab, Omnibus, Product], *words: str) -> Answer:
    """Restore, which must be refused before Mattermost is stopped, with these ``words``."""
    _, gitlab, product = house
    before = process(gitlab)
    answer = product.restore("--no-safety-backup")
    assert answer.code == 1, answer
    assert process(gitlab) == before, "nothing has stopped it"
    told = " ".join(answer.error.values())
    assert not [word for word in words if word not in told], told
    return answer


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        (
            f"ALTER ROLE {ROLE} CONNECTION LIMIT 1",
            f"ALTER ROLE {ROLE} CONNECTION LIMIT -1",
            (f"CONNECTION LIMIT 1 is set for {ROLE}", "CONNECTION LIMIT -1"),
        ),
        (
            f"ALTER ROLE {ROLE} SET default_transaction_read_only = on",
            f"ALTER ROLE {ROLE} RESET default_transaction_read_only",
            (f'ALTER ROLE "{ROLE}" RESET default_transaction_read_only',),
        ),
        (
            f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on",
            f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only",
            (f'ALTER DATABASE "{DATABASE}" RESET default_transaction_read_only',),
        ),
    ],
    ids=["one connection", "read-only role", "read-only database"],
)
def test_a_limit_is_found_before_the_stop(
    house: tuple[Lab, Omnibus, Product], change: str, undo: str, words: tuple[str, ...]
) -> None:
    _, gitlab, _ = house
    as_superuser(gitlab, change, "postgres")
    try:
        refused(house, *words)
    finally:
        as_superuser(gitlab, undo, "postgres")


def test_a_role_without_a_connection_left_is_named(house: tuple[Lab, Omnibus, Product]) -> None:
    _, gitlab, product = house
    as_superuser(gitlab, f"ALTER ROLE {ROLE} CONNECTION LIMIT 1", "postgres")
    try:
        answer = product("backup")
        assert answer.code == 1
        assert f'too many connections for role "{ROLE}"' in answer.error["detail"]
        assert f'ALTER ROLE "{ROLE}" CONNECTION LIMIT -1' in answer.error["hint"]
    finally:
        as_superuser(gitlab, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1", "postgres")


def test_a_role_that_may_not_connect_is_named(house: tuple[Lab, Omnibus, Product]) -> None:
    _, gitlab, product = house
    name = "mattermost_production"
    rights = f"CONNECT ON DATABASE {name}"
    as_superuser(gitlab, f"REVOKE {rights} FROM PUBLIC, {ROLE}", "postgres")
    try:
        answer = product("backup")
        assert answer.code == 1
        assert answer.error["message"] == f"Role {ROLE} may not connect to database {name}"
        assert f'GRANT CONNECT ON DATABASE "{name}" TO "{ROLE}"' in answer.error["hint"]
    finally:
        as_superuser(gitlab, f"GRANT {rights} TO PUBLIC, {ROLE}", "postgres")


def test_a_role_that_may_not_ask_for_its_process_is_backed_up(
    house: tuple[Lab, Omnibus, Product],
) -> None:
    _, gitlab, product = house
    asks = "EXECUTE ON FUNCTION pg_catalog.pg_backend_pid()"
    as_superuser(gitlab, f"REVOKE {asks} FROM PUBLIC", "mattermost_production")
    try:
        assert product("backup").code in (0, 4), "what was taken from PUBLIC is told"
    finally:
        as_it_was = "UPDATE pg_proc SET proacl = NULL WHERE proname = 'pg_backend_pid'"
        as_superuser(gitlab, as_it_was, "mattermost_production")


def test_no_time_out_of_the_role_ends_a_backup(house: tuple[Lab, Omnibus, Product]) -> None:
    _, gitlab, product = house
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    changes = [f"ALTER ROLE {ROLE} SET {name} = '1ms'" for name in names]
    as_superuser(gitlab, ";".join(changes), "postgres")
    try:
        assert product("backup").code == 0
    finally:
        undone = [f"ALTER ROLE {ROLE} RESET {name}" for name in names]
        as_superuser(gitlab, ";".join(undone), "postgres")
        assert product("backup").code == 0, "the newest set has none of them"


@pytest.mark.parametrize("ignored", ["extra_float_digits", "extra_float_digits,options"])
def test_a_pooler_is_named_and_passed_by_with_two_settings(
    house: tuple[Lab, Omnibus, Product], ignored: str
) -> None:
    lab, gitlab, product = house
    pooler(lab, gitlab, ignored)
    before, config = lab.read(SOURCE), lab.path(CONFIG)
    own = config.read_text() if config.exists() else ""
    lab.path(SOURCE).write_text(
        f"user={ROLE} password=p@Secret99 host=127.0.0.1 port=6432 dbname={DATABASE} sslmode=disable"
    )
    try:
        answer = product("backup")
        assert answer.code == 1
        assert "PgBouncer" in answer.error["message"]
        assert "database" in answer.error["hint"] and "port" in answer.error["hint"]
        assert "p@Secret99" not in str(answer)
        refused(house, "PgBouncer", "host", "port")
        checks = {check["name"]: check for check in product("doctor").document["checks"]}
        assert "PgBouncer" in checks["database"]["detail"]
        # By its port alone: as Mattermost's role, with a password, which may make a set of it all.
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"{own}\ndatabase:\n  port: 5432\n")
        assert product("backup").code == 0
        # By its socket: then as an account of this host, and a restore has the superuser.
        config.write_text(f"{own}\ndatabase:\n  host: /var/opt/gitlab/postgresql/\n  port: 5432\n")
        assert product("backup").code == 0
        assert product.restore("--no-safety-backup").code == 0
        assert gitlab.sign_in("alice").user_id
    finally:
        lab.path(SOURCE).write_text(before)
        config.write_text(own)
        lab.run("pkill", "-x", "pgbouncer")
        gitlab.restart_mattermost()


def pooler(lab: Lab, gitlab: Omnibus, ignored: str) -> None:
    """Run Debian's PgBouncer before the bundled server, which then listens on a port too."""
    if not lab.path("/usr/sbin/pgbouncer").exists():
        lab.run("apt-get", "-qq", "update", env=apt_environment(), timeout=300)
        apt_install(lab, "pgbouncer")
        as_superuser(gitlab, "ALTER SYSTEM SET listen_addresses = '127.0.0.1'", "postgres")
        as_superuser(gitlab, f"ALTER ROLE {ROLE} PASSWORD 'p@Secret99'", "postgres")
        rules = lab.path(f"{DATA}/pg_hba.conf")
        rules.write_text(f"host all all 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        gitlab.gitlab_ctl("restart", "postgresql")
        gitlab.wait_until_ready()
    lab.write("/etc/pgbouncer/pgbouncer.ini", POOLER.format(ignored=ignored), mode=0o644)
    lab.write("/etc/pgbouncer/users.txt", f'"{ROLE}" "p@Secret99"\n', mode=0o644)
    account = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    lab.run(*account, "pgbouncer", "-d", "/etc/pgbouncer/pgbouncer.ini")
    lab.run(
        "sh",
        "-c",
        "until (echo > /dev/tcp/127.0.0.1/6432) 2>/dev/null; do :; done".join(
            ("exec timeout 30 bash -c '", "'")
        ),
    )


def test_a_replica_takes_no_restore_and_says_so(house: tuple[Lab, Omnibus, Product]) -> None:
    """The last test of this lab: a server in recovery, as a standby whose primary is away."""
    lab, gitlab, product = house
    lab.write(f"{DATA}/standby.signal", "", owner="gitlab-psql")
    gitlab.gitlab_ctl("restart", "postgresql")
    gitlab.lab.run(
        "timeout",
        "60",
        "sh",
        "-c",
        "until /opt/gitlab/bin/gitlab-psql -d postgres -c 'SELECT 1' >/dev/null 2>&1; do :; done",
    )
    assert gitlab.sql("SELECT pg_is_in_recovery()") == ["t"]
    refused(house, "replica", "primary")
    # All that is there can be read, and kept.
    assert product("backup").code == 0
