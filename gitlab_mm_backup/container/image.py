"""Which GitLab an image holds, before a container of it runs."""

from __future__ import annotations

import re
import shutil

from ..errors import Failure
from ..system import process
from ..system.process import PATH, Command
from .engine import CLIENTS

_SECONDS = 120  # for a container that prints a file
_MANIFEST = "/opt/gitlab/version-manifest.txt"  # "gitlab-ce 18.11.9"
_NAMED = re.compile(r"gitlab-[a-z]+ (\d[\w.+~-]*)")
_TAG = re.compile(r":(\d+\.\d+\.\d+[\w.-]*)$")
_REFERENCE = re.compile(r"[A-Za-z0-9][\w./:@-]*")  # no option of a client


def gitlab_version(reference: str) -> str:
    """Return the version of GitLab in an image: from a file in it, or else from its tag.

    GitLab's images have no label with it. "" where the image is not on this host and its tag, as
    latest, has no number. Raises Failure for what is no image.
    """
    if not _REFERENCE.fullmatch(reference):
        raise Failure(
            "This is no name of an image", ascii(reference), "As in: gitlab/gitlab-ce:TAG."
        )
    for client in CLIENTS:
        if shutil.which(client, path=PATH) and (found := _inside(client, reference)):
            return found
    tag = _TAG.search(reference)
    return tag[1] if tag else ""


def _inside(client: str, reference: str) -> str:
    """Return the version that an image on this host has in it, "" where that is not to be had."""
    shown = ("run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "cat")
    try:
        process.run(Command([client, "image", "inspect", reference]), timeout=_SECONDS)
        done = process.run(Command([client, *shown, reference, _MANIFEST]), timeout=_SECONDS)
    except Failure:
        return ""
    found = _NAMED.match(done.out)
    return found[1] if found else ""
