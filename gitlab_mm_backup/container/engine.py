"""Container engines, asked by their own clients: docker, podman, nerdctl."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure
from ..system import process, validation
from ..system.process import PATH, Command

CLIENTS = ("docker", "podman", "nerdctl")
log = logging.getLogger(__name__)
_SECONDS = 30  # for an answer
_MOST = 16 << 20  # bytes of an answer
# Labels of docker compose and podman-compose.
_PROJECT = ("com.docker.compose.project", "io.podman.compose.project")
_SERVICE = ("com.docker.compose.service", "io.podman.compose.service")
_GITLAB = ("/etc/gitlab", "/var/opt/gitlab", "/opt/gitlab")  # where GitLab's image has volumes


@dataclass(frozen=True)
class Mount:
    """A volume or bind of a container."""

    kind: str  # bind, volume or tmpfs
    name: str  # of a volume, "" for a bind
    source: str  # on the host
    target: str  # in the container

    def __str__(self) -> str:
        what = f"volume {self.name}" if self.name else self.source or self.kind
        return f"{self.target} = {what}"


@dataclass(frozen=True)
class Container:
    """A container as its engine describes it."""

    engine: str  # one of CLIENTS
    id: str
    name: str
    image: str
    state: str  # running, exited, restarting, ...
    pid: int  # of its first process on this host, 0 where none runs
    mounts: tuple[Mount, ...]
    labels: Mapping[str, str]

    @property
    def runs(self) -> bool:
        return self.state == "running" and self.pid > 0

    @property
    def project(self) -> str:
        """The project of docker compose, "" for none."""
        return _first(self.labels, _PROJECT)

    @property
    def service(self) -> str:
        """The service of docker compose, "" for none."""
        return _first(self.labels, _SERVICE)

    @property
    def is_gitlab(self) -> bool:
        """Tell whether it is GitLab, by its image or by the places of its volumes."""
        image = self.image.rpartition("/")[2].partition(":")[0].partition("@")[0]
        targets = {mount.target.rstrip("/") for mount in self.mounts}
        return image in ("gitlab-ce", "gitlab-ee") or bool(targets & set(_GITLAB))

    def __str__(self) -> str:
        return f"{self.name} ({self.engine}, {self.state})"


def containers() -> tuple[list[Container], list[str]]:
    """Return all containers of the engines on this host, and why none of them answered.

    The client of an engine that is not used may be installed; then another one answers.
    """
    found: dict[str, Container] = {}
    silent, answered = [], False
    for client in CLIENTS:
        if shutil.which(client, path=PATH) is None:
            continue
        try:
            listed = _containers(client)
            answered = True
            for container in listed:
                found.setdefault(container.id, container)  # docker may be another name of podman
        except Failure as failure:
            silent.append(f"{client}: {failure.detail or failure.message}")
            log.info("%s", silent[-1])
    return list(found.values()), [] if answered else silent


def known(client: str, name: str) -> Container | None:
    """Return the container of an engine by its name; None where there is none."""
    if client not in CLIENTS or shutil.which(client, path=PATH) is None:
        return None
    try:
        (found,) = _described(client, name)
    except (Failure, ValueError):
        return None
    return found


def present() -> bool:
    """Tell whether this host has the client of an engine."""
    return any(shutil.which(client, path=PATH) for client in CLIENTS)


def _containers(client: str) -> list[Container]:
    ids = _said(client, "ps", "--all", "--no-trunc", "--quiet").decode(errors="replace").split()
    return _described(client, *ids) if ids else []


def _described(client: str, *ids: str) -> list[Container]:
    try:
        described = validation.from_json(_said(client, "container", "inspect", *ids))
        return [_container(client, entry) for entry in described]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Failure(
            f"{client} cannot be understood", "its answer to inspect is another"
        ) from None


def _said(client: str, *words: str) -> bytes:
    """Return what a client prints; raises Failure where it fails or prints too much."""
    with process.output(Command(["timeout", str(_SECONDS), client, *words])) as (stream, _):
        said = stream.read(_MOST + 1)
    if len(said) > _MOST:
        raise Failure(f"{client} cannot be understood", "its answer is too long")
    return said


def _container(client: str, entry: Mapping[str, Any]) -> Container:
    state, config = entry["State"], entry.get("Config") or {}
    return Container(
        client,
        str(entry["Id"]),
        _line(entry["Name"]).lstrip("/"),
        _line(config.get("Image") or entry.get("ImageName") or entry.get("Rootfs")),
        _line(state.get("Status")),
        int(state.get("Pid") or 0),
        tuple(_mount(mount) for mount in entry.get("Mounts") or ()),
        {_line(key): _line(value) for key, value in (config.get("Labels") or {}).items()},
    )


def _mount(entry: Mapping[str, Any]) -> Mount:
    kind = _line(entry.get("Type"))
    name = _line(entry.get("Name")) if kind == "volume" else ""
    return Mount(kind, name, _line(entry.get("Source")), _line(entry.get("Destination")))


def _line(value: Any) -> str:
    """Return a text without what a terminal would take for a command."""
    return "".join(letter for letter in str(value or "") if letter.isprintable())


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
