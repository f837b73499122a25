"""The bundled Mattermost, found from the files of fake servers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import omnibus, omnibus_files
from gitlab_mm_backup.mattermost.omnibus import Presence
from gitlab_mm_backup.mattermost.site import Account, Kind
from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.system.redaction import Secret
from tests.unit.helpers.trees import ENVIRONMENT, SAMPLE, SECRET, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def modern(tree: Tree) -> Tree:
    return tree.modern()


@pytest.fixture
def old(tree: Tree) -> Tree:
    return tree.old()


def refusal(tree: Tree, *, config_required: bool = True) -> Failure:
    """Return why there is no site, after checking that no secret is shown."""
    with pytest.raises(Failure) as caught:
        omnibus.find(tree.root, config_required=config_required)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {getattr(error, 'hint', '')}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return caught.value


# presence


def test_no_gitlab(tree: Tree) -> None:
    assert omnibus.presence(tree.root) is Presence.NO_GITLAB
    assert refusal(tree).detail == Presence.NO_GITLAB.value


def test_a_gitlab_that_bundles_none(tree: Tree) -> None:
    tree.write_json(omnibus_files.VERSION_MANIFEST, {"build_version": "19.0.0"})
    tree.node()
    tree.write_json(tree.config, {})
    assert omnibus.presence(tree.root) is Presence.REMOVED
    assert "GitLab 19" in refusal(tree).hint


def test_a_service_that_an_aborted_run_of_19_left_is_no_mattermost(modern: Tree) -> None:
    modern.write_json(omnibus_files.VERSION_MANIFEST, {"build_version": "19.0.0"})
    assert omnibus.presence(modern.root) is Presence.REMOVED


def test_never_set_up(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.gitlab()
    tree.write_json("etc/gitlab/gitlab-secrets.json", {"mattermost": {"gitlab_id": "x"}})
    assert omnibus.presence(tree.root) is Presence.NEVER
    assert "mattermost_external_url" in refusal(tree).hint


def test_disabled(tree: Tree) -> None:
    tree.gitlab()
    tree.write("var/opt/gitlab/mattermost/config.json", "{}")
    assert omnibus.presence(tree.root) is Presence.DISABLED
    assert "enable" in refusal(tree).hint


def test_disabled_with_another_home(tree: Tree) -> None:
    tree.gitlab()
    normal = {"mattermost": {"home": "/srv/mm"}}
    tree.write_json(f"{omnibus_files.NODES}/x.json", {"default": {}, "normal": normal})
    assert omnibus.presence(tree.root) is Presence.NEVER
    tree.write("srv/mm/config.json", "{}")
    assert omnibus.presence(tree.root) is Presence.DISABLED


def test_enabled_is_what_the_supervisor_is_told_to_run(modern: Tree) -> None:
    """The link leads nowhere outside the server, and that does not matter."""
    assert omnibus.presence(modern.root) is Presence.ENABLED


# a modern server


def test_a_modern_site(modern: Tree) -> None:
    site = omnibus.find(modern.root)
    superuser = Login("gitlab-psql", "gitlab-psql")
    assert site.kind is Kind.OMNIBUS
    assert (site.version, site.gitlab.version) == ("10.11.20", "18.11.9")
    assert site.account == Account("mattermost", "mattermost")
    assert (site.config_file, site.environment_folder) == (modern.config, modern.env)
    assert {name: value.reveal() for name, value in site.environment.items()} == ENVIRONMENT
    assert site.database == Endpoint(
        "/var/opt/gitlab/postgresql",
        5432,
        "mattermost_production",
        owner=Login("gitlab_mattermost", "mattermost"),
        admin=superuser,
    )
    assert site.gitlab.database == Endpoint(
        "/var/opt/gitlab/postgresql",
        5432,
        "gitlabhq_production",
        owner=Login("gitlab", "git"),
        admin=superuser,
    )
    assert site.client_programs == modern.root / "opt/gitlab/embedded/bin"
    assert site.settings.text("ServiceSettings", "SiteURL") == "https://chat.example.org"
    assert site.root == modern.root


def test_a_site_shows_no_secret(modern: Tree) -> None:
    assert SECRET not in repr(omnibus.find(modern.root))


def test_the_values_of_gitlab_rb_count(modern: Tree) -> None:
    modern.node(
        mattermost={
            "username": "chat",
            "group": "staff",
            "database_name": "unused",
            "file_directory": "/mnt/uploads",
            "plugin_directory": "/mnt/plugins",
        }
    )
    modern.psql_rc(psql_user="pg", psql_host="/run/pg", psql_port="5433", psql_dbname="gl")
    modern.variables(
        MM_SQLSETTINGS_DATASOURCE="user=role host=/run/pg port=5433 dbname=chat_production"
    )
    site = omnibus.find(modern.root)
    assert site.account == Account("chat", "staff")
    assert site.database == Endpoint(
        "/run/pg", 5433, "chat_production", Login("role", "chat"), Login("pg", "pg")
    )
    assert site.gitlab.database is not None
    assert (site.gitlab.database.name, site.gitlab.database.port) == ("gl", 5433)
    assert site.folders.real["data"] == Path("/mnt/uploads")
    assert site.folders.real["plugins"] == Path("/mnt/plugins")


def test_the_old_name_of_the_account_attribute(modern: Tree) -> None:
    modern.node(mattermost={"user": "chat"})
    assert omnibus.find(modern.root).account.user == "chat"


def test_default_attributes_count_where_normal_ones_are_silent(modern: Tree) -> None:
    modern.node(default={"mattermost": {"home": "/default", "username": "chat"}})
    site = omnibus.find(modern.root)
    assert (site.account.user, site.config_file) == ("chat", modern.config)


# folders


def test_folders_are_where_settings_place_them_with_links_followed(modern: Tree) -> None:
    uploads = modern.root / "mnt/uploads"
    uploads.mkdir(parents=True)
    (modern.home / "linked").symlink_to(uploads)
    modern.variables(
        MM_FILESETTINGS_DIRECTORY=str(modern.home / "linked"),
        MM_PLUGINSETTINGS_DIRECTORY="/elsewhere/plugins",
    )
    folders = omnibus.find(modern.root).folders
    home = Path(os.path.realpath(modern.home))
    assert folders.configured["data"] == modern.home / "linked"
    assert folders.real == {
        "home": home,
        "data": Path(os.path.realpath(uploads)),
        "plugins": Path("/elsewhere/plugins"),
        "client-plugins": home / "client-plugins",
    }


def test_relative_folders_of_the_sample_are_ignored(modern: Tree) -> None:
    assert SAMPLE["FileSettings"]["Directory"] == "./data/"
    assert omnibus.find(modern.root).folders.real["data"] == modern.home / "data"


# the home, the environment folder, and what is known after a failed reconfigure


def test_without_attributes_the_service_s_own_script_names_the_home(modern: Tree) -> None:
    (modern.root / omnibus_files.NODES / "host.json").unlink()
    site = omnibus.find(modern.root)
    assert site.config_file == modern.config
    assert site.account == Account("mattermost", "mattermost")
    assert site.folders.real["data"] == modern.home / "data"


def test_a_half_made_node_is_unknown_and_not_unset(modern: Tree) -> None:
    document = {"default": {"mattermost": {"home": "/default"}}}
    modern.write_json(f"{omnibus_files.NODES}/host.json", document)
    assert omnibus.find(modern.root).config_file == modern.config


@pytest.mark.parametrize(
    "line",
    ["mattermost --config={home}/config.json", "mattermost -c {home}/config.json >>/dev/null"],
)
def test_other_ways_to_name_the_home_in_the_script(line: str, modern: Tree) -> None:
    (modern.root / omnibus_files.NODES / "host.json").unlink()
    modern.write(
        "opt/gitlab/sv/mattermost/run", f"#!/bin/sh\nexec {line.format(home=modern.home)}\n"
    )
    assert omnibus.find(modern.root).config_file == modern.config


def test_without_a_script_too_the_home_is_omnibus_s_default(
    modern: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (modern.root / omnibus_files.NODES / "host.json").unlink()
    (modern.root / "opt/gitlab/sv/mattermost/run").unlink()
    assert omnibus._HOME == "/var/opt/gitlab/mattermost"
    monkeypatch.setattr(omnibus, "_HOME", str(modern.home))
    assert omnibus.find(modern.root).config_file == modern.config


def test_the_environment_folder_that_the_node_names_comes_first(modern: Tree) -> None:
    """But for the start script, which says what the service really reads."""
    folder = modern.root / "srv/env"
    modern.variables_in(folder, {**ENVIRONMENT, "MM_SERVICESETTINGS_SITEURL": "https://other"})
    (modern.root / "opt/gitlab/sv/mattermost/run").unlink()
    modern.node(mattermost={"env_directory": str(folder)})
    site = omnibus.find(modern.root)
    assert site.environment_folder == folder
    assert site.settings.text("ServiceSettings", "SiteURL") == "https://other"


def test_a_named_environment_folder_that_is_gone_is_passed_over(modern: Tree) -> None:
    modern.node(mattermost={"env_directory": "/no/such/folder"})
    assert omnibus.find(modern.root).environment_folder == modern.env


def test_gitlab_11_has_it_in_the_home(modern: Tree) -> None:
    modern.gitlab("11.3.4", "5.2.1")
    modern.env.rename(modern.home / "env")
    site = omnibus.find(modern.root)
    assert site.environment_folder == modern.home / "env"
    assert site.database.name == "mattermost_production"


def test_without_any_environment_folder(modern: Tree) -> None:
    modern.gitlab("10.2.0", "4.3.0")
    modern.write_json(modern.config, {"SqlSettings": {"DriverName": "postgres"}})
    for path in modern.env.iterdir():
        path.unlink()
    modern.env.rmdir()
    site = omnibus.find(modern.root)
    assert site.environment_folder is None
    assert site.environment == {}


# versions of Mattermost


def test_the_last_run_version_counts_where_the_package_is_silent(modern: Tree) -> None:
    modern.write_json(omnibus_files.VERSION_MANIFEST, {"build_version": "18.11.9"})
    assert omnibus.find(modern.root).version == "unknown"
    modern.write(modern.home / "VERSION", "10.11.19\n")
    assert omnibus.find(modern.root).version == "10.11.19"


# the database


def data_source(tree: Tree, text: str) -> Endpoint:
    tree.variables(MM_SQLSETTINGS_DATASOURCE=text)
    return omnibus.find(tree.root).database


ODD = r"p@ss:w/o r#d?%'\"&=+ü"
KEYWORD = ODD.replace("\\", "\\\\").replace("'", "\\'")
URL = "p%40ss%3Aw%2Fo%20r%23d%3F%25%27%5C%22%26%3D%2B%C3%BC"


@pytest.mark.parametrize(
    "text",
    [
        f"host=db.example.org port=6000 user=chat dbname=mm password='{KEYWORD}' sslmode=require",
        f"postgres://chat:{URL}@db.example.org:6000/mm?sslmode=require",
        f"postgresql://chat:{URL}@db.example.org:6000/mm?sslmode=require&connect_timeout=10",
        # What Mattermost's own documents give, for lib/pq alone.
        f"postgres://chat:{URL}@db.example.org:6000/mm?sslmode=require&binary_parameters=yes",
        f"host=db.example.org port=6000 user=chat dbname=mm password='{KEYWORD}' sslmode=require "
        "binary_parameters=yes",
    ],
)
def test_a_database_elsewhere_with_an_odd_password(text: str, modern: Tree) -> None:
    found = data_source(modern, text)
    login = Login("chat", None, Secret(ODD))
    assert found == Endpoint("db.example.org", 6000, "mm", login, login, {"sslmode": "require"})
    assert not found.by_socket


@pytest.mark.parametrize(
    ("text", "port", "name", "role"),
    [
        ("user=chat dbname=mm", 5432, "mm", "chat"),
        ("host='' dbname=mm", 5432, "mm", "gitlab_mattermost"),
        ("postgres:///mm", 5432, "mm", "gitlab_mattermost"),
        (
            "postgres:///mm?host=/var/opt/gitlab/postgresql&port=5434",
            5434,
            "mm",
            "gitlab_mattermost",
        ),
        ("", 5432, "mattermost_production", "gitlab_mattermost"),
    ],
)
def test_what_a_data_source_leaves_out_is_the_bundled_server_s(
    text: str, port: int, name: str, role: str, modern: Tree
) -> None:
    found = data_source(modern, text)
    assert (found.host, found.port, found.name) == ("/var/opt/gitlab/postgresql", port, name)
    assert found.owner == Login(role, "mattermost")
    assert found.admin == Login("gitlab-psql", "gitlab-psql")


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://chat:{SECRET}@[::1/mm",
        f"user=chat password='{SECRET}",
        f"chat:{SECRET}@tcp(db:3306)/mm?charset=utf8",
        f"user chat password {SECRET}",
        f"password={SECRET} nonsense=1 and more",
        f"host=db port=ten password={SECRET}",
        f"host=one,two port=5432,5433,5434 password={SECRET}",
        f"postgres://chat:{SECRET}/2@db/mm",
        f"postgres://chat:12/{SECRET}@db/mm",
        f"postgres://chat:{SECRET}#2@db/mm",
        f"postgres://chat:{SECRET}?2@db/mm",
        f"postgres://chat:{SECRET} 2@db/mm",
        f"postgres://chat:{SECRET}@db:x/mm",
        f"postgres://chat:{SECRET}%zz@db/mm",
    ],
)
def test_a_data_source_that_is_none_is_a_failure_without_its_text(text: str, modern: Tree) -> None:
    modern.variables(MM_SQLSETTINGS_DATASOURCE=text)
    assert "DataSource" in refusal(modern).message


def test_an_at_sign_in_the_password_is_part_of_it(modern: Tree) -> None:
    """Go's net/url takes the last one."""
    found = data_source(modern, "postgres://chat:p@ss:w@rd@db.example.org:6000/mm?sslmode=require")
    assert found.owner == Login("chat", None, Secret("p@ss:w@rd"))
    assert (found.host, found.port, found.name) == ("db.example.org", 6000, "mm")


@pytest.mark.parametrize(
    ("more", "session"),
    [
        ({"search_path": "mm,public"}, {"search_path": "mm,public"}),
        (
            {
                "statement_timeout": "300000",
                "timezone": "UTC",
                "disable_prepared_binary_result": "yes",
            },
            {},
        ),
        (
            {"options": "-c search_path=a\\ b -cstatement_timeout=5 --role=x"},
            {"search_path": "a b", "role": "x"},
        ),
        ({"Search_Path": "mm", "fallback_application_name": "mattermost"}, {"search_path": "mm"}),
    ],
)
@pytest.mark.parametrize("form", ["url", "keywords"])
def test_settings_of_the_server_do_not_make_it_unreadable(
    more: dict[str, str], session: dict[str, str], form: str, modern: Tree
) -> None:
    if form == "url":
        text = f"postgres://chat:pw@db:6000/mm?{urlencode({'sslmode': 'disable', **more})}"
    else:
        text = "host=db port=6000 user=chat password=pw dbname=mm sslmode=disable"
        for name, value in more.items():
            quoted = value.replace("\\", "\\\\")
            text += f" {name}='{quoted}'"
    found = data_source(modern, text)
    assert found.session == session
    assert found.options == {"sslmode": "disable"}


def test_our_sessions_have_the_tables_and_the_role_of_mattermost_s() -> None:
    owner, admin = Login("chat"), Login("postgres")
    endpoint = Endpoint("db", 1, "mm", owner, admin, session={"search_path": "a b", "role": "x"})
    assert endpoint.settings() == "-c search_path=a\\ b -c role=x "
    assert endpoint.settings("role") == "-c role=x "


@pytest.mark.parametrize("host", ["/", "//", "/.", "/../postgresql/"])
def test_the_bundled_socket_is_known_however_it_is_written(host: str, modern: Tree) -> None:
    found = data_source(modern, f"user=chat host=/var/opt/gitlab/postgresql{host} dbname=mm")
    assert found.host == "/var/opt/gitlab/postgresql"
    assert found.admin == Login("gitlab-psql", "gitlab-psql")


@pytest.mark.parametrize(
    "text",
    [
        "host=one,two port=5432,5433 user=chat",
        "postgres://chat@one:5432,two:5433/?connect_timeout=5",
    ],
)
def test_of_several_hosts_the_one_is_meant_that_can_be_written_to(text: str, modern: Tree) -> None:
    found = data_source(modern, text)
    assert (found.host, found.port) == ("one,two", "5432,5433")
    assert found.options == {"target_session_attrs": "read-write"}


def test_an_address_of_ipv6(modern: Tree) -> None:
    found = data_source(modern, "postgres://chat@[2001:db8::1]:6000/mm")
    assert (found.host, found.port) == ("2001:db8::1", 6000)


def test_files_are_read_as_mattermost_s_account(modern: Tree) -> None:
    found = data_source(modern, "host=db user=chat sslmode=verify-full sslcert=/c sslkey=/k")
    assert found.owner == Login("chat", "mattermost")
    authorities = "/etc/ssl/certs/ca-certificates.crt"
    files = {"sslrootcert": authorities, "sslcert": "/c", "sslkey": "/k"}
    assert found.options == {"sslmode": "verify-full", **files}


def test_what_stands_in_the_text_itself_is_a_secret(modern: Tree) -> None:
    found = data_source(
        modern, "host=db user=chat sslmode=require sslinline=true sslcert=CERT sslkey='K E Y'"
    )
    assert found.owner == Login("chat")
    inline = {"sslcert": Secret("CERT"), "sslkey": Secret("K E Y")}
    assert found.options == {"sslmode": "require", **inline}
    assert "CERT" not in repr(found)


def test_a_socket_has_no_tls(modern: Tree) -> None:
    found = data_source(modern, "host=/run/postgresql user=chat sslmode=verify-full sslcert=/c")
    assert (found.options, found.owner) == ({}, Login("chat", "mattermost"))


def test_what_the_data_source_leaves_out_is_in_the_environment_of_the_service(modern: Tree) -> None:
    modern.variables(PGPASSWORD="pw", PGSSLMODE="require", PGHOST="elsewhere")
    found = data_source(modern, "host=db user=chat")
    assert found.owner == Login("chat", None, Secret("pw"))
    assert (found.host, found.options) == ("db", {"sslmode": "require"})


def test_mysql_is_refused(modern: Tree) -> None:
    modern.variables(
        MM_SQLSETTINGS_DRIVERNAME="mysql",
        MM_SQLSETTINGS_DATASOURCE=f"user:{SECRET}@tcp(db:3306)/mm",
    )
    failure = refusal(modern)
    assert "MySQL" in failure.message
    assert "migration-assist" in failure.hint


def test_from_gitlab_11_on_the_sample_in_config_json_does_not_count(modern: Tree) -> None:
    (modern.env / "MM_SQLSETTINGS_DATASOURCE").unlink()
    found = omnibus.find(modern.root).database
    assert found.host == "/var/opt/gitlab/postgresql"
    assert found.name == "mattermost_production"
    assert found.owner.password is None


def test_in_gitlab_10_config_json_counts(old: Tree) -> None:
    site = omnibus.find(old.root)
    assert site.database == Endpoint(
        "/sock",
        5433,
        "mm_ten",
        Login("gitlab_mattermost", "mattermost"),
        Login("gitlab-psql", "gitlab-psql"),
    )
    assert site.environment_folder == old.home / "env"
    assert list(site.environment) == ["SSL_CERT_DIR"]
    assert site.gitlab.version == "10.5.8"
    assert site.version == "4.6.2"


def test_the_database_s_name_may_come_from_the_node(modern: Tree) -> None:
    modern.node(mattermost={"database_name": "chat"})
    assert data_source(modern, "user=gitlab_mattermost").name == "chat"


# where the bundled PostgreSQL is


def without_rc(tree: Tree) -> None:
    (tree.root / omnibus_files.PSQL_RC).unlink()
    tree.variables(MM_SQLSETTINGS_DATASOURCE="user=gitlab_mattermost")


def test_public_attributes_tell_the_socket(modern: Tree) -> None:
    without_rc(modern)
    modern.write_json(
        omnibus_files.PUBLIC_ATTRIBUTES,
        {"postgresql": {"unix_socket_directory": "/run/pg", "port": 5433}},
    )
    found = omnibus.find(modern.root).database
    assert (found.host, found.port) == ("/run/pg", 5433)


@pytest.mark.parametrize("place", ["postgresql", "gitlab.postgresql"])
def test_the_node_tells_the_socket(place: str, modern: Tree) -> None:
    without_rc(modern)
    attributes: dict[str, Any] = {"unix_socket_directory": "/run/pg", "port": 5433}
    for name in reversed(place.split(".")):
        attributes = {name: attributes}
    modern.node(**attributes)
    found = omnibus.find(modern.root).database
    assert (found.host, found.port) == ("/run/pg", 5433)


def test_without_any_word_the_socket_is_at_omnibus_s_default(modern: Tree) -> None:
    without_rc(modern)
    found = omnibus.find(modern.root).database
    assert (found.host, found.port) == ("/var/opt/gitlab/postgresql", 5432)
    assert found.admin == Login("gitlab-psql", "gitlab-psql")


def test_an_rc_that_makes_no_sense_is_a_failure(modern: Tree) -> None:
    modern.psql_rc(psql_user="gitlab-psql", psql_host="/sock", psql_port="five")
    modern.variables(MM_SQLSETTINGS_DATASOURCE="user=gitlab_mattermost")
    refusal(modern)


# GitLab itself


@pytest.mark.parametrize("key", ["gitlab_rails", "gitlab-rails"])
def test_a_gitlab_on_another_host_has_no_database_here(key: str, modern: Tree) -> None:
    modern.node(gitlab={key: {"enable": False}})
    assert omnibus.find(modern.root).gitlab.database is None


@pytest.mark.parametrize("key", ["gitlab_rails", "gitlab-rails"])
def test_a_gitlab_whose_database_is_elsewhere_has_none_here(key: str, modern: Tree) -> None:
    modern.node(gitlab={key: {"db_host": "db.example.org"}})
    assert omnibus.find(modern.root).gitlab.database is None


def test_without_a_bundled_server_gitlab_has_no_database_here(modern: Tree) -> None:
    without_rc(modern)
    assert omnibus.find(modern.root).gitlab.database is None


@pytest.mark.parametrize(
    ("section", "url"),
    [
        ({"host": "git.example.org", "port": 443, "https": True}, "https://git.example.org"),
        ({"host": "git.example.org", "port": 80, "https": False}, "http://git.example.org"),
        ({"host": "git", "port": 8443, "https": True}, "https://git:8443"),
        ({"host": "git", "port": 443, "https": False}, "http://git:443"),
        ({"host": "git", "https": True}, "https://git"),
        ({"host": "g", "port": 443, "https": True, "relative_url_root": "/gl"}, "https://g/gl"),
        ({"host": "", "port": 443}, ""),
        ({}, ""),
        ("text", ""),
    ],
)
def test_the_url_of_gitlab(section: object, url: str, modern: Tree) -> None:
    assert omnibus.find(modern.root).gitlab.url == ""
    text = json.dumps({"production": {"gitlab": section}})  # which is YAML too
    modern.write(omnibus_files.GITLAB_YML, text)
    assert omnibus.find(modern.root).gitlab.url == url


# a config.json that is broken


BROKEN = [
    b"",
    b"{",
    f'{{"GitLabSettings": {{"Secret": "{SECRET}"'.encode(),
    f'["{SECRET}"]'.encode(),
    f'"{SECRET}\xff"'.encode("latin-1"),
    f'{{"a": "{SECRET}\n"}}'.encode("latin-1"),
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_config_json_is_a_failure(content: bytes, modern: Tree) -> None:
    modern.config.write_bytes(content)
    failure = refusal(modern)
    assert str(modern.config) in failure.message
    assert str(modern.config) in failure.hint


@pytest.mark.parametrize("content", BROKEN)
def test_a_restore_may_mend_a_broken_config_json(content: bytes, modern: Tree) -> None:
    modern.config.write_bytes(content)
    site = omnibus.find(modern.root, config_required=False)
    assert site.database.name == "mattermost_production"
    assert site.settings.text("GitLabSettings", "Id") == "an-application-id"
    assert site.settings.flag("GitLabSettings", "Enable")


def test_a_missing_config_json(modern: Tree) -> None:
    modern.config.unlink()
    assert "cannot be read" in refusal(modern).message
    assert omnibus.find(modern.root, config_required=False).config_file == modern.config


@pytest.mark.parametrize("inside", ["text", None, ["list"], 7])
def test_sections_that_are_none_are_no_crash(inside: object, modern: Tree) -> None:
    modern.write_json(modern.config, dict.fromkeys(SAMPLE, inside))
    assert omnibus.find(modern.root).folders.real["data"] == modern.home / "data"
