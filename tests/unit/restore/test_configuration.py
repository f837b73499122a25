"""What becomes of a set's config.json on a standalone site, and what a person sees of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from gitlab_mm_backup.mattermost import json_file
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.mattermost.site import Folders, Kind, Site
from gitlab_mm_backup.restore import configuration
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system.redaction import Secret

OLD = "/var/opt/gitlab/mattermost"
CONFIG: dict[str, Any] = {
    "ServiceSettings": {"SiteURL": "", "ListenAddress": ":8065", "EnableX": False},
    "SqlSettings": {
        "DriverName": "mysql",
        "DataSource": "sample",
        "DataSourceReplicas": ["old"],
        "AtRestEncryptKey": "of the file",
    },
    "FileSettings": {"Directory": "./data/", "PublicLinkSalt": "salt"},
    "LogSettings": {"FileLocation": "/var/log/gitlab/mattermost"},
    "SamlSettings": {"IdpCertificateFile": f"{OLD}/saml.crt"},
    "PluginSettings": {"Plugins": {"one.plugin": {"key": f"{OLD}/plugins/x"}}},
}
ENVIRONMENT = {
    "MM_SERVICESETTINGS_SITEURL": "https://chat.example.test",
    "MM_SERVICESETTINGS_LISTENADDRESS": "127.0.0.1:8065",
    "MM_SERVICESETTINGS_ENABLEX": "true",
    "MM_SQLSETTINGS_DATASOURCE": "old source",
    "MM_SQLSETTINGS_ATRESTENCRYPTKEY": "of the service",
    "MM_FILESETTINGS_DIRECTORY": f"{OLD}/data",
    "MM_GITLABSETTINGS_SECRET": "very secret",
    "MM_INSTALL_TYPE": "gitlab_omnibus",
    "MM_FEATUREFLAGS_ODD": "1",
}
HERE = {
    "ServiceSettings": {"SiteURL": "", "ListenAddress": ":9000"},
    "SqlSettings": {"DriverName": "postgres", "DataSource": "here", "DataSourceReplicas": []},
    "FileSettings": {"Directory": "./data/"},
    "LogSettings": {"FileLocation": ""},
}


def a_set(tmp_path: Path) -> BackupSet:
    kept = {"config": CONFIG, "environment": ENVIRONMENT}
    (tmp_path / "settings.json").write_text(json.dumps(kept))
    files = SimpleNamespace(
        folders={"home": OLD, "data": f"{OLD}/data", "plugins": f"{OLD}/plugins"}
    )
    manifest = SimpleNamespace(files=files, kind="omnibus")
    made = SimpleNamespace(manifest=manifest, file=lambda part: tmp_path / f"{part}.json")
    return cast(BackupSet, made)


def a_site(tree: dict[str, Any] | None = None, environment: tuple[str, ...] = ()) -> Site:
    base = Path("/opt/mattermost")
    places = {"home": base / "config", "data": base / "data", "plugins": base / "plugins"}
    made = SimpleNamespace(
        kind=Kind.STANDALONE,
        settings=EffectiveConfig(tree or HERE),
        environment={name: Secret("x") for name in environment},
        folders=Folders(places, places),
        config_file=base / "config/config.json",
    )
    return cast(Site, made)


def baked(tmp_path: Path, site: Site) -> dict[str, Any]:
    patch = configuration.operations(a_set(tmp_path), site, CONFIG)
    return dict(json_file.applied(CONFIG, patch, "config.json"))


def test_the_environment_is_written_and_the_host_s_own_stays(tmp_path: Path) -> None:
    made = baked(tmp_path, a_site())
    assert made["ServiceSettings"] == {
        "SiteURL": "https://chat.example.test",
        "ListenAddress": ":9000",
        "EnableX": True,
    }
    assert made["SqlSettings"] == {
        "DriverName": "postgres",
        "DataSource": "here",
        "DataSourceReplicas": [],
        "AtRestEncryptKey": "of the service",
    }
    assert made["FileSettings"] == {"Directory": "./data/", "PublicLinkSalt": "salt"}
    assert made["LogSettings"]["FileLocation"] == ""
    assert made["GitLabSettings"] == {"Secret": "very secret"}
    assert "MM_INSTALL_TYPE" not in json.dumps(made)


def test_paths_into_the_set_s_folders_lead_to_the_site_s(tmp_path: Path) -> None:
    made = baked(tmp_path, a_site())
    assert made["SamlSettings"]["IdpCertificateFile"] == "/opt/mattermost/config/saml.crt"
    assert made["PluginSettings"]["Plugins"] == {"one.plugin": {"key": "/opt/mattermost/plugins/x"}}


def test_an_address_of_the_host_wins(tmp_path: Path) -> None:
    tree = {**HERE, "ServiceSettings": {"SiteURL": "https://new.example.test", "ListenAddress": ""}}
    made = baked(tmp_path, a_site(tree))
    assert made["ServiceSettings"]["SiteURL"] == "https://new.example.test"
    assert made["ServiceSettings"]["ListenAddress"] == "127.0.0.1:8065"


def test_what_the_unit_says_is_not_written(tmp_path: Path) -> None:
    site = a_site(environment=("MM_SQLSETTINGS_DATASOURCE",))
    assert baked(tmp_path, site)["SqlSettings"]["DataSource"] == "sample"
    site = a_site(environment=("MM_SERVICESETTINGS_ENABLEX",))
    assert baked(tmp_path, site)["ServiceSettings"]["EnableX"] is False


def test_what_has_no_place_is_told(tmp_path: Path) -> None:
    (told,) = configuration.left_behind(a_set(tmp_path), a_site())
    assert "MM_FEATUREFLAGS_ODD" in told
    assert "MM_INSTALL_TYPE" not in told
    assert "EnableX" not in told


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    lines = configuration.shown(configuration.operations(a_set(tmp_path), a_site(), CONFIG))
    assert "replace /ServiceSettings/SiteURL: https://chat.example.test" in lines
    assert "replace /ServiceSettings/EnableX: True" in lines
    text = "\n".join(lines)
    for secret in ("very secret", "of the service", "here", "/opt/mattermost/plugins/x"):
        assert secret not in text


def test_a_second_baking_changes_nothing(tmp_path: Path) -> None:
    made = baked(tmp_path, a_site())
    assert configuration.operations(a_set(tmp_path), a_site(made), made) == []
