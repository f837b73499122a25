"""What was there yesterday and is missing today: told by the night, and by every list after it."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers.terminals import on_a_terminal

HOME = "/var/opt/gitlab/mattermost"
DATA, PLUGINS = f"{HOME}/data", f"{HOME}/plugins"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
RESTIC = f"store: restic\nrestic:\n  repository: /srv/restic\n  password_file: {PASSWORD}\n"
LOST = (
    f"the set has no directory data; '{DATA}' holds files",
    "--only files",
    "--replace-with-empty",
)


@dataclass(frozen=True)
class Server:
    """One server for the tests of this file; each puts back what it takes away."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def shell(self, script: str) -> str:
        return str(self.lab.run("sh", "-ec", script).stdout)

    def files(self) -> str:
        """Every file of the home with its content, owner and mode."""
        return self.shell(
            f"cd {HOME}; find . -printf '%p %y %u %g %m %l\\n' | sort;"
            " find . -type f -print0 | sort -z | xargs -0 sha256sum"
        )

    def an_upload(self) -> str:
        """The path of an upload below the data folder; its name may hold quotes."""
        return str(self.gitlab.sql("SELECT path FROM fileinfo WHERE deleteat = 0 ORDER BY path")[0])

    def upload_gone(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Have an upload away from the disk for a while."""
        file = shlex.quote(f"{DATA}/{path}")
        return self.broken(f"mv {file} /srv/away", f"mv /srv/away {file}")

    def uploads(self) -> int:
        return int(self.gitlab.sql("SELECT count(*) FROM fileinfo WHERE deleteat = 0")[0])

    def good_night(self) -> str:
        answer = self.product("backup")
        assert (answer.code, answer.document["told"]) == (0, []), answer
        return str(answer.document["set"])

    def told(self) -> Answer:
        """Make a set of what is there; gives the answer, of which every list says the same."""
        answer = self.product("backup")
        assert answer.code == 4, answer
        told = answer.document["told"]
        assert told and answer.document["warnings"] == told
        assert self.listed(answer.document["set"])["told"] == told
        if answer.document["path"].startswith("/"):
            assert json.loads(self.lab.read(f"{answer.document['path']}/manifest.json"))[
                "told"
            ] == (told)
        text = self.product.run("list").stdout
        assert all(f"  Warning: {words}\n" in text for words in told), text
        assert told[0] in self.status()["words"] and self.status()["state"] == "warning"
        assert any(told[0] in concern for concern in self.concerns())
        return answer

    def listed(self, name: str) -> dict[str, Any]:
        sets = self.product("list").document["sets"]
        return next(dict(set_) for set_ in sets if set_["name"] == name)

    def status(self) -> dict[str, Any]:
        lines = self.product("status").document["lines"]
        return next(dict(line) for line in lines if line["name"] == "last set")

    def concerns(self) -> list[str]:
        return list(self.product("report", "/tmp/report.html").document["concerns"])

    @contextlib.contextmanager
    def broken(self, breaking: str, healing: str) -> Iterator[None]:
        """Have something missing for a while."""
        before = self.files()
        self.shell(breaking)
        try:
            yield
        finally:
            self.shell(healing)
        assert self.files() == before


def boot(lab: Lab, deb: Any, config: str = "") -> Server:
    gitlab = install(lab, Spec())
    product = install_product(lab, deb)
    if config:
        lab.write(PASSWORD, "correct horse\n", mode=0o600)
        lab.write(CONFIG, config)
        environment = {"RESTIC_PASSWORD": "correct horse", "HOME": "/root"}
        lab.run("restic", "init", "--repo", "/srv/restic", env=environment)
    gitlab.seed()
    return Server(lab, gitlab, product)


@pytest.fixture(scope="module")
def server(base: Any, deb: Any) -> Iterator[Server]:
    with Lab(base=base) as lab:
        yield boot(lab, deb)


AWAY = (f"mv {DATA} /srv/away", f"mv /srv/away {DATA}")
CASES = {
    "data moved away": (*AWAY, f"The directory '{DATA}' (data) is missing"),
    "data emptied": (
        f"mv {DATA} /srv/away; cp -a --attributes-only /srv/away {DATA};"
        f" find {DATA} ! -type d -delete",
        f"rm -r {DATA}; mv /srv/away {DATA}",
        f"The directory '{DATA}' (data) is empty",
    ),
    "data a dangling link": (
        f"mv {DATA} /srv/away; ln -s /srv/gone {DATA}",
        f"rm {DATA}; mv /srv/away {DATA}",
        f"The directory '{DATA}' (data) is a link to '/srv/gone', which does not exist",
    ),
    "plugins gone": (
        f"mv {PLUGINS} /srv/away",
        f"mv /srv/away {PLUGINS}",
        f"The directory '{PLUGINS}' (plugins) is missing",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_directory_that_the_last_set_had(server: Server, case: str) -> None:
    breaking, healing, words = CASES[case]
    before = server.good_night()
    with server.broken(breaking, healing):
        (said,) = server.told().document["told"]
    wanted = f"{words}; in set {before} this was not the case"
    if "(data)" in words:
        wanted += f"; the database names {server.uploads()} uploads"
    assert said == wanted
    server.good_night()


def test_a_config_json_that_mattermost_cannot_read(server: Server) -> None:
    """It runs on with what it has read before, and would not start again."""
    config = f"{HOME}/config.json"
    server.good_night()
    with server.broken(f"chown root {config}", f"chown mattermost {config}"):
        (said,) = server.told().document["told"]
    assert said.startswith(f"'{config}' cannot be read by mattermost")
    server.good_night()


def test_missing_data_are_told_every_night(server: Server) -> None:
    server.good_night()
    with server.broken(*AWAY):
        first, second = (server.told().document["told"][0] for _ in range(2))
    assert "this was not the case" in first and "this was not the case" not in second
    assert second.startswith(f"The directory '{DATA}' (data) is missing")


def test_a_mount_point_with_nothing_mounted(server: Server) -> None:
    mount = (
        f"mv {DATA} /srv/away; mkdir {DATA}; mount -t tmpfs tmpfs {DATA}; cp -a /srv/away/. {DATA}"
    )
    server.shell(mount)
    try:
        before = server.good_night()
        server.shell(f"umount {DATA}")
        (said,) = server.told().document["told"]
        assert said == (
            f"The directory '{DATA}' (data) is empty and has nothing mounted at it; in set "
            f"{before} this was not the case; the database names {server.uploads()} uploads"
        )
        server.lab.write("/etc/fstab", f"tmpfs {DATA} tmpfs nofail 0 0\nnone /srv/x tmpfs 0 0\n")
        told = server.told().document["told"]
        assert told[0] == (
            f"Nothing is mounted at '{DATA}', which is in /etc/fstab: Mattermost's home, data "
            "would be there"
        )
        assert f"{server.uploads()} of {server.uploads()} uploads looked at are missing" in told[1]
        server.lab.write("/etc/fstab", f"tmpfs {DATA} tmpfs noauto 0 0\n")
        assert len(server.told().document["told"]) == 1
    finally:
        server.lab.path("/etc/fstab").unlink(missing_ok=True)
        server.lab.run("umount", DATA, check=False)
        server.shell(f"rmdir {DATA}; mv /srv/away {DATA}")
    server.good_night()


def test_single_uploads_are_sampled(server: Server) -> None:
    path = server.an_upload()
    with server.upload_gone(path):
        (said,) = server.told().document["told"]
    assert (
        said == f"1 of {server.uploads()} uploads looked at are missing on disk, such as {path!r}"
    )
    server.good_night()


def test_an_upload_behind_a_link_out_is_not_in_the_set(server: Server) -> None:
    path = server.an_upload()
    top = path.partition("/")[0]
    link = f"mv '{DATA}/{top}' /srv/away; ln -s /srv/away '{DATA}/{top}'"
    with server.broken(link, f"rm '{DATA}/{top}'; mv /srv/away '{DATA}/{top}'"):
        told = server.told().document["told"]
    assert any(
        "lie behind a link that leads out of Mattermost's directories" in warning
        for warning in told
    )


def test_an_upload_deleted_while_the_backup_runs_is_not_told(server: Server) -> None:
    """It is in the dump's snapshot, and neither on the disk nor in the database at the end."""
    lab, waits = server.lab, "touch /tmp/begun; until [ -e /tmp/go ]; do sleep 0.05; done"
    path = server.an_upload()
    program = "/opt/gitlab/embedded/bin/pg_dump"
    lab.run("mv", program, f"{program}.kept")
    real = f'#!/bin/sh\n{waits}\nexec /usr/lib/postgresql/*/bin/pg_dump "$@"\n'
    lab.write(program, real, mode=0o755)
    quoted = path.replace("'", "''")
    gone = f"UPDATE fileinfo SET deleteat = {{}} WHERE path = '{quoted}'"
    try:
        with server.upload_gone(path):
            run = lab.popen("gitlab-mm", "backup", "--json", stdout=subprocess.PIPE, text=True)
            wait_until(lab.path("/tmp/begun").exists, 30, "pg_dump")
            server.gitlab.sql(gone.format(1))
            lab.path("/tmp/go").touch()
            document = json.loads(run.communicate(timeout=60)[0])
    finally:
        server.gitlab.sql(gone.format(0))
        lab.run("mv", "--force", f"{program}.kept", program)
    assert (document["exit_code"], document["told"]) == (0, [])


def refused(server: Server, *arguments: str, code: int = 1) -> Answer:
    """Restore; gives the answer of one that was refused with every byte as it was."""
    before, files = server.gitlab.state(), server.files()
    answer = server.product("restore", *arguments)
    assert answer.code == code, answer
    assert not server.gitlab.state().differences(before) and server.files() == files
    assert server.product.leftovers() == []
    return answer


def of_missing_data(server: Server) -> tuple[str, str]:
    """Make a set, and one with the data away; gives both names."""
    good = server.good_night()
    with server.broken(*AWAY):
        return good, str(server.told().document["set"])


def test_a_restore_does_not_replace_data_with_nothing(server: Server) -> None:
    good, bad = of_missing_data(server)
    answer = refused(server, "--yes", bad)
    assert answer.error["message"] == "The restore would replace live data with nothing"
    assert all(words in str(answer.error) for words in LOST)
    dry = server.product("restore", "--dry-run", bad)
    assert dry.code == 1 and "replace live data with nothing" in dry.document["obstacle"]
    assert dry.document["told"] == server.listed(bad)["told"]
    refused(server, "--yes", "--only", "files", "--replace-with-empty", f"{good}x", code=1)
    only = server.product.restore("--only", "database", bad)
    assert only.code == 0, only
    assert server.shell(f"find {DATA} -type f") != ""
    done = server.product.restore("--replace-with-empty", bad)
    assert done.code in (0, 4), done
    assert not server.lab.path(DATA).exists()
    back = server.product.restore(good)
    assert back.code == 0, back
    named = server.product.restore("--only", "files", bad)
    assert named.code in (0, 4) and not server.lab.path(DATA).exists(), named
    assert server.product.restore(good).code == 0
    server.good_night()


def test_a_rehearsal_looks_at_all_uploads(server: Server) -> None:
    _, bad = of_missing_data(server)
    answer = server.product("rehearse", bad)
    assert answer.code == 1, answer
    (said,) = [
        check["detail"] for check in answer.document["checks"] if check["result"] == "failed"
    ]
    number = server.uploads()
    assert said.startswith(f"{number} of {number} are missing, 0 have another size: '")


def test_a_person_is_asked_for_the_loss_apart(server: Server) -> None:
    good, bad = of_missing_data(server)
    before = server.files()
    answer = on_a_terminal(server.lab, "gitlab-mm", "restore", bad, answers=("y", "n"))
    assert answer.returncode == 2 and "THIS REPLACES LIVE DATA WITH NOTHING" in answer.stdout
    assert LOST[0] in answer.stdout and "Warning: The directory" in answer.stdout
    assert server.files() == before
    answer = on_a_terminal(server.lab, "gitlab-mm", "restore", bad, answers=("y", "y"))
    assert answer.returncode in (0, 4), answer
    assert not server.lab.path(DATA).exists()
    assert server.product.restore(good).code == 0
    server.good_night()


def test_a_restore_does_not_replace_a_database_with_an_empty_one(server: Server) -> None:
    """The set is one of before anybody used Mattermost."""
    good = server.good_night()
    tables = server.gitlab.sql(
        "SELECT string_agg(quote_ident(relname), ', ') FROM pg_class WHERE relkind = 'r'"
        " AND relname IN ('teams', 'users', 'posts', 'fileinfo', 'bots')"
    )[0]
    server.gitlab.sql(f"TRUNCATE {tables} CASCADE")
    empty = server.product("backup").document["set"]
    assert server.product.restore(good).code == 0
    answer = refused(server, "--yes", empty)
    assert "the database of the set is empty; the live one has " in answer.error["detail"]
    assert "--only database" in answer.error["hint"]
    assert server.product.restore("--only", "database", empty).code in (0, 4)
    assert server.product.restore(good).code == 0


def test_in_a_repository_of_restic(base: Any, deb: Any) -> None:
    with Lab(base=base) as lab:
        server = boot(lab, deb, RESTIC)
        for case in ("data moved away", "plugins gone"):
            test_a_directory_that_the_last_set_had(server, case)
        good, bad = of_missing_data(server)
        answer = refused(server, "--yes", bad)
        assert all(words in str(answer.error) for words in LOST)
        assert server.product.restore("--replace-with-empty", bad).code in (0, 4)
        assert server.product.restore(good).code == 0
        check: Callable[[Server], None] = test_single_uploads_are_sampled
        check(server)
