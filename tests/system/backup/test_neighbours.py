"""The impact of a backup on migrations, VACUUM, and other users of processor, disk and memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.disks import CHECKOUT
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers.faults import Server
from tests.system.helpers.faults_server import server as boot
from tests.system.helpers.held import DATABASE, HeldBackup, held_backup

CONFIG = "/etc/gitlab-mm-backup/config.yml"
SIZE = 16 << 20  # bytes
DATA = "/var/opt/gitlab/mattermost/data"
# Random text, more than the pipe behind pg_dump takes.
BALLAST = (
    "INSERT INTO posts SELECT p.* FROM (SELECT to_jsonb(x) AS one FROM posts x LIMIT 1) q,"
    " generate_series(1, 8000) n, LATERAL jsonb_populate_record(NULL::posts, one || jsonb_build_object("
    "'id', substr(md5('ballast' || n), 1, 26), 'message', (SELECT string_agg(md5(random()::text), '')"
    " FROM generate_series(1, 60) WHERE n > 0))) p"
)
# A rewritten table is empty in snapshots that are older.
REWRITE = (
    "ALTER TABLE posts ALTER COLUMN remoteid TYPE varchar(26) USING (remoteid || ''),"
    " ALTER COLUMN remoteid SET DEFAULT 'migrated'"
)
READS_POSTS = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE application_name = 'gitlab-mm-backup' AND relation = 'posts'::regclass AND granted"
)


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with boot(base, deb) as made:
        made.gitlab.sql(BALLAST)
        yield made


@contextmanager
def backing_up(server: Server, settings: str = "") -> Iterator[HeldBackup]:
    """A backup that reads the table of posts, and goes on with it when it is let go."""
    whole = server.lab.read(CONFIG)
    server.lab.write(CONFIG, settings)
    try:
        with held_backup(server.lab) as backup:
            wait_until(lambda: server.gitlab.sql(READS_POSTS) != ["0"], 30, "the dump")
            yield backup
    finally:
        server.lab.write(CONFIG, whole)


def ended(backup: HeldBackup) -> dict[str, object]:
    """What a backup says at its end, which must be a good one."""
    document = backup.ended()
    assert (document["exit_code"], document["warnings"]) == (0, []), document
    return document


def test_a_migration_does_not_wait_for_a_backup(server: Server) -> None:
    """It gets its table while the backup goes on, which begins again and holds the new schema."""
    with backing_up(server) as backup:
        server.gitlab.sql(REWRITE)
        made = ended(backup)
    dump = f"{made['path']}/database.dump.zst"
    tables = f"zstd -dcq {dump} | /opt/gitlab/embedded/bin/pg_restore --schema-only --file=-"
    manifest = json.loads(server.lab.read(f"{made['path']}/manifest.json"))
    (rows,) = server.gitlab.sql("SELECT count(*) FROM posts")
    assert manifest["database"]["rows"]["public.posts"] == int(rows) > 8000
    assert "DEFAULT 'migrated'" in server.lab.run("sh", "-c", tables).stdout
    assert server.run("verify", str(made["set"])).code == 0


def test_people_talk_while_a_migration_and_a_backup_meet(server: Server) -> None:
    """Whoever comes after the migration waits behind it: for a moment, and not for the backup."""
    with backing_up(server) as backup:
        alter = server.lab.popen(
            "/opt/gitlab/bin/gitlab-psql", "-d", "mattermost_production", "-c",
            "ALTER TABLE posts ALTER COLUMN remoteid DROP DEFAULT",
        )  # fmt: skip
        session = server.gitlab.sign_in("bob")
        assert session.read_post(session.post("while it migrates"))
        assert alter.wait(timeout=30) == 0
        ended(backup)


def test_a_vacuum_does_not_wait_either(server: Server) -> None:
    with backing_up(server) as backup:
        server.gitlab.sql("VACUUM ANALYZE posts")
        ended(backup)


def test_the_locks_go_with_the_dump_not_with_the_files(server: Server) -> None:
    """While files are still packed a migration has the database to itself."""
    with backing_up(server) as backup:
        backup.let_go(DATABASE)
        wait_until(lambda: server.gitlab.sql(READS_POSTS) == ["0"], 60, "the dump's end")
        server.gitlab.sql("ALTER TABLE posts ALTER COLUMN remoteid SET DEFAULT ''")
        assert backup.runs, "files are still packed"
        ended(backup)


@pytest.mark.parametrize(
    ("settings", "nice", "disk"),
    [("", 10, "best-effort: prio 7"), ("nice: 0\n", 0, "none: prio 0")],
)
def test_a_backup_steps_back(server: Server, settings: str, nice: int, disk: str) -> None:
    """A process that is ending has no I/O class any more; so no process keeps another one."""
    seen: dict[str, list[tuple[int, str]]] = {}

    def all_do() -> bool:
        seen.update(
            {
                program: priorities(server.lab, program)
                for program in ("gitlab-mm", "pg_dump", "zstd")
            }
        )
        return all(found and set(found) == {(nice, disk)} for found in seen.values())

    with backing_up(server, settings) as backup:
        wait_until(all_do, 5, f"{(nice, disk)} alone")
        ended(backup)


def priorities(lab: Lab, program: str) -> list[tuple[int, str]]:
    """Nice value and I/O class of each process of that name that has not ended (state Z)."""
    script = (
        'for p in $(pgrep -r R,S,D -x "$0"); do echo "$(ps -o ni= -p $p) $(ionice -p $p)"; done'
    )
    lines = lab.run("sh", "-c", script, program, check=False).stdout.splitlines()
    words = [line.strip().split(None, 1) for line in lines]
    return [
        (int(word[0]), word[1]) for word in words if len(word) == 2
    ]  # or it has ended meanwhile


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A directory on this machine's disk, which labs see too; tmpfs would not test it."""
    with tempfile.TemporaryDirectory(dir=CHECKOUT / "build") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in ("hot", "cold"):
            (folder / file).write_bytes(os.urandom(SIZE))
        os.sync()
        yield folder


def test_the_page_cache_is_left_as_it_is(server: Server, on_disk: Path) -> None:
    """The page cache keeps what Mattermost has read, and gets nothing from the backup."""
    for file in on_disk.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    (on_disk / "hot").read_bytes()
    server.lab.run("mount", "--bind", f"/lab/src/build/{on_disk.name}", DATA)
    try:
        assert in_memory(server.lab) == (True, False)
        answer = server.run("backup")  # uploads are elsewhere meanwhile, which is told
        assert answer.code == 4 and "uploads" in str(answer.document["told"]), answer
        assert in_memory(server.lab) == (True, False)
        server.lab.run("sh", "-c", f"cat {DATA}/cold >/dev/null")
        assert in_memory(server.lab) == (True, True), "it would be seen"
    finally:
        server.lab.run("umount", DATA)


def in_memory(lab: Lab) -> tuple[bool, bool]:
    """Whether the page cache holds the hot and the cold file; the kernel may take a page or two."""
    names = (f"{DATA}/hot", f"{DATA}/cold")
    told = lab.run("fincore", "--bytes", "--noheadings", "--output", "RES", *names)
    hot, cold = (int(line) for line in told.stdout.split())
    assert all(count < SIZE // 20 or count > SIZE * 19 // 20 for count in (hot, cold)), told.stdout
    return hot > SIZE // 2, cold > SIZE // 2
