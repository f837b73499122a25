"""Which directories root works in, where Mattermost's account may have a hand in their paths."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gitlab_mm_backup.config import settings
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost import trust
from gitlab_mm_backup.mattermost.journal import Journal, Step, UnfinishedRestore

OWNER, OTHER = 65533, 65532  # no account of the machine
ACCOUNT = str(OWNER)


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What config.yml allows; nothing, until a test adds to it."""
    links: list[Path] = []
    usual = settings.load(Path("/nowhere"), Path("/nowhere"))
    monkeypatch.setattr(settings, "load", lambda: replace(usual, allow_links=tuple(links)))
    return links


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the account in a folder of root's."""
    place = Path(os.path.realpath(tmp_path)) / "srv"
    place.mkdir(mode=0o755)
    return owned(place / "home")


def owned(path: Path, owner: int = OWNER) -> Path:
    path.mkdir()
    os.chown(path, owner, owner)
    return path


def real(home: Path, **more: Path) -> dict[str, Path]:
    return trust.real({"home": home, **more}, ACCOUNT)


def test_directories_of_the_account(home: Path) -> None:
    data = owned(home / "data")
    assert real(home, data=data) == {"home": home, "data": data}


def test_what_is_not_there_is_taken_as_it_is(home: Path) -> None:
    assert real(home, data=home / "data" / "below")["data"] == home / "data" / "below"


def test_a_home_may_be_root_s(home: Path) -> None:
    os.chown(home, 0, 0)
    assert real(home) == {"home": home}


def test_a_link_of_root_in_a_folder_of_root_counts(home: Path) -> None:
    target = owned(home.parent / "target")
    link = home.parent / "link"
    link.symlink_to("..//srv/./target/.")
    assert real(home, data=link)["data"] == target


@pytest.mark.parametrize("whose", ["the account's folder", "the account's link", "a shared folder"])
def test_a_link_that_the_account_can_exchange_does_not_count(
    whose: str, home: Path, allowed: list[Path]
) -> None:
    target = owned(home.parent / "target")
    link = (home if whose == "the account's folder" else home.parent) / "data"
    link.symlink_to(target)
    if whose == "the account's link":
        os.chown(link, OWNER, OWNER, follow_symlinks=False)
    if whose == "a shared folder":
        home.parent.chmod(0o775)
    with pytest.raises(Failure, match="behind a link that is not followed") as failure:
        real(home, data=link)
    assert f"allow_links: [{target}]" in failure.value.hint
    allowed.append(target)
    assert real(home, data=link)["data"] == target
    allowed[:] = [home.parent]
    assert real(home, data=link)["data"] == target, "what lies below it"
    allowed[:] = [target / "below"]
    with pytest.raises(Failure):
        real(home, data=link)


@pytest.mark.parametrize(("owner", "counts"), [(0, True), (OWNER, False)])
def test_a_link_on_a_disk_that_is_read_only_counts_where_it_is_root_s(
    owner: int, counts: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the disk of a stopped host, which is read without changes."""
    target, link = owned(home.parent / "target"), home / "data"
    link.symlink_to(target)
    os.chown(link, owner, owner, follow_symlinks=False)
    frozen = SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda path: frozen)
    if counts:
        assert trust.followed("data", link, ACCOUNT) == target
    else:
        with pytest.raises(Failure, match="is not followed"):
            trust.followed("data", link, ACCOUNT)


def test_a_link_in_the_middle_of_a_path(home: Path) -> None:
    owned(home.parent / "target")
    owned(home.parent / "target/data")
    (home / "middle").symlink_to(home.parent / "target")
    with pytest.raises(Failure, match="is not followed"):
        real(home, data=home / "middle/data")


def test_what_becomes_a_link_between_two_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was gone when it was looked at; that it leads somewhere by now is not asked again."""
    keys, data, lstat = owned(home.parent / "keys", 0), home / "data", os.lstat
    looks: list[Path] = []

    def late(path: Path) -> os.stat_result:
        if path == data and not looks:
            looks.append(path)
            data.symlink_to(keys)
            raise FileNotFoundError(2, "No such file or directory")
        return lstat(path)

    monkeypatch.setattr(os, "lstat", late)
    assert trust.followed("data", data, ACCOUNT) == data


def test_a_link_that_is_exchanged_for_another_once_it_was_allowed(
    home: Path, allowed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, keys, data = owned(home.parent / "uploads"), owned(home.parent / "keys", 0), home / "d"
    data.symlink_to(uploads)
    allowed.append(uploads)
    readlink = os.readlink

    def once(path: Path) -> str:
        target = readlink(path)
        data.unlink()
        data.symlink_to(keys)
        return target

    monkeypatch.setattr(os, "readlink", once)
    assert trust.followed("data", data, ACCOUNT) == uploads


def test_a_link_that_leads_nowhere_is_somebody_else_s_to_tell(home: Path) -> None:
    (home / "data").symlink_to("/srv/gone")
    assert real(home, data=home / "data")["data"] == Path("/srv/gone")
    (home / "loop").symlink_to("loop")
    assert real(home, data=home / "loop")["data"] == home / "loop"


def chain(home: Path, links: int) -> Path:
    """Return the first of some links of root's, one after the other, to a directory."""
    at = owned(home.parent / "target")
    for number in range(links):
        link = home.parent / f"link{number}"
        link.symlink_to(at)
        at = link
    return at


def test_forty_links_are_followed(home: Path) -> None:
    assert real(home, data=chain(home, 40))["data"] == home.parent / "target"


def test_more_than_forty_links_are_not(home: Path) -> None:
    """Nor is what lies behind them taken unseen: the last may be the account's."""
    with pytest.raises(Failure, match="cannot be Mattermost's directory") as failure:
        real(home, data=chain(home, 41))
    assert failure.value.detail == "its path goes through more than 40 links"


def test_what_a_directory_of_the_system_was_called_is_told(home: Path) -> None:
    with pytest.raises(Failure) as failure:
        real(home, data=Path("/etc"))
    assert failure.value.detail == ""
    (home.parent / "data").symlink_to("/etc")
    with pytest.raises(Failure) as failure:
        real(home, data=home.parent / "data")
    assert failure.value.detail == "it is /etc, a system directory"


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/root", "/usr", "/var", "/boot", "/var/opt/gitlab", "/opt/gitlab"]
)
def test_a_directory_of_the_system(path: str, home: Path, allowed: list[Path]) -> None:
    allowed.append(Path("/"))
    with pytest.raises(Failure, match="cannot be Mattermost's directory"):
        real(home, data=Path(path))
    (home / "data").symlink_to(path)
    with pytest.raises(Failure, match="cannot be Mattermost's directory"):
        real(home, data=home / "data")


@pytest.mark.parametrize(
    "path", ["/proc", "/proc/self/cwd", "/sys/kernel", "/dev/shm", "/dev/fd/0"]
)
def test_nothing_of_the_kernel(path: str, home: Path, allowed: list[Path]) -> None:
    allowed.append(Path("/"))
    (home / "data").symlink_to(path)
    if Path(os.path.realpath(path)).parts[1] in ("proc", "sys", "dev"):
        with pytest.raises(Failure, match="cannot be Mattermost's directory"):
            real(home, data=home / "data")


def test_a_directory_of_somebody_else(home: Path, allowed: list[Path]) -> None:
    other = owned(home.parent / "other", OTHER)
    with pytest.raises(Failure, match="cannot be Mattermost's directory") as failure:
        real(home, data=other)
    assert f"belongs to user {OTHER}" in failure.value.detail
    allowed.append(other)
    assert real(home, data=other)["data"] == other


def test_a_directory_of_root_where_root_names_it(home: Path) -> None:
    """A mount point without its disk."""
    empty = owned(home.parent / "empty", 0)
    assert trust.real({"home": home, "data": empty}, ACCOUNT)["data"] == empty
    with pytest.raises(Failure, match="belongs to user root"):
        trust.real({"home": home, "data": empty}, ACCOUNT, by_account=["data"])


def test_one_that_a_restore_has_taken_away_from_the_account(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = owned(home.parent / "shut", 0)
    step = Step("open the folder again", {"path": str(shut), "uid": str(OWNER)})
    monkeypatch.setattr(Journal, "read", lambda self: UnfinishedRestore({}, [step], []))
    assert trust.real({"home": home, "data": shut}, ACCOUNT, by_account=["data"])["data"] == shut


def test_an_account_that_is_not_known_owns_what_is_there(home: Path) -> None:
    other = owned(home.parent / "other", OTHER)
    assert trust.real({"home": home, "data": other}, "no-such-account")["data"] == other


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A directory below which root alone can change anything, with links."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/link").symlink_to("./../kept//file")
    (tmp_path / "links/absolute").symlink_to(tmp_path / "links/link")
    return tmp_path


def test_a_path_that_root_alone_can_change_leads_to_its_file(roots: Path) -> None:
    for name in ("kept/file", "links/link", "links/absolute"):
        assert trust.roots_alone(roots / name) == roots / "kept/file"
    assert trust.roots_alone(roots / "nothing") is None
    (roots / "loop").symlink_to("loop")
    assert trust.roots_alone(roots / "loop") is None


@pytest.mark.parametrize("name", ["kept/file", "kept", "links", "links/link", "links/absolute"])
def test_any_step_of_somebody_else_has_it_lead_nowhere(name: str, roots: Path) -> None:
    os.lchown(roots / name, 65534, 0)
    assert trust.roots_alone(roots / "links/absolute") is None


@pytest.mark.parametrize(
    ("mode", "group", "good"),
    [
        (0o777, 0, False),
        (0o757, 0, False),
        (0o1777, 1, True),
        (0o775, 0, True),
        (0o775, 1, False),
        (0o755, 1, True),
    ],
)
def test_roots_own_group_may_write_as_in_the_etc_gitlab_of_omnibus(
    mode: int, group: int, good: bool, roots: Path
) -> None:
    os.chown(roots / "kept", 0, group)
    (roots / "kept").chmod(mode)
    assert (trust.roots_alone(roots / "links/link") is not None) is good


def test_a_file_that_others_may_write_leads_nowhere(roots: Path) -> None:
    (roots / "kept/file").chmod(0o1646)  # of a file the sticky bit says nothing
    assert trust.roots_alone(roots / "links/link") is None


def test_a_way_through_many_links_ends_as_linux_has_it_end(roots: Path) -> None:
    for number in range(41):
        (roots / f"{number + 1}").symlink_to(f"{number}")
    (roots / "0").write_text("x")
    assert trust.roots_alone(roots / "40") == roots / "0"
    assert trust.roots_alone(roots / "41") is None
