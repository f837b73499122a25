"""Where the Prometheus that Omnibus brings looks for metrics and rules."""

from __future__ import annotations

import re
from pathlib import Path

_RUN = "opt/gitlab/sv/{}/run"
# Omnibus's defaults, used where the services' own command lines do not say otherwise.
_COLLECTOR = Path("/var/opt/gitlab/node-exporter/textfile_collector")  # since GitLab 10
_PROMETHEUS = Path("/var/opt/gitlab/prometheus/prometheus.yml")


def collector(root: Path = Path("/")) -> Path:
    """Return the folder from which node-exporter takes metrics of others."""
    return _argument(root, "node-exporter", "collector.textfile.directory", _COLLECTOR)


def rules(root: Path = Path("/")) -> Path:
    """Return the folder from which Prometheus takes rules, beside its own settings."""
    return _argument(root, "prometheus", "config.file", _PROMETHEUS).parent / "rules"


def _argument(root: Path, service: str, name: str, default: Path) -> Path:
    """Return a path in the command line with which runit starts a service."""
    try:
        script = (root / _RUN.format(service)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        script = ""
    found = re.search(rf"--{re.escape(name)}[= ]['\"]?(/[^'\"\s]+)", script)
    return root / (found[1] if found else str(default)).lstrip("/")
