"""What is packed of links that lead out of /etc/gitlab: what root alone can change."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitlab_mm_backup.backup import parts, targets
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import json_file
from gitlab_mm_backup.store import archive_writer, soundness
from gitlab_mm_backup.system import process
from tests.unit.helpers.builders import make_manifest

NOBODY = 65534


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """An /etc/gitlab as a configuration management makes it, of links, and what they lead to."""
    there, kept = tmp_path / "gitlab", tmp_path / "kept"
    (there / "trusted-certs").mkdir(parents=True)
    (kept / "ssl").mkdir(parents=True)
    for name in ("gitlab.rb", "secrets", "ssl/host.crt", "ssl/host.key", "ca"):
        (kept / name).write_text(f"{name}\n")
    (there / "gitlab.rb").symlink_to(kept / "gitlab.rb")
    (there / "gitlab-secrets.json").symlink_to("../kept/secrets")
    (there / "ssl").symlink_to(kept / "ssl")
    (there / "trusted-certs/ca.crt").symlink_to(kept / "ca")
    (there / "other").symlink_to("gitlab.rb")
    return there


def found(etc: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(etc)): to
        for path, to in targets.find(etc, archive_writer.survey([etc])).items()
    }


ALL = {"gitlab.rb", "gitlab-secrets.json", "ssl/host.crt", "ssl/host.key", "trusted-certs/ca.crt"}


def test_what_root_alone_keeps_is_packed(etc: Path) -> None:
    assert found(etc).keys() == ALL


def test_what_somebody_else_can_change_is_not(etc: Path) -> None:
    kept = etc.parent / "kept"
    os.chown(kept / "gitlab.rb", NOBODY, 0)
    (kept / "secrets").chmod(0o666)
    os.chown(kept / "ssl", NOBODY, 0)
    os.lchown(etc / "trusted-certs/ca.crt", NOBODY, 0)
    assert found(etc) == {}


def test_neither_is_what_is_large_or_no_file(etc: Path) -> None:
    kept = etc.parent / "kept"
    os.truncate(kept / "gitlab.rb", (1 << 20) + 1)
    (kept / "secrets").unlink()
    os.mkfifo(kept / "secrets")
    (kept / "ssl/more").mkdir()  # so that ssl is taken as a whole, or not
    assert found(etc).keys() == {"trusted-certs/ca.crt"}


def test_the_archive_has_files_in_place_of_links(etc: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    sets.mkdir()
    survey = archive_writer.survey([etc])
    instead = targets.find(etc, survey)
    links = [etc / name for name in ("gitlab.rb", "gitlab-secrets.json", "ssl")]
    links.append(etc / "trusted-certs/ca.crt")
    (etc.parent / "kept/ssl/host.key").chmod(0o600)
    archive = sets / "etc-gitlab.tar.zst"
    settings = Settings(Path("/unused"), None)
    parts.pack(settings, archive, survey, links, instead=instead)
    assert list(sets.iterdir()) == [archive]
    tar = process.Command(["tar", "--extract", "--zstd", "--directory", str(sets)])
    with open(archive, "rb") as packed:
        process.run(tar, stdin=packed)
    out = sets / str(etc).lstrip("/")
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        *ALL,
        "other",
    }
    assert (out / "other").is_symlink() and not (out / "ssl").is_symlink()
    assert (out / "ssl/host.key").read_text() == "ssl/host.key\n"
    assert (out / "ssl/host.key").stat().st_mode & 0o777 == 0o600
    assert targets.without(survey, instead).links_out == {}
    told = targets.replaced(etc, out, etc / "config_backup")
    assert len(told) == 4 and "was a link to '../kept/secrets'" in " ".join(told)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_a_config_json_that_is_a_link_is_read_with_the_rights_of_its_directory(
    place: Path,
) -> None:
    """Who owns the directory can have the link lead anywhere: also to what root alone can read."""
    home, managed = place / "home", place / "managed.json"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    managed.write_text(json.dumps({"ServiceSettings": {"SiteURL": "https://chat"}}))
    (home / "config.json").symlink_to(managed)
    found = json_file.read_config(home / "config.json").document
    assert found == {"ServiceSettings": {"SiteURL": "https://chat"}}
    managed.chmod(0o600)
    with pytest.raises(Failure, match="Permission denied"):
        json_file.read_config(home / "config.json")
    managed.chmod(0o644)
    home.chmod(0o777)
    with pytest.raises(Failure, match="other accounts may change"):
        json_file.read_config(home / "config.json")


def test_what_a_set_has_of_gitlab_is_said_as_it_was_packed() -> None:
    made = make_manifest()
    assert soundness.gitlab_settings(made) == ""
    parts = {**made.parts, "etc-gitlab": made.parts["settings"]}
    links = {"/etc/gitlab/a": "/usr/share/a", **made.links}
    told = soundness.gitlab_settings(make_manifest(parts=parts, links=links))
    assert told == "/etc/gitlab without config_backup"
    links["/etc/gitlab/gitlab.rb"] = "../../srv/gitlab.rb"
    told = soundness.gitlab_settings(make_manifest(parts=parts, links=links))
    assert told.endswith("config_backup, but not what /etc/gitlab/gitlab.rb leads to")
