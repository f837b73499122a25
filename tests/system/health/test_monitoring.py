"""Seen from outside: metrics and alerts under promtool, and a failed night that reaches people."""

from __future__ import annotations

import email
import email.policy
import functools
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.installed_package import Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import PYTHON, Lab, wait_until

CONFIG = "/etc/gitlab-mm-backup/config.yml"
COLLECTOR = "/var/opt/gitlab/node-exporter/textfile_collector"
METRICS = f"{COLLECTOR}/gitlab_mm_backup.prom"
RULES = "/var/opt/gitlab/prometheus/rules/gitlab-mm-backup.rules"
HOOKS, MAILS = "/srv/hooks", "/srv/mails"
SECRET = "hook-glsec-0123456789"
NOTICES = f"""\
rehearse: off
notifications:
  - type: mattermost
    to: http://127.0.0.1:9901/hooks/{SECRET}
    on: recovery
  - type: mail
    to: admin@example.test
  - type: ping
    to: http://127.0.0.1:9901/ping/{SECRET}
  - type: apprise
    to: json://127.0.0.1:9901/apprise/{SECRET}
    on: always
"""
# Keeps what it is sent as files, one a request.
LISTENER = f"""
import http.server, json, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = pathlib.Path("{HOOKS}") / f"{{len(list(pathlib.Path('{HOOKS}').iterdir())):04d}}"
        path.with_suffix(".new").write_text(json.dumps([self.path, body]))
        path.with_suffix(".new").rename(path)
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9901), Handler).serve_forever()
"""


@dataclass
class Place:
    """A lab with listeners for everything that we send."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def received(self) -> dict[str, list[str]]:
        """What came by HTTP since the last look, by the first part of its path."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.lab.path(HOOKS).iterdir()):
            where, body = json.loads(path.read_text())
            assert where.split("/")[2] == SECRET
            end = "/".join(where.split("/")[3:])
            found.setdefault(where.split("/")[1], []).append(
                end if where.startswith("/ping") else body
            )
            path.unlink()
        return found

    def mails(self) -> list[Any]:
        """What came by mail since the last look."""
        found = []
        for path in sorted(self.lab.path(f"{MAILS}/new").iterdir()):
            found.append(email.message_from_bytes(path.read_bytes(), policy=email.policy.default))
            path.unlink()
        return found

    def metric(self, name: str) -> float:
        """A sample by its name and labels."""
        lines = self.lab.read(METRICS).splitlines()
        (line,) = [line for line in lines if line.rpartition(" ")[0] == f"gitlab_mm_{name}"]
        return float(line.rpartition(" ")[2])

    def used(self, path: str) -> set[str]:
        """The metrics that a file asks for."""
        return set(re.findall(r"gitlab_mm_\w+", self.lab.read(path)))

    def promtool(self, *words: str, text: str | None = None) -> str:
        """What promtool says; it must be content."""
        return self.lab.run("promtool", *words, input=text).stdout


@pytest.fixture(scope="module")
def place(base: Path, deb: Path) -> Iterator[Place]:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        told = lab.read(METRICS)
        assert "gitlab_mm_sets 0\n" in told, "written at the installation, before any job"
        assert "gitlab_mm_set_newest" not in told and "gitlab_mm_run" not in told
        gitlab.seed()
        lab.run("mkdir", "-p", HOOKS)
        lab.write("/srv/listener.py", LISTENER)
        lab.write("/etc/msmtprc", "account default\nhost 127.0.0.1\nfrom root@example.test\n")
        sink = (
            "-m",
            "aiosmtpd",
            "-n",
            "-l",
            "127.0.0.1:25",
            "-c",
            "aiosmtpd.handlers.Mailbox",
            MAILS,
        )
        with (
            lab.popen(PYTHON, "/srv/listener.py") as listener,
            lab.popen("/usr/bin/python3", *sink) as mailbox,
        ):
            for port in (9901, 25):
                wait_until(functools.partial(listens, lab, port), 20, f"port {port}")
            lab.write(CONFIG, NOTICES, mode=0o600)
            yield Place(lab, gitlab, product)
            listener.kill()
            mailbox.kill()


def listens(lab: Lab, port: int) -> bool:
    """Whether somebody takes connections at a port."""
    return lab.run("bash", "-c", f"</dev/tcp/127.0.0.1/{port}", check=False).returncode == 0


def night(place: Place) -> int:
    """What cron runs; it must be silent where all is well."""
    done = place.lab.run("gitlab-mm-backup", "--if-present", "--quiet", check=False)
    assert bool(done.stdout + done.stderr) == bool(done.returncode)
    assert SECRET not in done.stdout + done.stderr
    return done.returncode


def test_a_test_reaches_everybody(place: Place) -> None:
    answer = place.product("notify", "--test")
    assert answer.code == 0, answer
    assert [notice["problem"] for notice in answer.document["notices"]] == [None] * 4
    found = place.received()
    assert set(found) == {"hooks", "ping", "apprise"}
    assert len(place.mails()) == 1
    assert place.product.run("notify").returncode == 2


def test_a_good_night_is_told_to_those_who_want_it(place: Place) -> None:
    assert night(place) == 0
    found = place.received()
    assert found["ping"] == ["start", ""]
    assert "is done on" in found["apprise"][0]
    assert "hooks" not in found and place.mails() == []
    assert place.metric('run_success{command="backup"}') == 1


def test_a_failed_night_reaches_people_and_the_next_good_one_too(place: Place) -> None:
    assert place.product("backup").code == 0
    made = place.metric('run_success_timestamp_seconds{command="backup"}')
    place.received()
    place.gitlab.gitlab_ctl("stop", "postgresql")
    try:
        assert night(place) == 1
    finally:
        place.gitlab.gitlab_ctl("start", "postgresql")
    found, (mail,) = place.received(), place.mails()
    assert mail["To"] == "admin@example.test"
    assert mail["Subject"].startswith("gitlab-mm backup failed on ")
    assert "PostgreSQL does not answer" in mail.get_content()
    assert "PostgreSQL does not answer" in json.loads(found["hooks"][0])["text"]
    assert found["ping"] == ["start", "fail"]
    assert place.metric('run_success{command="backup"}') == 0
    assert place.metric('run_exit_code{command="backup"}') == 1
    assert place.metric('run_success_timestamp_seconds{command="backup"}') == made
    place.gitlab.wait_until_ready()
    assert night(place) == 0
    (text,) = [json.loads(body)["text"] for body in place.received()["hooks"]]
    assert "is done again, after a failure" in text
    assert place.mails() == []


def test_what_cannot_be_told_harms_no_job(place: Place) -> None:
    dead = NOTICES.replace(":9901/hooks", ":1/hooks").replace("json://", "nothing://")
    place.lab.write(CONFIG, dead, mode=0o600)
    try:
        assert night(place) == 0
        answer = place.product("notify", "--test")
        assert answer.code == 1
        problems = {notice["notice"]: notice["problem"] for notice in answer.document["notices"]}
        assert [name for name, problem in problems.items() if problem] == [
            "1 (mattermost)",
            "4 (apprise)",
        ]
        assert SECRET not in json.dumps(answer.document) + answer.stderr
    finally:
        place.lab.write(CONFIG, NOTICES, mode=0o600)
        place.received()
        place.mails()


def test_promtool_takes_the_metrics_of_every_job(place: Place) -> None:
    name = place.product("backup").document["set"]
    assert place.product("rehearse", name).code == 0
    assert place.product.restore("--no-safety-backup", name).code == 0
    assert place.product("prune").code == 0
    file = place.lab.path(METRICS)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    text = file.read_text()
    assert place.promtool("check", "metrics", text=text) == ""
    for command in ("backup", "rehearse", "restore", "prune"):
        assert place.metric(f'run_exit_code{{command="{command}"}}') == 0
    sizes = place.product("list").document["sets"][0]
    assert place.metric("set_bytes") == sizes["bytes"]
    assert place.metric("sign_in_verified") == 1
    assert place.metric("free_bytes") > 0
    assert place.metric("sets") == len(place.product("list").document["sets"])


def test_the_alerts_fire_and_resolve(place: Place) -> None:
    answer = place.product("doctor", "--install-alerts")
    assert (answer.code, answer.document["rules"]) == (0, RULES)
    assert stat.S_IMODE(place.lab.path(RULES).stat().st_mode) == 0o644
    assert "11 rules found" in place.promtool("check", "rules", RULES)
    assert "SUCCESS" in place.promtool(
        "test", "rules", "/lab/src/tests/lab/fixtures/alerts-test.yml"
    )
    place.gitlab.gitlab_ctl("reconfigure")
    assert place.lab.path(RULES).exists(), "reconfigure leaves it"


def test_metrics_and_alerts_go_where_the_services_look(place: Place) -> None:
    place.lab.run("mkdir", "-p", "/opt/gitlab/sv/node-exporter", "/srv/collector")
    script = "#!/bin/sh\nexec node_exporter --collector.textfile.directory=/srv/collector --x=y\n"
    place.lab.write("/opt/gitlab/sv/node-exporter/run", script)
    try:
        assert place.product("prune").code == 0
        assert "gitlab_mm_tool_info" in place.lab.read("/srv/collector/gitlab_mm_backup.prom")
    finally:
        place.lab.run("rm", "-r", "/opt/gitlab/sv/node-exporter")


def test_sign_in_that_is_repaired_is_normal_at_once(place: Place) -> None:
    there = ("gitlabhq_production",)
    place.gitlab.sql("UPDATE oauth_applications SET secret = 'x'", *there)
    assert place.product("status").code == 1
    assert place.metric("sign_in_verified") == 0
    assert place.product("sso", "repair", "--register").code in (0, 4)
    assert place.metric("sign_in_verified") == 1, "no backup was made since"


def test_every_metric_in_use_is_written(place: Place) -> None:
    """By the dashboard and the rules; this host has a copy at a remote for it."""
    names = place.used("/usr/share/gitlab-mm-backup/grafana-dashboard.json") | place.used(RULES)
    place.lab.write(CONFIG, f"{NOTICES}offsite:\n  - remote: /srv/copies\n", mode=0o600)
    place.lab.run("mkdir", "-p", "/srv/copies")
    try:
        assert place.product("backup").code in (0, 4)
        assert place.product("rehearse").code == 0
        there = {line.split("{")[0].split(" ")[0] for line in place.lab.read(METRICS).splitlines()}
    finally:
        place.lab.write(CONFIG, NOTICES, mode=0o600)
    assert len(names) > 15
    assert names - there == set()
