"""What can go wrong with a lab, and waiting for what should happen in one."""

from __future__ import annotations

import subprocess
import time
from typing import Any, Callable, TypeVar

Result = TypeVar("Result")
SHOWN_LINES = 60  # the last ones of each stream


def wait_until(
    condition: Callable[[], Result], timeout: float = 30, what: str = "a condition"
) -> Result:
    """Call `condition` until it returns something true, and return that.

    Raises LabTimeout, naming `what`, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise LabTimeout(f"waited {timeout:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


class LabError(Exception):
    """A lab could not be built, or something in it went wrong."""


class LabRefused(LabError):
    """This machine must not, or cannot, carry a lab."""


class LabTimeout(LabError):
    """Something did not happen in time."""


class CommandFailed(LabError):
    """A command in a lab ended with another exit code than 0."""

    def __init__(self, done: subprocess.CompletedProcess[Any]) -> None:
        self.done = done
        lines = [f"{done.args!r} ended with exit code {done.returncode}"]
        for name, output in (("stdout", done.stdout), ("stderr", done.stderr)):
            text = (
                output.decode("utf-8", "backslashreplace") if isinstance(output, bytes) else output
            )
            shown = "\n".join(text.splitlines()[-SHOWN_LINES:]) if text else ""
            lines.append(f"--- {name}\n{shown}" if shown else f"--- no {name}")
        super().__init__("\n".join(lines))
