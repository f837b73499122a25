"""`gitlab-mm sso repair`: what it takes credentials from, what it asks consent for, and how it is taken back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.fakes import oauth
from tests.lab.omnibus import Spec
from tests.lab.sandbox import wait_until
from tests.system.helpers.sign_in_cases import (
    BROKEN,
    FORMS,
    SECRETS_FILE,
    SETS,
    SPIED,
    STATE,
    WARNING,
    Host,
    Pair,
    host_of,
    new_pair,
)

# What a variable's file may hold before a repair; None: it is not there.
VARIABLES = ("{}", "{}\n", "{} \nsecond line", "", None)
COMMIT_FAILS = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON oauth_applications
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"""


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Host]:
    """A GitLab 18.11 that has no set; Mattermost runs with the first pair that it got."""
    with host_of(base, deb, Spec()) as host:
        yield host


@pytest.fixture
def host(server: Host) -> Iterator[Host]:
    """The server; files and applications are put back, and Mattermost restarted if it ran with others."""
    pid = server.pid()
    with server.kept():
        yield server
    noted = (f"{STATE}/sign-in-undo.json", f"{STATE}/places.json")
    server.lab.run("rm", "-rf", *noted, SETS, SPIED, "/srv/elsewhere")
    if server.pid() != pid:
        server.restart()


@pytest.fixture
def stale(host: Host) -> Pair:
    """The environment is stale, gitlab-secrets.json is right (this pair), and Mattermost runs with the stale one."""
    right = new_pair()
    host.put("gitlab-secrets.json", right)
    host.accept(right, "pbkdf2")
    return right


def lose(host: Host) -> Pair:
    """Store a new pair in GitLab only; return it."""
    right = new_pair()
    host.accept(right, "pbkdf2")
    return right


def state_of(host: Host) -> tuple[object, ...]:
    """Everything that a repair without work leaves unchanged."""
    return host.files(), host.rows(), host.pid()


@contextmanager
def read_only(host: Host, folder: str) -> Iterator[None]:
    host.lab.run("mount", "--bind", "-o", "ro", folder, folder)
    try:
        yield
    finally:
        host.lab.run("umount", folder)


def test_a_dry_run_tells_and_writes_nothing(host: Host, stale: Pair) -> None:
    before, kept = state_of(host), sorted(host.lab.path(STATE).iterdir())
    planned = host.repair("--dry-run")
    assert state_of(host) == before
    assert sorted(host.lab.path(STATE).iterdir()) == kept
    assert (planned.code, planned.document["planned"]) == (0, ["environment"])
    assert (planned.document["written"], planned.document["restarted"]) == ([], False)


@pytest.mark.parametrize("options", [["--rotate"], ["--register"]])
def test_a_dry_run_leaves_gitlab_alone(host: Host, options: list[str]) -> None:
    lose(host)
    before = state_of(host)
    planned = host.repair("--dry-run", *options)
    assert state_of(host) == before
    assert planned.document["planned"] == ["environment", "gitlab-secrets.json"]


@pytest.mark.parametrize("text", VARIABLES)
def test_undo_gives_every_byte_back(host: Host, stale: Pair, text: str | None) -> None:
    for name in ("ID", "SECRET"):
        path = host.variable(name)
        old = path.read_text()
        path.unlink()
        if text is not None:
            path.write_text(text.format(old))
            path.chmod(0o640)
    host.put("config.json", new_pair())
    before = host.contents()
    repaired = host.repair()
    assert repaired.document["written"] == ["environment", "config.json"]
    assert host.contents() != before
    assert host.pair("environment") == host.pair("config.json") == stale
    undone = host.repair("--undo")
    assert (undone.code, undone.document["written"]) == (0, ["environment", "config.json"])
    assert host.contents() == before
    again = host.repair("--undo")
    assert (again.code, host.contents()) == (1, before)


def test_undo_of_a_section_that_was_missing(host: Host) -> None:
    path = host.place("gitlab-secrets.json")
    secrets = json.loads(path.read_text())
    del secrets["mattermost"]
    path.write_text(json.dumps(secrets, indent=2))
    before = host.contents()
    assert host.repair().document["written"] == ["gitlab-secrets.json"]
    assert host.pair("gitlab-secrets.json") == host.pair("environment")
    host.repair("--undo")
    assert host.contents() == before


def test_halves_of_two_pairs_are_made_one(host: Host) -> None:
    """The environment has lost its id, and config.json has another's."""
    right, wrong = host.pair("environment"), new_pair()
    host.variable("ID").unlink()
    host.put("config.json", wrong)
    host.restart()
    assert not host.signs_in()
    repaired = host.repair()
    assert (repaired.code, repaired.document["restarted"]) == (0, True)
    assert host.pair("environment") == host.pair("config.json") == right
    assert host.signs_in()


def test_undo_refuses_what_has_changed_since(host: Host, stale: Pair) -> None:
    host.put("config.json", new_pair())
    host.repair()
    host.put("config.json", new_pair())
    before = host.contents()
    undone = host.repair("--undo")
    assert (undone.code, host.contents()) == (1, before)
    assert "config.json" in undone.error()


def test_a_repair_that_does_nothing_keeps_the_undo(host: Host, stale: Pair) -> None:
    before = host.contents()
    host.repair()
    host.repair()
    host.repair("--undo")
    assert host.contents() == before


def test_a_stopped_mattermost_is_mended_and_stays_stopped(host: Host, stale: Pair) -> None:
    host.omnibus.gitlab_ctl("stop", "mattermost")
    repaired = host.repair()
    assert (repaired.code, repaired.document["restarted"], host.pid()) == (0, False, "")
    host.restart()
    assert host.signs_in()


@pytest.mark.parametrize("form", FORMS)
def test_rotate_gives_gitlab_a_new_secret_in_its_own_form(host: Host, form: str) -> None:
    lost = lose(host)
    host.accept(lost, form)
    before, expected = host.rows(), host.contents()
    repaired = host.repair("--rotate")
    assert (repaired.code, repaired.findings) == (0, set())
    assert repaired.document["written"] == ["environment", "gitlab-secrets.json"]
    pair = host.pair("environment")
    assert pair is not None
    assert pair == host.pair("gitlab-secrets.json")
    assert (pair.id, host.pair("config.json")) == (lost.id, None)
    stored = host.sql("SELECT secret FROM oauth_applications")[0]
    assert re.fullmatch(FORMS[form], stored)
    assert stored == oauth.stored(pair.secret, form)
    old = oauth.stored(lost.secret, form)
    assert [row.replace(stored, old) for row in host.rows()] == before
    assert expected.keys() == host.contents().keys()
    assert host.signs_in()
    rows, files = host.rows(), host.contents()
    host.omnibus.reconfigure()
    assert (host.rows(), host.contents()) == (rows, files)
    assert host.check().code == 0


@pytest.mark.parametrize("option", ["--rotate", "--register"])
def test_consent_is_not_used_where_a_candidate_fits(host: Host, stale: Pair, option: str) -> None:
    rows = host.rows()
    repaired = host.repair(option)
    assert (repaired.code, repaired.document["source"]) == (0, "gitlab-secrets.json")
    assert (host.rows(), host.pair("environment")) == (rows, stale)


@pytest.mark.parametrize("option", ["--rotate", "--register"])
@pytest.mark.parametrize("folder", ["/opt/gitlab/etc/mattermost/env", "/etc/gitlab"])
def test_a_layer_that_cannot_be_written_takes_all_back(
    host: Host, option: str, folder: str
) -> None:
    lose(host)
    before = (host.contents(), host.rows(), host.pid())
    with read_only(host, folder):
        repaired = host.repair(option)
    assert repaired.code == 1
    assert (host.contents(), host.rows(), host.pid()) == before
    assert "Read-only" in repaired.error()


@pytest.mark.parametrize("option", ["--rotate", "--register"])
def test_a_commit_that_fails_takes_all_back(host: Host, option: str) -> None:
    lose(host)
    before = (host.contents(), host.rows(), host.pid())
    host.sql(COMMIT_FAILS)
    try:
        repaired = host.repair(option)
    finally:
        host.sql("DROP FUNCTION refuse CASCADE")
    assert repaired.code == 1
    assert (host.contents(), host.rows(), host.pid()) == before


def test_rotate_leaves_a_secret_of_unknown_form_alone(host: Host) -> None:
    host.sql("UPDATE oauth_applications SET secret = '$argon2id$v=19$m=65536,t=3,p=4$c2Fs$aGFz'")
    before = state_of(host)
    repaired = host.repair("--rotate")
    assert (repaired.code, state_of(host)[1:]) == (1, before[1:])
    assert "--register" in repaired.error()


def test_rotate_does_not_guess_between_applications(host: Host) -> None:
    lose(host)
    host.sql(
        "INSERT INTO oauth_applications (name, uid, secret, redirect_uri)"
        " SELECT name, 'another', 'another-that-is-long', redirect_uri FROM oauth_applications"
    )
    before = state_of(host)
    repaired = host.repair("--rotate")
    assert (repaired.code, state_of(host)) == (1, before)
    assert "2" in repaired.error()


def test_register_makes_the_row_that_reconfigure_looks_for(host: Host) -> None:
    host.sql("DELETE FROM oauth_applications")
    assert "--register" in host.repair("--rotate").error()
    repaired = host.repair("--register")
    assert (repaired.code, repaired.findings) == (0, set())
    pair, site = host.pair("environment"), host.omnibus.spec.site_url
    assert pair is not None
    assert pair == host.pair("gitlab-secrets.json")
    columns = "name || '|' || uid || '|' || secret || '|' || redirect_uri || '|' || scopes"
    stored = oauth.stored(pair.secret, "pbkdf2")
    addresses = f"{site}/signup/gitlab/complete\r\n{site}/login/gitlab/complete"
    wanted = f"GitLab Mattermost|{pair.id}|{stored}|{addresses}|"
    assert host.sql(
        f"SELECT encode(convert_to({columns}, 'UTF8'), 'hex') FROM oauth_applications"
    ) == [wanted.encode().hex()]
    assert host.signs_in()
    host.omnibus.append_to_gitlab_rb("mattermost['register_as_oauth_app'] = true")
    rows = host.rows()
    assert "WARN" not in host.omnibus.reconfigure()
    assert (host.rows(), host.check().code) == (rows, 0)
    assert host.signs_in()


def test_register_beside_an_application_of_that_name_warns(host: Host) -> None:
    lose(host)
    repaired = host.repair("--register")
    expected = {("duplicate-applications", "gitlab", WARNING)}
    assert (repaired.code, repaired.findings) == (4, expected)
    assert len(host.rows()) == 2
    assert host.signs_in()


def test_a_set_that_is_named_is_looked_into(host: Host) -> None:
    """By its path, outside the store; its config.json, environment and secrets file are the candidates."""
    right, other = new_pair(), host.pair("environment")
    for layer in ("environment", "config.json", "gitlab-secrets.json"):
        host.put(layer, right)
    host.lab.run("mkdir", "-p", "/srv/elsewhere")
    path = host.back_up()
    host.lab.run("mv", path, "/srv/elsewhere/")
    for layer in ("environment", "config.json", "gitlab-secrets.json"):
        host.put(layer, other)
    host.accept(right, "sha512")
    moved = f"/srv/elsewhere/{Path(path).name}"
    before = state_of(host)
    assert (host.repair().code, state_of(host)) == (1, before)
    name = f"set {Path(path).name}"
    found = host.check("--from", moved).sources
    places = ("environment", "config.json", "gitlab-secrets.json")
    assert {name: found[name] for name in found if name.startswith("set")} == {
        f"{name}: {place}": True for place in places
    }
    repaired = host.repair("--from", moved)
    assert (repaired.code, repaired.document["source"]) == (0, f"{name}: environment")
    assert host.signs_in()


def test_a_folder_that_is_named_is_looked_into(host: Host) -> None:
    """As the restore's hook does with the home that was there before."""
    right = lose(host)
    config = host.omnibus.config()
    config["GitLabSettings"].update(Id=right.id, Secret=right.secret)
    host.lab.write("/srv/elsewhere/config.json", json.dumps(config), mode=0o600)
    repaired = host.repair("--from", "/srv/elsewhere")
    assert repaired.code == 0
    assert repaired.document["source"] == "/srv/elsewhere/config.json"
    assert host.signs_in()


@pytest.mark.parametrize("name", ["/srv/nothing", "/etc/gitlab", "1795310000_2026_11_22_10.11.4"])
def test_a_name_that_is_no_set_is_told(host: Host, stale: Pair, name: str) -> None:
    before = state_of(host)
    repaired = host.repair("--from", name)
    if name == "/etc/gitlab":  # a folder without config.json has no candidate, and does no harm
        assert repaired.code == 0
        return
    assert (repaired.code, state_of(host)) == (1, before)
    assert name in repaired.error()


def test_gitlabs_own_backup_of_its_settings_is_looked_into(host: Host) -> None:
    old, right = host.pair("gitlab-secrets.json"), new_pair()
    host.put("gitlab-secrets.json", right)
    host.omnibus.gitlab_ctl("backup-etc")
    host.put("gitlab-secrets.json", old)
    host.accept(right, "pbkdf2")
    [archive] = host.lab.path("/etc/gitlab/config_backup").iterdir()
    try:
        repaired = host.repair()
    finally:
        host.lab.run("rm", "-r", "/etc/gitlab/config_backup")
    assert repaired.document["source"] == f"{archive.name}: gitlab-secrets.json"
    assert repaired.code == 0
    assert host.signs_in()


def test_damaged_places_are_passed_over(host: Host) -> None:
    """Neither a cut archive nor a damaged set stops the search; the set behind them is right."""
    old, right = host.pair("environment"), new_pair()
    host.put("environment", right)
    path = host.back_up()
    host.put("environment", old)
    host.accept(right, "plain")
    newer = str(Path(path).with_name("1895310000_2030_01_22_10.11.20"))
    host.lab.run("cp", "-a", path, newer)
    host.lab.run("truncate", "--size=100", f"{newer}/settings.json", f"{newer}/etc-gitlab.tar.zst")
    host.lab.write("/etc/gitlab/config_backup/gitlab_config_1795310000_2026_11_22.tar", b"\0" * 700)
    try:
        repaired = host.repair()
    finally:
        host.lab.run("rm", "-r", "/etc/gitlab/config_backup")
    assert repaired.code == 0
    assert repaired.document["source"] == f"set {Path(path).name}: environment"


def test_a_layer_that_cannot_be_read_stops_every_write(host: Host, stale: Pair) -> None:
    for content in (b"", b'{"mattermost": {', b"[]"):
        host.place("gitlab-secrets.json").write_bytes(content)
        before = state_of(host)
        repaired = host.repair("--rotate")
        assert (repaired.code, state_of(host)) == (1, before)
        assert "gitlab-secrets.json" in repaired.error()


def test_a_config_json_that_cannot_be_read_stops_every_write(host: Host, stale: Pair) -> None:
    host.place("config.json").write_bytes(b'{"GitLabSettings":')
    before = state_of(host)
    repaired = host.repair()
    assert (repaired.code, state_of(host)) == (1, before)
    assert "config.json" in repaired.error()


def test_a_link_in_place_of_a_file_is_not_written_through(host: Host, stale: Pair) -> None:
    config = host.place("config.json")
    host.put("config.json", new_pair())
    content = config.read_text()
    host.lab.write("/srv/elsewhere/config.json", content)
    config.unlink()
    host.lab.run("ln", "-s", "/srv/elsewhere/config.json", str(host.omnibus.home) + "/config.json")
    before = host.contents()
    repaired = host.repair()
    unchanged = host.lab.read("/srv/elsewhere/config.json") == content
    assert (repaired.code, unchanged, host.contents()) == (1, True, before)
    (host.lab.path(host.omnibus.home) / "config.json").unlink()


def test_what_gitlab_rb_states_is_left_to_its_owner(host: Host, stale: Pair) -> None:
    """It would undo the repair at the next reconfigure: mended all the same, with a warning that names it."""
    wrong = stale.with_new_secret()
    host.known.add(wrong.secret)
    host.omnibus.append_to_gitlab_rb(
        f"mattermost['gitlab_id'] = '{wrong.id}'", f"mattermost['gitlab_secret'] = '{wrong.secret}'"
    )
    text = host.lab.read("/etc/gitlab/gitlab.rb")
    repaired = host.repair()
    assert (repaired.code, repaired.document["written"]) == (4, ["environment"])
    assert any("gitlab.rb" in warning for warning in repaired.document["warnings"])
    assert host.lab.read("/etc/gitlab/gitlab.rb") == text
    assert host.signs_in()


def test_no_secret_is_to_be_seen_while_it_works(host: Host) -> None:
    """Neither in an argument nor in the environment of gitlab-mm or anything that it starts."""
    host.back_up()
    lose(host)
    seen: set[str] = set()
    process = host.lab.popen("gitlab-mm", "sso", "repair", "--rotate", "--json")

    def ended() -> bool:
        seen.update(processes(host))
        return process.poll() is not None

    wait_until(ended, what="the repair to end")
    stdout, stderr = process.communicate()
    pair = host.pair("environment")
    assert pair is not None and process.returncode == 0, stderr
    started = host.lab.read(SPIED)
    assert any("gitlab-mm" in text for text in seen)
    assert "gitlab-ctl" in started and "zstd" in started
    for text in (*seen, started, stdout, stderr):
        assert not [secret for secret in (*host.known, pair.secret) if secret in text]


def processes(host: Host) -> Iterator[str]:
    """Command line and environment of all processes in the lab but Mattermost, which runs with the secret."""
    for place in host.lab.path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_text(errors="replace")
            environment = (place / "environ").read_text(errors="replace")
        except OSError:
            continue  # it has ended
        if "/bin/mattermost" not in command and "chpst" not in command:
            yield command + environment


def test_register_before_15_4_is_found_by_name_and_address(base: Path, deb: Path) -> None:
    """Reconfigure then takes id and secret from the row of that name and address, or has GitLab make another."""
    with host_of(base, deb, Spec(version="12.10.14")) as host:
        host.sql("DELETE FROM oauth_applications")
        assert host.repair("--register").code == 0
        rows, secrets = host.rows(), host.omnibus.secrets()
        for key in ("gitlab_enable", "gitlab_id", "gitlab_secret"):
            del secrets["mattermost"][key]
        host.lab.path(SECRETS_FILE).write_text(json.dumps(secrets))
        host.omnibus.reconfigure()
        assert host.rows() == rows
        assert (host.check().code, host.signs_in()) == (0, True)


def test_a_secrets_file_without_its_section_lasts_after_repair(host: Host) -> None:
    path = host.place("gitlab-secrets.json")
    secrets = json.loads(path.read_text())
    del secrets["mattermost"]
    path.write_text(json.dumps(secrets, indent=2))
    rows = host.rows()
    assert host.repair().code == 0
    host.omnibus.reconfigure()
    assert (host.rows(), host.check().code, host.signs_in()) == (rows, 0, True)


def test_a_folder_of_another_version_is_not_taken_for_the_environment(
    base: Path, deb: Path
) -> None:
    """GitLab 11.3 starts Mattermost with <home>/env; what lies in the place of 11.6 does not matter."""
    with host_of(base, deb, Spec(version="11.3.14")) as host:
        for name in ("ID", "SECRET"):
            host.lab.write(f"/opt/gitlab/etc/mattermost/env/MM_GITLABSETTINGS_{name}", "stale")
        checked = host.check()
        assert (checked.code, checked.findings) == (0, set())
        assert checked.sources["/opt/gitlab/etc/mattermost/env"] is False


class TestElsewhere:
    """GitLab on another host: there is no database to ask, so the probe decides."""

    @pytest.fixture
    def host(self, elsewhere: Host) -> Iterator[Host]:
        with elsewhere.kept():
            yield elsewhere
        elsewhere.restart()

    def test_right_credentials(self, host: Host) -> None:
        checked = host.check()
        assert (checked.code, checked.document["probe"]) == (0, "accepted")

    def test_a_stale_environment_is_mended_by_what_the_probe_accepts(self, host: Host) -> None:
        right = new_pair()
        host.put("gitlab-secrets.json", right)
        host.accept(right, "pbkdf2")
        checked = host.check()
        assert (checked.code, checked.document["probe"]) == (1, "refused")
        assert {finding[1] for finding in checked.findings if finding[2] == BROKEN} == {
            "environment"
        }
        repaired = host.repair()
        assert (repaired.code, repaired.document["written"]) == (0, ["environment"])
        assert host.signs_in()

    def test_a_gitlab_that_is_down_is_unknown(self, host: Host) -> None:
        with host.stopped("nginx"):
            checked, before = host.check(), state_of(host)
            repaired, after = host.repair("--rotate"), state_of(host)
        assert (checked.document["probe"], repaired.code) == ("unknown", 1)
        assert not [finding for finding in checked.findings if finding[2] == BROKEN]
        assert after == before

    @pytest.mark.parametrize("option", ["--rotate", "--register"])
    def test_nothing_can_be_made_in_gitlab(self, host: Host, option: str) -> None:
        lose(host)
        before = state_of(host)
        repaired = host.repair(option)
        assert (repaired.code, state_of(host)) == (1, before)
        assert "not on this host" in repaired.error()


@pytest.fixture(scope="module")
def elsewhere(base: Path, deb: Path) -> Iterator[Host]:
    """A server whose GitLab is not Omnibus's business: its process only stands in for the other host."""
    with host_of(base, deb, Spec()) as host:
        host.omnibus.append_to_gitlab_rb("gitlab_rails['enable'] = false")
        host.omnibus.reconfigure()
        host.lab.run("rm", "-r", "/var/opt/gitlab/gitlab-rails/etc")
        yield host
