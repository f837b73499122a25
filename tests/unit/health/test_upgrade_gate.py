"""The gate's decisions: which of apt's lines are an upgrade of GitLab, and which sets count."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from gitlab_mm_backup.backup import job
from gitlab_mm_backup.clock import utc
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.container import compose
from gitlab_mm_backup.container.engine import Container
from gitlab_mm_backup.errors import ExitCode, Failure, Interrupted
from gitlab_mm_backup.health import upgrade_gate
from gitlab_mm_backup.health.upgrade_gate import Change
from gitlab_mm_backup.mattermost import omnibus
from gitlab_mm_backup.postgresql import connection
from gitlab_mm_backup.restore import rollback, search_index
from gitlab_mm_backup.store.manifest import Manifest, name_for
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system import signals
from tests.unit.helpers.builders import OWNER, ROOT, make_set

HOOK = ROOT / "hooks" / "apt" / "apt-preinst"
OLD, NEW, GONE = "18.10.2-ce.0", "18.11.9-ce.0", "19.0.0-ce.0"
CROSSING = Change(NEW, GONE)
BELOW = Change(OLD, NEW)
HEED = signals.heed
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)


def line(package: str, old: str, sign: str, new: str, what: str = "/var/cache/x.deb") -> str:
    """A line as apt writes it."""
    facts = [
        ("-", "-", "none") if release == "-" else (release, "amd64", "none")
        for release in (old, new)
    ]
    return " ".join((package, *facts[0], sign, *facts[1], what))


def upgrade(package: str, old: str, new: str) -> list[str]:
    """Both lines of an upgraded package."""
    return [line(package, old, "<", new), line(package, old, "<", new, "**CONFIGURE**")]


REMOVE, CONFIGURE = "**REMOVE**", "**CONFIGURE**"


@pytest.mark.parametrize(
    ("lines", "change"),
    [
        (upgrade("gitlab-ce", OLD, NEW), Change(OLD, NEW)),
        (upgrade("gitlab-ee", NEW, GONE), Change(NEW, GONE)),
        ([*upgrade("zlib1g", "1", "2"), *upgrade("gitlab-ce", OLD, NEW)], Change(OLD, NEW)),
        # From one edition to the other: dpkg removes the one and installs the other.
        (
            [line("gitlab-ce", NEW, ">", "-", REMOVE), line("gitlab-ee", "-", "<", GONE)],
            Change(NEW, GONE),
        ),
        ([line("gitlab-ce", NEW, ">", "-", REMOVE)], Change(NEW, "")),
        ([line("gitlab-ce", NEW, ">", "-", REMOVE), line("gitlab-ee", "-", "<", NEW)], None),
        ([line("gitlab-ce", NEW, ">", "-", REMOVE), line("gitlab-ee", "-", "<", OLD)], None),
        ([line("gitlab-ce", "-", "<", GONE)], None),  # a fresh installation
        ([line("gitlab-ce", NEW, "=", NEW)], None),
        ([line("gitlab-ce", NEW, "=", NEW, CONFIGURE)], None),
        ([line("gitlab-ce", NEW, ">", OLD)], None),
        (upgrade("gitlab-runner", NEW, GONE), None),
        (upgrade("gitlab-ce-tools", NEW, GONE), None),
        ([], None),
        (["", "gitlab-ce", "gitlab-ce 1 2 3 4 5 6 7 8", "VERSION 3"], None),
    ],
)
def test_what_apt_is_about_to_do(lines: list[str], change: Change | None) -> None:
    assert upgrade_gate.planned(lines) == change


@pytest.mark.parametrize(
    ("old", "new", "loses"),
    [
        (NEW, GONE, True),
        (NEW, "19.0.0~rc42-ce.0", True),
        (NEW, "1:19.0.0-ce.0", True),
        ("9.5.10-ce.0", "10.8.7-ce.0", False),
        (OLD, NEW, False),
        (GONE, "19.1.0-ce.0", False),
        (NEW, "unknown", False),
    ],
)
def test_only_the_way_over_19_loses_mattermost(old: str, new: str, loses: bool) -> None:
    assert Change(old, new).loses_mattermost is loses


def aged(folder: Path, age: timedelta, seconds: float = 0, purpose: str = "backup") -> BackupSet:
    """Make a set that was begun ``age`` before NOW and took ``seconds``."""
    started = NOW - age

    def change(manifest: Manifest) -> Manifest:
        return dataclasses.replace(manifest, started=utc(started), seconds=seconds, purpose=purpose)

    return make_set(folder, name_for(started, "10.11.4", "1f3a9c2e"), change=change)


def test_sets_that_count_as_new(tmp_path: Path) -> None:
    hour, minute, day = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
    sets = [
        aged(tmp_path, -hour),  # made by a clock that was wrong
        aged(tmp_path, 10 * minute, purpose="safety"),
        aged(tmp_path, 20 * minute),
        aged(tmp_path, day + minute, seconds=120),
        aged(tmp_path, day + 2 * minute, seconds=60),
    ]
    assert upgrade_gate.recent(sets, NOW, day) == sets[2:4]


class Host:
    """A host with an enabled Mattermost, a folder for sets, and a backup that does as told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.store = folder / "mattermost"
        self.policy = "block"
        self.made = 0
        self.fails: BaseException | None = None
        service = self.root / "opt/gitlab/service/mattermost"
        service.mkdir(parents=True)
        (self.root / "opt/gitlab/version-manifest.json").write_text(
            json.dumps({"build_version": "18.11.9"})
        )

    def settings(self) -> Settings:
        return Settings(self.store, None, upgrade_gate=self.policy)

    def backup(self, *_: object) -> job.BackupResult:
        self.made += 1
        if self.fails:
            raise self.fails
        return job.BackupResult(aged(self.store, timedelta()), [], [], [], OWNER, {})

    def pass_through(
        self, change: Change, load: Callable[[], Settings] | None = None
    ) -> upgrade_gate.GateResult:
        return upgrade_gate.guard(change, load or self.settings, self.root)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    monkeypatch.setattr(upgrade_gate, "_now", lambda: NOW)
    monkeypatch.setattr(upgrade_gate, "verify", lambda _: None)
    monkeypatch.setattr(upgrade_gate, "only_run", lambda: open(os.devnull))  # noqa: SIM115
    monkeypatch.setattr(job, "backup", host.backup)
    monkeypatch.setattr(search_index, "build_pending", lambda _: [])
    monkeypatch.setattr(rollback, "prune_previous", lambda _: [])
    monkeypatch.setattr(signals, "heed", lambda: None)
    monkeypatch.setattr(upgrade_gate, "live_data", lambda: "it has 1 team and 2 users")
    monkeypatch.setattr(omnibus, "find", lambda **_: None)
    return host


def damaged(_: object) -> None:
    raise Failure("Set is damaged")


def test_a_set_is_made_first_and_once(host: Host) -> None:
    first = host.pass_through(BELOW)
    second = host.pass_through(CROSSING)
    assert host.made == 1
    assert (first.warnings, second.warnings) == ([], [])
    assert first.set == second.set != ""


def test_a_failing_backup_below_19_is_a_warning(host: Host) -> None:
    host.fails = Failure("No room", "the disk is full", "Make room.")
    (warning,) = host.pass_through(BELOW).warnings
    assert "No room: the disk is full. Make room" in warning


@pytest.mark.parametrize("trouble", [Failure("No room"), OSError(28, "No room")])
def test_a_failing_backup_stops_the_way_to_19(host: Host, trouble: Exception) -> None:
    host.fails = trouble
    with pytest.raises(Failure) as caught:
        host.pass_through(CROSSING)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert "No room" in caught.value.detail and "2 users" in caught.value.detail
    assert "/etc/gitlab/skip-mattermost-backup" in caught.value.hint
    assert "upgrade_gate: warn" in caught.value.hint


@pytest.mark.parametrize(("hours", "stops"), [(23, False), (25, True)])
def test_a_set_of_less_than_a_day_is_enough(host: Host, hours: int, stops: bool) -> None:
    host.fails = Failure("No room")
    aged(host.store, timedelta(hours=hours))
    if stops:
        with pytest.raises(Failure):
            host.pass_through(CROSSING)
    else:
        assert "No room" in host.pass_through(CROSSING).warnings[0]


def test_a_set_that_is_damaged_is_not_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_gate, "verify", damaged)
    with pytest.raises(Failure) as caught:
        host.pass_through(CROSSING)
    assert "damaged" in caught.value.detail


def test_without_teams_and_users_there_is_nothing_to_stop_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.fails = Failure("No room")
    monkeypatch.setattr(upgrade_gate, "live_data", lambda: "")
    assert "loses no data" in host.pass_through(CROSSING).lines[0]


def test_a_policy_of_warn_never_stops(host: Host) -> None:
    host.fails, host.policy = Failure("No room"), "warn"
    assert "No room" in host.pass_through(CROSSING).warnings[0]


def test_a_policy_of_off_does_nothing(host: Host) -> None:
    host.policy = "off"
    assert host.pass_through(CROSSING) == upgrade_gate.GateResult()
    assert host.made == 0


def test_the_override_does_nothing_but_say_so(host: Host) -> None:
    switch = host.root / "etc/gitlab/skip-mattermost-backup"
    switch.parent.mkdir(parents=True)
    switch.touch()
    assert "/etc/gitlab/skip-mattermost-backup" in host.pass_through(CROSSING).lines[0]
    assert host.made == 0


def test_wrong_settings_warn_below_19_and_stop_at_it(host: Host) -> None:
    """The administrator corrects them; without them no set is known."""

    def load() -> Settings:
        raise Failure("config.yml has 1 problem", "line 1: x")

    assert "config.yml" in host.pass_through(BELOW, load).warnings[0]
    with pytest.raises(Failure) as caught:
        host.pass_through(CROSSING, load)
    assert "config.yml has 1 problem" in caught.value.detail


@pytest.mark.parametrize("change", [BELOW, CROSSING])
def test_an_interrupted_backup_stops_apt(host: Host, change: Change) -> None:
    host.fails = Interrupted("SIGINT")
    with pytest.raises(Failure) as caught:
        host.pass_through(change)
    assert caught.value.exit_code is ExitCode.REFUSED


def test_ctrl_c_is_heeded_again_once_the_set_is_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup passes signals over at its end; reading a large set may take minutes after that."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    monkeypatch.setattr(signals, "heed", HEED)

    def make(*_: object) -> job.BackupResult:
        signals.ignore()
        return host.backup()

    monkeypatch.setattr(job, "backup", make)
    monkeypatch.setattr(upgrade_gate, "verify", lambda _: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(Failure) as caught:
            host.pass_through(CROSSING)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.exit_code is ExitCode.REFUSED


def test_a_removal_is_only_warned_of(host: Host) -> None:
    made = aged(host.store, timedelta(days=3))
    assert made.name in host.pass_through(Change(NEW, "")).warnings[0]
    assert host.made == 0


def test_a_host_without_mattermost_is_left_alone(host: Host) -> None:
    (host.root / "opt/gitlab/service/mattermost").rmdir()
    assert host.pass_through(CROSSING) == upgrade_gate.GateResult()
    (host.root / "opt/gitlab/embedded/service/mattermost").mkdir(parents=True)
    assert host.pass_through(CROSSING) == upgrade_gate.GateResult()
    config = host.root / "var/opt/gitlab/mattermost/config.json"
    config.parent.mkdir(parents=True)
    config.touch()
    assert "disabled" in host.pass_through(CROSSING).warnings[0]
    assert host.pass_through(BELOW) == upgrade_gate.GateResult()
    assert host.made == 0


def test_a_database_that_cannot_be_asked_is_taken_for_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> tuple[int, int]:
        raise Failure("PostgreSQL does not answer")

    class Site:
        database = None

    monkeypatch.setattr(omnibus, "find", lambda **_: Site())
    monkeypatch.setattr(connection, "count_people", refuse)
    assert "PostgreSQL does not answer" in upgrade_gate.live_data()
    monkeypatch.setattr(connection, "count_people", lambda _: (0, 0))
    assert upgrade_gate.live_data() == ""
    monkeypatch.setattr(connection, "count_people", lambda _: (1, 0))
    assert upgrade_gate.live_data() == "it has 1 team and 0 users"


# The hook itself, against a program of ours that is broken in one way or another.


def call_hook(folder: Path, cli: str, lines: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the hook as apt does, with ``cli`` for our command line."""
    package = folder / "gitlab_mm_backup" / "cli"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(cli)
    hook = folder / "apt-preinst"
    text = HOOK.read_text().replace(
        "import os\n", f"import os, sys\nsys.path.insert(0, {str(folder)!r})\n", 1
    )
    hook.write_text(text)
    hook.chmod(0o755)
    told = "\n".join(["VERSION 3", "APT::Architecture=amd64", "", *lines, ""])
    with open(folder / "told", "w+") as file:
        file.write(told)
        file.seek(0)
        return subprocess.run(
            [hook], pass_fds=[file.fileno()], env={"APT_HOOK_INFO_FD": str(file.fileno())},
            capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip


ENDS = "import sys\ndef main_gate():\n    print(sys.argv[1:])\n    sys.exit({code})\n"


@pytest.mark.parametrize(("code", "wanted"), [(0, 0), (4, 0), (10, 10)])
def test_the_hook_passes_the_decision_on(tmp_path: Path, code: int, wanted: int) -> None:
    lines = upgrade("gitlab-ce", NEW, GONE)
    done = call_hook(tmp_path, ENDS.format(code=code), [*upgrade("bash", "1", "2"), *lines])
    assert (done.returncode, done.stdout, done.stderr) == (wanted, f"{lines}\n", "")


@pytest.mark.parametrize(
    ("cli", "told"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("def main_gate(:", "SyntaxError"),
        ("def main_gate(): raise RuntimeError('a mistake')", "a mistake"),
        ("def main_gate(): raise MemoryError", "MemoryError"),
        (ENDS.format(code=1), "ended with 1"),
        (ENDS.format(code="'text'"), "ended with text"),
        ("", "main_gate"),
    ],
)
def test_a_broken_program_is_told_and_stops_nothing(tmp_path: Path, cli: str, told: str) -> None:
    done = call_hook(tmp_path, cli, upgrade("gitlab-ce", NEW, GONE))
    assert done.returncode == 0
    assert told in done.stderr and "apt goes on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_apt_without_gitlab_asks_nobody(tmp_path: Path) -> None:
    done = call_hook(tmp_path, "import nothing", upgrade("bash", "1", "2"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_apt_is_told_of_the_hook_by_the_name_that_it_runs() -> None:
    text = (ROOT / "debian" / "90gitlab-mm-backup").read_text()
    path = "/usr/share/gitlab-mm-backup/apt-preinst"
    assert f'DPkg::Pre-Install-Pkgs {{ "{path} || test $? -ne 10"; }};' in text
    assert f'DPkg::Tools::Options::{path}::Version "3";' in text
    assert HOOK.stat().st_mode & stat.S_IXUSR


def test_the_gate_of_an_image_wants_gitlabs_container(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Container("docker", "a" * 64, "mm", "x", "running", 7, (), {})
    monkeypatch.setattr(compose, "server", lambda: server)
    with pytest.raises(Failure, match="the container is not started") as caught:
        upgrade_gate.guard_image("gitlab/gitlab-ce:19.0.0-ce.0", lambda: pytest.fail())
    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.hint == "Name GitLab's container: --container NAME."
