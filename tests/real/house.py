"""A GitLab with a real Mattermost, filled through the server's own API."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tests.lab.fakes.generation import version_tuple
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Session
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab
from tests.real.extras import SWITCHED_ON, Extras, created

BACKUPS = "/srv/backups"
SERVICE = "/opt/gitlab/service/mattermost"
START = 120  # seconds that a real server may take on an empty database
# What a running server writes without anybody doing something.
RESTLESS = ("status", "sessions", "systems", "jobs", "audits", "licenses", "tokens", "preferences")


@dataclass
class House:
    """The server, and what was put in."""

    lab: Lab
    real: RealMattermost
    gitlab: Omnibus
    product: Product
    seed: Seed
    root: Session  # the first user, who administers Mattermost
    alice: Session
    post: str  # id of a message with a thread, a reaction and a pin
    reply: str
    extras: Extras
    deb: Path

    @property
    def version(self) -> tuple[int, ...]:
        return version_tuple(self.real.version)

    def stop(self) -> None:
        """Stop Mattermost; a real server may take longer than gitlab-ctl waits."""
        self.lab.run("sv", "-w", "60", "stop", SERVICE)

    def start(self) -> None:
        """Start Mattermost, and wait until it answers."""
        self.lab.run("sv", "-w", "60", "start", SERVICE)
        self.gitlab.wait_until_ready(START)

    def reinstall(self) -> None:
        """Lose the host, and install it anew; the sets and GitLab's own database are kept."""
        rows = self.gitlab.gitlab_database_dump()
        self.lab.run("dpkg", "--purge", "gitlab-mm-backup")
        self.gitlab.lose_everything()
        self.gitlab = self.real.installed(
            self.lab, backup_path=BACKUPS, seed="second", first_uid=1480
        )
        self.gitlab.gitlab_database_restore(rows)
        self.product = install_product(self.lab, self.deb)


def furnish(lab: Lab, real: RealMattermost, deb: Path) -> House:
    """Install everything and fill it."""
    gitlab = real.installed(lab, backup_path=BACKUPS)
    product = install_product(lab, deb)
    seed = gitlab.seed()
    root, alice = gitlab.sign_in("root"), gitlab.sign_in("alice")
    root.call("PUT", "/config/patch", json=SWITCHED_ON)
    channel = seed.channels["releases"]
    alice._channels.update(seed.channels)
    post = alice.post("**Thread** of a real server :tada:", "releases")
    reply = created(root, "/posts", channel_id=channel, root_id=post, message="a reply")["id"]
    created(alice, "/reactions", user_id=alice.user_id, post_id=post, emoji_name="tada")
    alice.call("POST", f"/posts/{post}/pin", json={})
    extras = Extras.made(root, alice, seed.team, channel, post)
    return House(lab, real, gitlab, product, seed, root, alice, post, reply, extras, deb)


def assert_reads(session: Session, house: House) -> None:
    """All texts, threads and files are there, by the server's own API."""
    for id_, text in house.seed.posts.items():
        assert session.read_post(id_) == text
    thread = session.get(f"/posts/{house.post}/thread")
    assert set(thread["posts"]) == {house.post, house.reply}
    reactions = session.get(f"/posts/{house.post}/reactions")
    assert {reaction["emoji_name"] for reaction in reactions} == {"tada", "dot"}
    for id_, file in house.seed.files.items():
        assert hashlib.sha256(session.download(id_)).hexdigest() == file["sha256"], file
