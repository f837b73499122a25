"""A standalone Mattermost in a lab with systemd: install it, drive it from outside, look at it.

with Lab(base=build_base(), systemd=True) as lab:
    mattermost = install(lab, Spec())
    mattermost.start()
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from tests.lab.errors import LabError
from tests.lab.sandbox import PYTHON, Lab
from tests.lab.signed_in_user import Session, SignInFailed, logged_in

DIGEST = (
    "SELECT '{table}|' || count(*) || '|' || md5(coalesce(string_agg(t::text, E'\\n'"
    ' ORDER BY t::text COLLATE "C"), \'\')) FROM "{table}" t'
)
LIST = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


@dataclass(frozen=True)
class Spec:
    """Which server to build: the package's layout, or with other folders the tarball's.

    unit: more lines for the service's unit. rights: of the database's role. source: a DataSource
    in place of the usual one.
    """

    version: str = "10.11.20"
    folder: str = "/opt/mattermost"
    unit_folder: str = "/lib/systemd/system"
    unit: str = ""
    account: str = "mattermost"
    uid: int = 1480
    role: str = "mmuser"
    password: str = "p:w/d @%\\x"
    rights: str = "CREATEDB"
    database: str = "mattermost"
    port: int = 5544
    listen: str = ":8065"
    site_url: str = ""
    source: str = ""

    @property
    def data_source(self) -> str:
        """As Mattermost's guide writes it."""
        if self.source:
            return self.source
        word = quote(self.password, safe="")
        place = f"localhost:{self.port}/{self.database}?sslmode=disable&connect_timeout=10"
        return f"postgres://{self.role}:{word}@{place}"

    def to_json(self) -> str:
        """What tests.lab.layout_standalone reads."""
        return json.dumps({**asdict(self), "data_source": self.data_source})


class Standalone:
    """An installed standalone Mattermost."""

    def __init__(self, lab: Lab, spec: Spec) -> None:
        self.lab = lab
        self.spec = spec

    @property
    def config_file(self) -> str:
        """Mattermost's config.json."""
        return f"{self.spec.folder}/config/config.json"

    def config(self) -> dict[str, Any]:
        """Its content."""
        return dict(json.loads(self.lab.read(self.config_file)))

    def name_hosts(self, *urls: str) -> None:
        """Have these names lead to this network."""
        names = " ".join(str(urlsplit(url).hostname) for url in urls)
        hosts = self.lab.path("/etc/hosts")
        hosts.write_text(f"{hosts.read_text().rstrip()}\n127.0.0.1 {names}\n")

    def start(self, seconds: float = 30) -> None:
        """Start it, and wait until it answers."""
        self.lab.run("systemctl", "start", "mattermost")
        self.wait_until_ready(seconds)

    def stop(self) -> None:
        """Stop it."""
        self.lab.run("systemctl", "stop", "mattermost")

    def state(self) -> str:
        """The unit's state, as systemd has it."""
        show = ("systemctl", "show", "--property=ActiveState", "--value", "mattermost")
        return self.lab.run(*show).stdout.strip()

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Wait for its ping."""
        port = self.spec.listen.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/api/v4/system/ping"
        late = self.ask(action="wait", urls=[url], seconds=seconds)["late"]
        if late:
            raise LabError(f"not ready: {late}")

    def sql(self, statement: str, database: str = "") -> list[str]:
        """Run SQL as the superuser; gives the lines of the answer."""
        client = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-p", str(self.spec.port))
        words = ("-d", database or self.spec.database, "-c", statement)
        return self.lab.run(*client, *words, user="postgres").stdout.splitlines()

    def tables(self) -> dict[str, str]:
        """Every table's rows and their digest."""
        names = self.sql(LIST)
        if not names:
            return {}
        lines = self.sql(" UNION ALL ".join(DIGEST.format(table=name) for name in names))
        return {name: value for name, _, value in (line.partition("|") for line in lines)}

    def sign_in(self, site: str, gitlab: str, username: str = "alice") -> Session:
        """Sign in through GitLab; raises SignInFailed."""
        answer = self.ask(action="sign_in", site=site, gitlab=gitlab, username=username)
        if "token" not in answer:
            raise SignInFailed(answer["status"], answer["url"], answer["error"])
        return Session(site, self.ask, username, answer["token"], answer["user_id"])

    def log_in(self, site: str, name: str, password: str) -> Session:
        """Sign in with a password; raises SignInFailed."""
        return logged_in(self.ask, site, name, password)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request to the browser inside (see fakes/client.py)."""
        module = (PYTHON, "-m", "tests.lab.fakes.client")
        done = self.lab.run(*module, input=json.dumps(request), cwd="/lab/src")
        return dict(json.loads(done.stdout))


def install(lab: Lab, spec: Spec) -> Standalone:
    """Install Mattermost and its PostgreSQL."""
    lab.run(PYTHON, "-m", "tests.lab.layout_standalone", input=spec.to_json(), cwd="/lab/src")
    return Standalone(lab, spec)
