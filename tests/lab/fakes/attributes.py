"""Chef's view of the server: defaults, values from gitlab.rb and the secrets file, and where they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import gitlab_rb, gitlab_secrets, paths

Settings = dict[str, dict[str, Any]]


# The plugin and data folders do not follow a changed home, as in the original.
MATTERMOST: dict[str, Any] = {
    "enable": False,
    "username": "mattermost",
    "group": "mattermost",
    "uid": None,
    "gid": None,
    "home": "/var/opt/gitlab/mattermost",
    "database_name": "mattermost_production",
    "log_file_directory": "/var/log/gitlab/mattermost",
    "service_address": "127.0.0.1",
    "service_port": "8065",
    "service_site_url": None,
    "service_enable_api_team_deletion": True,
    "sql_driver_name": "postgres",
    "file_directory": "/var/opt/gitlab/mattermost/data",
    "team_site_name": "GitLab Mattermost",
    "gitlab_enable": False,
    "plugin_directory": "/var/opt/gitlab/mattermost/plugins",
    "plugin_client_directory": "/var/opt/gitlab/mattermost/client-plugins",
}
POSTGRESQL: dict[str, Any] = {
    "enable": True,
    "dir": "/var/opt/gitlab/postgresql",
    "unix_socket_directory": "/var/opt/gitlab/postgresql",
    "port": 5432,
    "username": "gitlab-psql",
    "group": "gitlab-psql",
    "sql_user": "gitlab",
    "sql_mattermost_user": "gitlab_mattermost",
}
GITLAB_RAILS: dict[str, Any] = {
    "enable": True,
    "dir": "/var/opt/gitlab/gitlab-rails",
    "backup_path": "/var/opt/gitlab/backups",
    "manage_backup_path": True,
    "backup_keep_time": None,
    "db_database": "gitlabhq_production",
}


def defaults(package: paths.Package) -> Settings:
    """The default attributes of this version."""
    mattermost = {**MATTERMOST, "env": {"SSL_CERT_DIR": "/opt/gitlab/embedded/ssl/certs/"}}
    if not package.generation.env_in_home:
        mattermost["env_directory"] = "/opt/gitlab/etc/mattermost/env"
    if package.generation.numbers >= (18, 0):
        mattermost["env"]["GODEBUG"] = "tlsmlkem=0"
    return {
        "mattermost": mattermost,
        "postgresql": dict(POSTGRESQL),
        "gitlab_rails": dict(GITLAB_RAILS),
    }


def collect(package: paths.Package) -> Settings:
    """The normal attributes: gitlab.rb, then the secrets file where gitlab.rb is silent, then what follows from both.

    Section "" holds the two external addresses.
    """
    settings = gitlab_rb.read(paths.GITLAB_RB)
    if not package.generation.bundles_mattermost:
        return settings
    mattermost = settings.setdefault("mattermost", {})
    secrets = gitlab_secrets.fill(package, gitlab_secrets.read())
    for name, value in secrets["mattermost"].items():
        if mattermost.get(name) is None:
            mattermost[name] = value
    if package.generation.invents_credentials:
        identifier, secret = gitlab_secrets.made_credentials(package)
        mattermost["gitlab_id"] = mattermost.get("gitlab_id") or identifier
        mattermost["gitlab_secret"] = mattermost.get("gitlab_secret") or secret
    add_addresses(package, settings)
    return settings


def add_addresses(package: paths.Package, settings: Settings) -> None:
    """What Omnibus derives from the external addresses and the database settings."""
    mattermost, gitlab_url = settings["mattermost"], settings[""].get("external_url")
    site_url = settings[""].get("mattermost_external_url")
    if site_url:
        mattermost.setdefault("enable", True)
        mattermost.setdefault("service_site_url", site_url)
        mattermost["host"] = urlsplit(site_url).hostname
        mattermost["service_use_ssl"] = urlsplit(site_url).scheme == "https"
    if site_url and gitlab_url:
        base = gitlab_url.rstrip("/")
        mattermost.setdefault("gitlab_auth_endpoint", f"{base}/oauth/authorize")
        mattermost.setdefault("gitlab_token_endpoint", f"{base}/oauth/token")
        mattermost.setdefault("gitlab_user_api_endpoint", f"{base}/api/v4/user")
        mattermost.setdefault(
            "service_allowed_untrusted_internal_connections", f" {urlsplit(base).hostname}"
        )
    database = {**defaults(package)["postgresql"], **settings.get("postgresql", {})}
    name = mattermost.get("database_name") or "mattermost_production"
    mattermost["sql_data_source"] = mattermost.get("sql_data_source") or (
        f"user={database['sql_mattermost_user']} host={database['unix_socket_directory']}"
        f" port={database['port']} dbname={name}"
    )


def merge(default: Any, normal: Any) -> Any:
    """Chef's deep merge: `normal` over `default`."""
    if isinstance(default, dict) and isinstance(normal, dict):
        return {key: merge(default.get(key), normal.get(key)) for key in {**default, **normal}}
    return default if normal is None else normal


def effective(package: paths.Package, normal: Settings) -> Settings:
    """Defaults and normal attributes merged."""
    merged: Settings = merge(
        defaults(package), {name: values for name, values in normal.items() if name}
    )
    return merged


def arrange(package: paths.Package, settings: Settings) -> dict[str, Any]:
    """Put the sections where this version's node file has them."""
    generation = package.generation
    arranged: dict[str, Any] = {"gitlab": {generation.rails_key: settings.get("gitlab_rails", {})}}
    below = arranged if generation.postgresql_on_top else arranged["gitlab"]
    below["postgresql"] = settings.get("postgresql", {})
    if package.generation.bundles_mattermost:
        arranged["mattermost"] = settings.get("mattermost", {})
    for name, value in settings.get("", {}).items():
        arranged["gitlab"][
            name if generation.rails_key == "gitlab_rails" else name.replace("_", "-")
        ] = value
    return arranged


def publish(package: paths.Package, normal: Settings) -> None:
    """Write the node file (root only) and, since 10.6, the attributes that everybody may read."""
    node = {
        "name": paths.node_name(),
        "chef_environment": "_default",
        "normal": arrange(package, normal),
        "default": arrange(package, defaults(package)),
        "run_list": ["recipe[gitlab]"],
    }
    paths.folder(paths.NODES, 0o700)
    paths.write(paths.NODES / f"{paths.node_name()}.json", json.dumps(node, indent=2), mode=0o600)
    if package.generation.has_public_attributes:
        public = json.dumps(public_attributes(package, effective(package, normal)), indent=2) + "\n"
        paths.write(paths.VAR / "public_attributes.json", public)


def public_attributes(package: paths.Package, settings: Settings) -> dict[str, Any]:
    """The few attributes in public_attributes.json."""
    database = {
        name: settings["postgresql"][name] for name in ("dir", "unix_socket_directory", "port")
    }
    name = settings["gitlab_rails"]["db_database"]
    rails = {
        package.generation.rails_key: {
            "db_database": name,
            "databases": {"main": {"db_database": name}},
        }
    }
    if package.generation.postgresql_on_top:
        return {"gitlab": rails, "postgresql": database}
    return {"gitlab": {**rails, "postgresql": database}}


def environment(package: paths.Package, mattermost: dict[str, Any]) -> dict[str, str]:
    """The files of the environment folder and their content; None and "" both give an empty file."""
    extra = {name: str(value) for name, value in mattermost["env"].items()}
    if package.generation.renders_config_json:
        return extra
    fixed = {
        "MM_SERVICESETTINGS_LISTENADDRESS": f"{mattermost['service_address']}:{mattermost['service_port']}",
        "MM_INSTALL_TYPE": "gitlab_omnibus",
    }
    taken = {name: ruby_text(mattermost.get(key)) for name, key in ENVIRONMENT.items()}
    values = {**fixed, **taken, **extra}
    if package.generation.numbers < (13, 0):
        del values["MM_INSTALL_TYPE"]
    if package.generation.numbers < (12, 0):
        for name in ("MM_PLUGINSETTINGS_DIRECTORY", "MM_PLUGINSETTINGS_CLIENTDIRECTORY"):
            del values[name]
        del values["MM_SERVICESETTINGS_ENABLEAPITEAMDELETION"]
    return values


def ruby_text(value: Any) -> str:
    """What Ruby's to_s makes of it."""
    return (
        {None: "", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


def environment_folder(mattermost: dict[str, Any]) -> Path:
    """Where the environment files of this server are."""
    return Path(mattermost.get("env_directory") or f"{mattermost['home']}/env")


ENVIRONMENT = {
    "MM_SERVICESETTINGS_SITEURL": "service_site_url",
    "MM_SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS": "service_allowed_untrusted_internal_connections",
    "MM_SERVICESETTINGS_ENABLEAPITEAMDELETION": "service_enable_api_team_deletion",
    "MM_TEAMSETTINGS_SITENAME": "team_site_name",
    "MM_SQLSETTINGS_DRIVERNAME": "sql_driver_name",
    "MM_SQLSETTINGS_DATASOURCE": "sql_data_source",
    "MM_SQLSETTINGS_ATRESTENCRYPTKEY": "sql_at_rest_encrypt_key",
    "MM_LOGSETTINGS_FILELOCATION": "log_file_directory",
    "MM_FILESETTINGS_DIRECTORY": "file_directory",
    "MM_GITLABSETTINGS_ENABLE": "gitlab_enable",
    "MM_GITLABSETTINGS_SECRET": "gitlab_secret",
    "MM_GITLABSETTINGS_ID": "gitlab_id",
    "MM_GITLABSETTINGS_SCOPE": "gitlab_scope",
    "MM_GITLABSETTINGS_AUTHENDPOINT": "gitlab_auth_endpoint",
    "MM_GITLABSETTINGS_TOKENENDPOINT": "gitlab_token_endpoint",
    "MM_GITLABSETTINGS_USERAPIENDPOINT": "gitlab_user_api_endpoint",
    "MM_PLUGINSETTINGS_DIRECTORY": "plugin_directory",
    "MM_PLUGINSETTINGS_CLIENTDIRECTORY": "plugin_client_directory",
}
