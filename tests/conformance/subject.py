"""A Mattermost program under test: it runs in a lab with its own data; the Mattermost of Omnibus is stopped.

subject = Subject(gitlab, "10.9.0")
with subject.running() as server:
    print(server.get("/api/v4/system/ping").document)
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitlab_mm_backup.mattermost import listener
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig, overlay
from gitlab_mm_backup.system.redaction import Secret
from tests.lab.errors import wait_until
from tests.lab.fakes.generation import version_tuple
from tests.lab.omnibus import Omnibus, Session

PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
SERVICE = "/opt/gitlab/embedded/service/mattermost"
ACCOUNT = "mattermost"
PING = "/api/v4/system/ping"
LISTEN = "127.0.0.1:8065"  # where nginx looks for it
BESIDE = "127.0.0.1:8066"
PATIENCE = 120  # seconds; a real server makes its tables first
# What a server may keep of an earlier start, as an administrator may have written it.
CONFIG: dict[str, Any] = {
    "ServiceSettings": {"SiteURL": "http://of-the-file.example.test/"},
    "TeamSettings": {"SiteName": "of the file", "maxusersperteam": 77},
    "FileSettings": {"Directory": "./of-the-file", "PublicLinkSalt": ""},
    "GitLabSettings": {"Enable": False, "Id": "of the file", "Secret": None},
    "LogSettings": None,
    "OfNoVersion": {"Key": "value"},
}


@dataclass(frozen=True)
class Answer:
    """A response, with its header lines in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def cookies(self) -> dict[str, str]:
        """Each cookie's whole line by its name."""
        lines = [value for key, value in self.headers if key == "set-cookie"]
        return {line.partition("=")[0]: line for line in lines}


@dataclass(frozen=True)
class Ended:
    """A server that has ended by itself, and what it said."""

    code: int
    said: str


@dataclass
class Server:
    """A server that was started, and perhaps runs."""

    subject: Subject
    place: str  # directory with its config.json, its uploads and its output
    environment: dict[str, str]
    process: subprocess.Popen[Any]
    config_inode: int = 0  # of the file that it found

    @property
    def config_file(self) -> str:
        return f"{self.place}/config.json"

    @property
    def data(self) -> str:
        return f"{self.place}/data"

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads(self.subject.lab.read(self.config_file)))

    @property
    def settings(self) -> EffectiveConfig:
        """The effective settings, as the product reads them."""
        return overlay(self.config, self.secrets)

    @property
    def secrets(self) -> dict[str, Secret]:
        return {name: Secret(value) for name, value in self.environment.items()}

    @property
    def url(self) -> str:
        """Where the product looks for it: all that says so is in the environment."""
        return listener.of(overlay({}, self.secrets)).url

    @property
    def said(self) -> str:
        return self.subject.lab.read(f"{self.place}/said")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log, as far as that is JSON."""
        return [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]

    def get(self, path: str, *more: str, url: str = "") -> Answer:
        """Ask as curl(1) does; ``more`` are its options. Status 0 means no answer."""
        options = ("--silent", "--include", "--http1.1", "--max-time", "20", "--noproxy", "*")
        asked = ("curl", *options, *more, (url or self.url) + path)
        done = self.subject.lab.run_bytes(*asked, check=False)
        if not done.stdout:  # what is cut off by --max-time counts
            return Answer(0, [], b"")
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = [(name.lower(), value) for name, value in pairs]
        return Answer(int(first.split()[1]), headers, body)

    def wait(self) -> None:
        """Wait until it answers."""
        said = ""

        def up() -> bool:
            nonlocal said
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {said}"
            said = self.said[-2000:]
            return self.get(PING).status == 200

        wait_until(up, PATIENCE, "the server")

    def ended(self) -> Ended:
        """Wait until it ends."""
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said[-2000:]}") from None
        return Ended(code, self.said)

    def kill(self) -> None:
        """End it as a power cut does: a real one takes its time to end by itself."""
        if self.process.poll() is None:
            self.subject.lab.send_signal(self.process, signal.SIGKILL)
            self.process.wait(30)


@dataclass
class Subject:
    """A program, and the GitLab that it belongs to."""

    gitlab: Omnibus
    version: str
    program: str = PROGRAM
    name: str = "conformance"  # of its database, and of its directory in /srv
    sessions: dict[str, Session] = field(default_factory=dict)  # by the user's name
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _count: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Make the database, and an empty directory."""
        self.lab = self.gitlab.lab
        self.numbers = version_tuple(self.version)
        self.lab.run("rm", "-rf", f"/srv/{self.name}")
        self.gitlab.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)", "postgres")
        self.gitlab.sql(f"CREATE DATABASE {self.name} OWNER gitlab_mattermost", "postgres")

    def close(self) -> None:
        """End what runs."""
        self._held.close()

    def sql(self, statement: str) -> list[str]:
        return self.gitlab.sql(statement, self.name)

    @functools.cached_property
    def usual(self) -> Server:
        """A server with a config.json of an administrator and Omnibus's environment, for all checks."""
        variables = {
            "MM_TEAMSETTINGS_SITENAME": "of the environment",
            "mm_teamsettings_enableopenserver": "T",
            "MM_TEAMSETTINGS_ENABLEUSERCREATION": "perhaps",
            "MM_SERVICESETTINGS_WEBSOCKETPORT": "8888",
            "MM_SERVICESETTINGS_WEBSOCKETSECUREPORT": "many",
        }
        server = self._held.enter_context(self.started(environment=variables, listen=LISTEN))
        server.wait()
        return server

    @contextlib.contextmanager
    def running(self, **how: Any) -> Iterator[Server]:
        """Start a server (see ``started``), and wait until it answers."""
        with self.started(**how) as server:
            server.wait()
            yield server

    def ended(self, **how: Any) -> Ended:
        """Start a server that ends by itself."""
        with self.started(**how) as server:
            return server.ended()

    @contextlib.contextmanager
    def started(
        self,
        *,
        config: Mapping[str, Any] | str | None = CONFIG,
        environment: Mapping[str, str] | None = None,
        listen: str = BESIDE,
        database: str = "",
        owner: str = ACCOUNT,
        mode: int = 0o640,
    ) -> Iterator[Server]:
        """Start a server for the block; ``config`` None means no file."""
        place = f"/srv/{self.name}/{next(self._count)}"
        self.lab.run("install", "-d", "-o", ACCOUNT, "-m", "750", f"{place}/data")
        self.lab.run("chown", ACCOUNT, place)
        inode = 0
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            self.lab.write(f"{place}/config.json", text, mode=mode, owner=owner)
            inode = self.lab.path(f"{place}/config.json").stat().st_ino
        variables = {**self._environment(place, listen, database), **(environment or {})}
        with self.lab.path(place).joinpath("said").open("wb") as said:
            process = self.lab.popen(
                self.program,
                "--config",
                f"{place}/config.json",
                user=ACCOUNT,
                cwd=SERVICE,
                env=variables,
                stdout=said.fileno(),
                stderr=said.fileno(),
            )
        server = Server(self, place, variables, process, inode)
        try:
            yield server
        finally:
            server.kill()

    def _environment(self, place: str, listen: str, database: str) -> dict[str, str]:
        """Omnibus's variables, with places of this server."""
        found = self.gitlab.environment()
        source = found["MM_SQLSETTINGS_DATASOURCE"]
        name = database or self.name
        return {
            **found,
            "MM_SQLSETTINGS_DATASOURCE": source.replace(self.gitlab.database, name),
            "MM_SERVICESETTINGS_LISTENADDRESS": listen,
            "MM_FILESETTINGS_DIRECTORY": f"{place}/data",
            "MM_LOGSETTINGS_ENABLEFILE": "false",
            "MM_PLUGINSETTINGS_ENABLE": "false",
            "MM_LOGSETTINGS_ENABLEDIAGNOSTICS": "false",
            "MM_SERVICESETTINGS_ENABLESECURITYFIXALERT": "false",
        }


def refuses(answer: Answer, status: int) -> None:
    """Assert that a request is refused with this status."""
    assert answer.status == status, answer
