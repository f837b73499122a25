"""A tarball of Mattermost in a folder, and with an account and a database login, of other names."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.sandbox import Lab, wait_until
from tests.lab.standalone import Spec, install

# The role is the account's by peer authentication, and no password is anywhere.
TARBALL = Spec(
    folder="/srv/chat",
    unit_folder="/etc/systemd/system",
    unit='Environment="MM_TEAMSETTINGS_SITENAME=Said by the unit"\n',
    account="chat",
    role="chat",
    source="host=/var/run/postgresql port=5544 dbname=mattermost",
    listen="127.0.0.1:8077",
    site_url="http://chat.example.test",
)


def the_journal_knows(lab: Lab) -> None:
    """journald has each line of the run with its fields, and finds it by them."""

    def ended() -> list[dict[str, str]]:
        words = ("journalctl", "--output=json", "-t", "gitlab-mm", "GITLAB_MM_EXIT_CODE=0")
        return [json.loads(line) for line in lab.run(*words, check=False).stdout.splitlines()]

    wait_until(ended, 20, "the journal")
    (last,) = ended()
    assert last["MESSAGE"].startswith("backup: Ended with exit code 0"), last
    assert last["GITLAB_MM_COMMAND"] == "backup" and float(last["GITLAB_MM_SECONDS"]) > 0
    assert (last["PRIORITY"], last["SYSLOG_FACILITY"]) == ("6", "3")
    whole = lab.run("journalctl", "--output=cat", f"GITLAB_MM_RUN={last['GITLAB_MM_RUN']}").stdout
    assert "backup: Making set" in whole


def test_a_tarball_is_backed_up_and_comes_back(base: Path, deb: Path) -> None:
    with Lab(base=base, systemd=True) as lab:
        mattermost = install(lab, TARBALL)
        product = install_product(lab, deb)
        mattermost.start()
        mattermost.sql("INSERT INTO systems (name, value) VALUES ('lab', 'before')")
        lab.write("/srv/chat/data/one/file.txt", "uploaded\n", owner="chat:chat")
        lab.run("systemctl", "start", "systemd-journald.service")
        path = product.backup()
        the_journal_knows(lab)
        manifest = json.loads(lab.read(f"{path}/manifest.json"))
        assert manifest["kind"] == "standalone"
        assert manifest["mattermost"] == TARBALL.version
        assert manifest["files"]["folders"] == {
            "home": "/srv/chat/config",
            "data": "/srv/chat/data",
            "plugins": "/srv/chat/plugins",
            "client-plugins": "/srv/chat/client/plugins",
        }
        kept = json.loads(lab.read(f"{path}/settings.json"))
        assert kept["effective"]["TeamSettings"]["SiteName"] == "Said by the unit"

        config = lab.read(mattermost.config_file)
        mattermost.sql("UPDATE systems SET value = 'after' WHERE name = 'lab'")
        lab.run("rm", "-r", "/srv/chat/data/one")
        answer = product.restore()
        assert answer.code in (0, 4), answer
        assert answer.document["safety_set"]
        assert mattermost.sql("SELECT value FROM systems WHERE name = 'lab'") == ["before"]
        assert lab.read("/srv/chat/data/one/file.txt") == "uploaded\n"
        assert lab.run("stat", "-c", "%U", "/srv/chat/data/one/file.txt").stdout == "chat\n"
        assert lab.read(mattermost.config_file) == config
        assert mattermost.state() == "active"
        assert product.leftovers() == []
