"""A place outside this machine, as rclone knows it, and how config.yml names one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..store.retention import Rules
from ..system import environment
from ..system.redaction import Secret

# The rules of a remote, and what config.yml calls them there.
RULES = {one: f"keep_{one}" for one in ("last", "hourly", "daily", "weekly", "monthly", "yearly")}
GITLAB = "gitlab"  # the place that GitLab's own backups are uploaded to
NO_CONFIG = "/dev/null"  # rclone reads no file then
RCLONE_CONFIG = "/root/.config/rclone/rclone.conf"  # where rclone keeps root's remotes
_REMOTE = re.compile(r"([\w.+@][\w.+@ -]*):(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RETRIES = 4


@dataclass(frozen=True)
class Remote:
    """One place for copies of sets.

    ``path`` is rclone's ("nas:backups") or an absolute one.  What rclone has to know besides is in
    ``environment``, or in the file ``config``.  ``account`` is what rclone runs as: None is root,
    for files that root alone may read or write.
    """

    name: str
    path: str
    environment: Mapping[str, str | Secret] = field(default_factory=dict)
    config: str = NO_CONFIG
    account: str | None = None
    bandwidth: int | None = None  # bytes in a second; None for no limit
    retries: int = RETRIES
    recipients: tuple[str, ...] = ()  # public keys of age; none: copies are as they are here
    rules: Rules | None = None  # what is kept there; None: as here
    add_only: bool = False  # nothing may be removed there

    def place(self, *names: str) -> str:
        """Return the path of something below this place."""
        return self.path + "".join(
            name if not number and self.path.endswith((":", "/")) else f"/{name}"
            for number, name in enumerate(names)
        )


def named(text: str) -> Remote:
    """Return the remote that is meant by rclone's name of it, or by an absolute path.

    Raises ValueError for anything else, a connection string among it: the list of processes
    shows arguments to everybody.
    """
    if text.startswith("/") and "\0" not in text:
        return Remote(text.rstrip("/").rpartition("/")[2] or "root", text.rstrip("/") or "/")
    match = _REMOTE.fullmatch(text)
    if match is None or "\0" in text:
        raise ValueError(
            "must be a remote of rclone with a path, as nas:backups, or an absolute path"
        )
    return Remote(match[1], text.rstrip("/"), config=environment.rclone_config())


def entry(values: Mapping[str, Any]) -> Remote:
    """Return a remote of config.yml's ``offsite``; that of GitLab has no path yet.

    Raises ValueError with what is wrong, beyond what the table of options knows.
    """
    text = values["remote"]
    where = Remote(GITLAB, "") if text == GITLAB else named(text)
    name = values["name"] or where.name
    if text == GITLAB and (values["name"] or values["rclone_config"]):
        raise ValueError("GitLab's own place has its name and settings from GitLab")
    if not _NAME.fullmatch(name) or (name == GITLAB) != (text == GITLAB):
        raise ValueError(f"{name} cannot be the name of a remote; give it another one")
    return Remote(
        name,
        where.path,
        config=str(values["rclone_config"] or where.config),
        bandwidth=values["bandwidth"],
        retries=values["retries"],
        recipients=values["recipients"],
        rules=_rules(values),
        add_only=values["add_only"],
    )


def entries(listed: Sequence[Mapping[str, Any]]) -> tuple[Remote, ...]:
    """Return all remotes of config.yml's ``offsite``; raises ValueError as ``entry`` does."""
    found = tuple(map(entry, listed))
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two remotes are called {twice[0]}; give one of them another name")
    return found


def _rules(values: Mapping[str, Any]) -> Rules | None:
    """Return what is kept there, None where that is not said: then it is as here."""
    given = {rule: values[option] for rule, option in RULES.items() if values[option] is not None}
    if not given and values["keep_time"] is None:
        return None
    return Rules(keep_time=values["keep_time"], **given)
