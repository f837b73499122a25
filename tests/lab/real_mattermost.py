"""A real Mattermost in the place of the lab's stand-in.

    with Lab(base=base) as lab:
        mattermost = RealMattermost(Path("/srv/mattermost-9.11"))
        gitlab = mattermost.installed(lab)

The directory is as in Mattermost's own tarball: bin/mattermost, i18n, templates, fonts, and client where there is one.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab import standalone
from tests.lab.fakes import paths
from tests.lab.fakes.generation import BUNDLED_MATTERMOST, version_tuple
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

PROGRAM = "/opt/gitlab/embedded/bin/mattermost"
SERVICE = "/opt/gitlab/embedded/service/mattermost"
PARTS = ("i18n", "templates", "fonts", "client")
# What the stand-in has made is of no use to a real server.
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION gitlab_mattermost"


@dataclass(frozen=True)
class RealMattermost:
    """A server as its makers wrote it."""

    directory: Path

    @functools.cached_property
    def version(self) -> str:
        """What the program says of itself, such as "9.11.0"."""
        program = [str(self.directory / "bin/mattermost"), "version"]
        # 5 opens a database without the option, 11 does not know it.
        for options in (["--skip-server-start"], []):
            done = subprocess.run(
                program + options, cwd=self.directory, capture_output=True, text=True, check=False
            )
            found = re.search(r"^Version: +(\d+\.\d+\.\d+)", done.stdout, re.MULTILINE)
            if found:
                return found[1]
        raise ValueError(f"{program[0]} does not tell its version: {done.stdout}{done.stderr}")

    @property
    def gitlab(self) -> str:
        """The newest GitLab whose bundled Mattermost is not newer."""
        own = version_tuple(self.version)
        fitting = [
            since for since, mine in BUNDLED_MATTERMOST.items() if version_tuple(mine) <= own
        ]
        return ".".join(map(str, (*fitting[-1], 0, 0)[:3]))

    def installed(self, lab: Lab, **more: object) -> Omnibus:
        """Install Omnibus GitLab with this server, with an empty database, and wait until it answers."""
        gitlab = install(lab, Spec(version=self.gitlab, **more))  # type: ignore[arg-type]
        gitlab.gitlab_ctl("stop", "mattermost")
        gitlab.sql(EMPTY)
        self.put_into(lab)
        gitlab.gitlab_ctl("start", "mattermost")
        gitlab.wait_until_ready(120)
        return gitlab

    def put_into(self, lab: Lab) -> None:
        """Replace the stand-in's program and files; the service must be stopped."""
        program = lab.path(PROGRAM)
        program.unlink()
        shutil.copy2(self.directory / "bin/mattermost", program)
        program.chmod(0o755)
        service = lab.path(SERVICE)
        self._put_parts(service)
        for bundle in (service / "prepackaged_plugins").glob("*"):
            bundle.unlink()  # of no content
        for path in service.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        lab.path(str(paths.CODE / "mattermost-version")).write_text(self.version)
        (service / "VERSION").write_text(f"{self.version}\n")
        manifest = lab.path(str(paths.OPT / "version-manifest.json"))
        text = re.sub(r'("locked_version": )"[\d.]+"', rf'\1"{self.version}"', manifest.read_text())
        manifest.write_text(text)

    def standalone(self, lab: Lab, spec: standalone.Spec) -> standalone.Standalone:
        """Install this server as its own package does, with an empty database; it is not started."""
        made = standalone.install(lab, replace(spec, version=self.version))
        folder = lab.path(spec.folder)
        (folder / "bin/mattermost").unlink()
        shutil.copy2(self.directory / "bin/mattermost", folder / "bin/mattermost")
        (folder / "bin/mattermost").chmod(0o755)
        self._put_parts(folder)
        lab.run("chown", "-R", f"{spec.account}:{spec.account}", spec.folder)
        return made

    def _put_parts(self, folder: Path) -> None:
        for name in PARTS:
            if (self.directory / name).is_dir():
                shutil.copytree(self.directory / name, folder / name, dirs_exist_ok=True)
