"""A recovery that is killed, or has no room: as before, or brought to one of both ends by the next command.

The rows are held by triggers, the files by a zstd that stops in an upload, and the restart by a
gitlab-ctl that waits. psql and sha256sum say what is there.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers import deletions
from tests.system.helpers.deletions import DATA, Everything
from tests.system.helpers.recovery import CONFIG, STATE, House, as_before, built_house

LARGE = random.Random(11).randbytes(6 << 20)
ENVIRONMENT = "/opt/gitlab/etc/mattermost/env"
HOLD, HELD = "/tmp/hold", "/tmp/held"
PSQL = ("/opt/gitlab/bin/gitlab-psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
LOCK = 4242
# Stops after 3 MiB: nothing but the large upload has as much.
ZSTD = f"""#!/usr/bin/python3 -I
import os, subprocess, sys, time
if not os.path.exists("{HOLD}"):
    os.execv("/usr/bin/zstd", ["zstd", *sys.argv[1:]])
process, size = subprocess.Popen(["/usr/bin/zstd", *sys.argv[1:]], stdout=subprocess.PIPE), 0
while piece := process.stdout.read(1 << 16):
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    size += len(piece)
    while size > 3 << 20 and os.path.exists("{HOLD}"):
        open("{HELD}", "w").close()
        time.sleep(0.05)
sys.exit(process.wait())
"""
GITLAB_CTL = f"""#!/bin/sh
if [ "$1" = stop ]; then
    while [ -e {HOLD} ]; do touch {HELD}; sleep 0.05; done
fi
exec /opt/gitlab/bin/gitlab-ctl.real "$@"
"""
# The rows are written twice: for the plan, which is rolled back, and for good.
HOLDING = f"""
    CREATE SEQUENCE runs;
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
    $$ BEGIN IF nextval('runs') = %d THEN PERFORM pg_advisory_xact_lock({LOCK}); END IF; RETURN NULL; END $$;
    CREATE {{kind}} hold {{when}} INSERT ON posts {{how}} EXECUTE PROCEDURE hold()
"""
AT_WRITING = HOLDING.format(kind="TRIGGER", when="BEFORE", how="FOR EACH STATEMENT")
AT_COMMIT = HOLDING.format(
    kind="CONSTRAINT TRIGGER",
    when="AFTER",
    how="DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.rootid = '')",
)


@pytest.fixture(scope="module")
def built(base: Path, deb: Path) -> Iterator[House]:
    with built_house(base, deb, LARGE) as house:
        yield house


@pytest.fixture
def house(built: House) -> House:
    return as_before(built)


@contextmanager
def program(lab: Lab, path: str, text: str) -> Iterator[None]:
    """Have a program of ours at ``path``, which holds until the block ends."""
    there = lab.path(path).exists()
    if there:
        lab.run("mv", path, f"{path}.real")
    lab.write(path, text, mode=0o755)
    lab.write(HOLD, "")
    try:
        yield
    finally:
        lab.run("rm", "-f", HOLD, HELD, path)
        if there:
            lab.run("mv", f"{path}.real", path)


@contextmanager
def in_a_file(house: House) -> Iterator[None]:
    with program(house.lab, "/usr/local/sbin/zstd", ZSTD):
        yield


@contextmanager
def at_the_restart(house: House) -> Iterator[None]:
    with program(house.lab, "/opt/gitlab/bin/gitlab-ctl", GITLAB_CTL):
        yield


@contextmanager
def locked(gitlab: Omnibus) -> Iterator[None]:
    """Hold the lock that triggers wait for."""
    with gitlab.lab.popen(*PSQL, "-d", gitlab.database, stdin=-1) as session:
        assert session.stdin is not None and session.stdout is not None
        session.stdin.write(f"SELECT 'locked' FROM pg_advisory_lock({LOCK});\n")
        session.stdin.flush()
        assert session.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            session.stdin.close()
            session.wait(timeout=30)


def in_rows(trigger: str, run: int) -> Callable[[House], AbstractContextManager[None]]:
    """Hold the rows in the ``run``-th firing of a trigger."""

    @contextmanager
    def held(house: House) -> Iterator[None]:
        house.gitlab.sql(trigger % run)
        try:
            with locked(house.gitlab):
                yield
        finally:
            wait_until(lambda: sessions(house) == 0, 30, "the sessions to end")
            house.gitlab.sql("DROP FUNCTION hold() CASCADE; DROP SEQUENCE runs")

    return held


def waits(house: House) -> bool:
    """Whether the recovery is where it is held."""
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return house.lab.path(HELD).exists() or house.one(locks) == "1"


def sessions(house: House) -> int:
    return int(
        house.one("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gitlab-mm%'")
    )


def started(house: House, *more: str) -> Popen[str]:
    """A recovery of the message that begins a thread, up to where it is held."""
    words = ("gitlab-mm", "recover", house.set, "--post", house.root, "--restart", "--json")
    process: Popen[str] = house.lab.popen(*words, *more)
    wait_until(lambda: waits(house) or process.poll() is not None, 60, "the recovery to be held")
    assert process.poll() is None, process.communicate()
    return process


def killed(house: House, where: Callable[[House], AbstractContextManager[None]]) -> None:
    """Kill a recovery where it is held."""
    with where(house):
        process = started(house)
        house.lab.send_signal(process, signal.SIGKILL)
        process.communicate(timeout=30)
    wait_until(lambda: sessions(house) == 0, 30, "the sessions to end")


def logs(house: House) -> list[str]:
    return house.lab.run("sh", "-c", f"ls {STATE}/recovery-* 2>/dev/null || true").stdout.split()


def left(house: House) -> list[str]:
    """What nothing may leave: temporary files and tables, sessions, files in the scratch directory."""
    found = house.product.leftovers()
    found += house.gitlab.sql("SELECT relname FROM pg_class WHERE relpersistence = 't'")
    found += ["a session"] * sessions(house)
    names = house.lab.run("ls", "-A", STATE).stdout.split()
    return found + [name for name in names if name.startswith(("tmp", ".incomplete"))]


def said_by_doctor(house: House) -> str:
    checks = house.product("doctor").document["checks"]
    return next(str(check["detail"]) for check in checks if check["name"] == "restore journal")


POINTS = {
    "in the plan": in_rows(AT_WRITING, 1),
    "in a file": in_a_file,
    "between files and rows": in_rows(AT_WRITING, 2),
    "in the commit": in_rows(AT_COMMIT, 1),
    "before the cache is told": at_the_restart,
}
COMMITTED = ("in the commit", "before the cache is told")


@pytest.fixture
def gone(house: House) -> Everything:
    """All that is left once the message is deleted for good."""
    house.lab.run("sh", "-c", f"rm -f {STATE}/recovery-*")
    deletions.delete_post(house.gitlab, house.root)
    return deletions.look(house.gitlab)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_recovery_is_completed_by_the_next(
    house: House, gone: Everything, point: str
) -> None:
    killed(house, POINTS[point])
    answer = house.product("recover", house.set, "--post", house.root, "--restart")
    assert house.differences() == {}, answer
    assert answer.document["restarted"], "the cache has the former state"
    said = " ".join(answer.document["warnings"])
    (undo,) = logs(house)
    if point in COMMITTED:
        assert (
            f"interrupted after its rows were written; to take it back: gitlab-mm recover --undo {undo}"
            in said
        )
        assert (answer.code, answer.document["rows"]) == (4, 0)
    else:
        assert answer.document["undo"] == undo
        assert (answer.code, "was taken back" in said) == (
            (0, False) if point == "in the plan" else (4, True)
        )
    assert left(house) == []
    again = house.product("recover", house.set, "--post", house.root)
    assert (again.code, again.document["rows"], again.document["warnings"]) == (0, 0, [])
    back = house.product("recover", "--undo", undo, "--restart")
    assert back.code == 0, back
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    assert left(house) == []


@pytest.mark.parametrize("point", [point for point in POINTS if point != "in the plan"])
def test_a_killed_recovery_is_taken_back_by_its_undo_file(
    house: House, gone: Everything, point: str
) -> None:
    killed(house, POINTS[point])
    (undo,) = logs(house)
    assert f"recover --undo {undo}" in said_by_doctor(house)
    back = house.product("recover", "--undo", undo, "--restart")
    assert back.code == 0, back
    assert said_by_doctor(house) == "interrupted restore: none"
    assert bool(back.document["restarted"]) == (point in COMMITTED)
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    assert left(house) == []
    answer = house.product("recover", house.set, "--post", house.root, "--restart")
    assert (answer.code, house.differences()) == (0, {}), answer


def test_nothing_is_left_of_a_copy_that_was_fetched(house: House, gone: Everything) -> None:
    house.lab.run("mkdir", "-p", "/root/.config/rclone", "/srv/copies")
    rclone = "[nas]\ntype = alias\nremote = /srv\n"
    house.lab.write("/root/.config/rclone/rclone.conf", rclone, mode=0o600)
    house.lab.write("/root/copies.yml", "offsite:\n  - remote: nas:copies\n", mode=0o600)
    assert house.product("offsite", "--config", "/root/copies.yml").code == 0
    place = ("--from", "nas:copies")
    with POINTS["between files and rows"](house):
        process = started(house, *place)
        house.lab.send_signal(process, signal.SIGKILL)
        process.communicate(timeout=30)
    wait_until(lambda: left(house) == [], 30, "the copy to be removed")
    answer = house.product("recover", house.set, "--post", house.root, "--restart", *place)
    assert (answer.code, house.differences()) == (4, {}), answer
    assert left(house) == []


def test_a_file_that_mattermost_writes_meanwhile_stays(house: House, gone: Everything) -> None:
    path = house.lab.path(DATA) / house.one_of_set("large.bin")
    with in_a_file(house):
        process = started(house)
        path.write_text("mine")
        house.lab.run("rm", HOLD)
        out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert answer["exit_code"] == 4, answer
    assert any(
        "has another content than in the set, and stays" in text for text in answer["warnings"]
    )
    assert path.read_text() == "mine"
    back = house.product("recover", "--undo", answer["undo"], "--restart")
    assert back.code == 0 and path.read_text() == "mine", back


# The kernel refuses hard links, as for a disk that has none.
NO_LINKS = """
import errno, os, seccomp, sys
rules = seccomp.SyscallFilter(seccomp.ALLOW)
for call in ("link", "linkat"):
    rules.add_rule(seccomp.ERRNO(errno.EPERM), call)
rules.load()
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_disk_without_hard_links(house: House, gone: Everything) -> None:
    words = ("gitlab-mm", "recover", house.set, "--post", house.root, "--restart")
    done = house.lab.run("python3", "-c", NO_LINKS, *words, check=False)
    assert (done.returncode, house.differences()) == (0, {}), done
    assert left(house) == []


def test_a_transaction_that_the_server_still_runs_is_waited_for(
    house: House, gone: Everything
) -> None:
    """Its process was killed, but nobody told PostgreSQL, which is in the commit."""
    with POINTS["in the commit"](house):
        house.lab.send_signal(started(house), signal.SIGKILL)
        there = deletions.look(house.gitlab)
        answer = house.product("recover", house.set, "--post", house.root)
        assert answer.code == 1 and "has not ended in the database" in answer.error["message"], (
            answer
        )
        assert deletions.differences(there, deletions.look(house.gitlab)) == {}


def test_a_signal_leaves_all_as_before(house: House, gone: Everything) -> None:
    for point in ("in a file", "between files and rows"):
        with POINTS[point](house):
            process = started(house)
            house.lab.send_signal(process, signal.SIGTERM)
            if point == "in a file":
                process.wait(timeout=60)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err and json.loads(out)["exit_code"] == 1, (point, out, err)
        assert deletions.differences(gone, deletions.look(house.gitlab)) == {}, point
        assert (logs(house), left(house)) == ([], [])


def test_an_undo_that_is_killed_is_done_by_the_next(house: House, gone: Everything) -> None:
    undo = str(house.recover("--post", house.root, "--restart", code=0).document["undo"])
    with at_the_restart(house):
        process: Popen[str] = house.lab.popen("gitlab-mm", "recover", "--undo", undo, "--restart")
        wait_until(lambda: waits(house), 60, "the restart")
        house.lab.send_signal(process, signal.SIGKILL)
        process.communicate(timeout=30)
    again = house.product("recover", "--undo", undo, "--restart")
    assert again.code == 0 and again.document["restarted"], again
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}


def test_a_server_that_dies_in_the_commit_is_told_and_nothing_is_lost(
    house: House, gone: Everything
) -> None:
    with POINTS["in the commit"](house):
        process = started(house)
        house.gitlab.gitlab_ctl("stop", "postgresql")
        out, err = process.communicate(timeout=60)
        house.gitlab.gitlab_ctl("start", "postgresql")
        house.gitlab.wait_until_ready()
    answer = json.loads(out)
    (undo,) = logs(house)
    assert answer["exit_code"] == 5 and undo in answer["error"]["detail"], (out, err)
    done = house.product("recover", house.set, "--post", house.root, "--restart")
    assert (done.code, house.differences()) == (4, {}), done


@contextmanager
def small_disk(lab: Lab, place: str, size: str, owner: str = "root") -> Iterator[None]:
    """Mount a disk over a directory, with a copy of what is in it."""
    lab.run("cp", "-a", place, "/srv/kept")
    lab.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=750", "tmpfs", place)
    lab.run("chown", f"{owner}:{owner}", place)
    try:
        yield
    finally:
        lab.run("umount", place)
        lab.run("rm", "-rf", "/srv/kept")


def test_a_disk_that_is_full_while_files_are_written(house: House, gone: Everything) -> None:
    """The disk of one directory, which statvfs(2) of the data directory does not see."""
    day = f"{DATA}/{house.one('SELECT path FROM fileinfo LIMIT 1').partition('/')[0]}"
    with small_disk(house.lab, day, "3m", "mattermost"):
        answer = house.recover("--post", house.root, code=1)
        assert answer.error["message"] == "An upload cannot be put back", answer
        assert "No space left" in answer.error["detail"]
        assert house.lab.run("find", day, "-mindepth", "1").stdout == ""
        assert deletions.differences(gone, deletions.look(house.gitlab)).keys() <= {
            path for path in gone.files if path.startswith(Path(day).name)
        }
    assert (logs(house), left(house)) == ([], [])
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    house.recover("--post", house.root, "--restart", code=0)
    assert house.differences() == {}


def test_too_little_space_is_told_before_anything_is_written(
    house: House, gone: Everything
) -> None:
    with small_disk(house.lab, DATA, "3m", "mattermost"):
        answer = house.recover("--post", house.root, code=1)
        assert answer.error["message"] == "Not enough disk space for the uploads", answer
        assert house.lab.run("find", DATA, "-mindepth", "1").stdout == ""
    assert (logs(house), left(house)) == ([], [])
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}


@pytest.mark.parametrize("pages", [0, 1])
def test_a_disk_that_is_full_while_the_undo_file_is_written(
    house: House, gone: Everything, pages: int
) -> None:
    deletions.delete_team(house.gitlab, house.seed.team)
    gone = deletions.look(house.gitlab)
    kept = house.lab.read(CONFIG)
    house.lab.run("mkdir", "-p", "/srv/scratch")
    house.lab.write(CONFIG, f"{kept}scratch_dir: /srv/scratch\n", mode=0o600)
    try:
        with small_disk(house.lab, STATE, "512k"):
            house.lab.run("cp", "-a", "/srv/kept/.", STATE)
            free = house.lab.run("df", "--output=avail", "--block-size=4096", STATE).stdout
            filler = (int(free.split()[-1]) - pages) * 4096
            house.lab.run("sh", "-c", f"head -c {filler} /dev/zero > {STATE}/filler")
            answer = house.recover("--team", "engineering", code=1)
            assert answer.error["message"] == "The undo file cannot be written", answer
            assert "No space left" in answer.error["detail"]
            assert f"Free some disk space in {STATE}" in answer.error["hint"]
            assert logs(house) == []
            assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    finally:
        house.lab.write(CONFIG, kept, mode=0o600)
    assert left(house) == []
    house.recover("--team", "engineering", "--restart", code=0)
    assert house.differences() == {}


def test_a_scratch_directory_that_is_full_is_told(house: House, gone: Everything) -> None:
    kept = house.lab.read(CONFIG)
    house.lab.run("mkdir", "-p", "/srv/small")
    house.lab.write(CONFIG, f"{kept}scratch_dir: /srv/small\n", mode=0o600)
    try:
        with small_disk(house.lab, "/srv/small", "4k"):
            house.lab.run("sh", "-c", "head -c 4096 /dev/zero > /srv/small/filler")
            answer = house.recover("--post", house.root, code=1)
            assert answer.error["message"] == "/srv/small cannot be written", answer
            assert (
                "No space left" in answer.error["detail"] and "scratch_dir" in answer.error["hint"]
            )
    finally:
        house.lab.write(CONFIG, kept, mode=0o600)
    assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    assert (logs(house), left(house)) == ([], [])


def test_uploads_in_object_storage_are_named_and_the_rows_come(
    house: House, gone: Everything
) -> None:
    for name, value in (("DRIVERNAME", "amazons3"), ("AMAZONS3BUCKET", "our-bucket")):
        house.lab.write(f"{ENVIRONMENT}/MM_FILESETTINGS_{name}", value)
    try:
        plan = house.recover("--post", house.root, "--dry-run", code=4)
        assert plan.document["files"] == []
        answer = house.recover("--post", house.root)
        said = [text for text in answer.document["warnings"] if "our-bucket" in text]
        assert len(said) == 1 and "object storage" in said[0], answer
        assert (answer.document["files"], answer.document["missing"]) == ([], [])
        lost = set(house.differences())
        assert lost == {path for path in house.before.files if path not in gone.files}
        assert house.product("recover", "--undo", str(answer.document["undo"])).code == 4
        assert deletions.differences(gone, deletions.look(house.gitlab)) == {}
    finally:
        house.lab.run(
            "sh",
            "-c",
            f"rm {ENVIRONMENT}/MM_FILESETTINGS_DRIVERNAME {ENVIRONMENT}/MM_FILESETTINGS_AMAZONS3BUCKET",
        )
