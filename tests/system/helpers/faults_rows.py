"""One row of the fault table: a restore, its fault, what follows, and what must then be served."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.system.helpers.faults import Fault, Server
from tests.system.helpers.rows import Rows

KIND = "faults"
HEAD = f"{'fault':74} | {'state after':11} | nothing lost"
NO_FAULT = Fault()
FILL = "/var/fault-fill"


class Table:
    """The faults of one test file."""

    def __init__(self, name: str) -> None:
        self._rows = Rows(KIND, HEAD, name)

    def add(self, fault: str, state: str, whole: bool) -> None:
        self._rows.add(f"{fault:74} | {state:11} | {'yes' if whole else 'NO'}")

    @contextlib.contextmanager
    def row(self, fault: str, state: str) -> Iterator[None]:
        """Note a row that passes when the block does."""
        try:
            yield
        except BaseException:
            self.add(fault, "not known", False)
            raise
        self.add(fault, state, True)


@dataclass(frozen=True)
class Case:
    """One fault in a restore.

    code: of the restore. recover: what is run when a journal must be left, "" when none may be.
    state: old or new, in the end. before: done before the recovery. noticed: look whether doctor
    and the other commands see the journal. again: the --continue or --rollback is interrupted so,
    and then done again. up: Mattermost runs when the restore has ended, on a whole state.
    """

    name: str
    fault: Fault = NO_FAULT
    code: int = 1
    recover: str = ""
    state: str = "old"
    arguments: Sequence[str] = ()
    quick: bool = True
    noticed: bool = False
    again: Fault | None = None
    up: bool = False
    before: Callable[[Server], object] = id

    @property
    def fault_name(self) -> str:
        """The row's first column."""
        return f"{self.name}{', then ' + self.recover if self.recover else ''}"


def play(server: Server, table: Table, case: Case) -> None:
    """Let the fault happen, recover, and hold what is served against the two states."""
    wanted = server.live if case.state == "old" else server.other
    try:
        with table.row(case.fault_name, case.state):
            answer = server.restore(*case.arguments, fault=case.fault, quick=case.quick)
            assert answer.code == case.code, answer
            case.before(server)
            recover(server, case)
            server.expect(wanted)
    except BaseException:
        server.heal()
        raise


def recover(server: Server, case: Case) -> None:
    """Finish or take back what was cut short; nothing is to be found where nothing was."""
    assert server.journal == bool(case.recover), "the journal"
    if not case.recover:
        return
    assert server.service() == ("run" if case.up else "down")
    if case.noticed:
        server.expect_noticed()
    if case.again is not None:
        assert server.run("restore", case.recover, fault=case.again).code == -9
        assert server.journal
    answer = server.run("restore", case.recover)
    assert answer.code == 0, answer
    assert not server.journal


def filling(folder: str, keep: int, path: str = FILL) -> tuple[str, ...]:
    """A command that leaves `keep` bytes on the disk of `folder`, on which others write meanwhile."""
    free = f"$(df --output=avail --block-size=1 {folder} | tail -n 1)"
    fill = f"fallocate --length $(({free} - {keep})) {path}"
    return ("sh", "-c", f"for _ in $(seq 50); do {fill} && exit; done; exit 1")
