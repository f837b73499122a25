"""What GitLab's image starts as first process: reconfigure on the volumes, which may be empty, then the services.

Runs inside a container, as root: `python3 -m tests.lab.fakes.container SPEC`, a file with the fields of omnibus.Spec.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.lab import layout

from . import paths, postgresql, reconfigure

RUNSVDIR = paths.BIN / "runsvdir-start"


def prepare(spec: dict[str, Any]) -> bool:
    """Fill volumes that are empty; tells whether they were."""
    if paths.GITLAB_RB.exists():
        return False
    layout.prepare_host(spec)
    layout.write_gitlab_rb(spec, enabled=spec["mattermost"] != "never")
    return True


def main(spec: dict[str, Any]) -> int:
    """Do what /assets/wrapper of the image does."""
    fresh = prepare(spec)
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
