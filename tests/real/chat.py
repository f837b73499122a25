"""A standalone host with a real Mattermost, next to the GitLab that the set comes from."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab
from tests.lab.signed_in_user import Session
from tests.lab.standalone import Spec, Standalone
from tests.real.house import START, House

GITLAB, SITE = "http://gitlab.example.test", "http://mattermost.example.test"


@dataclass
class Chat:
    """The new host."""

    lab: Lab
    real: RealMattermost
    new: Standalone
    product: Product
    set: str

    def restore(self, *words: str, set_: str = "") -> Answer:
        """Restore the house's set."""
        way = ("restore", "--yes", "--to", "standalone", "--no-safety-backup")
        return self.product(*way, *words, set_ or self.set, timeout=300)

    def bring(self, house: House, name: str) -> str:
        """Copy a set of the house to this host; gives its path."""
        source = house.lab.path(f"/srv/backups/mattermost/{name}")
        shutil.copytree(source, self.lab.path("/srv") / name)
        return f"/srv/{name}"

    def sign_in(self, name: str = "alice") -> Session:
        """Sign in through GitLab."""
        return self.new.sign_in(SITE, GITLAB, name)

    def client_config(self) -> dict[str, Any]:
        """What the server tells browsers before anybody signs in."""
        guest = Session(SITE, self.new.ask, "", "", "")
        return dict(guest.get("/config/client?format=old"))


@contextlib.contextmanager
def chat_of(house: House, real: RealMattermost, base: Path, deb: Path) -> Iterator[Chat]:
    """Stop the house's Mattermost, as it is last in a set, and start an empty standalone one."""
    name = house.product("backup").document["set"]
    house.stop()
    with Lab(base=base, hostname="chat", systemd=True, network_of=house.lab) as lab:
        new = real.standalone(lab, Spec())
        new.name_hosts(GITLAB, SITE)
        product = install_product(lab, deb)
        new.start(START)
        chat = Chat(lab, real, new, product, "")
        chat.set = chat.bring(house, name)
        yield chat
    house.start()
