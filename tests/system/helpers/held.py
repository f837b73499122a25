"""A backup that takes as long as a test needs: zstd reads nothing until it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen

from tests.lab.sandbox import Lab

DATABASE, FILES = "-3", "-1"  # the levels of compression, which are zstd's first arguments
# First in the PATH of our programs. Once the pipe to it is full, pg_dump and tar wait too.
_PROGRAM = "/usr/local/sbin/zstd"
_HELD = """#!/bin/sh
case "$1" in -[0-9]) while [ ! -e "/tmp/go$1" ]; do sleep 0.05; done ;; esac
exec /usr/bin/zstd "$@"
"""


@dataclass(frozen=True)
class HeldBackup:
    """A backup that has begun, and whose parts are not written before they are let go."""

    lab: Lab
    process: Popen[str]

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def let_go(self, *levels: str) -> None:
        for level in levels:
            self.lab.write(f"/tmp/go{level}", "")

    def ended(self) -> dict[str, object]:
        """Let all go; return what the backup says at its end."""
        self.let_go(DATABASE, FILES)
        out, _ = self.process.communicate(timeout=90)
        return dict(json.loads(out))


@contextmanager
def held_backup(lab: Lab) -> Iterator[HeldBackup]:
    """Start a backup, and have it held; what the block has not let go is let go at its end."""
    lab.write(_PROGRAM, _HELD, mode=0o755)
    try:
        with lab.popen("gitlab-mm", "backup", "--json") as process:
            backup = HeldBackup(lab, process)
            try:
                yield backup
            finally:
                backup.let_go(DATABASE, FILES)
    finally:
        lab.run("rm", "-f", _PROGRAM, f"/tmp/go{DATABASE}", f"/tmp/go{FILES}")
