"""Steps that can be taken back: a stack of undos, each written down before its act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from .errors import ExitCode, Failure

Action = Callable[..., None]


@dataclass(frozen=True)
class Step:
    """One undo by name and plain values, so that a journal on disk can hold it.

    The action must be idempotent and must bear that its act has not happened, or only half:
    it is registered before the act.
    """

    undo: str
    values: Mapping[str, str]
    last: bool = False  # not to be done while anything before it could not be taken back


class Undo:
    """On any way out of the ``with`` block but ``forget``, take all steps back, last one first.

    A failing undo does not stop those before it; when one failed the exception that leaves the
    block is a Failure with ExitCode.ATTENTION which names it.
    """

    def __init__(
        self, actions: Mapping[str, Action], journal: Callable[[list[Step]], None]
    ) -> None:
        self._actions = actions
        self._journal = journal
        self._steps: list[Step] = []

    def will(self, undo: str, last: bool = False, **values: str) -> None:
        """Note, before an act, the action that takes it back."""
        self._steps.append(Step(undo, values, last))
        self._journal(self._steps)

    def forget(self) -> None:
        """Make everything so far final."""
        self._steps = []
        self._journal(self._steps)

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        problems = take_back(self._steps, self._actions)
        if problems:  # the journal stays, for gitlab-mm restore --rollback
            raise Failure(
                "The work failed, and not everything could be put back",
                "; ".join([str(cause), *problems]),
                "Put right what is named, then run gitlab-mm restore --rollback.",
                ExitCode.ATTENTION,
            ) from cause
        self.forget()


def take_back(steps: list[Step], actions: Mapping[str, Action]) -> list[str]:
    """Run the undos of ``steps`` in reverse and return what went wrong, in words."""
    problems: list[str] = []
    for step in reversed(steps):
        if step.last and problems:
            problems.append(f"{step.undo}: left undone because of the above")
            continue
        try:
            actions[step.undo](**step.values)
        except (Failure, OSError) as error:
            problems.append(f"{step.undo}: {error}")
    return problems
