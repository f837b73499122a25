"""More than once a day: what is asked every quarter of an hour, with cron, and with a clock that is set."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.backup.test_backup import CONFIG, SETS, STAMP, Server

ASKED = "/usr/share/gitlab-mm-backup/scheduled"
CRON = "/etc/cron.d/gitlab-mm-backup-schedule"
RECORD = "/var/lib/gitlab-mm-backup/unchanged.json"
QUARTERLY = "files: incremental\nschedule: every 15 min\nrehearse: 'off'\nkeep: {last: 50}\n"
UPLOAD = "data/later"


@dataclass
class Often:
    """A server with a schedule, and a clock that goes on by a quarter of an hour when it is asked."""

    server: Server
    ticks: list[int] = field(default_factory=lambda: [0])

    @property
    def lab(self) -> Lab:
        return self.server.lab

    def now(self, *command: str, **options: Any) -> CompletedProcess[str]:
        """Run a command at the present time of this clock."""
        offset = f"+{15 * self.ticks[0]}m"
        return self.lab.run("faketime", "-f", offset, *command, check=False, **options)

    def ask(self) -> dict[str, Any]:
        """Let a quarter of an hour pass, and ask as cron does; return the answer."""
        self.ticks[0] += 1
        asked = self.now("gitlab-mm-backup", "--if-present", "--scheduled", "--quiet", "--json")
        document = dict(json.loads(asked.stdout))
        assert document["exit_code"] == asked.returncode, document
        return document

    def settled(self) -> str:
        """Ask until nothing has changed any more; return the newest set."""
        for _ in range(4):
            answer = self.ask()
            assert answer["exit_code"] == 0, answer
            if answer.get("unchanged"):
                return str(answer["set"])
        raise AssertionError(f"it still changes: {answer}")

    @contextlib.contextmanager
    def cron(self, at: str = "10:01:00") -> Iterator[None]:
        """Run Debian's cron for a while, with a clock that begins at a time of day."""
        cron = self.lab.popen("faketime", "-f", f"@2026-11-22 {at}", "cron", "-f", "-L", "15")
        try:
            wait_until(lambda: self.lab.path("/run/crond.pid").exists(), 30, "cron")
            yield
        finally:
            self.lab.run("kill", self.lab.read("/run/crond.pid").strip())
            cron.wait()
            self.lab.run("rm", "-f", "/run/crond.pid")
        running = ("pgrep", "-x", "cron")  # what mails, when the job has ended
        wait_until(lambda: self.lab.run(*running, check=False).returncode != 0, 60, "its end")

    def status(self) -> dict[str, Any]:
        lines = json.loads(self.now("gitlab-mm", "status", "--json").stdout)["lines"]
        return {line["name"]: line for line in lines}


@pytest.fixture(scope="module")
def often(base: Path, deb: Path) -> Iterator[Often]:
    with Lab(base=base, disk_size="1g") as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.write(CONFIG, QUARTERLY, mode=0o640)
        yield Often(Server(lab, gitlab, product))


def test_a_run_without_a_change_makes_no_set_and_counts_as_one(often: Often) -> None:
    newest = often.settled()
    sets = often.server.sets()
    assert newest == sets[0]
    answer = often.ask()
    assert (answer["set"], answer["unchanged"], answer["warnings"]) == (newest, True, [])
    assert often.server.sets() == sets
    seen = often.now("gitlab-mm", "backup", "--if-present", "--scheduled", "-v")
    assert (seen.returncode, seen.stdout) == (0, ""), "of this quarter of an hour already"
    # Two hours later the set is as fresh as the last question.
    for _ in range(8):
        assert often.ask().get("unchanged")
    line = often.status()["last set"]
    assert line["state"] == "good" and line["words"].endswith("unchanged since"), line
    assert line["figures"]["set_age"] < 60
    assert often.server.sets() == sets
    metrics = often.lab.read(
        "/var/opt/gitlab/node-exporter/textfile_collector/gitlab_mm_backup.prom"
    )
    figures = dict(text.rsplit(" ", 1) for text in metrics.splitlines() if text[0] != "#")
    made = float(json.loads(often.lab.read(RECORD))["set"][:10])
    assert float(figures["gitlab_mm_set_newest_timestamp_seconds"]) > made + 2 * 3600
    assert float(figures["gitlab_mm_set_age_limit_seconds"]) == 45 * 60
    assert figures['gitlab_mm_run_exit_code{command="backup"}'] == "0"


def test_status_tells_what_is_lost_at_most_and_rates_by_the_schedule(often: Often) -> None:
    often.settled()
    without = often.status()["next run"]
    assert without["words"] == "no scheduled set: cron is not running"
    with often.cron():
        line = often.status()["next run"]
    assert "by cron, every 15 min; changes of at most 15 min" in line["words"], line
    assert 900 <= line["figures"]["loss"] < 960
    often.ticks[0] += 4
    assert often.status()["last set"]["state"] == "bad", "an hour is too old for a quarter of one"


CHANGES = {
    "a row": "posts",
    "a deleted row": "delete",
    "a sequence": "sequence",
    "an index": "index",
    "a setting of the database": "setting",
    "a file": "file",
    "the mode of a file": "mode",
    "config.json": "config",
    "a variable": "variable",
    "/etc/gitlab": "etc",
    "config.yml": "ours",
    "a restart of PostgreSQL": "restart",
}


def change(often: Often, what: str) -> None:
    lab, gitlab = often.lab, often.server.gitlab
    home = gitlab.home
    statements = {
        "posts": "UPDATE posts SET message = message || '!' WHERE id = (SELECT min(id) FROM posts)",
        "delete": "DELETE FROM audits WHERE id = (SELECT min(id) FROM audits)",
        "sequence": "SELECT nextval('counted')",
        "index": "CREATE INDEX added ON posts (createat, id)",
        "setting": f"ALTER DATABASE {gitlab.database} SET work_mem = '5MB'",
    }
    if what in statements:
        gitlab.sql(statements[what])
    elif what == "restart":
        lab.run("gitlab-ctl", "restart", "postgresql")
    else:
        edits = {
            "file": f"echo more >{home}/{UPLOAD}; chown mattermost {home}/{UPLOAD}",
            "mode": f"chmod 640 {home}/{UPLOAD}",
            "config": f'sed -i \'s/"MaxFileSize": [0-9]*/"MaxFileSize": 104857601/\' {home}/config.json',
            "variable": "echo value >/opt/gitlab/etc/mattermost/env/MM_ADDED",
            "etc": "echo '# a comment' >>/etc/gitlab/gitlab.rb",
            "ours": f"echo '# a comment' >>{CONFIG}",
        }
        lab.run("sh", "-ec", edits[what])


@pytest.mark.parametrize("what", CHANGES.values(), ids=CHANGES)
def test_whatever_is_changed_alone_makes_a_set(what: str, often: Often) -> None:
    if what == "delete":
        often.server.gitlab.sql("INSERT INTO audits (id) VALUES ('scheduled'), ('scheduled2')")
    if what == "sequence":
        often.server.gitlab.sql(
            "CREATE SEQUENCE IF NOT EXISTS counted; ALTER SEQUENCE counted OWNER TO gitlab_mattermost"
        )
    before = often.settled()
    change(often, what)
    answer = often.ask()
    assert (answer["exit_code"], answer.get("unchanged")) == (0, None), answer
    assert answer["set"] != before
    assert often.server.sets()[0] == answer["set"]


def test_a_damaged_set_is_never_taken_for_the_present_state(often: Often) -> None:
    before = often.settled()
    part = f"{SETS}/{before}/settings.json"
    kept = often.lab.read(part)
    often.lab.write(part, kept[:-2], mode=0o600)
    try:
        assert often.ask()["set"] != before
    finally:
        often.lab.write(part, kept, mode=0o600)


def test_a_run_that_finds_another_steps_aside_in_silence(often: Often) -> None:
    often.settled()
    sets = often.server.sets()
    often.server.gitlab.sql("UPDATE posts SET message = 'x' WHERE id = (SELECT min(id) FROM posts)")
    with often.server.locked_posts():
        other = often.lab.popen("gitlab-mm", "backup", "--json")
        wait_until(often.server.waits_for_lock, 60, "a backup that waits")
        often.ticks[0] += 1
        asked = often.now(ASKED, "cron")
        assert (asked.returncode, asked.stdout, asked.stderr) == (3, "", "")
        told = often.now("gitlab-mm", "backup", "--scheduled", "-v")
        assert told.returncode == 3
        assert "gitlab-mm is already running: backup, since" in told.stdout
        assert "This run steps aside" in told.stdout
        assert often.server.sets() == sets
    assert other.wait() in (0, 4), "the newest sets have a date in the future, by the real clock"


def test_hourly_retention_keeps_the_newest_of_each_hour(often: Often) -> None:
    often.lab.write(CONFIG, QUARTERLY.replace("{last: 50}", "{hourly: 3}"), mode=0o640)
    try:
        for _ in range(12):
            often.server.gitlab.sql("UPDATE posts SET message = message || '.' WHERE true")
            assert often.ask()["exit_code"] == 0
        plan = often.now("gitlab-mm", "prune", "--dry-run", "--json").stdout
        kept = [entry for entry in json.loads(plan)["sets"] if entry["keep"]]
        hours = [entry["reason"] for entry in kept if "hourly" in entry["reason"]]
        assert len(hours) == 3, kept
    finally:
        often.lab.write(CONFIG, QUARTERLY, mode=0o640)


def test_cron_asks_by_itself_and_mails_nothing(often: Often) -> None:
    """Debian's cron with the installed file, from shortly before a quarter of an hour on."""
    lab, mail = often.lab, "/root/mail"
    lab.write("/usr/sbin/sendmail", f"#!/bin/sh\ncat >>{mail}\n", mode=0o755)
    often.server.gitlab.sql("UPDATE posts SET message = 'y' WHERE id = (SELECT min(id) FROM posts)")
    sets = often.server.sets()
    lab.run("touch", "--date", "2 days ago", STAMP)  # the job has the real clock
    with often.cron("10:14:57"):
        wait_until(lambda: len(often.server.sets()) > len(sets), 90, "a set by cron")
    lab.run("rm", "/usr/sbin/sendmail")
    assert not lab.path(mail).exists(), lab.read(mail)


def test_without_a_schedule_and_with_a_wrong_one(often: Often) -> None:
    lab = often.lab
    lab.write(CONFIG, "# no such option\n", mode=0o640)
    try:
        often.ticks[0] += 1
        asked = often.now(ASKED, "cron")
        assert (asked.returncode, asked.stdout, asked.stderr) == (0, "", "")
        lab.write(CONFIG, "schedule: daily\nfiles: incremental\n", mode=0o640)
        lab.run("touch", "--date", "2 days ago", STAMP)
        asked = lab.run(ASKED, "cron", check=False)
        assert asked.returncode == 2
        assert "must be hourly, every 15 min" in asked.stderr
        again = lab.run(ASKED, "cron", check=False)
        assert (again.returncode, again.stderr) == (0, ""), "told once an hour"
        lab.write(CONFIG, "schedule: hourly\n", mode=0o640)
        wrong = lab.run("gitlab-mm", "config", "check", check=False)
        assert wrong.returncode == 2
        assert "needs files: incremental or store: restic" in wrong.stdout + wrong.stderr
    finally:
        lab.write(CONFIG, QUARTERLY, mode=0o640)
