"""A restic repository: runs restic(1), of Debian 12 (0.14) and later."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from ..config.settings import Restic
from ..errors import ExitCode, Failure, reason
from ..system import environment, process, sandbox, validation
from ..system.private_files import InMemory
from ..system.process import Command, Finished, Sink
from ..system.redaction import Secret

CACHE = Path("/var/cache/gitlab-mm-backup")
_FEW = 60  # seconds: more than a list of snapshots ever takes, restic repeats what fails for 15 min
_MANY_WORDS = 1 << 20
ID_SHOWN = 8  # digits of a snapshot's id that every restic prints, and accepts
_SHARES = 10  # a check reads the data of one in so many packs, of another share each day
_ID = re.compile(rf"[0-9a-f]{{{ID_SHOWN},64}}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PASSWORDS = ("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND")
_REPOSITORY_FILE = "RESTIC_REPOSITORY_FILE"
_INCOMPLETE = 3  # restic's exit code where a file could not be read
_Result = TypeVar("_Result")
Write = Callable[[Command, Sink], _Result]  # program, sink of its output


@dataclass(frozen=True)
class ResticSnapshot:
    """One snapshot of a repository."""

    id: str
    tree: str  # SHA-256 that stands for all that is in it
    host: str
    tags: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class SnapshotSummary:
    """A new snapshot: the beginning of its id, and its totals."""

    id: str  # ID_SHOWN digits of restic 0.14, all 64 of a later one
    files: int
    bytes: int


class RepositoryLocked(Failure):
    """Another process has locked the repository."""


class Repository:
    """One repository. Every method raises Failure where restic fails.

    ``environment`` holds further variables for restic.
    """

    def __init__(
        self,
        access: Restic,
        environment: Mapping[str, Secret] | None = None,
    ) -> None:
        self._access, self._given = access, environment or {}
        limit = []
        if access.bandwidth is not None:
            limit = [f"--limit-upload={max(1, access.bandwidth >> 10)}"]  # KiB/s
        self._keep = ["backup", "--json", "--quiet", *limit]

    @property
    def elsewhere(self) -> bool:
        """Tell whether the repository is not on a disk of this host."""
        return self.folder is None

    @property
    def folder(self) -> Path | None:
        """Return the folder of a repository on a disk of this host, None for any other."""
        address = self._environment["RESTIC_REPOSITORY"]
        text = address.reveal() if isinstance(address, Secret) else address
        if text.startswith("local:"):
            return Path("/") / text[len("local:") :]
        return None if ":" in text and not text.startswith("/") else Path("/") / text

    def snapshots(self, host: str, *tags: str) -> list[ResticSnapshot]:
        """Return the snapshots of ``host``, or "" for all, that have all ``tags``, oldest first."""
        wanted = [*(["--host", host] if host else []), "--tag", ",".join(tags)]
        done = self._run("snapshots", "--json", "--no-lock", *wanted, timeout=_FEW)
        try:
            return [_snapshot(entry) for entry in validation.from_json(done.out) or []]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Failure(
                "restic's list of snapshots cannot be read", reason(error)[:200]
            ) from None

    def keep_stream(
        self, write: Write[_Result], name: str, host: str, tags: Sequence[str]
    ) -> tuple[SnapshotSummary, _Result]:
        """Store the output of ``write`` as the file ``name``.

        Returns the result of ``write``. A snapshot of it may exist even where it fails.
        """
        keep = self._command(
            *(*self._keep, "--host", host, "--tag", ",".join(tags)),
            *("--stdin", "--stdin-filename", name),
        )

        def keep_it() -> tuple[SnapshotSummary, _Result]:
            told = bytearray()
            result = write(keep, told.extend)
            return _taken(told.decode(errors="replace")), result

        return self._unlocked(keep_it)

    def keep_folders(
        self, folders: Iterable[Path], never: Iterable[str], host: str, tags: Sequence[str]
    ) -> SnapshotSummary:
        """Store ``folders`` without the paths ``never`` in a snapshot; only changes are read.

        restic opens files by their paths, so no link that appears in a folder is followed. A file
        that vanishes is normal beside a running service; one that cannot be read raises Failure.
        """
        every = tuple(folders)
        done = self._run(
            *(*self._keep, "--host", host, "--tag", ",".join(tags)),
            *(f"--exclude={_literally(path)}" for path in never),
            "--",
            *map(str, every),
            capabilities=sandbox.to_read_all(),
            through_no_link=every,
            may_exit=(0, _INCOMPLETE),
            spares_cache=True,
            most_words=_MANY_WORDS,
        )
        if done.code == _INCOMPLETE:
            _refuse_unread(done.err)
        return _taken(done.out)

    def dump(self, snapshot: ResticSnapshot, path: str) -> Command:
        """Return the command that prints the file ``path`` of a snapshot, or a directory as tar."""
        return self._command("dump", "--no-lock", snapshot.id, path)

    def forget(self, snapshots: Sequence[ResticSnapshot]) -> None:
        """Remove snapshots; ``prune`` frees their space.

        Where the storage refuses (object lock), the removal is given up after three refusals.
        """
        ids = [snapshot.id for snapshot in snapshots]
        self._run("forget", *ids, timeout=_FEW * max(1, len(ids)), hopeless=_refused)

    def unlock(self) -> None:
        """Remove the locks of programs that were killed; that of one that runs stays."""
        process.run(self._command("unlock"), timeout=_FEW)

    def prune(self) -> None:
        """Remove data that no snapshot refers to."""
        self._run("prune", "--quiet", hopeless=_refused)

    def check(self, today: date) -> None:
        """Check a tenth of the data for damage: all of it in ten days."""
        share = today.toordinal() % _SHARES + 1
        self._run("check", "--quiet", f"--read-data-subset={share}/{_SHARES}")

    def _run(
        self,
        *arguments: str,
        capabilities: Sequence[str] = (),
        through_no_link: Sequence[Path] = (),
        may_exit: tuple[int, ...] = (0,),
        spares_cache: bool = False,
        **how: Any,
    ) -> Finished:
        command = replace(
            self._command(*arguments),
            capabilities=capabilities,
            through_no_link=through_no_link,
            may_exit=may_exit,
            spares_cache=spares_cache,
        )
        return self._unlocked(lambda: process.run(command, **how))

    def _unlocked(self, task: Callable[[], _Result]) -> _Result:
        """Run ``task``; where a killed run left a lock, remove it and run ``task`` once more."""
        try:
            return task()
        except Failure as failure:
            if "already locked" not in failure.detail:
                raise _explained(failure) from None
        self.unlock()
        try:
            return task()
        except Failure as failure:
            raise _explained(failure) from None

    def _command(self, *arguments: str) -> Command:
        CACHE.mkdir(mode=0o700, exist_ok=True)
        return Command(
            ["restic", *arguments],
            environment={
                "HOME": os.path.expanduser("~root"),  # ssh and rclone have their settings there
                "RESTIC_CACHE_DIR": str(CACHE),
                **environment.network(),
                **self._environment,
                **self._password,
            },
            capabilities=(),
        )

    @functools.cached_property
    def _environment(self) -> Mapping[str, str | Secret]:
        given: dict[str, str | Secret] = {**self._given}
        for word in _PASSWORDS:  # ours is the only one
            given.pop(word, None)
        if self._access.environment_file is not None:
            given.update(_variables(self._access.environment_file))
        if self._access.repository:
            given.pop(_REPOSITORY_FILE, None)  # restic takes one of both
            given["RESTIC_REPOSITORY"] = self._access.repository
        if not {"RESTIC_REPOSITORY", _REPOSITORY_FILE} & given.keys():
            raise _unsaid("restic.repository is not set, nor RESTIC_REPOSITORY in environment_file")
        return given

    @functools.cached_property
    def _password(self) -> Mapping[str, Secret | InMemory]:
        """Return the variable that passes the password to restic as a file.

        From a file or a command's output restic takes all lines without surrounding blanks; from
        RESTIC_PASSWORD every character.
        """
        if self._access.password_command:
            command = Command(list(self._access.password_command))
            said = process.printed(command).decode(errors="surrogateescape")
        elif self._access.password_file is not None:
            said = _private(self._access.password_file)
        elif _PASSWORDS[0] in self._given and self._given[_PASSWORDS[0]]:
            return {_PASSWORDS[0]: self._given[_PASSWORDS[0]]}
        else:
            raise _unsaid("neither restic.password_file nor restic.password_command is set")
        if not said.strip():
            raise _unsaid("the password is empty")
        return {_PASSWORDS[1]: InMemory(Secret(said))}


def _unsaid(detail: str) -> Failure:
    return Failure(
        "The restic repository cannot be used",
        detail,
        "Correct /etc/gitlab-mm-backup/config.yml; see gitlab-mm config explain restic.",
        ExitCode.USAGE,
    )


def _private(path: Path) -> str:
    """Return the text of a file with a secret; raises Failure where others can read it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != 0 or stat.S_IMODE(status.st_mode) & 0o077:
                raise _unsaid(f"{path} must be root's alone: chown root {path}; chmod 0600 {path}")
            return file.read()
    except OSError as error:
        raise _unsaid(f"{path}: {error.strerror}") from None


def _variables(path: Path) -> dict[str, Secret]:
    """Return the variables of a file with lines NAME=VALUE, as systemd.exec(5) has them."""
    found = {}
    for number, line in enumerate(_private(path).splitlines(), 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals or not _NAME.fullmatch(name):
            raise _unsaid(f"{path}, line {number}: not of the form NAME=VALUE")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = Secret(value[1:-1] if quoted else value)
    return found


def _literally(path: str) -> str:
    """Return a pattern that matches only ``path``."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def _snapshot(value: Any) -> ResticSnapshot:
    return ResticSnapshot(
        id=validation.sha256(value["id"]),
        tree=validation.sha256(value["tree"]),
        host=validation.text(value["hostname"]),
        tags=tuple(validation.text(tag) for tag in value.get("tags") or ()),
        paths=tuple(validation.text(path) for path in value["paths"]),
    )


def _taken(said: str) -> SnapshotSummary:
    """Return the summary at the end of restic's output."""
    try:
        told = validation.from_json(said.strip().splitlines()[-1])
        return SnapshotSummary(
            _id(told["snapshot_id"]),
            validation.count(told["total_files_processed"]),
            validation.count(told["total_bytes_processed"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Failure("restic's summary cannot be read", reason(error)[:200]) from None


def _id(value: Any) -> str:
    if not _ID.fullmatch(validation.text(value)):
        raise ValueError("not the id of a snapshot")
    return str(value)


def _refuse_unread(words: str) -> None:
    """Raise Failure for files that could not be read, unless all of them have vanished."""
    unread = []
    for line in words.splitlines():
        try:
            item = validation.from_json(line)["item"]
        except (ValueError, KeyError, TypeError):
            continue
        if os.path.lexists(item):
            unread.append(f"{item!r}")
    if unread or len(words.encode()) >= _MANY_WORDS:
        raise Failure("restic could not read all files", ", ".join(unread[:20]))


def _refused(words: str) -> bool:
    return words.count("Remove(") > 2


def _explained(failure: Failure) -> Failure:
    """Return the failure with a hint, where the cause is known."""
    if "already locked" in failure.detail:
        return RepositoryLocked(
            failure.message, failure.detail, "Wait until the other restic has finished."
        )
    if failure.message == "restic cannot be started":
        return Failure(failure.message, failure.detail, "Install it: apt install restic")
    hints = {
        "x509: ": "The certificate of the server is not trusted, or not valid at this time. Put that of its "
        "authority into /usr/local/share/ca-certificates/ (as NAME.crt) and run "
        "update-ca-certificates, or give RESTIC_CACERT in restic.environment_file.",
        "Is there a repository": "If not, create it once: restic init. If it is on a disk, "
        "check that the disk is mounted. See docs/restic.md.",
        "wrong password": "Correct restic.password_file or restic.password_command.",
        "Remove(": "The storage does not allow it (object lock, or append-only). The next "
        "prune tries again.",
    }
    hint = next((hint for words, hint in hints.items() if words in failure.detail), None)
    return Failure(failure.message, failure.detail, hint) if hint else failure
