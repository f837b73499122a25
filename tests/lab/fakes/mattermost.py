"""Stands in for the Mattermost server: what it reads, keeps and answers at the edges that a backup touches.

A file `misbehave` in its working folder makes it fail on purpose: with the word "exit" it ends at once, with
"silent" it runs but never listens. Without --config it takes MM_CONFIG, then config/config.json beside its bin folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from datetime import datetime, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import psycopg

from . import mattermost_config, mattermost_data, mattermost_schema
from .generation import version_tuple
from .mattermost_api import Api
from .mattermost_login import Login
from .pool import Pool, method
from .web import Application, Request, Response, Routes, page, redirect, serve

VERSION = Path(__file__).resolve().parent.parent / "mattermost-version"
RETRY_SECONDS = 0.5


class Log:
    """JSON lines on the console, which is svlogd, and in mattermost.log."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._file: TextIO | None = None
        if settings.get("EnableFile") and settings.get("FileLocation"):
            try:
                self._file = (Path(settings["FileLocation"]) / "mattermost.log").open("a")
            except OSError as error:
                self("warn", f"no log file: {error}")

    def __call__(self, level: str, message: str, **more: str) -> None:
        """Write one line."""
        stamp = (
            datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", " Z")
        )
        line = json.dumps({"timestamp": stamp, "level": level, "msg": message, **more})
        for stream in (sys.stderr, self._file):
            if stream is not None:
                print(line, file=stream, flush=True)


def open_database(config: mattermost_config.Config, version: str, log: Log) -> Pool:
    """Connect and prepare the schema, and try again for ever: the original does not end over a missing database."""
    settings = config["SqlSettings"]
    while True:
        try:
            if version_tuple(version) < (5, 14) and (asked := method(settings["DataSource"])) > 5:
                raise psycopg.OperationalError(f"pq: unknown authentication response: {asked}")
            pool = Pool(settings["DataSource"])
            with pool.transaction() as connection:
                mattermost_schema.prepare(connection, version, mattermost_data.new_id())
            # A connection to each replica too, used or not: with one that is away it does not start.
            for replica in settings["DataSourceReplicas"] + settings["DataSourceSearchReplicas"]:
                Pool(replica).open().close()
            return pool
        except (psycopg.Error, OSError) as error:
            log(
                "error",
                "Failed to ping DB",
                error=str(error).strip(),
                **{"retrying in seconds": "10"},
            )
            time.sleep(RETRY_SECONDS)


def misbehave() -> None:
    """Fail as the file says."""
    path = Path("misbehave")
    word = path.read_text().strip() if path.exists() else ""
    if word == "exit":
        sys.exit(1)
    if word == "silent":
        threading.Event().wait()


def try_mail(config: mattermost_config.Config, log: Log) -> None:
    """See at the start whether the mail server is there, where mails are to be sent."""
    settings = config["EmailSettings"]
    if not settings["SendEmailNotifications"]:
        return
    try:
        socket.create_connection(
            (settings["SMTPServer"], int(settings["SMTPPort"] or 25)), 5
        ).close()
    except (OSError, ValueError) as error:
        log("error", "Mail server connection test failed", error=str(error))


def ended(reason: str) -> int:
    """Say why it ends, as the command does after whatever its log says; gives the exit code."""
    print(f"Error: {reason}", file=sys.stderr)
    return 1


def tell_systemd() -> None:
    """Say that the server is up, where systemd waits for it (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", place.replace("@", "\0", 1))


def listening(listen: str, answering: Application, log: Log) -> ThreadingHTTPServer:
    """Listen at a ListenAddress as Go does: no host means every one, by IPv4 and IPv6."""
    host, _, port = listen.rpartition(":")
    every = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    host = every if host in ("", "0.0.0.0") else host.strip("[]")
    return serve((host, int(port)), answering, lambda line: log("error", line))


def front_page(request: Request, version: tuple[int, ...]) -> Response:
    """What browsers see first, wherever they go: root.html, which browsers may keep."""
    # As http.ServeFile answers, by which root.html came until version 7.
    if version < (7,) and request.headers.get("if-modified-since"):
        return Response(304)
    answer = page(200, "Mattermost")
    if version >= (7,):
        answer.content_type = "text/html"
    answer.headers.append(("Cache-Control", "no-cache, max-age=31556926, public"))
    answer.headers.append(("Content-Security-Policy", "frame-ancestors 'self'; script-src 'self'"))
    return answer


def application(config: mattermost_config.Config, version: str, pool: Pool, log: Log) -> Routes:
    """All addresses."""
    login = Login(config, pool, log)
    api = Api(config, version, pool, Path(config["FileSettings"]["Directory"]))
    front = functools.partial(front_page, version=version_tuple(version))
    return Routes(
        ("GET", "/", front),
        ("GET", "/files/(?P<file>[a-z0-9]{26})/public", api.public_file),
        ("GET", "/oauth/gitlab/login", login.start),
        ("GET", "/(signup|login)/gitlab/complete", login.complete),
        *api.routes(),
        ("GET", "/(?!api/).+", front),
    )


def below(config: mattermost_config.Config, whole: Application) -> Application:
    """Have all addresses come after the path in SiteURL; any other leads there (as the original's server.go)."""
    path = urlsplit(config["ServiceSettings"]["SiteURL"]).path.rstrip("/")

    def answer(request: Request) -> Response:
        inner = request.target[len(path) :]
        if not request.target.startswith(path) or inner[:1] not in ("", "/", "?"):
            return redirect((path + request.target).rstrip("/"))
        return whole(dataclasses.replace(request, target=inner or "/"))

    return answer if path else whole


def main() -> int:
    """Run the server: `mattermost --config FILE`, in its service folder."""
    parser = argparse.ArgumentParser(prog="mattermost", allow_abbrev=False)
    parser.add_argument("command", nargs="?", default="server", choices=["server", "version"])
    usual = Path(sys.argv[0]).resolve().parent.parent / "config/config.json"
    parser.add_argument("-c", "--config", default=os.environ.get("MM_CONFIG") or str(usual))
    version = VERSION.read_text().strip()
    if version_tuple(version) < (10, 11):
        parser.add_argument("--skip-server-start", action="store_true")
    arguments = parser.parse_args()
    os.umask(0o022)
    if arguments.command == "version":
        if version_tuple(version) < (6,) and not arguments.skip_server_start:
            # It would start as a server does, with the files of its working folder.
            print('panic: unable to find i18n directory at "i18n"', file=sys.stderr)
            return 2
        print(f"Version: {version}\nBuild Number: lab\nBuild Enterprise Ready: false")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    misbehave()
    try:
        config = mattermost_config.start(Path(arguments.config), version=version_tuple(version))
    except mattermost_config.Refused as refusal:
        return ended(f"failed to load configuration: {refusal}")
    log = Log(config["LogSettings"])
    log("info", f"Current version is {version}")
    if config["SqlSettings"]["DriverName"] != "postgres":
        log("error", f"unsupported database driver {config['SqlSettings']['DriverName']}")
        return 1
    try:
        pool = open_database(config, version, log)
    except mattermost_schema.TooNew as refusal:
        log("critical", "Failed to apply database migrations.", error=str(refusal))
        return ended(f"failed to apply database migrations: {refusal}")
    try_mail(config, log)
    listen = config["ServiceSettings"]["ListenAddress"]
    answering = below(config, application(config, version, pool, log))
    try:
        server = listening(listen, answering, log)
    except OSError as error:
        reason = f"Error starting server, err:listen tcp {listen}: bind: {error.strerror}".lower()
        log("critical", reason)
        return ended(reason)
    if config["ServiceSettings"]["ConnectionSecurity"] == "TLS":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            config["ServiceSettings"]["TLSCertFile"], config["ServiceSettings"]["TLSKeyFile"]
        )
        server.socket = context.wrap_socket(server.socket, server_side=True)
    log("info", f"Server is listening on {listen}")
    tell_systemd()
    server.serve_forever()
    return 0
