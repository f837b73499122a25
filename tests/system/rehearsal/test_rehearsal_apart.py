"""Rehearsals leave the host alone, interrupted or not: no leftovers, no live change, no packets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.sandbox import PYTHON
from tests.system.helpers.faults import Fault
from tests.system.helpers.faults_forge import forge
from tests.system.helpers.rehearsals import (
    CHECKS,
    STATE,
    House,
    detail,
    house,
    live,
    packets,
    results,
)

HOME = "/var/opt/gitlab/mattermost"
PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
MAIL_PORT = 2525
# Each of these would be a way out of the sandbox; the last words of the program tell how each went.
ESCAPES = """\
#!/usr/bin/python3 -I
import ctypes, os, socket, subprocess
def way(name, act):
    try:
        told = act()
    except OSError as error:
        told = error.strerror
    except Exception as error:
        told = type(error).__name__
    ways.append(f"{name}: {told}")
def connect(family, address):
    with socket.socket(family) as one:
        one.settimeout(5)
        one.connect(address)
    return "OPEN"
def read(path):
    return f"READ {len(open(path).read())}"
def write(path):
    open(path, "w").write("x")
    return "WRITTEN"
ways = []
way("network", lambda: connect(socket.AF_INET, ("192.0.2.1", 80)))
way("GitLab", lambda: connect(socket.AF_INET, ("127.0.0.1", 80)))
way("live database", lambda: connect(socket.AF_UNIX, "/var/opt/gitlab/postgresql/.s.PGSQL.5432"))
way("secrets", lambda: read("/etc/gitlab/gitlab-secrets.json"))
way("live settings", lambda: read("/var/opt/gitlab/mattermost/config.json"))
way("sets", lambda: os.listdir("/var/opt/gitlab/backups"))
way("shadow", lambda: read("/etc/shadow"))
way("program", lambda: write("/opt/gitlab/embedded/bin/mattermost"))
way("cron", lambda: write("/etc/cron.d/mine"))
way("device", lambda: os.mknod("/dev/mine", 0o60600, os.makedev(254, 0)))
way("root", lambda: os.setuid(0))
way("mount", lambda: ctypes.CDLL(None, use_errno=True).mount(b"x", b"/mnt", b"tmpfs", 0, None))
way("namespace", lambda: ctypes.CDLL(None, use_errno=True).setns(os.open("/proc/1/ns/net", 0), 0))
way("processes", lambda: sum(one.isdigit() for one in os.listdir("/proc")) < 8)
way("privileges", lambda: [line for line in open("/proc/self/status") if line.startswith(("CapEff", "NoNewPrivs"))])
way("account", lambda: [os.getuid() > 0, os.getgroups()])
raise SystemExit("; ".join(ways))
"""
REFUSED = {
    "network": "Network is unreachable",
    "GitLab": "Connection refused",
    "live database": "No such file or directory",
    "secrets": "No such file or directory",
    "live settings": "No such file or directory",
    "sets": "No such file or directory",
    "shadow": "Permission denied",
    "program": "Read-only file system",
    "cron": "Read-only file system",
    "device": "Permission denied",
    "root": "Operation not permitted",
    "mount": "-1",
    "namespace": "Permission denied",
    "processes": "True",
    "privileges": r"['CapEff:\t0000000000000000\n', 'NoNewPrivs:\t1\n']",
    "account": "[True, []]",
}
# Each is on in the set, and must not be while it is rehearsed.
LOUD = {
    "mail": ("EmailSettings", "SendEmailNotifications"),
    "batches of mail": ("EmailSettings", "EnableEmailBatching"),
    "push": ("EmailSettings", "SendPushNotifications"),
    "jobs": ("JobSettings", "RunJobs"),
    "timed jobs": ("JobSettings", "RunScheduler"),
    "plugins": ("PluginSettings", "Enable"),
    "clustering": ("ClusterSettings", "Enable"),
    "webhooks": ("ServiceSettings", "EnableOutgoingWebhooks"),
    "link previews": ("ServiceSettings", "EnableLinkPreviews"),
    "telemetry": ("LogSettings", "EnableDiagnostics"),
    "question for updates": ("ServiceSettings", "EnableSecurityFixAlert"),
    "LDAP": ("LdapSettings", "Enable"),
    "search elsewhere": ("ElasticsearchSettings", "EnableIndexing"),
    "deletion of old posts": ("DataRetentionSettings", "EnableMessageDeletion"),
    "local mode": ("ServiceSettings", "EnableLocalMode"),
}
# Tells, with the stand-in's own reading of file and environment, what would be in force.
TELLING = f"""\
#!/usr/bin/python3 -B
import os, sys
from pathlib import Path
sys.path.insert(0, "/lab/src")
from tests.lab.fakes import mattermost_config
config = mattermost_config.start(Path(sys.argv[2]))
told = {{name: config[section][key] for name, (section, key) in {LOUD!r}.items()}}
told["memory"] = os.environ["GOMEMLIMIT"]
raise SystemExit("; ".join(f"{{name}}: {{value}}" for name, value in told.items()))
"""
# What a rehearsal takes while Mattermost runs: bytes of its folder and of memory, and the server's command line.
MEASURE = """
import glob, json, os, pwd, re, subprocess
uid = pwd.getpwnam("gitlab-mm").pw_uid
pids = [one for one in os.listdir("/proc") if one.isdigit() and os.stat(f"/proc/{one}").st_uid == uid]
def content(pid, name):
    try:
        return open(f"/proc/{pid}/{name}").read()
    except OSError:
        return ""
(folder,) = glob.glob("/var/lib/gitlab-mm-backup/.gitlab-mm-rehearsal-*")
shares = [re.search(r"^Pss: +([0-9]+) kB", content(pid, "smaps_rollup"), re.M) for pid in pids]
words = [content(pid, "cmdline").split(chr(0)) for pid in pids]
json.dump({
    "disk": int(subprocess.run(["du", "-s", "-B1", folder], capture_output=True, text=True).stdout.split()[0]),
    "memory": sum(int(one[1]) for one in shares if one) << 10,
    "server": [one for one in words if one[0].endswith("/postgres")],
    "account": [one[0] for one in words],
}, open("/root/measured", "w"))
"""
# Where a rehearsal is cut short: at each of its steps, and once while each program of it runs.
POINTS = (
    Fault("system.namespaces:without_network"),
    Fault("postgresql.scratch:_initdb"),
    Fault("postgresql.scratch:_wait"),
    Fault("postgresql.scratch:_create_role", "after"),
    Fault("store.verify:run_checks"),
    Fault("postgresql.load:create", "after"),
    Fault("postgresql.clients:load"),
    Fault("postgresql.load:fill", "after"),
    Fault("rehearsal.checks:database_checks"),
    Fault("restore.unpack:unpack"),
    Fault("restore.unpack:unpack", "after"),
    Fault("rehearsal.boot:_first_answer"),
    Fault("rehearsal.boot:_first_answer", "after"),
    Fault("rehearsal.checks:answers", "after"),
)
CAUGHT = (
    "system.namespaces:without_network",
    "postgresql.clients:load",
    "postgresql.load:fill",
    "restore.unpack:unpack",
    "rehearsal.boot:_first_answer",
)

# A sandbox like that of the scratch server, and who kills its parent while it is being set up.
SANDBOXED = """
import sys, time
from pathlib import Path
from gitlab_mm_backup.system import process, sandbox
folder = Path(sys.argv[1])
inside = sandbox.Sandbox({sandbox.INSIDE / "here": folder})
with process.temporary_folders(folder):
    folder.mkdir()
    with process.background(process.Command(["sleep", "999"], account="nobody", sandbox=inside)):
        time.sleep(60)
"""
KILLER = """
import os, random, subprocess, sys, time
def prefix(folder):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                if b"setpriv" in (text := words.read()) and folder in text:
                    return True
        except OSError:
            pass
for number in range(int(sys.argv[2])):
    folder = f"/run/gitlab-mm-killed-{number:04d}"
    parent = subprocess.Popen(["/usr/bin/python3", "-c", sys.argv[1], folder])
    while not prefix(folder.encode()) and parent.poll() is None:
        pass
    time.sleep(random.random() / 100)
    assert parent.poll() is None, "it ended by itself"
    parent.kill()
    parent.wait()
"""


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[House]:
    with house(base, deb) as made:
        yield made
        made.expect_nothing_left()


# What fails unwinds as an interruption does, but where it is caught, noted and the run goes on.
CUTS = [(point, act) for point in POINTS for act in ("SIGKILL", "SIGTERM", "fail")
        if act != "fail" or point.point in CAUGHT]  # fmt: skip


@pytest.mark.parametrize(
    ("point", "act"), CUTS, ids=[f"{fault.when} {fault.point}-{act}" for fault, act in CUTS]
)
def test_a_rehearsal_that_is_cut_short(place: House, point: Fault, act: str) -> None:
    kept = place.lab.path(f"{place.set}/rehearsal.json")
    before = kept.read_bytes() if kept.exists() else b""
    answer = place.rehearse(fault=Fault(point.point, point.when, act=act))
    place.expect_nothing_left()
    if act == "SIGKILL":
        assert answer.code == -9
    elif act == "SIGTERM":
        assert (answer.code, answer.error["message"]) == (1, "Interrupted by SIGTERM"), answer
    else:
        assert answer.code == 1
        assert "On purpose" in json.dumps(answer.document)
    if act != "fail":
        assert (kept.read_bytes() if kept.exists() else b"") == before


def test_a_kill_while_a_sandbox_is_set_up_leaves_nothing_in_it(place: House) -> None:
    """Within some milliseconds neither the kernel nor bwrap ends a child with its parent."""
    place.lab.run(PYTHON, "-c", KILLER, SANDBOXED, "40", timeout=120)
    place.expect_nothing_left()
    assert place.lab.run("pgrep", "-f", "sleep 999", check=False).stdout == ""


def test_what_a_power_cut_left_goes_with_the_next_rehearsal(place: House) -> None:
    ours = (f"{STATE}/.gitlab-mm-rehearsal-0badcafe", "/run/gitlab-mm-rehearsal-0badcafe")
    others = (f"{STATE}/.gitlab-mm-rehearsal-precious", "/run/gitlab-mm-rehearsal")
    place.lab.run("mkdir", *ours, *others)
    place.lab.write(f"{ours[0]}/postgresql/data/PG_VERSION", "15\n")
    assert place.rehearse("--quick").code == 0
    assert [place.lab.path(path).exists() for path in (*ours, *others)] == [
        False,
        False,
        True,
        True,
    ]
    place.lab.run("rmdir", *others)


def test_the_clients_of_the_restore_are_not_in_a_rehearsals_way(place: House) -> None:
    """Two at once: the second is told who is at work, and the first ends well."""
    with place.lab.popen("gitlab-mm", "rehearse", "--json") as first:
        second = place.rehearse()
        while second.code == 0 and first.poll() is None:
            second = place.rehearse()
        stdout, _ = first.communicate(timeout=60)
    codes = {second.code, json.loads(stdout)["exit_code"]}
    assert codes <= {0, 3}
    assert 0 in codes


def test_nothing_live_is_touched_and_nothing_leaves(place: House) -> None:
    """The set asks for mail at each start of Mattermost: the live one sends it, a rehearsal does not."""
    config = place.gitlab.config()
    config["EmailSettings"].update(
        SendEmailNotifications=True, SMTPServer="127.0.0.1", SMTPPort=str(MAIL_PORT)
    )
    place.lab.write(f"{HOME}/config.json", json.dumps(config), mode=0o600, owner="mattermost")
    quiet = packets(place)
    place.gitlab.restart_mattermost()
    assert packets(place) != quiet
    path = place.product.backup()
    before = live(place)
    assert place.rehearse("--full", path).code == 0
    after = live(place)
    assert before["state"].differences(after.pop("state")) == []
    del before["state"]
    assert before == after


def test_no_way_leads_out_of_the_sandbox(place: House) -> None:
    place.lab.run("mv", PROGRAM, f"{PROGRAM}.whole")
    place.lab.write(PROGRAM, ESCAPES, mode=0o755)
    answer = place.rehearse()
    place.lab.run("mv", f"{PROGRAM}.whole", PROGRAM)
    assert results(answer)["boot"] == "failed"
    told = detail(answer, "boot").partition("exit code 1: ")[2]
    assert dict(part.split(": ", 1) for part in told.split("; ")) == REFUSED
    assert not place.lab.path("/etc/cron.d/mine").exists()


def test_what_could_speak_is_off(place: House) -> None:
    """Whatever the set says, and with an unreachable replica."""
    config = place.gitlab.config()
    for section, key in LOUD.values():
        config[section][key] = True
    config["SqlSettings"]["DataSourceReplicas"] = ["host=192.0.2.1 user=mm dbname=mm"]
    contents = {f"{HOME}/config.json": json.dumps(config)}
    path = forge(place.lab, place.set, contents=contents)
    place.lab.run("mv", PROGRAM, f"{PROGRAM}.whole")
    place.lab.write(PROGRAM, TELLING, mode=0o755)
    answer = place.rehearse(path)
    place.lab.run("mv", f"{PROGRAM}.whole", PROGRAM)
    told = detail(answer, "boot").partition("exit code 1: ")[2]
    in_force = dict(part.split(": ", 1) for part in told.split("; "))
    assert in_force == {**dict.fromkeys(LOUD, "False"), "memory": "512MiB"}
    assert results(place.rehearse(path)) == dict.fromkeys(CHECKS, "passed")


def test_what_it_takes_is_within_what_it_asks_for(place: House) -> None:
    place.lab.write("/root/measure", MEASURE)
    fault = Fault(
        "rehearsal.checks:answers", act="run", argv=("/usr/bin/python3", "-I", "/root/measure")
    )
    assert place.rehearse("--full", fault=fault).code == 0
    measured = json.loads(place.lab.read("/root/measured"))
    manifest = json.loads(place.lab.read(f"{place.set}/manifest.json"))
    asked = manifest["database"]["bytes"] * 5 // 4 + manifest["files"]["bytes"] + (256 << 20)
    assert manifest["database"]["bytes"] < measured["disk"] < asked
    assert 0 < measured["memory"] < 768 << 20
    (server,) = [argv for argv in measured["server"] if "-D" in argv]
    assert {
        "listen_addresses=", "fsync=off", "shared_buffers=64MB", "maintenance_work_mem=64MB",
    } <= set(server)  # fmt: skip
    assert "unix_socket_directories=/run/gitlab-mm/socket" in server


def test_no_room_on_the_disk(place: House) -> None:
    place.lab.run("mkdir", "-p", "/mnt/small")
    place.lab.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/mnt/small")
    place.lab.write("/root/small.yml", "scratch_dir: /mnt/small\n")
    answer = place.rehearse("--config", "/root/small.yml")
    assert answer.code == 1
    assert answer.error["message"] == "Not enough disk space for a rehearsal"
    assert "/mnt/small" in answer.error["detail"]
    assert "scratch_dir" in answer.error["hint"]
    assert list(place.lab.path("/mnt/small").iterdir()) == []
    place.lab.run("umount", "/mnt/small")


def test_no_memory_to_spare(place: House) -> None:
    text = place.lab.run("cat", "/proc/meminfo").stdout
    scarce = re.sub(r"MemAvailable: +\d+", "MemAvailable:     500000", text)
    place.lab.write("/root/meminfo", scarce)
    place.lab.run("mount", "--bind", "/root/meminfo", "/proc/meminfo")
    answer = place.rehearse()
    place.lab.run("umount", "/proc/meminfo")
    assert answer.code == 1
    assert "not enough memory" in answer.error["message"]
    assert "488.3 MiB available" in answer.error["detail"]
    assert answer.error["hint"]


def test_another_place(place: House) -> None:
    place.lab.write("/root/place.yml", "scratch_dir: /srv/scratch\n")
    with_hold = Fault(
        "rehearsal.checks:database_checks",
        act="run",
        argv=("sh", "-c", "ls -A /srv/scratch > /root/seen"),
    )
    assert place.rehearse("--config", "/root/place.yml", "--quick", fault=with_hold).code == 0
    assert re.fullmatch(r"\.gitlab-mm-rehearsal-[0-9a-f]{8}\n", place.lab.read("/root/seen"))
    assert list(place.lab.path("/srv/scratch").iterdir()) == []


def test_without_the_account_it_is_told(place: House) -> None:
    place.lab.run("deluser", "--quiet", "gitlab-mm")
    answer = place.rehearse()
    place.lab.run("dpkg-reconfigure", "gitlab-mm-backup")
    assert answer.code == 1
    assert "no account gitlab-mm" in answer.error["message"]
    assert "dpkg-reconfigure" in answer.error["hint"]
    assert place.rehearse("--quick").code == 0
