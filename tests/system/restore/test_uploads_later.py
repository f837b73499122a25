"""Uploads of earlier days, unpacked after a restore while people talk: every fault that can come between."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Answer
from tests.system.helpers.faults import HOME, QUICK, Fault, Server
from tests.system.helpers.faults_server import record
from tests.system.helpers.faults_server import server as boot

DATA = f"{HOME}/data"
NOTED = "/var/lib/gitlab-mm-backup/uploads.json"
WORK = "/var/opt/gitlab/.gitlab-mm-*"
DAYS = ("20240101", "20240102", "20240315", "20250228", "20260101", "20260815")
LATER = (*QUICK, "--uploads-later")
UNPACK = "restore.uploads_later:_unpack_batch"
MERGE = "restore.folder_swap:merge"
# A frame of some uploads, and a batch of one frame, so that a small server has many of both.
SMALL = Fault(frame=192 << 10, batch=1)
# All uploads of the seed become those of an earlier day; each day gets some more.
AGE = f"""
cd {DATA}; today=$(ls -d [0-9]*); mv $today {DAYS[2]}
for day in {" ".join(DAYS)}; do
    for number in 1 2 3 4; do
        place=$day/teams/noteam/channels/c$number/users/u$number/f$number; mkdir -p $place
        head -c 70000 /dev/urandom > $place/"report $number.bin"
    done
done
mkdir -p $(date +%Y%m%d) users/u1 emoji/e1 brand; for place in $(date +%Y%m%d) users/u1 emoji/e1 brand; do
    head -c 5000 /dev/urandom > $place/image.png; done
chown -R mattermost:mattermost ."""
RENAMED = "UPDATE fileinfo SET {0} = regexp_replace({0}, '^[0-9]{{8}}', '" + DAYS[2] + "')"
# From B to the other state: earlier uploads come and go. Only the last day is the same in both.
CHANGE = f"""
cd {DATA}; for day in {" ".join(DAYS[:5])}; do
    touch -d 2025-01-01 $day/teams/noteam/channels/c3/users/u3/f3/report*; done
rm -r {DAYS[3]} {DAYS[0]}/teams/noteam/channels/c1
mkdir -p 20250301/teams {DAYS[1]}/teams/more; head -c 300000 /dev/urandom > 20250301/teams/big
head -c 100 /dev/urandom > {DAYS[1]}/teams/more/small; chown -R mattermost:mattermost ."""


MOUNT = f"""
mv {DATA} /srv/disk; mkdir {DATA}; chown mattermost:mattermost {DATA}; mount --bind /srv/disk {DATA}"""


class Uploads:
    """The fault harness's server with uploads of earlier days in both states."""

    def __init__(self, made: Server) -> None:
        self.server = made
        self.lab = made.lab

    def run(self, *arguments: str, fault: Fault = SMALL) -> Answer:
        """As Server.run, with small frames."""
        fault = dataclasses.replace(fault, frame=SMALL.frame, batch=SMALL.batch)
        return self.server.run(*arguments, fault=fault)

    def restore(self, *arguments: str, fault: Fault = SMALL) -> Answer:
        """Restore the other state, its earlier uploads later."""
        return self.run(*self.words(*arguments), fault=fault)

    def words(self, *arguments: str) -> Sequence[str]:
        """The command that restores the other state."""
        return "restore", "--yes", *LATER, *arguments, self.server.sets[self.server.other]

    @contextlib.contextmanager
    def held(self, nth: int = 1, point: str = UNPACK) -> Iterator[subprocess.Popen[str]]:
        """Restore the other state, and hold at a batch; what is live is the other one then."""
        fault = dataclasses.replace(SMALL, point=point, nth=nth, act="hold")
        with self.server.held(*self.words(), fault=fault) as process:
            self.swap()
            yield process

    def swap(self) -> None:
        self.server.live = self.server.other

    def killed(self, fault: Fault) -> None:
        """Have a restore of the other state killed while it unpacks uploads."""
        assert self.restore(fault=fault).code == -9
        assert self.pending and not self.server.journal
        self.swap()

    @property
    def pending(self) -> list[dict[str, Any]]:
        """What is recorded as not unpacked yet."""
        file = self.lab.path(NOTED)
        return list(json.loads(file.read_text())) if file.exists() else []

    def there(self, day: str) -> bool:
        return self.lab.path(f"{DATA}/{day}").exists()

    def left(self) -> list[str]:
        """Work directories that lie about."""
        return self.lab.run("sh", "-c", f"ls -d {WORK} | grep -v foreign || :").stdout.split()

    def expect(self, ignore: Sequence[str] = ()) -> None:
        """The state that should be live is there to its last byte, and nothing else."""
        assert not self.pending
        assert not self.left()
        assert self.check()["result"] == "passed"
        self.server.expect(self.server.live, ignore)

    def check(self) -> dict[str, str]:
        """What doctor says of uploads."""
        checks = self.server.run("doctor").document["checks"]
        return next(check for check in checks if check["name"] == "uploads")

    def pins(self) -> list[str]:
        found = self.lab.run("find", "/var/opt/gitlab/backups", "-name", "pinned.json")
        return found.stdout.split()


@pytest.fixture(scope="module")
def uploads(base: Path, deb: Path) -> Iterator[Uploads]:
    with boot(base, deb, age) as made:
        yield Uploads(made)


def age(made: Server) -> None:
    """Make both states anew, with uploads of earlier days."""
    for column in ("path", "thumbnailpath", "previewpath"):
        made.gitlab.sql(RENAMED.format(column))
    made.lab.run("sh", "-ec", AGE)
    record(made, "B", SMALL)
    made.lab.run("sh", "-ec", CHANGE)
    record(made, "A", SMALL)
    made.live = "A"


@pytest.fixture(scope="module")
def mounted(base: Path, deb: Path) -> Iterator[Uploads]:
    """The same, with the data directory on a disk of its own: work directories lie in it."""
    with boot(base, deb, age_on_disk) as made:
        yield Uploads(made)


def age_on_disk(made: Server) -> None:
    made.gitlab.gitlab_ctl("stop", "mattermost")
    made.lab.run("sh", "-ec", MOUNT)
    made.gitlab.gitlab_ctl("start", "mattermost")
    age(made)


@pytest.fixture(autouse=True)
def whole(uploads: Uploads) -> Iterator[None]:
    """A row that failed does not spoil the next one."""
    yield
    if uploads.pending or uploads.server.journal:
        uploads.lab.path("/run/fault-go").touch()
        uploads.run("restore", "--continue")
        left = f"{NOTED} /var/opt/gitlab/backups/mattermost/*/pinned.json"
        uploads.lab.run("sh", "-c", f"rm -rf {left} /var/opt/gitlab/.gitlab-mm-????????-*")
        uploads.server.heal()


def test_mattermost_is_back_before_its_earlier_uploads(uploads: Uploads) -> None:
    """Held before the first: messages, recent uploads, avatars, emoji and brand are there."""
    server = uploads.server
    with uploads.held() as process:
        seen, wanted = server.observe(), server.states[server.live]
        assert seen["api"]["posts"] == wanted["api"]["posts"]
        files = {path for path in wanted["files"] if not path.startswith(f"{DATA}/20")}
        today = {
            path
            for path in wanted["files"]
            if path.startswith(f"{DATA}/2026") and DAYS[4] not in path and DAYS[5] not in path
        }
        assert today
        assert {path: seen["files"].get(path) for path in files | today} == {
            path: wanted["files"][path] for path in files | today
        }
        assert list(filter(uploads.there, DAYS)) == [DAYS[5]], "all others are not as before"
        answer = server.go(process)
    assert answer.code == 0, answer
    assert answer.document["uploads"]["bytes"] > 1_000_000
    assert answer.document["uploads"]["left"] == 0
    assert 280_000 < answer.document["uploads"]["there"] < 350_000
    uploads.expect()
    assert not uploads.pins()


def test_newest_first(uploads: Uploads) -> None:
    """In the middle, each day that is there is newer than each that is not."""
    with uploads.held(nth=4) as process:
        wanted = uploads.server.states[uploads.server.live]["files"]
        days = [day for day in DAYS if f"{DATA}/{day}" in wanted]
        there = [day for day in days if uploads.there(day)]
        lacking = [day for day in days if not uploads.there(day)]
        assert there and lacking and max(lacking) <= min(there), (there, lacking)
        assert uploads.server.go(process).code == 0
    uploads.expect()


def test_what_is_told_while_it_works(uploads: Uploads) -> None:
    """A set that is made meanwhile is not complete, and no reason to remove another."""
    server = uploads.server
    with uploads.held(nth=3) as process:
        entry = uploads.pending[0]
        assert 0 < entry["left"] < entry["bytes"]
        check = uploads.check()
        assert check["result"] == "warning" and "at work: restore, since" in check["detail"]
        line = next(
            line for line in server.run("status").document["lines"] if line["name"] == "restore"
        )
        assert "not unpacked yet" in line["words"], line
        collector = "/var/opt/gitlab/node-exporter/textfile_collector/gitlab_mm_backup.prom"
        assert f"gitlab_mm_restore_uploads_left_bytes {entry['left']}\n" in uploads.lab.read(
            collector
        )
        made = server.run("backup")
        assert made.code == 4, made
        assert "not unpacked yet" in made.document["told"][0]
        assert "not unpacked yet" in made.document["shrunken"][-1]
        assert made.document["removed"] == []
        pruned = server.run("prune", "--dry-run", "--json")
        assert made.document["set"] in pruned.stderr + json.dumps(pruned.document)
        refused = server.run("delete", "--yes", server.sets[server.live].rpartition("/")[2])
        assert refused.code != 0, refused
        assert server.go(process).code == 0
    uploads.lab.run("rm", "-r", made.document["path"])
    uploads.expect()


POINTS = [
    Fault(UNPACK),
    Fault(UNPACK, nth=3),
    Fault("restore.unpack:unpack_uploads", "after", nth=2),
    Fault(MERGE, nth=2),
    Fault(MERGE, "after", nth=2),
    Fault("restore.folder_swap:move_new", "after", nth=3),
    Fault("mattermost.journal:Journal.keep_uploads", "after", nth=3),
    Fault("restore.uploads_later:forget"),
]


@pytest.mark.parametrize("fault", POINTS, ids=lambda fault: f"{fault.point}-{fault.when}")
def test_kill_9_of_us(uploads: Uploads, fault: Fault) -> None:
    """Whatever moment it is, --continue brings the rest, and nothing twice."""
    uploads.killed(fault)
    answer = uploads.run("restore", "--continue")
    assert (answer.code, answer.document["uploads"]["left"]) == (0, 0), answer
    uploads.expect()


def test_the_next_backup_goes_on(uploads: Uploads) -> None:
    """It makes its set first, which says what it lacks; the next one is complete."""
    uploads.killed(Fault(UNPACK, nth=2))
    answer = uploads.run("backup")
    assert answer.code == 4 and "not unpacked yet" in answer.document["told"][0], answer
    uploads.lab.run("rm", "-r", answer.document["path"])
    uploads.expect()


def test_kill_9_of_tar(uploads: Uploads) -> None:
    """It is told, and done by the next run."""
    fault = Fault("child:tar", nth=4, target="tar")
    answer = uploads.restore(fault=fault)
    uploads.swap()
    assert answer.code == 4 and "tar was ended by signal 9" in answer.document["warnings"][-1]
    assert answer.document["uploads"]["left"] > 0
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGHUP"])
def test_a_signal(uploads: Uploads, signal: str) -> None:
    """The restore is complete; only the rest is interrupted."""
    answer = uploads.restore(fault=Fault(UNPACK, nth=2, act=signal))
    uploads.swap()
    assert answer.code == 4 and f"interrupted by {signal}" in answer.document["warnings"][-1]
    assert uploads.check()["detail"].endswith("Run: gitlab-mm restore --continue")
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_a_reboot(uploads: Uploads) -> None:
    """Mattermost runs again by itself; the unit's command does the rest."""
    with uploads.held(nth=3):
        uploads.server.power_cut()
    assert uploads.pending
    unit = uploads.lab.read("/usr/lib/systemd/system/gitlab-mm-backup-uploads.service")
    assert f"ConditionPathExists={NOTED}\n" in unit
    # The unit begins when the host is up; this lab has no systemd.
    command = unit.partition("ExecStart=/usr/bin/")[2].splitlines()[0].split()
    assert uploads.lab.run(*command, check=False).returncode == 0
    uploads.expect()


def test_a_full_disk(uploads: Uploads) -> None:
    """It stops before the reserve is used up, and goes on when there is space."""
    lab, server = uploads.lab, uploads.server
    with uploads.held(nth=2) as process:
        lab.run("sh", "-c", "head -c 2G /dev/zero > /var/fault-fill 2>/dev/null || :")
        answer = server.go(process)
    assert answer.code == 4 and "disk" in answer.document["warnings"][-1].lower(), answer
    assert server.service() == "run"
    lab.run("rm", "/var/fault-fill")
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_what_mattermost_has_written_stays(uploads: Uploads) -> None:
    """A file of the same path, and one more in the same directory."""
    lab, place = uploads.lab, f"{DATA}/{DAYS[1]}/teams/noteam/channels/c2/users/u2/f2"
    with uploads.held() as process:
        lab.run("install", "-d", "-o", "mattermost", "-g", "mattermost", place)
        lab.run("sh", "-c", "echo mine > $0/'report 2.bin'; echo new > $0/new", place)
        assert uploads.server.go(process).code == 0
    assert lab.read(f"{place}/report 2.bin") == "mine\n"
    assert lab.read(f"{place}/new") == "new\n"
    assert not uploads.pending
    assert uploads.server.restore().code == 0
    uploads.server.expect(uploads.server.other)


def test_a_link_in_the_place_of_a_day_is_not_followed(uploads: Uploads) -> None:
    """Mattermost's account may create one at any time; root writes nothing through it."""
    lab = uploads.lab
    with uploads.held() as process:
        lab.run(
            "setpriv",
            "--reuid=mattermost",
            "--clear-groups",
            "ln",
            "-s",
            "/etc",
            f"{DATA}/{DAYS[4]}",
        )
        before = lab.run("ls", "-lR", "/etc").stdout
        answer = uploads.server.go(process)
    assert answer.code == 4, answer
    assert f"something else is in their place: '{DAYS[4]}'" in answer.document["warnings"][-1]
    assert lab.run("ls", "-lR", "/etc").stdout == before
    assert uploads.server.restore().code == 0
    uploads.server.expect(uploads.server.other)


def test_a_second_restore(uploads: Uploads) -> None:
    """It is refused while uploads are unpacked; after a kill it takes the place of the first."""
    server = uploads.server
    with uploads.held(nth=2) as process:
        answer = uploads.run(*uploads.words())
        assert answer.code == 3 and "uploads of a restore" in answer.error["message"], answer
        for words in (("restore", "--rollback"), ("restore", "--continue")):
            assert uploads.run(*words).code == 3
        assert server.go(process).code == 0
    uploads.expect()
    uploads.killed(Fault(UNPACK, nth=2))
    assert uploads.restore().code == 0
    uploads.swap()
    uploads.expect()
    assert not uploads.pins()


@pytest.mark.parametrize("later", ["--uploads-later", "--uploads-now"])
def test_a_second_restore_that_is_taken_back(uploads: Uploads, later: str) -> None:
    """What the first one has left is still to be done, into its own directory."""
    uploads.killed(Fault(UNPACK, nth=2))
    left = uploads.pending
    answer = uploads.restore(later, fault=Fault("restore.uploads_later:note", "after", act="fail"))
    assert answer.code == 1, answer
    assert uploads.pending == left
    assert uploads.restore(later, fault=Fault("restore.uploads_later:note", "after")).code == -9
    assert uploads.run("restore", "--rollback").code == 0
    assert uploads.pending == left
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_rollback_in_the_middle(uploads: Uploads) -> None:
    """The restore is complete: nothing is changed, and what helps is said."""
    uploads.killed(Fault(UNPACK, nth=2))
    left = uploads.pending
    answer = uploads.run("restore", "--rollback")
    assert answer.code == 2 and "cannot be rolled back" in answer.error["message"], answer
    assert uploads.pending == left
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_a_set_that_is_gone(uploads: Uploads) -> None:
    """The rules keep it; if somebody removes it by hand, that is said until another is restored."""
    uploads.killed(Fault(UNPACK, nth=2))
    live = uploads.server.sets[uploads.server.live]
    assert uploads.pins() == [f"{live}/pinned.json"]
    uploads.lab.run("mv", live, "/var/away")
    answer = uploads.run("restore", "--continue")
    assert answer.code == 4 and "There is no set" in answer.document["warnings"][0], answer
    assert uploads.check()["result"] == "warning"
    uploads.lab.run("mv", "/var/away", live)
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()
    assert not uploads.pins()


def test_a_set_that_was_damaged_meanwhile(uploads: Uploads) -> None:
    """It is verified again before anything more of it is unpacked."""
    uploads.killed(Fault(UNPACK, nth=2))
    part = f"{uploads.server.sets[uploads.server.live]}/files.tar.zst"
    uploads.lab.run("cp", "-a", part, "/var/kept")
    uploads.lab.run("sh", "-c", f"printf x | dd of={part} bs=1 seek=150000 conv=notrunc")
    there = [day for day in DAYS if uploads.there(day)]
    answer = uploads.run("restore", "--continue")
    assert answer.code == 4 and "checksum" in answer.document["warnings"][0], answer
    assert [day for day in DAYS if uploads.there(day)] == there
    uploads.lab.run("mv", "/var/kept", part)
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_a_failed_start_exchanges_everything_back(uploads: Uploads) -> None:
    """As without it: nothing is left to unpack, and no set is kept for it."""
    uploads.lab.write("/opt/fault-mattermost", f"exit {uploads.server.other}\n")
    answer = uploads.restore(fault=dataclasses.replace(SMALL, patience=20))
    uploads.lab.run("rm", "/opt/fault-mattermost")
    assert answer.code == 1, answer
    uploads.expect()
    assert not uploads.pins()


def test_a_dry_run_tells_of_it(uploads: Uploads) -> None:
    steps = uploads.run("restore", "--dry-run", *LATER, "latest").document["steps"]
    assert any("of earlier uploads while Mattermost runs" in step for step in steps)
    steps = uploads.run("restore", "--dry-run", *QUICK, "latest").document["steps"]
    assert not any("uploads" in step for step in steps), "a small site does not wait"


def test_a_file_of_the_same_size_and_time_with_other_bytes(uploads: Uploads) -> None:
    """One file each of some days is compared by its bytes; then nothing is taken from what is there."""
    file = f"{DATA}/{DAYS[5]}/teams/noteam/channels/c1/users/u1/f1/report 1.bin"
    forge = (
        'touch -r "$0" /var/time; printf forged | dd of="$0" conv=notrunc; touch -r /var/time "$0"'
    )
    for number in "1234":
        place = file.replace(
            "c1/users/u1/f1/report 1", f"c{number}/users/u{number}/f{number}/report {number}"
        )
        uploads.lab.run("sh", "-c", forge, place)
    answer = uploads.restore()
    uploads.swap()
    assert (answer.code, answer.document["uploads"]["there"]) == (4, 0), answer
    assert "has other bytes than in the set" in answer.document["warnings"][0]
    uploads.expect()


@pytest.mark.parametrize(
    "change",
    [
        "touch {0}/more",
        "chmod 600 {0}/*/*/*/*/*/*/*/*.bin",
        "chown root {0}",
        "mv {0} {0}-; ln -s {0}- {0}",
    ],
)
def test_what_is_not_as_in_the_set_is_unpacked(uploads: Uploads, change: str) -> None:
    """One more file, another mode or owner, or a link in the place of the directory."""
    uploads.lab.run("sh", "-ec", f"cd {DATA}; {change.format(DAYS[5])}")
    answer = uploads.restore()
    uploads.swap()
    assert (answer.code, answer.document["uploads"]["there"]) == (0, 0), answer
    uploads.expect()


def test_kill_9_while_it_is_taken(uploads: Uploads) -> None:
    """What was moved is not unpacked again, and the rest is."""
    fault = Fault("restore.earlier_uploads:take", "after")
    assert uploads.restore(fault=fault).code == -9
    uploads.swap()
    assert uploads.server.journal, "the previous state is not removed yet"
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()


def test_a_kept_previous_state_stays_whole(uploads: Uploads) -> None:
    """Nothing is taken out of it."""
    answer = uploads.restore("--keep-previous")
    uploads.swap()
    assert (answer.code, answer.document["uploads"]["there"]) == (0, 0), answer
    (kept,) = uploads.left()
    assert uploads.lab.path(f"{kept}/old/mattermost/data/{DAYS[5]}").exists()
    assert uploads.run("prune", "--previous", "--yes").code == 0
    uploads.expect()


def test_an_incremental_set(uploads: Uploads) -> None:
    """Each file comes from the set of the chain that has it."""
    server = uploads.server
    config = "/etc/gitlab-mm-backup/config.yml"
    before = uploads.lab.read(config)
    kept = dict(server.sets), dict(server.states)
    uploads.lab.write(config, "files: incremental\n", mode=0o640)
    record(server, server.live, SMALL)
    uploads.lab.run(
        "sh",
        "-ec",
        f"cd {DATA}; echo more > {DAYS[0]}/teams/more; rm -r {DAYS[1]}/teams/noteam; "
        f"mkdir 20250505; echo new > 20250505/new; chown -R mattermost:mattermost 20250505 {DAYS[0]}/teams/more",
    )
    record(server, server.live, SMALL)
    made = json.loads(uploads.lab.read(f"{server.sets[server.live]}/manifest.json"))
    assert made["increment"]["files"] < made["files"]["files"]
    incremental = server.live
    server.live = server.other
    uploads.lab.run("sh", "-ec", f"cd {DATA}; rm -r {DAYS[0]} {DAYS[2]} 20250505")
    server.live = "A" if incremental == "B" else "B"
    uploads.killed(Fault(UNPACK, nth=2))
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()
    uploads.lab.write(config, before, mode=0o640)
    server.sets, server.states = kept
    answer = server.run("restore", "--yes", *QUICK, server.sets["A"])
    assert answer.code == 0, answer
    server.live = "A"


@pytest.mark.parametrize("files", ["full", "incremental"])
def test_a_data_directory_on_its_own_disk(mounted: Uploads, files: str) -> None:
    """Work directories lie in it then: a set that is made meanwhile has nothing of them."""
    lab, server = mounted.lab, mounted.server
    config = "/etc/gitlab-mm-backup/config.yml"
    before = lab.read(config)
    lab.write(config, f"files: {files}\n", mode=0o640)
    with mounted.held(nth=2, point=MERGE) as process:
        assert lab.run("sh", "-c", f"ls -d {DATA}/.gitlab-mm-*-uploads").stdout
        made = server.run("backup")
        assert made.code == 4, made
        names = lab.run(
            "sh", "-c", f"zstd -dc {made.document['path']}/files.tar.zst | tar -t"
        ).stdout
        assert DAYS[5] in names and "gitlab-mm-" not in names
        assert server.run("verify", made.document["set"]).code == 0
        assert server.go(process).code == 0
    lab.run("rm", "-r", made.document["path"])
    lab.write(config, before, mode=0o640)
    mounted.expect()
    mounted.killed(Fault(UNPACK, nth=2))
    lab.run("umount", DATA)
    answer = mounted.run("restore", "--continue")
    assert answer.code == 4 and "not mounted as it was" in answer.document["warnings"][0], answer
    lab.run("mount", "--bind", "/srv/disk", DATA)
    server.gitlab.restart_mattermost()
    assert mounted.run("restore", "--continue").code == 0
    mounted.expect()


def test_a_set_in_a_restic_repository(uploads: Uploads) -> None:
    """It is fetched, and its uploads come in a second pass; after a kill it is fetched again."""
    lab, server = uploads.lab, uploads.server
    config, word = "/etc/gitlab-mm-backup/config.yml", "/etc/gitlab-mm-backup/word"
    before, kept = lab.read(config), (dict(server.sets), dict(server.states))
    lab.write(word, "correct horse\n", mode=0o600)
    lab.run("restic", "init", "--repo", "/srv/repository", "--password-file", word)
    lab.write(
        config,
        f"store: restic\nrestic:\n  repository: /srv/repository\n  password_file: {word}\n",
        mode=0o640,
    )
    record(server, server.live, SMALL)
    server.sets[server.live] = server.sets[server.live].rpartition("/")[2]
    lab.run("sh", "-ec", f"cd {DATA}; touch {' '.join(DAYS[:3])}; rm -r {DAYS[2]}/teams/noteam")
    server.live = server.other
    uploads.killed(Fault(MERGE))
    assert (
        server.sets[server.live]
        in server.run("delete", "--yes", server.sets[server.live]).error["message"]
    )
    assert uploads.run("restore", "--continue").code == 0
    uploads.expect()
    lab.write(config, before, mode=0o640)
    server.sets, server.states = kept
    server.live = "A"
    assert server.run("restore", "--yes", *QUICK, server.sets["A"]).code == 0
