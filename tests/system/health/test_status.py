"""The status of a server through good and bad days, on a terminal, in a pipe and for Nagios."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.answers import validate
from tests.lab.installed_package import JOURNAL, Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.terminals import on_a_terminal

CRON = "/etc/cron.d/gitlab-mm-backup"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
SETS = "/var/opt/gitlab/backups/mattermost"
# No copies are made here, and the administrator said so.
ACCEPTED = "accept_warnings: [off-site copies]\n"
GOOD = {
    **dict.fromkeys(
        ("last set", "last run", "rehearsal", "sign-in", "service", "next run", "space"), "good"
    ),
    "off-site": "off",
    **dict.fromkeys(("restore", "host"), "good"),
}


@dataclass(frozen=True)
class Server:
    """A server in a lab, with our package."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def states(self) -> tuple[int, dict[str, str]]:
        """Exit code and state of each line."""
        answer: Answer = self.product("status")
        return answer.code, {line["name"]: line["state"] for line in answer.document["lines"]}

    def plugin(self) -> tuple[int, str]:
        """What Nagios gets, with the exit code."""
        done = self.lab.run("gitlab-mm", "status", "--nagios", check=False)
        return done.returncode, done.stdout

    def on_a_terminal(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """All that a command writes on a terminal of 80 columns."""
        told = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        return on_a_terminal(self.lab, *command, env=told).stdout

    @contextlib.contextmanager
    def without(self, path: str) -> Iterator[None]:
        """A file that is away for a while."""
        there = self.lab.path(path).exists()
        if there:
            self.lab.run("mv", path, f"{path}.away")
        try:
            yield
        finally:
            if there:
                self.lab.run("mv", f"{path}.away", path)


@pytest.fixture(scope="module")
def server(base: Path, deb: Path) -> Iterator[Server]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        gitlab.seed()
        lab.run("cron")
        product = install_product(lab, deb)
        lab.write(CONFIG, ACCEPTED, mode=0o640)
        yield Server(lab, gitlab, product)


def test_a_server_that_has_no_set_is_bad(server: Server) -> None:
    code, states = server.states()
    assert list(states) == [name for name in GOOD if name != "last run"]
    assert code == 1
    assert (states["last set"], states["rehearsal"]) == ("bad", "warning")
    assert (states["sign-in"], states["next run"], states["restore"]) == ("good", "good", "good")
    assert server.plugin()[0] == 2


def test_a_set_that_was_never_rehearsed_is_a_warning(server: Server) -> None:
    server.product.backup()
    code, states = server.states()
    assert (code, states["last set"], states["rehearsal"]) == (4, "good", "warning")
    code, told = server.plugin()
    assert code == 1
    assert told.startswith(
        "MATTERMOST BACKUP WARNING - rehearsal: none was made. Run: gitlab-mm rehearse | sets=1;;;0 "
    )


def test_a_set_that_was_rehearsed_is_good(server: Server) -> None:
    assert server.product("rehearse").code == 0
    code, states = server.states()
    assert (code, states) == (0, GOOD)
    code, told = server.plugin()
    assert code == 0
    assert told.startswith("MATTERMOST BACKUP OK - last set: ")
    assert re.search(r" set_age=\d+s;93600;93600;0 set_bytes=\d+B;;;0 ", told)
    assert told.count("\n") == 1


def test_plain_in_a_pipe_and_in_colour_on_a_terminal(server: Server) -> None:
    plain = server.lab.run("gitlab-mm", "status").stdout
    assert re.match(r"\S+: good\n  last set   good     \d+ s ago, ", plain)
    assert max(map(len, plain.splitlines())) <= 79
    assert "\x1b" not in plain
    shown = server.on_a_terminal("gitlab-mm", "status")
    assert "\x1b[32m\x1b[1mgood\x1b[0m" in shown
    assert re.sub(r"\x1b\[\d+m", "", shown).splitlines()[0] == plain.splitlines()[0]
    assert "\x1b[3" not in server.on_a_terminal("gitlab-mm", "status", env={"NO_COLOR": "1"})
    assert server.lab.run("gitlab-mm", "status", "-q").stdout == ""


def test_sign_in_that_broke_is_bad(server: Server) -> None:
    there = ("gitlabhq_production",)
    (stored,) = server.gitlab.sql("SELECT secret FROM oauth_applications", *there)
    server.gitlab.sql("UPDATE oauth_applications SET secret = 'x'", *there)
    try:
        code, states = server.states()
    finally:
        server.gitlab.sql(f"UPDATE oauth_applications SET secret = '{stored}'", *there)
    assert (code, states["sign-in"]) == (1, "bad")
    assert server.states()[0] == 0


def test_a_host_that_makes_no_set_is_warned(server: Server) -> None:
    with server.without(CRON):
        assert server.states() == (4, {**GOOD, "next run": "warning"})
    assert server.states()[0] == 0
    server.lab.run("pkill", "-x", "cron")
    assert server.states() == (4, {**GOOD, "next run": "warning"})
    server.lab.run("cron")


def line(server: Server, name: str) -> dict[str, str]:
    """A line that is not good, whose last words are the command that helps."""
    lines = {line["name"]: line for line in server.product("status").document["lines"]}
    found: dict[str, str] = lines[name]
    plain = " ".join(server.lab.run("gitlab-mm", "status", check=False).stdout.split())
    assert found["fix"] and f"Run: {found['fix']}" in plain
    return found


def test_no_copy_elsewhere_is_a_warning(server: Server) -> None:
    server.lab.path(CONFIG).write_text("")
    found = line(server, "off-site")
    assert (found["state"], found["fix"]) == ("warning", "gitlab-mm config explain offsite")
    server.lab.run(*found["fix"].split())
    checks = {check["name"]: check for check in server.product("doctor").document["checks"]}
    assert (checks["off-site"]["result"], found["fix"] in checks["off-site"]["detail"]) == (
        "warning",
        True,
    )
    server.lab.path(CONFIG).write_text(ACCEPTED)
    assert server.states() == (0, GOOD)


def test_a_backup_that_failed_is_not_good_before_one_succeeds(server: Server) -> None:
    server.gitlab.gitlab_ctl("stop", "postgresql")
    try:
        assert server.product("backup").code == 1
    finally:
        server.gitlab.gitlab_ctl("start", "postgresql")
    server.gitlab.wait_until_ready()
    assert server.states() == (4, {**GOOD, "last run": "warning"})
    assert line(server, "last run")["fix"] == "journalctl -t gitlab-mm"
    checks = {
        check["name"]: check["result"] for check in server.product("doctor").document["checks"]
    }
    assert checks["last run"] == "warning"
    assert server.product("backup").code == 0
    assert server.states() == (0, GOOD)


@pytest.mark.parametrize("act", ["cut short", "changed"])
def test_a_damaged_newest_set_is_named(act: str, server: Server) -> None:
    newest = server.product("backup").document["set"]
    part = server.lab.path(f"{SETS}/{newest}/database.dump.zst")
    whole = part.read_bytes()
    try:
        if act == "cut short":
            part.write_bytes(whole[:-1])
        else:
            part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            assert server.product("verify", newest).code == 1
        found = line(server, "last set")
        assert (found["state"], found["fix"]) == ("bad", "gitlab-mm backup")
        assert f"; the newest set, {newest}, is damaged: it " in found["words"]
        assert "NOT SOUND" in server.lab.run("gitlab-mm", "list").stdout or act == "changed"
        checks = {check["name"]: check for check in server.product("doctor").document["checks"]}
        assert checks["last set"]["result"] == "failed"
    finally:
        server.lab.run("rm", "-r", f"{SETS}/{newest}")
    assert server.states() == (0, GOOD)


def test_list_status_nagios_and_metrics_count_the_same(server: Server) -> None:
    server.product("restore", "--yes", "latest")  # which makes a safety set
    counted = [set_ for set_ in server.product("list").document["sets"] if set_["counts"]]
    assert 0 < len(counted) < len(server.product("list").document["sets"])
    assert f"| sets={len(counted)};" in server.plugin()[1]
    lines = {line["name"]: line for line in server.product("status").document["lines"]}
    assert lines["last set"]["figures"]["sets"] == len(counted)


def test_other_accounts_see_what_root_saw(server: Server) -> None:
    assert server.states()[0] == 0
    done = server.lab.run("gitlab-mm", "status", "--json", user="git", check=False)
    seen, now = json.loads(done.stdout), server.product("status").document
    validate(seen)
    assert done.returncode == 0
    assert [(line["name"], line["state"]) for line in seen["lines"]] == [
        (line["name"], line["state"]) for line in now["lines"]
    ]
    plain = server.lab.run("gitlab-mm", "status", user="git").stdout
    assert re.match(r"\S+: good \(looked at \d+ s ago\)\n", plain)
    done = server.lab.run("gitlab-mm", "status", "--nagios", user="git", check=False)
    assert (done.returncode, done.stdout.startswith("MATTERMOST BACKUP OK - ")) == (0, True)
    with server.without("/var/cache/gitlab-mm-status/status.json"):
        done = server.lab.run("gitlab-mm", "status", "--nagios", user="git", check=False)
    assert (done.returncode, "sudo gitlab-mm status" in done.stdout) == (3, True)


def test_a_host_without_gitlab_is_bad(server: Server) -> None:
    program = "/opt/gitlab/embedded/service/gitlab-rails/VERSION"
    with server.without("/opt/gitlab/version-manifest.json"), server.without(program):
        code, states = server.states()
        found = line(server, "service")
    assert (code, states["service"], found["fix"]) == (1, "bad", "gitlab-mm doctor")
    assert states["sign-in"] == states["next run"] == "off"


def test_a_restore_that_was_cut_short_is_bad(server: Server) -> None:
    record = {"request": {"set": "x", "plan": {}}, "undo": [], "finish": []}
    server.lab.path(JOURNAL).write_text(json.dumps(record), encoding="utf-8")
    code, states = server.states()
    server.lab.run("rm", JOURNAL)
    assert (code, states["restore"]) == (1, "bad")


def test_wrong_settings_are_unknown_to_nagios(server: Server) -> None:
    done = server.lab.run("gitlab-mm", "status", "--nagios", "--json", check=False)
    assert done.returncode == 2
    assert "exclude each other" in json.loads(done.stdout)["error"]["message"]
    server.lab.path(CONFIG).write_text("keep_tiem: 7d\n")
    code, told = server.plugin()
    server.lab.path(CONFIG).write_text(ACCEPTED)
    assert (code, "line 1: keep_tiem" in told) == (3, True)
    assert told.startswith("MATTERMOST BACKUP UNKNOWN - ") and told.count("\n") == 1
