"""The settings: config.yml, then GitLab's backup settings (gitlab.yml), then defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..container import view
from ..errors import Failure
from ..system import environment, files
from ..system.disk_space import Size
from ..system.redaction import Secret
from . import config_file, schedule
from .config_file import Problem
from .gitlab_yml import GITLAB_YML, Upload, production, unreadable, upload
from .options import Option, leaves
from .schedule import Schedule
from .schema import FULL, INCREMENTAL, KEEP_RULES, OPTIONS


@dataclass(frozen=True)
class Rules:
    """Retention rules: a set is kept if any rule keeps it, or if there are no rules.

    ``keep_time`` counts back from now, ``within`` from the newest set.  ``last`` is a number of sets;
    ``hourly`` and the others are numbers of periods that have a set, of which the newest is kept.
    """

    keep_time: timedelta | None = None
    within: timedelta | None = None
    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


GITLAB = "gitlab"  # the remote to which GitLab uploads its own backups
NO_CONFIG = "/dev/null"  # makes rclone read no configuration file
RCLONE_CONFIG = "/root/.config/rclone/rclone.conf"  # rclone's default for root
_REMOTE = re.compile(r"([\w.+@][\w.+@ -]*):(.*)", re.DOTALL)
_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RETRIES = 4


@dataclass(frozen=True)
class Remote:
    """A remote for off-site copies.

    ``path`` is an rclone path ("nas:backups") or an absolute one.  Other settings of rclone are in
    ``environment`` or the file ``config``.  ``account`` is the user that runs rclone; None for root,
    if only root may access the files.
    """

    name: str
    path: str
    environment: Mapping[str, str | Secret] = field(default_factory=dict)
    config: str = NO_CONFIG
    account: str | None = None
    bandwidth: int | None = None  # bytes in a second; None for no limit
    retries: int = RETRIES
    recipients: tuple[str, ...] = ()  # public keys of age; none: copies are not encrypted
    rules: Rules | None = None  # retention there; None: as for local sets
    add_only: bool = False  # remove nothing there

    def place(self, *names: str) -> str:
        """Return the path of a file or directory at this remote."""
        return self.path + "".join(
            name if not number and self.path.endswith((":", "/")) else f"/{name}"
            for number, name in enumerate(names)
        )


def remote_named(text: str) -> Remote:
    """Return the remote for an rclone path (nas:backups) or an absolute path.

    Raises ValueError for anything else, also for rclone's connection strings, because every user
    can see the arguments of processes.
    """
    if text.startswith("/") and "\0" not in text:
        return Remote(text.rstrip("/").rpartition("/")[2] or "root", text.rstrip("/") or "/")
    match = _REMOTE.fullmatch(text)
    if match is None or "\0" in text:
        raise ValueError(
            "must be a remote of rclone with a path, as nas:backups, or an absolute path"
        )
    return Remote(match[1], text.rstrip("/"), config=environment.rclone_config())


def remote_entry(values: Mapping[str, Any]) -> Remote:
    """Return the remote for an item of ``offsite``; GitLab's own has no path yet.

    Raises ValueError for problems that the types of the options cannot find.
    """
    text = values["remote"]
    where = Remote(GITLAB, "") if text == GITLAB else remote_named(text)
    name = values["name"] or where.name
    if text == GITLAB and (values["name"] or values["rclone_config"]):
        raise ValueError("GitLab's own place has its name and settings from GitLab")
    if not _REMOTE_NAME.fullmatch(name) or (name == GITLAB) != (text == GITLAB):
        raise ValueError(f"{name} cannot be the name of a remote; give it another one")
    return Remote(
        name,
        where.path,
        config=str(values["rclone_config"] or where.config),
        bandwidth=values["bandwidth"],
        retries=values["retries"],
        recipients=values["recipients"],
        rules=_rules_of_remote(values),
        add_only=values["add_only"],
    )


def remote_entries(listed: Sequence[Mapping[str, Any]]) -> tuple[Remote, ...]:
    """Return all remotes of ``offsite``; raises ValueError like ``remote_entry``."""
    found = tuple(map(remote_entry, listed))
    names = [remote.name for remote in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two remotes are called {twice[0]}; give one of them another name")
    return found


def _rules_of_remote(values: Mapping[str, Any]) -> Rules | None:
    """Return the retention rules of a remote, None if the general rules apply."""
    given = {
        rule: values[option] for rule, option in KEEP_RULES.items() if values[option] is not None
    }
    if not given and values["keep_time"] is None:
        return None
    return Rules(keep_time=values["keep_time"], **given)


CONFIG_FILE = Path("/etc/gitlab-mm-backup/config.yml")
_named: Path | None = None  # by --config
# The encryption key of uploads, unless gitlab.yml has it.
_ENCRYPTION_KEY = Path("/opt/gitlab/etc/gitlab-rails/env/GITLAB_BACKUP_ENCRYPTION_KEY")
_NO_RULES = Rules()
_SAME_NAMES = (  # options that Settings has by the name they have in config.yml
    "files",
    "full_every",
    "schedule",
    "jobs",
    "nice",
    "min_free",
    "allow_links",
    "accept_warnings",
    "rehearse",
    "scratch_dir",
    "rehearse_timeout",
    "shrunken_below",
    "upgrade_gate",
    "store",
    "follow_gitlab",
    "secrets_in_sets",
    "container",
)


@dataclass(frozen=True)
class Notification:
    """Where to send the results of runs, and of which runs; an item of ``notifications``."""

    type: str  # one of notification_channels.CHANNELS
    to: Secret  # URL or e-mail address
    on: str = "failure"  # one of schema.POLICIES


@dataclass(frozen=True)
class Restic:
    """The restic repository, and how to open it."""

    repository: str | None = None  # None: it is in environment_file
    password_file: Path | None = None
    password_command: tuple[str, ...] = ()  # it prints the password
    environment_file: Path | None = None  # lines NAME=VALUE, readable only by root
    host: str | None = None  # the host that made the sets; None: this host
    bandwidth: int | None = None  # bytes per second of uploads; None: no limit


_NO_RESTIC = Restic()


@dataclass(frozen=True)
class Settings:
    """All settings; a test checks that the defaults equal those of schema.py."""

    sets: Path  # directory of the sets
    keep_time: timedelta | None  # None: for ever
    database_level: int = 3
    files_level: int = 1
    threads: int = 4
    jobs: int = 4
    nice: int = 10  # of backups and rehearsals
    min_free: Size | None = None  # of each disk; None: the default of disk_space.py
    rehearse: str = "nightly"  # one of schema.REHEARSALS: which of cron's sets are rehearsed
    scratch_dir: Path = Path("/var/lib/gitlab-mm-backup")
    rehearse_timeout: timedelta | None = None  # of a whole rehearsal; None: by the size of the set
    shrunken_below: int = 50  # percent of the newest sound set, below which a set looks emptied
    upgrade_gate: str = "block"  # the check before apt upgrades GitLab: block, warn or off
    files: str = FULL  # or INCREMENTAL
    full_every: timedelta | None = timedelta(days=7)  # None: only if necessary
    schedule: Schedule | None = None  # None: nightly
    keep: Rules = _NO_RULES  # sets that are kept beyond keep_time
    notifications: Sequence[Notification] = ()  # where to send the results of runs
    store: str = "local"  # or restic
    restic: Restic = _NO_RESTIC
    offsite: tuple[Remote, ...] = ()  # remotes; GitLab's own has no path
    follow_gitlab: bool = True  # also copy to the remote of GitLab's backups
    secrets_in_sets: bool = False  # also sets that are not encrypted get our files with secrets
    upload: Upload | None = None  # GitLab's upload of backups
    container: str | None = None  # that GitLab is in; None: the only one
    database_host: str | None = None  # PostgreSQL behind a pooler; None: as in the DataSource
    database_port: int | None = None
    allow_links: tuple[Path, ...] = ()  # targets of links that belong to Mattermost's account
    accept_warnings: Sequence[str] = ()  # texts in warnings that do not change the exit code
    old_names: tuple[str, ...] = ()  # of options, as config.yml uses them; each with its new name

    @property
    def remotes(self) -> list[str]:
        """The names of all remotes for copies; [] if the sets are in a restic repository."""
        if self.store == "restic":
            return []
        followed = [GITLAB] if self.follow_gitlab and self.upload is not None else []
        return list(dict.fromkeys([*followed, *(remote.name for remote in self.offsite)]))

    @property
    def rules(self) -> Rules:
        """All retention rules."""
        return replace(self.keep, keep_time=self.keep_time)

    @property
    def sessions(self) -> int:
        """How many sessions of PostgreSQL load a dump; at most one per processor."""
        return min(self.jobs, os.cpu_count() or 1)

    @property
    def packers(self) -> int:
        """How many threads each zstd has; at most one per processor."""
        return min(self.threads, os.cpu_count() or 1)


@dataclass(frozen=True)
class Value:
    """An option, its value and its source."""

    name: str  # in full: compression.threads
    option: Option
    value: Any
    origin: str  # default, gitlab.yml, or the name of a file: config.yml
    line: int | None  # of that file
    old_names: tuple[str, ...] = ()  # as Given.old_names
    file: Path = Path()  # that has the line


def use(config: Path | None) -> None:
    """Make ``config`` the file that this process reads; None for the default file."""
    global _named
    _named = config


def file() -> Path:
    """Return the config.yml that this process reads."""
    return _named or CONFIG_FILE


def load(
    config: Path | None = None, gitlab_yml: Path = GITLAB_YML, *, required: bool = False
) -> Settings:
    """Return the settings from config.yml, config.d and gitlab.yml; ``config`` is ``file()``.

    An empty config.yml means all defaults, and so does an absent one unless ``required``.  Raises
    BadSettings with every problem of config.yml and config.d, each with its line.
    """
    found = look(config, gitlab_yml, required=required)
    values = {value.name: value.value for value in found}
    return Settings(
        sets=values["backup_path"] / "mattermost",
        keep_time=values["keep_time"],
        keep=Rules(**_below("keep", values)),
        **_below("compression", values),
        **{name: values[name] for name in _SAME_NAMES},
        database_host=values["database.host"],
        database_port=values["database.port"],
        notifications=tuple(Notification(**item) for item in values["notifications"]),
        restic=Restic(**_below("restic", values)),
        offsite=remote_entries(values["offsite"]),
        upload=upload(_backup_section(gitlab_yml).get("upload"), files.first_line(_ENCRYPTION_KEY)),
        old_names=old_names(found),
    )


def container() -> str:
    """Return the container that config.yml names, "" for none; whatever else is wrong with it."""
    if not file().is_file():  # a pipe can be read once, by the command
        return ""
    try:
        given = config_file.read(file(), OPTIONS, required=False)
    except Failure:
        return ""
    return str(given["container"].value) if "container" in given else ""


def old_names(values: Sequence[Value]) -> tuple[str, ...]:
    """Return the old names of options that config.yml uses, each with its line and new name."""
    return tuple(old for value in values for old in value.old_names)


def _check_offsite(given: config_file.Given) -> None:
    """Raise BadSettings for what is wrong among the remotes, which no option shows alone."""
    try:
        remote_entries(given.value)
    except ValueError as error:
        problem = Problem(str(error), "offsite", given.line, given.file)
        raise config_file.bad([problem]) from None


def _check_schedule(given: Mapping[str, config_file.Given]) -> None:
    """Raise BadSettings for frequent runs of which each would pack all files."""
    plan, cheap = given["schedule"], {"store": "restic", "files": INCREMENTAL}
    if plan.value.often and not any(
        name in given and given[name].value == word for name, word in cheap.items()
    ):
        problem = Problem(schedule.EXPENSIVE, "schedule", plan.line, plan.file)
        raise config_file.bad([problem])


def look(
    config: Path | None = None, gitlab_yml: Path = GITLAB_YML, *, required: bool = False
) -> list[Value]:
    """Read both files, and return every option's value in the order of the table."""
    given = config_file.read(config or file(), OPTIONS, required=required)
    if "offsite" in given:
        _check_offsite(given["offsite"])
    if "schedule" in given:
        _check_schedule(given)
    config_file.refuse_container(given)
    gitlab = _gitlab_backup(gitlab_yml)
    return [_value(name, option, given, gitlab) for name, option in leaves(OPTIONS)]


def _below(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section, each by its name there."""
    start = f"{section}."
    return {name[len(start) :]: value for name, value in values.items() if name.startswith(start)}


def _value(
    name: str,
    option: Option,
    given: Mapping[str, config_file.Given],
    gitlab: Mapping[str, Any],
) -> Value:
    if name in given:
        found = given[name]
        return Value(
            name, option, found.value, found.file.name, found.line, found.old_names, found.file
        )
    if name == "backup_path" and view.marked():  # GitLab's path is one of the container
        return Value(name, option, view.SETS, "default", None)
    if name in gitlab:
        return Value(name, option, gitlab[name], "gitlab.yml", None)
    return Value(name, option, config_file.default(option), "default", None)


def _gitlab_backup(path: Path) -> dict[str, Any]:
    """Return the values of ``production.backup`` in gitlab.yml by the names of our options.

    Empty values are left out.
    """
    backup = _backup_section(path)
    try:
        return {
            name: option.kind.read(backup[option.gitlab])
            for name, option in leaves(OPTIONS)
            if option.kind and backup.get(option.gitlab)
        }
    except ValueError as error:
        raise unreadable(path, error) from None


def _backup_section(path: Path) -> dict[str, Any]:
    section = production(path).get("backup")
    return section if isinstance(section, dict) else {}
