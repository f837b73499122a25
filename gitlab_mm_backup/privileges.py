"""What a program that we start may do: setpriv(1) takes away the rest."""

from __future__ import annotations

import pwd
from collections.abc import Sequence

from .sandbox import Sandbox


def prefix(
    account: pwd.struct_passwd | None, capabilities: Sequence[str] | None, sandbox: Sandbox | None
) -> list[str]:
    """Return the words before a program's own that give up all that it does not need.

    It becomes ``account``, or as root keeps ``capabilities`` alone; None leaves either as it is.
    """
    words = ["setpriv", "--no-new-privs", "--pdeathsig=KILL"]
    if sandbox is not None:
        words += ["--", *sandbox.argv(), "setpriv"]
    if account is not None:
        words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        words += ["--inh-caps=-all"]
    elif capabilities is not None:
        kept = [f"+{name}" for name in capabilities]
        words += ["--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}"]
    return [*words, "--"]
