"""The example with every option, and the JSON Schema of config.yml, as files."""

from __future__ import annotations

import json
from typing import Any

from gitlab_mm_backup.config import option_text
from gitlab_mm_backup.config.schema import OPTIONS

FOLDER = "gitlab-mm-backup"


def files() -> dict[str, str]:
    """Return every file's text by its path below /usr/share."""
    return {
        f"doc/{FOLDER}/examples/all-options.yml": option_text.sample(OPTIONS),
        f"{FOLDER}/config.schema.json": _json(option_text.schema(OPTIONS)),
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
