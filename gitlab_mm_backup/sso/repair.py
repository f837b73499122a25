"""Repair of sign-in: the smallest change that makes GitLab accept Mattermost's credentials."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..mattermost import detect, json_file, service
from ..mattermost.json_file import Operations
from ..mattermost.site import Site
from ..store.inventory import Store
from ..system import validation
from ..system.files import STATE, replace_file
from ..system.redaction import Secret
from . import check, credentials, oauth
from .check import Diagnosis, effective_pair
from .credentials import Layer
from .oauth import Pair

# The inverse of the last repair; a restore uses another file for that of its hook.
UNDO_FILE = STATE / "sign-in-undo.json"
UNDO_VARIABLE = "GITLAB_MM_SIGN_IN_UNDO"


class NoValidCredentials(Failure):
    """GitLab accepts no candidate, and no change in GitLab was allowed."""


@dataclass(frozen=True)
class Change:
    """The change of one layer."""

    layer: Layer
    operations: Operations


@dataclass(frozen=True)
class Repair:
    """A repair: the pair, where it comes from, and every change."""

    source: str
    pair: Pair
    changes: list[Change]

    @property
    def layers(self) -> list[str]:
        return [change.layer.name for change in self.changes]


@dataclass(frozen=True)
class RepairOptions:
    """What the operator allows a repair to do."""

    named: Sequence[str] = ()
    rotate: bool = False
    register: bool = False
    if_possible: bool = False  # where nothing fits, say so instead of failing
    dry_run: bool = False


@dataclass(frozen=True)
class Repaired:
    """The result of a repair or its ``dry_run``, and the state of sign-in."""

    repair: Repair | None  # None: nothing could, or had to, be mended
    after: Diagnosis
    restarted: bool
    wish: RepairOptions


def repair(site: Site, store: Store, wish: RepairOptions, kept: Path = UNDO_FILE) -> Repaired:
    """Repair the sign-in of ``site`` with credentials that GitLab accepts, or as allowed.

    Raises Failure when a layer cannot be read (then nothing is written at all), and when GitLab
    accepts no candidate and neither a new secret nor a new application is allowed.
    """
    diagnosis = check.examine_folders(site, store, wish.named)
    _refuse_unreadable(diagnosis)
    if not diagnosis.in_use(site):
        return Repaired(None, diagnosis, False, wish)
    try:
        made, in_gitlab = _choose(site, diagnosis, wish)
    except NoValidCredentials:
        if not wish.if_possible:
            raise
        return Repaired(None, diagnosis, False, wish)
    if wish.dry_run:
        return Repaired(made, diagnosis, False, wish)
    with _all_or_nothing(site, kept), in_gitlab:
        write(made, kept)
    after = detect.again(site)
    restarted = restart_if_needed(site, after)
    return Repaired(made, check.examine_folders(after, store, wish.named), restarted, wish)


def _choose(
    site: Site, diagnosis: Diagnosis, wish: RepairOptions
) -> tuple[Repair, AbstractContextManager[None]]:
    """Return the repair, and a context for its writing: GitLab's transaction, if needed."""
    chosen = diagnosis.chosen()
    if chosen is not None:
        made = Repair(chosen.source, chosen.pair, changes(diagnosis, chosen.pair))
        return made, nullcontext()
    secret = Secret(secrets.token_urlsafe(32))
    if wish.rotate:
        row = _only_application(site, diagnosis)
        pair = Pair(row.uid, secret)
        made = Repair("a new secret", pair, changes(diagnosis, pair))
        return made, oauth.new_secret(site, row, secret)
    if wish.register:
        pair = Pair(secrets.token_urlsafe(32), secret)
        made = Repair("a new application", pair, changes(diagnosis, pair))
        return made, oauth.new_application(site, pair)
    verdicts = {candidate.verified for candidate in diagnosis.candidates}
    known = "could not be asked about them" if None in verdicts else "accepts none of them"
    consent = "have GitLab set a new secret (--rotate) or a new application (--register)"
    if site.gitlab.database is None:
        consent = "create a new application on GitLab's host"
    raise NoValidCredentials(
        "No working GitLab credentials were found",
        f"{len(diagnosis.candidates)} candidates were looked at; GitLab {known}",
        f"Give a set from when sign-in worked (gitlab-mm sso repair --from SET), or {consent}.",
    )


def changes(diagnosis: Diagnosis, pair: Pair) -> list[Change]:
    """Return the changes that write ``pair`` to every layer.

    A config.json without a pair is left so where the environment folder overrides it.
    """
    environment = any(layer.name == "environment" for layer in diagnosis.layers)
    planned = []
    for layer in diagnosis.layers:
        if layer.name == "config.json" and environment and layer.pair() is None:
            continue
        operations = credentials.plan(layer, pair)
        if operations:
            planned.append(Change(layer, operations))
    return planned


def write(repair: Repair, kept: Path) -> None:
    """Make all changes; their inverses are in the file ``kept`` first."""
    if not repair.changes:
        return
    _keep_inverse(repair.changes, kept)
    for change in repair.changes:
        credentials.write(change.layer, change.operations)


@contextmanager
def _all_or_nothing(site: Site, kept: Path) -> Iterator[None]:
    """Undo the writes when the block fails, GitLab's commit included."""
    before = kept.read_bytes() if kept.exists() else None
    try:
        yield
    except BaseException:
        if kept.exists() and kept.read_bytes() != before:
            take_back(site, kept)
            if before is not None:
                replace_file(kept, before)
        raise


def take_back(site: Site, path: Path) -> None:
    """Undo the repair of a restore's hook, if there was one; an incomplete one too."""
    if not path.exists():
        return
    kept = _kept(path)
    for layer in credentials.layers(site)[0]:
        operations = kept.get(layer.name, [])
        try:
            json_file.applied(layer.document, operations, str(layer.path))
        except Failure:
            continue  # the repair did not come to this layer, or it is taken back already
        if operations:
            credentials.write(layer, operations)
    path.unlink()


def _kept(path: Path) -> dict[str, Operations]:
    """Return the recorded repair; raises Failure."""
    try:
        kept: dict[str, Operations] = validation.from_json(path.read_bytes())
    except FileNotFoundError:
        raise Failure("There is no repair to undo", f"{path} does not exist") from None
    except OSError as error:
        raise Failure(f"{path} cannot be read", str(error.strerror)) from error
    except validation.Refused as error:
        raise Failure(f"{path} cannot be read", str(error)) from error
    return kept


def undo(site: Site, path: Path = UNDO_FILE) -> list[str]:
    """Undo the last repair; return the restored layers.

    Raises Failure, before any write, when one of them has changed since.
    """
    kept = _kept(path)
    found = {layer.name: layer for layer in credentials.layers(site)[0]}
    missing = sorted(kept.keys() - found.keys())
    if missing:
        raise Failure("The repair cannot be undone", f"not readable: {', '.join(missing)}")
    for name, operations in kept.items():
        json_file.applied(found[name].document, operations, str(found[name].path))
    for name, operations in kept.items():
        credentials.write(found[name], operations)
    path.unlink()
    return list(kept)


def restart_if_needed(site: Site, after: Site) -> bool:
    """Restart Mattermost if it runs and its settings changed; tell whether it did."""
    mattermost = service.of(site)
    if effective_pair(after) == effective_pair(site) or not mattermost.runs():
        return False
    mattermost.restart()
    service.wait_until_it_answers(after)
    return True


def _refuse_unreadable(diagnosis: Diagnosis) -> None:
    if diagnosis.unreadable:
        raise Failure(
            "Nothing was changed, because not every layer can be read",
            ", ".join(diagnosis.unreadable),
            "To see why: gitlab-mm sso check. Fix that first.",
        )


def _only_application(site: Site, diagnosis: Diagnosis) -> oauth.Application:
    """Return the one row that a new secret may go to: the pair's own, else the one by name."""
    if diagnosis.applications is None:
        oauth.refuse_without_database(site)
        raise Failure("GitLab's database could not be asked", hint="gitlab-ctl status postgresql")
    rows = diagnosis.applications
    pair = effective_pair(site)
    found = [row for row in rows if pair and row.uid == pair.id] or rows
    if len(found) != 1:
        raise Failure(
            "It is not clear which application in GitLab is Mattermost's",
            f"{len(found)} are candidates",
            "Delete those that are not used (Admin, Applications), or use --register.",
        )
    return found[0]


def _keep_inverse(planned: list[Change], path: Path) -> None:
    kept: dict[str, Any] = {
        change.layer.name: json_file.inverse(change.operations) for change in planned
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(kept).encode())
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error
