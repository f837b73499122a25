"""Archives of file trees, with the real tar and zstd."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.store import archive_reader, archive_writer, frames
from gitlab_mm_backup.store.archive_rules import Most
from gitlab_mm_backup.store.archive_writer import Contents, Survey
from gitlab_mm_backup.system import files, nolinks, process
from gitlab_mm_backup.system.process import Command

LEVEL = process.compress(1, 1)
NOTHING = Survey({}, [], [])
ODD_NAMES = [
    "plain",
    "with blanks  in it ",
    "quotes ' and \" and `",
    "new\nline",
    "new\n-rw-r--r-- root 7 2026-11-22 01:13 line",
    "tab\tand\\nbackslash\\",
    "-rf",
    "--checkpoint-action=exec=sh",
    "*",
    "?[a-z]{b,c}",
    "Grüße-日本-\u202e",
    "latin1-\udce9",
    "$(touch x);&|<>",
    "~root",
    "#hash",
    ".hidden",
    "x" * 255,
    " leading",
]


def describe(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return what counts of each entry below ``root``: kind, mode, owner, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            content = (hashlib.sha256(path.read_bytes()).hexdigest(), status.st_nlink)
        owner = (status.st_uid, status.st_gid)
        found[str(path.relative_to(root))] = (oct(status.st_mode), owner, content)
    return found


def plain_files(*roots: Path) -> Contents:
    """Count by hand: each plain file once, however many names it has."""
    inodes = {}
    for root in roots:
        for path in root.rglob("*"):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                inodes[status.st_ino] = status.st_size
    return Contents(len(inodes), sum(inodes.values()))


def make_tree(home: Path) -> None:
    """Make all kinds of files that a Mattermost home may hold."""
    deep = home / "data" / "20261122" / "teams"
    deep.mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        (deep / name).write_bytes(b"x" * number)
    (home / "empty folder").mkdir(mode=0o711)
    (home / "config.json").write_text("{}", encoding="utf-8")
    (home / "config.json").chmod(0o600)
    (home / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (home / "run.sh").chmod(0o755)
    os.chown(home / "config.json", 65534, 12)
    with open(home / "sparse", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_000_000)
        file.write(b"in the middle")
    (home / "link").symlink_to("config.json")
    (home / "link out").symlink_to("/etc/passwd")
    (home / "link to nothing").symlink_to("../nowhere")
    os.lchown(home / "link", 65534, 65534)
    os.link(home / "sparse", home / "second name")
    (home / "shared").mkdir()
    (home / "shared").chmod(0o2770)


def pack(
    path: Path, *folders: Path, excluded: tuple[Path, ...] = (), found: Survey | None = None
) -> Contents:
    with open(path, "wb") as file:
        known = found or archive_writer.survey(folders)
        return archive_writer.pack(folders, excluded, known, LEVEL, file.write)


def inspect(path: Path, *folders: Path | str, known: Survey | None = None) -> Contents:
    return archive_reader.inspect(path, [str(folder) for folder in folders], known or NOTHING)


def members(path: Path) -> list[str]:
    done = process.run(Command(["tar", "--list", "--quoting-style=escape", f"--file={path}"]))
    return done.out.splitlines()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "var opt" / "mattermost"
    make_tree(path)
    return path


@pytest.fixture
def packed(tmp_path: Path, home: Path) -> Path:
    pack(tmp_path / "files.tar.zst", home)
    return tmp_path / "files.tar.zst"


# there and back


def test_a_tree_comes_back_as_it_was(tmp_path: Path, home: Path, packed: Path) -> None:
    (tmp_path / "into").mkdir()
    archive_reader.unpack(packed, str(home), tmp_path / "into")
    assert os.listdir(tmp_path / "into") == ["mattermost"]
    assert describe(tmp_path / "into" / "mattermost") == describe(home)
    assert (tmp_path / "into/mattermost/second name").samefile(tmp_path / "into/mattermost/sparse")


def test_what_is_counted_is_what_is_there(tmp_path: Path, home: Path) -> None:
    wanted = plain_files(home)
    assert wanted.files == len(ODD_NAMES) + 3
    assert pack(tmp_path / "files.tar.zst", home) == wanted
    assert inspect(tmp_path / "files.tar.zst", home, known=archive_writer.survey([home])) == wanted


def test_members_are_named_from_the_root_on(home: Path, packed: Path) -> None:
    names = members(packed)
    assert names
    assert all(f"/{name}".startswith(str(home)) for name in names)


def test_the_same_names_elsewhere_are_not_left_out(tmp_path: Path, home: Path) -> None:
    """Excluded paths are anchored and literal: no pattern, and no name in the middle."""
    for name in ("data", "a*c", "abc"):
        (home / "other" / name).mkdir(parents=True)
        (home / "other" / name / "kept").touch()
        (home / name).mkdir(exist_ok=True)
        (home / name / "kept").touch()
    excluded = (home / "data", home / "a*c")
    pack(tmp_path / "x.tar.zst", home, excluded=excluded)
    names = [f"/{name}" for name in members(tmp_path / "x.tar.zst")]
    assert f"{home}/other/data/kept" in names
    assert f"{home}/other/a*c/kept" in names
    assert f"{home}/abc/kept" in names
    assert not [name for name in names if name.startswith((f"{home}/data/", f"{home}/a*c/"))]


def test_folders_in_others_are_packed_once(tmp_path: Path, home: Path) -> None:
    (home / "second name").unlink()
    (tmp_path / "-uploads *").mkdir()
    (tmp_path / "-uploads *" / "file").write_text("x", encoding="utf-8")
    folders = (home, home / "data", tmp_path / "-uploads *", home)
    counted = pack(tmp_path / "x.tar.zst", *folders)
    assert counted == plain_files(home, tmp_path / "-uploads *")
    assert len(members(tmp_path / "x.tar.zst")) == len(set(members(tmp_path / "x.tar.zst")))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["/a/b", "/a"], ["/a"]),
        (["/a", "/ab"], ["/a", "/ab"]),
        (["/b/c", "/a", "/b/c/d/e", "/b/c"], ["/a", "/b/c"]),
        ([], []),
    ],
)
def test_outermost_folders(given: list[str], wanted: list[str]) -> None:
    assert archive_writer.outermost(map(Path, given)) == list(map(Path, wanted))


def test_one_folder_of_several_is_unpacked_without_what_is_excluded(
    tmp_path: Path, home: Path
) -> None:
    (home / "second name").unlink()
    uploads = tmp_path / "up [loads]"
    (uploads / "data").mkdir(parents=True)
    (uploads / "data" / "file").write_text("upload", encoding="utf-8")
    pack(tmp_path / "x.tar.zst", home, uploads)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home), tmp_path / "one", [str(home / "data")])
    archive_reader.unpack(tmp_path / "x.tar.zst", str(uploads), tmp_path / "two")
    wanted = describe(home)
    for name in [name for name in wanted if name == "data" or name.startswith("data/")]:
        del wanted[name]
    assert describe(tmp_path / "one" / "mattermost") == wanted
    assert describe(tmp_path / "two" / "up [loads]") == describe(uploads)


def test_a_file_with_names_in_two_folders_comes_back_in_each(tmp_path: Path, home: Path) -> None:
    """As programs that look for duplicates make them: on the same disk, in both folders."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    os.link(home / "run.sh", uploads / "copy")
    pack(tmp_path / "x.tar.zst", home, uploads)
    (tmp_path / "into").mkdir()
    archive_reader.unpack(tmp_path / "x.tar.zst", str(uploads), tmp_path / "into")
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home), tmp_path / "into")
    for name in ("uploads/copy", "mattermost/run.sh"):
        assert (tmp_path / "into" / name).read_text() == "#!/bin/sh\n"


def test_a_file_with_names_in_two_parts_of_a_folder_comes_back_in_each(
    tmp_path: Path, home: Path
) -> None:
    """The site that it is restored onto may have the uploads on a disk of their own."""
    os.link(home / "run.sh", home / "data" / "copy")
    pack(tmp_path / "x.tar.zst", home, home / "data")
    (tmp_path / "into").mkdir()
    archive_reader.unpack(
        tmp_path / "x.tar.zst", str(home), tmp_path / "into", [str(home / "data")]
    )
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home / "data"), tmp_path / "into")
    for name in ("data/copy", "mattermost/run.sh"):
        assert (tmp_path / "into" / name).read_text() == "#!/bin/sh\n"


def test_a_folder_that_the_archive_lacks_is_a_failure(tmp_path: Path, packed: Path) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(Failure, match="tar failed"):
        archive_reader.unpack(packed, "/no/such/folder", tmp_path / "into")
    assert os.listdir(tmp_path / "into") == []


# what is unusual


def test_what_is_unusual_is_found(tmp_path: Path, home: Path) -> None:
    (tmp_path / "uploads").mkdir()
    odd = home / "odd \n *"
    odd.symlink_to(tmp_path / "uploads" / "within")
    os.mkfifo(home / "pipe\n")
    os.mknod(home / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (home / "run.sh").chmod(0o4755)
    found = archive_writer.survey([home, tmp_path / "uploads", home / "data"])
    assert found.links_out == {
        str(home / "link out"): "/etc/passwd",
        str(home / "link to nothing"): "../nowhere",
    }
    assert sorted(found.special) == [str(home / "device"), str(home / "pipe\n")]
    assert found.privileged == [str(home / "run.sh")]
    assert str(odd) in archive_writer.survey([home]).links_out


def test_an_owner_without_a_name_is_found_where_it_matters(home: Path) -> None:
    assert archive_writer.survey([home], owners=True).ownerless == ""
    for place, uid, gid in (
        (home / "run.sh", 4242, 4343),
        (home / "run.sh", 4242, -1),
        (home / "run.sh", -1, 4343),
        (home, 4242, 4343),
        (home, -1, 4343),
    ):
        before = place.stat()
        os.chown(place, uid, gid)
        assert archive_writer.survey([home]).ownerless == ""
        assert archive_writer.survey([home], owners=True).ownerless == str(place)
        os.chown(place, before.st_uid, before.st_gid)


@pytest.mark.parametrize(
    ("target", "out"),
    [
        ("x", False),
        ("../x", False),
        ("/srv/mm/x", False),
        ("/srv/mm", False),
        ("../../mm/data", False),
        ("/other", False),
        ("..", False),
        ("../..", True),
        ("../../mm2", True),
        ("/srv/mm-other", True),
        ("/srv/mm/../x", True),
        ("/", True),
        ("../../../../../../etc", True),
    ],
)
def test_links_that_lead_out(target: str, out: bool) -> None:
    roots = [Path("/srv/mm"), Path("/other")]
    assert archive_writer.leads_out("/srv/mm/data/link", target, roots) is out


@pytest.mark.parametrize("name", ["d" * 200, "ä" * 100], ids=["letters", "of two bytes"])
def test_a_path_that_is_too_long_to_be_unpacked_is_left_out(
    name: str, tmp_path: Path, home: Path
) -> None:
    """Tar packs it, directory by directory, and cannot unpack it by its whole name."""
    wanted = describe(home)
    at = os.open(home, os.O_RDONLY)
    try:
        for _ in range(25):
            os.mkdir(name, dir_fd=at)
            below = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
        found = archive_writer.survey([home])
        (far,) = found.far
        assert archive_writer.LONGEST < len(os.fsencode(far)) <= archive_writer.LONGEST + 201
        pack(tmp_path / "x.tar.zst", home)
    finally:  # pytest could not remove it either
        os.close(at)
        subprocess.run(["rm", "-r", str(home / name)], check=True)
    (tmp_path / "into").mkdir()
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home), tmp_path / "into")
    depth, path = 0, f"{tmp_path}/into/mattermost"
    while os.path.isdir(path := f"{path}/{name}"):
        depth += 1
    assert depth == far.count(name) - 1
    subprocess.run(["rm", "-r", str(tmp_path / "into/mattermost" / name)], check=True)
    unpacked, before = describe(tmp_path / "into/mattermost"), dict(wanted)
    assert {name: facts for name, facts in unpacked.items() if name != "."} == {
        name: facts for name, facts in before.items() if name != "."
    }


def test_what_is_unusual_is_packed_so_that_it_can_be_restored(tmp_path: Path, home: Path) -> None:
    """Without what no restore accepts; the rest unchanged."""
    wanted = describe(home)
    (home / "run.sh").chmod(0o6755)
    os.mkfifo(home / "pipe")
    counted = pack(tmp_path / "x.tar.zst", home)
    found = archive_writer.survey([home])
    assert inspect(tmp_path / "x.tar.zst", home, known=found) == counted
    for known in (Survey(found.links_out, [], []), Survey({}, [], found.privileged)):
        with pytest.raises(Failure, match="no backup of ours"):
            inspect(tmp_path / "x.tar.zst", home, known=known)
    (tmp_path / "into").mkdir()
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home), tmp_path / "into")
    assert describe(tmp_path / "into" / "mattermost") == wanted


@pytest.mark.parametrize("seen", [True, False])
def test_what_is_made_while_it_is_packed_does_not_make_a_set_refuse_itself(
    seen: bool, tmp_path: Path, home: Path
) -> None:
    """All is made between the look and tar; tar alone meets it, where it is gone by the next look."""
    wanted = describe(home)
    before, unaware = archive_writer.survey([home]), archive_writer.survey([home])
    (home / "to ").symlink_to("/etc -> passwd\n\\")
    os.mkfifo(home / 'a "pipe"')
    (home / "in").symlink_to("old")
    (home / "set").write_text("x")
    (home / "set").chmod(0o4644)
    counted = pack(tmp_path / "x.tar.zst", home, found=before)
    with pytest.raises(Failure, match="no backup of ours"):
        inspect(tmp_path / "x.tar.zst", home, known=unaware)
    made = ("to ", 'a "pipe"', "in", "set")
    for name in made if not seen else ():
        (home / name).unlink()
    assert str(home / "in") not in before.links_out, "a way that leads nowhere else"
    assert inspect(tmp_path / "x.tar.zst", home, known=before) == counted
    (tmp_path / "into").mkdir()
    archive_reader.unpack(tmp_path / "x.tar.zst", str(home), tmp_path / "into")
    there = tmp_path / "into/mattermost"
    assert not os.path.lexists(there / 'a "pipe"') and (there / "to ").is_symlink()
    assert (there / "set").stat().st_mode & 0o7777 == 0o644
    for name in made:
        (home / name).unlink(missing_ok=True)
        (there / name).unlink(missing_ok=True)
    assert describe(there) == wanted


def test_of_a_link_that_is_exchanged_all_the_time_the_one_that_was_packed_counts(
    tmp_path: Path, home: Path
) -> None:
    def leads_to(target: str) -> None:
        (home / "out").unlink(missing_ok=True)
        (home / "out").symlink_to(target)

    leads_to("/first")
    before = archive_writer.survey([home])
    leads_to("/packed")
    counted = pack(tmp_path / "x.tar.zst", home, found=before)
    leads_to("/last")
    assert inspect(tmp_path / "x.tar.zst", home, known=before) == counted


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'-rw-r--r-- a/b 7 2026-11-29 13:08 "x"\n', (b"-", 7, b"/x", b"")),
        (b'-rws--S--- a b/c d 7 2026-11-29 13:08:09 "x"\n', (b"-", 7, b"/x", b"")),
        (b'drwx------ 0/0 0 2026-11-29 13:08 "x/"\n', (b"d", 0, b"/x", b"")),
        (b'lrwx------ 0/0 0 2026-11-29 13:08 "a -> b" -> "c"\n', (b"l", 0, b"/a -> b", b"c")),
        (b'lrwx------ 0/0 0 2026-11-29 13:08 "a\\"" -> "\\\\"\n', (b"l", 0, b'/a"', b"\\")),
        (b'hrw------- 0/0 0 2026-11-29 13:08 "a" link to "b"\n', (b"h", 0, b"/a", b"b")),
        (b'crw------- 0/0 1,3 2026-11-29 13:08 "\\n\\303\\251"\n', (b"c", 0, b"/\n\xc3\xa9", b"")),
    ],
)
def test_what_tar_tells(line: bytes, told: tuple[bytes, int, bytes, bytes]) -> None:
    packed = frames.told(line)
    assert (packed.kind, packed.size, packed.path, packed.target) == told


@pytest.mark.parametrize("line", [b"", b"tar: x\n", b'-rw-r--r-- a/b 7 2026-11-29 13:08 "x\n'])
def test_what_tar_tells_and_nobody_understands_is_a_failure(line: bytes) -> None:
    with pytest.raises(Failure, match="cannot be understood"):
        frames.told(line)


def test_what_a_later_search_finds_is_added() -> None:
    found = Survey({"/a": "/x"}, ["/p"], ["/s"], shared=True, far=["/f"])
    found.add(Survey({"/a": "/z", "/b": "/y"}, ["/p", "/q"], [], far=["/g", "/f"]))
    assert found == Survey(
        {"/a": "/z", "/b": "/y"}, ["/p", "/q"], ["/s"], shared=True, far=["/f", "/g"]
    )


def test_a_path_too_long_that_tar_meets_is_known() -> None:
    found, name = Survey({}, [], []), "x" * (archive_writer.LONGEST + 1)
    for packed in (name, name[:100]):
        found.learn(f'-rw-r--r-- a/b 7 2026-11-29 13:08 "{packed}"\n'.encode(), [])
    assert found.far == [f"/{name}"]


# trees that change, and disks that do not work


def test_what_is_there_while_tar_packs_alone_is_known_from_what_was_packed(tmp_path: Path) -> None:
    """Neither survey sees it; of a link that was exchanged in between the packed target counts."""
    folder = tmp_path / "a -> b\n\\" / "folder"
    folder.mkdir(parents=True)
    (folder / "plain").write_bytes(b"x")
    (folder / "changing").symlink_to("/etc/first")
    before = archive_writer.survey([folder])
    odd = [folder / name for name in ("pipe \udcff", "out -> of", "set -> id\t")]
    os.mkfifo(odd[0])
    odd[1].symlink_to("/etc -> /passwd")
    odd[2].write_bytes(b"")
    odd[2].chmod(0o4755)
    (folder / "changing").unlink()
    (folder / "changing").symlink_to("/etc/second")
    with open(tmp_path / "x", "wb") as archive:
        archive_writer.pack([folder], [], before, LEVEL, archive.write)
    for path in odd:
        path.unlink()
    (folder / "changing").unlink()
    (folder / "changing").symlink_to("/etc/third")
    later = archive_writer.survey([folder])
    assert (later.special, later.privileged) == ([], [])
    assert inspect(tmp_path / "x", str(folder), known=before).files == 2
    with pytest.raises(Failure, match="holds what no backup of ours holds"):
        inspect(tmp_path / "x", str(folder), known=later)


def test_files_that_vanish_under_the_packing_are_no_failure(tmp_path: Path) -> None:
    """Those that tar has seen in the folder, but not opened yet, are taken away."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(8):
        (folder / f"file-{number}").write_bytes(os.urandom(2_000_000))

    with open(tmp_path / "x.tar", "wb") as archive:

        def take_away_and_write(piece: memoryview) -> None:
            for path in folder.iterdir():
                path.unlink()
            archive.write(piece)

        counted = archive_writer.pack([folder], [], NOTHING, Command(["cat"]), take_away_and_write)
    assert 1 <= counted.files < 8
    with tarfile.open(tmp_path / "x.tar") as tar:
        found = [member for member in tar if member.isreg()]
    assert Contents(len(found), sum(member.size for member in found)) == counted


def test_a_folder_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="tar failed"):
        pack(tmp_path / "x.tar.zst", tmp_path / "no such folder")


def test_a_full_disk_ends_the_packing(home: Path) -> None:
    def refuse(_: memoryview) -> None:
        raise Failure("the disk is full")

    with pytest.raises(Failure, match="the disk is full"):
        archive_writer.pack([home], [], NOTHING, LEVEL, refuse)


def test_a_compressor_that_fails_is_blamed(tmp_path: Path, home: Path) -> None:
    with pytest.raises(Failure, match="false failed"):
        archive_writer.pack([home], [], NOTHING, Command(["false"]), lambda _: None)


# the listing


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"-rw------- mattermost/mattermost 12 2026-11-22 01:13 var/x\n", Contents(1, 12)),
        (b"-rw-r--r-- 0/0                 0 2026-11-22 01:13 -rw- a b\n", Contents(1, 0)),
        (b"-rw-r--r-- jane/domain users  12 2026-11-22 01:13 var/x\n", Contents(1, 12)),
        (b"-rw-r--r-- EXAMPLE\\jane doe/domain users 12 2026-11-22 01:13 x\n", Contents(1, 12)),
        (b"-rw-r--r-- 7 9/x 3 12 2026-11-22 01:13 x\n", Contents(1, 12)),
        (b"-rw-r--r-- root/root 9 33658-09-27 01:46 var/x\n", Contents(1, 9)),
        (b"-rw-r--r-- root/root 9 -1199-02-15 14:13   var/x\n", Contents(1, 9)),
        (b"-rw-r--r-- root/root 9 2305843009213693952 var/x\n", Contents(1, 9)),
        (b"-rw-r--r-- root/root 9 -9223372036854775808 var/x\n", Contents(1, 9)),
        (b"drwxr-xr-x root/root 0 2026-11-22 01:13 var/\n", Contents()),
        (b"lrwxrwxrwx root/root 0 2026-11-22 01:13 var/l -> -rw\n", Contents()),
        (b"hrw-r--r-- root/root 0 2026-11-22 01:13 var/h link to var/x\n", Contents()),
    ],
)
def test_lines_of_the_listing(line: bytes, wanted: Contents) -> None:
    contents = Contents()
    contents.add_line(line)
    assert contents == wanted


# archives from elsewhere


ROOT = "var/opt/gitlab/mattermost"
KNOWN = Survey({f"/{ROOT}/known": "/target"}, [], [f"/{ROOT}/known suid"])


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def write_archive(path: Path, *added: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> None:
    """Write an archive with a proper folder and file, and then what is ``added``."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        good = member(f"{ROOT}/good", size=4)
        tar.addfile(member(ROOT, tarfile.DIRTYPE, mode=0o755))
        tar.addfile(good, io.BytesIO(b"good"))
        for info in added:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    compress(path, plain.getvalue())


def compress(path: Path, data: bytes) -> None:
    raw = path.with_name("raw")
    raw.write_bytes(data)
    with open(path, "wb") as file, open(raw, "rb") as stdin:
        process.pipeline(LEVEL, stdin=stdin, sink=file.write)
    raw.unlink()


def test_an_archive_as_ours_is_accepted(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "x",
        member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="good"),
        member(f"{ROOT}/link out", tarfile.SYMTYPE, linkname="/etc/passwd"),
        member(f"{ROOT}/again", tarfile.LNKTYPE, linkname=f"{ROOT}/good"),
        member(f"{ROOT}/shared", tarfile.DIRTYPE, mode=0o2775),
    )
    known = Survey({f"/{ROOT}/link out": "/etc/passwd"}, [], [])
    assert inspect(tmp_path / "x", f"/{ROOT}", known=known) == Contents(1, 4)


HOSTILE = [
    member("/etc/cron.d/evil"),
    member(f"/{ROOT}/absolute"),
    member("etc/passwd"),
    member(f"{ROOT}/../../../../etc/passwd"),
    member(f"{ROOT}/.."),
    member(f"{ROOT}/a/../b"),
    member("../x"),
    member(".."),
    member("."),
    member(""),
    member(f"{ROOT}-other/x"),
    member("var"),
    member(f"{ROOT}/tty", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member(f"{ROOT}/sda", tarfile.BLKTYPE, devmajor=8),
    member(f"{ROOT}/pipe", tarfile.FIFOTYPE),
    member(f"{ROOT}/odd", b"Z"),
    member(f"{ROOT}/suid", mode=0o4755),
    member(f"{ROOT}/sgid", mode=0o2755),
    member(f"{ROOT}/hard", tarfile.LNKTYPE, linkname="etc/shadow"),
    member(f"{ROOT}/hard", tarfile.LNKTYPE, linkname="/etc/shadow"),
    member(f"{ROOT}/hard", tarfile.LNKTYPE, linkname=f"{ROOT}/../../../../etc/shadow"),
    member("link", tarfile.SYMTYPE, linkname="/etc"),
    member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="/etc"),
    member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="../../../../etc"),
    member(f"{ROOT}/known", tarfile.SYMTYPE, linkname="/another/target"),
]


@pytest.mark.parametrize(
    "bad",
    HOSTILE,
    ids=lambda info: f"{info.name} {info.type.decode()} {info.mode:o} {info.linkname}",
)
def test_what_no_backup_of_ours_holds_is_refused(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    write_archive(tmp_path / "x", bad)
    with pytest.raises(Failure, match="holds what no backup of ours holds") as caught:
        inspect(tmp_path / "x", f"/{ROOT}", known=KNOWN)
    assert caught.value.detail.startswith(f"{bad.name!r}: ")


def test_the_folders_above_are_passed_over(tmp_path: Path) -> None:
    """A tar of restic's begins at the root; what is above the set's directories is not unpacked."""
    above = [member(name, tarfile.DIRTYPE, mode=0o777) for name in ("var", "var/opt/gitlab")]
    write_archive(tmp_path / "x", *above)
    assert inspect(tmp_path / "x", f"/{ROOT}", known=KNOWN) == Contents(1, 4)
    (tmp_path / "into").mkdir()
    archive_reader.unpack(tmp_path / "x", f"/{ROOT}", tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").iterdir()] == [Path(ROOT).name]


def test_an_archive_of_more_bytes_than_it_should_have_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "x", member(f"{ROOT}/bomb", size=100_000_000))
    assert (tmp_path / "x").stat().st_size < 100_000
    roots = [f"/{ROOT}"]
    with pytest.raises(Failure, match="holds what no backup of ours holds") as caught:
        archive_reader.inspect(
            tmp_path / "x", roots, archive_writer.Survey({}, [], []), Most(100_000_003, 9)
        )
    assert "bomb" in caught.value.detail
    assert (
        archive_reader.inspect(
            tmp_path / "x", roots, archive_writer.Survey({}, [], []), Most(100_000_004, 9)
        ).size
        == 100_000_004
    )


def test_looking_into_an_archive_writes_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "x", member(f"{ROOT}/deep/file", size=5))
    before = describe(tmp_path)
    inspect(tmp_path / "x", f"/{ROOT}")
    assert describe(tmp_path) == before
    assert not Path(f"/{ROOT}/deep").exists()


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write_archive(
        tmp_path / "x",
        member(f"{ROOT}/data", tarfile.SYMTYPE, linkname=str(outside)),
        member(f"{ROOT}/data/evil", size=4),
        member(f"{ROOT}/up", tarfile.SYMTYPE, linkname="../../outside"),
        member(f"{ROOT}/up/evil", size=4),
    )
    (tmp_path / "into").mkdir()
    with pytest.raises(Failure):
        inspect(tmp_path / "x", f"/{ROOT}")
        archive_reader.unpack(tmp_path / "x", f"/{ROOT}", tmp_path / "into")
    assert os.listdir(outside) == []


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_a_failure(keep: float, packed: Path, home: Path) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(Failure):
        inspect(packed, home, known=archive_writer.survey([home]))


def test_an_archive_is_read_to_its_very_end(packed: Path, home: Path) -> None:
    """What follows the end of the tar may be damaged too; then the file is not what was written."""
    compress(packed, unpacked(packed) + bytes(3_000_000))
    inspect(packed, home, known=archive_writer.survey([home]))
    os.truncate(packed, packed.stat().st_size - 1)
    with pytest.raises(Failure, match="zstd"):
        inspect(packed, home, known=archive_writer.survey([home]))


def test_nothing_follows_the_end_of_an_archive(packed: Path, home: Path) -> None:
    compress(packed, unpacked(packed) + b"more")
    with pytest.raises(Failure, match="is not a complete archive") as caught:
        inspect(packed, home, known=archive_writer.survey([home]))
    assert "after its end" in caught.value.detail


def test_nothing_hides_behind_a_header_that_is_none(tmp_path: Path) -> None:
    """There tarfile ends, and says nothing; tar(1) complains, and goes on with the next header."""
    write_archive(tmp_path / "x", member(f"{ROOT}/link", tarfile.SYMTYPE, linkname="/etc"))
    data = bytearray(unpacked(tmp_path / "x"))
    at = data.index(f"{ROOT}/link".encode())
    hidden = data[:at] + b"not a header".ljust(512, b".") + data[at:]
    compress(tmp_path / "x", bytes(hidden))
    with pytest.raises(Failure, match="is not a complete archive"):
        inspect(tmp_path / "x", f"/{ROOT}")


def unpacked(path: Path) -> bytes:
    with open(path, "rb") as stdin:
        return process.printed(process.DECOMPRESS, stdin=stdin)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:700],
        lambda data: data[:1536],
        lambda data: data[: len(data) // 2 + 77],
        lambda data: b"no tar at all" * 1000,
        lambda data: data[:512] + b"\xff" * 512 + data[1024:],
        lambda data: (
            data[:512].replace(b"0", b"9", 3) + data[512:]
        ),  # a header; others may hold times
    ],
)
def test_a_tar_that_is_not_whole_is_a_failure(
    spoil: Callable[[bytes], bytes], packed: Path, home: Path
) -> None:
    wanted = inspect(packed, home, known=archive_writer.survey([home]))
    compress(packed, spoil(unpacked(packed)))
    try:
        assert inspect(packed, home, known=archive_writer.survey([home])) != wanted
    except Failure as failure:
        assert "archive" in failure.message


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "x,y", "GNU.sparse.size": "5"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "x"},
        {"size": "-5"},
        {"size": "x"},
        {"mtime": "x"},
        {"path": "/etc/passwd"},
        {"path": "../../etc/passwd"},
    ],
    ids=lambda headers: next(iter(headers.items())),
)
def test_hostile_extended_headers_are_no_crash(headers: Mapping[str, str], tmp_path: Path) -> None:
    bad = member(f"{ROOT}/file", size=8, pax_headers=dict(headers))
    write_archive(tmp_path / "x", bad, form=tarfile.PAX_FORMAT)
    try:
        counted = inspect(tmp_path / "x", f"/{ROOT}")
    except Failure:
        return
    assert "path" not in headers
    assert counted.size >= 4


def test_what_is_packed_for_certain_lags_behind_what_was_told() -> None:
    """tar tells of a file when it begins with it: a large one must not count as done at once."""
    contents = archive_writer.Contents()
    for name, size in (("a", 10), ("b", 1000)):
        contents.add_line(f"-rw-r--r-- 0/0 {size} 2026-11-20 10:00 {name}".encode())
    assert (contents.size, contents.done) == (1010, 10)


def test_only_where_others_can_put_a_link_is_there_a_need_to_keep_links_out(tmp_path: Path) -> None:
    for name in ("ours", "theirs/deep"):
        (tmp_path / name).mkdir(parents=True)
    os.chown(tmp_path / "theirs", 65534, 65534)
    places = [tmp_path / "ours", tmp_path / "theirs/deep", tmp_path / "theirs", tmp_path / "none"]
    assert archive_writer._changeable(places) == places[1:]
    # nolinks becomes another program, so it cannot import the rule; it begins at the same place.
    for place in places[1:3]:
        first = os.fsdecode(nolinks._changeable(os.fsencode(place)))
        assert first == files.grounds(place / "entry")[0].path == str(tmp_path / "theirs")
