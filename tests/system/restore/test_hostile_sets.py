"""Sets that somebody made to do harm: refused, with nothing written and nothing changed."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest

from tests.system.helpers.faults import QUICK, Server
from tests.system.helpers.faults_forge import copied, forged, forged_sql, resum
from tests.system.helpers.faults_rows import Table

HOME = "var/opt/gitlab/mattermost"
GITLABS = "SELECT md5(string_agg(u::text, '' ORDER BY u.id)) FROM users u"

ARCHIVES: dict[str, tuple[dict[str, Any], str]] = {
    "an absolute name": ({"name": "/etc/cron.d/evil", "size": 9}, "leads out of the folders"),
    "a name with ..": ({"name": f"{HOME}/data/../../evil", "size": 9}, "leads out of the folders"),
    "a name elsewhere": ({"name": "etc/cron.d/evil", "size": 9}, "leads out of the folders"),
    "a device": (
        {"name": f"{HOME}/data/disk", "type_": "BLKTYPE", "devmajor": 8},
        "not a file, folder or link",
    ),
    "a pipe": ({"name": f"{HOME}/data/pipe", "type_": "FIFOTYPE"}, "not a file, folder or link"),
    "a set-user-id file": ({"name": f"{HOME}/data/sh", "size": 9, "mode": 0o4755}, "set-user-id"),
    "a hard link out": (
        {"name": f"{HOME}/data/shadow", "type_": "LNKTYPE", "linkname": "etc/shadow"},
        "hard link that leads out",
    ),
    "a link out": (
        {"name": f"{HOME}/data/etc", "type_": "SYMTYPE", "linkname": "/etc"},
        "link that leads out",
    ),
    "a link out by ..": (
        {"name": f"{HOME}/data/up", "type_": "SYMTYPE", "linkname": "../../../../../etc"},
        "link that leads out",
    ),
}
STATEMENTS = {
    "DROP DATABASE of the live one": "DROP DATABASE mattermost_production;",
    "COPY TO PROGRAM": "COPY (SELECT 1) TO PROGRAM 'touch /tmp/evil';",
    "CREATE ROLE": "CREATE ROLE evil SUPERUSER LOGIN;",
    "SET ROLE to the superuser": 'SET SESSION AUTHORIZATION "gitlab-psql"; CREATE ROLE evil;',
    "ALTER of GitLab's database": "ALTER DATABASE gitlabhq_production CONNECTION LIMIT 0;",
    "rename of the live one": "ALTER DATABASE mattermost_production RENAME TO evil;",
    "a read of the host's files": "SELECT pg_read_file('/etc/passwd');",
    "a large read of a server file": "SELECT lo_import('/etc/shadow');",
}


def refused(server: Server, path: str) -> str:
    """Restore it; nothing changes, whatever was tried. Gives the reason."""
    before = server.gitlab.sql(GITLABS, "gitlabhq_production")
    try:
        answer = server.run("restore", "--yes", *QUICK, path)
        assert answer.code == 1, answer
        assert server.gitlab.sql(GITLABS, "gitlabhq_production") == before
        assert server.gitlab.sql("SELECT 1 FROM pg_roles WHERE rolname = 'evil'", "postgres") == []
        assert server.lab.run("find", "/etc", "/tmp", "/var", "-name", "evil").stdout == ""
        server.expect(server.live)
    except BaseException:
        server.heal()
        raise
    return f"{answer.error['message']} {answer.error['detail']}"


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_with(server: Server, table: Table, name: str) -> None:
    member, reason = ARCHIVES[name]
    added = dict(member)
    if "type_" in added:
        added["type"] = getattr(tarfile, added.pop("type_")).decode()
    with table.row(f"hostile set: {name}", "old"):
        assert reason in refused(server, forged(server, add=added))


def test_an_archive_with_more_bytes_than_told(server: Server, table: Table) -> None:
    with table.row("hostile set: more bytes than its manifest says", "old"):
        bomb = {"name": f"{HOME}/data/bomb", "size": 50_000_000}
        path = forged(server, add=bomb, drop=50_000_000)
        assert "with it there are over" in refused(server, path)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_dump_that_runs(server: Server, table: Table, name: str) -> None:
    with table.row(f"hostile set: {name}", "old"):
        assert "pg_restore" in refused(server, forged_sql(server, STATEMENTS[name]))


def test_a_config_json_that_is_a_link(server: Server, table: Table) -> None:
    """One that the manifest knows of, so that the archive is as it says."""
    file, target = f"{HOME}/config.json", "/etc/shadow"
    link = {"name": file, "type": tarfile.SYMTYPE.decode(), "linkname": target}
    known = {"links": {f"/{file}": target}}
    path = forged(server, contents={f"/{file}": None}, add=link, manifest=known)
    with table.row("hostile set: config.json is a link to /etc/shadow", "old"):
        try:
            answer = server.run("restore", "--yes", *QUICK, path)
            assert answer.code == 4, answer
            assert "config.json was a link to" in " ".join(answer.document["warnings"])
            kind = server.lab.run("stat", "-c", "%F %U %a", f"/{file}").stdout
            assert kind == "regular file mattermost 600\n"
            assert "root:" not in server.lab.read(f"/{file}"), "it is made of settings.json"
        finally:
            server.heal()


def test_settings_that_no_service_can_have(server: Server, table: Table) -> None:
    """A rehearsal would start Mattermost with them."""
    path = copied(server.lab, server.sets[server.other])
    document = json.loads(server.lab.read(f"{path}/settings.json"))
    document["environment"] |= {"MM_A=B": "x", "MM_C": "x\0y"}
    server.lab.write(f"{path}/settings.json", json.dumps(document), mode=0o600)
    resum(server.lab, path)
    with table.row("hostile set: variables that no process can be started with", "old"):
        answer = server.run("rehearse", path)
        assert answer.code == 1, answer
        (failed,) = [check for check in answer.document["checks"] if check["result"] == "failed"]
        assert failed["name"] == "settings"
        assert "not the name of a variable: 'MM_A=B'" in failed["detail"]
        server.expect(server.live)


@pytest.mark.parametrize("file", ["manifest.json", "files.tar.zst", "SHA256SUMS"])
def test_a_set_that_was_altered(server: Server, table: Table, file: str) -> None:
    path = forged(server)
    script = (
        'printf "~" | dd of="$0" bs=1 seek=$(($(stat -c %s "$0") / 2)) conv=notrunc status=none'
    )
    server.lab.run("sh", "-ec", script, f"{path}/{file}")
    with table.row(f"hostile set: altered {file}", "old"):
        refused(server, path)


def test_the_same_forgery_without_harm_is_taken(server: Server) -> None:
    """Or the tests above would pass for any set that this file makes."""
    new = server.other
    path = forged(server, add={"name": f"{HOME}/data/harmless", "size": 9})
    assert server.run("restore", "--yes", *QUICK, path).code == 0
    assert server.lab.read(f"/{HOME}/data/harmless") == "#" * 9
    server.lab.run("rm", f"/{HOME}/data/harmless")
    server.expect(new)
    path = forged_sql(server, "SELECT 1;")
    assert server.run("restore", "--yes", *QUICK, path).code == 0
