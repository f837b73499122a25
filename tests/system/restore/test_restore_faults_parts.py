"""Restores in which something else breaks: programs, the server, signals, disks, hooks, Mattermost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.system.helpers.faults import HOME, Fault, Server, differences, journal_write
from tests.system.helpers.faults_rows import FILL, Case, Table, filling, play

STATE = "/var/lib/gitlab-mm-backup"
DATA = "/var/opt/gitlab/postgresql/data"
ENVIRONMENT = "/opt/gitlab/etc/mattermost/env/MM_GITLABSETTINGS_SECRET"
# Until all of it is gone: a backend may do a statement before it notices that it is alone.
CRASH = (
    "sh",
    "-c",
    f"server=$(head -n 1 {DATA}/postmaster.pid); rest=$(cat /proc/$server/task/$server/children);"
    " kill -9 $server; for one in $rest; do while kill -0 $one; do sleep 0.01; done; done 2>&-",
)
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


def killed() -> Iterator[Case]:
    """kill -9 of ourselves within the long steps, and of each program that works for us."""
    yield Case("kill -9 while the database is loaded", Fault("child:pg_restore"), -9, "--rollback")
    yield Case("kill -9 while files are unpacked", Fault("stream:tar"), -9, "--continue", "new")
    yield Case("kill -9 of pg_restore", Fault("child:pg_restore", target="pg_restore"))
    yield Case("kill -9 while keys are made", Fault("child:psql"), -9, "--rollback")
    yield Case("kill -9 of psql", Fault("child:psql", target="psql"))
    yield Case("kill -9 of zstd", Fault("stream:tar", target="zstd"))
    yield Case("kill -9 of tar", Fault("stream:tar", target="tar"))
    for name, fault in (
        ("while the database is loaded", Fault("child:pg_restore", act="run", argv=CRASH)),
        (
            "before the databases are renamed",
            Fault("postgresql.swap:_rename", act="run", argv=CRASH),
        ),
        (
            "after they are renamed",
            Fault("postgresql.swap:exchange", "after", act="run", argv=CRASH),
        ),
    ):
        state = "new" if fault.when == "after" else "old"
        yield Case(f"kill -9 of PostgreSQL {name}", fault, 0 if state == "new" else 1, state=state)
    yield Case(
        "kill -9 between CREATE DATABASE and our mark",
        Fault("postgresql.swap:_comment"),
        -9,
        "--rollback",
    )


def signalled() -> Iterator[Case]:
    """Each of the three signals, each in another step."""
    places = {
        "the load": Fault("child:pg_restore"),
        "the unpacking": Fault("stream:tar"),
        "the exchange of databases": Fault("postgresql.swap:_rename", "after"),
        "the exchange of folders": Fault("restore.folder_swap:_move_all"),
        "Mattermost's start": Fault("mattermost.service:wait_until_it_answers", nth=2),
    }
    for index, (name, fault) in enumerate(places.items()):
        act = SIGNALS[index % len(SIGNALS)]
        yield Case(f"{act} in {name}", Fault(fault.point, fault.when, fault.nth, act))
    ctrl_c = Fault("child:pg_restore", act="SIGINT")
    yield Case("Ctrl-C in the load", ctrl_c)
    yield Case(
        "SIGTERM after the commit", Fault("restore.rollback:finish", act="SIGTERM"), 0, state="new"
    )


def failing() -> Iterator[Case]:
    """A failure of each step, and a bad disk beneath each exchange."""
    for point, when in (
        ("mattermost.service:RunitService.keep_down", "after"),
        ("restore.folder_swap:make_work_folder", "after"),
        ("postgresql.swap:create_beside", "after"),
        ("restore.unpack:unpack", "after"),
        ("postgresql.swap:exchange", "before"),
        ("postgresql.swap:exchange", "after"),
        ("restore.folder_swap:exchange", "before"),
        ("restore.folder_swap:exchange", "after"),
        ("mattermost.service:RunitService.allow_start", "after"),
    ):
        name = f"failure {when} {point.replace(':', '.')}"
        yield Case(name, Fault(point, when, act="fail"))
    for number in (1, 2):
        name = f"I/O error at rename {number} of the folders"
        yield Case(name, Fault("restore.folder_swap:_move_all", nth=number, act="EIO"))
    yield Case(
        "I/O error when the renames are synced", Fault("restore.folder_swap:sync_folder", act="EIO")
    )


CASES = [*killed(), *signalled(), *failing()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_restore_that_breaks(server: Server, table: Table, case: Case) -> None:
    play(server, table, case)


@pytest.mark.parametrize("word", ["exit", "silent"])
def test_a_mattermost_that_does_not_take_the_new_state(
    server: Server, table: Table, word: str
) -> None:
    name = {"exit": "ends at once", "silent": "never answers"}[word]
    server.lab.write("/opt/fault-mattermost", f"{word} {server.other}")
    play(server, table, Case(f"Mattermost {name} on the new state", Fault(patience=2)))
    server.lab.run("rm", "/opt/fault-mattermost")


@pytest.mark.parametrize("phase", ["pre-restore", "post-restore"])
def test_an_administrators_hook_fails(server: Server, table: Table, phase: str) -> None:
    server.hook(phase, "echo no; exit 3")
    play(server, table, Case(f"{phase} hook fails"))
    server.no_hook()


def test_the_sign_in_hook_fails(server: Server, table: Table) -> None:
    path = "/etc/gitlab-mm-backup/hooks/post-restore.d/50-credentials"
    server.lab.write(path, "#!/bin/sh\nexit 1\n", mode=0o755)
    try:
        play(server, table, Case("sign-in hook fails"))
    finally:
        server.lab.run("rm", path)


@pytest.mark.parametrize("verb", ["stop", "start"])
def test_gitlab_ctl_fails(server: Server, table: Table, verb: str) -> None:
    """A start that fails on the way back too leaves a journal, and says so."""
    server.lab.write("/run/fault-gitlab-ctl", verb)
    if verb == "stop":
        play(server, table, Case("gitlab-ctl cannot stop Mattermost"))
        server.lab.run("rm", "/run/fault-gitlab-ctl")
        return

    def mend(made: Server) -> None:
        made.lab.run("rm", "/run/fault-gitlab-ctl")
        made.gitlab.gitlab_ctl("stop", "mattermost")

    case = Case("gitlab-ctl cannot start Mattermost", code=5, recover="--rollback", before=mend)
    play(server, table, case)


@contextlib.contextmanager
def broken_sign_in(server: Server) -> Iterator[None]:
    """Have a secret in the environment that GitLab does not accept, so that the hook has work."""
    good = server.lab.read(ENVIRONMENT)
    server.lab.path(ENVIRONMENT).write_text("wrong")
    try:
        yield
    finally:
        server.lab.path(ENVIRONMENT).write_text(good)
        server.gitlab.restart_mattermost()


@pytest.mark.parametrize("how", ["Mattermost's start fails", "kill -9 after the hook"])
def test_credentials_that_the_hook_wrote_are_taken_back(
    server: Server, table: Table, how: str
) -> None:
    act = "SIGKILL" if how.startswith("kill") else "fail"
    fault = Fault("mattermost.service:RunitService.start", act=act)
    try:
        with broken_sign_in(server), table.row(f"new credentials written, then {how}", "old"):
            before = server.observe()
            answer = server.restore("--no-safety-backup", fault=fault, quick=False)
            if act == "SIGKILL":
                assert server.observe(serves=False)["host"] != before["host"], "the hook wrote"
                answer = server.run("restore", "--rollback")
                assert answer.code == 0, answer
            else:
                assert answer.code == 1, answer
            assert not differences(before, server.observe())
        server.expect(server.live)
    except BaseException:
        server.heal()
        raise


def test_the_whole_disk_is_full(server: Server, table: Table) -> None:
    """PostgreSQL may end too: then there is a journal, for when there is room again."""
    fault = Fault("postgresql.clients:load", act="run", argv=filling("/var", 300_000))
    wanted = server.live
    try:
        with table.row("disk of everything full in the load", "old"):
            answer = server.restore(fault=fault)
            server.lab.run("rm", FILL)
            server.wait_for_postgresql()
            assert answer.code in (1, 5), answer
            assert server.journal == (answer.code == 5)
            if server.journal:
                assert server.run("restore", "--rollback").code == 0
            server.expect(wanted)
    except BaseException:
        server.heal()
        raise


def test_postgresql_dies_within_the_drop(server: Server, table: Table) -> None:
    """DROP DATABASE begins with marking it invalid (datconnlimit -2); then it can only be dropped."""

    def half_dropped(made: Server) -> None:
        made.gitlab.sql(
            "UPDATE pg_database SET datconnlimit = -2 WHERE datname ~ '^gitlab_mm_new_' AND"
            " datname <> 'gitlab_mm_new_deadbeef'",
            "postgres",
        )

    name = "kill -9 of PostgreSQL within DROP DATABASE"
    cut = Fault("postgresql.swap:exchange")
    play(server, table, Case(name, cut, -9, "--rollback", before=half_dropped))


def test_the_state_folders_disk_is_full(server: Server, table: Table) -> None:
    small = (
        f"mount -t tmpfs -o size=64k,mode=700 tmpfs /mnt; cp -a {STATE}/. /mnt; "
        f"mount --bind /mnt {STATE}; umount /mnt"
    )
    server.lab.run("sh", "-ec", small)
    fill = ("sh", "-c", f"head -c 1000000 /dev/zero >{STATE}/fill || true")
    try:
        for number in (1, 5, 9):
            fault = Fault("mattermost.journal:Journal.write", nth=number, act="run", argv=fill)
            wanted = server.live
            with table.row(f"state folder's disk full at note {number}", "old"):
                answer = server.restore(fault=fault)
                server.lab.run("rm", f"{STATE}/fill")
                assert answer.code == 1, answer
                server.expect(wanted)
    except BaseException:
        server.heal()
        raise
    finally:
        server.lab.run("umount", STATE)


def test_the_databases_disk_is_full(server: Server, table: Table) -> None:
    """The tables alone lie on a disk of their own, without room for another database."""
    script = (
        f"used=$(du -s --block-size=1M {DATA}/base | cut -f1); "
        f"mount -t tmpfs -o size=$((used + $0))M tmpfs /mnt; cp -a {DATA}/base/. /mnt; "
        f"chown --reference={DATA}/base /mnt; chmod 700 /mnt; mount --move /mnt {DATA}/base"
    )
    wanted = server.live
    server.gitlab.gitlab_ctl("stop", "postgresql")
    server.lab.run("sh", "-ec", script, "4")
    server.gitlab.gitlab_ctl("start", "postgresql")
    server.wait_for_postgresql()
    try:
        with table.row("database's disk full in the load", "old"):
            answer = server.restore()
            assert answer.code == 1, answer
            assert "No space left" in answer.error["detail"]
    finally:
        server.gitlab.gitlab_ctl("stop", "postgresql")
        keep = f"cp -a {DATA}/base /srv/base; umount {DATA}/base; rm -rf {DATA}/base; mv /srv/base {DATA}/"
        server.lab.run("sh", "-ec", keep)
        server.gitlab.gitlab_ctl("start", "postgresql")
        server.wait_for_postgresql()
    server.gitlab.restart_mattermost()
    server.expect(wanted)


def test_one_at_a_time(server: Server, table: Table) -> None:
    words = ("restore", "--yes", "--no-safety-backup", server.sets[server.other])
    new = server.other
    with (
        table.row("a second restore and a backup meanwhile", "new"),
        server.held(*words, fault=journal_write(3, "hold")) as first,
    ):
        assert server.run(*words).code == 3
        assert server.run("backup").code == 3
        assert server.go(first).code == 0
    server.expect(new)


def test_an_undo_that_is_missing_makes_a_row_fail(server: Server) -> None:
    """The harness itself: with one undo taken out of the product, in this lab alone, it must see red."""
    path = "/usr/lib/python3/dist-packages/gitlab_mm_backup/restore/rollback.py"
    whole = server.lab.read(path)
    undo = "folder_swap.exchange_back(Path(live), Path(work))"
    assert undo in whole
    wanted = server.live
    server.lab.path(path).write_text(whole.replace(undo, "pass"))
    try:
        server.restore(fault=Fault("mattermost.service:RunitService.start", act="fail"))
        found = differences(server.states[wanted], server.observe(serves=False))
        assert any(line.startswith(f"/files/{HOME}/data") for line in found)
    finally:
        server.lab.path(path).write_text(whole)
        if server.journal:
            server.run("restore", "--rollback")
    server.expect(wanted)
