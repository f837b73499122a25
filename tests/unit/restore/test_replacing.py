"""What a move out of the bundle tells the administrator to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.mattermost.site import Kind, Site
from gitlab_mm_backup.restore import replacing
from gitlab_mm_backup.store.sets import BackupSet

# A string of Ruby in single quotes, in which nothing is run.
STRING = r"'(?:[^'\\]|\\['\\])*'"


def todo(folder: Path, url: str) -> list[str]:
    """The tasks after a move to a site whose address is ``url``."""
    (folder / "settings.json").write_text(
        json.dumps({"effective": {"ServiceSettings": {"SiteURL": "https://old.example.test"}}})
    )
    made = SimpleNamespace(
        manifest=SimpleNamespace(kind=Kind.OMNIBUS.value),
        file=lambda part: folder / f"{part}.json",
    )
    site = SimpleNamespace(
        kind=Kind.STANDALONE, settings=EffectiveConfig({"ServiceSettings": {"SiteURL": url}})
    )
    return replacing.todo(cast(BackupSet, made), cast(Site, site))


@pytest.mark.parametrize(
    "url",
    [
        "https://chat.example.test",
        "https://x/'; system('id') #",
        "https://x/\\'; system('id') #",
        "https://x/\\",
    ],
)
def test_the_address_is_one_string_in_the_line_for_gitlab_rb(tmp_path: Path, url: str) -> None:
    """Mattermost's account can change the address; root runs gitlab.rb."""
    (line,) = (line for line in todo(tmp_path, url) if "mattermost_host" in line)
    assignment = line.partition(" = ")[2]
    assert re.fullmatch(STRING, assignment)
    assert re.sub(r"\\(.)", r"\1", assignment[1:-1]) == url
