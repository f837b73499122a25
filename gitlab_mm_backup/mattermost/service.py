"""The Mattermost service: state, stop, start, and whether it answers."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..container import compose
from ..container.service import ContainerService
from ..errors import Failure, reason
from ..system import files, process, progress, validation
from ..system.process import Command
from . import listener
from .site import Kind, Site

# systemd itself kills after 90 s, unless the unit says otherwise.
_SYSTEMD_STOP_SECONDS = 600
_SYSTEMD_SETTLE_SECONDS = 10
_DROP_INS = Path("/etc/systemd/system")
# Every start of the unit, at boot too, is skipped while this file exists.
_KEPT_DOWN = """\
# A restore by gitlab-mm-backup was interrupted. Finish it or roll it back first:
# gitlab-mm restore --rollback
[Unit]
ConditionPathExists=!{path}
"""
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d_\S+ ")  # of svlogd(8)
_GRAVE = re.compile(
    r'"level": ?"(error|critical|fatal|panic)"|^(panic|fatal error|Error): |\[(EROR|CRIT)\]'
)
_SHOWN = 400  # letters
# runit waits 7 s by default; a large Mattermost takes longer to end its work.
_RUNIT_STOP_SECONDS = 120
_SETTLE_SECONDS = 10
_ANSWER_SECONDS = 180
_RESTARTS = 2  # restarts after which waiting ends
_GLANCE = 0.2  # seconds between looks at the process
_PING = "/api/v4/system/ping"


@dataclass(frozen=True)
class SystemdService:
    """The unit of the package, or of the tarball's guide."""

    log: str
    log_by_hand: str = "journalctl -u mattermost"
    start_by_hand: str = "systemctl start mattermost"
    restart_by_hand: str = "systemctl restart mattermost"
    unit: str = "mattermost"

    def runs(self) -> bool:
        """Tell whether it runs, or is about to be restarted."""
        return self._state()[0] not in ("inactive", "failed")

    def stop(self) -> None:
        """Stop it and confirm that; raises Failure when it still runs."""
        self._control("stop", may_exit=(0, 1))
        if self.runs():
            raise Failure("Mattermost does not stop", "", f"systemctl status {self.unit}")

    @progress.waiting("Mattermost")
    def start(self) -> None:
        """Start it; raises Failure when it exits at once.

        Does not wait for systemd: a server without its database never reports that it is ready.
        """
        self._control("reset-failed", may_exit=(0, 1))
        self._control("start", "--no-block", may_exit=(0, 1))
        deadline = time.monotonic() + _SYSTEMD_SETTLE_SECONDS
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
                f"See: journalctl --unit={self.unit}; {self.log}",
            )

    def restart(self) -> None:
        self.stop()
        self.start()

    def current_process(self) -> str:
        """Return how often systemd has restarted it (systemd.service(5), NRestarts)."""
        return self._control("show", "--property=NRestarts", "--value").out.strip()

    def said(self) -> list[str]:
        shown = ["--unit", self.unit, "--lines=30", "--output=cat", "--no-pager", "--quiet"]
        done = process.run(Command(["journalctl", *shown], may_exit=(0, 1)))
        return done.out.splitlines() or files.last_lines(Path(self.log))

    def keep_down(self) -> None:
        """Prevent its start at boot by a condition that is not met."""
        try:
            self._drop_in.parent.mkdir(exist_ok=True)
            self._drop_in.write_text(_KEPT_DOWN.format(path=self._drop_in))
        except OSError as error:
            raise Failure(f"{self._drop_in} cannot be made", str(error.strerror)) from error
        self._reload()

    def allow_start(self) -> None:
        """Undo ``keep_down``, whether it happened or not."""
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
        process.run(Command(["systemctl", "daemon-reload"]), timeout=_SYSTEMD_STOP_SECONDS)

    def _control(
        self, verb: str, *options: str, may_exit: tuple[int, ...] = (0,)
    ) -> process.Finished:
        command = Command(["systemctl", verb, *options, self.unit], may_exit=may_exit)
        return process.run(command, timeout=_SYSTEMD_STOP_SECONDS)


def log_message(line: str) -> str:
    """Return the message of a log line; of JSON only the message and the error."""
    line = _STAMP.sub("", line)
    try:
        told = validation.from_json(line)
        return " ".join(str(told[key]) for key in ("msg", "err", "error") if key in told)
    except (ValueError, TypeError):
        return line


def log_reason(lines: Sequence[str]) -> str:
    """Return the last error line, or else the last line; "" without any."""
    texts = [line for line in map(str.strip, lines) if line]
    grave = [line for line in texts if _GRAVE.search(_STAMP.sub("", line))]
    return log_message((grave or texts or [""])[-1])[:_SHOWN]


class Service(Protocol):
    """The Mattermost service under its supervisor; each method raises Failure where it fails."""

    @property
    def log(self) -> str:
        """Where to find its log."""

    @property
    def log_by_hand(self) -> str:
        """The command for an administrator to read its log."""

    @property
    def start_by_hand(self) -> str:
        """The command for an administrator to start it."""

    @property
    def restart_by_hand(self) -> str:
        """The command for an administrator to restart it."""

    def runs(self) -> bool:
        """Tell whether it runs."""

    def stop(self) -> None:
        """Stop it, and confirm that."""

    def start(self) -> None:
        """Start it, and confirm that it stays up for a moment."""

    def restart(self) -> None:
        """Stop it and start it."""

    def current_process(self) -> str:
        """Return an id of the current process; "" where none runs."""

    def said(self) -> list[str]:
        """Return the last lines of its output."""

    def keep_down(self) -> None:
        """Prevent its start at boot."""

    def allow_start(self) -> None:
        """Undo ``keep_down``, whether it happened or not."""


@dataclass(frozen=True)
class RunitService:
    """Mattermost as Omnibus's runit runs it."""

    program: Path  # gitlab-ctl
    folder: Path  # runit's folder of the service
    name: str = "mattermost"
    log: str = "/var/log/gitlab/mattermost/mattermost.log"
    log_by_hand: str = "gitlab-ctl tail mattermost"
    start_by_hand: str = "gitlab-ctl start mattermost"
    restart_by_hand: str = "gitlab-ctl restart mattermost"

    def runs(self) -> bool:
        """Tell whether it runs.

        The first word counts, not the exit code: before GitLab 11.8, and with stock runit, that is
        0 for a stopped service too.
        """
        said = self._status()
        word = said.split(":", 1)[0].strip()
        if word not in ("run", "down"):
            raise Failure(
                "The state of Mattermost's service is unknown",
                f"gitlab-ctl status mattermost says: {said.strip() or 'nothing'}",
                "Is GitLab's supervisor running? systemctl start gitlab-runsvdir",
            )
        return word == "run"

    @progress.waiting("Mattermost")
    def stop(self) -> None:
        """Stop it and confirm that; raises Failure when it still runs.

        A service that keeps exiting is down between two starts: only the absence of "want up"
        shows that runit has accepted the command (2.1.2 ignores a start before that).
        """
        if _confirms(self._control("stop", may_exit=(0, 1)).out, "down"):
            return
        deadline = time.monotonic() + _SETTLE_SECONDS
        while "want up" in self._own_status() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.runs():
            raise Failure(
                "Mattermost does not stop",
                f"it still runs after {_RUNIT_STOP_SECONDS} seconds",
                "See /var/log/gitlab/mattermost/. End it, then try again.",
            )

    @progress.waiting("Mattermost")
    def start(self) -> None:
        """Start it; raises Failure when it does not stay up for as long as runit waits."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        if _confirms(self._control("start", may_exit=(0, 1)).out, "run"):
            return
        while not self.runs() and time.monotonic() < deadline:
            self._control("start", may_exit=(0, 1))
        if not self.runs():
            raise Failure(
                "Mattermost does not start", "", "See /var/log/gitlab/mattermost/current."
            )

    def keep_down(self) -> None:
        """Prevent its start at boot (runsv(8), the file "down")."""
        try:
            self._down_file.touch()
        except OSError as error:
            raise Failure(f"{self._down_file} cannot be made", str(error.strerror)) from error

    def allow_start(self) -> None:
        """Let runit start it at boot again."""
        self._down_file.unlink(missing_ok=True)

    def current_process(self) -> str:
        """Return its process id from runsv(8)'s file: gitlab-ctl takes half a second."""
        return "".join(files.last_lines(self.folder / "supervise/pid"))

    def said(self) -> list[str]:
        return files.last_lines(Path("/var/log/gitlab/mattermost/current"))

    @property
    def _down_file(self) -> Path:
        return self.folder / "down"

    def restart(self) -> None:
        self.stop()
        self.start()

    def _status(self) -> str:
        return self._control("status", may_exit=(0, 1, 3, 4)).out

    def _own_status(self) -> str:
        """Return the status of the service without its log service."""
        return self._status().split(";", 1)[0]

    def _control(self, verb: str, may_exit: tuple[int, ...]) -> process.Finished:
        wait = _RUNIT_STOP_SECONDS if verb == "stop" else _SETTLE_SECONDS
        command = Command(
            [str(self.program), verb, self.name],
            environment={"SVWAIT": str(wait)},
            may_exit=may_exit,
        )
        return process.run(command, timeout=_RUNIT_STOP_SECONDS + 30)


def _confirms(said: str, state: str) -> bool:
    """Tell whether runit reports ``state`` after a command (sv(8): "ok: down: ...").

    Each gitlab-ctl starts a Ruby while Mattermost is down, so its output is used instead of asking
    again.
    """
    own = said.split(";", 1)[0].strip()
    return own.startswith(f"ok: {state}:") and "want up" not in own


def of(site: Site) -> Service:
    contained = compose.server() if site.kind is Kind.STANDALONE else None
    if contained is not None:
        return ContainerService(contained.engine, contained.name)
    if site.kind is Kind.STANDALONE:
        return SystemdService(f"{site.config_file.parents[1]}/logs/mattermost.log")
    return RunitService(
        site.below_root("/opt/gitlab/bin/gitlab-ctl"),
        site.below_root("/opt/gitlab/sv/mattermost"),
    )


@dataclass
class _Watched:
    """A service whose process should stay the same."""

    service: Service
    seen: list[str] = field(default_factory=list)  # processes
    looked: float = 0.0

    def refuse_loop(self) -> None:
        """Raise Failure where it has been restarted for the second time."""
        if time.monotonic() - self.looked < _GLANCE:
            return
        self.looked, found = time.monotonic(), self.service.current_process()
        if found and found not in self.seen:
            self.seen.append(found)
        if len(self.seen) > _RESTARTS:
            said = log_reason(self.service.said())
            raise Failure(
                "Mattermost keeps exiting",
                f"it was restarted {_RESTARTS} times; its last message: {said or 'nothing'}",
                f"See {self.service.log}.",
            )


def answers(site: Site) -> bool:
    """Tell whether Mattermost answers its ping."""
    try:
        wait_until_it_answers(site, seconds=0)
    except Failure:
        return False
    return True


@progress.waiting("Mattermost")
def wait_until_it_answers(site: Site, seconds: float = _ANSWER_SECONDS) -> None:
    """Wait for Mattermost's ping; raises Failure with the reason from its log."""
    deadline, why = time.monotonic() + seconds, ""
    there = listener.of(site.settings)
    watched = _Watched(of(site))
    while True:
        try:
            status = there.ask(_PING).status
            if status == 200:
                return
            why = f"it answers with status {status}"
        except OSError as error:
            why = reason(error)
        if time.monotonic() >= deadline:
            break
        watched.refuse_loop()
        time.sleep(0.05)
    raise Failure(
        "Mattermost does not answer",
        f"{there.url}{_PING} after {seconds:.0f} seconds: {why}",
        f"See {of(site).log}.",
    )


def restarted(site: Site) -> list[str]:
    """Restart a running Mattermost, which caches rows of its database; return problems as text."""
    service = of(site)
    try:
        if service.runs():
            service.restart()
            wait_until_it_answers(site)
    except Failure as failure:
        return [f"Restart Mattermost; it still has the former state in its cache: {failure}"]
    return []
