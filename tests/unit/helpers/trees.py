"""A fake server's files below a folder of the test, as Omnibus leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitlab_mm_backup.mattermost import omnibus_files

SECRET = "glsec-0123456789abcdef"
RUN = """#!/bin/sh
exec 2>&1
cd /opt/gitlab/embedded/service/mattermost
exec /opt/gitlab/embedded/bin/chpst -e {env} -P -U mattermost:mattermost \\
  /opt/gitlab/embedded/bin/mattermost --config {home}/config.json
"""


class Tree:
    """The root of a fake server; the paths that its files name lie below it too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "var/opt/gitlab/mattermost"
        self.env = root / omnibus_files.ENVIRONMENT
        self.config = self.home / "config.json"

    def write(self, path: str | Path, text: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def write_json(self, path: str | Path, document: object) -> Path:
        return self.write(path, json.dumps(document))

    def gitlab(self, version: str = "18.11.9", mattermost: str = "10.11.20") -> None:
        self.write_json(
            omnibus_files.VERSION_MANIFEST,
            {
                "build_version": version,
                "software": {"mattermost": {"locked_version": f"v{mattermost}"}},
            },
        )
        (self.root / omnibus_files.EMBEDDED_MATTERMOST).mkdir(parents=True, exist_ok=True)

    def enable(self) -> None:
        service = self.root / "opt/gitlab/service/mattermost"
        service.parent.mkdir(parents=True, exist_ok=True)
        service.symlink_to("/opt/gitlab/sv/mattermost")

    def node(self, name: str = "host.json", **attributes: Any) -> Path:
        """Write a Chef node whose ``normal`` names this tree's home."""
        normal = {"mattermost": {"home": str(self.home), **attributes.pop("mattermost", {})}}
        document = {"default": attributes.pop("default", {}), "normal": {**normal, **attributes}}
        return self.write_json(f"{omnibus_files.NODES}/{name}", document)

    def psql_rc(self, **values: str) -> None:
        lines = [f"{name}='{value}'" for name, value in values.items()]
        self.write(omnibus_files.PSQL_RC, "\n".join([*lines, ""]))

    def variables(self, **values: str) -> None:
        self.variables_in(self.env, values)

    def variables_in(self, folder: Path, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.write(folder / name, value)

    def run_script(self) -> None:
        self.write("opt/gitlab/sv/mattermost/run", RUN.format(home=self.home, env=self.env))

    def modern(self) -> Tree:
        """Make it a GitLab 18.11 with Mattermost running."""
        self.gitlab()
        self.enable()
        self.node()
        self.run_script()
        self.psql_rc(
            psql_user="gitlab-psql",
            psql_group="gitlab-psql",
            psql_host="/var/opt/gitlab/postgresql",
            psql_port="5432",
            psql_dbname="gitlabhq_production",
        )
        self.write_json(self.config, SAMPLE)
        self.variables(**ENVIRONMENT)
        return self

    def old(self) -> Tree:
        """Make it a GitLab 10.5: everything in config.json."""
        self.gitlab("10.5.8", "4.6.2")
        self.enable()
        self.node()
        self.psql_rc(psql_user="gitlab-psql", psql_host="/sock", psql_port="5433")
        self.variables_in(self.home / "env", {"SSL_CERT_DIR": "/opt/gitlab/embedded/ssl/certs/"})
        source = "user=gitlab_mattermost host=/sock port=5433 dbname=mm_ten"
        self.write_json(
            self.config, {"SqlSettings": {"DriverName": "postgres", "DataSource": source}}
        )
        return self


# What a server that runs with MM_ variables has on disk.
SAMPLE: dict[str, Any] = {
    "ServiceSettings": {"SiteURL": "", "ListenAddress": ":8065"},
    "SqlSettings": {
        "DriverName": "mysql",
        "DataSource": f"mmuser:{SECRET}@tcp(dockerhost:3306)/mattermost_test",
    },
    "FileSettings": {"DriverName": "local", "Directory": "./data/"},
    "GitLabSettings": {"Enable": False, "Secret": "", "Id": ""},
}
ENVIRONMENT = {
    "MM_SERVICESETTINGS_SITEURL": "https://chat.example.org",
    "MM_SQLSETTINGS_DRIVERNAME": "postgres",
    "MM_SQLSETTINGS_DATASOURCE": (
        "user=gitlab_mattermost host=/var/opt/gitlab/postgresql port=5432 "
        "dbname=mattermost_production"
    ),
    "MM_GITLABSETTINGS_ENABLE": "true",
    "MM_GITLABSETTINGS_ID": "an-application-id",
    "MM_GITLABSETTINGS_SECRET": SECRET,
    "MM_INSTALL_TYPE": "gitlab_omnibus",
}
