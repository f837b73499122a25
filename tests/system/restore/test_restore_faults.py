"""Restores that are killed at every step boundary, and recoveries that are killed too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.helpers.faults import Fault, Server, journal_write
from tests.system.helpers.faults_rows import Case, Table, play, recover

# What the quick restore notes, in this order; the last but one is the commit.
NOTES = (
    "stop Mattermost",
    "make the new folder",
    "withhold the live database",
    "make and load the new database",
    "exchange the databases",
    "exchange the folders",
    "run the hooks",
    "start Mattermost",
    "remove what was before",
    "end",
)


def boundaries() -> Iterator[Case]:
    """kill -9 right before and after each note; --rollback and --continue in turn."""
    for number, note in enumerate(NOTES, 1):
        for when in ("before", "after"):
            journal = number > 1 if when == "before" else number < len(NOTES)
            way = ("--rollback", "--continue")[(number + (when == "after")) % 2] if journal else ""
            done = number > len(NOTES) - 1 or (number == len(NOTES) - 1 and when == "after")
            yield Case(
                f"kill -9 {when} the note: {note}",
                journal_write(number, when=when),
                -9,
                way,
                "new" if way == "--continue" or done else "old",
                noticed=number == 5 and when == "after",
                up=(number, when) == (1, "after") or number >= len(NOTES) - 1,
            )


@pytest.mark.parametrize("case", list(boundaries()), ids=lambda case: case.name)
def test_a_restore_killed_at_a_step_boundary(server: Server, table: Table, case: Case) -> None:
    play(server, table, case)


def recoveries() -> Iterator[Case]:
    """The recovery itself is killed half way, and done again."""
    late = journal_write(8, when="after")
    for point, when in (
        ("mattermost.service:RunitService.stop", "after"),
        ("restore.folder_swap:exchange_back", "before"),
        ("restore.folder_swap:exchange_back", "after"),
        ("postgresql.swap:exchange_back", "before"),
        ("postgresql.swap:exchange_back", "after"),
        ("postgresql.swap:drop_marked", "after"),
        ("restore.folder_swap:remove_work_folder", "after"),
    ):
        name = f"kill -9 at the last step, and the way back {when} {point.partition(':')[2]}"
        yield Case(name, late, -9, "--rollback", again=Fault(point, when))
    for number in (3, 7):
        name = f"kill -9 in the exchange, and --continue at its note {number}"
        again = journal_write(number)
        cut = Fault("postgresql.swap:exchange", "after")
        yield Case(name, cut, -9, "--continue", "new", again=again)


@pytest.mark.parametrize("case", list(recoveries()), ids=lambda case: case.name)
def test_a_recovery_killed_half_way(server: Server, table: Table, case: Case) -> None:
    play(server, table, case)


def test_a_previous_state_that_is_kept_survives_a_kill(server: Server, table: Table) -> None:
    new = server.other
    with table.row("kill -9 after the commit with --keep-previous, then --continue", "new"):
        fault = journal_write(9, when="after")
        assert server.restore("--keep-previous", fault=fault).code == -9
        recover(server, Case("", recover="--continue", up=True))
        left = server.observe()["left"]["folders"]
        assert any(name.endswith("previous.json") for name in left), left
        assert server.run("prune", "--previous").code == 0
        server.expect(new)


@pytest.mark.parametrize("number", [2, 5, 6, 9], ids=lambda note: f"note {note}")
def test_a_power_cut(server: Server, table: Table, number: int) -> None:
    way = "--continue" if number == 5 else "--rollback"
    state = "old" if number in (2, 6) else "new"
    wanted = server.live if state == "old" else server.other
    words = ("restore", "--yes", *("--no-safety-backup", "--only", "database", "--only", "files"))
    try:
        with table.row(f"power cut after the note: {NOTES[number - 1]}, then {way}", state):
            arguments = (*words, "--only", "config", server.sets[server.other])
            with server.held(*arguments, fault=journal_write(number, "hold", "after")):
                server.power_cut()
            recover(server, Case("", recover=way, noticed=number == 6, up=number == 9))
            server.expect(wanted)
    except BaseException:
        server.heal()
        raise
