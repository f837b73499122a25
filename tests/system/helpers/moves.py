"""A move out of the bundle: GitLab 18.11 on one host, a standalone Mattermost on another, one network."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import standalone
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Spec, install
from tests.lab.sandbox import Bind, Lab
from tests.lab.standalone import Standalone
from tests.system.helpers.faults import Fault, environment
from tests.system.helpers.faults_server import DIST, LOADER

GITLAB, SITE = "http://gitlab.example.test", "http://mattermost.example.test"
# Mattermost derives these from posts and files, and refreshes them by itself.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
# Made anew by each sign-in.
PASSING = ("sessions", "tokens", "audits", "status")
PLUGIN = "com.github.manland.mattermost-plugin-gitlab"


@dataclass
class Origin:
    """The old host, and what was on it."""

    gitlab: Omnibus
    seed: Seed
    tables: dict[str, tuple[int, str]]
    files: dict[str, str]  # path below data -> SHA-256
    config: dict[str, Any]
    links: dict[str, str]  # public links, by the file's id
    set: str


@dataclass
class Move(Origin):
    """Both hosts, and what was on the old one."""

    new: Standalone
    product: Product
    notes: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Run `gitlab-mm ARGUMENTS --json` on the new host, with a fault."""
        done = self.new.lab.run(
            "gitlab-mm", *arguments, "--json", check=False, env=environment(fault), timeout=90
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Answer(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)

    def restore(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Restore the old host's set onto the new one."""
        words = ("restore", "--yes", "--to", "standalone", "--no-safety-backup")
        return self.run(*words, *arguments, self.set, fault=fault)

    def look(self) -> dict[str, Any]:
        """Everything of the new host that a failed restore must leave as it was."""
        folder, lab = self.new.spec.folder, self.new.lab
        listing = ("find", folder, "-path", f"{folder}/logs", "-prune", "-o", "-printf")
        seen = lab.run(*listing, "%p %y %u %g %m %l\\n").stdout.splitlines()
        sums = ("find", folder, "-path", f"{folder}/logs", "-prune", "-o", "-type", "f")
        told = lab.run(*sums, "-exec", "sha256sum", "{}", "+").stdout.splitlines()
        tables = {
            name: value
            for name, value in self.new.tables().items()
            if name not in DERIVED + PASSING
        }
        databases = self.new.sql(
            "SELECT datname, datdba::regrole, datallowconn FROM pg_database ORDER BY 1"
        )
        units = lab.run("sh", "-c", "ls -d /etc/systemd/system/mattermost.service.d/* || true")
        return {
            "files": sorted(seen),
            "sums": sorted(told),
            "tables": tables,
            "databases": databases,
            "units": units.stdout,
            "state": self.new.state(),
            "left": self.product.leftovers(),
            "kept": lab.path("/var/lib/gitlab-mm-backup/standalone-config.json").exists(),
        }


def data_files(lab: Lab, folder: str) -> dict[str, str]:
    """Uploads by their path below `folder`."""
    done = lab.run("find", folder, "-type", "f", "-exec", "sha256sum", "-z", "{}", "+").stdout
    pairs = (line.partition("  ") for line in done.split("\0") if line)
    return {path[len(folder) :]: digest for digest, _, path in pairs}


def switch_on(gitlab: Omnibus, changes: Mapping[str, Any]) -> None:
    """Change settings as the System Console does, and restart."""
    config = gitlab.config()
    for section, values in changes.items():
        config[section].update(values)
    path = f"{gitlab.home}/config.json"
    gitlab.lab.write(path, json.dumps(config, indent=4), mode=0o600, owner="mattermost")
    gitlab.restart_mattermost()


@contextlib.contextmanager
def origin(base: Path, deb: Path, bind: Bind) -> Iterator[Origin]:
    """Make the old host and its set, which is in ``bind`` too, and switch its Mattermost off."""
    with Lab(base=base, binds=[bind], hostname="gitlab") as old:
        gitlab = install(old, Spec(version="18.11.9"))
        product = install_product(old, deb)
        seed = gitlab.seed()
        switch_on(gitlab, {"FileSettings": {"EnablePublicLink": True}})
        session = gitlab.sign_in("alice")
        links = {
            file: str(session.get(f"/files/{file}/link")["link"]) for file in list(seed.files)[:2]
        }
        path = product.backup()
        old.run("cp", "-a", path, "/mnt/sets/")
        tables = dict(gitlab.state().tables)
        gitlab.gitlab_ctl("stop", "mattermost")
        files, config = data_files(old, f"{gitlab.home}/data/"), gitlab.config()
        set_ = f"/mnt/sets/{path.rpartition('/')[2]}"
        yield Origin(gitlab, seed, tables, files, config, links, set_)


@contextlib.contextmanager
def moving(base: Path, deb: Path, folder: Path, spec: standalone.Spec) -> Iterator[Move]:
    """Make the old host and its set, switch its Mattermost off, and install the new host."""
    bind = Bind(folder, "/mnt/sets", writable=True)
    with contextlib.ExitStack() as labs:
        old = labs.enter_context(origin(base, deb, bind))
        lab = labs.enter_context(
            Lab(
                base=base,
                binds=[bind],
                hostname="chat",
                systemd=True,
                network_of=old.gitlab.lab,
                disk_size="700m",
            )
        )
        new = standalone.install(lab, spec)
        new.name_hosts(GITLAB, SITE)
        fresh = install_product(lab, deb)
        lab.write(f"{DIST}/gitlab-mm-faults.pth", LOADER)
        yield Move(**vars(old), new=new, product=fresh)
