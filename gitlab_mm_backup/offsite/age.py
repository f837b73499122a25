"""age: encrypt streams to public keys, and decrypt them with the private key."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ExitCode, Failure
from ..system import process
from ..system.private_files import InMemory
from ..system.process import Command
from ..system.redaction import Secret

FORM = "age"
_CHUNK, _TAG = 1 << 16, 16  # age(1)'s payload: 64 KiB at a time, each with 16 bytes of proof


def encrypt(recipients: tuple[str, ...]) -> Command:
    """Return the age that encrypts its input to ``recipients``; each of them can decrypt it."""
    words = [word for recipient in recipients for word in ("--recipient", recipient)]
    return Command(["age", "--encrypt", *words], account="nobody")


def decrypt(identity: Secret) -> Command:
    """Return the age that decrypts its input with ``identity``, the content of a key file."""
    return Command(["age", "--decrypt", "--identity", InMemory(identity)], account="nobody")


@contextmanager
def explained(file: str) -> Iterator[None]:
    """Turn failures of age in the block into readable ones."""
    try:
        yield
    except Failure as failure:
        if not failure.message.startswith("age "):
            raise
        raise Failure(
            f"{file} cannot be opened with this identity",
            failure.detail,
            "Give the private key of one of the copy's recipients: --identity FILE",
        ) from None


def read_identity(path: Path) -> Secret:
    """Return the content of a private key's file; raises Failure when it cannot be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Failure(
            f"The identity {path} cannot be read", str(reason), exit_code=ExitCode.USAGE
        ) from None
    if "AGE-SECRET-KEY-" not in text and "PRIVATE KEY-----" not in text:
        raise Failure(
            f"{path} is not an age identity",
            "it has no private key that can be used without a passphrase",
            "Give the file that age-keygen wrote. If it has a passphrase, decrypt it first: age -d.",
            ExitCode.USAGE,
        )
    return Secret(text)


def empty_size(recipients: tuple[str, ...]) -> int:
    """Return the size of an encrypted empty file: the constant overhead."""
    try:
        with tempfile.TemporaryFile() as nothing:
            return len(process.printed(encrypt(recipients), stdin=nothing))
    except Failure as failure:
        raise Failure(
            "age cannot encrypt to the recipients of a copy",
            failure.detail or failure.message,
            "apt install age; correct recipients in /etc/gitlab-mm-backup/config.yml.",
        ) from None


def size(empty: int, plain: int) -> int:
    """Return the size of ``plain`` bytes, encrypted, where an empty file takes ``empty``."""
    return empty - _TAG + plain + _TAG * max(1, -(-plain // _CHUNK))
