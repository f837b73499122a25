"""The journal of a restore under way, on disk before each step."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .durable import replace_file
from .errors import ExitCode, Failure
from .undo import Step

STATE = Path("/var/lib/gitlab-mm-backup")


class Journal:
    """The steps of a restore that can still be taken back."""

    def __init__(self, state: Path = STATE) -> None:
        self.path = state / "restore.json"

    def write(self, steps: list[Step]) -> None:
        """Make ``steps`` lasting; none at all removes the file."""
        try:
            if steps:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(self.path, json.dumps([asdict(one) for one in steps]).encode())
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise Failure(
                f"The journal {self.path} cannot be written", str(error.strerror)
            ) from error

    def read(self) -> list[Step]:
        """Return the steps of a restore that was cut short; none where there was none."""
        try:
            return [Step(**one) for one in json.loads(self.path.read_bytes())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise Failure(
                f"The journal {self.path} cannot be read",
                str(error),
                "A restore was cut short and cannot be taken back by itself.",
                ExitCode.ATTENTION,
            ) from error
