"""How GitLab stores an OAuth application's secret, and whether a secret matches.

Forms by version (gitlabhq config/initializers/doorkeeper.rb, lib/gitlab/doorkeeper_secret_storing):
plain text below 15.9, ``$pbkdf2-sha512$`` from 15.4 on, SHA-512 in hexadecimal in recent ones.
A row keeps its form when GitLab is upgraded.
"""

from __future__ import annotations

import base64
import binascii
import enum
import functools
import hashlib
import hmac
import re

from ..system.redaction import Secret

_PBKDF2 = re.compile(r"\$pbkdf2-sha512\$(\d{1,7})\$([A-Za-z0-9./]*)\$([A-Za-z0-9./]{86})")
_SHA512 = re.compile(r"[0-9a-f]{128}")
# The forms that GitLab and Omnibus create: hexadecimal or URL-safe base64.
_PLAIN = re.compile(r"[A-Za-z0-9_-]{16,127}")
_GITLAB_ROUNDS = 20000  # devise-pbkdf2-encryptable's stretches, with an empty salt
_MOST_ROUNDS = 1000000


class Form(enum.Enum):
    """The form of a stored secret."""

    PLAIN = "plain"
    PBKDF2 = "pbkdf2"
    SHA512 = "sha512"
    UNKNOWN = "unknown"


def form_of(stored: str) -> Form:
    if _SHA512.fullmatch(stored):
        return Form.SHA512
    if stored.startswith("$"):
        found = _PBKDF2.fullmatch(stored)
        return Form.PBKDF2 if found and 0 < int(found[1]) <= _MOST_ROUNDS else Form.UNKNOWN
    return Form.PLAIN if _PLAIN.fullmatch(stored) else Form.UNKNOWN


def matches(stored: str, secret: Secret) -> bool | None:
    """Tell whether GitLab would accept ``secret``, in constant time; None for an unknown form."""
    form = form_of(stored)
    if form is Form.UNKNOWN:
        return None
    if form is Form.PBKDF2:
        _, _, rounds, salt, digest = stored.split("$")
        expected = _decode(digest)
        return hmac.compare_digest(expected, _pbkdf2(secret, _decode(salt), int(rounds)))
    if form is Form.SHA512:
        return hmac.compare_digest(stored, hashlib.sha512(secret.encoded()).hexdigest())
    return hmac.compare_digest(stored.encode(), secret.encoded())


def store(secret: Secret, form: Form) -> str:
    """Return ``secret`` as GitLab stores it in ``form``; UNKNOWN is a ValueError."""
    if form is Form.PLAIN:
        return secret.reveal()
    if form is Form.SHA512:
        return hashlib.sha512(secret.encoded()).hexdigest()
    if form is Form.PBKDF2:
        digest = _pbkdf2(secret, b"", _GITLAB_ROUNDS)
        return f"$pbkdf2-sha512${_GITLAB_ROUNDS}$${_encode(digest)}"
    raise ValueError("a secret cannot be stored in an unknown format")


@functools.lru_cache(maxsize=64)
def _pbkdf2(secret: Secret, salt: bytes, rounds: int) -> bytes:
    """Return the digest; it takes 15 ms, and several questions of a run are about the same secret."""
    return hashlib.pbkdf2_hmac("sha512", secret.encoded(), salt, rounds)


def _decode(text: str) -> bytes:
    """Decode the gem's base64: ``.`` for ``+`` and no padding; it has letters of base64 alone."""
    padded = text.replace(".", "+") + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(padded)
    except binascii.Error:
        return b""


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().replace("+", ".").rstrip("=")
