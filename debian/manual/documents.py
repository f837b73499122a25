"""What the package's tables say, as files: config.yml as it is shipped, and its JSON Schema."""

from __future__ import annotations

import json
from typing import Any

from gitlab_mm_backup import option_text
from gitlab_mm_backup.option_table import OPTIONS

FOLDER = "gitlab-mm-backup"


def files() -> dict[str, str]:
    """Return every file's text by its path below /usr/share; debian/rules moves config.yml."""
    return {
        f"{FOLDER}/config.yml": option_text.sample(OPTIONS),
        f"{FOLDER}/config.schema.json": _json(option_text.schema(OPTIONS)),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
