"""Makes many sets, or copies at a remote, out of one, inside a lab: `python3 -m tests.bench.copies SET NUMBER`.

Each has its own name, time and signature, and hard links to the parts of the first. A quarter
of an hour lies between two, the newest first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

from gitlab_mm_backup import clock
from gitlab_mm_backup.config import identity, keys
from gitlab_mm_backup.config.origin import SIGNATURE
from gitlab_mm_backup.offsite.copies import COPY, parse_copy, to_bytes
from gitlab_mm_backup.store import manifest
from gitlab_mm_backup.store.check_records import EVIDENCE
from gitlab_mm_backup.store.manifest import MANIFEST, SUMS

_WRITTEN = (MANIFEST, SUMS, SIGNATURE, COPY)


def make(path: Path, number: int) -> None:
    """Make ``number`` sets that are older than the one at ``path``, beside it."""
    first = manifest.parse((path / MANIFEST).read_bytes(), str(path))
    sign = keys.own(identity.own().id).sign
    for back in range(1, number + 1):
        made = first.made - timedelta(minutes=15 * back)
        name = manifest.name_for(made, first.mattermost, first.host_id)
        copy = dataclasses.replace(first, name=name, started=clock.utc(made))
        folder = path.parent / name
        folder.mkdir(mode=0o700)
        for file in path.iterdir():
            if file.name not in (*_WRITTEN, EVIDENCE):
                os.link(file, folder / file.name)
        data, record = manifest.to_bytes(copy), None
        (folder / SUMS).write_bytes(manifest.sums(copy))
        if (path / COPY).exists():
            told = parse_copy(json.loads((path / COPY).read_bytes()), COPY)
            record = to_bytes(dataclasses.replace(told, set=name))
            (folder / COPY).write_bytes(record)
        (folder / SIGNATURE).write_bytes(sign(name, data, record))
        (folder / MANIFEST).write_bytes(data)


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
