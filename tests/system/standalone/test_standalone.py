"""From GitLab 18.11 to a standalone Mattermost: other host, database user, port, home and uid.

The tests stand in the order of a move, on one pair of hosts: what is refused, what fails and leaves
nothing behind, then docs/leaving-gitlab.md as it stands, and what is there after it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.standalone import Spec
from tests.system.helpers.faults import Fault, differences
from tests.system.helpers.moves import (
    DERIVED,
    GITLAB,
    PASSING,
    PLUGIN,
    SITE,
    Move,
    data_files,
    moving,
)

GUIDE = Path(__file__).parents[3] / "docs/leaving-gitlab.md"
CHAT = "http://chat.example.test"
DROP_IN = "/etc/systemd/system/mattermost.service.d/10-lab.conf"


@pytest.fixture(scope="module")
def move(base: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Move]:
    with moving(base, deb, tmp_path_factory.mktemp("sets"), Spec()) as made:
        made.new.start()
        made.notes["fresh"] = made.new.lab.read(made.new.config_file)
        yield made


@contextmanager
def config_with(move: Move, old: str, new: str) -> Iterator[None]:
    """Another config.json for a while; the server goes on with what it has read."""
    before = move.new.lab.read(move.new.config_file)
    assert old in before
    move.new.lab.path(move.new.config_file).write_text(before.replace(old, new))
    yield
    move.new.lab.path(move.new.config_file).write_text(before)


def told(move: Move, *arguments: str, code: int = 1) -> str:
    """All that a refused restore says; nothing is changed by it."""
    before = move.look()
    answer = move.restore(*arguments)
    assert answer.code == code, answer
    assert not differences(before, move.look())
    return " ".join(answer.error[key] for key in ("message", "detail", "hint"))


# --- refused


def test_a_role_that_may_not_make_databases(move: Move) -> None:
    move.new.sql("ALTER ROLE mmuser NOCREATEDB")
    said = told(move)
    assert "may not create and rename databases" in said
    statement = re.search(r"psql -p 5544 -c '(ALTER ROLE \"mmuser\" CREATEDB)'", said)
    assert statement, said
    move.new.sql(statement[1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("localhost:5544", "localhost:5545", "PostgreSQL does not answer"),
        ("p%3Aw", "other", "PostgreSQL refuses the connection"),
    ],
    ids=["port", "password"],
)
def test_a_data_source_that_leads_nowhere(move: Move, old: str, new: str, words: str) -> None:
    with config_with(move, old, new):
        said = told(move)
    assert words in said
    assert "SqlSettings.DataSource in /opt/mattermost/config/config.json" in said
    assert "p:w/d" not in said
    assert "p%3Aw" not in said


def test_a_data_source_that_is_none(move: Move) -> None:
    with config_with(move, "postgres://mmuser", "postgres:/mmuser"):
        said = told(move)
    assert "cannot be parsed" in said
    assert "p%3Aw" not in said


def test_a_configuration_in_the_database(move: Move) -> None:
    lab = move.new.lab
    lab.write(
        DROP_IN,
        f"[Service]\nEnvironment=MM_CONFIG={move.new.spec.data_source}\n".replace("%", "%%"),
    )
    lab.run("systemctl", "daemon-reload")
    try:
        said = told(move)
    finally:
        lab.run("rm", "-r", str(Path(DROP_IN).parent))
        lab.run("systemctl", "daemon-reload")
    assert "keeps its configuration in its database" in said
    assert "p%3Aw" not in said


def test_no_room(move: Move) -> None:
    lab = move.new.lab
    free = int(lab.run("df", "--output=avail", "-B1", "/opt").stdout.split()[1])
    lab.run("fallocate", "-l", str(free - (40 << 20)), "/opt/fill")
    try:
        said = told(move)
    finally:
        lab.run("rm", "/opt/fill")
    assert "Not enough disk space" in said
    assert "needed" in said


def test_etc_gitlab_stays_where_it_belongs(move: Move) -> None:
    assert "/etc/gitlab is not restored" in told(move, "--with-etc")


def test_the_patch_is_shown_without_secrets(move: Move) -> None:
    answer = move.run("restore", "--to", "standalone", "--dry-run", move.set)
    assert answer.code == 0, answer
    patch = "\n".join(answer.document["patch"])
    assert f"/ServiceSettings/SiteURL: {SITE}" in patch
    assert "/SqlSettings/DataSource: (not shown)" in patch
    secrets = move.gitlab.secrets()["mattermost"]
    for secret in (secrets["gitlab_secret"], secrets["sql_at_rest_encrypt_key"], "p%3Aw"):
        assert secret not in json.dumps(answer.document)
    assert "MM_INSTALL_TYPE" not in json.dumps(answer.document)


# --- failed, and taken back

STEPS = (
    ("mattermost.standalone:keep_config", "after"),
    ("mattermost.service:SystemdService.stop", "after"),
    ("restore.folder_swap:make_work_folder", "after"),
    ("postgresql.swap:create_beside", "after"),
    ("postgresql.clients:load", "after"),
    ("restore.unpack:unpack", "after"),
    ("postgresql.swap:exchange", "after"),
    ("restore.folder_swap:exchange", "after"),
    ("config.hooks:run_phase", "after"),
    ("mattermost.service:SystemdService.start", "after"),
    ("mattermost.service:wait_until_it_answers", "before"),
)
# Called before too: when Mattermost is stopped, to know whether it answered; for pre-restore hooks.
SECOND = ("mattermost.service:wait_until_it_answers", "config.hooks:run_phase")


@pytest.mark.parametrize(("point", "when"), STEPS, ids=[point for point, _ in STEPS])
def test_a_failure_at_each_step_leaves_everything_as_it_was(
    move: Move, point: str, when: str
) -> None:
    before = move.look()
    answer = move.restore(fault=Fault(point, when, 1 + SECOND.count(point), "fail"))
    assert answer.code == 1, answer
    assert "On purpose" in answer.error["message"] + answer.error["detail"]
    assert not differences(before, move.look())


@pytest.mark.parametrize(
    "fault",
    [
        Fault("restore.folder_swap:_move_all", "after"),
        Fault("mattermost.service:wait_until_it_answers", "after", 2),
    ],
    ids=["config.json is on its way", "it runs already"],
)
def test_a_restore_that_is_killed_is_taken_back_later(move: Move, fault: Fault) -> None:
    before = move.look()
    assert move.restore(fault=fault).code == -9
    assert move.run("backup").code == 5
    answer = move.run("restore", "--rollback")
    assert answer.code == 0, answer
    assert not differences(before, move.look())


# --- the guide, as it stands


def blocks() -> list[tuple[str, str]]:
    """The commands of the guide, with the host that each is for."""
    found = re.findall(r"```sh\n\s*# on ([^\n]*)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return [(host, script) for host, script in found]


def follow(move: Move, script: str) -> str:
    """Run a block on the new host."""
    done = move.new.lab.run("sh", "-e", "-c", script, env={"SET": move.set}, check=False)
    # What has warnings, of which the guide speaks, ends with 4.
    assert done.returncode in (0, 4), done
    return done.stdout


def test_the_guide_leads_to_the_new_host(move: Move) -> None:
    todo = [(host, script) for host, script in blocks() if "accounts convert" not in script]
    for host, script in todo:
        if host == "the new host":
            follow(move, script)
            continue
        # The old host's Mattermost is stopped already, and its last set is at hand.
        if "gitlab-ctl stop" not in script:
            move.gitlab.lab.run("sh", "-c", script)
    move.new.start()
    assert {host for host, _ in todo} == {"GitLab's host", "the new host"}


def test_every_row_is_there(move: Move) -> None:
    after = move.new.tables()
    for name, (rows, digest) in move.tables.items():
        if name not in DERIVED + PASSING:
            assert after[name] == f"{rows}|{digest}", name
    owners = move.new.sql(
        "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"
    )
    assert owners == ["mmuser"]


def test_every_file_is_there_and_belongs_to_the_account(move: Move) -> None:
    lab = move.new.lab
    assert data_files(lab, "/opt/mattermost/data/") == move.files
    strange = lab.run(
        "find", "/opt/mattermost", "!", "-user", "mattermost", "-o", "!", "-group", "mattermost"
    )
    assert strange.stdout == ""
    # The mode that the file had: Mattermost's guide gives its group the right to write.
    assert lab.run("stat", "-c", "%u %a", move.new.config_file).stdout == "1480 620\n"
    names = lab.run("ls", "/opt/mattermost/config").stdout.split()
    assert names == ["README.md", "config.defaults.json", "config.json", "saml-idp.crt"]
    assert lab.path(f"/opt/mattermost/plugins/{PLUGIN}/plugin.json").exists()
    assert lab.path(f"/opt/mattermost/client/plugins/{PLUGIN}/main.js").exists()
    assert lab.path("/opt/mattermost/client/root.html").exists()


def test_settings_are_the_old_ones_but_for_what_the_host_says(move: Move) -> None:
    new, old, environment = move.new.config(), move.config, move.gitlab.environment()
    assert new["PluginSettings"]["Plugins"] == old["PluginSettings"]["Plugins"]
    assert new["FileSettings"]["PublicLinkSalt"] == old["FileSettings"]["PublicLinkSalt"]
    assert new["EmailSettings"]["InviteSalt"] == old["EmailSettings"]["InviteSalt"]
    assert new["SqlSettings"]["AtRestEncryptKey"] == environment["MM_SQLSETTINGS_ATRESTENCRYPTKEY"]
    assert new["GitLabSettings"]["Secret"] == environment["MM_GITLABSETTINGS_SECRET"]
    assert new["GitLabSettings"]["Enable"] is True
    assert new["SqlSettings"]["DataSource"] == move.new.spec.data_source
    assert new["FileSettings"]["Directory"] == "./data/"
    assert new["ServiceSettings"]["ListenAddress"] == ":8065"
    assert new["ServiceSettings"]["SiteURL"] == SITE
    assert "/opt/gitlab" not in json.dumps(new)
    assert "/var/opt/gitlab" not in json.dumps(new)


def test_people_sign_in_and_read_on(move: Move) -> None:
    session = move.new.sign_in(SITE, GITLAB)
    for identifier, text in move.seed.posts.items():
        assert session.read_post(identifier) == text
    for identifier, facts in move.seed.files.items():
        assert hashlib.sha256(session.download(identifier)).hexdigest() == facts["sha256"]
    assert [team["id"] for team in session.get("/users/me/teams")] == [move.seed.team]
    for identifier, link in move.links.items():
        got = move.new.lab.run("curl", "-sf", link, "-o", "/root/public", check=False)
        assert got.returncode == 0, link
        content = move.new.lab.path("/root/public").read_bytes()
        assert hashlib.sha256(content).hexdigest() == move.seed.files[identifier]["sha256"]


# --- afterwards


def test_what_is_there_is_only_replaced_on_demand(move: Move) -> None:
    said = told(move)
    assert "already holds data" in said
    assert "--replace" in said


def test_a_standalone_site_is_backed_up_and_put_back(move: Move) -> None:
    answer = move.run("backup")
    assert answer.code == 0, answer
    assert sorted(answer.document["parts"]) == ["database", "files", "index", "names", "settings"]
    manifest = json.loads(move.new.lab.read(f"{answer.document['path']}/manifest.json"))
    assert manifest["kind"] == "standalone"
    assert manifest["credentials"]["verified"] is True  # by a probe: that GitLab is elsewhere
    before = move.look()
    session = move.new.sign_in(SITE, GITLAB)
    late = session.post("written after the set")
    restored = move.run("restore", "--yes", "--no-safety-backup", answer.document["set"])
    assert restored.code == 0, restored
    assert not differences(before, move.look())
    assert move.new.sql(f"SELECT count(*) FROM posts WHERE id = '{late}'") == ["0"]
    verdict = move.run("rehearse", answer.document["set"])
    checks = {check["name"]: check["result"] for check in verdict.document["checks"]}
    assert set(checks.values()) == {"passed"}, verdict


def test_doctor_knows_it(move: Move) -> None:
    answer = move.run("doctor")
    results = {check["name"]: check["result"] for check in answer.document["checks"]}
    assert answer.code == 4, answer
    amiss = {name for name, result in results.items() if result != "passed"}
    assert amiss <= {"GitLab", "last set", "next run", "off-site"}, "no cron, no copies"
    assert results["sign-in"] == results["service"] == results["database"] == "passed"
    assert move.run("status").code in (0, 4)


def test_another_address_needs_a_line_in_gitlab(move: Move) -> None:
    move.new.name_hosts(CHAT)
    config = move.new.config()
    config["ServiceSettings"]["SiteURL"] = f"{CHAT}:8065"
    move.new.lab.path(move.new.config_file).write_text(json.dumps(config, indent=4))
    answer = move.restore("--replace")
    assert answer.code == 0, answer
    uris = [line.strip() for line in answer.document["gitlab_side"] if "/gitlab/complete" in line]
    assert uris == [f"{CHAT}:8065/signup/gitlab/complete", f"{CHAT}:8065/login/gitlab/complete"]
    move.gitlab.sql(
        f"UPDATE oauth_applications SET redirect_uri = E'{uris[0]}\\r\\n{uris[1]}'",
        "gitlabhq_production",
    )
    assert move.new.sign_in(f"{CHAT}:8065", GITLAB, "bob").me()["username"] == "bob"


# --- accounts


def users(move: Move) -> list[str]:
    return move.new.sql("SELECT u::text FROM users u ORDER BY id")


def convert(move: Move, *arguments: str, password: str = "") -> tuple[int, dict[str, object]]:
    words = ("gitlab-mm", "accounts", "convert", "--json", *arguments)
    done = move.new.lab.run(*words, check=False, input=f"{password}\n")
    assert "Traceback" not in done.stderr, done.stderr
    assert "Passw0rd!Passw0rd!" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


WAY = ("--from", "gitlab", "--to", "email")


def test_nobody_is_locked_out_by_a_conversion(move: Move) -> None:
    before = users(move)
    answers = [
        convert(move, *WAY, "--yes"),
        convert(move, *WAY, "--yes", "--admin", "local", password="x"),
    ]
    assert [code for code, _ in answers] == [2, 1]
    code, document = convert(move, *WAY, "--yes", "--admin", "local", password="Passw0rd!Passw0rd!")
    assert code == 1
    assert "not a system administrator" in str(document["error"])
    code, document = convert(move, *WAY, "--dry-run")
    affected = {account["username"]: account["administrator"] for account in document["accounts"]}  # type: ignore[attr-defined]
    assert affected == {"root": True, "alice": False, "bob": False}
    assert users(move) == before


def test_convert_and_undo_are_byte_equal(move: Move) -> None:
    move.new.sql("UPDATE users SET roles = 'system_admin system_user' WHERE username = 'local'")
    lab, before = move.new.lab, users(move)
    lab.write("/root/password", "Passw0rd!Passw0rd!\n", mode=0o600)
    script = next(block for _, block in blocks() if "--admin local" in block)
    said = follow(move, f"{script.rstrip()} --json")
    mapping = json.loads(said)["mapping"]
    assert lab.run("stat", "-c", "%U %a", mapping).stdout == "root 600\n"
    assert "pbkdf2" not in lab.read(mapping)
    rows = move.new.sql(
        "SELECT username, authservice = '', authdata IS NULL FROM users WHERE username IN"
        " ('root', 'alice', 'bob') ORDER BY 1"
    )
    assert rows == ["alice|t|t", "bob|t|t", "root|t|t"]
    assert not any("gitlab" in row for row in users(move))
    code, document = convert(move, "--undo", mapping)
    assert code in (0, 4), document
    assert users(move) == before
    assert move.new.sign_in(f"{CHAT}:8065", GITLAB, "alice").me()["username"] == "alice"


def test_an_undo_heeds_what_happened_since(move: Move) -> None:
    code, document = convert(move, *WAY, "--yes", "--admin", "local", password="Passw0rd!Passw0rd!")
    assert code in (0, 4), document
    # alice has got a password by mail; bob is gone.
    move.new.sql(
        "UPDATE users SET password = 'x', updateat = updateat + 5 WHERE username = 'alice'"
    )
    move.new.sql("DELETE FROM users WHERE username = 'bob'")
    code, undone = convert(move, "--undo", str(document["mapping"]))
    assert code == 4, undone
    assert any("bob is skipped: the account no longer exists" in text
               for text in undone["warnings"])  # type: ignore[attr-defined]  # fmt: skip
    assert move.new.sql(
        "SELECT authservice, authdata, password FROM users WHERE username = 'alice'"
    ) == ["gitlab|42|"]
