"""Mattermost as systemd runs it: state, stop, start, and whether a boot may start it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import Failure
from ..system import files, process
from ..system.process import Command

# systemd itself kills after 90 s, unless the unit says otherwise.
_STOP_SECONDS = 600
_SETTLE_SECONDS = 10
_DROP_INS = Path("/etc/systemd/system")
# Whatever starts the unit, a boot too, is passed over as long as this very file is there.
_KEPT_DOWN = """\
# A restore by gitlab-mm-backup is under way, and must be finished or taken back first:
# gitlab-mm restore --rollback
[Unit]
ConditionPathExists=!{path}
"""


@dataclass(frozen=True)
class Service:
    """The unit of the package, or of the tarball's guide."""

    log: str
    start_by_hand: str = "systemctl start mattermost"
    unit: str = "mattermost"

    def runs(self) -> bool:
        """Tell whether it runs, or is about to run again."""
        return self._state()[0] not in ("inactive", "failed")

    def stop(self) -> None:
        """Stop it and have that confirmed; raises Failure when it still runs."""
        self._control("stop", may_exit=(0, 1))
        if self.runs():
            raise Failure("Mattermost does not stop", "", f"systemctl status {self.unit}")

    def start(self) -> None:
        """Start it; raises Failure when it ends at once.

        Not waiting for systemd: a server without its database never says that it is ready.
        """
        self._control("reset-failed", may_exit=(0, 1))
        self._control("start", "--no-block", may_exit=(0, 1))
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            state, sub = self._state()
            if state == "active":
                return
            if state == "failed" or sub == "auto-restart":
                break
            time.sleep(0.05)
        if not self.runs() or self._state()[1] == "auto-restart":
            raise Failure(
                "Mattermost does not start",
                "",
                f"Look at: journalctl --unit={self.unit}; {self.log}",
            )

    def restart(self) -> None:
        self.stop()
        self.start()

    def current_process(self) -> str:
        """Return how often systemd has started it anew (systemd.service(5), NRestarts)."""
        return self._control("show", "--property=NRestarts", "--value").out.strip()

    def said(self) -> list[str]:
        shown = ["--unit", self.unit, "--lines=30", "--output=cat", "--no-pager", "--quiet"]
        done = process.run(Command(["journalctl", *shown], may_exit=(0, 1)))
        return done.out.splitlines() or files.last_lines(Path(self.log))

    def keep_down(self) -> None:
        """Have it left down when the host boots, by a condition that does not hold."""
        try:
            self._drop_in.parent.mkdir(exist_ok=True)
            self._drop_in.write_text(_KEPT_DOWN.format(path=self._drop_in))
        except OSError as error:
            raise Failure(f"{self._drop_in} cannot be made", str(error.strerror)) from error
        self._reload()

    def allow_start(self) -> None:
        """Undo ``keep_down``, whether it has happened or not."""
        self._drop_in.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the administrator's own lie there too, or it is gone
            self._drop_in.parent.rmdir()
        self._reload()

    @property
    def _drop_in(self) -> Path:
        return _DROP_INS / f"{self.unit}.service.d" / "gitlab-mm-backup.conf"

    def _state(self) -> tuple[str, str]:
        shown = self._control("show", "--property=ActiveState,SubState").out
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        return found.get("ActiveState", ""), found.get("SubState", "")

    def _reload(self) -> None:
        process.run(Command(["systemctl", "daemon-reload"]), timeout=_STOP_SECONDS)

    def _control(
        self, verb: str, *options: str, may_exit: tuple[int, ...] = (0,)
    ) -> process.Finished:
        command = Command(["systemctl", verb, *options, self.unit], may_exit=may_exit)
        return process.run(command, timeout=_STOP_SECONDS)
