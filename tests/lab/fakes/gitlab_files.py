"""Files of GitLab itself: gitlab.yml, the shell files in /opt/gitlab/etc, and how its parts are started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import paths

Settings = dict[str, dict[str, Any]]
RAILS = paths.OPT / "embedded/service/gitlab-rails"
GITLAB_YML = """\
# This file is managed by gitlab-ctl. Manual changes will be
# erased! To change the contents below, edit /etc/gitlab/gitlab.rb
# and run `sudo gitlab-ctl reconfigure`.

production: &base
  gitlab:
    ## Web server settings (note: host is the FQDN, do not include http://)
    host: {host}
    port: {port}
    https: {https}
    user: git
    email_from: gitlab@{host}

  ## Backup settings
  backup:
    path: "{backup_path}"   # Relative paths are relative to Rails.root (default: tmp/backups/)
{gitaly}    archive_permissions: {backup_archive_permissions} # Permissions for the backup.tar file (default: 0600)
    keep_time: {backup_keep_time}   # default: 0 (forever) (in seconds)
    pg_schema: {backup_pg_schema}   # default: nil, it means that all schemas will be backed up
    upload:
      # Fog storage connection settings, see http://fog.io/storage/ .
      connection: {connection}
      # The remote 'directory' to store your backups. For S3, this would be the bucket name.
      remote_directory: {remote_directory}
      multipart_chunk_size: {backup_multipart_chunk_size}
      encryption: {backup_encryption}
{later}      storage_class: {backup_storage_class}

development:
  <<: *base
"""
KEYS = (
    "backup_path",
    "backup_archive_permissions",
    "backup_keep_time",
    "backup_pg_schema",
    "backup_multipart_chunk_size",
    "backup_encryption",
    "backup_storage_class",
)


def write_all(package: paths.Package, settings: Settings, addresses: dict[str, Any]) -> None:
    """Write gitlab.yml, database.yml, the two shell files and GitLab's own VERSION copy."""
    rails, database = settings["gitlab_rails"], settings["postgresql"]
    etc = Path(rails["dir"]) / "etc"
    old = package.generation.numbers < (11, 0)
    group, mode = ("root", 0o644) if old else ("git", 0o640)
    paths.folder(Path(rails["dir"]), 0o700, "git", "git")
    if rails["enable"]:
        paths.write(etc / "gitlab.yml", gitlab_yml(package, rails, addresses), mode, "root", group)
        paths.write(etc / "database.yml", database_yml(rails, database), mode, "root", group)
        for name in ("gitlab.yml", "database.yml"):
            paths.link(RAILS / "config" / name, etc / name)
    paths.write(Path(rails["dir"]) / "VERSION", package.version)
    paths.write(paths.OPT / "etc/gitlab-rails-rc", "gitlab_user='git'\ngitlab_group='git'\n")
    paths.write(paths.OPT / "etc/gitlab-psql-rc", psql_rc(package, rails, database))


def gitlab_yml(package: paths.Package, rails: dict[str, Any], addresses: dict[str, Any]) -> str:
    """The parts of gitlab.yml that matter here; a value that is not set is empty, which YAML reads as null."""
    numbers, url = package.generation.numbers, urlsplit(addresses["external_url"])
    values = {key: "" if rails.get(key) is None else rails[key] for key in KEYS}
    connection, remote = (
        rails.get("backup_upload_connection"),
        rails.get("backup_upload_remote_directory"),
    )
    later = ""
    if numbers >= (11, 8):
        later += f"      encryption_key: {rails.get('backup_encryption_key') or ''}\n"
    if numbers >= (14, 3):
        later += f"      storage_options: {json.dumps(rails.get('backup_upload_storage_options') or {})}\n"
    return GITLAB_YML.format(
        host=url.hostname,
        port=url.port or {"http": 80, "https": 443}[url.scheme],
        https="true" if url.scheme == "https" else "false",
        gitaly=f"    gitaly_backup_path: {paths.BIN}/gitaly-backup\n" if numbers >= (14, 1) else "",
        connection=json.dumps(connection) if connection else "",
        remote_directory=f'"{remote}"' if remote else "",
        later=later,
        **values,
    )


def database_yml(rails: dict[str, Any], database: dict[str, Any]) -> str:
    """Rails' database connection."""
    return (
        f"production:\n  main:\n    adapter: postgresql\n    database: {rails['db_database']}\n    username: gitlab\n"
        f'    host: "{database["unix_socket_directory"]}"\n    port: {database["port"]}\n'
    )


def psql_rc(package: paths.Package, rails: dict[str, Any], database: dict[str, Any]) -> str:
    """/opt/gitlab/etc/gitlab-psql-rc; before 12.0 it had no group and no database."""
    values = {
        "psql_user": database["username"],
        "psql_group": database["group"],
        "psql_host": database["unix_socket_directory"],
        "psql_port": database["port"],
        "psql_dbname": rails["db_database"],
    }
    if package.generation.numbers < (12, 0):
        values = {name: values[name] for name in ("psql_user", "psql_host", "psql_port")}
    return "".join(f"{name}='{value}'\n" for name, value in values.items())


def web_run_script(settings: Settings) -> str:
    """How the GitLab stand-in is started: as git, told where its database is."""
    database, rails = settings["postgresql"], settings["gitlab_rails"]
    place = f"{database['unix_socket_directory']} {database['port']} {rails['db_database']}"
    return f"exec chpst -P -U git:git -u git:git {paths.CODE}/bin/gitlab {place}"


def nginx_run_script(addresses: dict[str, Any], mattermost: dict[str, Any]) -> str:
    """How the web front is started: as root for its ports, told the two addresses and Mattermost's own."""
    backend = f"{mattermost['service_address']}:{mattermost['service_port']}"
    mine = addresses.get("mattermost_external_url") if mattermost["enable"] else None
    return (
        f"exec chpst -P {paths.CODE}/bin/nginx {addresses['external_url']} {mine or '-'} {backend}"
    )
