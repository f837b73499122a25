"""The lab's Mattermost keeps, loses and regains what the real one would, and fails as the real one fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fakes.seed import UPLOADS, picture
from tests.lab.omnibus import Omnibus, SignInFailed, Spec, install
from tests.lab.sandbox import Lab, LabError, wait_until
from tests.lab.signed_in_user import ApiError
from tests.system.conftest import MakeLab

SUPERVISE = "/opt/gitlab/sv/mattermost/supervise/pid"
CURRENT_LOG = "/var/log/gitlab/mattermost/current"
MISBEHAVE = "/opt/gitlab/embedded/service/mattermost/misbehave"


@pytest.fixture(scope="module")
def omnibus(base: Path) -> Iterator[Omnibus]:
    """A GitLab 18.11; a test that changes it puts it right again."""
    with Lab(base=base) as lab:
        yield install(lab, Spec())


def restart_in_vain(omnibus: Omnibus) -> None:
    """Restart a server that may end at once, without waiting the usual seven seconds for it.

    runsv rests for a second after such an end. Until it has read the stop, sv passes over a start, because the status
    file still says that the service is wanted up.
    """
    omnibus.gitlab_ctl("stop", "mattermost", check=False)
    wait_until(
        lambda: "want up" not in omnibus.gitlab_ctl("status", "mattermost", check=False).stdout
    )
    omnibus.gitlab_ctl("start", "mattermost", check=False, env={"SVWAIT": "1"})


@pytest.mark.parametrize("name", UPLOADS)
def test_uploads_come_back_byte_for_byte_under_their_names(omnibus: Omnibus, name: str) -> None:
    session = omnibus.sign_in("alice")
    content = UPLOADS[name]
    file = session.upload(name, content)
    post = session.post("look", files=[file])
    assert session.download(file) == content
    row = omnibus.sql(f"SELECT postid, name, thumbnailpath, path FROM fileinfo WHERE id = '{file}'")
    kept = name.rpartition("\\")[2]  # Windows browsers used to send whole paths
    user, channel = session.user_id, session.channel_id()
    place = f"teams/noteam/channels/{channel}/users/{user}/{file}/{kept}"
    assert row[0].startswith(f"{post}|{kept}||")
    assert row[0].endswith(f"/{place}")
    path = omnibus.lab.path(f"{omnibus.home}/data/{row[0].rpartition('||')[2]}")
    assert path.read_bytes() == content


def test_pictures_have_a_thumbnail_and_a_preview(omnibus: Omnibus) -> None:
    session = omnibus.sign_in("alice")
    file = session.upload("diagram (1).png", picture())
    kinds = {session.download(file, kind) for kind in ("", "thumbnail", "preview")}
    assert len(kinds) == 3
    row = omnibus.sql(f"SELECT width, height, haspreviewimage FROM fileinfo WHERE id = '{file}'")
    assert row == ["64|48|t"]
    with pytest.raises(ApiError, match="404"):
        session.download(session.upload("plain.txt", b""), "preview")


def test_messages_come_back_as_they_were(omnibus: Omnibus) -> None:
    session = omnibus.sign_in("bob")
    texts = ["Größe 日本語 🦊", "a\u2028b", "<b>&amp;</b> \\ 'x' \"y\"", "two\r\nlines"]
    posts = [session.post(text) for text in texts]
    assert [session.read_post(post) for post in posts] == texts
    assert session.posts()[-len(texts) :] == texts


def test_who_is_not_signed_in_sees_nothing(omnibus: Omnibus) -> None:
    session = omnibus.sign_in("alice")
    session.token = "z" * 26
    with pytest.raises(ApiError) as refusal:
        session.me()
    assert refusal.value.status == 401


def test_ping_tells_of_database_and_files(omnibus: Omnibus) -> None:
    address = f"{omnibus.spec.site_url}/api/v4/system/ping"
    plain, full = (
        json.loads(omnibus.lab.run("curl", "-s", "--noproxy", "*", f"{address}{query}").stdout)
        for query in ("", "?get_server_status=true")
    )
    assert plain["status"] == full["status"] == full["database_status"] == "OK"
    assert "database_status" not in plain


def test_config_json_that_is_no_json_ends_the_server_again_and_again(omnibus: Omnibus) -> None:
    path = omnibus.lab.path(f"{omnibus.home}/config.json")
    good = path.read_text()
    path.write_text("{")
    restart_in_vain(omnibus)
    refused = "failed to load configuration"
    wait_until(lambda: omnibus.lab.read(CURRENT_LOG).count(refused) > 1, 15, "two attempts")
    path.write_text(good)
    omnibus.wait_until_ready()


def test_a_missing_database_is_waited_for(omnibus: Omnibus) -> None:
    omnibus.sql("ALTER DATABASE mattermost_production ALLOW_CONNECTIONS false", "postgres")
    omnibus.gitlab_ctl("stop", "mattermost")
    omnibus.gitlab_ctl("start", "mattermost")
    wait_until(lambda: omnibus.lab.read(CURRENT_LOG).count("Failed to ping DB") > 1)
    process = omnibus.lab.read(SUPERVISE)
    with pytest.raises(LabError, match="502"):
        omnibus.wait_until_ready(0.2)
    omnibus.sql("ALTER DATABASE mattermost_production ALLOW_CONNECTIONS true", "postgres")
    omnibus.wait_until_ready()
    assert omnibus.lab.read(SUPERVISE) == process


def test_its_open_connections_stand_in_the_way_of_dropping_the_database(omnibus: Omnibus) -> None:
    connections = "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'gitlab_mattermost'"
    assert omnibus.sql(connections, "postgres") == ["t"]
    omnibus.gitlab_ctl("stop", "mattermost")
    wait_until(lambda: omnibus.sql(connections, "postgres") == ["f"], what="the connections to end")
    omnibus.gitlab_ctl("start", "mattermost")
    omnibus.wait_until_ready()


@pytest.mark.parametrize("word", ["exit", "silent"])
def test_it_fails_on_purpose(omnibus: Omnibus, word: str) -> None:
    omnibus.lab.write(MISBEHAVE, word)
    restart_in_vain(omnibus)
    with pytest.raises(LabError, match="502"):
        omnibus.wait_until_ready(0.5)
    omnibus.lab.path(MISBEHAVE).unlink()
    restart_in_vain(omnibus)
    omnibus.wait_until_ready()


def test_the_schema_is_a_recent_servers(omnibus: Omnibus) -> None:
    newest = "SELECT version, name FROM db_migrations ORDER BY version DESC LIMIT 1"
    assert omnibus.sql(newest) == ["144|add_roles_schemeid_index"]
    assert omnibus.sql("SELECT value FROM systems WHERE name = 'Version'") == ["10.11.20"]
    kinds = "SELECT relkind, count(*) > 2 FROM pg_class WHERE relkind IN ('m', 'r') GROUP BY 1 ORDER BY 1"
    assert omnibus.sql(kinds) == ["m|t", "r|t"]
    owners = "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert omnibus.sql(owners) == ["gitlab_mattermost"]


def test_a_power_cut_loses_nothing_and_start_brings_it_back(make_lab: MakeLab) -> None:
    lab = make_lab()
    omnibus = install(lab, Spec())
    seed = omnibus.seed()
    before = omnibus.state()
    lab.power_off()
    lab.boot()
    omnibus.start()
    assert omnibus.state().differences(before) == []
    session = omnibus.sign_in("alice")
    assert {post: session.read_post(post) for post in seed.posts} == seed.posts
    digests = {file: hashlib.sha256(session.download(file)).hexdigest() for file in seed.files}
    assert digests == {file: facts["sha256"] for file, facts in seed.files.items()}


def test_the_same_server_reinstalled_is_empty_and_has_other_numbers_and_credentials(
    make_lab: MakeLab,
) -> None:
    lab = make_lab()
    first = install(lab, Spec(data_folder="/srv/uploads"))
    first.seed()
    before, credentials = first.state(), first.secrets()["mattermost"]["gitlab_id"]
    number = lab.run("id", "-u", "mattermost").stdout
    lab.write("/var/backups/ours", "kept")
    first.lose_everything()
    assert lab.run("id", "mattermost", check=False).returncode == 1
    assert not any(
        lab.path(place).exists() for place in ("/opt/gitlab", "/var/opt/gitlab", "/etc/gitlab")
    )
    assert lab.read("/var/backups/ours") == "kept"
    second = install(lab, Spec(seed="second", first_uid=950))
    assert lab.run("id", "-u", "mattermost").stdout != number
    assert second.secrets()["mattermost"]["gitlab_id"] != credentials
    assert second.state().tables["posts"][0] == 0
    assert second.state().differences(before, ignore=["posts"])
    second.sign_in("alice")


def test_gitlabs_own_restore_brings_old_applications_to_new_credentials(make_lab: MakeLab) -> None:
    lab = make_lab()
    first = install(lab, Spec())
    dump = first.gitlab_database_dump()
    first.lose_everything()
    second = install(lab, Spec(seed="second"))
    second.sign_in("alice")
    second.gitlab_database_restore(dump)
    with pytest.raises(SignInFailed, match="unknown client"):
        second.sign_in("alice")
    second.reconfigure()
    with pytest.raises(SignInFailed, match="unknown client"):
        second.sign_in("alice")
