"""Which container this host's GitLab is in: the named one, or the only one; and why none is reached."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ExitCode, Failure
from . import compose, engine, view
from .engine import Container

_NAMING = "Name it with --container NAME, or container: NAME in /etc/gitlab-mm-backup/config.yml."
_missing: list[Failure] = []


def reach(wanted: str) -> None:
    """See the files of the container ``wanted``, "" for the only one with GitLab.

    Where that is not possible ``missing`` has the reason: much can be done without the container.
    """
    try:
        found = _used_before(wanted) or choose(wanted, *engine.containers())
        if found is not None:
            (compose if found.is_mattermost else view).enter(found)
    except Failure as failure:
        _missing.append(failure)


def missing() -> Failure | None:
    """Return why the container that this host's GitLab is in is not reached; None if there is none."""
    return _missing[0] if _missing else None


def _used_before(wanted: str) -> Container | None:
    """Return the container that was used before, where it runs: that is one question to an engine."""
    last = view.last()
    if last is None or (wanted and wanted != last.name):
        return None
    found = engine.known(last.engine, last.name)
    usable = found is not None and found.name == last.name and (found.runs or found.is_mattermost)
    return found if usable else None


def choose(wanted: str, containers: Sequence[Container], silent: Sequence[str]) -> Container | None:
    """Return the container to use; None where there is none and none was used before.

    ``silent``: why engines did not answer. Raises Failure where it is not running or not known.
    """
    last = view.last()
    name = wanted or (last.name if last else "")
    ours = [container for container in containers if container.is_gitlab or container.is_mattermost]
    if name:
        named = [container for container in containers if _is(container, name)]
        if len(named) == 1:
            return _running(named[0])
        if wanted and len(named) > 1:
            raise _several(named)
        if wanted or not ours:
            raise _unknown(name, ours, silent)
    running = [container for container in ours if container.runs]
    if len(running or ours) > 1:
        raise _several(running or ours)
    return _running((running or ours)[0]) if ours else None


def _is(container: Container, name: str) -> bool:
    """Tell whether a container has that name, or id, or is that service of a compose project."""
    service = container.is_mattermost and container.service == name
    known = len(name) >= 12 and container.id.startswith(name)
    return name == container.name or service or known


def _running(container: Container) -> Container:
    if container.runs or container.is_mattermost:  # one that is stopped needs its volumes only
        return container
    start = "unpause" if container.state == "paused" else "start"
    wait = container.state in ("restarting", "created", "initialized", "stopping")
    raise Failure(
        f"The container {container.name} is not running",
        f"{container.engine} says: {container.state or 'unknown'}",
        f"See {container.engine} logs {container.name}, and try again when it runs."
        if wait
        else f"Start it: {container.engine} {start} {container.name}. To back up what a stopped "
        "one left: gitlab-mm backup --root DIR.",
    )


def _several(found: Sequence[Container]) -> Failure:
    kind = "GitLab" if all(container.is_gitlab for container in found) else "Mattermost"
    return Failure(
        f"There are several {kind} containers on this host",
        ", ".join(map(str, found)),
        _NAMING,
        ExitCode.USAGE,
    )


def _unknown(name: str, others: Sequence[Container], silent: Sequence[str]) -> Failure:
    if silent:
        return Failure(
            "The container engine does not answer",
            "; ".join(silent),
            f"Start the engine, then try again; the container {name} is not reached.",
        )
    there = f"there are: {', '.join(map(str, others))}" if others else "no engine has one for root"
    return Failure(
        f"There is no container {name} with GitLab on this host",
        there,
        f"{_NAMING} Containers of a rootless engine are those of their account: run GitLab's by root.",
    )
