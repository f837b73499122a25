"""Accounts and what they may do: setpriv(1) takes the rest away from a program that we start."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import Failure
from . import confinement
from .sandbox import Sandbox

_PR_SET_DUMPABLE = 4


def prefix(
    account: pwd.struct_passwd | None,
    capabilities: Sequence[str] | None,
    sandbox: Sandbox | None,
    descriptor: Callable[[bytes], int],
) -> list[str]:
    """Return the words before a program's own that give up all that it does not need.

    It becomes ``account``, or as root keeps ``capabilities`` alone; None leaves either as it is.
    ``descriptor`` has the program inherit a file with the bytes that it is given.
    """
    words = ["setpriv", "--no-new-privs", "--pdeathsig=KILL"]
    if sandbox is not None:
        inside = sandbox.argv(descriptor(confinement.filter_()))
        words += ["--", *confinement.words(), *inside, "setpriv"]
    if account is not None:
        words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        words += ["--inh-caps=-all"]
    elif capabilities is not None:
        kept = [f"+{name}" for name in capabilities]
        words += ["--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}"]
    return [*words, "--"]


def to_read_all() -> tuple[str, ...]:
    """Return the capabilities with which root reads every file: the least of those that we have.

    A container has no dac_read_search unless it is given that, and dac_override by default.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"^CapPrm:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(found[1], 16) if found else -1
    for name, number in (("dac_read_search", 2), ("dac_override", 1)):  # capabilities(7)
        if held >> number & 1:
            return (name,)
    return ()


def leave_no_core() -> None:
    """Have no memory of this program, nor of its children, become a core file (core(5))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A handler that the kernel pipes cores to need not heed the limit; prctl(2) it must.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def acting_as(account: str | None) -> Iterator[None]:
    """Have the effective user id of ``account`` for a moment, as peer authentication sees it.

    It holds for all threads of the process, so it may only surround the opening of a
    connection while no other thread works on files.  Raises Failure for an unknown account.
    """
    if account is None:
        yield
        return
    entry = entry_of(account)
    os.setegid(entry.pw_gid)
    try:
        os.seteuid(entry.pw_uid)
        try:
            yield
        finally:
            os.seteuid(0)
    finally:
        os.setegid(0)


def entry_of(account: str) -> pwd.struct_passwd:
    """Return the passwd entry of ``account``; raises Failure when there is none."""
    try:
        return pwd.getpwnam(account)
    except KeyError:
        raise Failure(
            f"There is no account {account} on this host",
            hint="Run gitlab-ctl reconfigure, which creates GitLab's accounts, then try again.",
        ) from None
