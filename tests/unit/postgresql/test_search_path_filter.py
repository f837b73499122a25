"""The one statement that a dump is loaded without; all other bytes stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.helpers.builders import PACKAGE

SET = b"SELECT pg_catalog.set_config('search_path', '', false);\n"
FILTER = [sys.executable, "-I", "-S", str(PACKAGE / "postgresql/search_path_filter.py")]
REST = os.urandom(3 << 20) + SET


def filtered(data: bytes, tmp_path: Path, form: str) -> bytes:
    if form == "pipe":
        return subprocess.run(FILTER, input=data, capture_output=True, check=True).stdout
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    with source.open("rb") as given, target.open("wb") as taken:
        subprocess.run(FILTER, stdin=given, stdout=taken, check=True)
    return target.read_bytes()


@pytest.mark.parametrize("form", ["pipe", "file"])
@pytest.mark.parametrize("before", [b"", b"PGDMP" * 20])
def test_the_statement_at_the_head_is_exchanged_for_one_of_its_length(
    before: bytes, form: str, tmp_path: Path
) -> None:
    found = filtered(before + SET + REST, tmp_path, form)
    assert len(found) == len(before + SET + REST)
    assert found.startswith(before + b"RESET search_path;")
    assert found[len(before) + len(SET) :] == REST


@pytest.mark.parametrize("data", [b"", b"x", REST])
def test_all_else_stays(data: bytes, tmp_path: Path) -> None:
    assert filtered(data, tmp_path, "pipe") == data


def test_a_reader_that_has_enough_ends_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(REST)
    with source.open("rb") as given:
        child = subprocess.Popen(FILTER, stdin=given, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.close()
        assert child.wait(30) == -signal.SIGPIPE, "as process expects it of a program in a pipe"
