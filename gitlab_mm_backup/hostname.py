"""What people call this host; for messages alone, since nothing about a name is certain."""

from __future__ import annotations

import socket


def short() -> str:
    """Return the name that the host has itself, without asking anybody."""
    return socket.gethostname()


def own() -> str:
    """Return the host's full name, or the name that it has itself where DNS has no other.

    Debian's usual hosts file gives every server the full name localhost.
    """
    try:
        name = socket.getfqdn()
    except (OSError, UnicodeError):  # a label of 64 letters, or an empty one (RFC 1035)
        name = ""
    return socket.gethostname() if name.partition(".")[0] in ("", "localhost") else name
