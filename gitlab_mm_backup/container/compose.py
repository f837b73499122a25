"""A standalone Mattermost in a container, with PostgreSQL in another, as if both were installed here.

As for GitLab (container/view.py) this process alone sees the server's volumes at their paths. Its
program runs in its image's file system, and PostgreSQL's programs in that of PostgreSQL's container
and in its network, which stays while the server is stopped.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ExitCode, Failure
from ..system import namespaces, sandbox
from ..system.sandbox import Guest
from . import engine, mounts, view
from .engine import Container
from .view import ACCOUNTS, BASE, NAMES, TEXTS, Last, View

_SERVER, _DATABASE = BASE / "server", BASE / "database"  # the root of each image
_NETWORK = BASE / "database-network"
_PROGRAM = "/mattermost/bin/mattermost"  # in Mattermost's images
# Directories with PostgreSQL's programs in its images for Alpine and Debian, and of others.
_CLIENTS = ("usr/local/bin", "usr/lib/postgresql/*/bin", "opt/bitnami/postgresql/bin", "usr/bin")
_ANY = [(0, 0, (1 << 32) - 1)]  # numbers are the host's
_databases: list[tuple[str, Container, Path]] = []  # the host's name, its container, its programs


def enter(container: Container) -> None:
    """Show a server's volumes and account to this process, and its program where it runs.

    Of a stopped one the volumes are those on this host, and its account that of the last time. Other
    threads must not have begun. Raises Failure.
    """
    targets = sorted(mount.target for mount in container.mounts if view.may_show(mount))
    if container.runs:
        taken = mounts.take(container.pid, targets, TEXTS, volumes=False)
        trees, texts = taken.trees, _account_of(container, taken.texts)
    else:
        taken, texts = None, _account_before(container)
        sources = {mount.target: mount.source for mount in container.mounts}
        trees = mounts.of_host({target: sources[target] for target in targets})
    try:
        shift = view.shifts(container.pid) if taken else (_ANY, _ANY)
        view.begin()
        view.place(trees)
        view.know_accounts(texts, shift)
        _SERVER.mkdir()
        if taken:
            _show_program(container, taken)
    except OSError as error:
        raise view.not_shown(error) from None
    finally:
        if taken:
            taken.close()
    sandbox.receive(Guest(_SERVER, (_SERVER,), view.accounts()))
    view.show(View(container, tuple(map(Path, trees))))
    _note(container, texts, shift)


def _show_program(container: Container, taken: mounts.Taken) -> None:
    mounts.attach(taken.root, _SERVER)
    namespaces.use_site(view.network_of(container.pid, taken.texts, "site"))


def server() -> Container | None:
    """Return the container of the standalone Mattermost that this process sees; None for none."""
    seen = view.entered()
    return seen.container if seen is not None and seen.is_server else None


def release() -> None:
    """Let go of the server's root file system, which its engine unmounts when it stops."""
    mounts.detach(_SERVER)


def renew(now: Container) -> None:
    """See the server anew, which is ``now``, where it was started again: its network is another."""
    before = server()
    if before is None or not now.runs or now.pid == before.pid:
        return
    release()
    taken = mounts.take(now.pid, (), TEXTS, volumes=False)
    try:
        _show_program(now, taken)
    except OSError as error:
        raise view.not_shown(error) from None
    finally:
        taken.close()
    seen = view.entered()
    assert seen is not None
    view.show(View(now, seen.trees))


def account() -> tuple[str, str]:
    """Return the names of the user and group that the server runs as."""
    last = view.last()
    name, group, *_ = (last.account if last else "").split(":")
    return name, group


def note_version(version: str) -> str:
    """Keep the version of a server that runs; return that of the last time for a stopped one."""
    last = view.last()
    if version == "unknown" or last is None:
        return (last.mattermost if last else "") or version
    view.note(Last(last.engine, last.name, last.gitlab, version, last.account))
    return version


def program(container: Container) -> tuple[Path, list[str]]:
    """Return the server's program, as this process sees it, and its arguments."""
    words = list(container.start.words)
    places = [at for at, word in enumerate(words) if word.rpartition("/")[2] == "mattermost"]
    arguments = words[places[0] + 1 :] if places else []
    given = words[places[0]] if places and words[places[0]].startswith("/") else _PROGRAM
    return _SERVER / given.lstrip("/"), arguments


def use_database(host: str) -> Path | None:
    """Reach PostgreSQL in the container that the server knows as ``host``; return its programs.

    None where no container has that name: then it is reached in this host's own network. Raises
    Failure where the container does not run.
    """
    here = server()
    if here is None:
        return None
    for name, _, programs in _databases:
        if name == host:
            return programs
    found = database_of(here, host, engine.containers()[0])
    if found is None:
        return None
    programs = _enter_database(found, host)
    _databases.append((host, found, programs))
    return programs


def care() -> str:
    """Return what to do where PostgreSQL of a server in a container does not answer; "" for others."""
    here = server()
    if here is None:
        return ""
    return (
        f"See {here.engine} ps --all, and check MM_SQLSETTINGS_DATASOURCE of {here.name}, or "
        "SqlSettings.DataSource in its config.json. A PostgreSQL that is in no container of its networks "
        "must be reached from this host by the same name."
    )


def database() -> Container | None:
    """Return the container of PostgreSQL that is used; None where there is none."""
    return _databases[0][1] if _databases else None


def database_folder() -> Path | None:
    """Return where on this host the data of PostgreSQL's container are; None where not known."""
    if server() is None:
        return None
    found = database()
    sources = [Path(mount.source) for mount in found.mounts if mount.source] if found else []
    folders = [path for path in sources if path.is_dir() and not path.is_mount()]
    return folders[0] if folders else Path("/usr")  # whose disk is the host's: / is in memory


def database_of(here: Container, host: str, others: Sequence[Container]) -> Container | None:
    """Return the running container of PostgreSQL that ``here`` reaches as ``host``, None for none."""
    found = [
        other
        for other in others
        if other.id != here.id and other.is_postgresql and other.is_reached_as(host, here)
    ]
    running = [other for other in found if other.runs]
    if len(running) > 1:
        raise Failure(
            f"Several containers are Mattermost's PostgreSQL {host}",
            ", ".join(map(str, running)),
            "Name one of them by its own name in the DataSource, or stop the other.",
            ExitCode.USAGE,
        )
    if found and not running:
        other = found[0]
        raise Failure(
            f"The container {other.name} with Mattermost's PostgreSQL is not running",
            f"{other.engine} says: {other.state or 'unknown'}",
            f"Start it: {other.engine} start {other.name}. Its log: {other.engine} logs {other.name}.",
        )
    return running[0] if running else None


def _enter_database(container: Container, host: str) -> Path:
    taken = mounts.take(container.pid, (), NAMES, volumes=False)
    try:
        _DATABASE.mkdir()
        mounts.attach(taken.root, _DATABASE)
        _NETWORK.touch()
        mounts.bind(Path(f"/proc/{container.pid}/ns/net"), _NETWORK)
        texts = dict(taken.texts)
        if not _is_address(host):  # in its own network it is this, whatever an engine resolves
            texts["/etc/hosts"] = f"127.0.0.1 {host}\n{texts['/etc/hosts']}"
        network = view.network_of(container.pid, texts, "database")
    except OSError as error:
        raise view.not_shown(error) from None
    finally:
        taken.close()
    namespaces.use_database(network)
    files = {**view.accounts(), **network.names}
    there = {path: at for path, at in files.items() if os.path.lexists(_below(path))}
    sandbox.receive(Guest(_DATABASE, (_DATABASE,), there, _NETWORK))
    return _clients(container)


def _below(path: Path) -> Path:
    return _DATABASE / path.relative_to("/")


def _clients(container: Container) -> Path:
    for pattern in _CLIENTS:
        for folder in sorted(_DATABASE.glob(pattern), reverse=True):
            if os.access(folder / "pg_dump", os.X_OK):
                return folder
    raise Failure(
        f"The container {container.name} has no pg_dump",
        f"it is in none of /{', /'.join(_CLIENTS)} of its image",
        "Use an image of PostgreSQL's that has its client programs, such as postgres:17-alpine.",
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _account_of(container: Container, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the account that the server runs as, as lines of passwd(5) and group(5)."""
    user, _, group = container.start.user.partition(":")
    people = [line.split(":") for line in texts[ACCOUNTS[0]].splitlines()]
    groups = [line.split(":") for line in texts[ACCOUNTS[1]].splitlines()]
    entry = _entry(people, user or "root", 4)
    uid = entry[2] if entry else user
    gid = entry[3] if entry else "0"
    if group:
        gid = named[2] if (named := _entry(groups, group, 3)) else group
    if not (uid.isdecimal() and gid.isdecimal()):
        raise Failure(
            f"The account {container.start.user} of the container {container.name} is not known",
            "its /etc/passwd or /etc/group does not have it",
            "Run the container as an account that its image has, or by number.",
        )
    named = _entry(groups, gid, 3)
    name = entry[0] if entry else "mattermost"
    return _lines(name, named[0] if named else name, uid, gid)


def _entry(lines: Sequence[list[str]], wanted: str, fields: int) -> list[str] | None:
    return next(
        (line for line in lines if len(line) >= fields and wanted in (line[0], line[2])), None
    )


def _account_before(container: Container) -> dict[str, str]:
    last = view.last()
    fields = (last.account if last and last.name == container.name else "").split(":")
    if len(fields) != 4:
        raise Failure(
            f"The container {container.name} is not running",
            f"{container.engine} says: {container.state or 'unknown'}",
            f"Start it: {container.engine} start {container.name}.",
        )
    return _lines(*fields)


def _lines(name: str, group: str, uid: str, gid: str) -> dict[str, str]:
    passwd = f"{name}:x:{uid}:{gid}::/:/usr/sbin/nologin"
    return dict(zip(ACCOUNTS, (passwd, f"{group}:x:{gid}:")))


def _note(container: Container, texts: Mapping[str, str], shift: view.Shift) -> None:
    """Keep the account with its numbers on this host, for when the server is stopped."""
    passwd = texts[ACCOUNTS[0]].split(":")
    name, _, uid, gid, *_ = view.shifted(passwd, (2, 3), shift).split(":")
    group = texts[ACCOUNTS[1]].partition(":")[0]
    last = view.last()
    version = last.mattermost if last and last.name == container.name else ""
    view.note(Last(container.engine, container.name, "", version, f"{name}:{group}:{uid}:{gid}"))
