"""The server's container as a service: its engine starts and stops it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ..errors import Failure
from ..system import progress, validation
from ..system.files import STATE, read_state, write_state
from . import compose, engine
from .engine import Container

#: The restart policy of a container whose start is prevented.
KEPT = STATE / "container-restart.json"
# The engine itself kills after 10 s, unless the container's stop_grace_period says otherwise.
_STOP_SECONDS = 600
_SETTLE_SECONDS = 10
_GLANCE = 0.1
_RUNS = ("running", "restarting", "paused")


@dataclass(frozen=True)
class ContainerService:
    """A standalone Mattermost whose container an engine runs."""

    client: str
    name: str

    @property
    def log(self) -> str:
        return self.log_by_hand

    @property
    def log_by_hand(self) -> str:
        return f"{self.client} logs {self.name}"

    @property
    def start_by_hand(self) -> str:
        return f"{self.client} start {self.name}"

    @property
    def restart_by_hand(self) -> str:
        return f"{self.client} restart {self.name}"

    def runs(self) -> bool:
        return self._container().state in _RUNS

    @progress.waiting("Mattermost")
    def stop(self) -> None:
        compose.release()
        engine.control(self.client, "stop", self.name, seconds=_STOP_SECONDS)
        if self.runs():
            raise Failure("Mattermost does not stop", "", f"{self.client} ps --all; {self.log}")

    @progress.waiting("Mattermost")
    def start(self) -> None:
        """Start it; raises Failure when it exits at once."""
        engine.control(self.client, "start", self.name)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while (found := self._container()).state in _RUNS:
            compose.renew(found)
            if found.runs or time.monotonic() > deadline:
                return
            time.sleep(_GLANCE)
        raise Failure(
            "Mattermost does not start", f"its container: {found.state}", f"See: {self.log}"
        )

    def restart(self) -> None:
        self.stop()
        self.start()

    def current_process(self) -> str:
        """Return its process; of one that its engine has restarted, the network is another one."""
        found = self._container()
        compose.renew(found)
        return str(found.pid) if found.pid else ""

    def said(self) -> list[str]:
        return engine.control(self.client, "logs", "--tail=30", self.name).splitlines()

    def keep_down(self) -> None:
        """Take back the restart policy always: others do not start what was stopped, as at boot.

        Raises Failure for a container that cannot be started again.
        """
        found = self._container().start
        if found.once:
            raise Failure(
                f"The container {self.name} cannot be stopped for the restore",
                f"{self.client} removes it when it stops, and nothing could start it again",
                "Create it without --rm; a Quadlet of podman has that too. Then try again.",
            )
        policy = found.restart
        if policy != "always":
            return
        write_state(KEPT, {"name": self.name, "policy": policy})
        try:
            self._set_policy("no")
        except Failure as failure:
            KEPT.unlink(missing_ok=True)
            raise Failure(
                f"The container {self.name} cannot be kept down during the restore",
                f"its restart policy is always, and {self.client} cannot change it: {failure.detail}",
                "Create it with the restart policy unless-stopped (RESTART_POLICY in compose's .env).",
            ) from None

    def allow_start(self) -> None:
        """Undo ``keep_down``, whether it happened or not."""
        try:
            name, policy = read_state(KEPT, _kept)
        except (OSError, ValueError, KeyError, TypeError):
            return
        if name == self.name:
            self._set_policy(policy)
            KEPT.unlink(missing_ok=True)

    def _set_policy(self, policy: str) -> None:
        engine.control(self.client, "update", f"--restart={policy}", self.name)

    def _container(self) -> Container:
        found = engine.known(self.client, self.name)
        if found is None:
            raise Failure(
                f"The container {self.name} cannot be found",
                f"{self.client} does not answer, or it was removed",
                f"{self.client} ps --all",
            )
        return found


def _kept(document: Any) -> tuple[str, str]:
    return validation.line(document["name"]), validation.line(document["policy"])
