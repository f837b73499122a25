"""Find a standalone Mattermost by its systemd unit or its container, and by config.json."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..container import compose, selection
from ..container.engine import Container
from ..errors import Failure
from ..postgresql import connection, data_source
from ..postgresql.endpoint import Endpoint, Login
from ..system import process, sandbox
from ..system.files import STATE, replace_file
from ..system.process import Command
from ..system.redaction import Secret
from ..version import numbers
from . import json_file, trust
from .effective_config import EffectiveConfig, overlay
from .site import Account, Folders, GitLab, Kind, Site

UNIT = "mattermost"
# A copy of config.json, for a rollback while its folder is being exchanged.
KEPT = STATE / "standalone-config.json"
_PROPERTIES = (
    "LoadState",
    "ExecStart",
    "User",
    "Group",
    "WorkingDirectory",
    "Environment",
)
_START = re.compile(r"path=(\S+) ; argv\[\]=(.*?) ; ignore_errors=")
_FILE = re.compile(r"(/.*?) \(ignore_errors=\w+\)")
_IN_DATABASE = ("postgres://", "postgresql://", "mysql://")
#: Arguments by which the program prints its version. Without the first, 5.x connects to its
#: database before; 10.11 and later do not know it.
VERSION = (("version", "--skip-server-start"), ("version",))
_READ = ("MM_", "PG", "SSL_CERT_")  # variables that the server reads
_CLIENTS = Path("/usr/lib/postgresql")
# Mattermost's default directories (its own config.json, 5.0 to 11).
_USUAL = {
    "data": ("FileSettings", "Directory", "./data/"),
    "plugins": ("PluginSettings", "Directory", "./plugins"),
    "client-plugins": ("PluginSettings", "ClientDirectory", "./client/plugins"),
}


@dataclass(frozen=True)
class _Unit:
    """The service as systemd sees it, drop-ins included, or as an engine runs it."""

    program: Path
    arguments: list[str]
    account: Account
    working_folder: Path
    environment: Mapping[str, Secret]
    inside: Path | None = None  # the program's path in its container

    @property
    def home(self) -> Path:
        """Return the tree that the program is in."""
        return (self.inside or self.program).parent.parent


def present() -> bool:
    """Tell whether there is one; systemd's is looked for only where systemd runs."""
    if compose.server() is not None:
        return True
    return Path("/run/systemd/system").is_dir() and bool(_properties().get("ExecStart"))


def find() -> Site:
    """Return the standalone Mattermost of this host.

    Raises Failure when there is none, when its config.json is missing or in its database, and when
    that database is not PostgreSQL, or in a container that is stopped. Does not check whether the
    database answers.
    """
    contained, unreached = compose.server(), selection.missing()
    if unreached is not None and not present():
        raise unreached
    unit = _unit() if contained is None else _contained(contained)
    config_file = _config_file(unit)
    there = config_file if config_file.exists() or not KEPT.exists() else KEPT
    if not there.exists():
        raise Failure(
            "Mattermost's config.json is missing",
            f"{config_file} does not exist",
            "Copy config.defaults.json next to it to config.json, set SqlSettings.DataSource to an "
            "empty database, then try again.",
        )
    settings = overlay(json_file.read_config(there).document, unit.environment)
    endpoint = _endpoint(settings, config_file, unit.account, unit.environment)
    programs = compose.use_database(endpoint.host)
    return Site(
        kind=Kind.STANDALONE,
        version=_version(unit),
        account=unit.account,
        folders=_folders(unit, config_file, settings),
        config_file=config_file,
        environment_folder=None,
        environment=unit.environment,
        settings=settings,
        database=endpoint,
        client_programs=programs or _client_programs(endpoint),
        gitlab=GitLab("", _gitlab_url(settings), None),
        program=unit.program,
        working_folder=unit.working_folder,
    )


def keep_config(site: Site) -> None:
    """Keep a private copy of config.json until ``forget_config``, to find the site by it.

    The copy of a failed restore with --in-place is the only one, and stays.
    """
    if KEPT.exists() and not site.config_file.exists():
        return
    try:
        KEPT.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(KEPT, site.config_file.read_bytes())
    except OSError as error:
        raise Failure(f"{KEPT} cannot be written", str(error.strerror)) from error


def forget_config() -> None:
    """Remove that copy."""
    KEPT.unlink(missing_ok=True)


def _properties() -> dict[str, str]:
    wanted = ",".join((*_PROPERTIES, "EnvironmentFiles"))
    shown = process.run(Command(["systemctl", "show", UNIT, f"--property={wanted}"])).out
    found: dict[str, str] = {}
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _unit() -> _Unit:
    found = _properties()
    start = _START.search(found.get("ExecStart", ""))
    if start is None:
        raise Failure(
            "There is no standalone Mattermost on this host",
            f"systemd has no service {UNIT} ({found.get('LoadState') or 'unknown'})",
            "Install Mattermost's own package, or its tarball with the unit of its guide, first.",
        )
    user = found.get("User") or "root"
    gid = sandbox.account_entry(user).pw_gid
    return _Unit(
        Path(os.path.realpath(start[1])),
        start[2].split()[1:],
        Account(user, found.get("Group") or _group_name(gid)),
        Path(found.get("WorkingDirectory", "").lstrip("!~") or "/"),
        _environment(found),
    )


def _contained(container: Container) -> _Unit:
    program, arguments = compose.program(container)
    inside = sandbox.path_inside(sandbox.guest_of(str(program)), str(program))
    return _Unit(
        program,
        arguments,
        Account(*compose.account()),
        Path(container.start.folder or "/mattermost"),
        {
            name: value
            for name, value in container.start.environment.items()
            if name.startswith(_READ)
        },
        Path(inside),
    )


def _group_name(gid: int) -> str:
    """Return the name of a group; raises Failure when it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        raise Failure(f"There is no group {gid} on this host") from None


def _environment(found: Mapping[str, str]) -> dict[str, Secret]:
    """Return the variables of the unit; those of its files win, as in systemd.exec(5)."""
    words = shlex.split(found.get("Environment", ""))
    for path in _FILE.findall(found.get("EnvironmentFiles", "")):
        try:
            words += _assignments(Path(path).read_text(errors="surrogateescape"))
        except OSError:
            continue  # it may be optional, and without one that is not the service does not start
    pairs = [word.partition("=") for word in words]
    return {name: Secret(value) for name, equals, value in pairs if equals}


def _assignments(text: str) -> list[str]:
    """Return NAME=value of each line; quotes as a shell's, comments begin with # or ;."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            name, _, value = line.strip().partition("=")
            try:
                found.append(f"{name.strip()}={' '.join(shlex.split(value))}")
            except ValueError:
                found.append(f"{name.strip()}={value}")
    return found


def _config_file(unit: _Unit) -> Path:
    """Return the server's configuration file; raises Failure where it is a database."""
    given = unit.environment.get("MM_CONFIG")
    named = given.reveal() if given else ""
    for option, value in zip(unit.arguments, [*unit.arguments[1:], ""]):
        if option in ("--config", "-c"):
            named = value
        elif option.startswith("--config="):
            named = option.partition("=")[2]
    if named.startswith(_IN_DATABASE):
        raise Failure(
            "This Mattermost keeps its configuration in its database, which is not supported",
            "MM_CONFIG, or --config in its unit, names a database",
            "Write it to a file (mmctl config migrate DATABASE config.json), point the unit to "
            "it, then try again.",
        )
    wanted = named or "config.json"
    usual = unit.home / "config"
    places = [unit.working_folder / wanted, usual / wanted, unit.home / wanted]
    return next((place for place in places if place.is_file()), usual / Path(wanted).name)


def _folders(unit: _Unit, config_file: Path, settings: EffectiveConfig) -> Folders:
    """Find the folders; the home is that of config.json: certificates are there, programs not."""
    configured, by_account = {"home": config_file.parent}, []
    for role, (section, key, usual) in _USUAL.items():
        path = settings.text(section, key) or usual
        if f"MM_{section}_{key}".upper() not in unit.environment:
            by_account.append(role)
        configured[role] = Path(os.path.normpath(unit.working_folder / path))
    real = trust.real(configured, unit.account.user, by_account)
    return Folders(configured, real, shared=("home",))


def _endpoint(
    settings: EffectiveConfig,
    config_file: Path,
    account: Account,
    environment: Mapping[str, Secret] | None = None,
) -> Endpoint:
    if settings.text("SqlSettings", "DriverName") == "mysql":
        raise Failure(
            "This Mattermost keeps its data in MySQL, which is not supported",
            f"SqlSettings.DriverName in {config_file} is mysql",
            "Give it a PostgreSQL database.",
        )
    look = compose.care() or f"Check SqlSettings.DataSource in {config_file}."
    text = settings.text("SqlSettings", "DataSource")
    parts = data_source.direct(data_source.parse(text, look, environment))
    host, password = parts.get("host") or "localhost", parts.get("password", "")
    role = parts.get("user") or account.user
    peer = host.startswith("/") and not password
    owner = Login(
        role,
        account.user if peer or data_source.has_files(parts) else None,
        Secret(password) if password else None,
    )
    return Endpoint(
        host=host,
        port=data_source.port(parts, "5432", look),
        name=parts.get("dbname") or role,
        owner=owner,
        admin=owner,
        options=data_source.options(parts),
        session=data_source.session(parts),
        care=look,
        making=f"Create it, owned by {role}, then try again.",
    )


def _version(unit: _Unit) -> str:
    """Ask the program for its version, as the service's account."""
    for words in VERSION:
        command = Command([str(unit.program), *words], account=unit.account.user)
        with contextlib.suppress(Failure):
            return compose.note_version(version_in(process.run(command, timeout=60).out))
    return compose.note_version("unknown")


def version_in(said: str) -> str:
    """Return the version in what the program prints about itself."""
    found = re.search(r"^Version:\s*(\d[\w.+-]*)", said, re.MULTILINE)
    return found[1] if found else "unknown"


def _client_programs(endpoint: Endpoint) -> Path:
    """Return the folder of the oldest installed clients that fit the server.

    Newer clients can read it too, but may send what it does not know. Where the server does not
    answer, they are the newest; the error comes when they are used.
    """
    found = {numbers(path.parts[-3])[0]: path.parent for path in _CLIENTS.glob("*/bin/pg_dump")}
    plain = shutil.which("pg_dump", path=process.PATH)
    if not found and plain is None:
        raise Failure(
            "PostgreSQL's client programs are missing",
            f"there is no pg_dump in {_CLIENTS}/*/bin, and none in {process.PATH}",
            ". ".join(filter(None, ("apt-get install postgresql-client", compose.care()))),
        )
    if not found:
        return Path(str(plain)).parent
    try:
        # Not the database itself: a wrong name must not hide a running server.
        with connection.administering(endpoint) as session:
            server = numbers(connection.server_version(session))[0]
    except Failure:
        return found[max(found)]
    fitting = [major for major in found if major >= server]
    if not fitting:
        raise Failure(
            "PostgreSQL's client programs are too old for the server",
            f"it is {server}, the newest here are {max(found)}",
            f"apt-get install postgresql-client-{server}",
        )
    return found[min(fitting)]


def _gitlab_url(settings: EffectiveConfig) -> str:
    return settings.text("GitLabSettings", "AuthEndpoint").removesuffix("/oauth/authorize")
