"""GitLab's forms of a stored OAuth secret."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitlab_mm_backup.sso.stored_secret import Form, form_of, matches, store
from gitlab_mm_backup.system.redaction import Secret

EXAMPLE = "gitlab-mm-backup-example-secret"
# Made with Python's hashlib and compared with a GitLab; the salted one is in the spec of the gem
# devise-pbkdf2-encryptable.
VECTORS = [
    (
        EXAMPLE,
        "$pbkdf2-sha512$20000$$S.JvcwU9POo3HfdHyYMEuDawMNJnIGMg1ZzWsMdPn0WZB62S7L2XfJRPV7WCA"
        "/BOlNty9BQSqf/vwrTPQV.20A",
        Form.PBKDF2,
    ),
    (
        EXAMPLE,
        "117079a7cebb87d8e9f92f45ba20729ec75e3b15c7a207999a647508546a3fce"
        "575bd894e9e88b5cb5de50676a2bc40836754527fb5cbbce0826334a0982e483",
        Form.SHA512,
    ),
    (
        "password",
        "$pbkdf2-sha512$20000$boHGAw0hEyI$DBA67J7zNZebyzLtLk2X9wRDbmj1LNKVGnZLYyz6PGrIDGIl45fl"
        "/BPH0y1TPZnV90A20i.fD9C3G9Bp8jzzOA",
        Form.PBKDF2,
    ),
    (EXAMPLE, EXAMPLE, Form.PLAIN),
]
DIGEST = VECTORS[0][1].rpartition("$")[2]
PLAIN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=16)


@pytest.mark.parametrize(("secret", "stored", "form"), VECTORS)
def test_vectors(secret: str, stored: str, form: Form) -> None:
    assert form_of(stored) is form
    assert matches(stored, Secret(secret)) is True
    assert matches(stored, Secret(secret + "x")) is False
    assert matches(stored, Secret("")) is False


@pytest.mark.parametrize(
    ("secret", "stored", "form"), [vector for vector in VECTORS if vector[0] == EXAMPLE]
)
def test_secrets_are_stored_as_gitlab_stores_them(secret: str, stored: str, form: Form) -> None:
    assert store(Secret(secret), form) == stored


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "short",
        "fifteen-letters",
        "x" * 128,
        "has a blank in its middle",
        "ünïcödé-secret-of-many-letters",
        "A" * 127 + "\n",
        VECTORS[1][1].upper(),
        VECTORS[1][1][:-1] + "g",
        VECTORS[1][1] + "\n",
        VECTORS[0][1] + "\n",
        VECTORS[0][1][:-1],
        VECTORS[0][1] + "A",
        VECTORS[0][1].replace("sha512", "sha256"),
        f"$pbkdf2-sha512$0$${DIGEST}",
        f"$pbkdf2-sha512$1000001$${DIGEST}",
        f"$pbkdf2-sha512$99999999999999$${DIGEST}",
        f"$pbkdf2-sha512$-1$${DIGEST}",
        f"$pbkdf2-sha512$$${DIGEST}",
        f"$pbkdf2-sha512$20000$sa+lt${DIGEST}",
        f"$pbkdf2-sha512$20000${DIGEST}",
        "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
    ],
)
def test_unknown_forms_are_neither_right_nor_wrong(stored: str) -> None:
    assert form_of(stored) is Form.UNKNOWN
    assert matches(stored, Secret(stored)) is None
    assert matches(stored, Secret(EXAMPLE)) is None


@pytest.mark.parametrize("rounds", [1, 1000000])
def test_the_fewest_and_the_most_rounds_that_are_tried(rounds: int) -> None:
    assert form_of(f"$pbkdf2-sha512${rounds}$${DIGEST}") is Form.PBKDF2


@pytest.mark.parametrize("size", range(12))
def test_a_salt_of_any_length_counts(size: int) -> None:
    """Its base64 comes without the padding."""
    salt = bytes(range(100, 100 + size))
    digest = hashlib.pbkdf2_hmac("sha512", EXAMPLE.encode(), salt, 2)
    told = [
        base64.b64encode(data).decode().rstrip("=").replace("+", ".") for data in (salt, digest)
    ]
    stored = f"$pbkdf2-sha512$2${told[0]}${told[1]}"
    assert matches(stored, Secret(EXAMPLE)) is True
    assert matches(stored, Secret("another")) is False


def test_a_salt_that_is_no_base64_is_taken_as_none() -> None:
    """One letter more than a multiple of four holds no whole byte."""
    assert matches(VECTORS[0][1].replace("$$", "$A$"), Secret(EXAMPLE)) is True


def test_nothing_is_stored_in_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="unknown form"):
        store(Secret(EXAMPLE), Form.UNKNOWN)


def test_the_number_of_rounds_and_the_salt_count() -> None:
    digest = hashlib.pbkdf2_hmac("sha512", EXAMPLE.encode(), b"NaCl", 7)
    encoded = base64.b64encode(digest).decode().rstrip("=").replace("+", ".")
    assert matches(f"$pbkdf2-sha512$7$TmFDbA${encoded}", Secret(EXAMPLE)) is True
    assert matches(f"$pbkdf2-sha512$8$TmFDbA${encoded}", Secret(EXAMPLE)) is False
    assert matches(f"$pbkdf2-sha512$7$${encoded}", Secret(EXAMPLE)) is False


@settings(max_examples=8)
@given(st.text(), st.text(), st.sampled_from([Form.PBKDF2, Form.SHA512]))
def test_a_hashed_secret_matches_itself_alone(one: str, other: str, form: Form) -> None:
    stored = store(Secret(one), form)
    assert form_of(stored) is form
    assert matches(stored, Secret(one)) is True
    assert matches(stored, Secret(other)) is (one == other)
    assert len(one) < 8 or one not in stored


@given(PLAIN.filter(lambda text: len(text) < 128), PLAIN)
def test_a_plain_secret_matches_itself_alone(one: str, other: str) -> None:
    stored = store(Secret(one), Form.PLAIN)
    assert form_of(stored) is Form.PLAIN
    assert matches(stored, Secret(one)) is True
    assert matches(stored, Secret(other)) is (one == other)


@given(st.text())
def test_whatever_is_stored_gets_an_answer(stored: str) -> None:
    assert (matches(stored, Secret(EXAMPLE)) is None) is (form_of(stored) is Form.UNKNOWN)


@pytest.mark.parametrize("secret", ["latin1-\udce9-of-a-file", "half-a-pair-\ud800"])
@pytest.mark.parametrize("stored", [stored for _, stored, _ in VECTORS])
def test_a_secret_that_is_no_unicode_is_wrong_like_any_other(stored: str, secret: str) -> None:
    assert matches(stored, Secret(secret)) is False
