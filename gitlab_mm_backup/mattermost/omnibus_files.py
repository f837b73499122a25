"""Omnibus GitLab's files about itself: versions, Chef nodes, attributes, rc files."""

from __future__ import annotations

import logging
import re
import shlex
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ..config import gitlab_yml, identity
from ..errors import Failure, reason
from ..system import files, validation
from ..system.files import first_line, text_of
from ..system.redaction import Secret

VERSION_MANIFEST = "opt/gitlab/version-manifest.json"
VERSION_TEXT = "opt/gitlab/version-manifest.txt"  # "gitlab-ce 18.11.9"
NODES = "opt/gitlab/embedded/nodes"
PUBLIC_ATTRIBUTES = "var/opt/gitlab/public_attributes.json"
PSQL_RC = "opt/gitlab/etc/gitlab-psql-rc"
GITLAB_YML = str(gitlab_yml.GITLAB_YML.relative_to("/"))
EMBEDDED_MATTERMOST = "opt/gitlab/embedded/service/mattermost"
ENVIRONMENT = "opt/gitlab/etc/mattermost/env"  # GitLab 11.6 to 18
SECRETS = "etc/gitlab/gitlab-secrets.json"
_MOST = 16 << 20  # bytes of a file of settings; a larger one is none
log = logging.getLogger(__name__)


def gitlab_version(root: Path) -> str:
    """Return GitLab's version, as 18.11.9, or "" where no Omnibus GitLab is installed."""
    version = _json(root / VERSION_MANIFEST).get("build_version")
    if isinstance(version, str) and version:
        return version.split("+")[0]
    return first_line(root / "opt/gitlab/embedded/service/gitlab-rails/VERSION")


def gitlab_package(root: Path) -> str:
    """Return the name of GitLab's package (gitlab-ce, gitlab-ee), "" where it is not known."""
    name = first_line(root / VERSION_TEXT).partition(" ")[0]
    return name if re.fullmatch(r"gitlab-[a-z]+", name) else ""


def gitlab_that_ran(root: Path) -> str:
    """Return the GitLab version that last used the data, where the program is elsewhere."""
    return first_line(root / "var/opt/gitlab/gitlab-rails/VERSION")


def bundled_mattermost(root: Path) -> str:
    """Return the version of the bundled Mattermost, "" if unknown.

    From GitLab 12.0 on from its VERSION file, before from the package's manifest.
    """
    version = first_line(root / EMBEDDED_MATTERMOST / "VERSION")
    software = _json(root / VERSION_MANIFEST).get("software")
    entry = software.get("mattermost") if isinstance(software, dict) else None
    locked = entry.get("locked_version") if isinstance(entry, dict) else None
    return version or (locked.lstrip("v") if isinstance(locked, str) else "")


def attributes(root: Path) -> dict[str, Any]:
    """Return the effective attributes of the last Chef run: ``default`` with ``normal`` on top.

    Empty when there are none: reconfigure removes them first, and a failed run leaves them without
    ``normal``. Both mean "unknown", not "unset".
    """
    folder = root / NODES
    wanted = folder / f"{identity.hostname_of()}.json"
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    node = _json(wanted if wanted in found else found[-1]) if found else {}
    if not isinstance(node.get("normal"), dict):
        return {}
    merged: dict[str, Any] = _merged(node.get("default", {}), node["normal"])
    return merged


def public_attributes(root: Path) -> dict[str, Any]:
    return _json(root / PUBLIC_ATTRIBUTES)


def psql_rc(root: Path) -> dict[str, str]:
    """Return the assignments of gitlab-psql-rc, a file of shell assignments that is not run."""
    values = {}
    for line in text_of(root / PSQL_RC).splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip().isidentifier():
            try:
                words = shlex.split(value)
            except ValueError:
                continue
            values[name.strip()] = words[0] if words else ""
    return values


def packed(stream: IO[bytes], names: Collection[str]) -> dict[str, str]:
    """Return the files ``names`` of an uncompressed tar of /etc/gitlab, as far as readable.

    ``stream`` is read to its end.
    """
    texts: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = member.name.lstrip("./")
                if name in names and member.isreg() and member.size <= _MOST:
                    file = tar.extractfile(member)
                    texts[name] = file.read().decode(errors="replace") if file else ""
    except (tarfile.TarError, EOFError, OSError) as error:
        log.info("A copy of /etc/gitlab cannot be read to its end: %s", reason(error))
    return texts


def own_backups(folder: Path, names: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the archives of ``gitlab-ctl backup-etc`` in ``folder``, the newest first.

    Each is its name and its files ``names``, as far as readable.
    """
    for path in sorted(folder.glob("gitlab_config_*.tar"), reverse=True):
        try:
            with open(path, "rb") as stream:
                yield path.name, packed(stream, names)
        except OSError as error:
            log.info("%s cannot be read: %s", path, reason(error))


def production(root: Path) -> dict[str, Any]:
    """Return gitlab.yml's ``production`` section; empty where it is absent or cannot be read."""
    try:
        return gitlab_yml.production(root / GITLAB_YML)
    except Failure:
        return {}


def environment(folder: Path) -> dict[str, Secret]:
    """Read an environment folder as chpst(8) -e does: a file a variable, its first line.

    Trailing blanks go, a NUL stands for a newline, an empty file unsets its variable.  Raises
    Failure when the folder cannot be read.
    """
    values = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or "=" in path.name:
                continue
            text = variable(path)
            if text is not None:
                line = text.split("\n", 1)[0].rstrip(" \t")
                if line:
                    values[path.name] = Secret(line.replace("\0", "\n"))
    except OSError as error:
        raise Failure(f"{folder} cannot be read", str(error.strerror)) from error
    return values


def variable(path: Path) -> str | None:
    """Return the content of a file in an environment folder; None where it is missing.

    In a home the account can put anything there: raises Failure for a link or a pipe, and OSError
    where it cannot be read.
    """
    try:
        return files.read_regular(path).decode(errors="surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        document = validation.from_json(text_of(path) or "{}")
    except validation.Refused:
        return {}
    return document if isinstance(document, dict) else {}


def _merged(lower: Any, upper: Any) -> Any:
    """Merge as Chef does: hashes key by key, everything else from the upper level."""
    if not isinstance(lower, Mapping) or not isinstance(upper, Mapping):
        return upper
    return {
        **lower,
        **{
            key: _merged(lower[key], value) if key in lower else value
            for key, value in upper.items()
        },
    }
