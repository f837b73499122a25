"""The options of gitlab-mm restore, as click fills them in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from gitlab_mm_backup.cli import terminal
from gitlab_mm_backup.cli.restore import Options, preview_result, restore
from gitlab_mm_backup.restore.choice import Chosen
from gitlab_mm_backup.restore.preview import Preview
from gitlab_mm_backup.store.sets import BackupSet
from tests.unit.helpers.builders import NAME, make_manifest

COMMON = {"as_json", "config", "verbose", "quiet", "wait", "container"}  # not of this verb alone
ALL = [
    *("latest", "--at", "yesterday", "--installation", "1", "--host", "2", "--only", "files"),
    *("--to", "standalone", "--replace", "--with-etc", "--no-safety-backup", "--keep-previous"),
    *(
        "--in-place",
        "--search-later",
        "--uploads-later",
        "--replace-with-empty",
        "--trust-unsigned",
        "3",
    ),
    *("--dry-run", "--yes", "--from", "nas:x", "--identity", "key", "--rollback", "--continue"),
]


def options(args: list[str]) -> Options:
    params = restore.make_context("restore", list(args)).params
    return Options(**{name: value for name, value in params.items() if name not in COMMON})


@pytest.mark.parametrize("args", [[], ALL], ids=["none", "all"])
def test_every_option_has_the_type_of_its_field(args: list[str]) -> None:
    given = options(args)
    for name, hint in get_type_hints(Options).items():
        value = getattr(given, name)
        kinds = tuple(getattr(kind, "__origin__", kind) for kind in get_args(hint) or (hint,))
        if getattr(hint, "__origin__", None) is tuple:
            assert isinstance(value, tuple) and all(isinstance(item, str) for item in value), name
        else:
            assert isinstance(value, kinds), (name, value)


def test_what_is_given_is_planned() -> None:
    assert options(ALL) != options([])
    assert all(
        getattr(options(ALL), field.name) != getattr(options([]), field.name)
        for field in dataclasses.fields(Options)
    )
    plan = options(ALL).plan("standalone")
    assert (plan.parts, plan.named, plan.search) == (("files",), ("files",), "later")
    assert (plan.place, plan.identity) == ("nas:x", str(Path("key").absolute()))
    assert plan.replace and plan.with_etc and plan.keep_previous and plan.in_place
    assert plan.replace_with_empty and not plan.safety
    assert options([]).plan("omnibus").search == "auto"


PLAN = Preview(
    BackupSet(Path("/sets/1"), make_manifest()), "", ["stop Mattermost"], [], ["A.B"], [], 7, "", []
)


def test_a_refusal_is_the_first_line_of_a_plan() -> None:
    planned = preview_result(PLAN, Chosen(""))
    assert (planned.exit_code, planned.lines[0]) == (0, f"Set {NAME}: 44 rows, 7 files")
    assert planned.lines[-1] == "Time: about 7 s"
    refused = preview_result(dataclasses.replace(PLAN, obstacle="no room: 3 B"), Chosen(""))
    assert refused.exit_code == 1
    assert refused.lines[:2] == [
        "The restore would be REFUSED now: no room: 3 B",
        planned.lines[0],
    ]
    assert (refused.fields["obstacle"], planned.fields["obstacle"]) == ("no room: 3 B", None)
    painted = terminal.toned(refused.lines[0], *refused.tones[0])
    assert click.style("REFUSED", fg="red", bold=True) in painted


def test_a_plan_for_a_copy_elsewhere_names_the_time_to_fetch_it() -> None:
    planned = preview_result(dataclasses.replace(PLAN, where="nas"), Chosen(""))
    assert planned.lines[-1] == "Time: about 7 s, and the time to fetch the set"
