"""A copy elsewhere: what Mattermost needs first is fetched first, and the rest while people talk."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import remotes
from tests.lab.installed_package import Answer
from tests.system.helpers.faults import SETS, Fault
from tests.system.helpers.faults_server import server as boot
from tests.system.restore.test_uploads_later import DAYS, LATER, NOTED, UNPACK, Uploads, age

PLACE = "cut:mattermost"
THERE = "/srv/dav/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
AWAY = "/var/away"


class Copies(Uploads):
    """The same server, whose sets are at a remote alone, at the end of a line that can be cut."""

    def words(self, *arguments: str) -> list[str]:
        name = self.server.sets[self.server.other].rpartition("/")[2]
        return ["restore", "--yes", *LATER, "--from", PLACE, *arguments, name]

    @property
    def part(self) -> Path:
        """The files part of the copy of the other state's set."""
        name = self.server.sets[self.server.other].rpartition("/")[2]
        return self.lab.path(f"{THERE}/{name}/files.tar.zst")

    def cut(self) -> None:
        """Nothing comes from the remote any more."""
        remotes.cut_after(self.lab, 0, back=True)

    def mend(self) -> None:
        remotes.cut_after(self.lab, None)

    def go_on(self) -> Answer:
        return self.run("restore", "--continue")


@pytest.fixture(scope="module")
def uploads(base: Path, deb: Path) -> Iterator[Copies]:
    with boot(base, deb, age) as made:
        lab = made.lab
        remotes.start_webdav(lab, "/srv/dav")
        remotes.start_cut_line(lab, remotes.WEBDAV_PORT)
        remotes.write_rclone_conf(lab)
        lab.write(CONFIG, f"offsite:\n  - remote: {PLACE}\n    retries: 0\n")
        assert made.run("offsite").code == 0
        left = made.observe()["left"]  # with the record of the copies
        for state in made.states.values():
            state["left"] = left
        yield Copies(made)


@pytest.fixture(autouse=True)
def elsewhere(uploads: Copies) -> Iterator[None]:
    """The sets are not on this host; a row that failed does not spoil the next one."""
    lab = uploads.lab
    lab.run("sh", "-c", f"mkdir -p {AWAY}; mv {SETS}/[0-9]* {AWAY}")
    yield
    uploads.mend()
    lab.run("sh", "-c", f"mv {AWAY}/* {SETS}")
    if uploads.pending or uploads.server.journal:
        lab.path("/run/fault-go").touch()
        uploads.go_on()
        lab.run("sh", "-c", f"rm -rf {NOTED} /var/opt/gitlab/.gitlab-mm-????????-*")
        uploads.server.heal()


def scratch(uploads: Copies) -> list[str]:
    """What lies about of what was fetched."""
    found = uploads.lab.run("find", "/var", "-name", ".gitlab-mm-fetched-*", "-prune")
    return found.stdout.split()


def expect(uploads: Copies) -> None:
    """The other state is live to its last byte, and nothing of the copy stays here."""
    uploads.expect()
    assert not scratch(uploads)
    assert uploads.lab.run("sh", "-c", f"ls {SETS} | grep '^[0-9]' || :").stdout == ""


def test_people_talk_before_the_rest_is_fetched(uploads: Copies) -> None:
    """The remote is gone before the first batch: told, and nothing lost; all comes when it is back."""
    lab, server, size = uploads.lab, uploads.server, uploads.part.stat().st_size
    before = remotes.carried_back(lab)
    with uploads.held() as process:
        assert server.observe()["api"]["posts"] == server.states[server.live]["api"]["posts"]
        assert remotes.carried_back(lab) - before < size
        uploads.cut()
        answer = server.go(process)
    assert answer.code == 4 and answer.document["uploads"]["left"] > 1_000_000, answer
    assert "cannot be read from cut" in answer.document["warnings"][-1], answer
    assert server.service() == "run" and not scratch(uploads)
    left = uploads.pending
    for words in (("restore", "--continue"), ("backup",)):
        answer = uploads.run(*words)
        assert answer.code == 4 and "not unpacked yet" in str(answer.document["warnings"]), answer
        assert uploads.pending == left
    lab.run("rm", "-r", answer.document["path"])
    assert uploads.check()["result"] == "warning"
    uploads.mend()
    before = remotes.carried_back(lab)
    answer = uploads.go_on()
    assert (answer.code, answer.document["uploads"]["left"]) == (0, 0), answer
    assert remotes.carried_back(lab) - before < size, "what was there was not fetched again"
    expect(uploads)


def test_in_one_run(uploads: Copies) -> None:
    answer = uploads.restore()
    assert answer.code == 0, answer
    assert answer.document["uploads"]["bytes"] > 1_000_000
    uploads.swap()
    expect(uploads)


def test_a_dry_run_says_so(uploads: Copies) -> None:
    before = remotes.carried_back(uploads.lab)
    steps = uploads.run(*uploads.words("--dry-run")).document["steps"]
    assert "earlier uploads while Mattermost runs" in steps[0], steps
    assert any("of earlier uploads while Mattermost runs, newest first" in step for step in steps)
    assert remotes.carried_back(uploads.lab) - before < uploads.part.stat().st_size / 2


@pytest.mark.parametrize("nth", [1, 3])
def test_kill_9_of_us(uploads: Copies, nth: int) -> None:
    uploads.killed(Fault(UNPACK, nth=nth))
    answer = uploads.go_on()
    assert (answer.code, answer.document["uploads"]["left"]) == (0, 0), answer
    expect(uploads)


def test_a_reboot(uploads: Copies) -> None:
    """The unit's command goes on as soon as the remote can be reached."""
    uploads.killed(Fault(UNPACK, nth=2))
    unit = uploads.lab.read("/usr/lib/systemd/system/gitlab-mm-backup-uploads.service")
    command = unit.partition("ExecStart=/usr/bin/")[2].splitlines()[0].split()
    uploads.cut()
    assert uploads.lab.run(*command, check=False).returncode == 4
    uploads.mend()
    assert uploads.lab.run(*command, check=False).returncode == 0
    expect(uploads)


def test_a_connection_that_breaks_before_the_start_changes_nothing(uploads: Copies) -> None:
    remotes.cut_after(uploads.lab, 20_000, back=True)
    answer = uploads.restore()
    assert answer.code == 1, answer
    uploads.mend()
    uploads.expect()


def other_frame(data: bytes, start: int, length: int) -> bytes:
    """A frame of other bytes that zstd accepts in the place of one, with a skippable one to fill up."""
    tar = bytearray(zstd("-dc", data=data[start : start + length]))
    name = tar.rfind(b"report")  # of an upload; a part of a large one has content alone
    at = name + 1024 if name >= 0 else len(tar) // 2
    size = min(20_000, len(tar) - at)
    tar[at : at + size] = bytes(size)
    packed = zstd("-c", "-19", "--no-check", data=bytes(tar))
    room = length - len(packed) - 8
    if room < 0:  # of a frame without content of uploads
        return data[start : start + length]
    return packed + b"\x50\x2a\x4d\x18" + room.to_bytes(4, "little") + bytes(room)


def zstd(*options: str, data: bytes) -> bytes:
    done = subprocess.run(["zstd", "-q", *options], input=data, capture_output=True, check=True)
    return done.stdout


def frames(part: Path) -> list[tuple[int, int]]:
    """The frames of a files part, as its index has them; each has the SHA-256 that is recorded."""
    records = zstd("-dc", data=part.with_name("files.index.zst").read_bytes()).split(b"\0")
    told = [record[3:].split() for record in records if record.startswith(b"//=")]
    data = part.read_bytes()
    for _, _, start, length, sha256 in told:
        piece = data[int(start) : int(start) + int(length)]
        assert hashlib.sha256(piece).hexdigest().encode() == sha256
    return [(int(start), int(length)) for _, _, start, length, _ in told]


def test_a_changed_frame_is_refused_before_anything_of_it_is_unpacked(uploads: Copies) -> None:
    """Whoever can write there may compute zstd's checksum, but not the one that the index has."""
    lab, part = uploads.lab, uploads.part
    good = part.read_bytes()
    forged = bytearray(good)
    for start, length in frames(part)[1:]:
        forged[start : start + length] = other_frame(good, start, length)
    assert zstd("-dc", data=bytes(forged)) != zstd("-dc", data=good), "zstd finds nothing wrong"
    changed = [
        length
        for start, length in frames(part)
        if forged[start : start + length] != good[start : start + length]
    ]
    assert sum(changed) > len(good) / 2, "all but the first, and those without uploads"
    with uploads.held() as process:
        before = {day for day in DAYS if uploads.there(day)}
        part.write_bytes(forged)
        answer = uploads.server.go(process)
    assert answer.code == 4, answer
    assert "is not what was written" in answer.document["warnings"][-1], answer
    assert {day for day in DAYS if uploads.there(day)} == before
    assert json.loads(lab.read(NOTED))[0]["left"] == answer.document["uploads"]["left"]
    part.write_bytes(good)
    assert uploads.go_on().code == 0
    expect(uploads)


def test_a_changed_frame_of_what_comes_first(uploads: Copies) -> None:
    """Nothing is changed here."""
    part = uploads.part
    good = part.read_bytes()
    start, length = frames(part)[0]
    changed = bytearray(good)
    changed[start + length // 2] ^= 1
    part.write_bytes(changed)
    answer = uploads.restore()
    part.write_bytes(good)
    assert answer.code == 1 and "is not what was written" in str(answer.error), answer
    uploads.expect()
    assert not scratch(uploads)
