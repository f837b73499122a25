"""Our own settings: /etc/gitlab-mm-backup/config.yml over GitLab's own backup settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from .errors import ExitCode, Failure
from .retention import Rules

CONFIG_FILE = Path("/etc/gitlab-mm-backup/config.yml")
# Linked to the rendered file wherever gitlab.rb puts it (omnibus-gitlab 10 to 19).
GITLAB_YML = Path("/opt/gitlab/embedded/service/gitlab-rails/config/gitlab.yml")
# What Omnibus sets unless gitlab.rb says otherwise; used where gitlab.yml is absent.
_GITLAB_BACKUP_PATH = "/var/opt/gitlab/backups"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FOREVER = 10**11  # seconds, some 3000 years: more is a slip of the finger
_HIGHEST_LEVEL = 19  # zstd(1), without --ultra
_MOST_THREADS = 64
_MOST_KEPT = 9999
_NO_RULES = Rules()
REHEARSALS = ("nightly", "weekly", "off")


@dataclass(frozen=True)
class Settings:
    """How backups are made and kept."""

    sets: Path  # folder that holds the sets
    keep_time: timedelta | None  # None: for ever
    database_level: int = 3
    files_level: int = 1
    threads: int = 4
    rehearse: str = "nightly"  # one of REHEARSALS: which of cron's sets are rehearsed
    rehearse_in: Path = Path("/var/lib/gitlab-mm-backup")
    gate: str = "block"  # what an upgrade without a set meets: block, warn or off
    keep: Rules = _NO_RULES  # what is kept longer than the keep time

    @property
    def rules(self) -> Rules:
        """All that keeps a set."""
        return replace(self.keep, keep_time=self.keep_time)


def load(
    config_file: Path = CONFIG_FILE, gitlab_yml: Path = GITLAB_YML, *, required: bool = False
) -> Settings:
    """Read both files.

    Raises Failure with ExitCode.USAGE that lists every problem of config.yml, each with its
    line; an absent config.yml, unless ``required``, or an empty one means all defaults.
    """
    values = _read_config(config_file, required)
    backup = _gitlab_backup(gitlab_yml)
    path = values.get("backup_path") or backup.get("path") or _GITLAB_BACKUP_PATH
    compression = values.get("compression", {})
    return Settings(
        sets=Path(path) / "mattermost",
        keep_time=values["keep_time"] if "keep_time" in values else backup.get("keep_time"),
        gate=values.get("gate", "block"),
        keep=Rules(**values.get("keep", {})),
        **compression,
        **{key: values[key] for key in ("rehearse", "rehearse_in") if key in values},
    )


def _absolute_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    return value


def _keep_time(value: Any) -> timedelta | None:
    """Turn seconds, or a number with a unit such as 7d, into a duration; 0 is for ever."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = f"{min(value, _FOREVER)}s"
    match = re.fullmatch(r"(\d{1,12})([smhdw])", value) if isinstance(value, str) else None
    try:
        if match is not None and int(match[1]) < _FOREVER:
            return timedelta(**{_UNITS[match[2]]: int(match[1])}) or None
    except OverflowError:
        pass
    raise ValueError("must be seconds, or a number with a unit such as 12h, 7d or 4w; 0: for ever")


def _number(lowest: int, highest: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise ValueError(f"must be a whole number between {lowest} and {highest}")

    return check


def _choice(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        # YAML 1.1 takes off for false, and nobody should have to know that.
        word = "off" if value is False and "off" in words else value
        if isinstance(word, str) and word in words:
            return word
        raise ValueError(f"must be one of {', '.join(words)}")

    return check


# Every option: its check, or the options below it with the names that Settings gives them.
_OPTIONS: dict[str, Any] = {
    "backup_path": _absolute_path,
    "keep_time": _keep_time,
    "keep": {
        **dict.fromkeys(
            ("last", "hourly", "daily", "weekly", "monthly", "yearly"), _number(0, _MOST_KEPT)
        ),
        "within": _keep_time,
    },
    "compression": {
        "database_level": _number(1, _HIGHEST_LEVEL),
        "files_level": _number(1, _HIGHEST_LEVEL),
        "threads": _number(1, _MOST_THREADS),
    },
    "rehearse": _choice(*REHEARSALS),
    "rehearse_in": lambda value: Path(_absolute_path(value)),
    "gate": _choice("block", "warn", "off"),
}


def _read_config(path: Path, required: bool) -> dict[str, Any]:
    import yaml  # here: a third of the start-up time of a command that never reads settings

    try:
        tree = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError) and not required:
            return {}
        raise _bad(path, [str(error)]) from error
    except yaml.YAMLError as error:
        raise _bad(path, [f"not YAML: {error}"]) from error
    problems: list[str] = []
    values = {} if tree is None else _check(tree, _OPTIONS, "", problems)
    if problems:
        raise _bad(path, problems)
    return values


def _check(node: Any, options: dict[str, Any], section: str, problems: list[str]) -> dict[str, Any]:
    """Check one mapping of config.yml and collect its values; problems are added to the list."""
    import yaml

    if node.tag == "tag:yaml.org,2002:null":  # all its options are comments
        return {}
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        problems.append(f"line {line}: {section or 'the file'} must hold options")
        return {}
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = str(key_node.value)
        name = f"{section}.{key}" if section else key
        where = f"line {key_node.start_mark.line + 1}: {name}"
        if key not in options:
            problems.append(f"{where}: unknown option; known: {', '.join(sorted(options))}")
        elif key in seen:
            problems.append(f"{where}: given twice")
        elif isinstance(options[key], dict):
            values[key] = _check(value_node, options[key], name, problems)
        else:
            try:
                values[key] = options[key](_plain(value_node))
            except ValueError as error:
                problems.append(f"{where}: {error}")
        seen.add(key)
    return values


def _plain(node: Any) -> Any:
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except Exception as error:  # PyYAML lets through whatever its converters raise
        raise ValueError(f"cannot be understood ({type(error).__name__})") from error
    finally:
        loader.dispose()


def _bad(path: Path, problems: list[str]) -> Failure:
    return Failure(
        f"{path} has {len(problems)} problem" + ("s" if len(problems) > 1 else ""),
        "; ".join(problems),
        "Correct the file; every option stands in it with its default, as a comment.",
        ExitCode.USAGE,
    )


def _gitlab_backup(path: Path) -> dict[str, Any]:
    """Return path and keep_time of gitlab.yml's ``production.backup``, as our options are.

    Empty where GitLab itself is disabled; what it leaves empty is left out.
    """
    import yaml

    found: dict[str, Any] = {}
    try:
        document = yaml.safe_load(path.read_text())
        for key in ("production", "backup"):
            document = document.get(key) if isinstance(document, dict) else None
        backup = document if isinstance(document, dict) else {}
        if backup.get("path"):
            found["path"] = _absolute_path(backup["path"])
        if backup.get("keep_time"):
            found["keep_time"] = _keep_time(backup["keep_time"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Failure(
            "GitLab's own settings cannot be read",
            f"{path}: {type(error).__name__}",
            "Run gitlab-ctl reconfigure, which writes the file anew.",
            ExitCode.USAGE,
        ) from None
    return found


def option_names() -> Iterator[str]:
    """Yield every option's full name, for the test that holds config.yml against this module."""
    for name, option in _OPTIONS.items():
        if isinstance(option, dict):
            yield from (f"{name}.{inner}" for inner in option)
        else:
            yield name
