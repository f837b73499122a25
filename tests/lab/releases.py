"""Other releases of Debian than the machine's own: minimal root file systems, kept in build/."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.lab.base import BUILD, apt_environment, locked, say
from tests.lab.errors import LabError
from tests.lab.sandbox import SEARCH_PATH

DEBIAN = "http://deb.debian.org/debian"
# apt's lists stay, so that packages can be installed; a lab needs no translations.
OPTIONS = (
    "--quiet", "--variant=apt", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)  # fmt: skip


def mirror() -> str:
    """Where this machine's own packages come from, which has the other releases too."""
    query = ("apt-get", "indextargets", "--format", "$(REPO_URI)")
    mine = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    done = subprocess.run(
        [*query, *mine], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return next(iter(done.stdout.split()), DEBIAN)


def build_root(suite: str) -> Path:
    """The root file system of a release as an archive, with apt and no more than that needs.

    Made by mmdebstrap(1), once per checkout; raises LabError with what that says.
    """
    source = mirror()
    recipe = hashlib.sha256(" ".join((source, *OPTIONS)).encode()).hexdigest()[:8]
    archive = BUILD / "lab" / f"root-{suite}-{recipe}.tar.zst"
    with locked(BUILD / f"lab/lock-{suite}"):
        if not archive.exists():
            say(f"making a minimal {suite} (once, about 15 seconds)")
            staging = archive.with_name(f"partial-{archive.name}")
            done = subprocess.run(
                ["mmdebstrap", *OPTIONS, suite, str(staging), source],
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **apt_environment()},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise LabError(f"mmdebstrap {suite}: {done.stderr.strip()}")
            staging.rename(archive)
    return archive
