"""Which host this is: new, the same, a copy, taken over, or another one."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.config import identity
from gitlab_mm_backup.config.identity import Host, Machine
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store import inventory, manifest
from gitlab_mm_backup.store.inventory import SeenHost
from tests.unit.helpers.builders import HOST, make_manifest

HERE, THERE = Machine("a" * 32, "b" * 36), Machine("c" * 32, "d" * 36)
FORMER, ALPHA = "f0" * 16, "a1" * 16


@pytest.fixture
def on(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any state."""
    monkeypatch.setattr(identity, "machine", lambda: HERE)
    identity.FILE.unlink()
    return state


def test_an_id_is_made_once_and_is_roots_alone(on: Path) -> None:
    assert identity.known() == Host("", HERE)
    assert not identity.FILE.exists(), "whoever looks writes nothing"
    made = identity.own()
    assert len(made.id) == 32 and made == identity.own() == identity.known()
    assert os.stat(identity.FILE).st_mode & 0o777 == 0o600
    assert made.owns(made.id) and not made.owns(FORMER) and not made.owns("")


def test_two_hosts_have_two_ids(on: Path) -> None:
    first = identity.own()
    identity.FILE.unlink()
    assert identity.own().id != first.id


@pytest.mark.parametrize(
    "machine", [THERE, replace(HERE, product="x"), replace(HERE, machine_id="y")]
)
def test_a_copy_of_a_host_is_another_one_and_owns_nothing_of_it(
    on: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    original = identity.with_taken_over(replace(identity.own(), installation="x"), FORMER)
    identity.keep(original)
    monkeypatch.setattr(identity, "machine", lambda: machine)
    assert identity.known().original == original.id
    assert not identity.known().owns(original.id)
    copy = identity.own()
    assert copy.id not in (original.id, "") and copy.original == original.id
    assert copy.installation == "x" and copy.machine == machine
    assert not any(copy.owns(id_) for id_ in (original.id, FORMER, ""))
    assert identity.own() == copy
    # A copy of the copy, before anybody has said anything: the first one is still in question.
    monkeypatch.setattr(identity, "machine", lambda: Machine("z", "z"))
    assert identity.own().original == original.id


def test_a_copy_of_a_host_that_made_nothing_is_simply_a_new_one(
    on: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is part of an image that many servers are made from."""
    image = identity.own()
    monkeypatch.setattr(identity, "machine", lambda: THERE)
    server = identity.own()
    assert server.id != image.id and server.original == ""


def test_what_cannot_be_known_of_a_machine_tells_nothing(
    on: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = identity.own()
    for machine in (Machine("", ""), replace(HERE, product=""), replace(HERE, machine_id="")):
        monkeypatch.setattr(identity, "machine", lambda machine=machine: machine)
        assert identity.own() == made


@pytest.mark.parametrize("file", ["nightly", "offsite.json", "rehearsals.jsonl", "runs.json"])
def test_a_host_that_made_sets_before_ids_is_known(on: Path, file: str) -> None:
    (on / file).touch()
    made = identity.own()
    assert made.upgraded and made.owns("") and identity.known() == made
    assert not identity.settled(made).upgraded


def test_what_stands_for_the_id_of_an_old_set(on: Path) -> None:
    old = make_manifest(host_id="", host="git.example.org")
    former = manifest.host_of(old)
    assert not identity.has_id(former) and identity.shown(former) == "git.example.org"
    now = identity.with_taken_over(identity.own(), former)
    assert now.owns(former) and now.owns("") and not now.owns("name:other.example.org")
    assert manifest.host_of(make_manifest()) == HOST.id


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"id": 5}', "\0", "x" * 3000000, '{"id": "../x"}']
)
def test_a_file_that_is_not_ours_is_told(on: Path, content: str) -> None:
    identity.FILE.write_text(content)
    with pytest.raises(Failure, match="cannot be read") as caught:
        identity.own()
    assert "take-over" in caught.value.hint
    assert caught.value.detail == "it is no file of this program"


def test_a_file_that_the_disk_does_not_give_is_told_in_its_words(on: Path) -> None:
    identity.FILE.mkdir()
    with pytest.raises(Failure, match="cannot be read") as caught:
        identity.known()
    assert caught.value.detail == "Is a directory"


def test_the_state_folder_is_made_and_root_s_alone(on: Path) -> None:
    file = on / "lib" / "gitlab-mm-backup" / "host.json"
    umask = os.umask(0)
    try:
        made = identity.own(file)
    finally:
        os.umask(umask)
    assert identity.known(file) == made
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"0123456789abcdef\n", "0123456789abcdef"),
        (b"  0123 \nmore\n", "0123"),
        (b"x" * 99 + b"yz\n", "x" * 99 + "y"),  # a hundred characters are read
        (b"uninitialized\n", ""),  # an image that has not been started yet: machine-id(5)
        (b"\xff\n", ""),
        (b"", ""),
        (None, ""),
    ],
)
def test_what_a_machine_tells_of_itself(
    content: bytes | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, product = tmp_path / "machine-id", tmp_path / "product_uuid"
    if content is not None:
        file.write_bytes(content)
    product.write_text("4C4C4544-0042\n")
    monkeypatch.setattr(identity, "_MACHINE_ID", file)
    monkeypatch.setattr(identity, "_PRODUCT", product)
    assert identity.machine() == Machine(told, "4c4c4544-0042")


def test_a_link_in_its_place_is_not_followed(on: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "host.json"
    identity.keep(HOST, elsewhere)
    identity.FILE.symlink_to(elsewhere)
    with pytest.raises(Failure, match="cannot be read"):
        identity.own()


def test_the_file_holds_the_machine_too(on: Path) -> None:
    identity.own()
    assert json.loads(identity.FILE.read_text())["machine"] == {
        "machine_id": HERE.machine_id,
        "product": HERE.product,
    }


# whose sets are this host's

SEEN = [
    SeenHost(HOST.id, "git", "x", 3, "1795400000_2026_11_23_10.11.4-1f3a9c"),
    SeenHost(FORMER, "git", "x", 9, "1795310000_2026_11_22_10.11.4-f0f0f0"),
    SeenHost(ALPHA, "alpha", "y", 1, "1795310000_2026_11_22_10.11.4-a1a1a1"),
    SeenHost("name:old.example.org", "old.example.org", "", 1, "1795300000_2026_11_22_10.11.4"),
]


@pytest.mark.parametrize(
    ("wanted", "host"),
    [
        (FORMER, FORMER),
        (FORMER[:8], FORMER),
        ("alpha", ALPHA),
        ("old.example.org", "name:old.example.org"),
        ("0123456789abcdef" * 2, "0123456789abcdef" * 2),  # nothing of it lies here yet
    ],
)
def test_a_host_is_taken_over_by_its_id_or_name(wanted: str, host: str) -> None:
    now, taken = inventory.take_over(HOST, SEEN, wanted)
    assert taken == host and now.owns(host) and identity.known() == now


@pytest.mark.parametrize("wanted", ["", "f0", "nobody", HOST.id, "1f3a9c2e"])
def test_whose_sets_are_meant_must_be_clear(wanted: str) -> None:
    with pytest.raises(Failure, match="host") as caught:
        inventory.take_over(HOST, SEEN, wanted)
    assert caught.value.exit_code is ExitCode.USAGE
    assert identity.known() == HOST


def test_the_only_one_in_question_need_not_be_named() -> None:
    assert inventory.take_over(HOST, SEEN[:2], "")[1] == FORMER
    copied = replace(HOST, original=ALPHA)
    now, taken = inventory.take_over(copied, SEEN, "")
    assert taken == ALPHA and now.original == ""


def test_a_new_host_is_none_of_the_others_and_can_change_its_mind() -> None:
    now, others = inventory.new_identity(replace(HOST, original="e" * 32), SEEN)
    assert others == ["e" * 32, FORMER, ALPHA, "name:old.example.org"]
    assert now.id == HOST.id and now.original == "" and inventory.undecided(now, SEEN) == []
    assert inventory.take_over(now, SEEN, FORMER)[0].owns(FORMER)


def test_where_no_other_is_in_question_it_gets_another_id() -> None:
    """As on a copy of a container, whose machine tells nothing."""
    now, others = inventory.new_identity(replace(HOST, took_over=(FORMER,)), SEEN[:2])
    assert others == [] and now.id != HOST.id and now.installation == HOST.installation
    assert not now.owns(HOST.id) and not now.owns(FORMER)
    assert inventory.undecided(now, SEEN[:2]) == []


@given(st.lists(st.sampled_from([FORMER, ALPHA, "name:old.example.org", HOST.id]), max_size=6))
def test_whatever_is_said_a_host_never_loses_its_own(said: list[str]) -> None:
    host = HOST
    for other in said:
        host = identity.with_taken_over(host, other)
        assert host.owns(other) and host.owns(HOST.id) and other not in host.others
        host = identity.apart(host, [ALPHA])
        assert host.owns(HOST.id)


# names


@pytest.mark.parametrize(
    ("full", "short", "name"),
    [
        ("git.example.org", "git", "git.example.org"),
        ("localhost.localdomain", "git", "git"),
        ("localhost", "git", "git"),
        ("", "git", "git"),
    ],
)
def test_a_name_for_people(
    monkeypatch: pytest.MonkeyPatch, full: str, short: str, name: str
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: full)
    monkeypatch.setattr("socket.gethostname", lambda: short)
    assert identity.full_hostname() == name


def test_a_name_that_dns_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        return ("x" * 64).encode("idna").decode()

    monkeypatch.setattr("socket.getfqdn", fail)
    monkeypatch.setattr("socket.gethostname", lambda: "x" * 64)
    assert identity.full_hostname() == "x" * 64
