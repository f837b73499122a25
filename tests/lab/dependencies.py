"""What bullseye lacks of our dependencies, as Debian packages, made by stdeb(1) from PyPI's source archives.

`make deb-deps` builds them into build/deb-deps, installs them with our own package on a minimal bullseye,
and shows that it runs there. psycopg 3 came with bookworm, and so did click 8.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.lab.base import BUILD, apt_install, build_deb, say
from tests.lab.errors import LabError
from tests.lab.releases import build_root
from tests.lab.sandbox import Lab

SUITE = "bullseye"
TOOLS = (
    "build-essential",
    "debhelper",
    "dh-python",
    "fakeroot",
    "python3-all",
    "python3-stdeb",
    "python3-wheel",
)
MAINTAINER = "gitlab-mm-backup authors <gitlab-mm-backup@example.org>"
# Flit's metadata as setuptools wants it: stdeb knows no other builder.
SHIM = """\
from setuptools import setup
setup(name={name!r}, version={version!r}, package_dir={{"": "src"}}, py_modules=[{module!r}])
"""


@dataclass(frozen=True)
class Source:
    """A project on PyPI; `depends` are what stdeb does not find by itself, `module` is that of a flit project."""

    name: str
    version: str
    depends: str = ""
    module: str = ""

    @property
    def settings(self) -> str:
        """What stdeb.cfg says of it; ~ sorts below the version that a later Debian has."""
        lines = [f"[{self.name}]", "Debian-Version: 0~gmb1", f"Suite: {SUITE}"]
        return "\n".join([*lines, *([f"Depends3: {self.depends}"] if self.depends else [])]) + "\n"


SOURCES = (
    Source("typing_extensions", "4.12.2", module="typing_extensions"),
    Source("psycopg", "3.1.20", "libpq5, python3-typing-extensions (>= 4.1)"),
    Source("click", "8.1.3"),
)


def download(source: Source, folder: Path) -> Path:
    """Fetch the source archive with pip; raises LabError."""
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-binary", ":all:", "--dest", str(folder)),
        f"{source.name}=={source.version}",
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"pip download {source.name}: {done.stderr.strip()}")
    (archive,) = folder.glob(f"{source.name}-{source.version}*.tar.gz")
    return archive


def build(lab: Lab, source: Source, archive: Path) -> str:
    """Make a package of it inside; gives the package's path."""
    out = f"/build/out/{source.name}"  # stdeb wants each its own
    lab.run("mkdir", "-p", out)
    packed = f"/build/{source.name}-{source.version}.tar.gz"
    lab.path(packed).write_bytes(archive.read_bytes())
    lab.write("/build/stdeb.cfg", source.settings)
    if source.module:
        tree = f"/build/{source.name}-{source.version}"
        lab.run("tar", "-xzf", packed, "-C", "/build")
        shim = SHIM.format(name=source.name, version=source.version, module=source.module)
        lab.write(f"{tree}/setup.py", shim)
        lab.run("tar", "-czf", packed, "-C", "/build", Path(tree).name)
    lab.run(
        *("py2dsc-deb", "-x", "/build/stdeb.cfg", "-d", out, "-m", MAINTAINER, packed),
        env={"DEB_BUILD_OPTIONS": "nocheck", "SOURCE_DATE_EPOCH": "1763769600"},
        timeout=600,
    )
    name = source.name.replace("_", "-")
    (made,) = lab.path(out).glob(f"python3-{name}_{source.version}-*.deb")
    return f"{out}/{made.name}"


def main() -> None:
    """Build all of them, and try them with our package where none of the tools is."""
    target = BUILD / "deb-deps"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    deb, root = build_deb(), build_root(SUITE)
    with Lab(root=root, network=True) as lab:
        say(f"installing stdeb into a minimal {SUITE}")
        apt_install(lab, *TOOLS)
        for source in SOURCES:
            say(f"building {source.name} {source.version}")
            made = build(lab, source, download(source, target))
            shutil.copy(lab.path(made), target)
    packages = sorted(target.glob("*.deb"))
    with Lab(root=root, network=True) as lab:
        say(f"installing them with our own package into another minimal {SUITE}")
        for path in (*packages, deb):
            shutil.copy(path, lab.path("/root") / path.name)
        names = [f"/root/{path.name}" for path in (*packages, deb)]
        apt_install(lab, *names)
        for words in (("gitlab-mm", "--version"), ("gitlab-mm", "doctor")):
            done = lab.run(*words, check=False)
            print(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}", end="")
            if "Traceback" in done.stderr or not done.stdout:
                raise LabError(f"{' '.join(words)} does not run on {SUITE}")
    for path in packages:
        print(path)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"lab: {error}")
