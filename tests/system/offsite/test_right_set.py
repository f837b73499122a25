"""Which set comes back: after a reinstall, with a wrong clock, where sets are bad, and when emptied."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

AS_OWNER = "SET ROLE gitlab_mattermost"  # or the table is one that no set has
BACKUPS, REMOTE, RESTIC = "/srv/backups", "/srv/nas", "/srv/restic"
SETS = f"{BACKUPS}/mattermost"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
PASSWORD = "/etc/gitlab-mm-backup/restic-password"
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day", "sessions")
ON_DISK = f"backup_path: {BACKUPS}\nkeep_time: 7d\n"
PLACES = {
    "folder": f"{ON_DISK}offsite:\n  - remote: {REMOTE}\n    name: nas\n",
    "restic": f"store: restic\nrestic:\n  repository: {RESTIC}\n  password_file: {PASSWORD}\n"
    "keep_time: 7d\n",
}
NIGHTLY = ("/usr/bin/gitlab-mm-backup", "--if-present", "--json")
METRICS = "/var/opt/gitlab/node-exporter/textfile_collector"


def at(lab: Lab, when: str, *arguments: str) -> Answer:
    """Run gitlab-mm while the clock says ``when``, to its end: it drops faketime's variables."""
    steady = ("env", "FAKETIME_CACHE_DURATION=100000")
    done = lab.run(*steady, "faketime", when, "gitlab-mm", *arguments, "--json", check=False)
    return Answer(done.returncode, json.loads(done.stdout), done.stderr)


def days(text: int) -> str:
    """A time so many days from now, as faketime has it."""
    return f"{text:+d} days"


def line(product: Product, name: str) -> Mapping[str, Any]:
    """One line of the status."""
    (found,) = [line for line in product("status").document["lines"] if line["name"] == name]
    return dict(found)


# a server dies, is reinstalled, and the nights come before the restore


@pytest.mark.parametrize("place", PLACES)
def test_dies_reinstalled_three_nights_then_restored_without_any_option(
    base: Path, deb: Path, place: str
) -> None:
    with Lab(base=base, hostname="gitlab") as lab:
        gitlab = install(lab, Spec(backup_path=BACKUPS))
        product = install_product(lab, deb)
        lab.write(CONFIG, PLACES[place], mode=0o640)
        if place == "restic":
            lab.write(PASSWORD, "pw\n", mode=0o600)
            lab.run("restic", "-r", RESTIC, "init", env={"RESTIC_PASSWORD": "pw"})
        seed = gitlab.seed()
        before, rows = gitlab.state(), gitlab.gitlab_database_dump()
        nights = [at(lab, days(-number), "backup") for number in (9, 8)]
        assert [night.code for night in nights] == [0, 0], nights
        good = str(nights[1].document["set"])
        lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.lose_everything()

        gitlab = install(lab, Spec(backup_path=BACKUPS, seed="second", first_uid=1480))
        gitlab.gitlab_database_restore(rows)
        product = install_product(lab, deb)
        lab.write(CONFIG, PLACES[place], mode=0o640)
        if place == "restic":
            lab.write(PASSWORD, "pw\n", mode=0o600)
        for _ in range(3):
            night = json.loads(lab.run(*NIGHTLY, check=False).stdout)
            assert night["exit_code"] == 4 and night["shrunken"] and night["removed"] == [], night
            assert any("--accept" in warning for warning in night["warnings"])
            assert any("2 sets of host gitlab" in note for note in night["notes"]), night
        if place == "folder":
            there = {path.name for path in lab.path(REMOTE).iterdir() if path.name[:1].isdigit()}
            assert {str(night.document["set"]) for night in nights} < there

        prompt = "script --quiet --return --command gitlab-mm-restore /dev/null"
        # In a repository others may have made it: its key is compared with that in the kit.
        answers = "y\ny\n" if place == "restic" else "y\n"
        done = lab.run("sh", "-c", prompt, input=answers, check=False, timeout=180)
        assert done.returncode == 0, done.stdout
        assert ("Are the two fingerprints the same?" in done.stdout) is (place == "restic")
        for wanted in (f"Restored {good}", f"Taking {good}", "gitlab-mm host take-over"):
            assert wanted in done.stdout, done.stdout
        assert before.differences(gitlab.state(), ignore=DERIVED) == []
        session = gitlab.sign_in("alice")
        assert all(session.read_post(post) == text for post, text in seed.posts.items())

        # The nights after it go on, and the former host's sets stay until somebody says so.
        after = product("backup")
        assert after.code == 0 and after.document["removed"] == [], after
        assert line(product, "host")["state"] == "warning"
        assert product("host", "take-over").code == 0
        assert line(product, "host")["state"] == "good"
        assert product("prune", "--yes").document["removed"], "they are old"


# emptied


@pytest.fixture(scope="class")
def server(base: Path, deb: Path) -> Iterator[tuple[Lab, Omnibus, Product]]:
    with Lab(base=base, hostname="gitlab") as lab:
        gitlab = install(lab, Spec(backup_path=BACKUPS))
        product = install_product(lab, deb)
        lab.run("mkdir", "-p", METRICS)
        gitlab.seed()
        yield lab, gitlab, product


@pytest.fixture
def fresh(server: tuple[Lab, Omnibus, Product]) -> tuple[Lab, Omnibus, Product]:
    """The server without any set, and without what we know of earlier ones."""
    lab, _, _ = server
    lab.run("sh", "-c", f"rm -rf {SETS} {REMOTE}/* /var/lib/gitlab-mm-backup/*")
    lab.write(CONFIG, PLACES["folder"], mode=0o640)
    return server


Fresh = tuple[Lab, Omnibus, Product]


def metric(lab: Lab, name: str) -> float:
    text = lab.read(f"{METRICS}/gitlab_mm_backup.prom")
    (found,) = [row for row in text.splitlines() if row.split("{")[0].split(" ")[0] == name]
    return float(found.split()[-1])


class TestEmptied:
    def test_a_set_of_much_less_is_told_everywhere_and_displaces_nothing(
        self, fresh: Fresh
    ) -> None:
        lab, gitlab, product = fresh
        lab.write(
            CONFIG,
            f"backup_path: {BACKUPS}\nkeep:\n  last: 1\noffsite:\n  - remote: {REMOTE}\n    name: nas\n",
        )
        full = str(product("backup").document["set"])
        assert product("rehearse", full).code == 0
        gitlab.sql(f"{AS_OWNER}; CREATE TABLE kept_posts AS SELECT * FROM posts")
        without_files = "id NOT IN (SELECT postid FROM fileinfo)"
        gitlab.sql(
            "DELETE FROM posts WHERE id IN"
            f" (SELECT id FROM posts WHERE {without_files} ORDER BY id LIMIT 15)"
        )
        try:
            answer = product("backup")
            emptied = str(answer.document["set"])
            assert answer.code == 4 and answer.document["removed"] == [], answer
            assert len(answer.document["shrunken"]) == 1
            assert answer.document["shrunken"][0].startswith("posts: ")
            assert any(
                f"prune --accept {emptied}" in warning for warning in answer.document["warnings"]
            )
            assert product("rehearse", emptied).code == 0, "an emptied set is a perfect set"
            assert product("prune").code == 4
            listed = {set_["name"]: set_ for set_ in product("list").document["sets"]}
            assert [flaw["kind"] for flaw in listed[emptied]["flaws"]] == ["emptied"]
            assert listed[full]["flaws"] == []
            there = {
                set_["name"]: set_ for set_ in product("list", "--from", "nas").document["sets"]
            }
            assert [flaw["kind"] for flaw in there[emptied]["flaws"]] == ["emptied"]
            status = line(product, "last set")
            assert (
                status["state"] == "bad" and emptied in status["words"] and full in status["words"]
            )
            report = product("report").document
            assert report["verdict"] == "not proven" and "looks emptied" in report["reason"]
            assert f"The newest set that passed is {full}" in report["reason"]
            assert metric(lab, "gitlab_mm_set_emptied") == 1
            newest = json.loads(lab.read(f"{SETS}/{full}/manifest.json"))["started"]
            moment = datetime.fromisoformat(newest.replace("Z", "+00:00")).timestamp()
            assert metric(lab, "gitlab_mm_set_newest_timestamp_seconds") == moment
            assert metric(lab, "gitlab_mm_rehearsal_passed_timestamp_seconds") >= moment
            plan = product("restore", "--dry-run").document
            assert plan["set"] == full
            # Night after night, the sets here and there stay as they are.
            again = product("backup")
            assert again.code == 4 and again.document["removed"] == []
            assert full in {path.name for path in lab.path(REMOTE).iterdir()}

            newest_emptied = str(again.document["set"])
            assert product("rehearse", newest_emptied).code == 0
            accepted = product("prune", "--accept", newest_emptied)
            assert full in accepted.document["removed"], accepted
            said = line(product, "last set")
            assert said["state"] == "good", said
            assert product("backup").document["shrunken"] == []
            assert metric(lab, "gitlab_mm_set_emptied") == 0
            assert product("prune", "--accept", full).code == 1, "it is not there any more"
        finally:
            gitlab.sql("INSERT INTO posts SELECT * FROM kept_posts ON CONFLICT DO NOTHING")
            gitlab.sql("DROP TABLE kept_posts")

    def test_how_much_is_too_much_is_a_setting(self, fresh: Fresh) -> None:
        lab, gitlab, product = fresh
        lab.write(CONFIG, f"{ON_DISK}shrunken_below: 0\n")
        assert product("backup").code == 0
        gitlab.sql(f"{AS_OWNER}; CREATE TABLE kept_posts AS SELECT * FROM posts")
        try:
            gitlab.sql(
                "DELETE FROM posts WHERE id NOT IN (SELECT id FROM posts ORDER BY id LIMIT 1)"
            )
            assert product("backup").document["shrunken"] == []
            gitlab.sql("DELETE FROM posts")
            assert product("backup").document["shrunken"][0].startswith("posts: 0 of ")
        finally:
            gitlab.sql("INSERT INTO posts SELECT * FROM kept_posts ON CONFLICT DO NOTHING")
            gitlab.sql("DROP TABLE kept_posts")

    def test_what_people_deleted_counts_as_deleted(self, fresh: Fresh) -> None:
        """Rows stay where somebody deletes a post; what people would miss does not."""
        _, gitlab, product = fresh
        before = product("backup").document
        gitlab.sql("UPDATE posts SET deleteat = 1700000000000 WHERE deleteat = 0")
        try:
            answer = product("backup")
            assert answer.document["rows"] == before["rows"]
            assert any(name.startswith("posts: 0 of ") for name in answer.document["shrunken"])
        finally:
            gitlab.sql("UPDATE posts SET deleteat = 0 WHERE deleteat = 1700000000000")
        assert product("backup").document["shrunken"] == []


# clocks


class TestClocks:
    def test_a_set_from_the_future_is_none_to_go_by(self, fresh: Fresh) -> None:
        lab, gitlab, product = fresh
        product.backup()
        ahead = str(at(lab, days(180), "backup").document["set"])
        assert at(lab, days(180), "rehearse", ahead).code == 0
        post = gitlab.sign_in("alice").post("posted when the clock was right again")
        today = Path(product.backup()).name
        status = line(product, "last set")
        assert today in status["words"] and "with a date in the future" in status["words"]
        assert status["state"] == "warning"
        assert line(product, "rehearsal")["words"] == "none was made"
        flaws = {set_["name"]: set_["flaws"] for set_ in product("list").document["sets"]}
        assert [flaw["kind"] for flaw in flaws[ahead]] == ["future"] and flaws[today] == []
        assert metric(lab, "gitlab_mm_sets_future") == 1
        assert abs(metric(lab, "gitlab_mm_set_newest_timestamp_seconds") - now()) < 300
        assert abs(metric(lab, "gitlab_mm_offsite_timestamp_seconds") - now()) < 300
        report = product("report").document
        assert report["set"] == today and any(ahead in concern for concern in report["concerns"])
        answer = product.restore("--no-safety-backup")
        assert answer.document["set"] == today and answer.code == 4
        assert any(
            ahead in warning and "future" in warning for warning in answer.document["warnings"]
        )
        assert gitlab.sign_in("alice").read_post(post).startswith("posted")
        assert ahead not in product("prune").document["removed"]

    def test_nothing_builds_on_a_set_from_the_future(self, fresh: Fresh) -> None:
        lab, _, product = fresh
        lab.write(CONFIG, f"backup_path: {BACKUPS}\nfiles: incremental\nfull_every: 1d\n")
        first = Path(product.backup()).name
        assert at(lab, days(180), "backup").code == 0
        assert product("backup").document["base"] == first
        later = at(lab, days(5), "backup")
        assert later.document["base"] is None, "a full set was due"

    def test_a_clock_that_jumps_removes_nothing_unasked(self, fresh: Fresh) -> None:
        lab, _, product = fresh
        nights = {
            str(at(lab, days(-number), "backup").document["set"]) for number in range(6, 0, -1)
        }
        jumped = at(lab, days(60), "backup")
        assert jumped.code == 4 and jumped.document["removed"] == [], jumped
        assert any("gitlab-mm prune --yes" in warning for warning in jumped.document["warnings"])
        for place in (SETS, REMOTE):
            assert nights < {path.name for path in lab.path(place).iterdir()}
        # Still ahead the next night, and then right again.
        assert at(lab, days(61), "backup").document["removed"] == []
        assert product("backup").document["removed"] == []
        for place in (SETS, REMOTE):
            assert nights < {path.name for path in lab.path(place).iterdir()}

    def test_the_set_just_made_outlives_its_own_run(self, fresh: Fresh) -> None:
        lab, _, product = fresh
        product.backup()
        answer = at(lab, "1975-01-01 00:00:00", "backup")
        assert answer.code in (0, 4), answer
        assert answer.document["set"] not in answer.document["removed"]
        assert lab.path(f"{SETS}/{answer.document['set']}/manifest.json").exists()


def now() -> float:
    return datetime.now(timezone.utc).timestamp()


# the same in a repository, and at remotes


@pytest.fixture
def in_restic(server: tuple[Lab, Omnibus, Product]) -> tuple[Lab, Omnibus, Product]:
    """The server with a new repository, and without what we know of earlier sets."""
    lab, _, _ = server
    lab.run("sh", "-c", f"rm -rf {RESTIC} {SETS} /var/lib/gitlab-mm-backup/*")
    lab.write(PASSWORD, "pw\n", mode=0o600)
    lab.run("restic", "-r", RESTIC, "init", env={"RESTIC_PASSWORD": "pw"})
    lab.write(CONFIG, PLACES["restic"], mode=0o640)
    return server


class TestElsewhere:
    def test_a_repository_and_a_clock_that_jumps(self, in_restic: Fresh) -> None:
        lab, _, product = in_restic
        nights = {
            str(at(lab, days(-number), "backup").document["set"]) for number in range(4, 0, -1)
        }
        jumped = at(lab, days(60), "backup")
        assert jumped.code == 4 and jumped.document["removed"] == [], jumped
        today = str(product("backup").document["set"])
        listed = {set_["name"]: set_["flaws"] for set_ in product("list").document["sets"]}
        ahead = str(jumped.document["set"])
        assert nights < set(listed) and [flaw["kind"] for flaw in listed[ahead]] == ["future"]
        assert product("restore", "--dry-run").document["set"] == today

    def test_a_repository_and_a_set_that_failed_its_rehearsal(self, in_restic: Fresh) -> None:
        _, gitlab, product = in_restic
        good = str(product("backup").document["set"])
        with lost_upload(gitlab):
            bad = str(product("backup").document["set"])
            assert product("rehearse", bad).code == 1
            answer = product("restore", "--dry-run")
        assert answer.document["set"] == good
        assert any(
            bad in warning and "rehearsal" in warning for warning in answer.document["warnings"]
        )

    def test_a_copy_of_a_host_and_its_repository(self, in_restic: Fresh) -> None:
        lab, _, product = in_restic
        mine = {str(product("backup").document["set"]) for _ in range(3)}
        lab.write(CONFIG, PLACES["restic"].replace("keep_time: 7d", "keep:\n  last: 1"), mode=0o640)
        machine = lab.read("/etc/machine-id")
        lab.write("/etc/machine-id", "c" * 32 + "\n")
        try:
            answer = product("backup")
            assert answer.code == 4 and answer.document["removed"] == [], answer
            assert product("prune", "--yes").document["removed"] == []
            (others,) = product("list").document["others"]
            assert others["sets"] == len(mine)
        finally:
            lab.write("/etc/machine-id", machine)

    def test_copies_of_which_the_newest_is_not_sound(self, fresh: Fresh) -> None:
        lab, gitlab, product = fresh
        good = str(product("backup").document["set"])
        ahead = str(at(lab, days(180), "backup").document["set"])
        with lost_upload(gitlab):
            bad = str(product("backup").document["set"])
            assert product("rehearse", bad).code == 1
        lab.run("sh", "-c", f"rm -r {SETS}/[0-9]*")
        answer = product.restore("--from", "nas", "--no-safety-backup")
        assert answer.document["set"] == good and answer.code == 4, answer
        for name in (ahead, bad):
            assert any(name in warning for warning in answer.document["warnings"])


@contextlib.contextmanager
def lost_upload(gitlab: Omnibus) -> Iterator[None]:
    """The database names an upload that the disk lacks, so that a rehearsal fails."""
    gitlab.sql(
        "INSERT INTO fileinfo (id, path, size, deleteat, createat) VALUES"
        " ('lost', '20260101/no/such/file.txt', 5, 0, 1790000000000)"
    )
    try:
        yield
    finally:
        gitlab.sql("DELETE FROM fileinfo WHERE id = 'lost'")


# sets that are bad


class TestBadSets:
    def test_a_newer_set_that_failed_its_rehearsal_is_told(self, fresh: Fresh) -> None:
        _, gitlab, product = fresh
        good = Path(product.backup()).name
        assert product("rehearse").code == 0
        with lost_upload(gitlab):
            bad = str(product("backup").document["set"])
            assert product("rehearse", bad).code == 1
            answer = product.restore("--no-safety-backup")
        assert answer.code == 4 and answer.document["set"] == good, answer
        assert any(
            bad in warning and "rehearsal" in warning for warning in answer.document["warnings"]
        )
        assert f"Taking {good}" in answer.document["notes"]

    @pytest.mark.parametrize("how", ["cut", "flipped", "no manifest"])
    def test_a_newer_set_that_is_damaged_is_told(self, fresh: Fresh, how: str) -> None:
        lab, _, product = fresh
        good = Path(product.backup()).name
        path = lab.path(product.backup())
        dump = path / "database.dump.zst"
        if how == "cut":
            dump.write_bytes(dump.read_bytes()[:-1])
        elif how == "flipped":
            data = bytearray(dump.read_bytes())
            data[len(data) // 2] ^= 1
            dump.write_bytes(bytes(data))
        else:
            (path / "manifest.json").unlink()
        answer = product.restore("--no-safety-backup")
        assert answer.code == 4 and answer.document["set"] == good, answer
        assert any(path.name in warning for warning in answer.document["warnings"])
        assert product.leftovers() == []

    def test_a_set_that_is_named_is_taken_and_what_is_wrong_is_told(self, fresh: Fresh) -> None:
        lab, _, product = fresh
        product.backup()
        ahead = str(at(lab, days(180), "backup").document["set"])
        answer = product.restore(ahead, "--no-safety-backup")
        assert answer.code == 4 and answer.document["set"] == ahead
        assert any("future" in warning for warning in answer.document["warnings"])


# --at


class TestAt:
    def test_a_set_and_a_date_exclude_each_other(self, fresh: Fresh) -> None:
        _, _, product = fresh
        name = Path(product.backup()).name
        for wanted in (name, "latest"):
            answer = product("restore", "--yes", wanted, "--at", "yesterday")
            assert answer.code == 2 and "exclude" in answer.error["message"]

    def test_days_and_times(self, fresh: Fresh) -> None:
        lab, _, product = fresh
        made = {
            number: str(at(lab, days(-number), "backup").document["set"]) for number in (3, 2, 1)
        }
        product.backup()
        day = made[2][11:21].replace("_", "-")
        for text, number in (
            (day, 2),
            (day.replace("-", ""), 2),
            ("yesterday", 1),
            (f"{day}T00:00", 3),
            (f"{day} 00:00", 3),
        ):
            answer = product("restore", "--dry-run", "--at", text)
            assert answer.document["set"] == made[number], text
        assert product("restore", "--dry-run", "--at", "someday").code == 2
