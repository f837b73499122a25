"""What Omnibus leaves on disk, read as its owners read it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import omnibus_files
from gitlab_mm_backup.system import files
from tests.unit.helpers.trees import SECRET, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# versions


@pytest.mark.parametrize(
    ("built", "version"),
    [("18.11.9", "18.11.9"), ("18.11.9+ce.0", "18.11.9"), ("10.5.8", "10.5.8")],
)
def test_the_version_of_gitlab(built: str, version: str, tree: Tree) -> None:
    tree.write_json(omnibus_files.VERSION_MANIFEST, {"build_version": built})
    tree.write("opt/gitlab/embedded/service/gitlab-rails/VERSION", "1.0.0\n")
    assert omnibus_files.gitlab_version(tree.root) == version


@pytest.mark.parametrize("manifest", [None, "", "{", "[]", "{}", '{"build_version": 7}'])
def test_the_version_of_gitlab_is_in_a_second_place(manifest: str | None, tree: Tree) -> None:
    if manifest is not None:
        tree.write(omnibus_files.VERSION_MANIFEST, manifest)
    assert omnibus_files.gitlab_version(tree.root) == ""
    tree.write("opt/gitlab/embedded/service/gitlab-rails/VERSION", "11.3.4\n")
    assert omnibus_files.gitlab_version(tree.root) == "11.3.4"


@pytest.mark.parametrize(
    ("file", "software", "version"),
    [
        ("10.11.20\n", {}, "10.11.20"),
        ("10.11.20\n", {"mattermost": {"locked_version": "v9.9"}}, "10.11.20"),
        (None, {"mattermost": {"locked_version": "v4.6.2"}}, "4.6.2"),
        (None, {"mattermost": {"locked_version": None}}, ""),
        (None, {"mattermost": "v4.6.2"}, ""),
        (None, [], ""),
        (None, {}, ""),
    ],
)
def test_the_version_of_mattermost(
    file: str | None, software: object, version: str, tree: Tree
) -> None:
    tree.write_json(omnibus_files.VERSION_MANIFEST, {"software": software})
    if file is not None:
        tree.write(f"{omnibus_files.EMBEDDED_MATTERMOST}/VERSION", file)
    assert omnibus_files.bundled_mattermost(tree.root) == version


# Chef's nodes


def write_node(tree: Tree, name: str, document: Any, age: int = 0) -> None:
    path = tree.write_json(f"{omnibus_files.NODES}/{name}", document)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_normal_attributes_lie_over_defaults_key_by_key(tree: Tree) -> None:
    document = {
        "default": {"mattermost": {"home": "/default", "env": {"A": "1", "B": "2"}}, "x": 1},
        "normal": {"mattermost": {"home": "/normal", "env": {"B": "3"}}, "list": [1]},
        "automatic": {"mattermost": {"home": "/ohai"}},
    }
    write_node(tree, "any.json", document)
    assert omnibus_files.attributes(tree.root) == {
        "mattermost": {"home": "/normal", "env": {"A": "1", "B": "3"}},
        "x": 1,
        "list": [1],
    }


def test_lists_and_nothing_replace_what_is_below(tree: Tree) -> None:
    document = {"default": {"a": [1, 2], "b": {"c": 1}}, "normal": {"a": [3], "b": None}}
    write_node(tree, "any.json", document)
    assert omnibus_files.attributes(tree.root) == {"a": [3], "b": None}


def test_this_host_s_node_counts_though_another_is_newer(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "git.example.org")
    write_node(tree, "git.example.org.json", {"normal": {"this": True}}, age=900)
    write_node(tree, "other.json", {"normal": {"other": True}})
    assert omnibus_files.attributes(tree.root) == {"this": True}


def test_of_foreign_nodes_the_newest_counts(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "renamed.example.org")
    write_node(tree, "a.json", {"normal": {"old": True}}, age=900)
    write_node(tree, "b.json", {"normal": {"new": True}})
    write_node(tree, "c.json", {"normal": {"older": True}}, age=1800)
    assert omnibus_files.attributes(tree.root) == {"new": True}


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"default": {"a": 1}}', '{"normal": null}']
)
def test_nodes_without_normal_attributes_tell_nothing(text: str | None, tree: Tree) -> None:
    if text is not None:
        tree.write(f"{omnibus_files.NODES}/any.json", text)
    assert omnibus_files.attributes(tree.root) == {}


def test_public_attributes(tree: Tree) -> None:
    assert omnibus_files.public_attributes(tree.root) == {}
    tree.write(omnibus_files.PUBLIC_ATTRIBUTES, '{"postgresql": {"port": 5433}}')
    assert omnibus_files.public_attributes(tree.root) == {"postgresql": {"port": 5433}}


# files of shell assignments and YAML


def test_the_psql_rc_is_read_as_a_shell_would(tree: Tree) -> None:
    tree.write(
        omnibus_files.PSQL_RC,
        "psql_user='gitlab-psql'\npsql_host=\"/var/opt/a b\"\npsql_port=5432\n"
        "# psql_dbname='comment'\npsql_group=\nexport x\nbad='unclosed\nwith blank = 1\n"
        "evil='$(touch /tmp/x)' ; touch /tmp/y\n",
    )
    found = omnibus_files.psql_rc(tree.root)
    assert found.pop("evil") == "$(touch /tmp/x)"
    assert found == {
        "psql_user": "gitlab-psql",
        "psql_host": "/var/opt/a b",
        "psql_port": "5432",
        "psql_group": "",
    }


def test_without_a_psql_rc_nothing_is_known(tree: Tree) -> None:
    assert omnibus_files.psql_rc(tree.root) == {}


@pytest.mark.parametrize("text", ["", "[", "a: b", "production:\n", "production: [1]\n", "- 1\n"])
def test_a_gitlab_yml_without_production_tells_nothing(text: str, tree: Tree) -> None:
    assert omnibus_files.production(tree.root) == {}
    tree.write(omnibus_files.GITLAB_YML, text)
    assert omnibus_files.production(tree.root) == {}


def test_gitlab_yml_s_production_section(tree: Tree) -> None:
    tree.write(omnibus_files.GITLAB_YML, "production: &base\n  gitlab: {host: h}\ntest: *base\n")
    assert omnibus_files.production(tree.root) == {"gitlab": {"host": "h"}}


# the environment folder

CASES = {
    "PLAIN": b"value",
    "ENDED": b"value\n",
    "SECOND_LINE": b"first\nsecond\n",
    "BLANKS": b"  kept before, gone after \t \n",
    "EMPTY": b"",
    "NUL": b"one\0two",
    "LATIN1": b"caf\xe9",
    "UNICODE": "Grüße".encode(),
    "EQUALS": b"a=b=c",
}


def test_variables_are_the_first_lines_of_files(tree: Tree) -> None:
    for name, content in CASES.items():
        tree.write(tree.env / name, content)
    tree.write(tree.env / ".hidden", "x")
    tree.write(tree.env / "with=equals", "x")
    (tree.env / "folder").mkdir()
    found = {name: value.reveal() for name, value in omnibus_files.environment(tree.env).items()}
    assert found == {
        "PLAIN": "value",
        "ENDED": "value",
        "SECOND_LINE": "first",
        "BLANKS": "  kept before, gone after",
        "NUL": "one\ntwo",
        "LATIN1": "caf\udce9",
        "UNICODE": "Grüße",
        "EQUALS": "a=b=c",
    }
    assert list(found) == sorted(found)


def test_a_carriage_return_is_part_of_the_value(tree: Tree) -> None:
    """As chpst(8) takes it from a file that an editor of another system has written."""
    tree.write(tree.env / "X", b"value\r\n")
    assert omnibus_files.environment(tree.env)["X"].reveal() == "value\r"


def test_variables_are_not_shown(tree: Tree) -> None:
    tree.variables(MM_GITLABSETTINGS_SECRET=SECRET)
    assert SECRET not in repr(omnibus_files.environment(tree.env))


def test_an_environment_folder_that_is_missing_is_a_failure(tree: Tree) -> None:
    with pytest.raises(Failure, match="cannot be read"):
        omnibus_files.environment(tree.env)


def test_a_file_that_cannot_be_read_is_a_failure_without_its_text(tree: Tree) -> None:
    loop = tree.write("place", "").with_name("loop")
    loop.symlink_to("loop")
    with pytest.raises(Failure, match="loop cannot be read"):
        files.first_line(loop)


def test_first_lines(tree: Tree) -> None:
    assert files.first_line(tree.root / "missing") == ""
    assert files.first_line(tree.write("x", " 1.2 \nrest")) == "1.2"
    assert files.first_line(tree.root / "x" / "below a file") == ""
