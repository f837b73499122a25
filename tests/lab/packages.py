"""Small GitLab packages for a lab's real dpkg and apt: what is in them is what dpkg's triggers and apt's hook see."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.lab.sandbox import Lab

OPT = "/opt/gitlab"
MATTERMOST = f"{OPT}/embedded/service/mattermost"
# What GitLab 19's own configuration does to an installed Mattermost.
DISABLES = f"#!/bin/sh\nset -e\nrm -f {OPT}/service/mattermost\n"


@dataclass(frozen=True)
class GitLabPackage:
    """A gitlab-ce package of a version, or a gitlab-ee one."""

    version: str
    name: str = "gitlab-ce"

    @property
    def debian_version(self) -> str:
        return f"{self.version}-{self.name[-2:]}.0"

    @property
    def path(self) -> str:
        return f"/root/{self.name}_{self.version}.deb"

    @property
    def bundles_mattermost(self) -> bool:
        return int(self.version.split(".")[0]) < 19

    def build(self, lab: Lab) -> GitLabPackage:
        """Build it inside; Mattermost's files are those that the lab has, if it has any."""
        tree = f"/root/tree-{self.name}-{self.version}"
        manifest = {"manifest_format": 2, "build_version": self.version}
        lab.write(f"{tree}{OPT}/version-manifest.json", json.dumps(manifest))
        lab.write(f"{tree}{OPT}/version-manifest.txt", f"{self.name} {self.version}\n")
        if self.bundles_mattermost:
            lab.write(f"{tree}{MATTERMOST}/VERSION", "10.11.20\n")
            lab.run(
                "sh", "-c", f"[ ! -d {MATTERMOST} ] || cp -r {MATTERMOST} {tree}{MATTERMOST}/.."
            )
        else:
            lab.write(f"{tree}/DEBIAN/postinst", DISABLES, mode=0o755)
        other = "gitlab-ee" if self.name == "gitlab-ce" else "gitlab-ce"
        control = (
            f"Package: {self.name}\nVersion: {self.debian_version}\nArchitecture: all\n"
            f"Maintainer: Nobody <nobody@example.test>\nConflicts: {other}\nReplaces: {other}\n"
            "Description: stand-in for GitLab\n"
        )
        lab.write(f"{tree}/DEBIAN/control", control)
        lab.run("dpkg-deb", "--build", "--root-owner-group", tree, self.path)
        return self
