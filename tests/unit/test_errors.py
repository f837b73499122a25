"""Failures in words: the system's and ours, never Python's."""

from __future__ import annotations

import http.client
import ssl
import urllib.error

import pytest

from gitlab_mm_backup.errors import Failure, reason


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:992)")
    error.verify_message = "self-signed certificate"
    return error


def plain() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Failure("It is full", "no room"), "It is full: no room"),
        (OSError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (OSError(2, "No such file or directory", b"/\xff"), "/\udcff: No such file or directory"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
        (
            urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")),
            "Connection refused",
        ),
        (TimeoutError("timed out"), "there was no answer in time"),
        (
            http.client.RemoteDisconnected("Remote end closed connection"),
            "the connection was closed",
        ),
        (
            urllib.error.URLError(untrusted()),
            "its certificate is not trusted: self-signed certificate",
        ),
        (urllib.error.URLError(plain()), "no connection by TLS: wrong version number"),
        (KeyError("members"), "it does not have the expected form"),
        (ValueError("format 9 is not known"), "format 9 is not known"),
    ],
)
def test_why_it_failed(error: Exception, words: str) -> None:
    assert reason(error) == words
