"""The checks of a rehearsal: compare the restored state with the set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from .. import checks
from ..checks import Check
from ..config.origin import Kind as OriginKind
from ..errors import Failure
from ..mattermost import effective_config, json_file, json_text, listener
from ..mattermost.effective_config import EffectiveConfig, overlay
from ..mattermost.site import Site
from ..postgresql import catalog, connection, data_source, load
from ..sso import check, oauth
from ..store import inventory
from ..store.manifest import Manifest
from ..store.sets import BackupSet
from ..system.redaction import Secret
from ..version import numbers
from . import integrity
from .boot import Booted
from .integrity import Uploads

if TYPE_CHECKING:
    import psycopg

DATABASE = ("rows", "references", "uploads", "previews", "indexes", "sequences", "extensions")
# Without one of these, Mattermost does not start, or links and invitations are broken.
_NEEDED = (
    ("ServiceSettings", "SiteURL"),
    ("SqlSettings", "DriverName"),
    ("SqlSettings", "DataSource"),
    ("SqlSettings", "AtRestEncryptKey"),
    ("FileSettings", "PublicLinkSalt"),
)
_STATES = ("status", "database_status", "filestore_status")
_SIGN_IN = ("Id", "Secret", "AuthEndpoint", "TokenEndpoint", "UserApiEndpoint")


@dataclass(frozen=True)
class SetSettings:
    """The settings of a set: its environment variables, and the effective settings."""

    environment: Mapping[str, Secret]
    effective: EffectiveConfig
    config: bytes = b"{}"  # the content of config.json

    @property
    def below(self) -> str:
        """The path in SiteURL, below which Mattermost answers."""
        return listener.below(self.effective)

    @property
    def uploads_elsewhere(self) -> bool:
        """Whether the uploads are in object storage, and so not in the set."""
        return self.effective.text("FileSettings", "DriverName") not in ("", "local")

    @property
    def session(self) -> Mapping[str, str]:
        """The search_path in Mattermost's DataSource, if any."""
        text = self.effective.text("SqlSettings", "DataSource")
        try:
            found = data_source.session(data_source.parse(text, "", self.environment))
        except Failure:
            return {}
        return {name: value for name, value in found.items() if name == "search_path"}


def kept(set_: BackupSet) -> SetSettings:
    """Return the settings of ``set_``; raises Failure if they cannot be read."""
    document = json_file.read(set_.file("settings")).document
    environment, effective = (
        effective_config.environment_of_set(document),
        document.get("effective"),
    )
    if not isinstance(effective, dict):
        raise Failure(f"{set_.file('settings').name} holds no effective settings")
    config = json.dumps(document.get("config", {})).encode()
    return SetSettings(environment, EffectiveConfig(effective), config)


def origin(set_: BackupSet) -> list[Check]:
    """Check the signature of a set; [] if it has none, or an unknown key."""
    found = inventory.origin_of(set_)
    if found.kind is OriginKind.FORGED:
        return [checks.failed("origin", found.words)]
    return [checks.passed("origin", found.words)] if found.proven else []


def uploads(kept_: SetSettings | None, intact: bool, archived: IO[bytes]) -> Uploads:
    """Return the uploads of a set; each is in ``archived`` as bytes, a space, its path and a NUL.

    ``intact`` tells whether the archive of the files is.
    """
    if kept_ is not None and kept_.uploads_elsewhere:
        return Uploads(None, "they are in object storage, not in the set")
    if not intact:
        return Uploads(None, "the archive of the files is not intact")
    return Uploads(_archived(archived))


def _archived(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield (path, bytes) of each upload, reading the file in pieces."""
    file.seek(0)
    rest = b""
    while piece := file.read(1 << 20):
        *entries, rest = (rest + piece).split(b"\0")
        for entry in entries:
            size, _, name = entry.partition(b" ")
            yield name, int(size)


def database_checks(
    sessions: Sequence[psycopg.Connection[Any]],
    manifest: Manifest,
    uploads_: Uploads,
    extensions: Sequence[str],
    without: Sequence[str],
) -> list[Check]:
    """Return a check for each name in DATABASE.

    The ``sessions`` belong to one database and are used in parallel.  ``extensions`` are those of
    the dump, ``without`` the indexes that were not built.
    """
    wanted = manifest.database.rows
    rows = checks.guarded(
        "rows", lambda: _rows(connection.count_rows(sessions[0]), wanted, sessions[0], manifest)
    )
    found = integrity.run_checks(sessions, uploads_, without)
    present = {row[0] for row in sessions[0].execute("SELECT extname FROM pg_extension")}
    return [rows, *found, _extensions(present, extensions)]


def _rows(
    found: Mapping[str, int],
    wanted: Mapping[str, int],
    session: psycopg.Connection[Any],
    manifest: Manifest,
) -> Check:
    load.compare_rows(found, wanted)
    load.compare_seen(catalog.seen(session), manifest)
    return checks.passed("rows", f"{sum(found.values())} in {len(found)} tables, as backed up")


def _extensions(present: set[str], wanted: Sequence[str]) -> Check:
    missing = sorted(set(wanted) - present)
    if missing:
        return checks.failed(
            "extensions",
            f"missing: {', '.join(missing)}. {checks.LASTING}. Only a superuser may create them: "
            "where nothing uses them, DROP EXTENSION in the live database",
        )
    return checks.passed("extensions", ", ".join(sorted(present)))


def settings(config: bytes, kept_: SetSettings) -> Check:
    """Check that config.json can be parsed, and has all required settings with the environment."""
    try:
        document = json_text.parse_config(config.decode(errors="surrogateescape"), "config.json")
    except Failure as failure:
        return checks.failed("settings", str(failure))
    effective = overlay(document, kept_.environment)
    missing = [f"{section}.{key}" for section, key in _NEEDED if not effective.text(section, key)]
    if effective.flag("GitLabSettings", "Enable"):
        empty = [key for key in _SIGN_IN if not effective.text("GitLabSettings", key)]
        missing += [f"GitLabSettings.{key}" for key in empty]
    if missing:
        return checks.failed("settings", f"empty or missing: {', '.join(missing)}")
    return checks.passed("settings", "config.json and the environment are complete")


def credentials(site: Site, kept_: SetSettings) -> Check:
    """Check whether GitLab accepts the set's id and secret: by its database, or by a request."""
    if not kept_.effective.flag("GitLabSettings", "Enable"):
        return checks.passed("credentials", "the set has no sign-in through GitLab to verify")
    there = replace(site, settings=_with_credentials(site.settings, kept_.effective))
    verified, text = check.accepted(there), ""
    if verified is None:
        probe = check.probe(there)
        answers = {oauth.ProbeResult.ACCEPTED: True, oauth.ProbeResult.REFUSED: False}
        verified, text = answers.get(probe.verdict), probe.reason
    if verified is None:
        return checks.not_run("credentials", f"GitLab did not answer: {text}")
    if not verified:
        return checks.failed("credentials", "GitLab does not accept the id and secret of the set")
    return checks.passed("credentials", "GitLab accepts the id and secret of the set")


def _with_credentials(live: EffectiveConfig, kept_: EffectiveConfig) -> EffectiveConfig:
    """Return the live settings with the set's id and secret, and its endpoints if they have none."""
    section = dict(live.tree.get("GitLabSettings") or {})
    lacking = [key for key in _SIGN_IN if not live.text("GitLabSettings", key)]
    for key in dict.fromkeys(("Id", "Secret", *lacking)):
        section[key] = kept_.text("GitLabSettings", key)
    return EffectiveConfig({**live.tree, "GitLabSettings": section})


def answers(booted: Booted, mattermost: str, kept_: SetSettings) -> Check:
    """Compare Mattermost's state, version and address, readable without login, with the set."""
    problems = _unwell(booted.status)
    text = str(booted.config.get("Version", ""))
    if numbers(text)[:2] != numbers(mattermost)[:2]:
        problems.append(f"it says it is version {text or 'unknown'}")
    at = ""
    if "SiteURL" in booted.config:  # versions 5 and 6 require a login for it
        url = str(booted.config["SiteURL"]).rstrip("/")
        wanted = kept_.effective.text("ServiceSettings", "SiteURL").rstrip("/")
        at = f", at {url}"
        if url != wanted:
            problems.append(f"its address is {url!r}, not {wanted!r}")
    if problems:
        return checks.failed("answers", "; ".join(problems))
    states = ", ".join(f"{name} OK" for name in _STATES if name in booted.status)
    return checks.passed("answers", f"{states}; version {text}{at}")


def _unwell(status: Mapping[str, Any]) -> list[str]:
    """Return the bad states in the answer to ping; before 5.14 it has only one state."""
    fields = {"status": "unknown", **status}
    return [f"{name} is {fields[name]}" for name in _STATES if fields.get(name, "OK") != "OK"]
