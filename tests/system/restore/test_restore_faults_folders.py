"""Restores of uploads that lie elsewhere: on another folder, behind a link, on a disk of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.helpers.faults import Fault, Server, differences, journal_write
from tests.system.helpers.faults_rows import Case, Table, filling, play
from tests.system.helpers.faults_server import server as boot

DATA, REAL = "/srv/uploads", "/srv/real"
LAYOUTS = {
    "elsewhere": ("", ""),
    "a link": (f"mv {DATA} {REAL}; ln -s {REAL} {DATA}", f"rm {DATA}; mv {REAL} {DATA}"),
    "a bind mount": (
        f"mv {DATA} {REAL}; install -d {DATA}; mount --bind {REAL} {DATA}",
        f"umount {DATA}; rmdir {DATA}; mv {REAL} {DATA}",
    ),
    "a tmpfs": (
        f"mount -t tmpfs -o size=100m tmpfs /mnt; cp -a {DATA}/. /mnt; "
        f"chown --reference={DATA} /mnt; chmod --reference={DATA} /mnt; mount --move /mnt {DATA}",
        f"cp -a {DATA} {REAL}; umount {DATA}; rm -rf {DATA}; mv {REAL} {DATA}",
    ),
}


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with boot(base, deb, data_folder=DATA) as made:
        yield made


@contextlib.contextmanager
def laid_out(server: Server, layout: str) -> Iterator[None]:
    """Have the uploads lie so; Mattermost is started anew, as it keeps no folder open."""
    there, back = LAYOUTS[layout]
    server.gitlab.gitlab_ctl("stop", "mattermost")
    server.lab.run("sh", "-ec", there or ":")
    server.gitlab.gitlab_ctl("start", "mattermost")
    server.places = {DATA: REAL} if layout == "a link" else {}
    try:
        yield
    finally:
        server.places = {}
        server.gitlab.gitlab_ctl("stop", "mattermost")
        server.lab.run("sh", "-ec", back or ":")
        server.gitlab.gitlab_ctl("start", "mattermost")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_uploads_that_lie_elsewhere(server: Server, table: Table, layout: str) -> None:
    name = f"uploads are {layout}" if layout != "elsewhere" else "uploads lie elsewhere"
    with laid_out(server, layout):
        for case in (
            Case(f"{name}: none", code=0, state="new"),
            Case(
                f"{name}: failure half way",
                Fault("restore.folder_swap:exchange", "after", 2, "fail"),
            ),
            Case(
                f"{name}: kill -9 between two renames",
                Fault("restore.folder_swap:_move_all", nth=4),
                -9,
                "--rollback",
            ),
            Case(
                f"{name}: kill -9 at the start",
                journal_write(10, when="before"),
                -9,
                "--continue",
                "new",
            ),
        ):
            play(server, table, case)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_directory_that_becomes_a_link_is_refused(server: Server, in_place: bool) -> None:
    """After the checks, and before its parents are root's alone: then the account may do that."""
    lab, before = server.lab, server.observe()
    lab.run("sh", "-ec", "mkdir /srv/canary; echo kept >/srv/canary/key")
    swap = ("sh", "-ec", f"mv {DATA} {REAL}; ln -s /srv/canary {DATA}")
    fault = Fault("restore.unpack:works", act="run", argv=swap)
    words = ["--in-place"] if in_place else []
    wanted = server.sets[server.other]
    answer = server.run("restore", "--yes", "--no-safety-backup", *words, wanted, fault=fault)
    found = lab.run("sh", "-ec", "cat /srv/canary/*; ls -A /srv/canary").stdout
    lab.run("sh", "-ec", f"rm {DATA}; mv {REAL} {DATA}; rm -r /srv/canary")
    assert (answer.code, answer.error["message"]) == (1, f"{DATA} has become a link"), answer
    assert found == "kept\nkey\n"
    assert not differences(before, server.observe())


def test_the_uploads_disk_is_full(server: Server, table: Table) -> None:
    argv = filling(DATA, 4096, f"{DATA}/.gitlab-mm-fill")
    with laid_out(server, "a tmpfs"):
        full = Fault("restore.unpack:unpack", act="run", argv=argv)
        rid = "rm -f " + f"{DATA}/.gitlab-mm-fill"
        try:
            case = Case(
                "uploads' disk full", full, before=lambda made: made.lab.run("sh", "-c", rid)
            )
            play(server, table, case)
        finally:
            server.lab.run("sh", "-c", rid)


def test_the_uploads_disk_is_read_only(server: Server, table: Table) -> None:
    with laid_out(server, "a tmpfs"):
        server.lab.run("mount", "-o", "remount,ro", DATA)
        try:
            play(server, table, Case("uploads' disk read-only"))
        finally:
            server.lab.run("mount", "-o", "remount,rw", DATA)
