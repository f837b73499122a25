"""Container engines, asked by their own clients: docker, podman, nerdctl."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import Failure
from ..system import process, validation
from ..system.process import PATH, Command
from ..system.redaction import Secret

CLIENTS = ("docker", "podman", "nerdctl")
_OURS, _HOSTS = "/proc/self/ns/mnt", "/proc/1/ns/mnt"  # mount namespaces
log = logging.getLogger(__name__)
_SECONDS = 30  # for an answer
_MOST = 16 << 20  # bytes of an answer
# Labels of docker compose and podman-compose.
_PROJECT = ("com.docker.compose.project", "io.podman.compose.project")
_SERVICE = ("com.docker.compose.service", "io.podman.compose.service")
_GITLAB = ("/etc/gitlab", "/var/opt/gitlab", "/opt/gitlab")  # where GitLab's image has volumes
_MATTERMOST = ("mattermost-team-edition", "mattermost-enterprise-edition")
_SERVER_VOLUMES = ("/mattermost/config", "/mattermost/data")  # of Mattermost's image
_DATABASE_VOLUMES = ("/var/lib/postgresql/data", "/var/lib/postgresql")  # of PostgreSQL's image
_SHARED = "container:"  # before the id of the container whose network another one uses


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
class Start:
    """What an engine starts in a container, and in which networks."""

    words: tuple[str, ...] = ()  # the program and its arguments
    user: str = ""  # a name or number, with ":" and a group; "" for root or the image's own
    folder: str = ""
    environment: Mapping[str, Secret] = field(default_factory=dict)
    restart: str = ""  # the engine's policy: no, always, unless-stopped, on-failure
    once: bool = False  # its engine removes it when it stops
    hostname: str = ""
    network: str = ""  # "container:ID" for that of another container, "host" for the host's
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)  # network -> names, addresses


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
    start: Start = field(default_factory=Start)

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
        return self._image in ("gitlab-ce", "gitlab-ee") or bool(self._targets & set(_GITLAB))

    @property
    def is_mattermost(self) -> bool:
        """Tell whether it is a standalone Mattermost, by its image or by the places of its volumes."""
        return not self.is_gitlab and (
            self._image in _MATTERMOST or self._targets >= set(_SERVER_VOLUMES)
        )

    @property
    def is_postgresql(self) -> bool:
        """Tell whether it is PostgreSQL: by its image, volume or variables."""
        named = "postgres" in self._image
        return (
            named
            or bool(self._targets & set(_DATABASE_VOLUMES))
            or "PGDATA" in self.start.environment
        )

    def shares_network(self, other: Container) -> bool:
        """Tell whether both have one network namespace."""
        return self._network == other._network

    def is_reached_as(self, host: str, by: Container) -> bool:
        """Tell whether ``by`` reaches it under the name or address ``host``."""
        if self.shares_network(by):
            return host in ("localhost", "127.0.0.1", "::1", self.start.hostname)
        shared = set(self.start.names) & set(by.start.names)
        names = {name for network in shared for name in self.start.names[network]}
        names |= {self.name, self.service, self.start.hostname}
        return bool(shared) and host in names - {""}

    @property
    def _network(self) -> str:
        network = self.start.network
        if network == "host":
            return network
        return network[len(_SHARED) :] if network.startswith(_SHARED) else self.id

    @property
    def _image(self) -> str:
        return self.image.rpartition("/")[2].partition(":")[0].partition("@")[0]

    @property
    def _targets(self) -> set[str]:
        return {mount.target.rstrip("/") for mount in self.mounts}

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


def control(client: str, *words: str, seconds: float = _SECONDS) -> str:
    """Have a client act on a container; return what it prints, errors last; raises Failure."""
    done = process.run(_command(client, *words), timeout=seconds)
    return f"{done.out}\n{done.err}"


def _said(client: str, *words: str) -> bytes:
    """Return what a client prints; raises Failure where it fails or prints too much."""
    with process.output(_command("timeout", str(_SECONDS), client, *words)) as (stream, _):
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
        _start(entry, config),
    )


def _start(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Start:
    host, networks = entry.get("HostConfig") or {}, entry.get("NetworkSettings") or {}
    pairs = [str(pair).partition("=") for pair in config.get("Env") or ()]
    begin = config.get("Entrypoint") or ()
    begin = begin.split() if isinstance(begin, str) else begin  # of podman before 5
    named = (networks.get("Networks") or {}).items()
    return Start(
        tuple(map(_line, (*begin, *(config.get("Cmd") or ())))),
        _line(config.get("User")),
        _line(config.get("WorkingDir")),
        {name: Secret(value) for name, _, value in pairs},
        _line((host.get("RestartPolicy") or {}).get("Name")),
        bool(host.get("AutoRemove")),
        _line(config.get("Hostname")),
        _line(host.get("NetworkMode")),
        {_line(name): _names(network or {}) for name, network in named},
    )


def _names(network: Mapping[str, Any]) -> frozenset[str]:
    """Return the names and addresses of a container in a network."""
    found = [network.get("IPAddress"), network.get("GlobalIPv6Address")]
    names = [*(network.get("Aliases") or ()), *(network.get("DNSNames") or ()), *found]
    return frozenset(_line(name) for name in names if name)


def _mount(entry: Mapping[str, Any]) -> Mount:
    kind = _line(entry.get("Type"))
    name = _line(entry.get("Name")) if kind == "volume" else ""
    return Mount(kind, name, _line(entry.get("Source")), _line(entry.get("Destination")))


def _command(*words: str) -> Command:
    """Return a client as the host runs it: podman mounts what a container needs where it runs.

    A process that sees a container's files has private mounts, which end with it.
    """
    try:
        ours = os.path.samefile(_OURS, _HOSTS)
    except OSError:
        ours = True
    return Command(words if ours else ["nsenter", f"--mount={_HOSTS}", "--", *words])


def _line(value: Any) -> str:
    """Return a text without what a terminal would take for a command."""
    return "".join(letter for letter in str(value or "") if letter.isprintable())


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
