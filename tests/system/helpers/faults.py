"""The fault harness: a server with two known states, restores between them, and one exact fault at a time.

Sets A and B are of the same server at two moments; whatever is live, the other one is restored. So
"old" and "new" differ in posts, uploads, settings and plugins, and after a fault (and its recovery)
the server stands in one of both, from where the next fault starts.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.lab.installed_package import JOURNAL, Answer, Product
from tests.lab.omnibus import RUNSVDIR_PID, Omnibus, Seed
from tests.lab.sandbox import PYTHON, Lab, wait_until

HOME = "/var/opt/gitlab/mattermost"
SETS = "/var/opt/gitlab/backups/mattermost"
HOOKS = "/etc/gitlab-mm-backup/hooks"
QUICK = ("--no-safety-backup", "--only", "database", "--only", "files", "--only", "config")
# Mattermost derives these from posts and files, and refreshes them by itself.
DERIVED = ("poststats", "posts_by_team_day", "file_stats", "bot_posts_by_team_day")
# Not ours, although they look like it: each must survive everything.
FOREIGN_DATABASES = ("gitlab_mm_new_deadbeef", "gitlab_mm_old_feedface")
FOREIGN_FOLDER = "/var/opt/gitlab/.gitlab-mm-foreign"


@dataclass(frozen=True)
class Fault:
    """What happens at the `nth` time our program is at `point`.

    point: "module:function" of the product, with `when` before or after the call; "stream:tar": when
    tar has eaten the first part of an archive; or "child:NAME": when that program has begun. act: a
    signal (for `target`, a child by name, else for ourselves), "fail" (a Failure),
    "EIO" (an OSError, as a bad disk gives), "run" (`argv`), or
    "hold" (stand still until Server.go). patience: seconds that a restore waits for Mattermost.
    frame, batch: bytes of a frame that is packed, and of the uploads that are unpacked at once.
    """

    point: str = ""
    when: str = "before"
    nth: int = 1
    act: str = "SIGKILL"
    target: str = ""
    argv: Sequence[str] = ()
    patience: float = 0
    frame: int = 0
    batch: int = 0


def journal_write(number: int, act: str = "SIGKILL", when: str = "before") -> Fault:
    """At the n-th note in the journal: before it the act before is done, after it the next one is not."""
    return Fault("mattermost.journal:Journal.write", when, number, act)


@dataclass
class Server:
    """One lab that rows share."""

    lab: Lab
    gitlab: Omnibus
    product: Product
    seed: Seed
    token: str
    posts: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sets: dict[str, str] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    live: str = "B"
    places: dict[str, str] = field(default_factory=dict)  # real folders, by the name in a state

    @property
    def other(self) -> str:
        """The state that a restore would bring."""
        return "A" if self.live == "B" else "B"

    # --- acting

    def run(self, *arguments: str, fault: Fault | None = None) -> Answer:
        """Run `gitlab-mm ARGUMENTS --json` with a fault; without an answer its document is empty."""
        done = self.lab.run(
            "gitlab-mm", *arguments, "--json", check=False, env=environment(fault), timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        document = json.loads(done.stdout) if done.stdout else {}
        if document:
            assert document["exit_code"] == done.returncode
        return Answer(done.returncode, document, done.stderr)

    def restore(self, *arguments: str, fault: Fault | None = None, quick: bool = True) -> Answer:
        """Restore the other state's set, with a fault."""
        options = QUICK if quick else ()
        return self.run(
            "restore", "--yes", *options, *arguments, self.sets[self.other], fault=fault
        )

    @contextlib.contextmanager
    def held(self, *arguments: str, fault: Fault) -> Iterator[subprocess.Popen[str]]:
        """Run `gitlab-mm ARGUMENTS --json` up to a fault that holds it."""
        for name in ("reached", "go"):
            self.lab.path(f"/run/fault-{name}").unlink(missing_ok=True)
        process = self.lab.popen("gitlab-mm", *arguments, "--json", env=environment(fault))
        reached = self.lab.path("/run/fault-reached")
        wait_until(lambda: reached.exists() or process.poll() is not None, 30, "the fault")
        assert process.poll() is None, process.communicate()
        yield process

    def go(self, process: subprocess.Popen[str]) -> Answer:
        """Let a held run go on to its end."""
        self.lab.path("/run/fault-go").touch()
        stdout, stderr = process.communicate(timeout=60)
        assert "Traceback" not in stderr, stderr
        return Answer(process.returncode, json.loads(stdout) if stdout else {}, stderr)

    def power_cut(self) -> None:
        """Cut the power, boot from the same disk, and start what starts by itself."""
        self.lab.power_off()
        self.lab.boot()
        self.gitlab._name_sites()
        self.lab.run(
            "start-stop-daemon", "--start", "--quiet", "--background", "--make-pidfile", "--pidfile",
            RUNSVDIR_PID, "--startas", "/opt/gitlab/embedded/bin/runsvdir-start",
        )  # fmt: skip
        self.wait_for_postgresql()
        wait_until(self.service, 20, "runsv of Mattermost")

    def wait_for_postgresql(self) -> None:
        """Until the server answers, as after a crash."""
        query = ("/opt/gitlab/bin/gitlab-psql", "-X", "-q", "-d", "postgres", "-c", "SELECT 1")
        wait_until(lambda: self.lab.run(*query, check=False).returncode == 0, 30, "PostgreSQL")

    def service(self) -> str:
        """run or down, as runit says."""
        said = self.lab.run("sv", "status", "mattermost", check=False).stdout
        word = said.partition(":")[0]
        return word if word in ("run", "down") else ""

    def hook(self, phase: str, script: str) -> None:
        """Give the administrator a hook."""
        self.lab.write(f"{HOOKS}/{phase}.d/10-fault", f"#!/bin/sh\n{script}\n", mode=0o755)

    def no_hook(self) -> None:
        """Take it away again."""
        self.lab.run("sh", "-c", f"rm -f {HOOKS}/*.d/10-fault")

    # --- looking

    @property
    def journal(self) -> bool:
        """Whether a restore is noted as unfinished."""
        return self.lab.path(JOURNAL).exists()

    def observe(self, serves: bool = True) -> dict[str, Any]:
        """What is served, what is stored, what lies about (faults_look)."""
        request = {
            "serves": serves,
            "site": self.gitlab.spec.site_url,
            "token": self.token,
            "posts": self.posts,
            "files": self.files,
            "seconds": 15,
        }
        module = ("-m", "tests.system.helpers.faults_look")
        done = self.lab.run(PYTHON, *module, input=json.dumps(request), cwd="/lab/src")
        seen = dict(json.loads(done.stdout))
        seen["tables"] = {
            name: value for name, value in seen["tables"].items() if name not in DERIVED
        }
        for name, real in self.places.items():
            seen["files"] = {
                path.replace(real, name, 1) if path.startswith(real) else path: value
                for path, value in seen["files"].items()
                if path != name
            }
        return seen

    def expect(self, name: str, ignore: Sequence[str] = ()) -> None:
        """Exactly this state is served, intact, without temporary files."""
        problems = differences(self.states[name], self.observe(), ignore)
        assert not problems, f"not exactly state {name}:\n" + "\n".join(problems[:12])
        self.live = name

    def heal(self) -> None:
        """After a row that failed: bring the server back into one of both states, somehow."""
        self.no_hook()
        left = "/var/fault-fill /var/lib/gitlab-mm-backup/previous.json"
        self.lab.run("sh", "-c", f"rm -f /opt/fault-mattermost /run/fault-* {left}")
        self.wait_for_postgresql()
        if self.journal and self.run("restore", "--rollback").code:
            self.lab.path(JOURNAL).unlink(missing_ok=True)
        for name in self.gitlab.sql("SELECT datname FROM pg_database", "postgres"):
            if name.startswith("gitlab_mm_") and name not in FOREIGN_DATABASES:
                self.gitlab.sql(f"DROP DATABASE {name} WITH (FORCE)", "postgres")
        self.lab.run("sh", "-c", "rm -rf /var/opt/gitlab/.gitlab-mm-????????-*")
        self.lab.run("rm", "-f", "/opt/gitlab/sv/mattermost/down")
        self.gitlab.gitlab_ctl("start", "mattermost", check=False)
        seen = self.observe()
        for name, state in self.states.items():
            if not differences(state, seen):
                self.live = name
                return
        self.run("restore", "--yes", *QUICK, self.sets["A"])
        self.expect("A")

    def expect_noticed(self) -> None:
        """doctor, a backup and another restore see the unfinished journal; none of them changes a thing."""
        checks = {
            check["name"]: check["result"]
            for check in self.run("doctor").document.get("checks", [])
        }
        assert checks["restore journal"] == "failed"
        for words in (("backup",), ("restore", "--yes", *QUICK)):
            answer = self.run(*words)
            assert (answer.code, "interrupted" in answer.error["message"]) == (5, True), answer


def environment(fault: Fault | None) -> dict[str, str]:
    """What brings a fault to our program."""
    return {"GITLAB_MM_FAULT": json.dumps(asdict(fault))} if fault else {}


def differences(wanted: Any, found: Any, ignore: Sequence[str] = (), place: str = "") -> list[str]:
    """Where two documents differ, one line each."""
    if any(place.startswith(prefix) for prefix in ignore):
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted({*wanted, *found})
        pairs = [(f"{place}/{key}", wanted.get(key), found.get(key)) for key in keys]
        return [line for where, a, b in pairs for line in differences(a, b, ignore, where)]
    return [] if wanted == found else [f"{place}: {wanted!r:.200} -> {found!r:.200}"]
