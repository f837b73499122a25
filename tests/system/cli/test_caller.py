"""Who calls, from where and with what: shells, cron lines, host names and hooks change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.base import build_base
from tests.lab.installed_package import JOURNAL, ONE_SECOND, Product, install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until

CONFIG = "/etc/gitlab-mm-backup/config.yml"
SETS = "/var/opt/gitlab/backups/mattermost"
PACKAGE = "/usr/lib/python3/dist-packages/gitlab_mm_backup"
HOME = "/var/opt/gitlab/mattermost"
LOCK = "/run/gitlab-mm-backup.lock"
COLLECTOR = "/var/opt/gitlab/node-exporter/textfile_collector"
SECRET = "hunter2-of-a-row"
CATCH = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        with open("/tmp/pings", "a") as file:
            file.write(self.path + " " + body.replace("\\n", " ") + "\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def product(deb: Path) -> Iterator[Product]:
    with Lab(base=build_base()) as lab:
        install(lab, Spec())
        yield install_product(lab, deb)


def sets(lab: Lab) -> int:
    return len(lab.run("ls", "-1", SETS, check=False).stdout.split())


@pytest.mark.parametrize(
    "variable",
    [
        "PGSERVICE=reports",
        "PGSERVICEFILE=/nonexistent",
        "PGHOSTADDR=127.0.0.1",
        "PGSSLMODE=verify-full",
        "PGOPTIONS=-c search_path=nowhere -c default_transaction_read_only=on",
        "PGCLIENTENCODING=LATIN1",
        "PGTARGETSESSIONATTRS=standby",
        "PGREQUIREPEER=postgres",
        "PGCHANNELBINDING=require",
        "PGPASSFILE=/nonexistent",
        "PGDATABASE=x",
        "PGHOST=db.elsewhere",
        "PGPORT=1",
        "PGTZ=Asia/Tokyo",
        "GITLAB_MM_PHASE=post-restore",
        "http_proxy=http://127.0.0.1:9/",
        "TAR_OPTIONS=--exclude=*",
        "PYTHONPATH=/tmp/evil",
        "PYTHONHOME=/tmp/evil",
        "PYTHONWARNINGS=error",
        "HOME=/nonexistent",
    ],
)
def test_a_variable_of_the_shell_changes_nothing(product: Product, variable: str) -> None:
    name, _, value = variable.partition("=")
    product.lab.write("/tmp/evil/json.py", "raise SystemExit('evil')\n")
    done = product.lab.run("gitlab-mm", "backup", "-q", env={name: value}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


CALLERS = {
    "no variable at all": "",
    "those of an administrator of PostgreSQL": "PGSERVICE=reports TAR_OPTIONS=--exclude=*"
    " PGOPTIONS='-c default_transaction_read_only=on'",
    "Japanese": "LANG=ja_JP.UTF-8 LC_ALL=ja_JP.eucJP TZ=Asia/Tokyo",
    "nonsense": "PYTHONUTF8=0 LC_ALL=POSIX TZ=:nonsense PATH=/nonexistent",
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_set_and_its_restore_whoever_calls(product: Product, caller: str) -> None:
    """With a umask that would take the files away from Mattermost."""
    before = modes(product.lab)
    for verb in ("backup -q", "verify -q", "restore --yes -q --no-safety-backup"):
        command = f"umask 077; exec env -i {CALLERS[caller]} /usr/bin/gitlab-mm {verb}"
        done = product.lab.run("sh", "-c", command, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert modes(product.lab) == before


def modes(lab: Lab) -> list[str]:
    """Each file of Mattermost with owner and mode."""
    return lab.run("sh", "-c", f"cd {HOME}; find . -printf '%p %u %g %m\\n' | sort").stdout.split()


PLACES = {
    "64 descriptors": ("ulimit -n 64", ""),
    "a directory that is gone": ("mkdir /srv/gone; cd /srv/gone; rmdir /srv/gone", ""),
    "everybody may write what is made": ("umask 000", ""),
    "TMPDIR is gone": ("export TMPDIR=/gone/away", ""),
    "/tmp runs nothing": ("mount -o remount,noexec /tmp", "mount -o remount,exec /tmp"),
    "no temporary directory has room": (
        "for one in /tmp /var/tmp; do mount -t tmpfs -o size=64k tmpfs $one;"
        " head -c 1000000 /dev/zero >$one/full; done 2>/dev/null",
        "umount /tmp /var/tmp",
    ),
    "processes of others are hidden": (
        "mount -o remount,hidepid=2 /proc",
        "mount -o remount,hidepid=0 /proc",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_where_a_backup_is_called(product: Product, place: str) -> None:
    making, healing = PLACES[place]
    try:
        done = product.lab.run("bash", "-c", f"{making}; gitlab-mm backup -q", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        if healing:  # these are of the whole host, so of a rehearsal and a restore too
            assert product("rehearse", "--quick").code == 0
        if "umount" in healing:
            assert product.restore("--no-safety-backup").code == 0
    finally:
        product.lab.run("sh", "-c", healing)
    found = product.lab.run("find", SETS, "-perm", "/077").stdout
    assert found == "", "others may look into it"


def test_files_that_may_not_grow(product: Product) -> None:
    done = product.lab.run("bash", "-c", "ulimit -f 8; gitlab-mm backup -q", check=False)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert "Traceback" not in done.stderr and product.leftovers() == []


def test_a_lock_file_that_was_left(product: Product) -> None:
    """Who holds it is what counts, not which number stands in it."""
    lab, other = product.lab, product.lab.popen("sleep", "300")
    number = lab.run("sh", "-c", "until pgrep -x sleep; do :; done").stdout.split()[0]
    for content, mode in ((f"{number}\n", 0o600), ("", 0o000)):
        lab.write(LOCK, content, mode=mode)
        product.backup()
    other.kill()
    lab.run("sh", "-c", f"rm {LOCK}; ln -s /etc/passwd {LOCK}")
    before = lab.read("/etc/passwd")
    answer = product("backup")
    lab.run("rm", LOCK)
    assert answer.code == 1 and LOCK in answer.error["detail"]
    assert lab.read("/etc/passwd") == before
    product.backup()


def test_a_host_that_cannot_send_mail(product: Product) -> None:
    """The set is made; what could not be sent, and why, is in the log, and told by a trial."""
    lab = product.lab
    programs = ("/usr/sbin/sendmail", "/usr/bin/apprise")
    kinds = ("{type: mail, to: admin@example.test", "{type: apprise, to: 'json://127.0.0.1:9/'")
    lab.write(CONFIG, "notifications:\n" + "".join(f"  - {kind}, on: always}}\n" for kind in kinds))
    for program in programs:
        lab.run("mv", program, f"{program}.away")
    try:
        made = lab.run("gitlab-mm", "backup", "-v", check=False)
        trial = product("notify", "--test")
    finally:
        lab.path(CONFIG).unlink()
        for program in programs:
            lab.run("mv", f"{program}.away", program)
    assert made.returncode == 0 and "Made " in made.stdout
    assert trial.code == 1
    for said in (made.stderr, trial.error["detail"]):
        assert "sendmail cannot be started" in said and "apprise cannot be started" in said


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("<&-", 0),
        ("<&- >&- 2>&-", 0),
        (">/dev/full", 4),
        ("2>/dev/full", 0),
        (">/dev/full 2>&1", 4),
    ],
)
def test_a_backup_is_made_wherever_its_output_goes(
    product: Product, redirection: str, code: int
) -> None:
    before = sets(product.lab)
    command = f"/usr/bin/gitlab-mm backup -v {redirection}"
    done = product.lab.run("bash", "-c", command, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert sets(product.lab) == before + 1


def test_an_answer_that_could_not_be_written_is_none(product: Product) -> None:
    done = product.lab.run("bash", "-c", "gitlab-mm list >/dev/full", check=False)
    assert done.returncode == 1
    assert done.stderr == "Warning: The output could not be written: No space left on device\n"
    assert product.lab.run("bash", "-c", "gitlab-mm --help >/dev/full", check=False).returncode == 1


def test_sets_that_begin_in_one_second(product: Product) -> None:
    before = sets(product.lab)
    for _ in range(3):
        done = product.lab.run(*ONE_SECOND, "gitlab-mm", "backup", "-q", check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert sets(product.lab) == before + 3


@pytest.mark.parametrize("name", ["x" * 64, "a..b", "gitläb", "gitlab.", "A_Host-With_Capitals"])
def test_every_host_name_that_linux_takes(product: Product, name: str) -> None:
    rename = "import socket, sys; socket.sethostname(sys.argv[1])"
    product.lab.run("python3", "-c", rename, name)
    try:
        product.backup()
        assert product("list").code == 0
        assert product("status").code in (0, 4)
    finally:
        product.lab.run("python3", "-c", rename, "lab")


def test_a_program_that_a_hook_left_holds_no_lock(product: Product) -> None:
    hook = "/etc/gitlab-mm-backup/hooks/post-backup.d/70-left"
    script = '#!/bin/sh\nsleep 300 &\necho $! >/tmp/left\ntouch "$HOME/was-here"\n'
    product.lab.write(hook, script, mode=0o755)
    try:
        product.backup()
        left = product.lab.read("/tmp/left").strip()
        assert product.lab.run("cat", f"/proc/{left}/comm").stdout == "sleep\n"
        product.backup()
        assert product.lab.path("/root/was-here").exists()
    finally:
        product.lab.path(hook).unlink()
        product.lab.run("pkill", "-x", "sleep")


@pytest.fixture
def broken(product: Product) -> Iterator[Product]:
    """The program with bugs in prune and restore, and a receiver of notifications."""
    lab = product.lab
    product.backup()  # for a restore
    lab.write("/tmp/catch.py", CATCH)
    catcher = lab.popen("python3", "/tmp/catch.py")
    wait_until(
        lambda: lab.run("sh", "-c", "ss -ltn | grep 8099", check=False).stdout, 10, "the catcher"
    )
    # As dead man's switches have it: healthchecks.io, with a query, and Uptime Kuma's.
    places = ("push", "key/nightly?create=1", "api/push/AbC?status=up&msg=OK&ping=")
    lines = [f"  - {{type: ping, to: 'http://127.0.0.1:8099/{place}'}}\n" for place in places]
    lab.write(CONFIG, "notifications:\n" + "".join(lines), mode=0o640)
    lab.run("mkdir", "-p", COLLECTOR)
    modules = {
        name: lab.read(f"{PACKAGE}/{name}.py") for name in ("store/prune", "restore/rollback")
    }
    fault = f"    raise KeyError('{SECRET}')\n"
    lab.write(
        f"{PACKAGE}/store/prune.py", f"{modules['store/prune']}\n\ndef plan(*_, **__):\n{fault}"
    )
    note = "    journal.write({'plan': {}}, [Step('stop Mattermost', {})], [])\n"
    lab.write(
        f"{PACKAGE}/restore/rollback.py",
        f"{modules['restore/rollback']}\n\ndef take_over(site, journal):\n{note}{fault}",
    )
    try:
        yield product
    finally:
        for name, text in modules.items():
            lab.write(f"{PACKAGE}/{name}.py", text)
        lab.path(CONFIG).unlink()
        catcher.kill()


def test_an_error_of_the_program_is_told_in_one_object_and_to_those_who_watch(
    broken: Product,
) -> None:
    answer = broken("prune")
    assert answer.code == 1
    assert answer.error["message"] == "gitlab-mm failed because of an error in its own program"
    assert answer.error["detail"].startswith("KeyError at store/prune.py line ")
    assert SECRET not in json.dumps(answer.document) + answer.stderr
    pings = broken.lab.read("/tmp/pings").splitlines()
    assert SECRET not in "".join(pings)
    for wanted in ("/push/fail ", "/key/nightly/fail?create=1 ", "/api/push/AbC?status=down&msg="):
        assert [ping for ping in pings if ping.startswith(wanted)], (wanted, pings)
    metrics = broken.lab.run("sh", "-c", f"cat {COLLECTOR}/*.prom").stdout
    assert 'gitlab_mm_run_exit_code{command="prune"} 1' in metrics


def test_an_error_of_the_program_with_a_restore_under_way_needs_attention(broken: Product) -> None:
    answer = broken.restore()
    broken.lab.path(JOURNAL).unlink()
    assert answer.code == 5
    assert "--rollback" in answer.error["hint"]
