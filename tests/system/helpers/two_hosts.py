"""Two servers in one lab: what belongs to one of them is put away while the other is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

CONFIG = "/etc/gitlab-mm-backup/config.yml"
STATE = "/var/lib/gitlab-mm-backup"
SETS = "/var/opt/gitlab/backups/mattermost"
SHARE = "/srv/share"  # a disk that both reach
_RENAME = "import socket, sys; socket.sethostname(sys.argv[1])"


@dataclass
class Hosts:
    """The lab as one host, or another; each with its state directory, sets and Mattermost.

    GitLab is one: both have the same people.  What tells the two Mattermosts apart is what real ones
    differ by, the id in the table systems, and one message.
    """

    lab: Lab
    gitlab: Omnibus
    product: Product
    machine: str = ""  # the content of /etc/machine-id
    now: str = "alpha"
    installations: dict[str, str] = field(default_factory=dict)

    def become(self, name: str, *, same_mattermost: bool = False, keep_sets: bool = False) -> None:
        """Be the host ``name``: as it was left, or as one that has just got our package."""
        moved = [STATE] if keep_sets else [STATE, SETS]
        for path in moved:
            away, back = (f"/srv/of-{host}{path}" for host in (self.now, name))
            self.lab.run(
                *("sh", "-ec"),
                'mkdir -p "$(dirname "$2")"; [ ! -e "$1" ] || mv "$1" "$2"; [ ! -e "$3" ] || mv "$3" "$1"',
                *("move", path, away, back),
            )
        self.now = name
        self.rename(name)
        if not same_mattermost:
            self.installations.setdefault("alpha", self.installation())
            self.installations.setdefault(name, f"{name}{'x' * 26}"[:26])
            self.say(self.installations[name], f"written on {name}")

    def reset(self) -> None:
        """Be alpha again, as it was installed: without sets, copies and anything that we know."""
        places = " ".join((STATE + "/*", SETS, SHARE, "/srv/of-*", "/srv/nas", "/srv/restic"))
        self.lab.run("sh", "-c", f"rm -rf {places}")
        self.lab.run("install", "-d", "-m", "0700", STATE)
        self.lab.write("/etc/machine-id", self.machine)
        self.now = "alpha"
        self.rename("alpha")
        self.say(self.installations["alpha"], "written on alpha")

    def rename(self, name: str) -> None:
        """Give the host a name, as its own and in /etc/hosts."""
        self.lab.run("python3", "-c", _RENAME, name)
        hosts = self.lab.path("/etc/hosts")
        lines = [line for line in hosts.read_text().splitlines() if "127.0.1.1" not in line]
        hosts.write_text("\n".join([f"127.0.1.1 {name}", *lines]) + "\n")

    def installation(self) -> str:
        """Mattermost's own id."""
        return self.gitlab.sql("SELECT value FROM systems WHERE name = 'DiagnosticId'")[0]

    def say(self, installation: str, message: str) -> None:
        """Have the live Mattermost be of an installation, with one message in all its posts."""
        self.gitlab.sql(
            f"UPDATE systems SET value = '{installation}' WHERE name = 'DiagnosticId';"
            f" UPDATE posts SET message = '{message}' WHERE message <> ''"
        )

    def said(self) -> list[str]:
        """The messages that there are now."""
        return self.gitlab.sql("SELECT DISTINCT message FROM posts WHERE message <> ''")

    def write_config(self, text: str) -> None:
        self.lab.write(CONFIG, text, mode=0o640)

    def lose(self) -> None:
        """Lose all but the copies; whose key has signed them is known from the recovery kit."""
        key = str(self.product("kit").document["key"])
        self.lab.run("rm", "-r", SETS, STATE)
        assert self.product("host", "trust", key).code == 0

    def backup(self, code: int = 0) -> str:
        """Make a set; gives its name."""
        answer = self.product("backup")
        assert answer.code == code, answer
        return str(answer.document["set"])

    def listed(self) -> dict[str, bool]:
        """The sets in the store by name, and whether each is this host's."""
        return {set_["name"]: set_["own"] for set_ in self.product("list").document["sets"]}

    def names(self, folder: str) -> set[str]:
        """The sets in a directory, without marker files."""
        found = self.lab.path(folder)
        return {path.name for path in found.iterdir() if path.name[:1].isdigit()}


def two_hosts(lab: Lab, deb: Path) -> Hosts:
    """Return the lab as host alpha, with people and messages."""
    gitlab = install(lab, Spec())
    product = install_product(lab, deb)
    gitlab.seed()
    hosts = Hosts(lab, gitlab, product)
    hosts.machine = lab.read("/etc/machine-id")
    hosts.installations["alpha"] = hosts.installation()
    hosts.reset()
    return hosts
