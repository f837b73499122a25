"""What a command has to say at its end, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ExitCode, Failure


@dataclass(frozen=True)
class CommandResult:
    """The end of one command.

    ``fields`` are its own keys of the JSON object, ``lines`` the text for a person; a command
    that was asked a question (``answer``) prints them also where nobody watches.
    """

    fields: Mapping[str, Any]
    lines: list[str]
    warnings: list[str] = field(default_factory=list)
    code: ExitCode = ExitCode.DONE
    answer: bool = False
    lasting: bool = False  # the system's log keeps the lines of this answer too
    lenient: bool = False  # warnings do not show in the exit code
    tones: Sequence[tuple[str, str]] = ()  # for each line a word of it, and its colour
    error: Failure | None = None  # what was looked at is bad, and the fields say more of it

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        if self.code is ExitCode.DONE and self.warnings and not self.lenient:
            return ExitCode.WARNINGS
        return self.code
