"""What the .deb is made of, checked without building it."""

from __future__ import annotations

import ast
import fcntl
import re
import runpy
import shutil
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from gitlab_mm_backup.health import scheduler

ROOT = Path(__file__).resolve().parents[3]
DEBIAN = ROOT / "debian"
PACKAGE = "gitlab-mm-backup"
PHASES = ("on-failure", "post-backup", "post-restore", "pre-backup", "pre-restore")
MAINTAINER_SCRIPTS = sorted(
    path
    for path in DEBIAN.glob(f"{PACKAGE}.*")
    if path.suffix in (".preinst", ".postinst", ".prerm", ".postrm")
)
# Where Debian's package name is not "python3-" and the name on PyPI in lower case.
NOT_ON_PYPI = ("python3-seccomp",)  # comes with libseccomp
DEBIAN_NAMES = {"pyyaml": "python3-yaml", "markdown-it-py": "python3-markdown-it"}


def run(
    arguments: list[str], path: str = "/usr/bin:/bin", text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program as cron and dpkg do, with hardly any environment; text goes to its input."""
    return subprocess.run(
        arguments,
        input=text,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def read_table(name: str) -> list[list[str]]:
    """Return the words of each line of a debhelper file, comments left out."""
    lines = (DEBIAN / name).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


# the nightly run

NIGHTLY = ROOT / "hooks" / "nightly"


def read_cron_jobs(minute: str = "17") -> list[list[str]]:
    """Return [minute, hour, day, month, weekday, user, command] of each job (crontab(5))."""
    text = (DEBIAN / "cron").read_text(encoding="utf-8").replace("@MINUTE@", minute)
    assert text.endswith("\n"), "cron ignores a last line that is not ended"
    lines = [line.strip() for line in text.splitlines()]
    jobs = [line for line in lines if line and not re.match(r"#|\w+\s*=", line)]
    return [job.split(maxsplit=6) for job in jobs]


def test_cron_asks_every_hour_for_the_run_after_the_backup_of_gitlab() -> None:
    (minute, *others, user, command), *more = read_cron_jobs()
    assert (minute, others, user, more) == ("17", ["*"] * 4, "root", [])
    due = command.split()[-1]
    assert re.fullmatch(r"0[3-5]:17", due), "after GitLab's 02:00 and the lost hour of summer time"
    assert "%" not in command, "cron turns % into a new line"


def test_cron_job_is_silent_and_succeeds_when_the_program_is_gone(tmp_path: Path) -> None:
    command = read_cron_jobs()[0][6].replace("/usr/share", f"{tmp_path}/share")
    result = run(["/bin/sh", "-c", command])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def call_nightly(
    folder: Path, systemd: bool, active: bool, service: str = "static"
) -> subprocess.CompletedProcess[str]:
    """Run what cron runs, with a program that tells its arguments, and a systemctl."""
    text = NIGHTLY.read_text(encoding="utf-8")
    assert "/usr/bin/gitlab-mm-backup " in text
    for real in ("/usr/bin/gitlab-mm-backup ", "/run/systemd"):
        text = text.replace(real, f"{folder}{real}")
    answers = [
        f'"is-active --quiet gitlab-mm-backup.timer") exit {0 if active else 3} ;;',
        f'"is-enabled gitlab-mm-backup.service") echo {service}; exit 1 ;;',
    ]
    bodies = {
        "usr/bin/gitlab-mm-backup": 'echo "$@"\nexit 4',
        "bin/systemctl": "\n".join(['case "$*" in', *answers, "*) exit 9 ;;", "esac"]),
    }
    for name, body in bodies.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    if systemd:
        (folder / "run/systemd/system").mkdir(parents=True)
    return run(["sh", "-s", "04:17"], path=f"{folder}/bin:/usr/bin:/bin", text=text)


@pytest.mark.parametrize(
    ("systemd", "active", "service"),
    [
        (True, False, "static"),  # the timer may be enabled: it was not started
        (False, True, "static"),
        (True, True, "masked"),
        (True, True, "masked-runtime"),
    ],
)
def test_cron_calls_the_program_quietly_and_passes_its_exit_code_on(
    systemd: bool, active: bool, service: str, tmp_path: Path
) -> None:
    result = call_nightly(tmp_path, systemd, active, service)
    assert (result.stdout, result.stderr) == ("--if-present --due 04:17 --quiet\n", "")
    assert result.returncode == 4


def test_cron_leaves_the_night_to_the_timer_where_that_is_active(tmp_path: Path) -> None:
    result = call_nightly(tmp_path, systemd=True, active=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


OFTEN = ROOT / "debian/cron.d/gitlab-mm-backup-schedule"


def call_scheduled(
    folder: Path, settings: str, systemd: bool, service: str, by: str
) -> subprocess.CompletedProcess[str]:
    """Run what cron or the timer of a schedule runs, with a program that tells its arguments."""
    text = (ROOT / "hooks" / "scheduled").read_text(encoding="utf-8")
    for real in ("/usr/bin/gitlab-mm-backup ", "/run/systemd", "/etc/gitlab-mm-backup"):
        assert real in text
        text = text.replace(real, f"{folder}{real}")
    answers = [
        '"is-active --quiet gitlab-mm-backup-schedule.timer") exit 0 ;;',
        f'"is-enabled gitlab-mm-backup-schedule.service") echo {service}; exit 1 ;;',
    ]
    bodies = {
        "usr/bin/gitlab-mm-backup": 'echo "$@"\nexit 3',
        "bin/systemctl": "\n".join(['case "$*" in', *answers, "*) exit 9 ;;", "esac"]),
        "etc/gitlab-mm-backup/config.d/10-more.yml": settings,
    }
    for name, body in bodies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    if systemd:
        (folder / "run/systemd/system").mkdir(parents=True)
    return run(["sh", "-s", *filter(None, [by])], path=f"{folder}/bin:/usr/bin:/bin", text=text)


@pytest.mark.parametrize(
    ("settings", "systemd", "service", "by", "asked"),
    [
        ("schedule: hourly", False, "static", "cron", True),
        ("schedule: hourly", True, "static", "cron", False),  # the timer does it
        ("schedule: hourly", True, "static", "", True),  # it is the timer
        ("schedule: hourly", True, "masked", "cron", True),
        ("files: full", False, "static", "cron", False),
    ],
)
def test_a_schedule_is_asked_about_by_one_of_cron_and_the_timer(
    settings: str, systemd: bool, service: str, by: str, asked: bool, tmp_path: Path
) -> None:
    result = call_scheduled(tmp_path, settings, systemd, service, by)
    words = "--if-present --scheduled --quiet\n" if asked else ""
    assert (result.returncode, result.stdout, result.stderr) == (3 if asked else 0, words, "")


def test_cron_asks_about_a_schedule_every_quarter_of_an_hour() -> None:
    text = OFTEN.read_text(encoding="utf-8")
    job = text.splitlines()[-1].split(maxsplit=6)
    assert text.endswith("\n")
    assert job[:6] == ["*/15", "*", "*", "*", "*", "root"]
    assert scheduler.OFTEN.line.search(text), "what status looks for"
    timer = (DEBIAN / "gitlab-mm-backup.gitlab-mm-backup-schedule.timer").read_text()
    assert "OnCalendar=*:0/15\n" in timer


def test_the_first_installation_draws_a_minute_and_later_ones_keep_it(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "cron.d" / PACKAGE

    def install(*versions: str) -> str:
        run_script("postinst", "configure", tmp_path, "exit 0", *versions)
        return file.read_text(encoding="utf-8") if file.exists() else ""

    drawn = set()
    for _ in range(12):
        job = install().splitlines()[-1].split()
        assert 10 < int(job[0]) < 60 and job[-1] == f"04:{job[0]}"
        drawn.add(job[0])
        file.unlink()
    assert len(drawn) > 1, "twelve times the same minute is no chance"
    assert install("0.1.0") == "", "the administrator's removal was not kept"
    file.write_text("# mine\n", encoding="utf-8")
    assert install() == install("0.1.0") == "# mine\n"
    assert [path.name for path in file.parent.iterdir()] == [PACKAGE], "a leftover"
    run_script("postrm", "purge", tmp_path, "exit 1")
    assert not file.exists()


def test_the_first_installation_writes_the_settings_and_later_ones_keep_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "etc" / PACKAGE / "config.yml"

    def install(*versions: str) -> str | None:
        run_script("postinst", "configure", tmp_path, "exit 0", *versions)
        return file.read_text(encoding="utf-8") if file.exists() else None

    assert install() == (DEBIAN / "config.yml").read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.unlink()
    assert install("0.1.0") is None, "the administrator's removal was not kept"
    file.write_text("nice: 3\n", encoding="utf-8")
    assert install() == install("0.1.0") == "nice: 3\n"
    file.unlink()
    file.symlink_to("/nowhere/yet")
    assert install() is None and file.is_symlink()
    assert [path.name for path in file.parent.iterdir()] == ["config.yml"], "a leftover"


def test_the_timer_is_shipped_disabled_and_catches_up() -> None:
    units = {}
    for suffix in ("service", "timer"):
        text = (DEBIAN / f"{PACKAGE}.{suffix}").read_text(encoding="utf-8")
        units[suffix] = dict(
            line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line)
        )
    timer, service = units["timer"], units["service"]
    assert re.fullmatch(r"\*-\*-\* 0[3-5]:00", timer["OnCalendar"])
    assert (timer["Persistent"], timer["FixedRandomDelay"]) == ("true", "true")
    assert "RandomizedDelaySec" in timer
    assert service["ExecStart"] == "/usr/bin/gitlab-mm-backup --if-present --quiet"
    rules = (DEBIAN / "rules").read_text(encoding="utf-8")
    assert "dh_installsystemd --no-enable --no-start" in rules


def test_the_service_is_hardened() -> None:
    """Nothing above 4.0 of 10; what it leaves open is said in it."""
    judged = ["systemd-analyze", "security", "--offline=true", "--threshold=40", "--no-pager"]
    result = run([*judged, str(DEBIAN / f"{PACKAGE}.service")])
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level" in result.stdout


def test_systemd_understands_the_units_and_bounds_what_they_take() -> None:
    for suffix in ("service", "timer"):
        unit = str(DEBIAN / f"{PACKAGE}.{suffix}")
        result = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit])
        told = [line for line in result.stderr.splitlines() if "is not executable" not in line]
        assert told == [], "its program comes with the package"
    text = (DEBIAN / f"{PACKAGE}.service").read_text(encoding="utf-8")
    assert {"MemoryMax=75%", "TasksMax=2048", "OOMPolicy=continue"} <= set(text.splitlines())


# hooks


def find_hooks() -> list[Path]:
    """Return the files in the phase folders; Python's cache is no hook and is not packed."""
    return [path for path in sorted(ROOT.glob("hooks/*.d/*")) if path.name != "__pycache__"]


def installed_path(source: Path) -> str | None:
    """Return the folder that debian/*.install puts a file of the tree into, None if nowhere."""
    for pattern, target in read_table(f"{PACKAGE}.install"):
        for match in ROOT.glob(pattern):
            if source == match or match in source.parents:
                inner = source.parent.relative_to(match.parent)
                return str(Path(target, inner))
    return None


def test_every_hook_is_an_executable_script_that_the_package_installs() -> None:
    hooks = find_hooks()
    assert hooks
    for hook in hooks:
        assert hook.parent.name[:-2] in PHASES, f"{hook}: no such phase"
        assert hook.stat().st_mode & stat.S_IXUSR, f"{hook}: not executable"
        assert hook.read_bytes().startswith(b"#!/"), f"{hook}: no interpreter line"
        assert installed_path(hook) == f"usr/lib/{PACKAGE}/hooks/{hook.parent.name}"


def test_the_administrator_gets_a_folder_for_every_phase() -> None:
    folders = [words[0] for words in read_table(f"{PACKAGE}.dirs")]
    wanted = [f"etc/{PACKAGE}/hooks/{phase}.d" for phase in PHASES]
    assert sorted(folder for folder in folders if "/hooks/" in folder) == wanted


def test_everything_to_install_exists() -> None:
    for pattern, _ in read_table(f"{PACKAGE}.install"):
        assert list(ROOT.glob(pattern)), f"debian/{PACKAGE}.install: {pattern} is missing"


# maintainer scripts


def test_there_are_maintainer_scripts() -> None:
    assert [path.suffix for path in MAINTAINER_SCRIPTS] == [".postinst", ".postrm", ".preinst"]


@pytest.mark.parametrize("script", MAINTAINER_SCRIPTS, ids=lambda path: path.suffix[1:])
def test_maintainer_script_is_valid_shell_that_debhelper_can_complete(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert "\n#DEBHELPER#\n" in text
    result = run(["sh", "-n", str(script)])
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "script", [*MAINTAINER_SCRIPTS, *sorted(DEBIAN.glob("*/*.sh"))], ids=lambda path: path.name
)
def test_every_script_passes_shellcheck(script: Path) -> None:
    result = run(["shellcheck", "--shell=sh", str(script)])
    assert result.returncode == 0, result.stdout


def run_script(suffix: str, argument: str, root: Path, doctor: str, *more: str) -> str:
    """Run a maintainer script with its absolute paths below root; return what it says.

    root/bin holds a gitlab-mm whose body is doctor, and an ldconfig that does nothing.
    """
    programs = root / "bin"
    programs.mkdir(exist_ok=True)
    for name, body in (("gitlab-mm", doctor), ("ldconfig", "exit 0"), ("adduser", "exit 0")):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    templates = root / "usr" / "share" / PACKAGE
    templates.mkdir(parents=True, exist_ok=True)
    for name in ("cron", "config.yml"):
        shutil.copy(DEBIAN / name, templates)
    text = (DEBIAN / f"{PACKAGE}.{suffix}").read_text(encoding="utf-8")
    ours = rf"(?:etc|etc/cron\.d|var/lib|usr/share)/{PACKAGE}|opt/gitlab|var/opt/gitlab"
    text = re.sub(rf"(?<![\w/}}])/(?={ours})", f"{root}/", text)
    result = run(["sh", "-s", argument, *more], path=f"{programs}:/usr/bin:/bin", text=text)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_installation_passes_on_what_the_doctor_says_and_succeeds_anyway(tmp_path: Path) -> None:
    doctor = 'echo "the doctor: $*"; exit 1'
    assert run_script("postinst", "configure", tmp_path, doctor) == "the doctor: doctor --layout\n"


def test_installation_succeeds_when_the_doctor_cannot_run(tmp_path: Path) -> None:
    said = run_script("postinst", "configure", tmp_path, "echo Traceback >&2; exit 127")
    assert said.count("\n") == 1
    assert "the check of this host did not finish" in said


def test_the_doctor_is_left_alone_when_an_upgrade_is_undone(tmp_path: Path) -> None:
    assert run_script("postinst", "abort-upgrade", tmp_path, "echo called") == ""


def make_state(root: Path) -> Path:
    """Make the state and settings folders as after some use; return the state folder."""
    state = root / "var" / "lib" / PACKAGE
    hooks = root / "etc" / PACKAGE / "hooks" / "pre-backup.d"
    for folder in (state, hooks):
        folder.mkdir(parents=True)
        (folder / "leftover").touch()
    return state


def test_purge_removes_state_and_settings_and_says_where_sets_are(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    said = run_script("postrm", "purge", tmp_path, "exit 1")
    assert "/var/opt/gitlab/backups/mattermost" in said
    assert not state.exists()
    assert not (tmp_path / "etc" / PACKAGE).exists()


def test_purge_keeps_the_folder_in_which_a_set_lies(tmp_path: Path) -> None:
    manifest = make_state(tmp_path) / "sets" / "1795310000_2026_11_22" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    said = run_script("postrm", "purge", tmp_path, "exit 1")
    assert f"{tmp_path}/var/lib/{PACKAGE} is kept" in said
    assert manifest.exists()
    assert not (tmp_path / "etc" / PACKAGE).exists()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/gitlab-mm-backup/config.yml", 'keep_time: 7d\nbackup_path: "{place}"  # big disk\n'),
        ("etc/gitlab-mm-backup/config.d/10-fleet.yml", "backup_path: {place}\n"),
        (
            "opt/gitlab/embedded/service/gitlab-rails/config/gitlab.yml",
            "production:\n  pages:\n    path: /x\n  backup:\n    path: {place}\n    keep_time: 7\n",
        ),
    ],
)
def test_purge_names_the_folder_in_which_sets_are(path: str, text: str, tmp_path: Path) -> None:
    place = tmp_path / "srv" / "big disk"
    manifest = place / "mattermost" / "1795310000_2026_11_22" / "manifest.json"
    for file, content in ((tmp_path / path, text.format(place=place)), (manifest, "")):
        file.parent.mkdir(parents=True)
        file.write_text(content, encoding="utf-8")
    said = run_script("postrm", "purge", tmp_path, "exit 1")
    assert said == f"gitlab-mm-backup: the backup sets in {place}/mattermost are kept.\n"
    assert manifest.exists()


METRICS, RULES = "textfile_collector/gitlab_mm_backup.prom", "rules/gitlab-mm-backup.rules"


def test_purge_removes_metrics_and_rules_wherever_they_were_written(tmp_path: Path) -> None:
    usual = [f"var/opt/gitlab/node-exporter/{METRICS}", f"var/opt/gitlab/prometheus/{RULES}"]
    ours = [tmp_path / name for name in (*usual, f"srv/ours/{METRICS}", f"srv/ours/{RULES}")]
    others = [tmp_path / name for name in ("srv/ours/node.prom", "etc/shadow", "srv/x.rules")]
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    notes = make_state(tmp_path) / "files-elsewhere"
    climbing = tmp_path / "srv/ours/../../etc/shadow"
    notes.write_text("".join(f"{path}\n" for path in (*ours[2:], *others[1:], climbing)))
    run_script("postrm", "purge", tmp_path, "exit 1")
    assert [path for path in (*ours, *others) if path.exists()] == others


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("restore.json", "gitlab-mm restore --rollback"),
        ("previous.json", "gitlab-mm prune --previous"),
        ("indexes.json", "gitlab-mm restore --continue"),
        ("uploads.json", "gitlab-mm restore --continue"),
    ],
)
def test_purge_keeps_what_a_restore_needs_to_be_finished(
    name: str, way: str, tmp_path: Path
) -> None:
    state = make_state(tmp_path)
    (state / name).write_text("{}")
    said = run_script("postrm", "purge", tmp_path, "exit 1")
    assert f"{state} is kept, because a restore is not finished ({name})" in said
    assert "Install the package again" in said and way in said
    assert (state / name).exists() and (state / "leftover").exists()
    assert not (tmp_path / "etc" / PACKAGE).exists()


def call_preinst(lock: Path, argument: str, seconds: int) -> tuple[float, str]:
    """Run preinst with a lock file of ours; gives how long it took, and what it said."""
    text = (DEBIAN / f"{PACKAGE}.preinst").read_text(encoding="utf-8")
    text = text.replace("/run/gitlab-mm-backup.lock", str(lock))
    text = text.replace("/run/gitlab-mm-rehearsal.lock", f"{lock}.rehearsal")
    text = text.replace("SECONDS_TO_WAIT=60", f"SECONDS_TO_WAIT={seconds}")
    began = time.monotonic()
    result = run(["sh", "-s", argument, "0.1.0"], text=text)
    assert (result.returncode, result.stderr) == (0, "")
    return time.monotonic() - began, result.stdout


def test_an_upgrade_waits_for_a_job_but_not_for_ever(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert call_preinst(lock, "upgrade", 60)[1] == ""
    assert not lock.exists()
    lock.touch()
    assert call_preinst(lock, "upgrade", 60)[1] == ""
    with open(lock, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert call_preinst(lock, "install", 60)[1] == ""
        seconds, said = call_preinst(lock, "upgrade", 1)
    assert 1 <= seconds < 30
    assert "waiting up to 1 seconds" in said and "a job still runs" in said
    with open(f"{lock}.rehearsal", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "a rehearsal is running" in call_preinst(lock, "upgrade", 1)[1]


def test_removal_without_purge_touches_nothing(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    assert run_script("postrm", "remove", tmp_path, "exit 1") == ""
    assert (state / "leftover").exists()


# the commands of gitlab-ctl

SERVICES = "opt/gitlab/embedded/service"
COMMAND_FILE = f"{SERVICES}/omnibus-ctl-mm-backup/mattermost_backup.rb"


def make_gitlab(root: Path) -> Path:
    """Make what the package looks for of GitLab, and our file for gitlab-ctl; return its target."""
    shipped = root / "usr" / "share" / PACKAGE / "mattermost_backup.rb"
    for path in (root / "opt/gitlab/version-manifest.txt", root / SERVICES / "README", shipped):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("gitlab-ce 18.11.9\n", encoding="utf-8")
    return root / COMMAND_FILE


@pytest.mark.parametrize("argument", ["configure", "triggered"])
def test_the_commands_of_gitlab_ctl_are_put_in_place(argument: str, tmp_path: Path) -> None:
    target = make_gitlab(tmp_path)
    run_script("postinst", argument, tmp_path, "exit 0")
    assert target.read_text() == "gitlab-ce 18.11.9\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_commands_go_with_gitlab_and_with_the_package(tmp_path: Path) -> None:
    target = make_gitlab(tmp_path)
    run_script("postinst", "configure", tmp_path, "exit 0")
    run_script("postrm", "remove", tmp_path, "exit 1")
    assert not target.parent.exists()
    run_script("postinst", "triggered", tmp_path, "exit 0")
    (tmp_path / "opt/gitlab/version-manifest.txt").unlink()
    (tmp_path / SERVICES / "README").unlink()
    run_script("postinst", "triggered", tmp_path, "exit 0")
    assert [path.name for path in (tmp_path / "opt").iterdir()] == []


def test_commands_that_cannot_be_placed_do_not_stop_the_installation(tmp_path: Path) -> None:
    target = make_gitlab(tmp_path)
    target.mkdir(parents=True)
    (target / "in the way").touch()
    text = run_script("postinst", "configure", tmp_path, "exit 0")
    assert "could not be installed" in text


# metadata


def run_setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return what setup.py hands to setup(); setuptools itself need not be there."""
    arguments: dict[str, object] = {}
    fake = types.ModuleType("setuptools")
    monkeypatch.setattr(fake, "setup", arguments.update, raising=False)
    monkeypatch.setattr(fake, "find_packages", lambda include: include, raising=False)
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(ROOT / "setup.py"))
    return arguments


def test_version_of_setup_is_that_of_the_newest_changelog_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heading = (DEBIAN / "changelog").read_text(encoding="utf-8").splitlines()[0]
    name, version = heading.split()[:2]
    assert name == PACKAGE
    assert f"({run_setup(monkeypatch)['version']})" == version


@pytest.mark.parametrize(
    ("heading", "version"),
    [
        ("gitlab-mm-backup (1.2.3) unstable; urgency=medium", "1.2.3"),
        ("gitlab-mm-backup (1.2.3~bpo12+1) bookworm-backports; urgency=medium", "1.2.3"),
        ("gitlab-mm-backup (0.10+nmu1) unstable; urgency=medium", "0.10"),
    ],
)
def test_version_leaves_out_what_a_rebuild_appends(
    heading: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "changelog").write_text(heading + "\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert run_setup(monkeypatch)["version"] == version


def test_a_changelog_without_a_version_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian" / "changelog").write_text("\n", encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(ValueError, match="no version in the first line"):
        run_setup(monkeypatch)


def test_each_command_leads_to_a_function_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    points = run_setup(monkeypatch)["entry_points"]
    assert isinstance(points, dict)
    commands = dict(entry.split(" = ") for entry in points["console_scripts"])
    assert sorted(commands) == ["gitlab-mm", "gitlab-mm-backup", "gitlab-mm-restore"]
    for target in commands.values():
        module, function = target.split(":")
        source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        defined = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        assert function in [node.name for node in defined], f"{target} is not defined"


def test_debian_and_python_ask_for_the_same_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recommended is an extra: a command does without, and says what to install."""
    setup = run_setup(monkeypatch)
    required, extras = setup["install_requires"], setup["extras_require"]
    assert isinstance(required, list) and isinstance(extras, dict)
    control = (DEBIAN / "control").read_text(encoding="utf-8")
    depends, recommends = control.split("\nDepends:")[1].split("\nRecommends:")
    assert _libraries(depends) == sorted([*_packages(required), *NOT_ON_PYPI])
    assert _libraries(recommends.split("\nSuggests:")[0]) == sorted(
        _packages([requirement for some in extras.values() for requirement in some])
    )


def _libraries(words: str) -> list[str]:
    return re.findall(r"^ (python3-[\w-]+)", words, flags=re.MULTILINE)


def _packages(requirements: list[str]) -> list[str]:
    names = [re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements]
    return [DEBIAN_NAMES.get(name, f"python3-{name}") for name in names]
