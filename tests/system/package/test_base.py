"""What labs stand on: the package is built from the right files, and only when it has to be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.base import build_base, build_deb, listed_packages, source_files
from tests.lab.sandbox import CommandFailed, Lab

CONTROL = """Source: tiny
Section: misc
Priority: optional
Maintainer: x <x@example.org>
Build-Depends: debhelper-compat (= 13)

Package: tiny
Architecture: all
Depends: ${misc:Depends}
Description: a package for a test
 Nothing else.
"""
CHANGELOG = """tiny (1.0) unstable; urgency=medium

  * First.

 -- x <x@example.org>  Sun, 22 Nov 2026 10:00:00 +0000
"""
FILES = {
    "debian/control": CONTROL,
    "debian/changelog": CHANGELOG,
    "debian/rules": "#!/usr/bin/make -f\n%:\n\tdh $@\n",
    "debian/install": "payload usr/share/tiny\n",
    "payload/kept": "kept\n",
    "payload/with blank and é": "kept\n",
    "payload/ignored": "not kept\n",
    ".gitignore": "ignored\n",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of a tiny package with nothing committed."""
    folder = tmp_path / "checkout"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "debian/rules").chmod(0o755)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def contents(deb: Path) -> list[str]:
    listed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=True
    ).stdout
    names = subprocess.run(["tar", "-t"], input=listed, capture_output=True, check=True).stdout
    return [line.rpartition("/")[2] for line in names.decode().splitlines() if "tiny/" in line]


def test_the_package_holds_what_git_would_add(checkout: Path, tmp_path: Path) -> None:
    deb = build_deb(checkout, tmp_path / "deb")
    assert deb.name == "tiny_1.0_all.deb"
    assert "kept" in contents(deb)
    assert "ignored" not in contents(deb)
    assert {path.suffix for path in deb.parent.iterdir()} == {".deb", ".changes", ".buildinfo", ""}
    with Lab(base=build_base()) as lab:
        lab.path("/root").joinpath(deb.name).write_bytes(deb.read_bytes())
        lab.run("apt-get", "install", "-y", f"/root/{deb.name}")
        assert lab.read("/usr/share/tiny/payload/kept") == "kept\n"


def test_the_package_is_built_again_only_after_a_change(checkout: Path, tmp_path: Path) -> None:
    first = build_deb(checkout, tmp_path / "deb").stat()
    assert build_deb(checkout, tmp_path / "deb").stat().st_ino == first.st_ino
    (checkout / "payload/ignored").write_text("changed", encoding="utf-8")
    assert build_deb(checkout, tmp_path / "deb").stat().st_ino == first.st_ino
    (checkout / "payload/new").write_text("new", encoding="utf-8")
    assert "new" in contents(build_deb(checkout, tmp_path / "deb"))


def test_a_failing_build_shows_its_output_and_keeps_the_last_package(
    checkout: Path, tmp_path: Path
) -> None:
    kept = build_deb(checkout, tmp_path / "deb")
    (checkout / "debian/install").write_text("missing-file usr/share/tiny\n", encoding="utf-8")
    with pytest.raises(CommandFailed, match="missing-file"):
        build_deb(checkout, tmp_path / "deb")
    assert kept.exists()


def test_source_files_of_another_users_checkout(checkout: Path) -> None:
    subprocess.run(["git", "-C", str(checkout), "add", "payload/kept"], check=True)
    for folder, _, names in os.walk(checkout):
        for name in [".", *names]:
            os.chown(Path(folder, name), 1234, 1234)
    (checkout / "payload/kept").unlink()
    assert source_files(checkout) == sorted(set(FILES) - {"payload/kept", "payload/ignored"})


def test_the_base_layer_is_built_once() -> None:
    first = build_base()
    assert build_base() == first
    assert [path.name for path in first.parent.glob("base-*")] == [first.name]
    assert "postgresql" in listed_packages()
