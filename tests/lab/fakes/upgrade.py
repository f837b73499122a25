"""The upgrade of a stand-in to GitLab 19: what its package and its first reconfigure do to Mattermost.

Runs inside a lab, as root: `python3 -m tests.lab.fakes.upgrade` with a JSON object on stdin. version: of the new
GitLab. config_backup: whether the package's preinst makes its backup of /etc/gitlab. container: the upgrade of an
image, which leaves nothing of /opt/gitlab and no user mattermost. settings_removed: whether the administrator took
Mattermost's settings out of gitlab.rb first.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import backup_etc, gitlab_files, paths, reconfigure, services

SETTING = re.compile(r"^(?=mattermost\b|mattermost_external_url\b)", re.MULTILINE)
PROGRAMS = (paths.BIN / "mattermost", paths.BIN / "mmctl", paths.MATTERMOST_SERVICE)


def install_files(version: str) -> None:
    """Put the new package's files in the place of the old one's."""
    package = paths.load_package()._replace(version=version)
    for path in PROGRAMS:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    manifest = {"manifest_format": 2, "software": {}, "build_version": version}
    paths.write(paths.OPT / "version-manifest.json", json.dumps(manifest))
    paths.write(paths.OPT / "version-manifest.txt", f"gitlab-ce {version}\n")
    paths.write(gitlab_files.RAILS / "VERSION", f"{version}\n")
    package.save()


def leave_with_the_container() -> None:
    """An image brings its own /opt/gitlab and its own users: the files keep the number of one that is gone."""
    services.remove("mattermost")
    shutil.rmtree(paths.OPT / "etc/mattermost")
    subprocess.run(["userdel", "mattermost"], check=True, capture_output=True)


def main(wanted: dict[str, Any]) -> int:
    """Do all of it; gives reconfigure's exit code."""
    if wanted["settings_removed"]:
        text = Path(paths.GITLAB_RB).read_text()
        paths.GITLAB_RB.write_text(SETTING.sub("# ", text))
    if wanted["config_backup"]:
        backup_etc.run([])
    install_files(wanted["version"])
    if wanted["container"]:
        leave_with_the_container()
    try:
        reconfigure.converge(paths.load_package(), print)
    except reconfigure.RemovedSettings as removed:
        print(removed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
