"""What a set may take of the host that rehearses it: time, disk, memory, processes; and who waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.installed_package import Answer
from tests.lab.sandbox import wait_until
from tests.system.helpers.attacks import Attacks
from tests.system.helpers.faults_forge import with_sql
from tests.system.helpers.rehearsals import House, detail, house, results

CONFIG = "/root/limits.yml"
PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
SERVICE = "/opt/gitlab/embedded/service/mattermost"
# Enough for a whole rehearsal on a busy machine; a statement has half of it.
SECONDS = 40
LIMITS = f"rehearse_timeout: {SECONDS}s\n"
# It does no harm where the set is forged, and cannot be cancelled: only ending its session helps.
ENDLESS = """
    CREATE FUNCTION public.endless(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        WHILE current_database() <> 'scratch' LOOP
            BEGIN PERFORM set_config('statement_timeout', '0', false), pg_sleep(0.1);
            EXCEPTION WHEN query_canceled THEN NULL;
            END;
        END LOOP;
        RETURN value;
    END $$;
    ALTER FUNCTION public.endless OWNER TO gitlab_mattermost;
"""
HUGE = """
    CREATE FUNCTION public.huge() RETURNS SETOF text LANGUAGE plpgsql AS $$
    BEGIN
        IF current_database() <> 'scratch' THEN
            RETURN QUERY SELECT md5(n::text) || repeat(md5(n::text), 30) FROM generate_series(1, 100000000) n;
        END IF;
    END $$;
    ALTER FUNCTION public.huge OWNER TO gitlab_mattermost;
"""
CALLS = {
    "an index": "CREATE INDEX held ON users (public.endless(username));",
    "a materialized view": "CREATE MATERIALIZED VIEW held AS SELECT public.endless('x');",
    "a check of its rows": "ALTER TABLE users ADD CONSTRAINT held CHECK (public.endless(username) <> '');",
}
# What a Mattermost that somebody took over would try; it tells how each went.
GREEDY = """\
#!/usr/bin/python3 -I
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        return errno.errorcode[ctypes.get_errno()]
    return "DONE"
def tried(act):
    try:
        return act()
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return errno.errorcode[error.errno]
def processes():
    read, write = os.pipe()
    children = []
    try:
        while len(children) < 3000:
            child = os.fork()
            if not child:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(child)
        return "3000"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(write)
        for child in children:
            os.waitpid(child, 0)
def file():
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open("/run/gitlab-mm/home/large", "wb") as large:
        large.truncate(2 << 30)
def memory():
    bytearray(6 << 30)
def network(family):
    socket.socket(family, socket.SOCK_DGRAM).close()
    return "DONE"
x86 = os.uname().machine == "x86_64"
ways = {
    "user namespace": call(272 if x86 else 97, 0x10000000),
    "mount namespace": call(272 if x86 else 97, 0x20000),
    "clone": call(56 if x86 else 220, 0x10000000 | 17, 0, 0, 0, 0),
    "clone3": call(435, 0, 0),
    "keys": call(250 if x86 else 219, 0, 0, 0, 0, 0),
    "io_uring": call(425, 1, 0),
    "bpf": call(321 if x86 else 280, 0, 0, 0),
    "a socket of another kind": tried(lambda: network(38)),
    "processes": processes(),
    "file": tried(file),
    "memory": tried(memory),
    "core": str(__import__("resource").getrlimit(__import__("resource").RLIMIT_CORE)),
    "first to go": open("/proc/self/oom_score_adj").read().strip(),
}
raise SystemExit("; ".join(f"{name}: {told}" for name, told in ways.items()))
"""
CONNECT = """
import os, socket
(name,) = [one for one in os.listdir("/run") if one.startswith("gitlab-mm-rehearsal-")]
socket.socket(socket.AF_UNIX).connect(f"/run/{name}/.s.PGSQL.5432")
"""
HELD = {
    "user namespace": "EPERM",
    "mount namespace": "EPERM",
    "clone": "EPERM",
    "clone3": "ENOSYS",
    "keys": "EPERM",
    "io_uring": "EPERM",
    "bpf": "EPERM",
    "a socket of another kind": "EPERM",
    "processes": "EAGAIN",
    "file": "EFBIG",
    "memory": "MemoryError",
    "core": "(0, 0)",
    "first to go": "1000",
}


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[House]:
    with house(base, deb) as made:
        made.lab.write(CONFIG, LIMITS)
        # The kernel counts processes by the number of the account, those of other labs too.
        made.lab.run("usermod", "--uid", "54321", "gitlab-mm")
        yield made
        made.expect_nothing_left()


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("rehearsal")


def rehearse(place: House, *arguments: str) -> Answer:
    answer = place.product("rehearse", "--config", CONFIG, *arguments, timeout=3 * SECONDS)
    place.expect_nothing_left()
    return answer


def misbehave(place: House, word: str) -> None:
    path = f"{SERVICE}/misbehave"
    if word:
        place.lab.write(path, word)
    else:
        place.lab.path(path).unlink()


def test_the_limits_are_enough_for_a_good_set(place: House) -> None:
    """Or the tests below would pass for any set."""
    answer = rehearse(place, "--full")
    assert set(results(answer).values()) == {"passed"}, answer
    path = with_sql(place.gitlab, place.set, ENDLESS + HUGE)
    assert set(results(rehearse(place, path)).values()) == {"passed"}


@pytest.mark.parametrize("what", CALLS)
def test_a_statement_that_never_ends(place: House, attacks: Attacks, what: str) -> None:
    path = with_sql(place.gitlab, place.set, ENDLESS + CALLS[what])
    with attacks.row(f"a set in which {what} calls a function that never ends"):
        answer = rehearse(place, path)
        assert answer.code == 1
        assert results(answer)["database"] == "failed"
        assert "each may take 20 s (raise rehearse_timeout" in detail(answer, "database")
        statement = "COPY public.users" if "rows" in what else "held"
        assert statement in detail(answer, "database")


def test_a_table_that_is_a_view_which_never_ends(place: House, attacks: Attacks) -> None:
    view = """
        ALTER TABLE teams RENAME TO other;
        CREATE VIEW teams AS SELECT * FROM other WHERE public.endless(id) <> '';
        ALTER VIEW teams OWNER TO gitlab_mattermost;
    """
    path = with_sql(place.gitlab, place.set, ENDLESS + view)
    with attacks.row("a set in which a view that never ends stands for a table"):
        answer = rehearse(place, path)
        assert answer.code == 1
        assert results(answer)["rows"] == "failed"


def test_a_mattermost_that_never_answers(place: House, attacks: Attacks) -> None:
    misbehave(place, "silent")
    with attacks.row("a set with which Mattermost never answers"):
        try:
            answer = rehearse(place)
        finally:
            misbehave(place, "")
        assert answer.code == 1
        assert results(answer)["boot"] == "failed"
        told = "Starting Mattermost took too long and was ended, as each step may take 30 s: raise rehearse_timeout"
        assert told in detail(answer, "boot")
        assert results(answer)["answers"] == "not run"


def test_a_table_that_fills_the_disk(place: House, attacks: Attacks) -> None:
    """On a separate disk, of which 5 % stay free."""
    place.lab.run("mkdir", "-p", "/mnt/disk")
    place.lab.run("mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", "/mnt/disk")
    place.lab.write("/root/disk.yml", f"{LIMITS}scratch_dir: /mnt/disk\n")
    path = with_sql(
        place.gitlab,
        place.set,
        HUGE + "CREATE MATERIALIZED VIEW held AS SELECT * FROM public.huge();",
    )
    with attacks.row("a set that fills the disk while it is loaded"):
        answer = place.product("rehearse", "--config", "/root/disk.yml", path)
        assert answer.code == 1
        assert answer.error["message"] == "Writing was stopped before the disk is full"
        assert "scratch_dir" in answer.error["hint"]
        assert list(place.lab.path("/mnt/disk").iterdir()) == []
        place.lab.run("umount", "/mnt/disk")
        place.expect_nothing_left()


def test_what_a_program_in_the_sandbox_may_take(place: House, attacks: Attacks) -> None:
    place.lab.run("mv", PROGRAM, f"{PROGRAM}.whole")
    place.lab.write(PROGRAM, GREEDY, mode=0o755)
    try:
        answer = rehearse(place)
    finally:
        place.lab.run("mv", f"{PROGRAM}.whole", PROGRAM)
    told = detail(answer, "boot").partition("exit code 1: ")[2]
    found = dict(part.split(": ", 1) for part in told.split("; "))
    for name, wanted in HELD.items():
        with attacks.row(f"Mattermost in a rehearsal: {name}"):
            assert found[name] == wanted, found


def test_a_rehearsal_that_hangs_is_in_nobodys_way(place: House, attacks: Attacks) -> None:
    """A backup is made and prunes, but for the set in the rehearsal; a second rehearsal is told."""
    misbehave(place, "silent")
    place.lab.write("/root/prune.yml", "keep_time: 1s\n")
    running = place.lab.popen("gitlab-mm", "rehearse", "--json", place.set)
    started = ("pgrep", "--euid", "gitlab-mm", "--full", "mattermost --config")
    try:
        wait_until(lambda: place.lab.run(*started, check=False).returncode == 0, 30, "Mattermost")
        with attacks.row("another account takes all connections of a rehearsal's server"):
            tried = place.lab.run("python3", "-c", CONNECT, user="git", check=False)
            assert "Permission denied" in tried.stderr, tried
        with attacks.row("a rehearsal that hangs: the next backup is made"):
            first = place.product("backup")
            assert first.code == 0, first
        with attacks.row("a rehearsal that hangs: its set is not removed under it"):
            second = place.product("backup", "--config", "/root/prune.yml")
            assert second.code == 4
            (told,) = second.document["warnings"]
            assert f"Set {Path(place.set).name} is not removed: a rehearsal is reading it" in told
            assert place.lab.path(f"{place.set}/manifest.json").exists()
            assert second.document["removed"] == [first.document["set"]]
        other = place.product("rehearse")
        assert (other.code, other.error["message"]) == (3, "Another rehearsal is running")
        assert running.poll() is None
    finally:
        misbehave(place, "")
        place.lab.send_signal(running, 15)
        stdout, _ = running.communicate(timeout=30)
    assert json.loads(stdout)["error"]["message"] == "Interrupted by SIGTERM"
    assert place.product("prune", "--yes", "--config", "/root/prune.yml").code == 0
    assert not place.lab.path(place.set).exists(), "it is free now"
