"""Installs "Omnibus GitLab" on the host it runs on: what the package, its first reconfigure and its admin would leave.

Runs inside a lab, as root: `python3 -m tests.lab.layout` with a JSON object on stdin (the fields of omnibus.Spec).
Afterwards the disk is that of a complete server which is switched off: start it with RUNSVDIR.
"""

from __future__ import annotations

import compileall
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.lab.fakes import accounts, gitlab_files, paths, postgresql, reconfigure, services

HERE = Path(__file__).resolve().parent
PREPACKAGED = ("com.github.manland.mattermost-plugin-gitlab", "com.mattermost.nps")
ENTRY = """\
#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "{code}")
from fakes.{module} import main
sys.exit(main())
"""
# Python takes 45 ms to start, and our package calls these verbs all the time: as gitlab_ctl.service_verb has them.
GITLAB_CTL = """\
#!/bin/sh
case "$1 $#" in "start 2" | "stop 2"{status}) ;; *) exec {whole} "$@" ;; esac
[ -L "{enabled}/$2" ] || exit 0
said=$(SVDIR={enabled} "{init}/$2" "$1" 2>/dev/null)
code=$?
[ -z "$said" ] || printf '%s\\n' "$said"
[ "$1" = status ] || exit "$((code != 0))"
case "$said" in run:*) exit 0 ;; down:*) exit 3 ;; *) exit 4 ;; esac
"""
GITLAB_PSQL = """\
#!/bin/sh
. /opt/gitlab/etc/gitlab-psql-rc
cd /tmp
exec /opt/gitlab/embedded/bin/chpst -u "$psql_user" /opt/gitlab/embedded/bin/psql \
-p "$psql_port" -h "$psql_host" -d "${psql_dbname:-gitlabhq_production}" "$@"
"""
RUNSVDIR = """\
#!/bin/sh
umask 022
exec env - PATH=/opt/gitlab/bin:/opt/gitlab/embedded/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
LANG=C.UTF-8 runsvdir -P /opt/gitlab/service 'log: ...'
"""
# As far as help shows it: gitlab-ctl's stand-in runs the command itself.
BACKUP_ETC = """\
add_command_under_category('backup-etc', 'backup', 'Backup GitLab configuration [options]', 2) {}
"""
GITLAB_RB = """\
## GitLab configuration settings
##! This file is generated during initial installation and **is not** modified
##! during upgrades.

## GitLab URL
external_url '{gitlab_url}'

### Backup Settings
# gitlab_rails['manage_backup_path'] = true
# gitlab_rails['backup_path'] = "/var/opt/gitlab/backups"

################################################################################
## GitLab Mattermost
################################################################################
# mattermost_external_url 'https://mattermost.example.com'
# mattermost['home'] = '/var/opt/gitlab/mattermost'
# mattermost['gitlab_id'] = "12345656"
# mattermost['gitlab_secret'] = "123456789"
{settings}
"""
Spec = dict[str, Any]


def ruby(value: Any) -> str:
    """A value as a Ruby literal."""
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{ruby(key)} => {ruby(item)}" for key, item in value.items()) + " }"
        )
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def chosen_settings(spec: Spec, enabled: bool) -> list[str]:
    """Lines of gitlab.rb for everything in the spec that differs from the defaults."""
    lines = []
    if spec["mattermost"] != "never":
        lines.append(f"mattermost_external_url '{spec['site_url']}'")
    if not enabled and spec["mattermost"] != "never":
        lines.append("mattermost['enable'] = false")
    if not spec["sign_in"]:
        lines.append("mattermost['register_as_oauth_app'] = false")
    options = {
        "mattermost['home']": spec["home"],
        "mattermost['file_directory']": spec["data_folder"],
        "mattermost['database_name']": spec["database"],
        "postgresql['port']": spec["port"],
        "gitlab_rails['backup_path']": spec["backup_path"],
        "gitlab_rails['backup_keep_time']": spec["backup_keep_time"],
    }
    lines += [f"{name} = {ruby(value)}" for name, value in options.items() if value is not None]
    return [*lines, *spec["gitlab_rb"]]


def write_gitlab_rb(spec: Spec, enabled: bool) -> None:
    """Write /etc/gitlab/gitlab.rb."""
    settings = "\n".join(chosen_settings(spec, enabled))
    paths.write(
        paths.GITLAB_RB, GITLAB_RB.format(gitlab_url=spec["gitlab_url"], settings=settings), 0o600
    )


def install_code(package: paths.Package) -> None:
    """Copy the stand-ins to where every user may read them, and link the programs."""
    for name in ("fakes", "fixtures"):
        shutil.copytree(HERE / name, paths.CODE / name)
    for path in [paths.CODE, *paths.CODE.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    compileall.compile_dir(str(paths.CODE / "fakes"), quiet=2)
    package.save()
    paths.write(paths.CODE / "mattermost-version", package.generation.mattermost)
    programs = {
        paths.BIN / "mattermost": "mattermost",
        paths.CODE / "bin/gitlab-ctl": "gitlab_ctl",
        paths.OPT / "bin/gitlab-rails": "rails",
        paths.CODE / "bin/gitlab": "gitlab",
        paths.CODE / "bin/nginx": "nginx",
    }
    for path, module in programs.items():
        paths.write(path, ENTRY.format(code=paths.CODE, module=module), 0o755)
    paths.write(paths.OPT / "bin/gitlab-ctl", gitlab_ctl(package), 0o755)


def gitlab_ctl(package: paths.Package) -> str:
    """The program gitlab-ctl; a version whose status always ends with 0 leaves that to Python."""
    return GITLAB_CTL.format(
        whole=paths.CODE / "bin/gitlab-ctl",
        enabled=services.ENABLED,
        init=services.INIT,
        status=' | "status 2"' if package.generation.status_code_tells else "",
    )


def install_programs() -> None:
    """PostgreSQL's and runit's programs, Ruby, and the shell wrappers."""
    postgresql.install_programs()
    for name in ("chpst", "ruby", "sv", "runsv", "runsvdir", "svlogd"):
        paths.link(paths.BIN / name, Path("/usr/bin") / name)
    paths.write(paths.OPT / "bin/gitlab-psql", GITLAB_PSQL, 0o755)
    paths.write(paths.BIN / "runsvdir-start", RUNSVDIR, 0o755)
    paths.link(Path("/usr/bin/gitlab-ctl"), paths.OPT / "bin/gitlab-ctl")
    paths.link(Path("/usr/bin/gitlab-psql"), paths.OPT / "bin/gitlab-psql")
    paths.folder(services.ENABLED)
    paths.folder(services.INIT)
    services.link_for_stock_sv()


def install_package(package: paths.Package) -> None:
    """Files of the package that say which version it is, and Mattermost's own."""
    software = {"mattermost": {"locked_version": package.generation.mattermost}}
    manifest = {
        "manifest_format": 2,
        "software": software,
        "build_version": package.version,
    }
    paths.write(paths.OPT / "version-manifest.json", json.dumps(manifest))
    paths.write(paths.OPT / "version-manifest.txt", f"gitlab-ce {package.version}\n")
    paths.write(gitlab_files.RAILS / "VERSION", f"{package.version}\n")
    template = (HERE / "fixtures/config-5.37.json").read_text()
    paths.write(paths.MATTERMOST_SERVICE / "config.json.template", template)
    if package.generation.has_version_file:
        paths.write(paths.MATTERMOST_SERVICE / "VERSION", f"{package.generation.mattermost}\n")
    for name in PREPACKAGED:
        paths.write(paths.MATTERMOST_SERVICE / "prepackaged_plugins" / f"{name}.tar.gz", "")
    paths.folder(paths.OPT / "embedded/ssl/certs")
    commands = paths.OPT / "embedded/service/omnibus-ctl"
    paths.folder(commands)
    if package.generation.has_backup_etc:
        paths.write(commands / "backup.rb", BACKUP_ETC)


def prepare_host(spec: Spec) -> None:
    """Users, and the folders below /etc, /var and /var/log."""
    accounts.start_numbers(spec["first_uid"])
    accounts.ensure_package_users()
    for place in (paths.VAR, paths.LOG, paths.ETC / "ssl", paths.ETC / "trusted-certs"):
        paths.folder(place)
    paths.folder(paths.ETC, 0o775)
    paths.folder(paths.ETC / "config_backup", 0o700)
    paths.folder(
        paths.VAR / "node-exporter/textfile_collector",
        0o755,
        "gitlab-prometheus",
        "gitlab-prometheus",
    )
    for folder in ("prometheus", "prometheus/rules"):
        paths.folder(paths.VAR / folder, 0o750, "gitlab-prometheus", "gitlab-prometheus")
    for name in ("postgresql", "prometheus"):
        owner = {"postgresql": "gitlab-psql", "prometheus": "gitlab-prometheus"}[name]
        paths.folder(paths.LOG / name, 0o700, owner, owner)


def link_data_folder(spec: Spec) -> None:
    """Where the admin wanted it, `<home>/data` is a link to a folder elsewhere."""
    target = spec["data_link"]
    if target:
        home = Path(spec["home"] or "/var/opt/gitlab/mattermost")
        Path(target).mkdir(parents=True, exist_ok=True)
        paths.folder(home)
        paths.link(home / "data", Path(target))


def build(spec: Spec) -> None:
    """Install everything and run the first reconfigure (two when Mattermost was in use and was switched off)."""
    package = paths.Package(spec["version"], spec["seed"], spec["secret_form"])
    install_code(package)
    install_programs()
    install_package(package)
    prepare_host(spec)
    link_data_folder(spec)
    write_gitlab_rb(spec, enabled=spec["mattermost"] != "never")
    run = reconfigure.Run(package, print)
    server = run.server
    postgresql.make_cluster(server.settings)
    postgresql.configure(server.settings, with_mattermost=spec["mattermost"] != "never")
    server.control("start")
    try:
        server.make_gitlab_database(
            run.settings["gitlab_rails"]["db_database"], package, spec["users"]
        )
        reconfigure.converge(package, print)
        if spec["mattermost"] == "disabled":
            write_gitlab_rb(spec, enabled=False)
            reconfigure.converge(package, print)
    finally:
        server.control("stop")


if __name__ == "__main__":
    build(json.load(sys.stdin))
