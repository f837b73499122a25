"""The origin of a set: the key that signed its manifest.

``signature.json`` next to ``manifest.json`` has Ed25519 signatures (RFC 8032) of the manifest and, in
an off-site copy, of ``copy.json``.  The manifest contains the SHA-256 of every part, so its signature
covers the whole set, and the name of the set, so it is valid only for that one.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import functools
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..system import validation
from ..system.redaction import Secret
from ..translation import Text, phrase

SIGNATURE = "signature.json"
_KEY, _SIGNED = 32, 64  # bytes of a key, and of a signature
_DIGITS = 32  # hexadecimal, of a fingerprint: 128 bits
_GROUP = 4  # digits, to compare it with a printed one


class Kind(enum.Enum):
    """The result of checking a signature."""

    AUTHENTIC = "authentic"  # valid, by a trusted key
    UNKNOWN = "unknown key"  # valid, by a key that this host does not know
    UNSIGNED = "unsigned"  # no signature: the set is from before sets were signed
    FORGED = "forged"  # the signature does not match the manifest


@dataclass(frozen=True)
class Origin:
    """The result for a set; ``key`` is the fingerprint of its key, "" without a signature."""

    kind: Kind
    key: str = ""
    detail: str = ""  # what is wrong with a forged one

    @property
    def proven(self) -> bool:
        return self.kind is Kind.AUTHENTIC

    @property
    def words(self) -> Text:
        """The origin in words, to follow the name of the set and a comma."""
        if self.kind is Kind.AUTHENTIC:
            return phrase("authentic, signed with key {key}", key=self.key)
        if self.kind is Kind.UNKNOWN:
            return phrase("signed with key {key}, which this host does not know", key=self.key)
        if self.kind is Kind.UNSIGNED:
            return phrase("not signed")
        return phrase("FORGED: {detail}", detail=self.detail)


@dataclass(frozen=True)
class Documents:
    """The files of a set or a copy that are checked, as bytes; None for a missing one."""

    name: str
    manifest: bytes
    signature: bytes | None
    copy: bytes | None = None


@dataclass(frozen=True)
class _Signature:
    """The content of signature.json: a public key and what it has signed, all as Base64."""

    signed: str  # name of the set
    key: str
    manifest: str
    copy: str = ""  # "" without copy.json


def new_private_key() -> Secret:
    """Return a new private key as Base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.Raw,
        serialization.PrivateFormat.Raw,
        serialization.NoEncryption(),
    )
    return Secret(base64.b64encode(key).decode())


def public_key(private: Secret) -> str:
    """Return the public key of a private one, as Base64; raises ValueError if it is not a key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(_decoded(private.reveal(), _KEY))
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def sign(private: Secret, name: str, manifest: bytes, copy: bytes | None = None) -> bytes:
    """Return the content of signature.json for the set ``name``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(_decoded(private.reveal(), _KEY))

    def signed(document: bytes) -> str:
        return base64.b64encode(key.sign(document)).decode()

    made = _Signature(
        name, public_key(private), signed(manifest), "" if copy is None else signed(copy)
    )
    return (json.dumps(dataclasses.asdict(made), indent=2) + "\n").encode()


def fingerprint(public: str) -> str:
    """Return the fingerprint of a public key: the first 128 bits of its SHA-256, in groups."""
    digits = hashlib.sha256(_decoded(public, _KEY)).hexdigest()[:_DIGITS]
    return "-".join(digits[start : start + _GROUP] for start in range(0, _DIGITS, _GROUP))


def typed_fingerprint(typed: str) -> str:
    """Return a typed fingerprint in the format of ``fingerprint``; its grouping does not matter.

    Raises ValueError for anything else.
    """
    digits = re.sub(r"[\s:-]", "", typed).lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", digits):
        raise ValueError(f"a fingerprint has {_DIGITS} hexadecimal digits")
    return "-".join(digits[start : start + _GROUP] for start in range(0, _DIGITS, _GROUP))


def judge(said: Documents, trusted: Collection[str]) -> Origin:
    """Check the signature of a set; ``trusted`` are the fingerprints of trusted keys."""
    return trusting(check(said), trusted)


def trusting(found: Origin, trusted: Collection[str]) -> Origin:
    """Return the result of ``check`` where keys are ``trusted``."""
    if found.kind is Kind.UNKNOWN and found.key in trusted:
        return Origin(Kind.AUTHENTIC, found.key)
    return found


def check(said: Documents) -> Origin:
    """Check the signature of a set by its documents alone, without any key that is trusted."""
    if said.signature is None:
        return Origin(Kind.UNSIGNED)
    try:
        found = _parse(said.signature)
        key = fingerprint(found.key)
    except (ValueError, TypeError):
        return Origin(Kind.FORGED, detail=f"its {SIGNATURE} cannot be read")
    if found.signed != said.name:
        return Origin(Kind.FORGED, key, f"its {SIGNATURE} is that of {found.signed[:80]}")
    if not _valid(found.key, found.manifest, said.manifest):
        return Origin(Kind.FORGED, key, "its manifest.json is not the one that was signed")
    if said.copy is not None and not _valid(found.key, found.copy, said.copy):
        return Origin(Kind.FORGED, key, "its copy.json is not the one that was signed")
    return Origin(Kind.UNKNOWN, key)


# A status asks about each set several times.
@functools.lru_cache(maxsize=10_000)
def _valid(public: str, signature: str, document: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(_decoded(public, _KEY))
        key.verify(_decoded(signature, _SIGNED), document)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decoded(text: str, length: int) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not Base64") from None
    if len(found) != length:
        raise ValueError(f"not {length} bytes")
    return found


def _parse(data: bytes) -> _Signature:
    return _Signature(**validation.members(validation.from_json(data), _MEMBERS, {"copy"}))


_MEMBERS: Mapping[str, validation.Check] = dict.fromkeys(
    ("signed", "key", "manifest", "copy"), validation.line
)
