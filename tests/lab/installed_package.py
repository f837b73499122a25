"""Our own package in a lab: install it from its .deb, call it, and read its one JSON object."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.lab.sandbox import Lab

DEB = "/root/gitlab-mm-backup.deb"
JOURNAL = "/var/lib/gitlab-mm-backup/restore.json"

#: Goes before a command: all that it does falls into one second.
ONE_SECOND = (
    *("env", "FAKETIME_CACHE_DURATION=100000", "faketime", "-f"),
    "@2026-11-28 04:17:01 x0.01",
)


@dataclass(frozen=True)
class Answer:
    """What a command said with --json."""

    code: int
    document: dict[str, Any]
    stderr: str

    def __post_init__(self) -> None:
        """Hold what was said against its schema; a run that was killed has said nothing."""
        from tests.answers import validate  # here: the demo does without jsonschema

        if self.document:
            validate(self.document)

    @property
    def error(self) -> dict[str, str]:
        """The error object; a KeyError-free empty one where there was none."""
        return dict(self.document["error"] or {"message": "", "detail": "", "hint": ""})


class Product:
    """The installed package."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __call__(self, *arguments: str, timeout: float = 120) -> Answer:
        """Run `gitlab-mm ARGUMENTS --json`; stdout must hold exactly one object, whatever happens."""
        done = self.run(*arguments, "--json", timeout=timeout)
        document = json.loads(done.stdout)
        assert done.stdout.count("\n") == 1, "more than one line of JSON"
        assert "Traceback" not in done.stderr, done.stderr
        assert document["exit_code"] == done.returncode
        assert document["ok"] == (done.returncode in (0, 4))
        return Answer(done.returncode, document, done.stderr)

    def run(self, *arguments: str, timeout: float = 120) -> CompletedProcess[str]:
        """Run `gitlab-mm ARGUMENTS` as it is."""
        return self.lab.run("gitlab-mm", *arguments, check=False, timeout=timeout)

    def backup(self) -> str:
        """Make a set that must succeed; gives its path."""
        answer = self("backup")
        assert answer.code == 0, answer
        return str(answer.document["path"])

    def restore(self, *arguments: str) -> Answer:
        """Restore without a question."""
        return self("restore", "--yes", *arguments)

    def leftovers(self) -> list[str]:
        """What a finished run must not leave: work folders, scratch databases, journal, processes."""
        find = ("find", "/opt", "/var", "/etc", "/srv", "-xdev", "-name")
        found = self.lab.run(*find, ".gitlab-mm-*").stdout.splitlines()
        found += self.lab.run(*find, ".incomplete-*").stdout.splitlines()
        found += self.lab.run(
            "pgrep", "-af", "gitlab-mm|pg_dump|pg_restore|zstd", check=False
        ).stdout.splitlines()
        if self.lab.path(JOURNAL).exists():
            found.append(JOURNAL)
        return found


def install_product(lab: Lab, deb: Path) -> Product:
    """Install the package, whose dependencies are there; gives the means to call it.

    By dpkg, for apt takes as long again to find out the same; releases are tested with apt.
    """
    lab.path(DEB).write_bytes(deb.read_bytes())
    lab.run("dpkg", "--install", DEB)
    return Product(lab)
