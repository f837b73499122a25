"""Start the host's Mattermost from restored data, without network."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import Failure, reason
from ..mattermost import service
from ..mattermost.listener import Listener
from ..mattermost.site import Site
from ..postgresql.endpoint import Endpoint
from ..postgresql.scratch import ACCOUNT, SOCKET
from ..system import process, progress, validation
from ..system.process import Command, Finished
from ..system.redaction import Secret
from ..system.sandbox import INSIDE, Sandbox

_CERTIFICATES = "/opt/gitlab/embedded/ssl/certs"
_HOME = INSIDE / "home"
_HERE = Listener("127.0.0.1", 8065)
_NOWHERE = "127.0.0.1"  # loopback; nothing listens there
_PATIENCE = 180  # seconds until the first answer; a large site is slow
# Memory limit of Go's garbage collector (from Go 1.19; ignored by older versions).
_MEMORY = "512MiB"
_CONNECTIONS = "10"  # of each pool
# Settings that would use the network, or change the data under test.
_OFF = (
    ("ANNOUNCEMENTSETTINGS", "ADMINNOTICESENABLED"),
    ("ANNOUNCEMENTSETTINGS", "USERNOTICESENABLED"),
    ("BLEVESETTINGS", "ENABLEINDEXING"),
    ("CLUSTERSETTINGS", "ENABLE"),
    ("COMPLIANCESETTINGS", "ENABLE"),
    ("DATARETENTIONSETTINGS", "ENABLEFILEDELETION"),
    ("DATARETENTIONSETTINGS", "ENABLEMESSAGEDELETION"),
    ("ELASTICSEARCHSETTINGS", "ENABLEINDEXING"),
    ("ELASTICSEARCHSETTINGS", "ENABLESEARCHING"),
    ("EMAILSETTINGS", "ENABLEEMAILBATCHING"),
    ("EMAILSETTINGS", "SENDEMAILNOTIFICATIONS"),
    ("EMAILSETTINGS", "SENDPUSHNOTIFICATIONS"),
    ("JOBSETTINGS", "RUNJOBS"),
    ("JOBSETTINGS", "RUNSCHEDULER"),
    ("LDAPSETTINGS", "ENABLE"),
    ("LDAPSETTINGS", "ENABLESYNC"),
    ("LOGSETTINGS", "ENABLEDIAGNOSTICS"),
    ("LOGSETTINGS", "ENABLESENTRY"),
    ("LOGSETTINGS", "ENABLEWEBHOOKDEBUGGING"),
    ("MESSAGEEXPORTSETTINGS", "ENABLEEXPORT"),
    ("METRICSSETTINGS", "ENABLE"),
    ("PLUGINSETTINGS", "ENABLE"),
    ("SERVICESETTINGS", "ENABLELINKPREVIEWS"),
    ("SERVICESETTINGS", "ENABLELOCALMODE"),
    ("SERVICESETTINGS", "ENABLEOUTGOINGWEBHOOKS"),
    ("SERVICESETTINGS", "ENABLESECURITYFIXALERT"),
    ("SERVICESETTINGS", "FORWARD80TO443"),
    ("SERVICESETTINGS", "USELETSENCRYPT"),
)


@dataclass(frozen=True)
class Booted:
    """A Mattermost that has answered."""

    seconds: float  # from its start to its first answer
    status: Mapping[str, Any]  # the answer to ping, with the state of database and files
    config: Mapping[str, Any]  # the client configuration, readable without login


def inside(below: str) -> Listener:
    """Return where Mattermost listens within its network, ``below`` a path."""
    return replace(_HERE, below=below)


def refusal(site: Site, wanted: str) -> str:
    """Return why this host cannot start a set of version ``wanted``, "" if it can."""
    if not os.access(site.below_root(str(site.program)), os.X_OK):
        return f"this host has no {site.program}"
    if site.version != wanted:
        return f"the set is of Mattermost {wanted}, this host has {site.version}"
    return ""


@contextlib.contextmanager
def started(
    site: Site,
    environment: Mapping[str, Secret],
    home: Path,
    data: Path,
    socket: Path,
    database: Endpoint,
    below: str = "",
    more: Mapping[str, str | Secret] | None = None,
) -> Iterator[tuple[Booted, Callable[[], Finished | None]]]:
    """Run ``site``'s program for the block, with the directory ``home`` and ``database``.

    Yields its answers, and a function that returns its result, None while it runs.

    ``environment`` are the set's variables, ``more`` override them and ours. ``socket`` is the
    directory of the database's socket, ``below`` the path in SiteURL. Use it only without network
    (namespaces.without_network). Raises Failure with the last log lines if the program ends or does
    not answer.
    """
    began = time.monotonic()
    command = _command(site, environment, home, data, socket, database, more or {})
    with process.background(command) as ended:
        there = inside(below)
        status = _first_answer(there, ended)
        seconds = time.monotonic() - began
        config = _get(there, "/config/client?format=old")
        yield Booted(seconds, status, config), ended


def _command(
    site: Site,
    environment: Mapping[str, Secret],
    home: Path,
    data: Path,
    socket: Path,
    database: Endpoint,
    more: Mapping[str, str | Secret],
) -> Command:
    return Command(
        [str(site.program), "--config", f"{_HOME}/config.json"],
        account=ACCOUNT,
        environment={
            **_kept(environment),
            **overrides(_inside(home, data), database),
            **more,
        },
        sandbox=Sandbox({_HOME: home, SOCKET: socket}, working_folder=site.working_folder),
    )


def _inside(home: Path, data: Path) -> Path:
    return _HOME / data.relative_to(home)


def _kept(environment: Mapping[str, Secret]) -> dict[str, Secret]:
    """Return only the MM_ variables of the set, without those of the linker or a shell.

    MM_CONFIG is left out, because it would replace the restored configuration.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("MM_") and name != "MM_CONFIG"
    }


def overrides(data: Path, database: Endpoint) -> dict[str, str | Secret]:
    """Return the variables that direct Mattermost to scratch; they override its files."""
    source = Secret(_data_source(database))
    values: dict[str, str | Secret] = {f"MM_{section}_{key}": "false" for section, key in _OFF}
    values.update(
        SSL_CERT_DIR=_CERTIFICATES,
        TMPDIR=str(_HOME),
        GOMEMLIMIT=_MEMORY,
        MM_INSTALL_TYPE="gitlab_omnibus",
        MM_SERVICESETTINGS_LISTENADDRESS=_HERE.place,
        MM_SERVICESETTINGS_CONNECTIONSECURITY="",
        MM_SQLSETTINGS_DRIVERNAME="postgres",
        MM_SQLSETTINGS_DATASOURCE=source,
        MM_SQLSETTINGS_DATASOURCEREPLICAS=source,
        MM_SQLSETTINGS_DATASOURCESEARCHREPLICAS=source,
        MM_SQLSETTINGS_MAXOPENCONNS=_CONNECTIONS,
        MM_FILESETTINGS_DRIVERNAME="local",
        MM_FILESETTINGS_DIRECTORY=f"{data}/",
        MM_PLUGINSETTINGS_DIRECTORY=str(_HOME / "plugins"),
        MM_PLUGINSETTINGS_CLIENTDIRECTORY=str(_HOME / "client-plugins"),
        MM_LOGSETTINGS_ENABLECONSOLE="true",
        MM_LOGSETTINGS_ENABLEFILE="false",
        MM_NOTIFICATIONLOGSETTINGS_ENABLEFILE="false",
        MM_EMAILSETTINGS_SMTPSERVER=_NOWHERE,
        MM_EMAILSETTINGS_PUSHNOTIFICATIONSERVER=f"http://{_NOWHERE}:9",
    )
    return values


def _data_source(database: Endpoint) -> str:
    """Return the DataSource as a URL, because Mattermost splits lists of replicas at blanks."""
    owner = database.owner
    password = owner.password.reveal() if owner.password else ""
    login = f"{quote(owner.role, safe='')}:{quote(password, safe='')}"
    place = {"host": str(SOCKET), "port": database.port, "sslmode": "disable"}
    where = urlencode({**place, **database.session})
    return f"postgres://{login}@/{quote(database.name, safe='')}?{where}"


@progress.waiting("Mattermost")
def _first_answer(there: Listener, ended: Callable[[], Finished | None]) -> Mapping[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _get(there, "/system/ping?get_server_status=true")
        except OSError as error:
            finished = ended()
            if finished is not None:
                raise ended_early(finished) from None
            if time.monotonic() > deadline:
                raise Failure(
                    f"Mattermost did not answer in {_PATIENCE:.0f} seconds", reason(error)
                ) from None
        time.sleep(0.1)


def ended_early(finished: Finished) -> Failure:
    """Return the failure of a Mattermost that ended by itself."""
    return Failure(f"Mattermost ended with exit code {finished.code}", _last_lines(finished.err))


def _last_lines(words: str) -> str:
    """Return the last three log lines; of JSON lines only the message and the error."""
    return "; ".join(service.log_message(line) for line in words.splitlines()[-3:])


def _get(there: Listener, path: str) -> Mapping[str, Any]:
    """Return a JSON object from the API; raises OSError if there is none."""
    try:
        # The HTTP status is ignored: 500 comes with the state that is not OK.
        document = validation.from_json(there.ask(f"/api/v4{path}", timeout=10).body)
    except ValueError as error:
        raise OSError(errno.EPROTO, f"{path} answers no JSON") from error
    if not isinstance(document, dict):
        raise OSError(errno.EPROTO, f"{path} answers no JSON object")
    return document
