"""Backups of a running server: what goes in, what must never count as a set."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab, wait_until

SETS = "/var/opt/gitlab/backups/mattermost"
PG_DUMP = "/opt/gitlab/embedded/bin/pg_dump"
CONFIG = "/etc/gitlab-mm-backup/config.yml"


@dataclass(frozen=True)
class Server:
    """One GitLab server for all tests of this file; each puts back what it breaks."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def sets(self) -> list[str]:
        """Names of the complete sets, as our own list gives them."""
        return [set_["name"] for set_ in self.product("list").document["sets"] if set_["complete"]]

    @contextlib.contextmanager
    def replaced(self, path: str, content: str, mode: int = 0o755) -> Iterator[None]:
        """Have another file at ``path`` for a while; links are put back as links."""
        kept = f"{path}.kept"
        self.lab.run("mv", path, kept)
        try:
            self.lab.write(path, content, mode=mode)
            yield
        finally:
            self.lab.run("mv", "--force", kept, path)

    @contextlib.contextmanager
    def locked_posts(self) -> Iterator[None]:
        """Hold a lock that pg_dump has to wait for, so that a backup stands still in the middle."""
        words = "BEGIN; LOCK TABLE posts IN ACCESS EXCLUSIVE MODE;\n"
        database = ("/opt/gitlab/bin/gitlab-psql", "-X", "-d", self.gitlab.database)
        session = self.lab.popen(
            *database, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert session.stdin is not None and session.stdout is not None
        session.stdin.write(words + "\\echo locked\n")
        session.stdin.flush()
        while "locked" not in session.stdout.readline():
            assert session.poll() is None
        try:
            yield
        finally:
            session.stdin.close()
            session.stdout.close()
            session.wait()

    def waits_for_lock(self) -> bool:
        """Whether a session of ours waits for the lock above."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%posts%'"
        return self.gitlab.sql(query)[0] != "0"


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec(backup_keep_time=7 * 86400))
        product = install_product(lab, deb)
        gitlab.seed()
        yield Server(lab, gitlab, product)


def test_a_set_can_be_checked_by_hand(server: Server) -> None:
    path = server.product.backup()
    sums = server.lab.run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=path).stdout
    assert sums.count(": OK") == 7
    names = server.lab.run("sh", "-c", f"zstd -dc {path}/files.tar.zst | tar t").stdout
    assert "var/opt/gitlab/mattermost/config.json" in names
    listing = f"zstd -dc {path}/database.dump.zst | /opt/gitlab/embedded/bin/pg_restore --list"
    assert "TABLE DATA public posts" in server.lab.run("sh", "-c", listing).stdout
    etc = server.lab.run("sh", "-c", f"zstd -dc {path}/etc-gitlab.tar.zst | tar t").stdout
    assert "etc/gitlab/gitlab-secrets.json" in etc and "config_backup" not in etc


def test_a_set_is_private(server: Server) -> None:
    path = server.product.backup()
    modes = server.lab.run("find", SETS, "-printf", "%m %u:%g %y\n").stdout.split("\n")
    assert {line for line in modes if line} == {"700 root:root d", "600 root:root f"}
    assert server.lab.run("cat", f"{path}/settings.json", user="git", check=False).returncode != 0


def test_rows_are_counted_in_the_dumps_own_snapshot(server: Server) -> None:
    """Posts written while the dump waits are neither in it nor in the manifest."""
    rows = int(server.gitlab.sql("SELECT count(*) FROM users")[0])
    begun, go = "/tmp/dump-begun", "/tmp/dump-go"
    waits = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done"
    late = f'#!/bin/sh\n{waits}\nexec /usr/lib/postgresql/*/bin/pg_dump "$@"\n'
    with server.replaced("/opt/gitlab/embedded/bin/pg_dump", late):
        backup = server.lab.popen(
            "gitlab-mm", "backup", "--json", stdout=subprocess.PIPE, text=True
        )
        wait_until(server.lab.path(begun).exists, 30, "pg_dump")
        server.gitlab.sql(
            "INSERT INTO users (id, username, email) VALUES ('late', 'late', 'late@x')"
        )
        server.lab.path(go).touch()
        out = backup.communicate(timeout=60)[0]
    document = json.loads(out)
    server.gitlab.sql("DELETE FROM users WHERE id = 'late'")
    manifest = json.loads(server.lab.read(f"{document['path']}/manifest.json"))
    assert document["exit_code"] == 0
    assert manifest["database"]["rows"]["public.users"] == rows
    assert (
        "late@x"
        not in server.lab.run(
            "sh", "-c", f"zstd -dc {document['path']}/database.dump.zst | strings"
        ).stdout
    )


def test_a_dump_that_fails_half_way_is_no_set(server: Server) -> None:
    before = server.sets()
    half = '#!/bin/sh\n/usr/lib/postgresql/*/bin/pg_dump "$@" | head -c 3000\nexit 1\n'
    with server.replaced(PG_DUMP, half):
        answer = server.product("backup")
    assert answer.code == 1
    assert answer.error["message"] == "pg_dump failed with exit code 1"
    assert server.sets() == before
    assert server.product.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_nothing(server: Server, number: signal.Signals) -> None:
    before = server.sets()
    with server.locked_posts():
        backup = server.lab.popen(
            "gitlab-mm", "backup", "--json", stdout=subprocess.PIPE, text=True
        )
        wait_until(server.waits_for_lock, 30, "pg_dump to wait for the lock")
        server.lab.send_signal(backup, number)
        document = json.loads(backup.communicate(timeout=30)[0])
        assert backup.returncode == 1
        assert number.name in document["error"]["message"]
        assert server.product.leftovers() == []
    assert server.sets() == before


def test_a_killed_run_leaves_no_set_and_the_next_cleans_up(server: Server) -> None:
    before = server.sets()
    with server.locked_posts():
        backup = server.lab.popen("gitlab-mm", "backup", stdout=subprocess.PIPE)
        wait_until(server.waits_for_lock, 30, "pg_dump to wait for the lock")
        server.lab.send_signal(backup, signal.SIGKILL)
        backup.communicate(timeout=30)
        no_child = ("pgrep", "-a", "pg_dump|zstd|tar")
        wait_until(lambda: not server.lab.run(*no_child, check=False).stdout, 10, "children to die")
    assert server.sets() == before
    server.product.backup()
    assert server.product.leftovers() == []


def test_a_second_run_is_refused_while_one_works(server: Server) -> None:
    with server.locked_posts():
        backup = server.lab.popen(
            "gitlab-mm", "backup", "--json", stdout=subprocess.PIPE, text=True
        )
        wait_until(server.waits_for_lock, 30, "pg_dump to wait for the lock")
        answer = server.product("backup")
        assert answer.code == 3
        assert "(pid " in answer.error["detail"]
    assert json.loads(backup.communicate(timeout=60)[0])["exit_code"] == 0


# A POSIX ACL for account 65534 (acl(5), as xattr(7) holds it), and all that a file system bears.
MAKE_ODD = r"""
import os, socket, struct, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
made = socket.socket(socket.AF_UNIX); made.bind("sock"); os.mkfifo("fifo")
names = ["with space", "quote\"s'", "new\nline -> x", "ünïcødé ✓", "--checkpoint=1", "*?[x]", "back\\slash"]
for name in [*names, b"latin\xe9", " lead", "a" * 255, "unknown", "old", "late", "acl"]:
    open(name, "w").write("n")
os.chown("unknown", 54321, 54321); os.link("unknown", "hard")
with open("sparse", "wb") as file:
    file.seek(5 << 20); file.write(b"x")
deep = "/".join(["d" * 200] * 12)
os.makedirs(deep); open(f"{deep}/file", "w").write("deep")
for number in range(30):  # a path of 6,000 bytes
    os.mkdir("L" * 200); os.chdir("L" * 200)
open("far", "w").close(); os.chdir(sys.argv[1])
os.utime("old", (-315619200,) * 2); os.utime("late", (7258118400,) * 2)
entries = ((1, 6, 0xFFFFFFFF), (2, 4, 65534), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *(tag, mode, one)) for tag, mode, one in entries)
os.setxattr("acl", "system.posix_acl_access", acl); os.setxattr("acl", "user.note", b"hi")
"""
SEE_ODD = r"""
import hashlib, json, os, stat, sys
found = {}
sys.setrecursionlimit(10_000)
for folder, folders, files, within in os.fwalk(os.fsencode(sys.argv[1])):  # paths may be too long to use
    for name in folders + files:
        path = os.fsencode(f"/proc/self/fd/{within}/") + name
        seen = os.lstat(path)
        content = open(path, "rb").read() if stat.S_ISREG(seen.st_mode) else b""
        found[repr(os.path.join(folder, name))] = [
            seen.st_mode, seen.st_uid, int(seen.st_mtime), seen.st_nlink,
            hashlib.sha256(content).hexdigest(), os.listxattr(path, follow_symlinks=False)]
print(json.dumps(found))
"""


def odd_files(server: Server, folder: str) -> dict[str, list[object]]:
    """All that is below a folder, by name: kind and mode, owner, time, links, content, attributes."""
    found = json.loads(server.lab.run("python3", "-c", SEE_ODD, folder).stdout)
    return {name.rpartition("/")[2]: facts for name, facts in found.items()}


def test_odd_files_come_back(server: Server) -> None:
    """But for pipes, which is told, and sockets, which a program makes anew."""
    folder = f"{server.gitlab.home}/data/odd"
    server.lab.run("python3", "-c", MAKE_ODD, folder)
    before = odd_files(server, folder)
    try:
        answer = server.product("backup")
        assert answer.code == 4, answer
        told = answer.document["told"]
        for words in (
            "odd/fifo' is a device or pipe",
            "1 path of more than 3900 bytes, and what is below, are not in the set",
            "has an owner or a group that is a number without a name",
        ):
            assert [warning for warning in told if words in warning], words
        assert len(told) == 3
        for verb in (("verify",), ("rehearse", "--quick")):
            assert server.product(*verb).code == 0
        server.lab.run("rm", "-r", folder)
        restored = server.product.restore("--no-safety-backup")
        assert restored.code == 0, restored
        after = odd_files(server, folder)
        assert set(before) - set(after) == {"fifo'", "sock'", "far'"}
        assert "user.note" in str(before["acl'"][-1])
        differing = {name for name, facts in after.items() if facts != before[name]}
        assert differing <= {f"{'L' * 200}'"}  # the last of these lost the next one
    finally:
        server.lab.run("rm", "-rf", folder)


def test_a_config_json_that_nothing_may_change(server: Server) -> None:
    """chattr +i, so that Mattermost leaves it alone: the restore is made, and what stays is told."""
    path = f"{server.gitlab.home}/config.json"
    server.product.backup()
    server.lab.run("chattr", "+i", path)
    refused = "config.json: Operation not permitted"
    restored = server.product.restore("--no-safety-backup")
    kept = f"{server.gitlab.home}/../.gitlab-mm-*/old"
    assert restored.code == 4
    (told,) = restored.document["warnings"]
    assert refused in told and ".gitlab-mm-" in told and "Errno" not in told, told
    pruned = server.product("prune", "--previous")
    assert pruned.code == 4 and refused in pruned.document["warnings"][0]
    server.lab.run(
        "sh", "-c", f"chattr -i {kept}/config.json {kept}/*/config.json 2>/dev/null", check=False
    )
    assert server.product("prune", "--previous").code == 0
    assert server.product.leftovers() == []


def test_bad_settings_are_told_all_at_once(server: Server) -> None:
    text = "keep_tme: 7d\nbackup_path: relative\ncompression:\n  files_level: fast\n"
    with server.replaced(CONFIG, text, 0o640):
        answer = server.product("backup")
    assert answer.code == 2
    detail = answer.error["detail"]
    assert "line 1" in detail and "keep_tme" in detail
    assert "line 2" in detail and "absolute" in detail
    assert "line 4" in detail and "compression.files_level" in detail


def test_settings_can_move_and_keep_sets(server: Server) -> None:
    text = "backup_path: /srv/elsewhere\nkeep_time: 1s\n"
    with server.replaced(CONFIG, text, 0o640):
        first = server.product.backup()
        assert first.startswith("/srv/elsewhere/mattermost/")
        wait_until(lambda: len(server.sets()) == 1, 5, "the first set")
        answer = server.product("backup")
        removed = answer.document["removed"]
        wait_until(lambda: server.product("prune").code == 0 and len(server.sets()) == 1, 10, "age")
        assert removed in ([], [Path(first).name])
        assert server.sets() == [answer.document["set"]]


def test_broken_config_json_is_told_and_nothing_is_made(server: Server) -> None:
    before = server.sets()
    with server.replaced(f"{server.gitlab.home}/config.json", '{"SqlSettings": {', 0o600):
        answer = server.product("backup")
    assert answer.code == 1
    assert "config.json is not JSON" in answer.error["message"]
    assert "line 1" in answer.error["detail"]
    assert server.sets() == before


def test_postgresql_down_is_told(server: Server) -> None:
    server.gitlab.gitlab_ctl("stop", "postgresql")
    try:
        answer = server.product("backup")
    finally:
        server.gitlab.gitlab_ctl("start", "postgresql")
        server.gitlab.wait_until_ready()
    assert answer.code == 1
    assert answer.error["message"] == "PostgreSQL does not answer"
    assert "gitlab-ctl" in answer.error["hint"]


def test_a_missing_database_is_told(server: Server) -> None:
    server.gitlab.gitlab_ctl("stop", "mattermost")
    rename = "ALTER DATABASE {} RENAME TO {}"
    name = server.gitlab.database
    server.gitlab.sql(rename.format(name, "hidden"), "postgres")
    try:
        answer = server.product("backup")
    finally:
        server.gitlab.sql(rename.format("hidden", name), "postgres")
        server.gitlab.gitlab_ctl("start", "mattermost")
        server.gitlab.wait_until_ready()
    assert answer.code == 1
    assert answer.error["message"] == f"There is no database {name}"


def test_a_full_disk_is_told_and_leaves_no_half_set(server: Server) -> None:
    server.lab.run("mkdir", "-p", "/srv/small")
    server.lab.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "none", "/srv/small")
    try:
        with server.replaced(CONFIG, "backup_path: /srv/small\n", 0o640):
            answer = server.product("backup")
        left = server.lab.run("find", "/srv/small", "-mindepth", "2").stdout
    finally:
        server.lab.run("umount", "/srv/small")
    assert answer.code == 1
    assert answer.error["message"] == "Not enough disk space for the next set"
    assert left == ""


def test_only_root_may(server: Server) -> None:
    done = server.lab.run("gitlab-mm", "backup", "--json", user="git", check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"] == "This must be run by root"


LISTENER = """
import os, socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
os.chmod("/dev/log", 0o666)
while True:
    print(log.recv(65536).decode(), flush=True)
"""
NIGHTLY = "/usr/share/gitlab-mm-backup/nightly"
STAMP = "/var/lib/gitlab-mm-backup/nightly"
PLACES = "/var/lib/gitlab-mm-backup/places.json"
MAIL = "/root/mail"


@contextlib.contextmanager
def system_log(lab: Lab) -> Iterator[list[str]]:
    """Be the syslog daemon; the lines are there when the block has ended."""
    lines: list[str] = []
    daemon = lab.popen("python3", "-c", LISTENER)
    try:
        wait_until(lambda: lab.path("/dev/log").exists(), 10, "/dev/log")
        yield lines
        # What was sent before this has been received before it.
        lab.run("logger", "--socket", "/dev/log", "the end")
        assert daemon.stdout is not None
        while "the end" not in (line := daemon.stdout.readline()):
            lines.append(line.rstrip("\n"))
    finally:
        lab.send_signal(daemon, signal.SIGTERM)
        daemon.wait()
        lab.run("rm", "-f", "/dev/log")


@contextlib.contextmanager
def missed_night(server: Server) -> Iterator[str]:
    """A host that was off for two days and has no set; gives the time of its schedule."""
    at = server.lab.read("/etc/cron.d/gitlab-mm-backup").split()[-1]
    server.lab.run("mkdir", "-p", SETS)
    server.lab.run("mv", SETS, f"{SETS}.kept")
    server.lab.run("rm", "-f", PLACES)
    server.lab.run("touch", "--date", "2 days ago", STAMP)
    try:
        yield at
    finally:
        server.lab.run("rm", "-rf", SETS, PLACES)
        server.lab.run("mv", f"{SETS}.kept", SETS)


def mail_of_cron(server: Server, at: str) -> str:
    """Run Debian's cron, with the installed line, from shortly before a time on; what it mails to root."""
    lab = server.lab
    lab.run("rm", "-f", MAIL)
    lab.write("/usr/sbin/sendmail", f"#!/bin/sh\ncat >>{MAIL}\n", mode=0o755)
    hour, minute = at.split(":")
    today = lab.run("date", "+%Y-%m-%d").stdout.strip()
    moment = f"@{today} {hour}:{int(minute) - 1:02}:57"
    before, running = lab.path(STAMP).stat().st_mtime, ("pgrep", "-x", "cron")
    cron = lab.popen("faketime", "-f", moment, "cron", "-f", "-L", "15")
    try:
        wait_until(lambda: lab.path(STAMP).stat().st_mtime != before, 60, "the run of the night")
    finally:
        lab.run("kill", lab.read("/run/crond.pid").strip())  # popen()'s own child is faketime
        cron.wait()
    # The one that started the job mails what that said, when it has ended.
    wait_until(lambda: lab.run(*running, check=False).returncode != 0, 60, "the end of the job")
    lab.run("rm", "/usr/sbin/sendmail")
    mail = lab.path(MAIL)
    return mail.read_text() if mail.exists() else ""


def test_cron_makes_a_set_says_nothing_and_logs_it(server: Server) -> None:
    with missed_night(server) as at, system_log(server.lab) as log:
        assert mail_of_cron(server, at) == ""
        made = server.sets()
        again = server.lab.run(NIGHTLY, at)
        assert (again.stdout, again.stderr) == ("", "")
        assert server.sets() == made
    ours = [line for line in log if "gitlab-mm[" in line]
    assert len([line for line in ours if f"backup: Made {SETS}/{made[0]}" in line]) == 1
    assert f"backup: Making set {made[0]}" in ours[0]
    assert ours[0].startswith("<30>"), "daemon.info"


def test_a_night_that_fails_is_mailed_once_and_logged(server: Server) -> None:
    with missed_night(server) as at, system_log(server.lab) as log:
        with server.replaced(PG_DUMP, "#!/bin/sh\necho no dump today >&2\nexit 1\n"):
            mail = mail_of_cron(server, at)
            second = server.lab.run(NIGHTLY, at, check=False)
        assert mail.count("Subject: Cron <root@") == mail.count("no dump today") == 1
        assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
        assert server.sets() == []
    (line,) = (line for line in log if "no dump today" in line)
    assert line.startswith("<27>"), "daemon.err"


def test_a_set_of_the_night_is_enough(server: Server) -> None:
    with missed_night(server) as at:
        server.product.backup()
        made = server.sets()
        server.lab.run(NIGHTLY, at)
        assert server.sets() == made


def test_a_timer_that_is_only_enabled_takes_nothing_over(server: Server) -> None:
    """systemctl itself, on its files alone; test_package_life has it with systemd as PID 1."""
    lab, timer, offline = server.lab, "gitlab-mm-backup.timer", {"SYSTEMD_OFFLINE": "1"}
    checked = lab.run("systemd-analyze", "verify", f"/lib/systemd/system/{timer}")
    assert (checked.stdout, checked.stderr) == ("", "")
    asked = lab.run("systemctl", "is-enabled", timer, env=offline, check=False)
    assert asked.stdout == "disabled\n"
    with missed_night(server) as at:
        lab.run("mkdir", "-p", "/run/systemd/system")
        try:
            lab.run("systemctl", "enable", timer, env=offline)
            lab.run(NIGHTLY, at)
            assert len(server.sets()) == 1
        finally:
            lab.run("systemctl", "disable", timer, env=offline)
            lab.run("rm", "-r", "/run/systemd")


def test_usage_errors_are_json_too(server: Server) -> None:
    answer = server.product("backup", "--no-such-option")
    assert answer.code == 2
    assert "no-such-option" in answer.error["message"].lower()
