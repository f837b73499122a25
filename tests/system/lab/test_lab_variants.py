"""Other kinds of servers that the lab can be: versions, forms of the secret, things switched off, other places."""

from __future__ import annotations

import pytest

from tests.lab.fakes import oauth
from tests.lab.omnibus import SignInFailed, Spec, install
from tests.system.conftest import MakeLab


@pytest.mark.parametrize(
    ("version", "form"), [("11.3.x", "plain"), ("12.10.x", "plain"), ("15.11.x", "sha512")]
)
def test_every_generation_and_form_of_the_secret_signs_in(
    make_lab: MakeLab, version: str, form: str
) -> None:
    omnibus = install(make_lab(), Spec(version=version, secret_form=form))
    value = omnibus.sql("SELECT secret FROM oauth_applications", "gitlabhq_production")
    assert value == [oauth.stored(omnibus.secrets()["mattermost"]["gitlab_secret"], form)]
    assert omnibus.sign_in("alice").me()["username"] == "alice"


def test_credentials_in_gitlab_rb_win_and_are_written_back(make_lab: MakeLab) -> None:
    omnibus = install(make_lab(), Spec())
    omnibus.append_to_gitlab_rb("mattermost['gitlab_secret'] = 'of the admin' # by hand")
    omnibus.reconfigure()
    assert omnibus.environment()["MM_GITLABSETTINGS_SECRET"] == "of the admin"
    assert omnibus.secrets()["mattermost"]["gitlab_secret"] == "of the admin"
    with pytest.raises(SignInFailed):
        omnibus.sign_in("alice")


def test_reconfigure_registers_only_while_it_is_told_to(make_lab: MakeLab) -> None:
    omnibus = install(make_lab(), Spec())
    omnibus.sql("DELETE FROM oauth_applications", "gitlabhq_production")
    omnibus.reconfigure()
    with pytest.raises(SignInFailed, match="unknown client"):
        omnibus.sign_in("alice")
    omnibus.append_to_gitlab_rb("mattermost['register_as_oauth_app'] = true")
    omnibus.reconfigure()
    omnibus.sign_in("alice")


@pytest.mark.parametrize("state", ["disabled", "never"])
def test_mattermost_may_be_off(make_lab: MakeLab, state: str) -> None:
    omnibus = install(make_lab(), Spec(mattermost=state))
    assert omnibus.gitlab_ctl("status", "mattermost").stdout == ""
    assert "email_invite_salt" in omnibus.secrets()["mattermost"]
    assert omnibus.lab.path(omnibus.home).exists() == (state == "disabled")
    found = omnibus.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'matter%'", "postgres")
    assert found == ["1" if state == "disabled" else "0"]


def test_sign_in_may_be_off(make_lab: MakeLab) -> None:
    omnibus = install(make_lab(), Spec(sign_in=False))
    assert "gitlab_id" not in omnibus.secrets()["mattermost"]
    with pytest.raises(SignInFailed, match="not available") as failure:
        omnibus.sign_in("alice")
    assert failure.value.status == 501


def test_other_places_and_ports(make_lab: MakeLab) -> None:
    lab = make_lab()
    spec = Spec(
        home="/srv/mattermost",
        data_folder="/srv/uploads",
        database="chat",
        port=5433,
        backup_path="/srv/backups",
        backup_keep_time=3600,
    )
    omnibus = install(lab, spec)
    file = omnibus.sign_in("alice").upload("a.txt", b"a")
    path = omnibus.sql(f"SELECT path FROM fileinfo WHERE id = '{file}'")[0]
    assert lab.path(f"/srv/uploads/{path}").read_bytes() == b"a"
    assert lab.path("/srv/mattermost/config.json").exists()
    assert "port=5433 dbname=chat" in omnibus.environment()["MM_SQLSETTINGS_DATASOURCE"]
    backup = lab.read("/var/opt/gitlab/gitlab-rails/etc/gitlab.yml").partition("backup:")[2]
    assert 'path: "/srv/backups"' in backup
    assert "keep_time: 3600 " in backup
