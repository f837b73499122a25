"""Alerts: our rules beside those that Omnibus gives its Prometheus."""

from __future__ import annotations

from pathlib import Path

from ..errors import Failure
from ..system import files, process
from ..system.files import replace_file
from ..system.process import Command
from . import monitoring

RULES = Path("/usr/share/gitlab-mm-backup/gitlab-mm-backup.rules")
_CONTROL = "/opt/gitlab/bin/gitlab-ctl"


def install(source: Path = RULES, root: Path = Path("/")) -> tuple[Path, list[str]]:
    """Put the rules where Prometheus reads them, and have it read them.

    Returns where they are, and warnings.  Raises Failure where there is no Prometheus.
    """
    folder = monitoring.rules(root)
    target = folder / source.name
    if not folder.is_dir():
        raise Failure(
            "This host's GitLab has no Prometheus to give alerts to",
            f"{folder} is no folder",
            f"Give {source} to the Prometheus that watches this host.",
        )
    files.note_trace(target)
    try:
        replace_file(target, source.read_bytes(), mode=0o644)
    except OSError as error:
        raise Failure(f"{target} cannot be written", str(error.strerror)) from error
    try:
        process.run(Command([_CONTROL, "hup", "prometheus"]), timeout=60)
    except Failure as failure:
        return target, [f"Prometheus has not read them yet: {failure}"]
    return target, []
