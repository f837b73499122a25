"""A compose project on a host with podman: Mattermost's server in one container, a real PostgreSQL in another.

As docker-compose.yml of github.com/mattermost/docker has them: service and volumes by the same names, an own network,
the data source in the server's environment. podman-compose would run the same commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from tests.lab import omnibus, standalone
from tests.lab.containers import Image, Inside, Podman
from tests.lab.errors import wait_until
from tests.lab.sandbox import PYTHON, Lab

PROJECT = "docker"
SERVER, DATABASE = f"{PROJECT}-mattermost-1", f"{PROJECT}-postgres-1"
NETWORK = f"{PROJECT}_default"
VOLUMES = "/srv/docker/volumes"
# container path -> path below VOLUMES, as env.example has them
BINDS = {
    "/mattermost/config": "app/mattermost/config",
    "/mattermost/data": "app/mattermost/data",
    "/mattermost/logs": "app/mattermost/logs",
    "/mattermost/plugins": "app/mattermost/plugins",
    "/mattermost/client/plugins": "app/mattermost/client/plugins",
}
SUBNET, GATEWAY = "10.89.7.0/24", "10.89.7.1"  # the host is the gateway
# Servers on the host listen on its loopback.
TO_NEIGHBOURS = f"""
sysctl -qw net.ipv4.conf.all.route_localnet=1
iptables -t nat -A PREROUTING -d {GATEWAY} -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:80
"""
PGDATA = "/var/lib/postgresql/data"


@dataclass(frozen=True)
class Spec:
    """A project: the server's version, and the variables of its .env."""

    version: str = "10.11.20"
    user: str = "mmuser"
    password: str = "p:w/d @%x"
    database: str = "mattermost"
    host: str = "postgres"
    site_url: str = "http://mattermost.example.test"
    neighbours: tuple[str, ...] = ()  # names of servers on the host
    restart: str = "unless-stopped"

    @property
    def data_source(self) -> str:
        """MM_SQLSETTINGS_DATASOURCE as in env.example."""
        word = quote(self.password, safe="")
        query = "sslmode=disable&connect_timeout=10"
        return f"postgres://{self.user}:{word}@{self.host}:5432/{self.database}?{query}"


@contextmanager
def image(base: Path, spec: Spec) -> Iterator[Image]:
    """Build the root file system for both containers."""
    with Lab(base=base) as lab:
        text = json.dumps(asdict(spec))
        lab.run(PYTHON, "-m", "tests.lab.layout_compose", input=text, cwd="/lab/src")
        lab.power_off()
        yield Image(lab, omnibus.Spec())


class Server(standalone.Standalone):
    """The running server: its own container answers, PostgreSQL's is asked for rows."""

    def __init__(self, project: Project) -> None:
        super().__init__(project.podman.inside(SERVER), standalone.Spec(folder="/mattermost"))
        self._project = project

    def sql(self, statement: str, database: str = "") -> list[str]:
        """Run SQL as the superuser; gives the lines of the answer."""
        return self._project.sql(statement, database)


@dataclass
class Project:
    """The two containers on a host."""

    podman: Podman
    spec: Spec

    def up(self, *, fresh: bool = False) -> Server:
        """Make what is missing, as `docker compose up --detach` does; wait until it answers."""
        if fresh:
            self.down()
            self.podman.lab.run("rm", "-rf", VOLUMES)
        networks = self.podman("network", "ls", "--format", "{{.Name}}").split()
        if NETWORK not in networks:
            # A lab's switches of the kernel cannot be changed; of these some are of its network alone.
            self.podman.lab.run("umount", "/proc/sys")
            self.podman("network", "create", f"--subnet={SUBNET}", f"--gateway={GATEWAY}", NETWORK)
            self.podman.lab.run("sh", "-ec", TO_NEIGHBOURS)
        names = self.podman("ps", "--all", "--format", "{{.Names}}").split()
        if DATABASE not in names:
            self.database()
        if SERVER not in names:
            self.server()
        found = Server(self)
        found.wait_until_ready(60)
        return found

    def down(self) -> None:
        """Take the containers away; volumes stay."""
        for name in self.podman("ps", "--all", "--format", "{{.Names}}").split():
            self.podman.remove(name)

    def database(self, name: str = DATABASE, *more: str) -> None:
        """Run PostgreSQL's container."""
        spec = self.spec
        place = f"{VOLUMES}/db/var/lib/postgresql/data"
        self.podman.lab.run("mkdir", "-p", place)
        values = {"POSTGRES_USER": spec.user, "POSTGRES_PASSWORD": spec.password}
        values.update(POSTGRES_DB=spec.database, PGDATA=PGDATA)
        words = ("--volume", f"{place}:{PGDATA}", *_variables(values), *more)
        self._run(
            name, "postgres", *words, command=(PYTHON, "-m", "tests.lab.fakes.compose_database")
        )
        wait_until(lambda: self._takes_connections(name), 60, "PostgreSQL")

    def server(
        self, name: str = SERVER, *more: str, volumes: str = VOLUMES, port: int = 8065
    ) -> None:
        """Run Mattermost's container, which the host has at ``port`` unless it has another's network."""
        binds = []
        for target, below in BINDS.items():
            self.podman.lab.run("mkdir", "-p", f"{volumes}/{below}")
            binds += ["--volume", f"{volumes}/{below}:{target}"]
        self.podman.lab.run("chown", "--recursive", "2000:2000", f"{volumes}/app")
        values = {"MM_SQLSETTINGS_DRIVERNAME": "postgres"}
        values["MM_SQLSETTINGS_DATASOURCE"] = self.spec.data_source
        values["MM_SERVICESETTINGS_SITEURL"] = self.spec.site_url
        names = [f"--add-host={neighbour}:{GATEWAY}" for neighbour in self.spec.neighbours]
        names += ["--publish", f"127.0.0.1:{port}:8065"]
        names = names if "--network" not in more else []
        words = (
            "--user",
            "mattermost",
            "--restart",
            self.spec.restart,
            *binds,
            *_variables(values),
        )
        self._run(
            name, "mattermost", *words, *names, *more, command=("/mattermost/bin/mattermost",)
        )

    def sql(self, statement: str, database: str = "") -> list[str]:
        """Run SQL in PostgreSQL's container; gives the lines of the answer."""
        client = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", self.spec.user)
        words = ("-h", "/var/run/postgresql", "-d", database or self.spec.database, "-c", statement)
        return self.inside(DATABASE).run(*client, *words).stdout.splitlines()

    def inside(self, name: str) -> Inside:
        """A container as a lab."""
        return self.podman.inside(name)

    def _run(self, name: str, service: str, *words: str, command: tuple[str, ...]) -> None:
        labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.service": service}
        marks = [f"--label={key}={value}" for key, value in labels.items()]
        alone = "--network" not in words
        place = ("--network", f"{NETWORK}:alias={service}", "--hostname", name) if alone else ()
        self.podman(
            *("run", "--detach", "--name", name, *place, *marks),
            *("--volume", "/lab/src:/lab/src:ro", *words),
            *("--workdir", "/lab/src" if service == "postgres" else "/mattermost"),
            *("--rootfs", self.podman.root(omnibus.Spec()), *command),
        )

    def _takes_connections(self, name: str) -> bool:
        words = ("psql", "-XAtq", "-h", "127.0.0.1", "-U", self.spec.user, self.spec.database)
        try:
            return self.inside(name).run(*words, "-c", "SELECT 1", check=False).returncode == 0
        except (ValueError, LookupError):
            return False


def _variables(values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
