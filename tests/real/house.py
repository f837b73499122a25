"""A GitLab with a real Mattermost, filled through the server's own API."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.fakes.generation import version_tuple
from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Seed, Session
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab

BACKUPS = "/srv/backups"
# A picture that decoders of all versions take.
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
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
    hook: str  # id of an incoming webhook
    deb: Path

    @property
    def version(self) -> tuple[int, ...]:
        return version_tuple(self.real.version)

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
    channel = seed.channels["releases"]
    alice._channels.update(seed.channels)
    post = alice.post("**Thread** of a real server :tada:", "releases")
    reply = created(root, "/posts", channel_id=channel, root_id=post, message="a reply")["id"]
    created(alice, "/reactions", user_id=alice.user_id, post_id=post, emoji_name="tada")
    alice.call("POST", f"/posts/{post}/pin", json={})
    saved = {"user_id": alice.user_id, "category": "flagged_post", "name": post, "value": "true"}
    alice.call("PUT", f"/users/{alice.user_id}/preferences", json=[saved])
    hook = created(root, "/hooks/incoming", channel_id=channel, display_name="of a pipeline")["id"]
    command = {"trigger": "lunch", "url": "http://127.0.0.1:9/", "method": "P"}
    created(root, "/commands", team_id=seed.team, **command)
    return House(lab, real, gitlab, product, seed, root, alice, post, reply, hook, deb)


def created(session: Session, path: str, **document: Any) -> dict[str, Any]:
    """POST a document; gives the thing that was made."""
    return dict(json.loads(session.call("POST", path, json=document)))
