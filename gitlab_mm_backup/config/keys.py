"""The signing key of this host, and the keys that it trusts.

Only root can read both files.  The private key never leaves this host.  After a reinstall, the
former host's key is trusted by its fingerprint, which is in the recovery kit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import clock
from ..clock import utc
from ..errors import ExitCode, Failure
from ..system import files, validation
from ..system.files import STATE
from ..system.redaction import Secret
from . import identity, origin
from .origin import Documents, Kind, Origin

KEY, TRUSTED = STATE / "signing-key.json", STATE / "trusted-keys.json"


@dataclass(frozen=True)
class Key:
    """The key of one host."""

    host: str  # its id
    private: Secret
    since: str  # RFC 3339, UTC; all later sets of the host are signed

    @property
    def fingerprint(self) -> str:
        return origin.fingerprint(origin.public_key(self.private))

    def sign(self, name: str, manifest: bytes, copy: bytes | None = None) -> bytes:
        """Return the content of signature.json for a set."""
        return origin.sign(self.private, name, manifest, copy)


@dataclass(frozen=True)
class Ring:
    """The host's own key, and the fingerprints of all keys that it trusts."""

    own: Key | None
    trusted: frozenset[str]

    def origin(self, host: str, made: datetime, said: Documents, *, elsewhere: bool) -> Origin:
        """Return the origin of a set that ``host`` made according to its manifest.

        A set from ``elsewhere`` that claims to be made by this host, after it began to sign, must
        have this host's signature.  In the local store, only root can have added a set.
        """
        found = origin.judge(said, self.trusted)
        if not elsewhere or found.kind in (Kind.AUTHENTIC, Kind.FORGED) or self.own is None:
            return found
        if host != self.own.host or made < clock.parse_moment(self.own.since):
            return found
        by = "it is not signed" if found.kind is Kind.UNSIGNED else f"its key is {found.key}"
        return Origin(Kind.FORGED, found.key, f"it claims to be made by this host, but {by}")


def own(host: str, path: Path | None = None, trusted_path: Path | None = None) -> Key:
    """Return the signing key of this host, whose id is ``host``; create one if needed.

    If the id has changed, as on a copy of a host, a new key is created and the former one trusted.
    Raises Failure if a file cannot be read or written.
    """
    path = path or KEY
    found = _read(path)
    if found is not None and found.host == host:
        return found
    with identity.alone(path):
        found = _read(path)
        if found is not None and found.host == host:
            return found
        if found is not None:
            trust(found.fingerprint, trusted_path)
        made = Key(host, origin.new_private_key(), utc(clock.now()))
        files.write_state(path, {**asdict(made), "private": made.private.reveal()})
    return made


def known(host: str) -> Ring:
    """Return all keys of this host; create its own if needed."""
    own(host)
    return ring()


def ring(path: Path | None = None, trusted_path: Path | None = None) -> Ring:
    """Return all keys of this host; raises Failure if a file cannot be read."""
    found = _read(path or KEY)
    others = _read_trusted(trusted_path or TRUSTED)
    return Ring(found, frozenset({*others, *([found.fingerprint] if found else [])}))


def trust(fingerprint: str, path: Path | None = None) -> None:
    """Trust the key with this fingerprint; raises Failure if the file cannot be written."""
    path = path or TRUSTED
    files.write_state(path, sorted({*_read_trusted(path), fingerprint}))


def trust_typed(typed: str, path: Path | None = None) -> str:
    """Trust the key with this typed fingerprint; return it normalised.  Raises Failure."""
    fingerprint = _typed(typed)
    trust(fingerprint, path)
    return fingerprint


def distrust(typed: str, path: Path | None = None) -> str:
    """Stop trusting a key; return its fingerprint.

    Raises Failure if it was not trusted, or if the file cannot be written.
    """
    path, fingerprint = path or TRUSTED, _typed(typed)
    known = _read_trusted(path)
    if fingerprint not in known:
        raise Failure(
            f"{fingerprint} is not a key that this host trusts",
            f"trusted: {', '.join(sorted(known)) or 'none but its own'}",
            "gitlab-mm host shows the keys.",
            ExitCode.USAGE,
        )
    files.write_state(path, sorted(known - {fingerprint}))
    return fingerprint


def _typed(typed: str) -> str:
    try:
        return origin.typed_fingerprint(typed)
    except ValueError as error:
        raise Failure(
            f"{typed!r} is not the fingerprint of a key",
            str(error),
            "gitlab-mm recovery-kit and gitlab-mm host print it on the host that has the key.",
            ExitCode.USAGE,
        ) from None


def _read(path: Path) -> Key | None:
    try:
        return files.read_state(path, _key)
    except FileNotFoundError:
        return None
    except files.unreadable_state as error:
        raise _unreadable(path, error, "gitlab-mm backup then makes a new key.") from None


def _read_trusted(path: Path) -> frozenset[str]:
    try:
        return frozenset(files.read_state(path, _fingerprints))
    except FileNotFoundError:
        return frozenset()
    except files.unreadable_state as error:
        raise _unreadable(path, error, "gitlab-mm host trust KEY writes it again.") from None


def _unreadable(path: Path, error: Exception, then: str) -> Failure:
    return Failure(
        f"{path} cannot be read",
        str(getattr(error, "strerror", None) or "it is not a file of this program"),
        f"Restore it from a copy of /var/lib/gitlab-mm-backup, or remove it: {then}",
        ExitCode.FAILED,
    )


def _key(value: Any) -> Key:
    found = validation.members(value, _KEY)
    made = Key(found["host"], Secret(found["private"]), found["since"])
    origin.public_key(made.private)
    return made


_KEY: dict[str, validation.Check] = {
    "host": validation.identifier,
    "private": validation.line,
    "since": validation.instant,
}


def _fingerprints(value: Any) -> tuple[str, ...]:
    return tuple(origin.typed_fingerprint(one) for one in validation.texts(value))
