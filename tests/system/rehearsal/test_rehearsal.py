"""Rehearsals of sets that are good, and of sets that are not: each damage has its finding."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.helpers.faults import Fault
from tests.system.helpers.faults_forge import copied, forge, resum, with_sql
from tests.system.helpers.rehearsals import CHECKS, STATE, House, detail, house, results

HOME = "/var/opt/gitlab/mattermost"
SERVICE = "/opt/gitlab/embedded/service/mattermost"
PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
PARTS = (
    "database.dump.zst",
    "files.tar.zst",
    "files.index.zst",
    "etc-gitlab.tar.zst",
    "settings.json",
)


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[House]:
    with house(base, deb) as made:
        yield made
        made.expect_nothing_left()


def test_a_good_set_passes_every_check(place: House) -> None:
    answer = place.rehearse()
    assert (answer.code, answer.document["result"]) == (0, "passed"), answer
    assert results(answer) == dict.fromkeys(("origin", *CHECKS), "passed")
    assert 0 < answer.document["recovery_seconds"] < answer.document["seconds"]
    assert detail(answer, "rows").startswith(f"{sum(rows(place).values())} in ")
    assert detail(answer, "uploads").startswith(f"{len(place.seed.files)} in the archive")
    assert "mattermost.example.test" in detail(answer, "answers")
    assert detail(answer, "extensions") == "pg_trgm, plpgsql"


def rows(place: House) -> dict[str, int]:
    manifest = json.loads(place.lab.read(f"{place.set}/manifest.json"))
    return dict(manifest["database"]["rows"])


def test_the_result_is_kept_in_the_set_beside_its_checksums(place: House) -> None:
    answer = place.rehearse()
    kept = place.lab.path(f"{place.set}/rehearsal.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    newest = json.loads(kept.read_text())["records"][-1]
    assert newest["checks"] == answer.document["checks"]
    assert newest["recovery_seconds"] == answer.document["recovery_seconds"]
    assert "rehearsal" not in place.lab.read(f"{place.set}/SHA256SUMS")
    assert "rehearsal" not in place.lab.read(f"{place.set}/manifest.json")
    place.lab.run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=place.set)
    assert json.loads(place.lab.read(f"{STATE}/rehearsals.jsonl").splitlines()[-1]) == newest
    collector = "/var/opt/gitlab/node-exporter/textfile_collector"
    metrics = place.lab.path(f"{collector}/gitlab_mm_backup.prom")
    assert stat.S_IMODE(metrics.stat().st_mode) == 0o644
    assert 'gitlab_mm_rehearsal_result{result="passed"} 1\n' in metrics.read_text()
    (listed,) = place.product("list").document["sets"]
    assert listed["rehearsed"]["at"] == newest["started"] == listed["verified"]["at"]
    assert (listed["rehearsed"]["result"], listed["verified"]["whole"]) == ("passed", True)


def test_quick_and_full(place: House) -> None:
    quick = place.rehearse("--quick")
    assert (quick.code, quick.document["result"]) == (0, "incomplete")
    assert {name for name, result in results(quick).items() if result == "not run"} == {
        "files",
        "boot",
        "answers",
    }
    assert quick.document["recovery_seconds"] is None
    usual, full = place.rehearse(), place.rehearse("--full")
    left_out = usual.document["rehearsals"][0]["left_out"]
    assert "public.idx_posts_message_txt" in left_out
    assert full.document["rehearsals"][0]["left_out"] == []
    counts = [int(detail(answer, "indexes").split()[0]) for answer in (usual, full)]
    assert counts[1] - counts[0] == len(left_out)
    assert place.product.run("rehearse", "--quick", "--full").returncode == 2
    assert place.product.run("rehearse", "--all", Path(place.set).name).returncode == 2


def test_all_sets(place: House) -> None:
    second = place.product.backup()
    (place.lab.path(second).parent / "1700000000_2023_11_14_5.37.0").mkdir()
    answer = place.rehearse("--all", "--quick")
    names = [rehearsal["set"] for rehearsal in answer.document["rehearsals"]]
    assert names == [Path(second).name, Path(place.set).name]
    assert "is not complete" in answer.document["warnings"][0]
    (place.lab.path(second).parent / "1700000000_2023_11_14_5.37.0").rmdir()
    place.lab.run("rm", "-r", second)


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit(place: House, part: str) -> None:
    path = copied(place.lab, place.set)
    file = place.lab.path(f"{path}/{part}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    answer = place.rehearse(path)
    assert answer.code == 1
    assert results(answer)["checksums"] == "failed"
    assert part in detail(answer, "checksums")
    assert part in answer.error["detail"]
    verified = place.product("verify", path)
    assert verified.code == 1
    assert part in verified.error["detail"]
    assert {check["name"]: check["result"] for check in verified.document["checks"]} == {
        "origin": "passed",
        "checksums": "failed",
        "structure": "not run",
    }


def test_a_truncated_dump(place: House) -> None:
    path = copied(place.lab, place.set)
    cut = 'zstd -dc "$0" | head -c 60000 | zstd -q -o "$0.cut"; mv "$0.cut" "$0"'
    place.lab.run("sh", "-ec", cut, f"{path}/database.dump.zst")
    resum(place.lab, path)
    answer = place.rehearse(path)
    assert answer.code == 1
    found = results(answer)
    assert (found["checksums"], found["database"]) == ("passed", "failed")
    assert "pg_restore" in detail(answer, "database")
    assert {found[name] for name in ("rows", "references", "uploads", "boot")} == {"not run"}


def first_upload(place: House) -> str:
    (line,) = place.gitlab.sql("SELECT path FROM fileinfo ORDER BY path LIMIT 1")
    return line


def missing_upload(place: House) -> str:
    return forge(place.lab, place.set, contents={f"{HOME}/data/{first_upload(place)}": None})


def short_upload(place: House) -> str:
    return forge(place.lab, place.set, contents={f"{HOME}/data/{first_upload(place)}": "short"})


def unclosed_brace(place: House) -> str:
    text = place.lab.read(f"{HOME}/config.json").rstrip()
    assert text.endswith("}")
    return forge(place.lab, place.set, contents={f"{HOME}/config.json": text[:-1]})


def incomplete_config(place: House) -> str:
    config = place.gitlab.config()
    config["FileSettings"]["PublicLinkSalt"] = ""
    return forge(place.lab, place.set, contents={f"{HOME}/config.json": json.dumps(config)})


def sql(statement: str, **changed: int) -> Callable[[House], str]:
    """A set whose database had `statement`, and whose manifest knows of it by `changed` rows."""

    def make(place: House) -> str:
        counts = {
            f"public.{name}": rows(place)[f"public.{name}"] + by for name, by in changed.items()
        }
        return with_sql(place.gitlab, place.set, statement, manifest={"rows": counts})

    return make


DAMAGE = {
    "a dropped row": (
        sql("DELETE FROM sessions WHERE ctid IN (SELECT min(ctid) FROM sessions)"),
        {"rows": "public.sessions"},
    ),
    "a dropped table": (sql("DROP TABLE emoji"), {"rows": "public.emoji"}),
    "a post without its channel": (
        sql("UPDATE posts SET channelid = 'nowhere' WHERE ctid IN (SELECT min(ctid) FROM posts)"),
        {"references": "1 in posts name channels that are not there by channelid"},
    ),
    "a channel member without its user": (
        sql("UPDATE channelmembers SET userid = 'nobody' WHERE ctid IN"
            " (SELECT min(ctid) FROM channelmembers)"),
        {"references": "1 in channelmembers name users"},
    ),
    "a sequence behind its column": (
        sql("CREATE SEQUENCE s; ALTER TABLE posts ADD number bigint DEFAULT nextval('s');"
            " ALTER SEQUENCE s OWNER TO gitlab_mattermost; ALTER SEQUENCE s OWNED BY posts.number;"
            " SELECT setval('s', 2)"),
        {"sequences": "behind their column: s"},
    ),
    "a missing upload": (missing_upload, {"uploads": "is missing"}),
    "an upload cut short": (short_upload, {"uploads": "has 5 bytes, not"}),
    "an unclosed brace in config.json": (
        unclosed_brace,
        {"settings": "config.json is not JSON", "files": "config.json is not JSON"},
    ),
    "settings that lack a key": (
        incomplete_config,
        {"settings": "empty or missing: FileSettings.PublicLinkSalt"},
    ),
    "more migrations than Mattermost knows": (  # it counts its scripts up and down
        sql("INSERT INTO db_migrations SELECT 90000 + n, 'later' FROM generate_series(1, 999) n",
            db_migrations=999),
        {"boot": "more migrations applied"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_that_checksums_do_not_see(place: House, name: str) -> None:
    make, wanted = DAMAGE[name]
    answer = place.rehearse(make(place))
    assert answer.code == 1
    failed = {check for check, result in results(answer).items() if result == "failed"}
    assert failed == set(wanted), answer.document["checks"]
    for check, words in wanted.items():
        assert words in detail(answer, check)
        assert words in answer.error["detail"]


def test_a_missing_preview_is_told_apart(place: House) -> None:
    (path,) = place.gitlab.sql("SELECT previewpath FROM fileinfo WHERE previewpath <> '' LIMIT 1")
    answer = place.rehearse(forge(place.lab, place.set, contents={f"{HOME}/data/{path}": None}))
    assert results(answer) == dict.fromkeys(CHECKS, "passed")
    assert detail(answer, "previews").startswith("1 of 2 are missing")


def test_an_index_that_is_not_valid(place: House) -> None:
    place.gitlab.sql("CREATE DATABASE look TEMPLATE template0", "postgres")
    place.gitlab.sql("CREATE TABLE t (a int); CREATE INDEX odd ON t (a)", "look")
    place.gitlab.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'odd'::regclass", "look"
    )
    script = (
        "import psycopg, sys; from gitlab_mm_backup.rehearsal import integrity as i;"
        "c = psycopg.connect('host=/var/opt/gitlab/postgresql dbname=look user=gitlab-psql', autocommit=True);"
        "print([(x.name, x.result.value, x.detail) for x in i.run_checks([c], i.Uploads(None, 'none'), [])"
        " if x.name == 'indexes'])"
    )
    told = place.lab.run("/usr/bin/python3", "-c", script, user="gitlab-psql").stdout
    place.gitlab.sql("DROP DATABASE look", "postgres")
    assert told.strip() == "[('indexes', 'failed', 'not valid: odd')]"


def test_credentials_that_no_longer_match(place: House) -> None:
    other = "name = 'GitLab Mattermost'"
    (secret,) = place.gitlab.sql(
        f"SELECT secret FROM oauth_applications WHERE {other}", "gitlabhq_production"
    )
    place.gitlab.sql(
        f"UPDATE oauth_applications SET secret = 'another' WHERE {other}", "gitlabhq_production"
    )
    answer = place.rehearse()
    place.gitlab.sql(
        f"UPDATE oauth_applications SET secret = '{secret}' WHERE {other}", "gitlabhq_production"
    )
    assert answer.code == 1
    assert [check for check, result in results(answer).items() if result == "failed"] == [
        "credentials"
    ]
    assert "does not accept" in detail(answer, "credentials")


def expect_no_boot(place: House, path: str, why: str) -> None:
    answer = place.rehearse(path)
    assert (answer.code, answer.document["result"]) == (4, "incomplete"), answer
    assert {check for check, result in results(answer).items() if result != "passed"} == {
        "boot",
        "answers",
    }
    assert results(answer)["boot"] == "not run"
    assert why in detail(answer, "boot")
    assert any("boot was skipped" in warning for warning in answer.document["warnings"])
    assert answer.document["recovery_seconds"] is None


@pytest.mark.parametrize("version", ["9.11.1", "10.12.0"])
def test_a_set_of_another_mattermost_is_not_started(place: House, version: str) -> None:
    path = forge(place.lab, place.set, manifest={"mattermost": version})
    expect_no_boot(place, path, f"the set is of Mattermost {version}")


def test_a_host_without_the_program(place: House) -> None:
    place.lab.run("mv", PROGRAM, f"{PROGRAM}.away")
    expect_no_boot(place, place.set, f"this host has no {PROGRAM}")
    place.lab.run("mv", f"{PROGRAM}.away", PROGRAM)


@pytest.mark.parametrize(
    ("word", "why"), [("exit", "ended with exit code 1"), ("silent", "did not answer in 2 seconds")]
)
def test_a_mattermost_that_does_not_start(place: House, word: str, why: str) -> None:
    place.lab.write(f"{SERVICE}/misbehave", word)
    answer = place.rehearse(fault=Fault(patience=2))
    place.lab.path(f"{SERVICE}/misbehave").unlink()
    assert answer.code == 1
    assert [check for check, result in results(answer).items() if result == "failed"] == ["boot"]
    assert results(answer)["answers"] == "not run"
    assert why in detail(answer, "boot")


def test_uploads_in_object_storage_are_told_not_passed(place: House) -> None:
    path = copied(place.lab, place.set)
    file = place.lab.path(f"{path}/settings.json")
    document = json.loads(file.read_text())
    document["effective"]["FileSettings"]["DriverName"] = "amazons3"
    file.write_text(json.dumps(document))
    resum(place.lab, path)
    answer = place.rehearse(path)
    assert (answer.code, results(answer)["uploads"]) == (4, "not run")
    assert "object storage" in detail(answer, "uploads")


def test_the_newest_set_whose_rehearsal_passed_stays(place: House) -> None:
    assert place.rehearse().code == 0
    first = Path(place.set).name
    second = place.product.backup()
    third = place.product.backup()
    place.lab.write("/root/short.yml", "keep_time: 1s\n")
    decisions = {
        set_["name"]: (set_["keep"], set_["reason"])
        for set_ in place.product("prune", "--dry-run", "--config", "/root/short.yml").document[
            "sets"
        ]
    }
    assert decisions[first] == (True, "the newest set whose rehearsal passed is never removed")
    assert decisions[Path(third).name][0]
    wait = 'while [ $(( $(date +%s) - $(stat -c %Y "$0") )) -lt 2 ]; do :; done'
    place.lab.run("sh", "-c", wait, f"{third}/manifest.json")
    removed = place.product("prune", "--config", "/root/short.yml").document["removed"]
    assert removed == [Path(second).name]
    place.lab.run("rm", "-r", third)


def test_the_report_says_what_the_rehearsals_of_the_newest_set_came_to(place: House) -> None:
    page = f"{STATE}/report.html"
    rehearsed = place.rehearse()
    answer = place.product("report")
    assert (answer.code, answer.document["verdict"]) == (0, "proven"), answer
    assert (answer.document["path"], answer.document["set"]) == (page, Path(place.set).name)
    assert answer.document["recovery_seconds"] == rehearsed.document["recovery_seconds"]
    assert answer.document["rehearsals"][0]["checks"] == rehearsed.document["checks"]
    assert answer.document["versions"]["GitLab"] == place.gitlab.spec.version
    assert stat.S_IMODE(place.lab.path(page).stat().st_mode) == 0o600
    assert '<h2 id="verdict">Proven</h2>' in place.lab.read(page)
    place.lab.write(f"{SERVICE}/misbehave", "exit")
    assert place.rehearse().code == 1
    place.lab.path(f"{SERVICE}/misbehave").unlink()
    answer = place.product("report")
    assert (answer.code, answer.document["verdict"]) == (0, "failed"), answer
    assert "boot: " in answer.document["reason"]
    assert '<h2 id="verdict">Failed</h2>' in place.lab.read(page)
    assert place.product("report", "/root/no/such/place.html").code == 1
