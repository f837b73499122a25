"""Sign-in checked and mended on every kind of GitLab, in every form of secret, whichever place is stale.

A class is one server; a case sets it up, so that they may run in any order. To save restarts a stale layer is made
by giving GitLab, and the layers that shall be right, another pair than the one Mattermost runs with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.lab.omnibus import Spec
from tests.system.helpers.sign_in_cases import (
    BROKEN,
    FORMS,
    SPIED,
    WARNING,
    Content,
    Host,
    Pair,
    Seen,
    host_of,
    new_pair,
)

STATES = (
    "right",
    "stale config.json",
    "stale environment",
    "stale gitlab-secrets.json",
    "no right pair",
    "all stale, a set is right",
)


@dataclass(frozen=True)
class Case:
    """A state of a server: who holds which pair, and what must be said and done about it.

    ``layers`` has every layer that exists in it; ``source`` None means that nothing fits.
    """

    accepted: Pair
    layers: dict[str, Pair | None]
    findings: set[Seen]
    works: bool
    source: str | None
    written: list[str]


class Server(Host):
    """A host that remembers what its Mattermost runs with, and has a set from its first day."""

    kept_pair: Pair
    kept_set: str
    running: Pair | None = None

    def prepare(self) -> Pair:
        """Make the set once; give the pair that Mattermost runs with, by a restart if need be."""
        if not hasattr(self, "kept_pair"):
            first = self.pair("gitlab-secrets.json")
            assert first is not None
            self.kept_pair, self.running = first, first
            self.kept_set = Path(self.back_up()).name
        if self.running in (None, self.kept_pair):
            self.running = new_pair()
            self.put("environment", None)
            self.put(self.effective_layer, self.running)
            self.restart()
        assert self.running is not None
        return self.running

    def case(self, state: str) -> Case:
        """What a state means on this version.

        GitLab 10 has the pair in config.json. Its environment folder has no such variables, but the service is
        started with it (`chpst -e <home>/env`) and Mattermost has read MM_ variables since 3.8: one that was put
        there by hand wins there too, until reconfigure deletes it.
        From 11 on the environment wins, and config.json, which has no pair of its own, does not matter.
        """
        running = self.prepare()
        in_use, secrets = self.effective_layer, "gitlab-secrets.json"
        layers: dict[str, Pair | None] = {
            "environment": None if self.renders_config else running,
            "config.json": running if self.renders_config else None,
            secrets: running,
        }
        if state == "right":
            return Case(running, layers, set(), True, in_use, [])
        if state == f"stale {in_use}":
            right = new_pair() if state == "stale environment" else running.with_new_secret()
            code = "unknown-application" if right.id != running.id else "wrong-secret"
            found = {(code, in_use, BROKEN), ("differs", secrets, WARNING)}
            return Case(right, {**layers, secrets: right}, found, False, secrets, [in_use])
        if state == "stale environment":
            right = new_pair()
            layers = {"environment": running, "config.json": right, secrets: right}
            found = {("unknown-application", "environment", BROKEN)}
            found |= {("differs", name, WARNING) for name in ("config.json", secrets)}
            return Case(right, layers, found, False, "config.json", ["environment"])
        if state in ("stale config.json", f"stale {secrets}"):
            name = state.partition(" ")[2]
            layers[name] = running.with_new_secret()
            return Case(running, layers, {("wrong-secret", name, WARNING)}, True, in_use, [name])
        others = {secrets} if self.renders_config else {"config.json", secrets}
        if state == "no right pair":
            right, code, source, written = running.with_new_secret(), "wrong-secret", None, []
        else:
            right, code = self.kept_pair, "unknown-application"
            source = f"set {self.kept_set}: {in_use}"
            written = [in_use, *sorted(others)]
        layers.update(dict.fromkeys(others, running))
        found = {(code, in_use, BROKEN), *((code, name, WARNING) for name in others)}
        return Case(right, layers, found, False, source, written)

    def set_up(self, case: Case, form: str) -> None:
        for name, pair in case.layers.items():
            self.put(name, pair)
        self.accept(case.accepted, form)


@pytest.fixture(scope="class")
def server(request: pytest.FixtureRequest, base: Path, deb: Path) -> Iterator[Server]:
    """The server of a class."""
    assert request.cls is not None
    with host_of(base, deb, Spec(version=request.cls.version)) as host:
        yield Server(host.omnibus)


class Matrix:
    """The cases; each subclass is a version."""

    version: ClassVar[str]

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("form", FORMS)
    def test_the_cause_is_named_and_mended(self, server: Server, form: str, state: str) -> None:
        case = server.case(state)
        server.set_up(case, form)
        server.running = None  # until this has ended well
        code = 1 if not case.works else 4 if case.findings else 0
        checked = server.check()
        assert (checked.code, checked.findings) == (code, case.findings)
        assert checked.document["probe"] == ("accepted" if case.works else "refused")
        assert case.works or not server.signs_in()
        if case.source is None:
            self.nothing_fits(server)
            server.running = case.layers[server.effective_layer]
        else:
            self.mended(server, case)
            server.running = case.accepted

    def nothing_fits(self, server: Server) -> None:
        before, rows, pid = server.files(), server.rows(), server.pid()
        repaired = server.repair()
        assert repaired.code == 1
        assert "--rotate" in repaired.error() and "--register" in repaired.error()
        assert (server.files(), server.rows(), server.pid()) == (before, rows, pid)

    def mended(self, server: Server, case: Case) -> None:
        expected, rows, pid = self.expected(server, case), server.rows(), server.pid()
        files = server.files()
        repaired = server.repair()
        assert (repaired.code, repaired.findings) == (0, set())
        assert (repaired.document["source"], repaired.document["probe"]) == (
            case.source,
            "accepted",
        )
        assert repaired.document["written"] == case.written
        assert server.contents() == expected
        assert repaired.document["restarted"] == (server.pid() != pid) == (not case.works)
        assert server.signs_in()
        if case.written:
            self.lasts(server, rows)
        else:
            assert server.files() == files

    def expected(self, server: Server, case: Case) -> dict[str, Content]:
        """The files as they are now, but for the right pair where it is to be written."""
        with server.kept_files():
            for name in case.written:
                server.put(name, case.accepted)
            return server.contents()

    def lasts(self, server: Server, rows: list[str]) -> None:
        """Reconfigure changes nothing, and another repair finds nothing to do."""
        before, pid = server.contents(), server.pid()
        server.omnibus.gitlab_ctl("reconfigure")
        strays = {str(path) for path in self.strays(server)}
        if strays & before.keys():
            before = {name: facts for name, facts in before.items() if name not in strays}
            server.omnibus.wait_until_ready()
            pid = server.pid()  # reconfigure removed the strays, and restarted Mattermost for that
            assert server.signs_in()
        assert (server.contents(), server.pid(), server.rows()) == (before, pid, rows)
        files = server.files()
        again = server.repair()
        assert (again.code, again.findings) == (0, set())
        assert (again.document["written"], again.document["restarted"]) == ([], False)
        assert (server.files(), server.pid(), server.rows()) == (files, pid, rows)

    def strays(self, server: Server) -> list[Path]:
        """Files, inside, that this version's reconfigure deletes from the environment folder."""
        if not server.renders_config:
            return []
        folder = Path(server.omnibus.env_folder)
        return [folder / f"MM_GITLABSETTINGS_{name}" for name in ("ID", "SECRET")]

    def test_its_mattermost_starts_in_a_rehearsal(self, server: Server) -> None:
        """Without the spy, for the sandbox gives the set's own settings to Mattermost."""
        server.prepare()
        spy = "/usr/local/sbin/setpriv"
        server.lab.run("mv", spy, "/root/spy")
        done = server.lab.run("gitlab-mm", "rehearse", "--json", server.kept_set, check=False)
        server.lab.run("mv", "/root/spy", spy)
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert [checks[name]["result"] for name in ("boot", "answers")] == ["passed"] * 2, checks
        # Without a login 5.2 and 5.21 do not tell the address.
        told = "mattermost.example.test" in checks["answers"]["detail"]
        assert told is not self.version.startswith(("11.", "12."))

    def test_no_secret_was_given_to_another_program(self, server: Server) -> None:
        server.check("--from", server.kept_set)
        seen = server.lab.read(SPIED)
        assert "zstd" in seen and "PATH=" in seen
        assert not [secret for secret in server.known if secret in seen]


class TestGitLab10(Matrix):
    version = "10.5.8"


class TestGitLab11(Matrix):
    version = "11.3.14"


class TestGitLab12(Matrix):
    version = "12.10.14"


class TestGitLab15(Matrix):
    version = "15.11.13"


class TestGitLab18(Matrix):
    version = "18.11.9"
