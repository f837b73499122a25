"""rclone: list, write, read and remove at a remote; its errors as readable failures."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from ..config.settings import NO_CONFIG, Remote
from ..errors import Failure, reason
from ..system import environment, parallel, process, validation
from ..system.parallel import Put
from ..system.process import Command, Finished
from ..system.redaction import Secret
from ..version import numbers

HASHES = ("sha256", "sha1", "md5")  # those that we can take too, the best first
_NO_SUCH_FOLDER = 3  # rclone's exit code
_LOOKING = 300  # seconds for an answer that is no file's content
_SLOWEST = 1 << 20  # bytes a second: a remote that has to read files to hash them
_COMMON = ("--ask-password=false", "--log-level=ERROR", "--retries=1", "--low-level-retries=3")
_PATIENCE = ("--contimeout=30s", "--timeout=2m")


@dataclass(frozen=True)
class Trouble:
    """The meaning of a pattern in rclone's last error."""

    pattern: str
    message: str
    hint: str
    lasting: bool = True  # another try would end the same way


_FORBIDDEN = "the remote does not allow it"
_TROUBLES = (
    Trouble(
        r"RequestTimeTooSkewed|time difference|clock skew",
        "the clocks of this host and of the remote differ too much",
        "Set this host's clock (timedatectl), then run gitlab-mm offsite.",
    ),
    Trouble(
        r"SignatureDoesNotMatch|InvalidAccessKeyId|Unauthorized|\b401\b|unable to authenticate"
        r"|InvalidToken|AuthenticationFailed|ssh: handshake failed|invalid_grant",
        "the remote refuses the credentials",
        "Correct them: in gitlab.rb for GitLab's upload target, in rclone's config file for the "
        "others.",
    ),
    Trouble(
        r"x509: certificate (?:has expired|is not yet valid)|certificate has expired",
        "the remote's certificate is not valid at this time",
        "Have it renewed, or set this host's clock (timedatectl); then run gitlab-mm offsite.",
    ),
    Trouble(
        r"x509: |failed to verify certificate",
        "the remote's certificate is not trusted on this host",
        "Put the certificate of its authority into /usr/local/share/ca-certificates/ (as NAME.crt) and "
        "run update-ca-certificates; then gitlab-mm offsite.",
    ),
    Trouble(
        r"decrypt configuration|RCLONE_CONFIG_PASS|RCLONE_PASSWORD_COMMAND|password command",
        "rclone's configuration file is encrypted and cannot be opened",
        "Give its password by RCLONE_PASSWORD_COMMAND or RCLONE_CONFIG_PASS, for the nightly run in "
        "/etc/cron.d/gitlab-mm-backup; see docs/settings.md.",
    ),
    Trouble(
        r"NoSuchBucket|ContainerNotFound|bucket does not exist|container not found",
        "the bucket does not exist",
        "Create it, or correct its name.",
    ),
    Trouble(
        r"[Nn]o space left|disk space|EntityTooLarge|InsufficientStorage|Insufficient Storage|\b507\b"
        r"|[Qq]uota|RequestEntityTooLarge|\b413\b",
        "the remote is full",
        "Free space there or raise its quota, then run gitlab-mm offsite.",
    ),
    Trouble(
        r"AccessDenied|Forbidden|\b403\b|[Pp]ermission denied",
        _FORBIDDEN,
        "Grant this account or key read, write, delete and list.",
    ),
    Trouble(
        r"didn't find section in config file",
        "rclone has no such remote",
        "Create it: rclone config. To see all: rclone listremotes.",
    ),
    Trouble(
        r"connection refused|closed network connection|no such host|i/o timeout|network is unreachable|connection reset"
        r"|broken pipe|unexpected EOF|\bEOF\b|deadline exceeded",
        "the connection fails",
        "Check the network between the two; the next run sends what is missing.",
        lasting=False,
    ),
)
_NO_LISTING = (
    "The key may put, get and delete objects, as in GitLab's manual, but not list them. Add "
    "s3:ListBucket on the bucket itself to its policy."
)


class RemoteFailure(Failure):
    """A failure at a remote; ``lasting``: a retry would fail too."""

    lasting = False


@dataclass(frozen=True)
class Listed:
    """A file at a remote; ``hashes``: those in HASHES that the remote has."""

    path: str
    bytes: int
    hashes: Mapping[str, str]


def command(remote: Remote, *words: str, may_exit: tuple[int, ...] = (0,)) -> Command:
    """Return the rclone command with ``words``; it reads only our configuration.

    Of the caller's variables it gets the proxies, and those that open root's configuration file.
    """
    variables: dict[str, Any] = {
        **environment.network(),
        **(environment.rclone() if remote.config != NO_CONFIG else {}),
        "RCLONE_CONFIG": remote.config,
        **remote.environment,
    }
    if remote.account is None:
        variables["HOME"] = "/root"  # keys and known hosts of SSH
    limit = (f"--bwlimit={remote.bandwidth}B",) if remote.bandwidth else ()
    verb, *arguments = words
    return Command(
        ["rclone", verb, *_COMMON, *_PATIENCE, *limit, *arguments],
        account=remote.account,
        environment=variables,
        may_exit=may_exit,
    )


def version() -> tuple[int, ...]:
    """Return rclone's version, as (1, 60, 1); raises Failure where it is not installed."""
    alone = Command(
        ["rclone", "version"], account="nobody", environment={"RCLONE_CONFIG": NO_CONFIG}
    )
    try:
        said = process.run(alone)
    except Failure as failure:
        raise Failure(
            "rclone, which copies sets to other places, cannot be run",
            failure.detail,
            "apt install rclone",
        ) from None
    return numbers(said.out.partition("\n")[0].rpartition(" v")[2])


def listing(remote: Remote, *names: str, hashed: int | None = None) -> list[Listed]:
    """Return all files at a location with relative paths; none where it does not exist.

    With hashes where ``hashed`` gives the total size: a disk has to read all files for that.
    """
    hashes = hashed is not None
    wanted = [f"--hash-type={hash_name}" for hash_name in HASHES] if hashes else []
    asked = command(
        remote,
        *("lsjson", "--recursive", "--files-only", "--no-mimetype", "--no-modtime"),
        *(["--hash", *wanted] if hashes else []),
        "--",
        remote.place(*names),
        may_exit=(0, _NO_SUCH_FOLDER),
    )
    try:
        patience = _LOOKING + (hashed or 0) / _SLOWEST
        said = _run(remote, f"{remote.name} cannot be listed", asked, patience=patience)
    except RemoteFailure as failure:
        if failure.message.endswith(_FORBIDDEN):
            failure.hint = _NO_LISTING
        raise
    if said.code == _NO_SUCH_FOLDER:
        return []
    try:
        return [_listed(entry) for entry in validation.from_json(said.out)]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{remote.name} cannot be listed", f"rclone: {reason(error)[:200]}") from None


def _listed(entry: Any) -> Listed:
    hashes = entry.get("Hashes") or {}
    return Listed(
        validation.text(entry["Path"]),
        validation.count(entry["Size"]),
        {name: str(hashes[name]).lower() for name in HASHES if hashes.get(name)},
    )


def write(remote: Remote, feed: Callable[[Put], object], size: int, *names: str) -> None:
    """Write ``size`` bytes to a file there, given piece by piece by ``feed``.

    Raises Failure when either fails.
    """
    asked = command(remote, "rcat", f"--size={size}", "--", remote.place(*names))
    what = f"{names[-1]} cannot be written to {remote.name}"
    parallel.pipe_between(feed, lambda source: _run(remote, what, asked, source))


def read(remote: Remote, *names: str) -> Command:
    """Return the rclone that prints a file there."""
    return command(remote, "cat", "--", remote.place(*names))


def read_piece(remote: Remote, start: int, length: int, *names: str) -> Command:
    """Return the rclone that prints ``length`` bytes of a file there, and fetches no others.

    A reader may close the pipe when it has what it wants.
    """
    piece = (f"--offset={start}", f"--count={length}")
    asked = command(remote, "cat", *piece, "--", remote.place(*names))
    return replace(asked, may_exit=(0, -signal.SIGPIPE))


def content(remote: Remote, *names: str) -> bytes:
    """Return the content of a small file there."""
    with explained(remote, f"{names[-1]} cannot be read from {remote.name}"):
        return process.printed(read(remote, *names))


def contents(remote: Remote, largest: int, *patterns: str) -> bytes:
    """Return the content of all matching files, in any order.

    Files of more than ``largest`` bytes are left out.
    """
    wanted = [*(f"--include=/*/{pattern}" for pattern in patterns), f"--max-size={largest}B"]
    asked = command(remote, "cat", *wanted, "--", remote.path)
    with explained(remote, f"{remote.name} cannot be read"):
        return process.printed(asked)


def delete(remote: Remote, *names: str) -> None:
    """Remove a file there."""
    asked = command(remote, "deletefile", "--", remote.place(*names))
    _run(remote, f"{names[-1]} cannot be removed from {remote.name}", asked)


def purge(remote: Remote, *names: str) -> None:
    """Remove a folder there, with all in it."""
    asked = command(remote, "purge", "--", remote.place(*names))
    _run(remote, f"{names[-1]} cannot be removed from {remote.name}", asked)


def sweep(remote: Remote, *names: str) -> None:
    """Remove incomplete uploads at a location: S3 keeps their pieces, and bills for them.

    Only some storages can do that; others are skipped silently. Only this host uploads there, so
    pieces of any age are removed: the storage's clock may be ahead.
    """
    any_age = "max-age=-24h"
    asked = command(remote, "backend", "cleanup", "-o", any_age, "--", remote.place(*names))
    with contextlib.suppress(Failure):
        process.run(asked, timeout=_LOOKING)


def _run(
    remote: Remote,
    what: str,
    asked: Command,
    source: IO[bytes] | None = None,
    patience: float = _LOOKING,
) -> Finished:
    with explained(remote, what):
        return process.run(asked, stdin=source, timeout=None if source else patience)


@contextlib.contextmanager
def explained(remote: Remote, what: str) -> Iterator[None]:
    """Turn rclone's failures in the block into readable ones."""
    try:
        yield
    except Failure as failure:
        if isinstance(failure, RemoteFailure) or "rclone" not in failure.message:
            raise
        raise _failure(remote, what, failure.detail or failure.message) from None


def _failure(remote: Remote, what: str, words: str) -> RemoteFailure:
    text = _plain(remote, words)
    for trouble in _TROUBLES:
        if re.search(trouble.pattern, words):
            failure = RemoteFailure(f"{what}: {trouble.message}", text, trouble.hint)
            failure.lasting = trouble.lasting
            return failure
    return RemoteFailure(what, text, "The next run sends what is missing.")


def _plain(remote: Remote, words: str) -> str:
    """Return rclone's last error without its date, and without quoted secrets."""
    lines = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in words.splitlines()]
    text = "; ".join(dict.fromkeys(line.strip() for line in lines[-4:] if line.strip()))
    given = {**environment.network(), **environment.rclone(), **remote.environment}
    for value in given.values():
        if isinstance(value, Secret) and value:
            text = text.replace(value.reveal(), "…")
    return text[:600]
