"""Archives that tar itself lists for a verification: what it says is held against Python's tarfile."""

from __future__ import annotations

import io
import tarfile
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import archive_reader, frame_index
from gitlab_mm_backup.store.archive_rules import Most, line_of
from gitlab_mm_backup.store.archive_writer import Contents, Survey
from gitlab_mm_backup.store.frame_index import Inspection, Run, Stretch
from gitlab_mm_backup.store.frames import Frame, NameLine
from gitlab_mm_backup.system import process
from tests.unit.store.test_archive_reader import good, tar_of
from tests.unit.store.test_archive_writer import HOSTILE, KNOWN, ROOT, member

PLENTY = Most(1 << 40, 1000)
NAMES = st.text(alphabet="ab é\\\n\"'*\x01日", min_size=1, max_size=120)


def records_of(data: bytes) -> list[bytes]:
    """Return the index of an archive, as Python's tarfile sees its members."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    starts = [info.offset for info in members]
    names = [f"/{info.name}".encode(errors="surrogateescape") for info in members]
    ends = [*starts[1:], len(data)]
    return [
        b"%b//%d %d" % (name, start, end - start) for name, start, end in zip(names, starts, ends)
    ]


def inspect(
    data: bytes,
    known: Survey = KNOWN,
    most: Most = PLENTY,
    records: list[bytes] | None = None,
    *,
    last: bool = True,
) -> tuple[Contents, list[NameLine]]:
    run = Run([Frame(0, len(data), 0, len(data))], ())
    lines: list[NameLine] = []
    stretch = Stretch(run, records_of(data) if records is None else records, last)
    inspection = Inspection(stretch, [f"/{ROOT}"], known, most, lines.append)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        with process.output(frame_index.LIST, stdin=file) as (listing, _):
            inspection.read(listing)
    return inspection.contents, lines


@pytest.mark.parametrize("place", ("alone", "among others"))
@pytest.mark.parametrize(
    "bad",
    HOSTILE,
    ids=lambda info: f"{info.name} {info.type.decode()} {info.mode:o} {info.linkname}",
)
def test_what_no_backup_of_ours_holds_is_refused(bad: tarfile.TarInfo, place: str) -> None:
    data = tar_of(bad) if place == "alone" else tar_of(*good(), bad, *good()[1:])
    records = [*records_of(tar_of(*good())), b"/x//0 0"] if bad.name in ("", ".", "..") else None
    with pytest.raises(Failure):
        inspect(data, records=records)


def test_what_is_known_passes() -> None:
    usual = [*good(), member(f"{ROOT}/known", tarfile.SYMTYPE, linkname="/target")]
    privileged = member(f"{ROOT}/known suid", mode=0o4755, size=3)
    contents, lines = inspect(tar_of(*usual, privileged))
    assert contents == Contents(2, 7)
    assert [line.kind for line in lines] == [b"d", b"-", b"l", b"-"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.integers(0, 3000)), max_size=8),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_name_is_seen_as_tarfile_sees_it(files: list[tuple[str, int]], form: int) -> None:
    data = tar_of(
        *good(),
        *(member(f"{ROOT}/{name}", size=size, mode=0o644) for name, size in files),
        form=form,
    )
    wanted: list[NameLine] = []
    stream = io.BufferedReader(io.BytesIO(data))
    contents = archive_reader.inspect_stream(
        *(stream, "x", [f"/{ROOT}"], KNOWN),
        each=lambda info, _: wanted.append(line_of(info)),
    )
    found, lines = inspect(data)
    assert found == contents
    assert [(line.kind, line.path, line.size) for line in lines] == [
        (line.kind, line.path, line.size) for line in wanted
    ]


def test_more_than_there_may_be_is_refused() -> None:
    data = tar_of(*good(), member(f"{ROOT}/large", size=5000, mode=0o644))
    assert inspect(data, most=Most(5004, 2))[0] == Contents(2, 5004)
    for most in (Most(5003, 2), Most(5004, 1)):
        with pytest.raises(Failure, match="holds what no backup of ours holds"):
            inspect(data, most=most)


def test_an_archive_that_ends_in_its_middle_lacks_what_comes_after() -> None:
    """Unpacking would end there as well, and a verification by pieces must not go on."""
    first, second = tar_of(*good()), tar_of(member(f"{ROOT}/behind", size=4, mode=0o644))
    records = [*records_of(first), b"/%b/behind//%d 20480" % (ROOT.encode(), len(first))]
    with pytest.raises(Failure, match="index"):
        inspect(first + second, records=records)


def test_a_stretch_ends_where_its_frames_do() -> None:
    data = tar_of(*good())
    whole = data[: 3 * 512]  # without the end of an archive
    assert inspect(whole, records=records_of(whole), last=False)[0] == Contents(1, 4)
    with pytest.raises(Failure, match="ends elsewhere"):
        inspect(data[: 4 * 512], records=records_of(whole), last=False)
