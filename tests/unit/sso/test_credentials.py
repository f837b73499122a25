"""The layers that hold the pair: planned, and written only over what was looked at."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import IO

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import json_file, omnibus, omnibus_files
from gitlab_mm_backup.mattermost.site import Site
from gitlab_mm_backup.sso import credentials
from gitlab_mm_backup.sso.credentials import Candidate, Layer
from gitlab_mm_backup.sso.oauth import Application, Pair
from gitlab_mm_backup.sso.stored_secret import Form, store
from gitlab_mm_backup.system.redaction import Secret
from tests.unit.helpers.trees import SECRET, Tree

NEW = Pair("new-id", Secret("new-secret-0123456789"))
NOW = Pair("an-application-id", Secret(SECRET))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path).modern()
    tree.write_json(tree.config, {"GitLabSettings": {"Id": "old", "Secret": "stale"}, "Other": 1})
    tree.write_json(
        "etc/gitlab/gitlab-secrets.json",
        {"mattermost": {"gitlab_id": NOW.id, "gitlab_secret": SECRET}},
    )
    return tree


def layers(tree: Tree) -> dict[str, Layer]:
    found, unreadable = credentials.layers(site(tree))
    assert unreadable == {}
    return {layer.name: layer for layer in found}


def site(tree: Tree) -> Site:
    return omnibus.find(tree.root)


def test_the_layers_of_a_modern_gitlab_the_one_that_wins_first(tree: Tree) -> None:
    found = layers(tree)
    assert list(found) == ["environment", "config.json", "gitlab-secrets.json"]
    assert found["environment"].pair() == found["gitlab-secrets.json"].pair() == NOW
    assert found["config.json"].pair() == Pair("old", Secret("stale"))


def test_gitlab_10_has_no_pair_in_the_environment(tmp_path: Path) -> None:
    tree = Tree(tmp_path).old()
    tree.write_json("etc/gitlab/gitlab-secrets.json", {"mattermost": {}})
    assert list(layers(tree)) == ["config.json", "gitlab-secrets.json"]


@pytest.mark.parametrize("name", ["environment", "config.json", "gitlab-secrets.json"])
def test_a_layer_is_written_and_then_needs_nothing_more(name: str, tree: Tree) -> None:
    layer = layers(tree)[name]
    credentials.write(layer, credentials.plan(layer, NEW))
    again = layers(tree)[name]
    assert again.pair() == NEW
    assert credentials.plan(again, NEW) == []


@pytest.mark.parametrize("name", ["environment", "config.json", "gitlab-secrets.json"])
def test_a_layer_comes_back_byte_for_byte(name: str, tree: Tree) -> None:
    def contents() -> dict[str, bytes]:
        files = [path for path in sorted(tree.root.rglob("*")) if path.is_file()]
        return {str(path): path.read_bytes() for path in files}

    before, layer = contents(), layers(tree)[name]
    operations = credentials.plan(layer, NEW)
    credentials.write(layer, operations)
    assert contents() != before
    credentials.write(credentials.read_again(layer), json_file.inverse(operations))
    assert contents() == before


def test_a_variable_keeps_its_owner_and_mode_and_a_new_one_takes_its_neighbour_s(
    tree: Tree,
) -> None:
    (tree.env / "MM_GITLABSETTINGS_ID").unlink()
    os.chown(tree.env / "MM_GITLABSETTINGS_SECRET", 65534, 12)
    (tree.env / "MM_GITLABSETTINGS_SECRET").chmod(0o640)
    (tree.env / "MM_SERVICESETTINGS_SITEURL").chmod(0o604)
    layer = layers(tree)["environment"]
    credentials.write(layer, credentials.plan(layer, NEW))
    secret = (tree.env / "MM_GITLABSETTINGS_SECRET").stat()
    assert (secret.st_uid, secret.st_gid, secret.st_mode & 0o777) == (65534, 12, 0o640)
    assert (tree.env / "MM_GITLABSETTINGS_ID").stat().st_mode & 0o777 == 0o604


# Between the look and the write GitLab was asked, which can take many seconds; Mattermost runs.


@pytest.mark.parametrize("name", ["config.json", "gitlab-secrets.json"])
def test_what_another_program_wrote_meanwhile_is_not_overwritten(name: str, tree: Tree) -> None:
    layer = layers(tree)[name]
    operations = credentials.plan(layer, NEW)
    now = {**json.loads(layer.path.read_text()), "Meanwhile": "saved in the System Console"}
    tree.write_json(layer.path, now)
    with contextlib.suppress(Failure):
        credentials.write(layer, operations)
    assert json.loads(layer.path.read_text())["Meanwhile"] == "saved in the System Console"


@pytest.mark.parametrize("name", ["environment", "config.json", "gitlab-secrets.json"])
def test_a_pair_that_was_changed_meanwhile_is_not_overwritten(name: str, tree: Tree) -> None:
    layer = layers(tree)[name]
    operations = credentials.plan(layer, NEW)
    other = credentials.plan(layers(tree)[name], Pair("meanwhile", Secret("meanwhile-secret")))
    credentials.write(layers(tree)[name], other)
    with pytest.raises(Failure, match="has changed since it was read"):
        credentials.write(layer, operations)
    assert layers(tree)[name].pair() == Pair("meanwhile", Secret("meanwhile-secret"))


# candidates


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("mattermost['gitlab_id'] = 'a'\nmattermost['gitlab_secret'] = \"b\"\n", ("a", "b")),
        ("  mattermost[ \"gitlab_id\" ]='a' # x\nmattermost['gitlab_secret'] = 'b'\n", ("a", "b")),
        ("mattermost['gitlab_id'] = 'x'\nmattermost['gitlab_id'] = 'a'\n"
         "mattermost['gitlab_secret'] = 'b'\n", ("a", "b")),
        ("# mattermost['gitlab_id'] = 'a'\nmattermost['gitlab_secret'] = 'b'\n", ("", "b")),
        ("mattermost['gitlab_id'] = 'a'\n", ("a", "")),
        ("# mattermost['gitlab_id'] = 'a'\n", None),
        ("mattermost['gitlab_id'] = ENV['A']\nmattermost['gitlab_secret'] = 'b'\n", None),
        ("mattermost['gitlab_id'] = 'a' + 'b'\nmattermost['gitlab_secret'] = 'b'\n", None),
        ("mattermost['gitlab_id'] = \"a#{b}\"\nmattermost['gitlab_secret'] = 'b'\n", None),
    ],
)  # fmt: skip
def test_only_literal_lines_of_gitlab_rb_count(
    text: str, pair: tuple[str, str] | None, tree: Tree
) -> None:
    """A half that is not stated comes from gitlab-secrets.json, as reconfigure has it."""
    tree.write("etc/gitlab/gitlab.rb", text)
    found = credentials.literal_pair(site(tree))
    wanted = Pair(pair[0] or NOW.id, Secret(pair[1] or SECRET)) if pair else None
    assert found == wanted


def test_an_environment_file_of_any_bytes_is_no_crash(tree: Tree) -> None:
    tree.write(tree.env / "MM_GITLABSETTINGS_SECRET", b"caf\xe9-secret-of-latin1")
    found = layers(tree)["environment"]
    rows = [Application(1, "GitLab Mattermost", NOW.id, Secret(SECRET), "", "")]
    candidate = Candidate("environment", found.pair() or NEW)
    assert credentials.verify([candidate], rows)[0].verified is False
    assert found.pair() != NOW
    assert credentials.plan(found, NOW) != []


@pytest.mark.parametrize("form", [Form.PLAIN, Form.SHA512])
def test_verdicts(form: Form) -> None:
    stored = Secret(store(Secret(SECRET), form))
    rows = [
        Application(1, "x", "other", Secret("?"), "", ""),
        Application(2, "GitLab Mattermost", NOW.id, stored, "", ""),
    ]
    candidates = [
        Candidate("right", NOW),
        Candidate("wrong secret", Pair(NOW.id, Secret("x"))),
        Candidate("unknown id", Pair("nobody", Secret(SECRET))),
        Candidate("unknown form", Pair("other", Secret(SECRET))),
    ]
    assert [candidate.verified for candidate in credentials.verify(candidates, rows)] == [
        True,
        False,
        False,
        None,
    ]
    assert {candidate.verified for candidate in credentials.verify(candidates, None)} == {None}
    assert {candidate.verified for candidate in credentials.verify(candidates, [])} == {False}


def tar_of(**contents: bytes) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data.seek(0)
    return data


def from_tar(stream: IO[bytes]) -> list[Candidate]:
    texts = omnibus_files.packed(stream, [omnibus_files.SECRETS])
    return credentials.from_secrets(texts, "archive")


def test_own_backups_are_read_newest_first_as_far_as_readable(tmp_path: Path) -> None:
    good = tar_of(**{omnibus_files.SECRETS: SECRETS, "etc/gitlab/gitlab.rb": b"x = 1"}).read()
    (tmp_path / "gitlab_config_1_2026.tar").write_bytes(good)
    (tmp_path / "gitlab_config_2_2026.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "gitlab_config_3_2026.tar").mkdir()
    found = omnibus_files.own_backups(tmp_path, [omnibus_files.SECRETS])
    assert list(found) == [
        ("gitlab_config_2_2026.tar", {}),
        ("gitlab_config_1_2026.tar", {omnibus_files.SECRETS: SECRETS.decode()}),
    ]


SECRETS = json.dumps({"mattermost": {"gitlab_id": "a", "gitlab_secret": "b"}}).encode()


@pytest.mark.parametrize(
    "name", ["etc/gitlab/gitlab-secrets.json", "/etc/gitlab/gitlab-secrets.json"]
)
def test_candidates_of_an_archive(name: str) -> None:
    found = from_tar(tar_of(**{name: SECRETS, "etc/gitlab/x": b"{}"}))
    assert found == [Candidate("archive", Pair("a", Secret("b")))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar" * 200,
        tar_of(**{"etc/gitlab/gitlab-secrets.json": b"{"}).read(),
        tar_of(**{"etc/gitlab/gitlab-secrets.json": b'{"mattermost": []}'}).read(),
        tar_of(**{"other/gitlab-secrets.json": SECRETS}).read(),
        tar_of(**{"etc/gitlab/gitlab-secrets.json": SECRETS}).read()[:520],
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_damaged_archive_has_no_candidates(data: bytes) -> None:
    assert from_tar(io.BytesIO(data)) == []
