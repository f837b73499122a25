"""`gitlab-ctl reconfigure`: make the disk follow gitlab.rb and the secrets file, in the original's order.

It removes the node files first, so that an interrupted run leaves a server without them, as the original does.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

from . import attributes, gitlab_files, gitlab_secrets, paths, postgresql, recipe, services

Settings = dict[str, dict[str, Any]]
Report = Callable[[str], None]


class RemovedSettings(Exception):
    """What reconfigure of 19.x ends with where gitlab.rb still has settings of Mattermost."""


class Run:
    """One run of reconfigure: the attributes, and the services that have to be restarted because of it."""

    def __init__(self, package: paths.Package, report: Report) -> None:
        self.package = package
        self.report = report
        self.normal: Settings = attributes.collect(package)
        self.changed: list[str] = []

    @property
    def settings(self) -> Settings:
        """Attributes in force."""
        return attributes.effective(self.package, self.normal)

    @property
    def mattermost(self) -> dict[str, Any]:
        """Mattermost's attributes in force."""
        return self.settings["mattermost"]

    @property
    def server(self) -> postgresql.Server:
        """The bundled PostgreSQL."""
        return postgresql.Server(self.settings["postgresql"])

    def define(self, name: str, script: str, **options: str) -> None:
        """Define and enable a service, and note when it is a new one for runsv."""
        if services.define(name, script, **options):
            self.changed.append(name)
        services.enable(name)

    def write_secrets(self) -> None:
        """Write the secrets file with what is in force now."""
        sections = gitlab_secrets.fill(self.package, gitlab_secrets.read())
        gitlab_secrets.write(self.package, sections, self.mattermost)


def converge(package: paths.Package, report: Report) -> None:
    """Do everything; the services that would read something new are restarted at the end."""
    shutil.rmtree(paths.NODES, ignore_errors=True)
    run = Run(package, report)
    run.write_secrets()
    abort_over_removed_settings(run)
    configure_gitlab(run)
    configure_postgresql(run)
    if run.mattermost["enable"]:
        recipe.enable(run)
    else:
        services.disable("mattermost")
    attributes.publish(package, run.normal)
    restart_changed(run)
    report("gitlab Reconfigured!")


def abort_over_removed_settings(run: Run) -> None:
    """From 19.0 on, once the secrets are gone: settings of Mattermost end the run."""
    if run.package.generation.bundles_mattermost:
        return
    given = run.normal.get("mattermost", {})
    if given.get("enable") is True or (given and run.package.generation.aborts_over_any_setting):
        names = ", ".join(f"mattermost['{name}']" for name in given)
        raise RemovedSettings(
            f"Removed configurations found in gitlab.rb. Aborting reconfigure. {names}"
        )


def configure_gitlab(run: Run) -> None:
    """Rails' configuration, the shell files with users and ports, the web services and the folder for backups."""
    rails = run.settings["gitlab_rails"]
    if rails["manage_backup_path"]:
        paths.folder(Path(rails["backup_path"]), 0o700, "git", "git")
    gitlab_files.write_all(run.package, run.settings, run.normal[""])
    run.define(run.package.generation.web_service, gitlab_files.web_run_script(run.settings))
    run.define("nginx", gitlab_files.nginx_run_script(run.normal[""], run.mattermost))


def configure_postgresql(run: Run) -> None:
    """Maps and ports of the bundled server; a running server loads changed files at once."""
    database = run.settings["postgresql"]
    changed = postgresql.configure(database, with_mattermost=bool(run.mattermost["enable"]))
    if changed and run.server.running():
        run.server.control("reload")
    data = postgresql.data_directory(database)
    script = f"exec chpst -P -U gitlab-psql -u gitlab-psql {paths.BIN}/postgres -D {data}"
    run.define("postgresql", script, terminate='exec kill -INT "$(cat supervise/pid)"')


def restart_changed(run: Run) -> None:
    """Restart what runs already and would otherwise not notice; what is new is runsvdir's to start.

    By stop and start: sv's restart takes a service that is less than a second old for the restarted one.
    """
    for name in dict.fromkeys(run.changed):
        if services.supervised(name):
            run.report(f"restarting {name}")
            services.control("stop", name)
            services.control("start", name)
