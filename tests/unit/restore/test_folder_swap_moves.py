"""Where the folders of a set go on a site that has them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.mattermost.site import Folders
from gitlab_mm_backup.restore import folder_swap
from gitlab_mm_backup.restore.folder_swap import FolderMapping, exchanged, moves

HOME = "/var/opt/gitlab/mattermost"
DEFAULT = {
    "home": HOME,
    "data": f"{HOME}/data",
    "plugins": f"{HOME}/plugins",
    "client-plugins": f"{HOME}/client-plugins",
}


def site(**places: str) -> Folders:
    real = {role: Path(path) for role, path in {**DEFAULT, **places}.items()}
    return Folders(real, real)


def move(
    source: str, role: str = "home", below: str = ".", excluded: tuple[str, ...] = ()
) -> FolderMapping:
    return FolderMapping(source, role, PurePosixPath(below), excluded)


def test_at_the_same_places_everything_comes_with_the_home() -> None:
    assert moves(DEFAULT, site()) == [move(HOME)]


def test_another_home_changes_nothing() -> None:
    places = {role: path.replace(HOME, "/srv/mm") for role, path in DEFAULT.items()}
    assert moves(DEFAULT, site(**places)) == [move(HOME)]
    assert moves(places, site()) == [move("/srv/mm")]


def test_data_that_lies_elsewhere_here_is_unpacked_there() -> None:
    planned = moves(DEFAULT, site(data="/mnt/uploads"))
    assert planned == [move(HOME, excluded=(f"{HOME}/data",)), move(f"{HOME}/data", "data")]


def test_data_that_lay_elsewhere_comes_into_the_home() -> None:
    planned = moves({**DEFAULT, "data": "/mnt/uploads"}, site())
    assert move("/mnt/uploads", below="data") in planned
    assert [(move.source, move.role) for move in planned] == [
        (HOME, "home"),
        ("/mnt/uploads", "home"),
    ]


def test_what_the_old_home_had_at_that_place_stays_out() -> None:
    """The set's home may still hold the folder that its data lay in once."""
    planned = moves({**DEFAULT, "data": "/mnt/uploads"}, site())
    assert planned[0] == move(HOME, excluded=(f"{HOME}/data",))


def test_data_that_lies_elsewhere_on_both_sides() -> None:
    planned = moves({**DEFAULT, "data": "/mnt/a"}, site(data="/mnt/b"))
    assert planned == [move(HOME), move("/mnt/a", "data")]


def test_a_folder_of_another_name_in_the_home() -> None:
    planned = moves({**DEFAULT, "data": f"{HOME}/uploads"}, site())
    assert planned == [
        move(HOME, excluded=(f"{HOME}/uploads", f"{HOME}/data")),
        move(f"{HOME}/uploads", below="data"),
    ]


def test_folders_one_in_another_are_unpacked_once() -> None:
    source = {**DEFAULT, "data": "/mnt/all", "plugins": "/mnt/all/plugins"}
    planned = moves(source, site())
    assert move("/mnt/all", below="data", excluded=("/mnt/all/plugins",)) in planned
    assert move("/mnt/all/plugins", below="plugins") in planned


@pytest.mark.parametrize("folder", [f"{HOME}/env", f"{HOME}/etc/env"])
def test_an_environment_folder_in_the_home_stays_out(folder: str) -> None:
    assert moves(DEFAULT, site(), (folder,)) == [move(HOME, excluded=(folder,))]


def test_an_environment_folder_elsewhere_is_in_no_move() -> None:
    assert moves(DEFAULT, site(), ("/opt/gitlab/etc/mattermost/env",)) == [move(HOME)]
    assert moves(DEFAULT, site(), (f"{HOME}-env",)) == [move(HOME)]


def test_a_set_without_a_role_has_no_move_for_it() -> None:
    assert moves({"home": HOME}, site(data="/mnt/uploads")) == [move(HOME)]


def test_folders_in_the_home_are_exchanged_with_it() -> None:
    assert exchanged(site()) == {"home": Path(HOME)}
    assert exchanged(site(data="/mnt/uploads")) == {
        "home": Path(HOME),
        "data": Path("/mnt/uploads"),
    }


def test_a_folder_within_another_is_not_exchanged_a_second_time() -> None:
    """Its work folder would leave with the outer one."""
    places = site(data="/mnt/all", plugins="/mnt/all/plugins")
    assert exchanged(places) == {"home": Path(HOME), "data": Path("/mnt/all")}


def test_a_mount_point_in_the_home_is_exchanged_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_swap, "mounts", lambda: {Path(f"{HOME}/data")})
    assert exchanged(site()) == {"home": Path(HOME), "data": Path(f"{HOME}/data")}
    assert moves(DEFAULT, site()) == [
        move(HOME, excluded=(f"{HOME}/data",)),
        move(f"{HOME}/data", "data"),
    ]


# any places on both sides, with every move carried out on a tree of names


ROLES = ("data", "plugins", "client-plugins")
PLACES = (
    "home/data",
    "home/plugins",
    "home/files/x",
    "home/files/x/y",
    "elsewhere/a",
    "elsewhere/a/in",
    "far/away",
)


def layouts(home: str) -> st.SearchStrategy[dict[str, str]]:
    places = st.lists(st.sampled_from(PLACES), min_size=3, max_size=3, unique=True)
    return places.map(
        lambda chosen: {
            "home": home,
            **{role: f"/{place}".replace("/home", home, 1) for role, place in zip(ROLES, chosen)},
        }
    )


def archive(source: Mapping[str, str]) -> set[str]:
    """Return the files of a set: one of each role, and a stale folder in the home."""
    return {f"{path}/{role}.file" for role, path in source.items()} | {
        f"{source['home']}/data/stale"
    }


def carried_out(planned: list[FolderMapping], files: set[str], target: Folders) -> list[str]:
    """Return where the files of the archive come to lie, each folder unpacked and then renamed."""
    own = exchanged(target)
    found: list[str] = []
    for move in planned:
        place = str(own[move.role] / move.below)
        assert not any(path.startswith(f"{place}/") for path in found), f"{place} is there already"
        found += [
            f"{place}/{path[len(move.source) + 1 :]}"
            for path in sorted(files)
            if path.startswith(f"{move.source}/")
            and not any(f"{path}/".startswith(f"{out}/") for out in move.excluded)
        ]
    return found


@given(layouts("/old/home"), layouts("/new/home"))
def test_every_file_of_a_role_arrives_once_where_the_site_looks_for_it(
    source: dict[str, str], places: dict[str, str]
) -> None:
    target = site(**places)
    found = carried_out(moves(source, target), archive(source), target)
    for role in source:
        assert found.count(f"{places[role]}/{role}.file") == 1
