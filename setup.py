"""Python side of the package; all that concerns Debian is in debian/.

The version has one home, the newest entry of debian/changelog, so the .deb, the Python metadata
and the version noted in every backup set cannot differ.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

CHANGELOG = Path(__file__).resolve().parent / "debian" / "changelog"


def changelog_version(changelog: Path) -> str:
    """Return the newest version, such as "0.1.0", without what a rebuild appends ("~bpo12+1").

    Such a suffix is a valid Debian version (deb-version(7)) but not a Python one (PEP 440).
    Raises ValueError when the first line is not a changelog heading (deb-changelog(5)).
    """
    with changelog.open(encoding="utf-8") as lines:
        heading = lines.readline()
    match = re.match(r"gitlab-mm-backup \((\d+(?:\.\d+)*)[^)\s]*\) ", heading)
    if match is None:
        raise ValueError(f"{changelog}: no version in the first line: {heading!r}")
    return match.group(1)


setup(
    name="gitlab-mm-backup",
    version=changelog_version(CHANGELOG),
    description="Back up and restore the Mattermost bundled with Omnibus GitLab, sign-in included",
    license="MIT",
    python_requires=">=3.9",
    packages=find_packages(include=["gitlab_mm_backup", "gitlab_mm_backup.*"]),
    package_data={"gitlab_mm_backup": ["**/*.jinja", "**/*.yml"]},
    install_requires=[
        "click>=8",
        "cryptography>=3.3",
        "Jinja2",
        "jsonpatch",
        "psycopg>=3.1",
        "PyYAML",
        "rich",
    ],
    extras_require={"pages": ["markdown-it-py"]},
    entry_points={
        "console_scripts": [
            "gitlab-mm = gitlab_mm_backup.cli.main:main",
            "gitlab-mm-backup = gitlab_mm_backup.cli.main:main_backup",
            "gitlab-mm-restore = gitlab_mm_backup.cli.main:main_restore",
        ]
    },
)
