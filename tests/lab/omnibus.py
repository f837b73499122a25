"""Omnibus GitLab in a lab: install it, drive it from outside, look at it, lose it.

    with Lab(base=build_base()) as lab:
        gitlab = install(lab, Spec())
        before = gitlab.seed()
        session = gitlab.sign_in("alice")
        print(session.post("hello"))

Inside run Debian's PostgreSQL and runit; GitLab, Mattermost, nginx and gitlab-ctl are stand-ins (tests/lab/fakes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import urlsplit

from tests.lab.fakes.generation import Generation
from tests.lab.sandbox import PYTHON, Lab, LabError
from tests.lab.signed_in_user import Session, SignInFailed, logged_in

__all__ = ["USERS", "Omnibus", "Seed", "Session", "SignInFailed", "Spec", "State", "install"]

RUNSVDIR_PID = "/run/gitlab-runsvdir.pid"
USERS: tuple[Mapping[str, Any], ...] = (
    {
        "id": 1,
        "username": "root",
        "name": "Administrator",
        "email": "admin@example.test",
        "admin": True,
    },
    {"id": 42, "username": "alice", "name": "Alice Adams", "email": "alice@example.test"},
    {"id": 43, "username": "bob", "name": "Bob Brown", "email": "bob@example.test"},
    {"id": 44, "username": "carol", "name": "Carol Clark", "email": "carol@example.test"},
)


@dataclass(frozen=True)
class Spec:
    """Which server to build; None means Omnibus's default.

    version: "18.11.9" (an "x" as last number is 0). secret_form: plain, pbkdf2 or sha512, as GitLab stores secrets.
    seed: everything that the real one takes from chance, credentials and salts included. mattermost: enabled,
    disabled (it was set up once) or never. sign_in: False for a server that never registered with GitLab (from 15.4).
    data_folder: the file_directory setting. data_link: `<home>/data` is a link to this folder. gitlab_rb: more lines
    for that file.
    """

    version: str = "18.11.9"
    secret_form: str | None = None
    seed: str = "first"
    first_uid: int = 990
    gitlab_url: str = "http://gitlab.example.test"
    site_url: str = "http://mattermost.example.test"
    mattermost: str = "enabled"
    sign_in: bool = True
    home: str | None = None
    data_folder: str | None = None
    data_link: str | None = None
    database: str | None = None
    port: int | None = None
    backup_path: str | None = None
    backup_keep_time: int | None = None
    gitlab_rb: Sequence[str] = ()
    users: Sequence[Mapping[str, Any]] = USERS

    def __post_init__(self) -> None:
        """Refuse what no such server can be."""
        if self.mattermost not in ("enabled", "disabled", "never"):
            raise ValueError(f"mattermost: {self.mattermost!r}")
        if not self.sign_in and not self.generation.invents_credentials:
            raise ValueError(f"GitLab {self.version} always registers its Mattermost")

    @property
    def generation(self) -> Generation:
        """How this version does things."""
        return Generation(self.version.replace("x", "0"))

    def to_json(self) -> str:
        """What tests.lab.layout reads."""
        form = self.secret_form or self.generation.default_secret_form
        return json.dumps({**asdict(self), "version": self.generation.version, "secret_form": form})


@dataclass(frozen=True)
class State:
    """What a restore must bring back: tables as (rows, digest), owners by object, and files by path."""

    tables: dict[str, tuple[int, str]]
    owners: dict[str, str]
    files: dict[str, dict[str, str]]

    def differences(self, other: State, ignore: Sequence[str] = ()) -> list[str]:
        """What is not the same, one line each; table names and paths (with what is below) in `ignore` do not count."""
        lines = []
        for title in ("tables", "owners", "files"):
            mine, theirs = getattr(self, title), getattr(other, title)
            for key in sorted({*mine, *theirs}):
                ignored = any(key == name or key.startswith(f"{name}/") for name in ignore)
                if not ignored and mine.get(key) != theirs.get(key):
                    lines.append(f"{title}: {key}: {mine.get(key)} -> {theirs.get(key)}")
        return lines


@dataclass(frozen=True)
class Seed:
    """What was put in: texts by post id, name and SHA-256 by file id."""

    team: str
    channels: dict[str, str]
    posts: dict[str, str]
    files: dict[str, dict[str, str]]


class Omnibus:
    """An installed Omnibus GitLab."""

    def __init__(self, lab: Lab, spec: Spec) -> None:
        self.lab = lab
        self.spec = spec

    @property
    def home(self) -> str:
        """Mattermost's home."""
        return self.spec.home or "/var/opt/gitlab/mattermost"

    @property
    def env_folder(self) -> str:
        """The environment folder that this version uses."""
        return (
            f"{self.home}/env"
            if self.spec.generation.env_in_home
            else "/opt/gitlab/etc/mattermost/env"
        )

    @property
    def database(self) -> str:
        """Mattermost's database."""
        return self.spec.database or "mattermost_production"

    def start(self) -> None:
        """Start runit, as the machine's init would (also after Lab.boot()), and wait until the sites answer."""
        self._name_sites()
        program = "/opt/gitlab/embedded/bin/runsvdir-start"
        options = ("--background", "--make-pidfile", "--pidfile", RUNSVDIR_PID)
        self.lab.run("start-stop-daemon", "--start", "--quiet", *options, "--startas", program)
        self.wait_until_ready()

    def _name_sites(self) -> None:
        """Add the sites' names to /etc/hosts, which is new after each boot."""
        names = {urlsplit(url).hostname for url in (self.spec.gitlab_url, self.spec.site_url)}
        hosts = self.lab.path("/etc/hosts")
        missing = sorted(str(name) for name in names if str(name) not in hosts.read_text().split())
        if missing:
            hosts.write_text(f"{hosts.read_text().rstrip()}\n127.0.0.1 {' '.join(missing)}\n")

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Wait until GitLab and (if enabled) Mattermost answer; LabError has the reason and the ends of the logs."""
        urls = [f"{self.spec.gitlab_url}/-/health"]
        if self.spec.mattermost == "enabled":
            urls.append(f"{self.spec.site_url}/api/v4/system/ping")
        late = self.ask(action="wait", urls=urls, seconds=seconds)["late"]
        if late:
            logs = self.lab.run(
                "sh", "-c", "tail -n 15 /var/log/gitlab/*/current", check=False
            ).stdout
            raise LabError(f"not ready after {seconds:g} s: {late}\n{logs}")

    def gitlab_ctl(
        self, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> CompletedProcess[str]:
        """Run gitlab-ctl."""
        return self.lab.run("gitlab-ctl", *arguments, check=check, env=env)

    def restart_mattermost(self) -> None:
        """Stop and start Mattermost and wait until it answers.

        Not by restart: sv takes a service that is less than a second old for the restarted one.
        """
        self.gitlab_ctl("stop", "mattermost")
        self.gitlab_ctl("start", "mattermost")
        self.wait_until_ready()

    def upgrade(
        self,
        version: str = "19.0.0",
        *,
        config_backup: bool = True,
        container: bool = False,
        settings_removed: bool = True,
    ) -> tuple[Omnibus, int]:
        """Upgrade to a GitLab without Mattermost (see fakes/upgrade.py); gives it, and reconfigure's exit code."""
        how = {
            "version": version,
            "config_backup": config_backup,
            "container": container,
            "settings_removed": settings_removed,
        }
        module = (PYTHON, "-m", "tests.lab.fakes.upgrade")
        done = self.lab.run(*module, input=json.dumps(how), cwd="/lab/src", check=False)
        if "Traceback" in done.stderr:
            raise LabError(done.stderr)
        gone = replace(self.spec, version=version, mattermost="disabled")
        return Omnibus(self.lab, gone), done.returncode

    def reconfigure(self) -> str:
        """Run `gitlab-ctl reconfigure` and wait until the sites answer; gives its output."""
        output = self.gitlab_ctl("reconfigure").stdout
        self.wait_until_ready()
        return output

    def append_to_gitlab_rb(self, *lines: str) -> None:
        """Add lines to /etc/gitlab/gitlab.rb, where the last assignment wins."""
        path = self.lab.path("/etc/gitlab/gitlab.rb")
        path.write_text(path.read_text() + "\n".join(lines) + "\n")

    def secrets(self) -> dict[str, Any]:
        """The content of gitlab-secrets.json."""
        return dict(json.loads(self.lab.read("/etc/gitlab/gitlab-secrets.json")))

    def environment(self) -> dict[str, str]:
        """The environment folder's files and their content."""
        return {path.name: path.read_text() for path in self.lab.path(self.env_folder).iterdir()}

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return dict(json.loads(self.lab.read(f"{self.home}/config.json")))

    def sql(self, statement: str, database: str | None = None) -> list[str]:
        """Run SQL as the superuser, in Mattermost's database if no other is named; gives the lines of the answer."""
        client = ("/opt/gitlab/bin/gitlab-psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
        return self.lab.run(
            *client, "-d", database or self.database, "-c", statement
        ).stdout.splitlines()

    def sign_in(self, username: str = "alice") -> Session:
        """Sign in through GitLab with a browser that GitLab knows; raises SignInFailed."""
        answer = self.ask(
            action="sign_in",
            site=self.spec.site_url,
            gitlab=self.spec.gitlab_url,
            username=username,
        )
        if "token" not in answer:
            raise SignInFailed(answer["status"], answer["url"], answer["error"])
        return Session(self.spec.site_url, self.ask, username, answer["token"], answer["user_id"])

    def log_in(self, name: str, password: str) -> Session:
        """Sign in with a password; raises SignInFailed."""
        return logged_in(self.ask, self.spec.site_url, name, password)

    def seed(self) -> Seed:
        """Fill Mattermost with people, rooms, messages, uploads, a plugin and a certificate."""
        names = [user["username"] for user in self.spec.users][:3]
        request = {"site": self.spec.site_url, "gitlab": self.spec.gitlab_url, "users": names}
        return Seed(**json.loads(self._inside("tests.lab.fakes.seed", json.dumps(request))))

    def state(self) -> State:
        """Everything that must survive."""
        found = json.loads(self._inside("tests.lab.fakes.state"))
        tables = {name: (rows, digest) for name, (rows, digest) in found["tables"].items()}
        return State(tables, found["owners"], found["files"])

    def gitlab_database_dump(self) -> bytes:
        """A dump of GitLab's own database, as GitLab's own backup holds it."""
        return self.lab.run_bytes(
            *self._as_superuser("pg_dump"), "-Fc", "gitlabhq_production"
        ).stdout

    def gitlab_database_restore(self, dump: bytes) -> None:
        """Put such a dump back, GitLab being stopped meanwhile: what `gitlab-backup restore` does."""
        web = self.spec.generation.web_service
        self.gitlab_ctl("stop", web)
        options = ("--clean", "--if-exists", "--exit-on-error", "-d", "gitlabhq_production")
        self.lab.run_bytes(*self._as_superuser("pg_restore"), *options, input=dump)
        self.gitlab_ctl("start", web)
        self.wait_until_ready()

    def lose_everything(self) -> None:
        """Purge GitLab: processes, folders, logs and users; the rest of the host stays."""
        self._inside("tests.lab.fakes.purge")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request to the browser inside (see fakes/client.py)."""
        return dict(json.loads(self._inside("tests.lab.fakes.client", json.dumps(request))))

    def _as_superuser(self, program: str) -> list[str]:
        chpst = ["/opt/gitlab/embedded/bin/chpst", "-u", "gitlab-psql:gitlab-psql"]
        place = ["-h", "/var/opt/gitlab/postgresql", "-p", str(self.spec.port or 5432)]
        return [*chpst, f"/opt/gitlab/embedded/bin/{program}", *place]

    def _inside(self, module: str, text: str = "") -> str:
        return self.lab.run(PYTHON, "-m", module, input=text, cwd="/lab/src").stdout


def install(lab: Lab, spec: Spec) -> Omnibus:
    """Install GitLab on a host that has none (any more), start it and wait until it answers."""
    lab.run(PYTHON, "-m", "tests.lab.layout", input=spec.to_json(), cwd="/lab/src")
    omnibus = Omnibus(lab, spec)
    omnibus.start()
    return omnibus
