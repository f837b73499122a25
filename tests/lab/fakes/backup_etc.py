"""`gitlab-ctl backup-etc`: a tar of /etc/gitlab, with absolute names and without its own folder."""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

from . import attributes, paths

NAME = re.compile(r"gitlab_config_(\d{10})_\d{4}_\d{2}_\d{2}\.tar")


def run(arguments: list[str]) -> int:
    """Make the archive and prune old ones by the time in their names; gives the exit code."""
    parser = argparse.ArgumentParser(prog="gitlab-ctl backup-etc")
    parser.add_argument("-p", "--backup-path", type=Path, default=paths.ETC / "config_backup")
    parser.add_argument("--delete-old-backups", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    if not options.backup_path.exists():
        paths.folder(options.backup_path, 0o700)
    moment = int(time.time())
    archive = (
        options.backup_path
        / f"gitlab_config_{moment}_{datetime.fromtimestamp(moment, timezone.utc):%Y_%m_%d}.tar"
    )
    flags = ["--absolute-names", "--dereference", f"--exclude={options.backup_path}"]
    done = subprocess.run(["tar", *flags, "-cf", str(archive), str(paths.ETC)], check=False)
    if done.returncode:
        return 1
    archive.chmod(0o600)
    print(f"Configuration backup archive complete: {archive}")
    if options.delete_old_backups:
        prune(options.backup_path, moment)
    return 0


def prune(place: Path, moment: int) -> None:
    """Since 13.12: remove archives older than gitlab_rails['backup_keep_time']."""
    package = paths.load_package()
    settings = attributes.effective(package, attributes.collect(package))
    keep = settings["gitlab_rails"].get("backup_keep_time") or 0
    if package.generation.numbers < (13, 12) or keep <= 0:
        return
    for path in place.iterdir():
        match = NAME.fullmatch(path.name)
        if match and int(match.group(1)) < moment - keep:
            path.unlink()
