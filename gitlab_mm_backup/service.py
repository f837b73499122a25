"""The Mattermost service: state, stop, start, and whether it answers."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import process, systemd
from .errors import Failure, reason
from .process import Command
from .site import Kind, Site

# runit waits 7 s by default; a large Mattermost takes longer to end its work.
_STOP_SECONDS = 120
_SETTLE_SECONDS = 10
_ANSWER_SECONDS = 180
_PING = "/api/v4/system/ping"


class Supervised(Protocol):
    """Mattermost under whatever runs it here; each method raises Failure where it cannot."""

    @property
    def log(self) -> str:
        """Where it says why it does not work."""

    @property
    def start_by_hand(self) -> str:
        """The command that an administrator starts it with."""

    def runs(self) -> bool:
        """Tell whether it runs."""

    def stop(self) -> None:
        """Stop it, and have that confirmed."""

    def start(self) -> None:
        """Start it; it stays up for a moment at least."""

    def restart(self) -> None:
        """Stop it and start it."""

    def keep_down(self) -> None:
        """Have it left down when the host boots."""

    def allow_start(self) -> None:
        """Undo ``keep_down``, whether it has happened or not."""


@dataclass(frozen=True)
class Service:
    """Mattermost as Omnibus's runit runs it."""

    program: Path  # gitlab-ctl
    folder: Path  # runit's folder of the service
    name: str = "mattermost"
    log: str = "/var/log/gitlab/mattermost/mattermost.log"
    start_by_hand: str = "gitlab-ctl start mattermost"

    def runs(self) -> bool:
        """Tell whether it runs.

        The first word counts, not the exit code: before GitLab 11.8, and with stock runit, it
        is 0 for a stopped service too.
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

    def stop(self) -> None:
        """Stop it and have that confirmed; raises Failure when it still runs.

        A service that ends again and again is down between two starts: only without "want up"
        has runit taken the wish (2.1.2 passes over a start that comes before that).
        """
        if _confirms(self._control("stop", may_exit=(0, 1)).out, "down"):
            return
        deadline = time.monotonic() + _SETTLE_SECONDS
        while "want up" in self._own_status() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.runs():
            raise Failure(
                "Mattermost does not stop",
                f"it still runs after {_STOP_SECONDS} seconds",
                "Look at /var/log/gitlab/mattermost/, end it, then try again.",
            )

    def start(self) -> None:
        """Start it; raises Failure when it does not stay up for as long as runit waits."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        if _confirms(self._control("start", may_exit=(0, 1)).out, "run"):
            return
        while not self.runs() and time.monotonic() < deadline:
            self._control("start", may_exit=(0, 1))
        if not self.runs():
            raise Failure(
                "Mattermost does not start", "", "Look at /var/log/gitlab/mattermost/current."
            )

    def keep_down(self) -> None:
        """Have runit leave it down when the host boots (runsv(8), the file "down")."""
        try:
            self._down_file.touch()
        except OSError as error:
            raise Failure(f"{self._down_file} cannot be made", str(error.strerror)) from error

    def allow_start(self) -> None:
        """Have runit start it again when the host boots."""
        self._down_file.unlink(missing_ok=True)

    @property
    def _down_file(self) -> Path:
        return self.folder / "down"

    def restart(self) -> None:
        self.stop()
        self.start()

    def _status(self) -> str:
        return self._control("status", may_exit=(0, 1, 3, 4)).out

    def _own_status(self) -> str:
        """Return what the status says of the service, without its log service."""
        return self._status().split(";", 1)[0]

    def _control(self, verb: str, may_exit: tuple[int, ...]) -> process.Finished:
        wait = _STOP_SECONDS if verb == "stop" else _SETTLE_SECONDS
        command = Command(
            [str(self.program), verb, self.name],
            environment={"SVWAIT": str(wait)},
            may_exit=may_exit,
        )
        return process.run(command, timeout=_STOP_SECONDS + 30)


def _confirms(said: str, state: str) -> bool:
    """Tell whether runit confirms that a verb has led to ``state`` (sv(8): "ok: down: ...").

    Each gitlab-ctl starts a Ruby, and Mattermost is down meanwhile: what it has said need not be
    asked again.
    """
    own = said.split(";", 1)[0].strip()
    return own.startswith(f"ok: {state}:") and "want up" not in own


def of(site: Site) -> Supervised:
    if site.kind is Kind.STANDALONE:
        return systemd.Service(f"{site.config_file.parents[1]}/logs/mattermost.log")
    return Service(
        site.below_root("/opt/gitlab/bin/gitlab-ctl"),
        site.below_root("/opt/gitlab/sv/mattermost"),
    )


def address(site: Site) -> str:
    """Return the URL at which this host reaches the site's server itself, past any proxy."""
    listen = site.settings.text("ServiceSettings", "ListenAddress") or ":8065"
    host, _, port = listen.rpartition(":")
    if host in ("", "0.0.0.0", "[::]"):
        host = "127.0.0.1"
    tls = site.settings.text("ServiceSettings", "ConnectionSecurity") == "TLS"
    return f"{'https' if tls else 'http'}://{host}:{re.sub('[^0-9]', '', port) or '8065'}"


def answers(site: Site) -> bool:
    """Tell whether Mattermost's ping is answered now."""
    try:
        wait_until_it_answers(site, seconds=0)
    except Failure:
        return False
    return True


def wait_until_it_answers(site: Site, seconds: float = _ANSWER_SECONDS) -> None:
    """Wait for Mattermost's ping; raises Failure with the reason its log gives."""
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + seconds
    why = ""
    # The server itself is asked: a proxy of the environment has no say in it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(address(site) + _PING, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:
            why = reason(error)
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    raise Failure(
        "Mattermost does not answer",
        f"{address(site)}{_PING} after {seconds:.0f} seconds: {why}",
        f"Look at {of(site).log}.",
    )
