"""The origin of a set: signatures, the keys of this host, and what they prove."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.config import keys, origin
from gitlab_mm_backup.config.origin import Documents, Kind
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.store import inventory
from gitlab_mm_backup.store.local import LocalStore
from gitlab_mm_backup.store.manifest import to_bytes
from gitlab_mm_backup.store.sets import open_set
from tests.unit.helpers.builders import HOST, NAME, make_manifest, make_set

MANIFEST, COPY = b'{"name": "x"}\n', b'{"set": "x"}\n'


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "signing-key.json", tmp_path / "trusted-keys.json"


def signed(**changes: Any) -> tuple[Documents, str]:
    """Return documents that were signed, with changes to their signature, and the fingerprint."""
    private = origin.new_private_key()
    document = json.loads(origin.sign(private, NAME, MANIFEST, COPY)) | changes
    said = Documents(NAME, MANIFEST, json.dumps(document).encode(), COPY)
    return said, origin.fingerprint(origin.public_key(private))


def test_what_was_signed_is_authentic_where_its_key_is_trusted() -> None:
    said, key = signed()
    found = origin.judge(said, {key})
    assert (found.kind, found.key, found.proven) == (Kind.AUTHENTIC, key, True)


def test_a_key_that_nobody_trusts_proves_nothing() -> None:
    said, key = signed()
    found = origin.judge(said, {"0000-1111"})
    assert (found.kind, found.key, found.proven) == (Kind.UNKNOWN, key, False)
    assert key in found.words


def test_a_set_without_a_signature_is_from_before_there_were_any() -> None:
    assert origin.judge(Documents(NAME, MANIFEST, None), ()).kind is Kind.UNSIGNED


def other_manifest(said: Documents) -> Documents:
    return dataclasses.replace(said, manifest=MANIFEST + b" ")


def other_copy(said: Documents) -> Documents:
    return dataclasses.replace(said, copy=COPY + b" ")


def other_name(said: Documents) -> Documents:
    return dataclasses.replace(said, name="1795310001_2026_11_22_10.11.4")


def unsigned_copy(said: Documents) -> Documents:
    assert said.signature is not None
    document = json.loads(said.signature) | {"copy": ""}
    return dataclasses.replace(said, signature=json.dumps(document).encode())


def swapped(said: Documents) -> Documents:
    """Both are signed, but each for what the other is."""
    return dataclasses.replace(said, manifest=COPY, copy=MANIFEST)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_manifest, "manifest.json"),
        (other_copy, "copy.json"),
        (other_name, "is that of"),
        (unsigned_copy, "copy.json"),
        (swapped, "manifest.json"),
    ],
)
def test_what_is_not_as_it_was_signed_is_forged(
    change: Callable[[Documents], Documents], word: str
) -> None:
    said, key = signed()
    found = origin.judge(change(said), {key})
    assert found.kind is Kind.FORGED
    assert word in found.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "AAAA"},
        {"key": "not Base64!"},
        {"key": 3},
        {"manifest": "AAAA"},
        {"manifest": "!" * 88},
        {"more": "x"},
        {"signed": None},
    ],
)
def test_a_signature_of_another_shape_is_forged(changes: dict[str, Any]) -> None:
    said, key = signed(**changes)
    assert origin.judge(said, {key}).kind is Kind.FORGED


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b"null"])
def test_what_is_no_document_is_forged(content: bytes) -> None:
    found = origin.judge(Documents(NAME, MANIFEST, content), ())
    assert (found.kind, found.detail) == (Kind.FORGED, "its signature.json cannot be read")


def test_openssl_verifies_a_signature_too(tmp_path: Path) -> None:
    """As docs/by-hand.md has it."""
    made = origin.sign(origin.new_private_key(), NAME, MANIFEST)
    (tmp_path / "signature.json").write_bytes(made)
    (tmp_path / "manifest.json").write_bytes(MANIFEST)
    script = r"""
        field() { sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}$/\1/p" signature.json | base64 -d; }
        { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; field key; } >key.der
        field manifest >manifest.sig
        openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in "$1" -sigfile manifest.sig
    """
    (tmp_path / "other.json").write_bytes(MANIFEST + b" ")
    for file, good in (("manifest.json", True), ("other.json", False)):
        done = subprocess.run(
            ["sh", "-c", script, "sh", file], cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode == 0) is good, done.stderr


@pytest.mark.parametrize("typed", ["{}", " {} ", "{upper}", "{plain}", "{spaced}"])
def test_a_fingerprint_may_be_typed_in_any_grouping(typed: str) -> None:
    key = "0123-4567-89ab-cdef-0123-4567-89ab-cdef"
    spelt = typed.format(
        key, upper=key.upper(), plain=key.replace("-", ""), spaced=key.replace("-", " ")
    )
    assert origin.typed_fingerprint(spelt) == key


@pytest.mark.parametrize("typed", ["", "0123", "x" * 32, "0" * 33])
def test_what_is_no_fingerprint_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        origin.typed_fingerprint(typed)


# the keys of a host


def test_a_host_has_one_key_that_is_roots_alone(files: tuple[Path, Path]) -> None:
    made = keys.own("one", *files)
    assert keys.own("one", *files) == made
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert made.private.reveal() not in repr(made)


def test_a_copy_of_a_host_gets_another_key_and_trusts_the_former(files: tuple[Path, Path]) -> None:
    first = keys.own("one", *files)
    second = keys.own("two", *files)
    assert second.fingerprint != first.fingerprint
    assert keys.ring(*files).trusted == {first.fingerprint, second.fingerprint}


def test_a_key_is_trusted_until_it_is_not(files: tuple[Path, Path]) -> None:
    key = "0123-4567-89ab-cdef-0123-4567-89ab-cdef"
    assert keys.trust_typed(key.upper().replace("-", " "), files[1]) == key
    assert keys.ring(*files).trusted == {key}
    assert keys.distrust(key, files[1]) == key
    assert keys.ring(*files).trusted == frozenset()
    with pytest.raises(Failure, match="not a key that this host trusts") as caught:
        keys.distrust(key, files[1])
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"host": "a", "private": "AA", "since": 1}'])
def test_a_file_that_cannot_be_read_is_told(content: str, files: tuple[Path, Path]) -> None:
    for path in files:
        path.write_text(content)
    with pytest.raises(Failure, match=r"signing-key\.json cannot be read"):
        keys.own("one", *files)
    files[0].unlink()
    with pytest.raises(Failure, match=r"trusted-keys\.json cannot be read"):
        keys.ring(*files)


# whose a set is


def ring_of(host: str, files: tuple[Path, Path]) -> keys.Ring:
    keys.own(host, *files)
    return keys.ring(*files)


def test_a_set_of_the_store_is_signed_and_stays_readable(
    tmp_path: Path, files: tuple[Path, Path]
) -> None:
    key = keys.own(HOST.id, *files)
    store = LocalStore(tmp_path / "sets")
    with store.create(NAME) as staging:
        store.complete(staging, make_manifest(parts={}), None, key.sign)
    again = open_set(tmp_path / "sets" / NAME)
    assert inventory.origin_of(again, keys.ring(*files)).proven


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("signs", [True, False])
def test_from_elsewhere_this_hosts_own_sets_have_its_signature(
    elsewhere: bool, signs: bool, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    """A set of the store may be from a time when this host had no key."""
    ring = ring_of(HOST.id, files)
    stranger = keys.own(HOST.id, tmp_path / "a", tmp_path / "b")
    manifest = make_manifest(started="2100-01-01T00:00:00Z")
    data = to_bytes(manifest)
    said = Documents(NAME, data, stranger.sign(NAME, data) if signs else None)
    found = ring.origin(manifest.host_id, manifest.made, said, elsewhere=elsewhere)
    harmless = Kind.UNKNOWN if signs else Kind.UNSIGNED
    assert found.kind is (Kind.FORGED if elsewhere else harmless)


def test_what_is_older_than_the_key_or_of_another_host_need_not_have_it(
    files: tuple[Path, Path],
) -> None:
    ring = ring_of(HOST.id, files)
    for changes in ({"started": "2020-01-01T00:00:00Z"}, {"host_id": "f" * 32}):
        manifest = make_manifest(**{"started": "2100-01-01T00:00:00Z", **changes})
        said = Documents(NAME, to_bytes(manifest), None)
        assert (
            ring.origin(manifest.host_id, manifest.made, said, elsewhere=True).kind is Kind.UNSIGNED
        )


def test_a_forged_set_is_not_this_hosts(tmp_path: Path) -> None:
    set_ = make_set(tmp_path)
    assert inventory.own_sets(HOST, [set_]) == [set_]
    (set_.path / origin.SIGNATURE).write_bytes(b"{}")
    assert inventory.own_sets(HOST, [set_]) == []
