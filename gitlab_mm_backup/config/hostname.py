"""What this host is called: its full name, and what people call it, neither of which is certain."""

from __future__ import annotations

import socket


def short() -> str:
    """Return the name that the host has itself, without asking anybody."""
    return socket.gethostname()


def full() -> str:
    """Return the full name as socket.getfqdn, or the host's own where DNS cannot be asked for that.

    Linux takes names that DNS does not: of 64 letters, or with an empty label (RFC 1035).
    """
    try:
        return socket.getfqdn()
    except (OSError, UnicodeError):
        return socket.gethostname()


def own() -> str:
    """Return the host's full name, or the name that it has itself where DNS has no other.

    Debian's usual hosts file gives every server the full name localhost. For messages alone.
    """
    name = full()
    return socket.gethostname() if name.partition(".")[0] in ("", "localhost") else name
