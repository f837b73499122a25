"""What GitLab's image starts as first process: reconfigure on the volumes, which may be empty, then the services.

Runs inside a container, as root: `python3 -m tests.lab.fakes.container SPEC`, a file with the fields of omnibus.Spec.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab import layout

from . import paths, postgresql, reconfigure, upgrade

RUNSVDIR = paths.BIN / "runsvdir-start"


def prepare(spec: dict[str, Any]) -> bool:
    """Fill volumes that are empty; tells whether they were."""
    if paths.GITLAB_RB.exists():
        return False
    layout.prepare_host(spec)
    layout.write_gitlab_rb(spec, enabled=spec["mattermost"] != "never")
    return True


def become(spec: dict[str, Any]) -> None:
    """Make the image that of another spec, by its chance and its version."""
    package = paths.load_package()
    if package.seed != spec["seed"]:
        package._replace(seed=spec["seed"]).save()
    if package.version != spec["version"]:
        upgrade.install_files(spec["version"])
        subprocess.run(["userdel", "mattermost"], check=True, capture_output=True)


def main(spec: dict[str, Any]) -> int:
    """Do what /assets/wrapper of the image does."""
    become(spec)
    fresh = prepare(spec)
    # The engine may have killed the server, and its number may be another process's here.
    log = paths.LOG / "postgresql"
    if log.exists():
        paths.own(log, "gitlab-psql", "gitlab-psql", 0o700)  # the log service has made it root's
    for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
        (paths.VAR / "postgresql" / name).unlink(missing_ok=True)
    package = paths.load_package()
    run = reconfigure.Run(package, print)
    server = run.server
    if fresh:
        postgresql.make_cluster(server.settings)
        postgresql.configure(server.settings, with_mattermost=spec["mattermost"] != "never")
    server.control("start")
    try:
        if fresh:
            name = run.settings["gitlab_rails"]["db_database"]
            server.make_gitlab_database(name, package, spec["users"])
        reconfigure.converge(package, lambda line: print(line, flush=True))
    except reconfigure.RemovedSettings as removed:
        print(removed, flush=True)
    finally:
        server.control("stop")
    os.execv(RUNSVDIR, [str(RUNSVDIR)])


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
