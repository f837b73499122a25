"""What a site lacks: uploads looked for below a directory, directories against the last set, and consent."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_mm_backup.backup import absence
from gitlab_mm_backup.backup.absence import Place, find, last_of
from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig
from gitlab_mm_backup.mattermost.site import Account, Folders, GitLab, Kind, Site
from gitlab_mm_backup.postgresql.contents import Upload
from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.restore import replacing
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.store import soundness
from gitlab_mm_backup.store.manifest import Files, Manifest
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system import disk_space, files, humanize
from tests.unit.helpers.builders import make_manifest

ROLES = ("home", "data", "plugins")
GONE = [Upload("a", "20261120/gone"), Upload("b", "20261120/also gone")]


def a_site(home: Path, driver: str = "local", missing: Any = None) -> Site:
    """A site whose directories lie in ``home``."""
    configured = {"home": home, **{role: home / role for role in ROLES[1:]}}
    real = {role: Path(os.path.realpath(path)) for role, path in configured.items()}
    settings = EffectiveConfig({"FileSettings": {"DriverName": driver}})
    known = Folders(configured, real)
    login = Login("mattermost")
    return Site(
        kind=Kind.OMNIBUS,
        version="10.11.4",
        account=Account("mattermost", "mattermost"),
        folders=known,
        config_file=home / "config.json",
        environment_folder=None,
        environment={},
        settings=settings,
        database=Endpoint("/nowhere", 5432, "none", login, login),
        client_programs=Path("/usr/bin"),
        gitlab=GitLab("18.11.9", "", None),
        missing=missing,
    )


def filled(home: Path, *roles: str) -> Path:
    for role in roles:
        path = home if role == "home" else home / role
        path.mkdir(parents=True, exist_ok=True)
        (path / "file").write_text(role)
    return home


def a_set(**changes: Any) -> Manifest:
    """A manifest of a set that had everything."""
    manifest = make_manifest()
    known = dataclasses.replace(
        manifest.files, **{"folders": dict.fromkeys(ROLES, "/x"), "filled": ROLES, **changes}
    )
    return dataclasses.replace(manifest, files=known)


def told(site: Site, last: Manifest | None, *uploads: Upload, named: Any = None) -> list[str]:
    def still_named(asked: Iterable[Upload]) -> set[str]:
        return {option.id for option in asked} if named is None else named

    return absence.told(site, last, make_manifest().contents, uploads, still_named)


def test_nothing_is_told_of_what_is_there(tmp_path: Path) -> None:
    home = filled(tmp_path, *ROLES)
    assert told(a_site(home), a_set(), Upload("a", "file")) == []
    assert told(a_site(home), None) == []


@pytest.mark.parametrize("role", ["data", "plugins"])
def test_a_directory_that_is_gone_and_one_that_is_empty(tmp_path: Path, role: str) -> None:
    home = filled(tmp_path, *ROLES)
    (home / role / "file").unlink()
    (home / role / "sub/deeper").mkdir(parents=True)
    (said,) = told(a_site(home), a_set())
    assert f"({role}) is empty; in set {make_manifest().name} this was not the case" in said
    assert ("; the database names 5 uploads" in said) == (role == "data")
    assert told(a_site(home), a_set(filled=("home",))) == []
    assert told(a_site(home), None) == []
    for path in ("sub/deeper", "sub", ""):
        (home / role / path).rmdir()
    (said,) = told(a_site(home), a_set())
    assert f"({role}) is missing; in set" in said
    assert bool(told(a_site(home), None)) == (role == "data")


def test_missing_data_are_no_news_with_object_storage_or_in_a_salvage(tmp_path: Path) -> None:
    home = filled(tmp_path, "home", "plugins")
    assert told(a_site(home, "amazons3"), None) == []
    assert told(a_site(home, missing=["the folder of uploads"]), a_set()) == []
    assert len(told(a_site(home, "LOCAL"), None)) == 1


def test_a_link_that_leads_nowhere_is_told_without_a_last_set(tmp_path: Path) -> None:
    home = filled(tmp_path, "home", "data")
    (home / "plugins").symlink_to("/nonexistent/plugins")
    (said,) = told(a_site(home), None)
    assert said.endswith("(plugins) is a link to '/nonexistent/plugins', which does not exist")
    (home / "plugins").unlink()
    (home / "plugins").write_text("")
    (said,) = told(a_site(home), None)
    assert said.endswith("is not a directory")


def test_a_directory_that_was_a_mount_point(tmp_path: Path) -> None:
    home = filled(tmp_path, *ROLES)
    (said,) = told(a_site(home), a_set(mounted=("data",)))
    assert "(data) has nothing mounted at it; in set" in said


def test_uploads_that_are_missing_and_still_named(tmp_path: Path) -> None:
    home = filled(tmp_path, *ROLES)
    there, odd = Upload("c", "file"), Upload("d", "../file")
    (said,) = told(a_site(home), None, *GONE, there, odd)
    assert said.startswith("2 of 3 uploads looked at are missing on disk, such as '20261120/also")
    (said,) = told(a_site(home), None, *GONE, there, named={"b"})
    assert said == "1 of 3 uploads looked at are missing on disk, such as '20261120/also gone'"
    assert told(a_site(home), None, *GONE, named=set()) == []


def test_a_database_that_does_not_answer_again_hides_nothing(tmp_path: Path) -> None:
    def fails(_: Iterable[Upload]) -> set[str]:
        raise Failure("PostgreSQL does not answer")

    home = filled(tmp_path, *ROLES)
    assert absence.told(a_site(home), None, None, GONE, fails)


def test_where_an_upload_is_found(tmp_path: Path) -> None:
    home, outside = filled(tmp_path / "home", *ROLES), filled(tmp_path / "out", "home")
    data, roots = home / "data", [home]
    (data / "in").symlink_to("../plugins")
    (data / "twice").symlink_to("in")
    (data / "out").symlink_to(outside)
    (data / "by").symlink_to("out")
    (data / "gone").symlink_to("nothing")
    (data / "round").symlink_to("round")
    (data / "leaf").symlink_to(outside / "file")
    found = {
        path: find(data, roots, path)
        for path in ("file", "./file", "in/file", "twice/file", "file/x", "gone", "gone/x", "round")
    }
    assert list(found.values()) == [Place.THERE] * 4 + [Place.MISSING] * 4, found
    assert {find(data, roots, path) for path in ("out/file", "by/file", "leaf", "out/no")} == {
        Place.OUTSIDE
    }
    assert {find(data, roots, path) for path in ("", "/etc/passwd", "a/../../b", "..")} == {
        Place.UNKNOWN
    }
    assert find(data, roots, "x" * 300) is Place.MISSING


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", "plugins", "home"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)


@given(links=st.dictionaries(st.sampled_from("abc"), PATHS, max_size=3), path=PATHS)
def test_no_path_is_found_that_leads_out(links: dict[str, str], path: str) -> None:
    """What is there by our way is there for the kernel too, and in the home."""
    with tempfile.TemporaryDirectory() as top:
        home = filled(Path(top) / "home", *ROLES)
        filled(Path(top), "home", "a")
        for name, target in links.items():
            if target:
                (home / "data" / name).symlink_to(target)
        place, full = find(home / "data", [home], path), home / "data" / path
        real = os.path.realpath(full)
        if place is Place.THERE:
            assert os.path.exists(full) and f"{real}/".startswith(f"{home}/")
        if place is Place.MISSING:
            assert not os.path.exists(full)


def test_the_last_set_is_of_the_same_installation() -> None:
    mine, other = make_manifest(), make_manifest(installation="other", name="1_2026_11_22_1")
    nameless = make_manifest(installation="")
    assert last_of([other, mine], mine.installation) is mine
    assert last_of([other], mine.installation) is None
    assert last_of([nameless, mine], mine.installation) is nameless
    assert last_of([other, mine], "") is other


def test_a_directory_is_filled_by_files_and_links_alone(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found/1").touch()
    (tmp_path / ".gitlab-mm-x").mkdir()
    (tmp_path / ".gitlab-mm-x/1").touch()
    assert not files.filled(tmp_path) and not files.filled(tmp_path / "gone")
    (tmp_path / "a/b/link").symlink_to(tmp_path)
    assert files.filled(tmp_path)


@pytest.mark.parametrize(
    ("accepted", "left"),
    [
        ([], 3),
        (["/srv/up"], 2),  # with what lies below it, but not /srv/uploads
        (["/srv/uploads"], 2),
        (["pg_hint_plan", "/srv/up", "/srv/uploads"], 0),
        (["hint_plan", "srv/upload", ".*"], 3),
    ],
)
def test_a_caveat_is_accepted_by_what_it_names(accepted: list[str], left: int) -> None:
    told = [
        "'/var/a' is a link to '/srv/uploads', which is not in the set",
        "'/var/b' is a link to '/srv/up/2019', which is not in the set",
        "the extension pg_hint_plan is left out",
    ]
    assert len(soundness.unaccepted(told, accepted)) == left


def test_caveats_are_few_and_harmless() -> None:
    assert soundness.caveat_lines([]) == [] and soundness.caveat_sentence([]) == ""
    assert soundness.caveat_lines(["a\x1b[2Jb\n\u202e"]) == ["Warning: a\\x1b[2Jb\\n\\u202e"]
    assert soundness.caveat_lines([*"abcde"])[2:] == [
        "Warning: c",
        "and 2 more: gitlab-mm list --json",
    ]


@given(st.text())
def test_plain_words_are_printable(words: str) -> None:
    assert humanize.plain(words).isprintable()
    if words.isprintable():
        assert humanize.plain(words) == words


def test_a_plan_of_before_had_no_consent_to_give() -> None:
    old = {"parts": ["database"], "keep_previous": True}
    assert RestoreOptions.of_journal(old).replace_with_empty
    assert RestoreOptions.of_journal(old).keep_previous
    new = dataclasses.asdict(RestoreOptions())
    assert (
        RestoreOptions.of_journal(new) == RestoreOptions()
        and not RestoreOptions.of_journal(new).replace_with_empty
    )


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Site]:
    yield a_site(filled(tmp_path / "home", *ROLES))


def lost(live: Site, manifest: Manifest, plan: RestoreOptions = RestoreOptions()) -> list[str]:  # noqa: B008
    known = dataclasses.replace(
        manifest.files, folders={role: f"/h/{role}" for role in manifest.files.folders}
    )
    set_ = BackupSet(Path("/set"), dataclasses.replace(manifest, files=known))
    return [loss.words for loss in replacing.losses(set_, live, plan)]


def test_live_directories_that_a_set_has_nothing_of(live: Site) -> None:
    assert lost(live, a_set()) == []
    (said,) = lost(live, a_set(filled=("home", "plugins")))
    assert said == f"the set has an empty directory data; '{live.folders.real['data']}' holds files"
    gone = {"home": "/h", "data": "/h/data"}
    (said,) = lost(live, a_set(folders=gone))
    assert said.startswith("the set has no directory plugins")
    assert lost(live, a_set(filled=("home",)), RestoreOptions(("database", "config"))) == []
    (live.folders.real["data"] / "file").unlink()
    assert lost(live, a_set(filled=("home", "plugins"))) == []


def test_old_sets_tell_it_by_their_folders_and_files(live: Site) -> None:
    old = a_set(filled=None)
    assert lost(live, old) == []
    assert len(lost(live, a_set(filled=None, folders={"home": "/h"}))) == 2
    assert len(lost(live, a_set(filled=None, files=0))) == 3


def test_consent_is_an_option_or_a_part_by_name(live: Site) -> None:
    known: Files = a_set(filled=("home", "plugins")).files
    known = dataclasses.replace(known, folders={role: f"/h/{role}" for role in ROLES})
    set_ = BackupSet(Path("/set"), dataclasses.replace(make_manifest(), files=known))
    with pytest.raises(Failure) as refused:
        replacing.refuse(set_, live, RestoreOptions(named=("database",)))
    assert "--replace-with-empty" in refused.value.hint and "--only files." in refused.value.hint
    for plan in (
        RestoreOptions(replace_with_empty=True),
        RestoreOptions(("files",), named=("files",)),
    ):
        assert len(replacing.refuse(set_, live, plan)) == 1
        assert replacing.unagreed(set_, live, plan) == []


def test_fstab_is_read_by_findmnt(tmp_path: Path) -> None:
    table = tmp_path / "fstab"
    table.write_text(
        f"/dev/x {tmp_path}/not\\040there ext4 nofail 0 2\n/dev/y {tmp_path}/later ext4 rw,noauto 0 0\n"
        "proc /proc proc defaults 0 0\n/dev/z none swap sw 0 0\n#/dev/a /off ext4 rw 0 0\nbad\n"
    )
    assert disk_space.unmounted(table) == [tmp_path / "not there"]
    assert disk_space.unmounted(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_told"),
    [
        (0, 0, 0o600, True),
        (0, 0, 0o640, True),
        (0, 0, 0o604, False),
        (0, 65534, 0o640, False),
        (0, 65534, 0o604, True),
        (65534, 0, 0o400, False),
        (65534, 0, 0o044, True),
    ],
)
def test_a_config_json_that_mattermost_cannot_read(
    owner: int, group: int, mode: int, is_told: bool, tmp_path: Path
) -> None:
    account = Account("nobody", "nogroup")  # 65534, both
    site = dataclasses.replace(a_site(filled(tmp_path, *ROLES)), account=account)
    site.config_file.write_text("{}")
    os.chown(site.config_file, owner, group)
    site.config_file.chmod(mode)

    words = absence.told(site, None, None, [], lambda uploads: set())

    assert [word.partition(",")[0] for word in words if "config.json" in word] == (
        [f"'{site.config_file}' cannot be read by nobody"] if is_told else []
    )
    salvaged = dataclasses.replace(site, missing=[])
    assert not [
        warning
        for warning in absence.told(salvaged, None, None, [], lambda uploads: set())
        if "config.json" in warning
    ]
