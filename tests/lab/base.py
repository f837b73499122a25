"""What labs stand on, kept in build/: the base layer of Debian packages, and our own package.

`python3 -m tests.lab.base` builds both and prints their paths.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.disks import CHECKOUT
from tests.lab.errors import CommandFailed, LabError
from tests.lab.fakes import postgresql
from tests.lab.sandbox import Lab

BUILD = CHECKOUT / "build"
PACKAGE_LIST = Path(__file__).with_name("packages.txt")
#: What the layer depends on: the machine below it, the list, and the recipe in this file and in that of the cluster.
BASE_INPUTS = (
    PACKAGE_LIST,
    Path(__file__),
    Path(postgresql.__file__),
    Path("/etc/os-release"),
    Path("/var/lib/dpkg/status"),
)
NOT_IN_BASE = ("lab", "etc/hosts", "etc/hostname", "var/cache/apt", "var/lib/apt/lists", "var/log")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
APT_INSTALL = (
    "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-unsafe-io",
    "-o", "Dpkg::Options::=--path-exclude=/usr/share/doc/*",
    "-o", "Dpkg::Options::=--path-exclude=/usr/share/locale/*",
    "install", "-y", "--no-install-recommends",
)  # fmt: skip
FRESH_LISTS = 24 * 3600  # seconds


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which stays; another builder waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Print why it takes long."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def build_base() -> Path:
    """The base layer as an archive; built anew when the machine or the package list changed."""
    digest = hashlib.sha256()
    for path in BASE_INPUTS:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    archive = BUILD / "lab" / f"base-{digest.hexdigest()[:16]}.tar.zst"
    with locked(BUILD / "lab/lock"):
        if not archive.exists():
            for old in archive.parent.glob("base-*"):
                old.unlink()
            say("installing Debian packages into the base layer of the labs (once, about a minute)")
            staging = archive.with_suffix(".partial")
            _install_base(staging)
            staging.rename(archive)
    return archive


def listed_packages() -> list[str]:
    lines = PACKAGE_LIST.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _install_base(archive: Path) -> None:
    with Lab(network=True) as lab:
        # 101 is "action forbidden" for invoke-rc.d: no service starts by being installed.
        lab.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        lab.write("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n")
        if not _lists_are_fresh(lab):
            lab.run("apt-get", "-qq", "update", env=apt_environment(), timeout=600)
        apt_install(lab, "-o", "Dpkg::Options::=--force-confold", *listed_packages())
        # man-db's switch: each installation of our package would index every manual page anew.
        lab.path("/var/lib/man-db/auto-update").unlink(missing_ok=True)
        _make_cluster(lab)
        lab.pack_disk(archive, NOT_IN_BASE)


def _make_cluster(lab: Lab) -> None:
    """Run initdb once for all labs; root keeps what it makes, which each lab copies for its own account."""
    cluster = str(postgresql.FRESH_CLUSTER)
    lab.run("install", "--directory", "--owner=postgres", cluster)
    initdb = 'exec /usr/lib/postgresql/*/bin/initdb "$@"'
    options = (*postgresql.INITDB, "--pgdata", cluster)
    lab.run("sh", "-c", initdb, "initdb", *options, user="postgres", env={"LC_ALL": "C.UTF-8"})
    lab.run("chown", "--recursive", "root:root", cluster)


def apt_install(lab: Lab, *words: str) -> str:
    """Install packages from the network, with younger lists if need be; what apt said."""
    command, environment = [*APT_INSTALL, *words], apt_environment()
    try:
        return lab.run(*command, env=environment, timeout=1200).stdout
    except CommandFailed:
        lab.run("apt-get", "-qq", "update", env=environment, timeout=600)
        return lab.run(*command, env=environment, timeout=1200).stdout


def apt_environment() -> dict[str, str]:
    """What apt has to know of this machine's way to the network; it asks nothing."""
    proxies = {name: os.environ[name] for name in PROXIES if name in os.environ}
    return {**proxies, "DEBIAN_FRONTEND": "noninteractive"}


def _lists_are_fresh(lab: Lab) -> bool:
    """Whether the machine's package lists are there and young, so that none is fetched twice."""
    lists = list(lab.path("/var/lib/apt/lists").glob("*_InRelease"))
    return (
        bool(lists) and time.time() - lab.path("/var/lib/apt/lists").stat().st_mtime < FRESH_LISTS
    )


def build_deb(checkout: Path = CHECKOUT, folder: Path = BUILD / "deb") -> Path:
    """The checkout's package, built in a lab from the files that git knows or would add.

    Built again only when one of these files changed; .changes and .buildinfo lie beside it. Raises
    CommandFailed with the output of dpkg-buildpackage.
    """
    base = build_base()
    files = source_files(checkout)
    inputs = _digest_sources(base, checkout, files)
    stamp = folder / "inputs"
    with locked(folder.with_suffix(".lock")):
        if not (stamp.exists() and stamp.read_text(encoding="ascii") == inputs):
            say("building the package")
            staging = folder.with_suffix(".partial")
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            _build_deb_into(staging, base, checkout, files)
            (staging / stamp.name).write_text(inputs, encoding="ascii")
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        return _only_deb(folder)


def _digest_sources(base: Path, checkout: Path, files: list[str]) -> str:
    digest = hashlib.sha256(base.name.encode())
    for name in files:
        path = checkout / name
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        facts = (os.fsencode(name), f"{path.lstat().st_mode:o}".encode(), content)
        for fact in facts:
            digest.update(hashlib.sha256(fact).digest())
    return digest.hexdigest()


def source_files(checkout: Path) -> list[str]:
    """The checkout's files without ignored ones, relative to it.

    Told to, git trusts the checkout of another user, which is what root sees under sudo.
    """
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-C",
        str(checkout),
        "ls-files",
        "-co",
        "--exclude-standard",
        "-z",
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"git ls-files: {done.stderr.decode('utf-8', 'replace').strip()}")
    names = {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}
    return sorted(name for name in names if os.path.lexists(checkout / name))


def _build_deb_into(folder: Path, base: Path, checkout: Path, files: list[str]) -> None:
    with Lab(base=base) as lab:
        copy_source(lab, "/build/source", checkout, files)
        lab.run("dpkg-buildpackage", "-us", "-uc", "-b", cwd="/build/source", timeout=600)
        for product in lab.path("/build").iterdir():
            if product.is_file():
                shutil.copy(product, folder)


def copy_source(lab: Lab, target: str, checkout: Path, files: list[str]) -> None:
    """Put those files of a checkout into a new folder inside."""
    source = lab.path(target)
    source.mkdir(parents=True)
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, source / name, follow_symlinks=False)


def _only_deb(folder: Path) -> Path:
    packages = list(folder.glob("*.deb"))
    if len(packages) != 1:
        raise LabError(
            f"expected one package in {folder}, found {[path.name for path in packages]}"
        )
    return packages[0]


def main() -> None:
    try:
        print(build_base())
        print(build_deb())
    except LabError as error:
        sys.exit(f"lab: {error}")


if __name__ == "__main__":
    main()
