"""What the sign-in tests share: a server with our package on it, and all that credentials rest on there."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.answers import validate
from tests.lab.fakes import oauth
from tests.lab.omnibus import Omnibus, SignInFailed, Spec, install
from tests.lab.sandbox import Bind, Lab, wait_until

GITLAB_DATABASE = "gitlabhq_production"
SECRETS_FILE = "/etc/gitlab/gitlab-secrets.json"
SETS = "/var/opt/gitlab/backups/mattermost"
STATE = "/var/lib/gitlab-mm-backup"
SPIED = "/run/spied"
# The package starts every program through setpriv, which it finds by PATH: this sees each of them.
SPY = f"""\
#!/bin/sh
{{ printf '%s\\n' "$@"; env; }} >> {SPIED}
exec /usr/bin/setpriv "$@"
"""
BROKEN, WARNING = "broken", "warning"
LAYERS = ("environment", "config.json", "gitlab-secrets.json")
FORMS = {
    "plain": r"[A-Za-z0-9_-]{16,127}",
    "pbkdf2": r"\$pbkdf2-sha512\$20000\$\$[A-Za-z0-9./]{86}",
    "sha512": r"[0-9a-f]{128}",
}

Seen = tuple[str, str, str]  # a finding's code, layer and severity
Content = tuple[bytes, int, int, int]  # and owner, group, mode
Stat = tuple[bytes, int, int, int, int, int]  # the same, inode, time of change


@dataclass(frozen=True)
class Pair:
    """What Mattermost signs in with."""

    id: str
    secret: str

    def with_new_secret(self) -> Pair:
        return Pair(self.id, secrets.token_urlsafe(32))


def new_pair() -> Pair:
    return Pair(secrets.token_urlsafe(32), secrets.token_urlsafe(32))


@dataclass(frozen=True)
class Answer:
    """How a command of ours ended."""

    code: int
    document: dict[str, Any]

    @property
    def findings(self) -> set[Seen]:
        return {
            (finding["code"], finding["layer"], finding["severity"])
            for finding in self.document["findings"]
        }

    @property
    def sources(self) -> dict[str, bool | None]:
        """Candidates by source, and whether GitLab's database accepts each."""
        return {
            candidate["source"]: candidate["verified"] for candidate in self.document["candidates"]
        }

    def error(self) -> str:
        """Message, detail and hint of a failure, in one text."""
        return " ".join(str(text) for text in self.document["error"].values())


@dataclass
class Host:
    """A GitLab server with our package, as the tests change it and look at it."""

    omnibus: Omnibus
    #: Every secret that there ever was: none may be seen in any output.
    known: set[str] = field(default_factory=set)

    @property
    def lab(self) -> Lab:
        return self.omnibus.lab

    @property
    def renders_config(self) -> bool:
        """Whether config.json, and no environment, is where Omnibus puts the pair: 10.x."""
        return self.omnibus.spec.generation.renders_config_json

    @property
    def effective_layer(self) -> str:
        return "config.json" if self.renders_config else "environment"

    # Our commands

    def gitlab_mm(self, *arguments: str) -> Answer:
        """Run gitlab-mm with --json; whatever it says must hold no secret."""
        done = self.lab.run("gitlab-mm", *arguments, "--json", check=False)
        for pair in (self.pair(layer) for layer in LAYERS):
            self.known |= {pair.secret} if pair else set()
        assert not [secret for secret in self.known if secret in done.stdout + done.stderr], (
            arguments
        )
        document = json.loads(done.stdout)
        validate(document)
        assert document["exit_code"] == done.returncode, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, document)

    def check(self, *options: str) -> Answer:
        """Run `sso check`, which writes nothing."""
        before, pid = self.files(), self.pid()
        answer = self.gitlab_mm("sso", "check", *options)
        assert (self.files(), self.pid()) == (before, pid)
        return answer

    def repair(self, *options: str) -> Answer:
        return self.gitlab_mm("sso", "repair", *options)

    def back_up(self) -> str:
        """Make a set; gives its path. It warns when sign-in is broken."""
        answer = self.gitlab_mm("backup")
        assert answer.code in (0, 4), answer
        return str(answer.document["path"])

    # The layers

    def place(self, layer: str) -> Path:
        """A layer's file, or the environment folder, seen from outside."""
        inside = {
            "environment": self.omnibus.env_folder,
            "config.json": f"{self.omnibus.home}/config.json",
            "gitlab-secrets.json": SECRETS_FILE,
        }
        return self.lab.path(inside[layer])

    def variable(self, name: str) -> Path:
        """The file of one of the environment's MM_GITLABSETTINGS_ variables."""
        return self.place("environment") / f"MM_GITLABSETTINGS_{name}"

    def pair(self, layer: str) -> Pair | None:
        """The pair that a layer holds; None unless both halves are there."""
        if layer == "environment":
            paths = [self.variable(name) for name in ("ID", "SECRET")]
            lines = [path.read_text().partition("\n")[0] for path in paths if path.exists()]
            found = [line.strip() for line in lines]
        else:
            found = [
                match[1]
                for match in (
                    re.search(pattern + r'"([^"]*)"', self.place(layer).read_text(errors="replace"))
                    for pattern in _keys(layer)
                )
                if match
            ]
        return Pair(found[0], found[1]) if len(found) == 2 and all(found) else None

    def put(self, layer: str, pair: Pair | None) -> None:
        """Have a layer hold a pair, or none; nothing else in its files changes."""
        identifier, secret = (pair.id, pair.secret) if pair else ("", "")
        self.known |= {secret} if secret else set()
        if layer != "environment":
            path, text = self.place(layer), self.place(layer).read_text()
            for pattern, value in zip(_keys(layer), (identifier, secret)):
                text = re.sub(f'({pattern})"[^"]*"', rf'\g<1>"{value}"', text, count=1)
            path.write_text(text)
            return
        for path, value in ((self.variable("ID"), identifier), (self.variable("SECRET"), secret)):
            if pair:
                path.write_text(value)
            else:
                path.unlink(missing_ok=True)

    # GitLab's side

    def sql(self, statement: str) -> list[str]:
        return self.omnibus.sql(statement, GITLAB_DATABASE)

    def accept(self, pair: Pair, form: str) -> None:
        """Have GitLab's one application hold this pair, its secret in this form."""
        self.known.add(pair.secret)
        stored = oauth.stored(pair.secret, form)
        self.sql(f"UPDATE oauth_applications SET uid = '{pair.id}', secret = '{stored}'")

    def rows(self) -> list[str]:
        """GitLab's applications without their times, secrets included: never to be printed by us."""
        columns = "id, name, uid, secret, encode(convert_to(redirect_uri, 'UTF8'), 'hex'), scopes"
        return self.sql(f"SELECT {columns}, trusted FROM oauth_applications ORDER BY id")

    # Mattermost

    def pid(self) -> str:
        """Process id of the running Mattermost, "" when it is stopped."""
        return self.lab.path("/opt/gitlab/sv/mattermost/supervise/pid").read_text().strip()

    def restart(self) -> None:
        """End Mattermost, have runit start it again with what is on disk, wait until it answers."""
        before = self.pid()
        self.lab.run("sv", "term" if before else "up", "mattermost")
        wait_until(lambda: self.pid() not in ("", before), what="another process of Mattermost")
        self.omnibus.wait_until_ready()

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """A service is down meanwhile."""
        self.omnibus.gitlab_ctl("stop", service)
        try:
            yield
        finally:
            self.omnibus.gitlab_ctl("start", service)
            self.omnibus.wait_until_ready()

    def signs_in(self) -> bool:
        """Whether somebody gets from GitLab's button into Mattermost."""
        try:
            self.omnibus.sign_in("alice")
        except SignInFailed:
            return False
        return True

    # What may not change

    def files(self) -> dict[str, Stat]:
        """All that repair may write, and its neighbours, with inode and time: paths inside -> Stat.

        That there was a run is noted for the metrics, also of one that wrote nothing, and so is
        where these lie.
        """
        places = [f"{self.omnibus.home}/config.json", STATE, "/etc/gitlab", self.omnibus.env_folder]
        found = {}
        for place in places:
            path = self.lab.path(place)
            below = (
                {f"{place}/{file.name}": file for file in path.iterdir()} if path.is_dir() else {}
            )
            found.update(below or {place: path})
        for name in ("runs.json", "files-elsewhere"):
            found.pop(f"{STATE}/{name}", None)
        return {name: _stat(path) for name, path in found.items() if path.is_file()}

    def contents(self) -> dict[str, Content]:
        """The same without inode and time, for what is written anew; our own state is left out."""
        found = self.files().items()
        return {name: facts[:4] for name, facts in found if not name.startswith(STATE)}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put files and applications back at the end, whatever a test did to them."""
        self.sql("CREATE TABLE kept AS SELECT * FROM oauth_applications")
        try:
            with self.kept_files():
                yield
        finally:
            self.sql(
                "DELETE FROM oauth_applications;"
                " INSERT INTO oauth_applications SELECT * FROM kept; DROP TABLE kept"
            )

    @contextmanager
    def kept_files(self) -> Iterator[None]:
        """Put the files back at the end."""
        before = self.contents()
        try:
            yield
        finally:
            self._put_back(before)

    def _put_back(self, before: dict[str, Content]) -> None:
        now = self.contents()
        for name in now.keys() - before.keys():
            self.lab.path(name).unlink()
        for name, facts in before.items():
            if now.get(name) != facts:
                path = self.lab.path(name)
                path.write_bytes(facts[0])
                os.chown(path, facts[1], facts[2])
                path.chmod(facts[3] & 0o7777)


def _keys(layer: str) -> tuple[str, str]:
    """Patterns of what stands before the id's and the secret's value in a layer's file."""
    if layer == "config.json":
        return r'"GitLabSettings": \{[^}]*"Id": ', r'"GitLabSettings": \{[^}]*"Secret": '
    return '"gitlab_id": ', '"gitlab_secret": '


def _stat(path: Path) -> Stat:
    status = path.lstat()
    return (
        path.read_bytes(),
        status.st_uid,
        status.st_gid,
        status.st_mode,
        status.st_ino,
        status.st_mtime_ns,
    )


@contextmanager
def host_of(base: Path, deb: Path, spec: Spec) -> Iterator[Host]:
    """A server with our package and a spy on the programs that it starts."""
    with Lab(base=base, binds=[Bind(deb.parent, "/deb")]) as lab:
        omnibus = install(lab, spec)
        lab.run("dpkg", "--install", f"/deb/{deb.name}")
        lab.write("/usr/local/sbin/setpriv", SPY, mode=0o755)
        yield Host(omnibus)
